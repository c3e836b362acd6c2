"""Adapter (Houlsby et al. 2019) and AdapterDrop (Rücklé et al. 2021)."""

from torch import Tensor, nn
from torch.nn import functional

from ept.errors import InputError
from ept.methods.weights import WeightModule


class Bottleneck(nn.Module):
    """x + W_up gelu(W_down x + b_down) + b_up, in float32.

    [known, released code of ATTEMPT] gelu in its tanh form, W_down ~ N(0, 0.01²), biases zero. [ours] W_up starts at
    zero and not at N(0, 0.01²): training starts from the backbone itself.
    """

    def __init__(self, hidden_size: int, size: int):
        super().__init__()
        self.down = nn.Linear(hidden_size, size)
        self.up = nn.Linear(size, hidden_size)
        nn.init.normal_(self.down.weight, std=0.01)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] in x's dtype."""
        change = self.up(functional.gelu(self.down(x.float()), approximate="tanh"))
        return x + change.to(x.dtype)


class Adapter(WeightModule):
    """A bottleneck after self-attention and feed-forward of every layer, before the residual connection [known].

    None after cross-attention; the layer norms are trained with them.
    """

    dropped_layers = 0

    def attach(self, model: nn.Module) -> None:
        """Add the bottlenecks, of the hidden size divided by `adapter_reduction` (rounded down)."""
        size = self.hidden_size // self.settings.adapter_reduction
        if size < 1:
            raise InputError(
                f"baselines.adapter_reduction is {self.settings.adapter_reduction}, larger than the backbone's hidden "
                f"size {self.hidden_size}; choose at most that"
            )
        for layers, final_norm in self.backbone.stacks:
            for layer in layers[self.dropped_layers :]:
                for module in (layer.attention_output, layer.feed_forward):
                    bottleneck = Bottleneck(self.hidden_size, size)
                    self.add(module, "adapter", bottleneck)
                    self.change_output(module, bottleneck)
                self._train_norms(layer.block)
            self._train_norms(final_norm)

    def _train_norms(self, part: nn.Module) -> None:
        for norm in self.backbone.norms(part):
            for parameter in norm.parameters(recurse=False):
                self.train_own(parameter)
            # A float32 norm would hand float32 to the backbone's layers.
            self.change_output(norm, lambda output: output.to(self.backbone.dtype))


class AdapterDrop(Adapter):
    """Adapter without the first `adapterdrop_layers` layers of each stack [known].

    [ours] Those layers stay the backbone's own, norms included: tasks then share them and no gradient enters them.
    """

    def attach(self, model: nn.Module) -> None:
        """As Adapter, from layer `adapterdrop_layers` on."""
        self.dropped_layers = self.settings.adapterdrop_layers
        layers = min(len(stack.layers) for stack in self.backbone.stacks)
        if self.dropped_layers >= layers:
            raise InputError(
                f"baselines.adapterdrop_layers is {self.dropped_layers}, but a stack of the backbone has only {layers} "
                "layers; choose a number below that"
            )
        super().attach(model)
