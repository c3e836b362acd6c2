"""How much goes through the backbone at once, and the gradients of one step, piece by piece."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone
from ept.data.dataset import Batch, TokenizedSplit
from ept.data.sampling import BatchOrder
from ept.methods.base import MethodModule
from ept.methods.prompt import PromptOutput, combine


@dataclass(frozen=True)
class ForwardSize:
    """How much of a step goes through one forward and backward pass: whole runs as long as one fits, else rows of it.

    `runs` is a number of runs (the setting `training.runs_per_pass`); without it as many rows go together as have
    `positions` positions (prompt and text). The choice changes gradients by rounding only.
    """

    positions: int
    runs: int | None = None

    def rows(self, batch_size: int, length: int) -> int:
        """Rows in one pass, for runs with `batch_size` rows of `length` positions each; at least one."""
        if self.runs is not None:
            return self.runs * batch_size
        rows = max(1, self.positions // length)
        if rows >= batch_size:
            return rows // batch_size * batch_size
        # Even pieces: 16 rows of which 12 fit are 8 and 8, not 12 and 4.
        return math.ceil(batch_size / math.ceil(batch_size / rows))

    def halved(self, rows: int, length: int) -> "ForwardSize":
        """Half of what did not fit into memory."""
        return ForwardSize(max(1, rows * length // 2))


@dataclass(frozen=True)
class Piece:
    """Rows of some neighboring runs that go through the backbone together."""

    first: int
    last: int
    batch: Batch


def cut(train: TokenizedSplit, rows: np.ndarray, prompt_length: int, size: ForwardSize) -> Iterator[Piece]:
    """Cut a step's rows [runs, batch] into pieces, each padded to its own longest row."""
    runs, batch_size = rows.shape
    together = size.rows(batch_size, prompt_length + train.patches + int(train.lengths[rows].max()))
    if together >= batch_size:
        for first in range(0, runs, together // batch_size):
            last = min(runs, first + together // batch_size)
            yield Piece(first, last, train.collate(rows[first:last].reshape(-1)))
    else:
        for run in range(runs):
            for start in range(0, batch_size, together):
                yield Piece(run, run + 1, train.collate(rows[run, start : start + together]))


def accumulate_gradients(
    backbone: Backbone, prompts: MethodModule, alive: list[int], pieces: list[Piece], label_pieces: Tensor
) -> Tensor:
    """Add the gradients of one step to the prompts' parameters and return the loss of each living run, [alive].

    The prompts are computed once; the backbone sees one piece at a time.

    Args:
        backbone: The frozen backbone.
        prompts: The pack of runs.
        alive: Numbers of the runs that still train.
        pieces: The step's rows, cut so that each piece fits into memory.
        label_pieces: [alive], the pieces of all labels (with `</s>`) of each run; its loss is the mean over them.

    Returns:
        The loss of each living run, float32 [alive], without a graph.
    """
    output = prompts()
    if len(alive) < prompts.runs:
        output = output.select(alive)
    leaves = output.detached()
    losses = torch.zeros(len(alive), device=backbone.device)
    label_pieces = label_pieces.to(backbone.device)
    for piece in pieces:
        runs = slice(piece.first, piece.last)
        sums = loss_sums(backbone, leaves.slice(piece.first, piece.last), piece.batch.to(backbone.device))
        run_losses = sums / label_pieces[runs]
        run_losses.sum().backward()
        losses[runs] += run_losses.detach()
    made = [
        (part, leaf.grad)
        for part, leaf in zip(output, leaves, strict=True)
        if leaf is not None and leaf.grad is not None
    ]
    if made:
        backward(made)
    return losses


def backward(made: list[tuple[Tensor, Tensor]]) -> None:
    """Add to the leaves' gradients what the gradients of `made` (tensor, its gradient) give.

    As torch.autograd.backward, bit for bit; that one imports SymPy to compare shapes, for half a second.
    """
    torch.stack([(tensor * gradient).sum() for tensor, gradient in made]).sum().backward()


def loss_sums(backbone: Backbone, output: PromptOutput, batch: Batch) -> Tensor:
    """The loss of each run summed over its label pieces, [runs]; `batch` holds runs * rows rows, run by run."""
    runs = output.prompt.shape[0]
    embeddings = backbone.embed(batch.input_ids)
    embeddings = embeddings.view(runs, -1, *embeddings.shape[1:])
    mask = batch.attention_mask.view(runs, -1, batch.attention_mask.shape[-1])
    embeddings, mask = combine(output, embeddings, mask, batch.features_of(runs))
    return backbone.token_losses(embeddings, mask, batch.target_ids).view(runs, -1).sum(1)


def pack_losses(backbone: Backbone, output: PromptOutput, batch: Batch) -> Tensor:
    """The loss of each run, [runs]: the mean over the label pieces (with `</s>`) of the run's rows."""
    label_pieces = (batch.target_ids != -100).view(output.prompt.shape[0], -1).sum(1)
    return loss_sums(backbone, output, batch) / label_pieces


@dataclass(frozen=True)
class StepInput:
    """The living runs' batches of one step (counted from 0).

    `pieces` go through the backbone one by one; `label_pieces` [alive] counts the label pieces of each run; `positions`
    are those of the longest row (prompt, text and image), `examples` the rows of all runs.
    """

    step: int
    pieces: list[Piece]
    label_pieces: Tensor
    positions: int
    examples: int


class StepInputs:
    """The inputs of every step: a function of the step, the living runs and the forward size alone."""

    def __init__(self, train: TokenizedSplit, order: BatchOrder, prompt_length: int):
        self._train, self._order, self._prompt_length = train, order, prompt_length
        self._executor = ThreadPoolExecutor(1)
        self._begun: tuple | None = None
        self._future: Future[StepInput] | None = None

    def take(self, step: int, alive: list[int], size: ForwardSize) -> StepInput:
        """The input of `step`. That of the next step is prepared in a thread, for the same runs and size."""
        key = (step, tuple(alive), size)
        # Waited for even if the guess was wrong: the order of batches is not safe for two threads.
        ready = None if self._future is None else self._future.result()
        found = ready if ready is not None and self._begun == key else self._make(*key)
        self._begun = (step + 1, tuple(alive), size)
        self._future = self._executor.submit(self._make, *self._begun)
        return found

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(cancel_futures=True)

    def _make(self, step: int, alive: tuple[int, ...], size: ForwardSize) -> StepInput:
        rows: np.ndarray = self._order.batch(step)[list(alive)]
        return StepInput(
            step=step,
            pieces=list(cut(self._train, rows, self._prompt_length, size)),
            label_pieces=torch.from_numpy(self._train.target_lengths[rows].sum(1)),
            positions=self._prompt_length + self._train.patches + int(self._train.lengths[rows].max()),
            examples=rows.size,
        )
