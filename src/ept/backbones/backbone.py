"""The one object through which prompts, training and evaluation use a frozen language model of any family."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ept.backbones.families import Family

# What the backward pass keeps of a block for one position, in hidden vectors: 15-31 counted on small T5s of
# both generations (float32), and a margin for the float32 copies that layer norms make of bfloat16.
KEPT_VECTORS = 40


class Form(NamedTuple):
    """How the frozen weights are held, and what the backward pass keeps (config/README.md, `backbone`)."""

    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    quantization: str = "none"
    gradient_checkpointing: bool = False
    spread_over: tuple[str, ...] = ()


class LabelStates(NamedTuple):
    """Of rows with labels of `pieces` pieces in all (with the end piece), padding left out."""

    encoded: Tensor
    """[rows, positions, hidden], what the model makes of prompt and text: an encoder's output, or a decoder-only
    model's states there; in the order of the input, padding last."""
    decoded: Tensor
    """[pieces, hidden], the last hidden state before each piece."""
    logits: Tensor
    """[pieces, vocab], float32."""


class DecodingState(Protocol):
    """Rows in the middle of decoding. `logits` float32 [rows, vocab] are those after the pieces so far."""

    logits: Tensor

    def advance(self, tokens: Tensor) -> Tensor:
        """Append `tokens` [rows, n] and return the logits after each of them, float32 [rows, n, vocab]."""

    def select(self, rows: Tensor) -> "DecodingState":
        """The state of `rows` (indices or a boolean mask, [rows]); this state stays as it is."""


class Layer(NamedTuple):
    """A layer's modules to which weight-side methods add something."""

    block: nn.Module
    attention_output: nn.Module
    """The last projection of self-attention, [..., hidden]."""
    feed_forward: nn.Module
    """The whole feed-forward part, [..., hidden]."""


class LayerStack(NamedTuple):
    """Layers from the input on, and the norm behind them."""

    layers: list[Layer]
    final_norm: nn.Module


class Backbone(ABC):
    """A frozen language model. Attributes: family, hidden_size, embedding [vocab, hidden], pad_id, eos_id (which ends a
    label), device, dtype, `most_places` (the longest input with its label; None where there is no limit) and `model`.

    All inputs are embeddings [rows, positions, hidden] of prompt and text with a mask [rows, positions], 1 at prompt
    and pieces and then 0 at padding; the adapter puts them into the order that its family needs.
    """

    family: Family
    model: nn.Module
    most_places: int | None = None
    pad_id: int
    eos_id: int
    gradient_checkpointing: bool = False
    _layer_count: int

    def freeze(self, model: nn.Module) -> None:
        """Take `model` as the frozen one."""
        self.model = model.requires_grad_(False).eval()
        self.hidden_size: int = self.embedding.shape[1]
        self.device, self.dtype = self.embedding.device, self.embedding.dtype

    @property
    @abstractmethod
    def embedding(self) -> Tensor:
        """The word embeddings [vocab, hidden]."""

    @abstractmethod
    def label_states(self, embeddings: Tensor, attention_mask: Tensor, target_ids: Tensor) -> LabelStates:
        """What the backbone computes for every target piece under teacher forcing.

        `target_ids` [rows, target_length] with the end piece, padded with -100. Gradients reach `embeddings` and
        whatever a weight-side method trains. Logits are made at the target positions only.
        """

    @abstractmethod
    def tree_logits(
        self, embeddings: Tensor, attention_mask: Tensor, tokens: Sequence[int], parents: Sequence[int]
    ) -> Tensor:
        """The next-piece logits after every prefix in a tree of prefixes, float32 [rows, nodes, vocab], in
        one pass.

        Node 0 is the empty prefix (its token is not read); node i appends `tokens[i]` to the prefix of node
        `parents[i]` < i. A node attends to the input, its ancestors and itself only, at their distance in the tree, so
        each gets the logits that decoding its prefix alone would give.
        """

    @abstractmethod
    def begin(self, embeddings: Tensor, attention_mask: Tensor) -> DecodingState:
        """Read the input once; nothing is written yet."""

    @property
    @abstractmethod
    def stacks(self) -> list[LayerStack]:
        """The model's stacks of layers: encoder and decoder, or one."""

    @property
    @abstractmethod
    def query_value_names(self) -> list[str]:
        """What the family calls the projections to queries and values (LoRA)."""

    @abstractmethod
    def norms(self, part: nn.Module) -> Iterator[nn.Module]:
        """The norms among the modules of `part`, each with a `weight` [hidden]."""

    @property
    def most_positions(self) -> int:
        """How many input positions (rows x length) one forward with backward may have: what fits into half of the GPU's
        memory or an eighth of the machine's (the total, not what is free now: the same machine must always choose the
        same).
        """
        if self.device.type == "cpu":
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        else:
            memory = torch.cuda.get_device_properties(self.device).total_memory
        layers = self._layer_count
        vectors = KEPT_VECTORS + layers if self.gradient_checkpointing else KEPT_VECTORS * layers
        return memory // (2 * vectors * self.hidden_size * self.dtype.itemsize)

    def embed(self, input_ids: Tensor) -> Tensor:
        """The word embeddings of `input_ids` [rows, length]: [rows, length, hidden], frozen."""
        return functional.embedding(input_ids, self.embedding)

    def token_losses(self, embeddings: Tensor, attention_mask: Tensor, target_ids: Tensor) -> Tensor:
        """Cross-entropy of every target piece under teacher forcing, float32 [rows, target_length], 0 where
        it is -100.

        Shapes as in `label_states`. Over the full vocabulary, at the target positions only; in float32
        whatever the backbone computes in.
        """
        wanted = target_ids != -100
        logits = self.label_states(embeddings, attention_mask, target_ids).logits
        losses = functional.cross_entropy(logits, target_ids[wanted], reduction="none")
        return losses.new_zeros(target_ids.shape).masked_scatter(wanted, losses)


def tree_lineages(parents: Sequence[int]) -> list[list[int]]:
    """For every node of a tree of prefixes (see `Backbone.tree_logits`) the nodes from the root to itself."""
    lineages = [[0]]
    for node in range(1, len(parents)):
        lineages.append([*lineages[parents[node]], node])
    return lineages


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: torch's own error on a GPU, a RuntimeError of its allocator on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
