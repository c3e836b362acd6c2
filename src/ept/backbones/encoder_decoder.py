"""A frozen T5 as a backbone: embeddings, losses, logits of a tree of strings, decoding step by step."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ept.backbones.backbone import Backbone, Form, LabelStates, Layer, LayerStack, tree_lineages
from ept.backbones.families import FAMILIES
from ept.backbones.load import WeightFiles, spread
from ept.backbones.quantize import quantized_linear
from ept.backbones.t5 import T5, Block, LayerCache, Norm, Stack, dropped
from ept.backbones.t5_config import T5Config


class EncoderDecoder(Backbone):
    """A frozen T5; `start_id` begins what its decoder reads."""

    family = FAMILIES["t5"]
    model: T5

    def __init__(self, model: nn.Module, gradient_checkpointing: bool = False):
        """Freeze `model`, a T5 of ours or of transformers (T5ForConditionalGeneration), and take its parts.

        With `gradient_checkpointing` only the input of each block is kept for the backward pass, which computes the
        rest again (Chen et al. 2016): the same gradients for less memory and a third more computation.
        """
        self.freeze(model if isinstance(model, T5) else T5.around(model))
        config = self.model.config
        self.pad_id: int = config.pad_token_id
        self.eos_id: int = config.eos_token_id
        self.start_id: int = config.decoder_start_token_id
        self.gradient_checkpointing = gradient_checkpointing
        self._dropout = 0.0
        self._spread = len({parameter.device for parameter in self.model.parameters()}) > 1
        # T5 v1.0 scales the decoder's output before the tied head, v1.1 does not.
        self._output_scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
        self._layer_count = config.num_layers + config.num_decoder_layers
        self._encoder_bias = PositionBias(self.model.encoder, self.device)
        self._decoder_bias = PositionBias(self.model.decoder, self.device)

    @property
    def embedding(self) -> Tensor:
        """The word embeddings [vocab, hidden]."""
        return self.model.shared.weight

    def encode(self, embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        """The encoder's output [rows, positions, hidden].

        `embeddings` has the same shape, `attention_mask` [rows, positions] is 0 at padding.
        """
        length = embeddings.shape[1]
        # Once for all layers.
        bias = torch.where(attention_mask.bool()[:, None, None, :], self._encoder_bias.square(length), self._closed)
        hidden = dropped(embeddings, self.model.encoder.dropout)
        for block in self.model.encoder.block:
            hidden, bias = self._on_device_of(block, hidden, bias)
            hidden = self._run(block, hidden, bias)
        norm = self.model.encoder.final_layer_norm
        return dropped(norm(*self._on_device_of(norm, hidden)), self.model.encoder.dropout)

    def label_states(self, embeddings: Tensor, attention_mask: Tensor, target_ids: Tensor) -> LabelStates:
        """See Backbone."""
        encoded = self.encode(embeddings, attention_mask)
        wanted = target_ids != -100
        inputs = torch.full_like(target_ids, self.start_id)
        inputs[:, 1:] = target_ids[:, :-1].masked_fill(~wanted[:, :-1], self.pad_id)
        length = target_ids.shape[1]
        hidden = self._decode(inputs, encoded, attention_mask, self._decoder_bias.square(length) + self._causal(length))
        decoded = hidden[wanted]
        return LabelStates(encoded, decoded, self._logits(decoded))

    def tree_logits(
        self, embeddings: Tensor, attention_mask: Tensor, tokens: Sequence[int], parents: Sequence[int]
    ) -> Tensor:
        """See Backbone. The encoder runs once for all nodes."""
        lineages = tree_lineages(parents)
        depths = torch.tensor([len(lineage) - 1 for lineage in lineages], device=self.device)
        mask = torch.full((len(tokens), len(tokens)), self._closed, dtype=self.dtype)
        for node, lineage in enumerate(lineages):
            mask[node, lineage] = 0
        bias = self._decoder_bias.square(max(map(len, lineages)))[:, :, depths[:, None], depths] + mask.to(self.device)
        inputs = torch.tensor([self.start_id, *tokens[1:]], device=self.device).expand(len(embeddings), -1)
        encoded = self.encode(embeddings, attention_mask)
        return self._logits(self._decode(inputs, encoded, attention_mask, bias))

    def begin(self, embeddings: Tensor, attention_mask: Tensor) -> "T5State":
        """See Backbone: the encoder runs once, and the decoder on its start token."""
        caches = [cast(Block, block).new_cache() for block in self.model.decoder.block]
        state = T5State(self, caches, self.encode(embeddings, attention_mask), attention_mask)
        start = torch.full((len(embeddings), 1), self.start_id, device=self.device)
        state.logits = state.advance(start)[:, 0]
        return state

    @property
    def stacks(self) -> list[LayerStack]:
        """The encoder's and the decoder's stack of layers."""

        def layer(block: Any) -> Layer:
            return Layer(block, block.layer[0].SelfAttention.o, block.layer[-1].DenseReluDense)

        stacks = (self.model.encoder, self.model.decoder)
        return [LayerStack(list(map(layer, stack.block)), stack.final_layer_norm) for stack in stacks]

    @property
    def query_value_names(self) -> list[str]:
        """The names of the projections to queries and values, in self-attention and cross-attention."""
        return ["q", "v"]

    def norms(self, part: nn.Module) -> Iterator[nn.Module]:
        """The norms among the modules of `part`, each with a `weight` [hidden]."""
        return (module for module in part.modules() if isinstance(module, Norm))

    def set_dropout(self, rate: float) -> None:
        """See Backbone; in the places where transformers' T5 drops."""
        self._dropout = rate
        self.model.set_dropout(rate)

    @property
    def _closed(self) -> float:
        """Added to a score that must not count.

        The smallest finite number, since -inf would give NaN for rows without any open position.
        """
        return torch.finfo(self.dtype).min

    def _causal(self, length: int) -> Tensor:
        """[1, 1, length, length]: 0 up to the own position, closed after it."""
        return torch.full((length, length), self._closed, dtype=self.dtype, device=self.device).triu(1)[None, None]

    def _decode(
        self,
        inputs: Tensor,
        encoded: Tensor,
        attention_mask: Tensor,
        bias: Tensor,
        caches: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """The decoder's output [rows, length, hidden] for the pieces `inputs` [rows, length].

        `bias` [1, heads, length, keys] is added to the scores of self-attention.
        """
        cross = torch.zeros(attention_mask.shape, dtype=self.dtype, device=self.device)
        cross = cross.masked_fill(~attention_mask.bool(), self._closed)[:, None, None, :]
        hidden = dropped(self.embed(inputs), self.model.decoder.dropout)
        for layer, block in enumerate(self.model.decoder.block):
            hidden, bias, encoded, cross = self._on_device_of(block, hidden, bias, encoded, cross)
            hidden = self._run(block, hidden, bias, encoded, cross, None if caches is None else caches[layer])
        norm = self.model.decoder.final_layer_norm
        return dropped(norm(*self._on_device_of(norm, hidden)), self.model.decoder.dropout)

    def _on_device_of(self, module: nn.Module, *inputs: Any) -> tuple:
        """`inputs` on the device of `module`, if blocks are spread over several; all other modules are on the first."""
        if not self._spread:
            return inputs
        device = next(module.parameters()).device
        return tuple(part.to(device) for part in inputs)

    def _run(self, block: nn.Module, *inputs: Any) -> Any:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        # Without dropout nothing in a block is random.
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=self._dropout > 0)

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden * self._output_scale).float()


class T5State:
    """Rows of a T5 in the middle of decoding; see `ept.backbones.backbone.DecodingState`."""

    logits: Tensor

    def __init__(
        self,
        backbone: EncoderDecoder,
        caches: list[LayerCache],
        encoded: Tensor,
        mask: Tensor,
        length: int = 0,
    ):
        self._backbone = backbone
        self._caches = caches
        self._encoded = encoded
        self._mask = mask
        self._length = length

    def advance(self, tokens: Tensor) -> Tensor:
        """Append `tokens` [rows, n] and return the logits after each of them, float32 [rows, n, vocab]."""
        backbone, past = self._backbone, self._length
        self._length += tokens.shape[1]
        bias = (backbone._decoder_bias.square(self._length) + backbone._causal(self._length))[:, :, past:]
        logits = backbone._logits(backbone._decode(tokens, self._encoded, self._mask, bias, self._caches))
        self.logits = logits[:, -1]
        return logits

    def select(self, rows: Tensor) -> "T5State":
        """The state of `rows` (indices or a boolean mask, [rows]); this state stays as it is."""
        caches = [cache.select(rows) for cache in self._caches]
        state = T5State(self._backbone, caches, self._encoded[rows], self._mask[rows], self._length)
        state.logits = self.logits[rows]
        return state


class PositionBias:
    """The relative position bias of a stack, remembered for the longest input so far.

    It depends on distances alone: that of a shorter input is the upper left corner of a longer one's.
    """

    def __init__(self, stack: Stack, device: torch.device):
        self._stack = stack
        self._device = device
        self._table: Tensor | None = None

    def square(self, length: int) -> Tensor:
        """[1, heads, length, length]: query position, key position; on the device of the embeddings."""
        if self._stack.relative_attention_bias.weight.requires_grad:
            # Fine-tuning changes it at every step.
            return self._stack.position_bias(length)
        if self._table is None or self._table.shape[-1] < length:
            # Outside of inference mode: a later training step could not use an inference tensor.
            with torch.inference_mode(False), torch.no_grad():
                # Contiguous: additions of the embedding's own layout, heads last, take several times as long.
                self._table = self._stack.position_bias(length).to(self._device).contiguous()
        return self._table[:, :, :length, :length]


EMBEDDING_NAMES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


def load_t5(config: dict, folder: Path, form: Form) -> EncoderDecoder:
    """The frozen T5 in `folder`: v1.0 (tied head), v1.1, flan and mT5 (gated, with a head of their own).

    Linear layers are quantized one by one as they are read. Of a model that is spread over several devices all but the
    blocks is on the first.

    Args:
        config: Its config.json, as `ept.backbones.files.read_config` returns it.
        folder: A folder that `ept.backbones.files.check_weights` accepts.
        form: How the weights are held.

    Raises:
        InputError: For an unreadable file, and for weights that are not finite.
    """
    # Without numbers, so that none is initialized, copied or held twice.
    with torch.device("meta"):
        model = T5(T5Config.of(config))
    devices = form.spread_over or (form.device,)
    places = spread(blocks_of(model), devices)
    with WeightFiles(folder) as weights:
        embedding = next(name for name in EMBEDDING_NAMES if name in weights)
        for name, module in list(model.named_modules()):
            if getattr(module, "weight", None) is None or name == "lm_head":
                continue
            place = places.get(".".join(name.split(".")[:3]), devices[0])
            weight = weights.read(embedding if name == "shared" else f"{name}.weight", form.dtype).to(place)
            if _is_quantized(name, module, form.quantization):
                model.set_submodule(name, quantized_linear(weight, form.quantization))
            else:
                module.weight = nn.Parameter(weight, requires_grad=False)
        _fill_head(model, weights)
    if form.quantization != "none":
        # PEFT looks for these attributes.
        setattr(model, "is_loaded_in_4bit" if form.quantization == "nf4" else "is_loaded_in_8bit", True)
    return EncoderDecoder(model, form.gradient_checkpointing)


def blocks_of(model: T5) -> dict[str, nn.Module]:
    """The blocks of encoder and decoder by name, in the order in which they run."""
    stacks = {"encoder": model.encoder, "decoder": model.decoder}
    return {f"{name}.block.{i}": block for name, stack in stacks.items() for i, block in enumerate(stack.block)}


def _is_quantized(name: str, module: nn.Module, quantization: str) -> bool:
    """Whether a module is a linear layer of the blocks that is to be quantized.

    int8 leaves out `wo`, whose inputs it would round through float16, in which they overflow (transformers leaves it
    out for that reason too, in 4 bit as well).
    """
    return quantization != "none" and type(module) is nn.Linear and not (quantization == "int8" and name.endswith("wo"))


def _fill_head(model: T5, weights: WeightFiles) -> None:
    """Give the head its own weight, or the embeddings where it has none or the same numbers.

    One parameter then has both names: the model stays tied whatever is done with it later.
    """
    embedding = model.shared.weight
    if "lm_head.weight" not in weights and model.config.tie_word_embeddings:
        model.lm_head.weight = embedding
        return
    head = weights.read("lm_head.weight", embedding.dtype).to(embedding.device)
    model.lm_head.weight = embedding if torch.equal(head, embedding) else nn.Parameter(head, requires_grad=False)
