"""LoRA (Hu et al. 2022), through PEFT."""

from peft import LoraConfig, LoraModel
from torch import nn

from ept.errors import InputError
from ept.methods.weights import WeightModule


class Lora(WeightModule):
    """Low-rank updates of q and v of every attention: W + (alpha / rank) B A, A Kaiming-uniform, B zero [known].

    GPT-2 has one matrix for queries, keys and values, which is updated whole. No biases are trained; the published 3.8M
    parameters on T5-base count BitFit's too.
    """

    def attach(self, model: nn.Module) -> None:
        """Let PEFT wrap q and v, quantized or not.

        Its modules compute in float32 and return the backbone's dtype.
        """
        rank, names = self.settings.lora_rank, self.backbone.query_value_names
        projection = next(module for name, module in model.named_modules() if name.rpartition(".")[2] in names)
        # A quantized weight has another shape; GPT-2's projections are not linear layers.
        linear = isinstance(projection, nn.Linear)
        sizes = (projection.out_features, projection.in_features) if linear else projection.weight.shape
        if rank > min(sizes):
            raise InputError(
                f"baselines.lora_rank is {rank}, but the backbone's q and v are {sizes[0]} x {sizes[1]} matrices; "
                f"choose at most {min(sizes)}"
            )
        config = LoraConfig(r=rank, lora_alpha=self.settings.lora_alpha, target_modules=names, lora_dropout=0.0)
        adapted = LoraModel(model, config, "default")
        # Older releases of PEFT leave their notes on the model.
        self.undo(lambda: vars(model).pop("peft_config", None))
        self.undo(adapted.unload)
        for parameter in self.parameters():
            parameter.data = parameter.data.float()
        model.eval()
