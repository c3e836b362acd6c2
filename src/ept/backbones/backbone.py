"""The one object through which prompts, training and evaluation use a frozen language model of any family."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ept.backbones.families import Family

# What is kept of a block for the backward pass and one position, in hidden vectors: 15-31 were counted on small T5s of
# both generations (float32); the rest is a margin for the float32 copies that layer norms make of bfloat16.
KEPT_VECTORS = 40


class Form(NamedTuple):
    """How the frozen weights are held, and what is kept for the backward pass (config/README.md, `backbone`)."""

    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    quantization: str = "none"
    gradient_checkpointing: bool = False
    spread_over: tuple[str, ...] = ()


class LabelStates(NamedTuple):
    """What a backbone computes for rows whose labels have `pieces` pieces together, end pieces included."""

    encoded: Tensor
    """[rows, positions, hidden], the states of prompt and text: an encoder's output, or a decoder-only model's last
    hidden states there; in the order of the input, padding last."""
    decoded: Tensor
    """[pieces, hidden], the last hidden state before each label piece, without padding."""
    logits: Tensor
    """[pieces, vocab], float32, the logits of each label piece."""


class DecodingState(Protocol):
    """Rows in the middle of decoding; `logits` [rows, vocab], float32, belong to the next piece."""

    logits: Tensor

    def advance(self, tokens: Tensor) -> Tensor:
        """Append `tokens` [rows, n] and return the logits after each of them, float32 [rows, n, vocab]."""

    def select(self, rows: Tensor) -> "DecodingState":
        """The state of `rows` (indices or a boolean mask, [rows]); this state stays as it is."""


class Layer(NamedTuple):
    """The modules of a layer to which weight-side methods add something."""

    block: nn.Module
    attention_output: nn.Module
    """The last projection of self-attention, [..., hidden]."""
    feed_forward: nn.Module
    """The whole feed-forward part, [..., hidden]."""


class LayerStack(NamedTuple):
    """A stack's layers in the order in which they run, and the norm behind them."""

    layers: list[Layer]
    final_norm: nn.Module


class Backbone(ABC):
    """A frozen language model of any family.

    All inputs are embeddings [rows, positions, hidden] of prompt and text with a mask [rows, positions], 1 at prompt
    and pieces and then 0 at padding; a subclass puts them into the order that its family needs.

    Attributes:
        family: What is known of its kind of model.
        model: The frozen module.
        hidden_size: The size of its embeddings.
        pad_id: The piece to pad with.
        eos_id: The piece that ends a label.
        device: Where its embeddings are.
        dtype: The precision of its embeddings.
        most_places: The longest input with its label, in positions; None where there is no limit.
    """

    family: Family
    model: nn.Module
    most_places: int | None = None
    pad_id: int
    eos_id: int
    gradient_checkpointing: bool = False
    _layer_count: int

    def freeze(self, model: nn.Module) -> None:
        """Freeze `model` and take it as this backbone's."""
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

        Gradients reach `embeddings` and whatever a weight-side method trains. Logits are computed at the target
        positions only.

        Args:
            embeddings: Prompt and text, [rows, positions, hidden].
            attention_mask: 1 at prompt and pieces, then 0 at padding, [rows, positions].
            target_ids: The label's pieces with the end piece, padded with -100, [rows, target_length].
        """

    @abstractmethod
    def tree_logits(
        self, embeddings: Tensor, attention_mask: Tensor, tokens: Sequence[int], parents: Sequence[int]
    ) -> Tensor:
        """The logits of the next piece after every prefix in a tree of prefixes, in one pass.

        Node 0 is the empty prefix; node i appends `tokens[i]` to the prefix of node `parents[i]` < i. A node attends to
        the input, its ancestors and itself only, at their distance in the tree: each gets the logits that decoding its
        prefix alone would give.

        Args:
            embeddings: Prompt and text, [rows, positions, hidden].
            attention_mask: 1 at prompt and pieces, then 0 at padding, [rows, positions].
            tokens: The piece of every node; that of node 0 is not read.
            parents: The parent of every node.

        Returns:
            Float32 [rows, nodes, vocab].
        """

    @abstractmethod
    def begin(self, embeddings: Tensor, attention_mask: Tensor) -> DecodingState:
        """Read the input once, before the first piece is written; without gradients."""

    @property
    @abstractmethod
    def stacks(self) -> list[LayerStack]:
        """The model's stacks of layers: encoder and decoder, or one."""

    @property
    @abstractmethod
    def query_value_names(self) -> list[str]:
        """The family's names of the projections to queries and values, which LoRA changes."""

    @abstractmethod
    def norms(self, part: nn.Module) -> Iterator[nn.Module]:
        """The norms among the modules of `part`, each with a `weight` [hidden]."""

    @abstractmethod
    def set_dropout(self, rate: float) -> None:
        """Drop at this rate inside the model in every forward pass from now on, or not at all with 0 (the start).

        For training inside the backbone: set it back to 0 before validation. Dropped are the places where transformers'
        model of the family drops in training. 0 is bit for bit the frozen model without dropout.
        """

    @property
    def most_positions(self) -> int:
        """How many input positions (rows x length) one forward with backward pass may have.

        As many as fit into half of the GPU's memory or an eighth of the machine's: of the total, since the free part
        would let the same machine choose differently.
        """
        if self.device.type == "cpu":
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        else:
            memory = torch.cuda.get_device_properties(self.device).total_memory
        layers = self._layer_count
        vectors = KEPT_VECTORS + layers if self.gradient_checkpointing else KEPT_VECTORS * layers
        return memory // (2 * vectors * self.hidden_size * self.dtype.itemsize)

    def embed(self, input_ids: Tensor) -> Tensor:
        """The frozen word embeddings [rows, length, hidden] of `input_ids` [rows, length]."""
        return functional.embedding(input_ids, self.embedding)

    def token_losses(self, embeddings: Tensor, attention_mask: Tensor, target_ids: Tensor) -> Tensor:
        """The cross-entropy of every target piece under teacher forcing, over the full vocabulary.

        Args:
            embeddings: Prompt and text, [rows, positions, hidden].
            attention_mask: 1 at prompt and pieces, then 0 at padding, [rows, positions].
            target_ids: The label's pieces with the end piece, padded with -100, [rows, target_length].

        Returns:
            [rows, target_length], 0 at padding; float32 whatever the backbone computes in.
        """
        wanted = target_ids != -100
        logits = self.label_states(embeddings, attention_mask, target_ids).logits
        losses = functional.cross_entropy(logits, target_ids[wanted], reduction="none")
        return losses.new_zeros(target_ids.shape).masked_scatter(wanted, losses)


def tree_lineages(parents: Sequence[int]) -> list[list[int]]:
    """For every node of a tree of prefixes (`Backbone.tree_logits`), the nodes from the root to it."""
    lineages = [[0]]
    for node in range(1, len(parents)):
        lineages.append([*lineages[parents[node]], node])
    return lineages


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: torch's own on a GPU, one of its allocator's on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
