"""What each step trains on, prepared in a thread while the step before it computes."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.data.batches import BatchOrder
from ept.data.tokenized import TokenizedSplit
from ept.training.forward import ForwardSize, Piece, cut


@dataclass(frozen=True)
class StepInput:
    """The living runs' batches of one step.

    `pieces` go through the backbone one by one; `label_pieces` [alive] counts the label pieces of each run; `positions`
    are those of the longest row (prompt and text), `examples` the rows of all runs.
    """

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
        """The input of `step`; that of the next one is begun, in the hope that runs and size stay."""
        key = (step, tuple(alive), size)
        # Also where the guess was wrong: the order of batches is not made for two threads.
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
            pieces=list(cut(self._train, rows, self._prompt_length, size)),
            label_pieces=torch.from_numpy(self._train.target_lengths[rows].sum(1)),
            positions=self._prompt_length + int(self._train.lengths[rows].max()),
            examples=rows.size,
        )
