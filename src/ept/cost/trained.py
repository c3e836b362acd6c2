"""How many parameters a method trains, reckoned from sizes; tests keep the numbers equal to those of the tensors."""

from ept.ablation import Variant
from ept.baselines.settings import BaselineSettings
from ept.cost.shapes import Shape
from ept.prompts.budget import decomposition_rank, ept_rank, extra_parameters

# The width of ATTEMPT's attention network (ept.prompts.mixture).
BOTTLENECK = 100


def trained_parameters(
    method: str, shape: Shape, variant: Variant, baselines: BaselineSettings, source_length: int
) -> int:
    """Of one run. `source_length`: the task's longest source text in pieces (rows of DePT's A).

    A method that is not known here counts as PT. Raises InputError for a budget that the backbone cannot hold.
    """
    hidden, length, short = shape.hidden_size, variant.prompt.length, variant.prompt.short_length
    match method:
        case "attempt":
            return length * hidden + 2 * BOTTLENECK * hidden + 2 * hidden
        case "mpt":
            return length * hidden + length + hidden
        case "dept":
            return short * hidden + (source_length + hidden) * decomposition_rank(variant.prompt, hidden)
        case "ept":
            rank = ept_rank(variant.prompt, variant.ept, hidden)
            return short * hidden + (source_length + hidden) * rank + extra_parameters(variant.ept, hidden)
        case "fine_tuning":
            return shape.parameters
        case "bitfit":
            return _biases(shape)
        case "adapter" | "adapterdrop":
            return _adapters(shape, baselines, baselines.adapterdrop_layers if method == "adapterdrop" else 0)
        case "lora":
            # Of q and v.
            return _attentions(shape) * baselines.lora_rank * (2 * hidden + shape.inner + shape.key_inner)
        case "lst":
            return _ladder(shape, baselines)
        case _:
            return length * hidden


def _attentions(shape: Shape) -> int:
    return shape.encoder_layers + shape.decoder_layers * (2 if shape.encoder_layers else 1)


def _norms(shape: Shape, dropped: int = 0) -> int:
    """Norms of all layers but the lowest of each stack, and the last one of each stack."""
    encoder, decoder = max(0, shape.encoder_layers - dropped), max(0, shape.decoder_layers - dropped)
    return 2 * encoder + (3 if shape.encoder_layers else 2) * decoder + (2 if shape.encoder_layers else 1)


def _biases(shape: Shape) -> int:
    """One for each output of a linear layer, the head's included, and of a norm."""
    attention = shape.inner + 2 * shape.key_inner + shape.hidden_size
    feed_forward = (shape.matrices - 1) * shape.feed_forward + shape.hidden_size
    layers = _attentions(shape) * attention + shape.layers * feed_forward
    return layers + _norms(shape) * shape.hidden_size + shape.vocabulary


def _adapters(shape: Shape, baselines: BaselineSettings, dropped: int) -> int:
    hidden = shape.hidden_size
    size = hidden // baselines.adapter_reduction
    bottleneck = 2 * hidden * size + size + hidden
    layers = max(0, shape.encoder_layers - dropped) + max(0, shape.decoder_layers - dropped)
    return 2 * layers * bottleneck + _norms(shape, dropped) * hidden


def _ladder(shape: Shape, baselines: BaselineSettings) -> int:
    """Side layers with their gate and the map down to them; the maps into and out of the side network."""
    hidden, reduction, every = shape.hidden_size, baselines.lst_reduction, baselines.lst_skip_every
    side = hidden // reduction
    inner = shape.heads * (shape.inner // shape.heads // reduction)
    attention, feed_forward = 4 * side * inner, shape.matrices * side * (shape.feed_forward // reduction)
    down = hidden * side + side
    total = 0
    for layers, attentions in ((shape.encoder_layers, 1), (shape.decoder_layers, 2)):
        rungs = sum(every == 0 or index % every != 0 for index in range(layers))
        total += rungs * (attentions * attention + feed_forward + (attentions + 1) * side + down + 1) + down + side
    return total + side * hidden + hidden
