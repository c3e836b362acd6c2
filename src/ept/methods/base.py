"""What every method has: the trained tensors of a pack of runs over one frozen backbone."""

from collections.abc import Mapping

from torch import Tensor, nn

from ept.errors import InputError


class MethodModule(nn.Module):
    """The trained tensors of a pack of runs. Prompts (`PromptModule`) and weights (`WeightModule`) share this.

    Subclasses have `forward`, which gives what is added to the backbone's input, `parameter_groups` and `collapse`.
    """

    packed: bool
    """Whether every parameter has a leading runs axis; without one there is exactly one run."""
    stored_as: str
    """What a saved run is called in messages."""

    def __init__(self, seeds: tuple[int, ...], hidden_size: int):
        super().__init__()
        self.seeds = seeds
        self.hidden_size = hidden_size

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.seeds)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the name of their learning rate."""
        raise NotImplementedError

    def tensors(self, run: int) -> dict[str, Tensor]:
        """The trained tensors of one run, without the runs axis. Views: clone them to keep them."""
        tensors = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return {name: tensor[run] for name, tensor in tensors.items()} if self.packed else tensors

    def load_tensors(self, run: int, tensors: Mapping[str, Tensor], origin: str = "the prompt") -> None:
        """Set one run's tensors, from its checkpoint or another task's run; all or, on error, none.

        What depends on the source length is cut or filled up (`fit_tensor`). `origin` names the file in error messages.
        Raises InputError: tensors of another method or option, another shape or hidden size, NaN or infinity.
        """
        own = self.tensors(run)
        self._check_names(own, tensors, origin)
        fitted = {name: self.fit_tensor(run, name, tensors[name].to(own[name])) for name in own}
        for name, tensor in fitted.items():
            self.check_tensor(name, tensor, own[name], origin)
        for name, tensor in fitted.items():
            own[name].copy_(tensor)

    def fit_tensor(self, run: int, name: str, tensor: Tensor) -> Tensor:
        """Fit a foreign tensor to this pack's source length; as it is where it does not depend on that."""
        return tensor

    def check_tensor(self, name: str, tensor: Tensor, own: Tensor, origin: str) -> None:
        """Raise InputError where `tensor` cannot take the place of `own`."""
        if tensor.shape != own.shape:
            raise InputError(
                f"{origin}: tensor {name} has shape {list(tensor.shape)}, expected {list(own.shape)}; use a "
                f"{self.stored_as} that was trained on this backbone with the same settings"
            )
        if not tensor.isfinite().all():
            raise InputError(
                f"{origin}: tensor {name} holds NaN or infinity; use a {self.stored_as} of a run that did not diverge"
            )

    def target_tensors(self, run: int) -> dict[str, Tensor]:
        """The tensors of one run that its prompt file keeps, from which the runs of target tasks start."""
        return self.tensors(run)

    def collapse(self, run: int) -> dict[str, Tensor]:
        """The tensors of one run that inference needs for the same outputs, as copies."""
        raise NotImplementedError

    @property
    def trained_parameters(self) -> int:
        """Trained numbers of one run, counted from its tensors."""
        return sum(tensor.numel() for tensor in self.tensors(0).values())

    @property
    def stored_parameters(self) -> int:
        """How many numbers of one run inference needs, counted from its collapsed tensors."""
        return sum(tensor.numel() for tensor in self.collapse(0).values())

    def diagnostics(self, run: int) -> dict[str, float | list[float]]:
        """Numbers of one run that are worth watching during training; none by default."""
        return {}

    def close(self) -> None:
        """Leave the backbone as it was before this pack."""

    def _check_names(self, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], origin: str) -> None:
        missing, surplus = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        if not missing and not surplus:
            return
        complaints = [f"lacks {_some(missing)}"] if missing else []
        complaints += [f"has the unknown {_some(surplus)}"] if surplus else []
        raise InputError(
            f"{origin} {' and '.join(complaints)}: it belongs to another method or other options; use a "
            f"{self.stored_as} of this method with the same settings"
        )


def _some(names: list[str]) -> str:
    """At most three of the names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
