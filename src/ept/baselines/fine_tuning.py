"""Fine-tuning: the whole backbone is trained."""

from torch import nn

from ept.baselines.base import WeightPack


class FineTuning(WeightPack):
    """[known] Every parameter of the backbone, embeddings and position biases included; wants float32."""

    def attach(self, model: nn.Module) -> None:
        """Train a copy of each parameter; the originals wait for `close`."""
        for parameter in model.parameters():
            self.train_own(parameter)
