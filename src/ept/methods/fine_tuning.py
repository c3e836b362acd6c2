"""Fine-tuning: the whole backbone is trained."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ept.methods.weights import WeightModule


class FineTuning(WeightModule):
    """Every parameter of the backbone is trained, embeddings and position biases included [known].

    Needs a float32 backbone.
    """

    def attach(self, model: nn.Module) -> None:
        """Train a copy of each parameter; the originals wait for `close`."""
        for parameter in model.parameters():
            self.train_own(parameter)


class BitFit(WeightModule):
    """Only biases are trained [known]. T5 has none: zeros are added to its linear layers, norms and lm_head.

    Needs a float32 backbone. The published 282,496 parameters on T5-base include the bias of lm_head, which the
    released configuration of ATTEMPT (freeze_bitfit_lm_head) trains too.
    """

    def attach(self, model: nn.Module) -> None:
        """Train the biases that exist; add one to every other linear layer [outputs] and norm [hidden]."""
        norms = set(self.backbone.norms(model))
        module: Any
        for module in list(model.modules()):
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                self.train_own(module.bias)
            elif isinstance(module, nn.Linear):
                self.add(module, "bias", nn.Parameter(torch.zeros(module.out_features)))
            elif module in norms:
                self.add(module, "bias", nn.Parameter(torch.zeros(len(module.weight))))
                self.change_output(module, partial(_biased, module))


def _biased(norm: Any, output: Tensor) -> Tensor:
    return output + norm.bias
