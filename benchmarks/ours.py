"""The project's own trainer, as the benchmark calls it. The only file here that knows it."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.backbones import synchronize
from benchmarks.data import CANDIDATES, SOURCE_LENGTH, TaskData, mean_block, representative
from benchmarks.plan import Plan
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.config.settings import EptSettings, PromptSettings
from ept.data.dataset import Batch, TokenizedSplit
from ept.data.sampling import BatchOrder
from ept.evaluation.score import Answers, predict_split
from ept.methods.build import build_prompt_module
from ept.tasks.registry import get_task
from ept.training.measure import choose, measure
from ept.training.optimizer import PackedAdam
from ept.training.step import ForwardSize, Piece, accumulate_gradients, cut

RATES = {"prompt": 0.3, "low_rank": 5e-3}
CLIP_NORM = 1.0
# A grid is three seeds of each pair of learning rates.
SEEDS = 3


@dataclass(frozen=True)
class LabelPieces(Answers):
    """Answers of a classification task whose label pieces are known, without a tokenizer."""

    pieces: tuple[tuple[int, ...], ...] = ()

    def label_ids(self) -> list[list[int]]:
        """The pieces of every label, each with `</s>`."""
        return [list(label) for label in self.pieces]


class PaddedSplit:
    """A split whose batches are all padded to `padding` pieces, without images."""

    patches = 0

    def __init__(self, split: TokenizedSplit, padding: int):
        self.split, self.padding = split, padding
        self.lengths, self.target_lengths = np.full(len(split), padding), split.target_lengths

    def __len__(self) -> int:
        return len(self.split)

    def collate(self, rows: np.ndarray) -> Batch:
        """The rows as one batch."""
        return self.split.collate(rows, self.padding)


@dataclass(frozen=True)
class SizedBackbone:
    """A backbone and how much of a step goes through it at once."""

    backbone: EncoderDecoder
    size: ForwardSize


def sized(backbone: EncoderDecoder, positions: int | None = None) -> SizedBackbone:
    """With passes of `positions`, or else of as many as training chooses by measuring."""
    return SizedBackbone(backbone, ForwardSize(positions or choose(measure(backbone))))


class Pack:
    """A pack of `runs` runs of one of our methods on one task."""

    def __init__(
        self, sized: SizedBackbone, method: str, runs: int, task: TaskData, plan: Plan, padding: int | None = None
    ):
        """With `padding` every text has as many pieces; else every pass is padded to its own longest."""
        self.backbone, self.size = sized.backbone, sized.size
        self.task = task
        self.split = task.train if padding is None else PaddedSplit(task.train, padding)
        seeds = [run % SEEDS for run in range(runs)]
        prompt = PromptSettings(length=plan.length, short_length=plan.short_length)
        self.prompts = build_prompt_module(method, self.backbone.embedding, prompt, EptSettings(), SOURCE_LENGTH, seeds)
        groups = self.prompts.parameter_groups()
        rates = {name: torch.full((runs,), RATES[name], device=self.backbone.device) for name in groups}
        self.optimizer = PackedAdam(groups, rates, CLIP_NORM)
        rows = np.tile(np.arange(len(task.train)), (runs, 1))
        self.order = BatchOrder(task.train.lengths, rows, seeds, plan.batch_size)
        self.answers = LabelPieces(get_task(task.name), tuple(map(tuple, task.label_ids)))

    def batches(self, steps: int) -> list[np.ndarray]:
        """`steps` batches [runs, rows] whose mean padded length is that of an epoch."""
        candidates, lengths = self._candidates()
        return [candidates[step] for step in representative(lengths, steps)]

    def longest(self) -> np.ndarray:
        """The batch [runs, rows] with the longest text: what memory has to hold."""
        candidates, lengths = self._candidates()
        return candidates[lengths.argmax()]

    def _candidates(self) -> tuple[list[np.ndarray], np.ndarray]:
        steps = range(min(CANDIDATES, self.order.batches_per_epoch))
        candidates = [self.order.batch(step) for step in steps]
        return candidates, np.array([self.task.train.lengths[batch].max() for batch in candidates])

    def pieces(self, batch: np.ndarray) -> list[Piece]:
        """What goes through the backbone one by one for `batch` [runs, rows]."""
        return list(cut(self.split, batch, self.prompts.prompt.shape[1], self.size))

    def step(self, batch: np.ndarray, rate_factor: float = 1.0) -> None:
        """One optimizer step of all runs on `batch` [runs, rows], with all learning rates times `rate_factor`."""
        label_pieces = torch.from_numpy(self.split.target_lengths[batch].sum(1))
        runs = list(range(len(batch)))
        losses = accumulate_gradients(self.backbone, self.prompts, runs, self.pieces(batch), label_pieces)
        self.optimizer.step(rate_factor, losses.isfinite())

    def train(self, steps: int) -> float:
        """Seconds of `steps` optimizer steps of all runs."""
        batches = self.batches(steps)
        synchronize()
        started = time.perf_counter()
        for batch in batches:
            self.step(batch)
        synchronize()
        return time.perf_counter() - started

    def evaluate(self, rows: int) -> float:
        """Seconds until all runs have predicted `rows` validation rows, neighbors by length (`mean_block`)."""
        split = self.task.validation
        chosen = mean_block(split.lengths, rows)
        synchronize()
        started = time.perf_counter()
        self.predict(split, chosen)
        synchronize()
        return time.perf_counter() - started

    def predict(self, split: TokenizedSplit, rows: np.ndarray, runs: list[int] | None = None) -> np.ndarray:
        """Predicted classes [runs, rows], of all runs or of some."""
        with torch.inference_mode():
            output = self.prompts()
            if runs is not None:
                output = output.select(runs)
        return predict_split(self.backbone, output, split, rows, self.answers, self.size.positions)
