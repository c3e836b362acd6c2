"""Fine-tuning: the whole backbone is trained."""

import torch
from torch import nn

from ept.methods.weights import WeightModule


class FineTuning(WeightModule):
    """[known] Every parameter of the backbone, embeddings and position biases included; wants float32."""

    def attach(self, model: nn.Module) -> None:
        """Train a copy of each parameter; the originals wait for `close`."""
        for parameter in model.parameters():
            self.train_own(parameter)


class BitFit(WeightModule):
    """[known] T5 has no biases, so zeros are added to its linear layers, norms and lm_head; wants float32.

    The published 282,496 parameters on T5-base include those of lm_head; the released code of ATTEMPT trains all others
    and keeps these frozen.
    """

    def attach(self, model: nn.Module) -> None:
        """Train the biases that there are; add one [outputs] to every other linear layer and [hidden] to every other
        norm.
        """
        norms = set(self.backbone.norms(model))
        for module in list(model.modules()):
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                self.train_own(module.bias)
            elif isinstance(module, nn.Linear):
                self.add(module, "bias", nn.Parameter(torch.zeros(module.out_features)))
            elif module in norms:
                self.add(module, "bias", nn.Parameter(torch.zeros(len(module.weight))))
                self.change_output(module, lambda output, norm=module: output + norm.bias)
