"""What every weight-side method has: one run whose trained tensors are inside the backbone while it is attached."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ept.backbones.backbone import Backbone
from ept.config.settings import BaselineSettings
from ept.methods.base import MethodModule
from ept.methods.prompt import PromptOutput


class WeightModule(MethodModule):
    """One run that trains inside the backbone: the backbone's parameters with requires_grad.

    Making one attaches it to the backbone in place; `close` removes it, and the backbone is then bit for bit what it
    was. Close one before the next is made. A method subclasses it and implements `attach` with `add`, `change_output`,
    `train_own` and `undo`. Trained tensors are float32 and named as in the model.
    """

    packed = False
    stored_as = "file"

    def __init__(self, backbone: Backbone, settings: BaselineSettings, seed: int):
        """Attach to `backbone`; what is drawn at random comes from `seed` alone.

        Raises InputError where the options do not fit the backbone, which is then as it was.
        """
        super().__init__((seed,), backbone.hidden_size)
        self.backbone = backbone
        self.settings = settings
        self._undo: list[Callable[[], object]] = []
        if list(self.named_parameters()):
            raise RuntimeError("another method is attached to the backbone; close it first")
        # On the CPU, so that a run draws the same numbers everywhere.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.attach(backbone.model)

    def attach(self, model: nn.Module) -> None:
        """Put what is trained into `model`; check options before anything is changed."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove everything from the backbone. Copy trained tensors that are to be kept before."""
        while self._undo:
            self._undo.pop()()

    def forward(self) -> PromptOutput:
        """Nothing at the input: an empty prompt [1, 0, hidden] and no offset."""
        return PromptOutput(torch.zeros(1, 0, self.hidden_size, device=self.backbone.device), None)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by its name in the backbone's `model`; a tied parameter once."""
        parameters = self.backbone.model.named_parameters(*args, **kwargs)
        return ((name, parameter) for name, parameter in parameters if parameter.requires_grad)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters, with one learning rate."""
        return {"weights": list(self.parameters())}

    def collapse(self, run: int) -> dict[str, Tensor]:
        """What inference needs in addition to the backbone: the trained tensors, as copies."""
        return {name: tensor.clone() for name, tensor in self.tensors(run).items()}

    @property
    def stored_parameters(self) -> int:
        """How many numbers inference needs: all that are trained."""
        return self.trained_parameters

    def undo(self, step: Callable[[], object]) -> None:
        """Let `close` call `step`; the last registered step is called first."""
        self._undo.append(step)

    def add(self, module: nn.Module, name: str, addition: nn.Module | nn.Parameter) -> None:
        """Set an attribute of one of the model's modules to something trained (float32, without dropout)."""
        had = hasattr(module, name)
        before = getattr(module, name, None)
        if isinstance(addition, nn.Module):
            addition = addition.to(self.backbone.device, torch.float32).eval()
        else:
            addition = nn.Parameter(addition.data.to(self.backbone.device, torch.float32))
        setattr(module, name, addition)
        self.undo(lambda: setattr(module, name, before) if had else delattr(module, name))

    def change_output(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        """Let `module` return `change` of its output."""
        self.undo(module.register_forward_hook(lambda _, inputs, output: change(output)).remove)

    def train_own(self, parameter: nn.Parameter) -> None:
        """Train a float32 copy of one of the backbone's own parameters under its name."""
        original = parameter.data

        def restore() -> None:
            parameter.grad = None
            parameter.data = original
            parameter.requires_grad_(False)

        parameter.data = original.to(torch.float32, copy=True)
        parameter.requires_grad_(True)
        self.undo(restore)
