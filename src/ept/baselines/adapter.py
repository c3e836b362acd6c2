"""Adapter (Houlsby et al. 2019) and AdapterDrop (Rücklé et al. 2021)."""

from torch import Tensor, nn
from torch.nn import functional

from ept.backbones.t5 import T5, Norm
from ept.baselines.base import WeightPack
from ept.errors import InputError


class Bottleneck(nn.Module):
    """x + W_up gelu(W_down x + b_down) + b_up, in float32.

    [known, released code of ATTEMPT] gelu in its tanh form, W_down ~ N(0, 0.01²), biases zero. [ours] W_up starts at
    zero and not at N(0, 0.01²), so that training starts from the backbone itself.
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


class Adapter(WeightPack):
    """[known] A bottleneck after self-attention and feed-forward of every layer, before the residual connection, none
    after cross-attention; the layer norms are trained with them.
    """

    dropped_layers = 0

    def attach(self, model: T5) -> None:
        """Add the bottlenecks, of the hidden size divided by `adapter_reduction` (rounded down)."""
        size = self.hidden_size // self.settings.adapter_reduction
        if size < 1:
            raise InputError(
                f"baselines.adapter_reduction is {self.settings.adapter_reduction}, larger than the backbone's hidden "
                f"size {self.hidden_size}; choose at most that"
            )
        for stack in (model.encoder, model.decoder):
            for block in stack.block[self.dropped_layers :]:
                for module in (block.layer[0].SelfAttention.o, block.layer[-1].DenseReluDense):
                    self.add(module, "adapter", Bottleneck(self.hidden_size, size))
                    self.change_output(module, module.adapter)
                self._train_norms(block)
            self._train_norms(stack.final_layer_norm)

    def _train_norms(self, part: nn.Module) -> None:
        for module in part.modules():
            if isinstance(module, Norm):
                self.train_own(module.weight)
                # A float32 norm would hand float32 to the backbone's layers.
                self.change_output(module, lambda output: output.to(self.backbone.dtype))


class AdapterDrop(Adapter):
    """[known] Adapter without the first `adapterdrop_layers` layers of each stack. [ours] Those layers stay the
    backbone's own, norms included: what the method is for is that tasks share them and no gradient enters them.
    """

    def attach(self, model: T5) -> None:
        """As Adapter, from layer `adapterdrop_layers` on."""
        self.dropped_layers = self.settings.adapterdrop_layers
        layers = min(len(stack.block) for stack in (model.encoder, model.decoder))
        if self.dropped_layers >= layers:
            raise InputError(
                f"baselines.adapterdrop_layers is {self.dropped_layers}, but a stack of the backbone has only {layers} "
                "layers; choose a number below that"
            )
        super().attach(model)
