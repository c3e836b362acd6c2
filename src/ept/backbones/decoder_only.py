"""A frozen decoder-only model of transformers (Llama, GPT-2, Qwen) as a backbone.

The model reads [padding, prompt, text, label]. Inputs come with their padding at the end, as for every family, so rows
are rotated: the prompt then stands directly before the text, the text directly before the label, and a row is computed
as it would be without padding (positions are counted from its first real one).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ept.backbones.backbone import Backbone, Form, LabelStates, Layer, LayerStack, tree_lineages
from ept.backbones.families import family_of
from ept.backbones.load import WeightFiles, refuse_not_finite, spread
from ept.backbones.quantize import prepare
from ept.backbones.t5 import CpuAttention, fused_is_slow
from ept.errors import InputError, listed, reason_of

# What transformers calls `attend`.
ATTENTION = "sdpa_with_fast_gradients"


class DecoderOnly(Backbone):
    """A frozen causal language model of transformers, with the names of transformers' modules."""

    def __init__(self, model: PreTrainedModel, gradient_checkpointing: bool = False):
        """Freeze `model`, a ...ForCausalLM or GPT2LMHeadModel of transformers.

        With `gradient_checkpointing` only the input of each block is kept for the backward pass, which computes the
        rest again (Chen et al. 2016). transformers' own needs training mode, in which dropout is on.
        """
        config = model.config
        self.family = family_of({"model_type": config.model_type})
        self.most_places = config.max_position_embeddings
        # A chat model has a list of several ends; the first one ends a text.
        self.eos_id = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
        # Nothing attends to padding, so any piece will do.
        has_padding = config.pad_token_id is not None and config.pad_token_id >= 0
        self.pad_id = config.pad_token_id if has_padding else self.eos_id
        self._dropout = 0.0
        self._layer_count = config.num_hidden_layers
        # Modules of transformers, whose attributes have no declared types.
        self._body: Any = model.base_model
        self._head: Any = model.get_output_embeddings()
        self._blocks = blocks_of(self._body)
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            for block in self._blocks:
                block.forward = partial(self._recomputed, block.forward)
        model.set_attn_implementation(ATTENTION)
        self.freeze(model)

    @property
    def embedding(self) -> Tensor:
        """The word embeddings [vocab, hidden]."""
        return self._body.get_input_embeddings().weight

    def label_states(self, embeddings: Tensor, attention_mask: Tensor, target_ids: Tensor) -> LabelStates:
        """See Backbone. The model reads prompt, text and all label pieces but the last; only labels have a loss."""
        wanted, positions = target_ids != -100, embeddings.shape[1]
        order, mask = _padding_first(attention_mask)
        labels = target_ids[:, :-1].masked_fill(~wanted[:, :-1], self.pad_id)
        joined = torch.cat([_take(embeddings, order), self.embed(labels)], 1)
        seen = torch.cat([mask, wanted[:, :-1]], 1)
        hidden = self._run(joined, _causal(seen, joined.shape[1]), _places(seen))
        decoded = hidden[:, positions - 1 :][wanted]
        return LabelStates(_take(hidden[:, :positions], order.argsort(1)), decoded, self._logits(decoded))

    def tree_logits(
        self, embeddings: Tensor, attention_mask: Tensor, tokens: Sequence[int], parents: Sequence[int]
    ) -> Tensor:
        """See Backbone. All nodes but the empty prefix follow the text; each sees the text and its own ancestors."""
        order, mask = _padding_first(attention_mask)
        lineages = tree_lineages(parents)
        nodes, positions = len(tokens) - 1, embeddings.shape[1]
        branches = torch.zeros(nodes, nodes, dtype=torch.bool)
        for node, lineage in enumerate(lineages[1:]):
            branches[node, [ancestor - 1 for ancestor in lineage[1:]]] = True
        seen = torch.cat([mask, mask.new_ones(len(mask), nodes)], 1)
        allowed = _causal(seen, positions + nodes)
        allowed[:, positions:, positions:] = branches.to(self.device)
        depths = torch.tensor([len(lineage) - 1 for lineage in lineages[1:]], device=self.device, dtype=torch.int64)
        texts = _places(mask)
        places = torch.cat([texts, texts[:, -1:] + depths], 1)
        added = self.embed(torch.tensor(list(tokens[1:]), device=self.device, dtype=torch.int64))
        joined = torch.cat([_take(embeddings, order), added.expand(len(embeddings), -1, -1)], 1)
        # Copied: a product of this slice, whose rows are not adjacent, would copy the head once for every row.
        return self._logits(self._run(joined, allowed, places)[:, positions - 1 :].contiguous())

    @torch.no_grad()
    def begin(self, embeddings: Tensor, attention_mask: Tensor) -> "CausalState":
        """See Backbone."""
        order, mask = _padding_first(attention_mask)
        cache = DynamicCache()
        hidden = self._run(_take(embeddings, order), _causal(mask, mask.shape[1]), _places(mask), cache)
        return CausalState(self, cache, mask, self._logits(hidden[:, -1]))

    @property
    def stacks(self) -> list[LayerStack]:
        """The one stack of layers; GPT-2 and the others have their own names for the same parts."""
        blocks: Iterable[Any] = self._blocks
        if hasattr(self._body, "h"):
            return [LayerStack([Layer(block, block.attn.c_proj, block.mlp) for block in blocks], self._body.ln_f)]
        return [LayerStack([Layer(block, block.self_attn.o_proj, block.mlp) for block in blocks], self._body.norm)]

    @property
    def query_value_names(self) -> list[str]:
        """The names of the projections to queries and values; GPT-2 has one to queries, keys and values."""
        return ["c_attn"] if hasattr(self._body, "h") else ["q_proj", "v_proj"]

    def norms(self, part: nn.Module) -> Iterator[nn.Module]:
        """The norms among the modules of `part`, each with a `weight` [hidden]."""
        # Qwen3 also norms queries and keys, which are not hidden vectors.
        kinds = tuple({type(layer_stack.final_norm) for layer_stack in self.stacks})
        return (m for m in part.modules() if isinstance(m, kinds) and m.weight.shape == (self.hidden_size,))

    def set_dropout(self, rate: float) -> None:
        """See Backbone; in the places where transformers' model drops (Llama and Qwen: attention weights alone)."""
        self._dropout = rate
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
                module.training = rate > 0
            elif hasattr(module, "attention_dropout"):
                setattr(module, "attention_dropout", rate)  # noqa: B010
                module.training = rate > 0
            elif hasattr(module, "attn_dropout"):
                # GPT-2 drops in a fused kernel, at the rate of its submodule.
                module.training = rate > 0

    def _recomputed(self, forward: Callable, *inputs: Any, **options: Any) -> Any:
        """Run a block that the backward pass runs again; not while text is written, whose cache would grow twice."""
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        # Without dropout nothing in a block is random.
        return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=self._dropout > 0, **options)

    def _run(self, embeddings: Tensor, allowed: Tensor, places: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """The last hidden states [rows, queries, hidden].

        `allowed` [rows, queries, keys] says which keys each query sees, `places` [rows, queries] the position of each.
        """
        closed = torch.finfo(self.dtype).min
        # Added to the scores, in the form that the model uses unchanged; -inf would give NaN for rows of padding.
        bias = torch.zeros(allowed.shape, dtype=self.dtype, device=self.device).masked_fill(~allowed, closed)
        output = self._body(
            inputs_embeds=embeddings,
            attention_mask=bias[:, None],
            position_ids=places,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._head(hidden).float()


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Torch's fused attention, or `CpuAttention` where that is faster; in the form of `AttentionInterface`.

    Args:
        module: The attention of a block.
        query: [rows, heads, queries, width].
        key: [rows, key heads, keys, width]; each key head serves as many query heads.
        value: As `key`.
        attention_mask: Added to the scores, [rows, 1, queries, keys].
        dropout: Of the weights.
        scaling: Of the scores; 1 / √width where it is None.
        options: Others of transformers.

    Returns:
        [rows, queries, heads, width], and no weights.
    """
    if not fused_is_slow(query) or dropout or attention_mask is None or attention_mask.dtype == torch.bool:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return CpuAttention.apply(query * scale, key, value, attention_mask).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class CausalState:
    """Rows of a decoder-only model in the middle of decoding; see `ept.backbones.backbone.DecodingState`."""

    def __init__(self, backbone: DecoderOnly, cache: DynamicCache, mask: Tensor, logits: Tensor):
        self._backbone, self._cache, self._mask, self.logits = backbone, cache, mask, logits

    @torch.no_grad()
    def advance(self, tokens: Tensor) -> Tensor:
        """Append `tokens` [rows, n] and return the logits after each of them, float32 [rows, n, vocab]."""
        backbone, count = self._backbone, tokens.shape[1]
        self._mask = torch.cat([self._mask, self._mask.new_ones(tokens.shape)], 1)
        allowed, places = _causal(self._mask, count), _places(self._mask)[:, -count:]
        logits = backbone._logits(backbone._run(backbone.embed(tokens), allowed, places, self._cache))
        self.logits = logits[:, -1]
        return logits

    def select(self, rows: Tensor) -> "CausalState":
        """The state of `rows` (indices or a boolean mask, [rows]); this state stays as it is."""
        cache = DynamicCache()
        layers: Iterable[Any] = self._cache.layers
        for number, layer in enumerate(layers):
            own = rows.to(layer.keys.device)
            cache.update(layer.keys[own], layer.values[own], number)
        return CausalState(self._backbone, cache, self._mask[rows], self.logits[rows])


def _padding_first(mask: Tensor) -> tuple[Tensor, Tensor]:
    """How to rotate rows with their padding at the end, so that it comes first.

    Returns the position from which each one of the rotated row comes, and the rotated mask, boolean; both [rows,
    positions].
    """
    mask = mask.bool()
    length = mask.shape[1]
    padding = length - mask.sum(1, keepdim=True)
    order = (torch.arange(length, device=mask.device) - padding) % length
    return order, mask.gather(1, order)


def _take(values: Tensor, order: Tensor) -> Tensor:
    """values[row, order[row]] for [rows, positions, hidden]."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))


def _causal(seen: Tensor, queries: int) -> Tensor:
    """The keys that each of the last `queries` positions sees, [rows, queries, keys]: itself and real ones before."""
    keys = seen.shape[1]
    earlier = torch.ones(queries, keys, dtype=torch.bool, device=seen.device).tril(keys - queries)
    return earlier & seen[:, None, :]


def _places(seen: Tensor) -> Tensor:
    """Positions counted from the first real one of each row, [rows, positions]."""
    return (seen.cumsum(1) - 1).clamp(min=0)


def blocks_of(body: Any) -> nn.ModuleList:
    """The blocks of a model without its head."""
    return body.h if hasattr(body, "h") else body.layers


def load_causal(config: dict, folder: Path, form: Form) -> DecoderOnly:
    """The frozen causal language model in `folder`.

    transformers reads tensor by tensor onto the device and quantizes each one. Of a model that is spread over several
    devices all but the blocks is on the first.

    Args:
        config: Its config.json, as `ept.backbones.files.read_config` returns it.
        folder: A folder that `ept.backbones.files.check_weights` accepts.
        form: How the weights are held.

    Raises:
        InputError: For an unreadable file, weights that are not finite, a model without an end of text, and attention
            that slides over a window.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    # Its progress bar would be in every log.
    disable_progress_bar()
    where = folder / "config.json"
    if config.get("use_sliding_window"):
        raise InputError(f"{where}: use_sliding_window is not supported; use a model that attends to the whole text")
    if config.get("eos_token_id") is None:
        raise InputError(f"{where}: eos_token_id is missing, without which no label ends; add the tokenizer's")
    if form.quantization != "none":
        # Quantized weights would no longer show it.
        with WeightFiles(folder) as weights:
            for name in weights:
                weights.read(name, form.dtype)
    options: dict[str, Any] = {
        "dtype": form.dtype,
        "attn_implementation": "sdpa",
        "local_files_only": True,
        "use_safetensors": True,
        "device_map": device_map(folder, form),
        "quantization_config": _quantization(form),
    }
    loader: Any = AutoModelForCausalLM
    try:
        model, notes = loader.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:  # transformers and safetensors raise many kinds for a folder that is not a model
        raise InputError(
            f"{folder}: transformers cannot load this model ({reason_of(error)}); fetch it again"
        ) from error
    if missing := sorted(notes["missing_keys"]):
        raise InputError(f"{folder}: no tensor {listed(missing)} in its safetensors files; fetch the backbone again")
    if form.quantization == "none":
        refuse_not_finite(folder, model.named_parameters())
    else:
        prepare(model)
    return DecoderOnly(model, form.gradient_checkpointing)


def device_map(folder: Path, form: Form) -> dict[str, str]:
    """Where transformers puts each part of the model in `folder`, by the names of its modules."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if len(form.spread_over) < 2:
        return {"": form.device}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    names = {module: name for name, module in model.named_modules()}
    body, blocks = model.base_model, blocks_of(model.base_model)
    others = [part for part in (*body.children(), model.get_output_embeddings()) if part is not blocks]
    return dict.fromkeys((names[part] for part in others), form.spread_over[0]) | spread(
        {names[block]: block for block in blocks}, form.spread_over
    )


def _quantization(form: Form) -> Any:
    """The settings with which transformers quantizes as `quantized_linear` does; None without quantization."""
    if form.quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    if form.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=form.dtype,
    )
