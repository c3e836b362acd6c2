"""Fine-tuning: the whole backbone is trained."""

from ept.backbones.t5 import T5
from ept.baselines.base import WeightPack


class FineTuning(WeightPack):
    """[known] Every parameter of the backbone, embeddings and position biases included; wants float32."""

    def attach(self, model: T5) -> None:
        """Train a copy of each parameter; the originals wait for `close`."""
        for parameter in model.parameters():
            self.train_own(parameter)
