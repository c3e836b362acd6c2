"""Predictions and scores of all runs of a pack on one split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone, is_out_of_memory
from ept.data.dataset import TokenizedSplit
from ept.data.tokenizer import Pieces
from ept.evaluation import metrics
from ept.evaluation.metrics import INVALID
from ept.evaluation.predict import PrefixTree, generate, predict_both, predict_labels, score_candidates
from ept.methods.prompt import PromptOutput, combine
from ept.tasks.record import Task

_TYPES = {"classification": np.int64, "regression": np.float64, "extraction": object}
# Logits of one pass, in numbers (256 MiB in float32): score strings have some thirty prefixes, each with a vocabulary.
MOST_LOGITS = 2**26
# Enough for the longest answers of SQuAD and ReCoRD; generation stops at `</s>` long before.
MAX_ANSWER_PIECES = 64


@dataclass(frozen=True)
class Answers:
    """How a task's answers are read off the backbone: the pieces of its labels, or free text."""

    task: Task
    pieces: Pieces

    def label_ids(self) -> list[list[int]]:
        """The pieces of every label string, each with the end piece."""
        return [self.pieces.label(label) for label in self.task.labels]

    @property
    def prefixes(self) -> int:
        """Prefixes of the label strings, whose logits are read in one pass; 1 for free text."""
        return len(PrefixTree.of(self.label_ids()).tokens)


@dataclass(frozen=True)
class Predictions:
    """The predictions of all runs by both rules, each [runs, rows].

    `open` is what greedy generation would write, against the whole vocabulary: class indices, -1 (INVALID) where it is
    not a label; scores, -1.0 where it is not one of the score strings [known, compacter's released code]; or text.
    `closed` is the likeliest label by its own pieces, or the likeliest score string; None for free text.
    """

    open: np.ndarray
    closed: np.ndarray | None

    def reported(self, task: Task) -> np.ndarray:
        """The rule by which the task is scored [known]: open for classes and texts, closed for scores."""
        return self.open if self.closed is None or task.kind != "regression" else self.closed

    def invalid_shares(self) -> list[float] | None:
        """The share of rows of each run in which the open rule finds no label; None for free text."""
        return None if self.closed is None else (self.open == INVALID).mean(1).tolist()


def predict_split(
    backbone: Backbone,
    output: PromptOutput,
    split: TokenizedSplit,
    rows: np.ndarray,
    answers: Answers,
    most_positions: int,
) -> np.ndarray:
    """The predictions of all runs by the rule of the task, [runs, rows].

    Rows are batched by length. Every batch goes through the backbone with all runs' prompts and has at most four times
    `most_positions` positions. If memory runs out, batches are halved.

    Args:
        backbone: The frozen backbone.
        output: What the prompts add to the inputs.
        split: The tokenized split.
        rows: [rows], row numbers.
        answers: How answers are read off.
        most_positions: How many positions one pass with a graph may have.

    Returns:
        Classification: class indices, -1 where generation would write anything but a label. Regression: the score whose
        string is likeliest. Extraction: generated text (dtype object).
    """
    return _in_batches(
        lambda embeddings, mask: (_predict(backbone, embeddings, mask, answers),),
        [_TYPES[answers.task.kind]],
        backbone,
        output,
        split,
        rows,
        most_positions,
        answers.prefixes,
    )[0]


def predict_split_both(
    backbone: Backbone,
    output: PromptOutput,
    split: TokenizedSplit,
    rows: np.ndarray,
    answers: Answers,
    most_positions: int,
) -> Predictions:
    """The predictions of all runs by both rules. Arguments as those of `predict_split`."""
    kind = answers.task.kind
    if kind == "extraction":
        return Predictions(predict_split(backbone, output, split, rows, answers, most_positions), None)
    labels = answers.label_ids()

    def predict(embeddings: Tensor, mask: Tensor) -> tuple[np.ndarray, ...]:
        # Score strings need their end: "1." and "1.0" would share all other pieces.
        found = predict_both(backbone, embeddings, mask, labels, closed_end=kind == "regression")
        return tuple(part.cpu().numpy() for part in found)

    types = [np.int64, np.int64]
    opened, closed = _in_batches(predict, types, backbone, output, split, rows, most_positions, answers.prefixes)
    if kind == "regression":
        scores = np.array([float(label) for label in answers.task.labels])
        opened, closed = np.where(opened == INVALID, float(INVALID), scores[opened]), scores[closed]
    return Predictions(opened, closed)


@torch.inference_mode()
def _in_batches(
    predict: Callable[[Tensor, Tensor], tuple[np.ndarray, ...]],
    types: Sequence[type],
    backbone: Backbone,
    output: PromptOutput,
    split: TokenizedSplit,
    rows: np.ndarray,
    most_positions: int,
    prefixes: int,
) -> list[np.ndarray]:
    """What `predict` gives for each row of each run, one array [runs, rows] for each of `types`.

    `predict` takes embeddings and mask of [runs * rows] rows and returns arrays [runs * rows]. It reads the logits
    after `prefixes` prefixes of a row at once.
    """
    runs, prompt_length = output.prompt.shape[:2]
    found: list[np.ndarray] = [np.empty((runs, len(rows)), dtype=kind) for kind in types]
    order = np.argsort(split.lengths[rows], kind="stable")
    sizes = runs * (prompt_length + split.patches + split.lengths[rows][order])
    # Without a graph several times as many positions fit as in training.
    start, budget = 0, 4 * most_positions
    most_rows = max(1, MOST_LOGITS // (prefixes * len(backbone.embedding)) // runs)
    while start < len(order):
        stop = min(_batch_end(sizes, start, budget), start + most_rows)
        places = order[start:stop]
        try:
            batch = split.collate(rows[places]).to(backbone.device)
            embeddings = backbone.embed(batch.input_ids).expand(runs, -1, -1, -1)
            mask = batch.attention_mask.expand(runs, -1, -1)
            parts = predict(*combine(output, embeddings, mask, batch.features_of(1)))
        except RuntimeError as error:
            if not is_out_of_memory(error) or stop == start + 1:
                raise
            budget = (stop - start) * int(sizes[stop - 1]) // 2
        else:
            for array, part in zip(found, parts, strict=True):
                array[:, places] = part.reshape(runs, -1)
            start = stop
    return found


def _batch_end(sizes: np.ndarray, start: int, budget: int) -> int:
    """Where the batch from `start` ends: as many rows as have `budget` positions when padded to the last; at least one.

    `sizes` are the positions of each row over all runs, ascending.
    """
    padded = np.arange(1, len(sizes) - start + 1) * sizes[start:]
    return start + max(1, int(np.searchsorted(padded, budget, side="right")))


def _predict(backbone: Backbone, embeddings: Tensor, mask: Tensor, answers: Answers) -> np.ndarray:
    if answers.task.kind == "classification":
        return predict_labels(backbone, embeddings, mask, answers.label_ids()).cpu().numpy()
    if answers.task.kind == "regression":
        best = score_candidates(backbone, embeddings, mask, answers.label_ids()).argmax(1).cpu().numpy()
        return np.array([float(label) for label in answers.task.labels])[best]
    texts = [answers.pieces.text(pieces) for pieces in generate(backbone, embeddings, mask, MAX_ANSWER_PIECES)]
    return np.array(texts, dtype=object)


def references(split: TokenizedSplit, rows: np.ndarray, task: Task) -> metrics.References:
    """What the predictions of these rows are compared with."""
    return metrics.References(
        labels=split.labels[rows],
        groups=[split.groups[row] for row in rows],
        answers=[split.answers(row) for row in rows] if task.kind == "extraction" else [],
    )


def score(task: Task, predictions: np.ndarray, truth: metrics.References) -> dict[str, float]:
    """Every metric of the task in percent; the first one selects checkpoints."""
    return {name: metrics.compute(name, predictions, truth, task) for name in task.metrics}


def scores_of(
    outputs: Callable[[], PromptOutput],
    backbone: Backbone,
    split: TokenizedSplit,
    rows: np.ndarray,
    answers: Answers,
    most_positions: int,
) -> Callable[[list[int]], np.ndarray]:
    """A function from the numbers of runs to their scores [runs] now, by the task's first metric.

    Args:
        outputs: What the prompts of all runs add to the inputs when it is called.
        backbone: The frozen backbone.
        split: The tokenized split.
        rows: [rows], row numbers.
        answers: How answers are read off.
        most_positions: How many positions one pass with a graph may have.
    """
    task = answers.task
    truth = references(split, rows, task)

    def scores(alive: list[int]) -> np.ndarray:
        with torch.inference_mode():
            output = outputs().select(alive)
        predictions = predict_split(backbone, output, split, rows, answers, most_positions)
        return np.array([score(task, prediction, truth)[task.metrics[0]] for prediction in predictions])

    return scores


def majority_answer(task: Task, train: TokenizedSplit, validation: TokenizedSplit, rows: np.ndarray) -> float | str:
    """The baseline that ignores its input: the best constant answer by the task's first metric on validation `rows`.

    Of classes that score alike the commonest of the training split is taken. Regression: the mean training score, since
    every constant has the same correlation. Extraction: an empty answer.
    """
    if task.kind == "regression":
        return float(train.labels.mean())
    if task.kind == "extraction":
        return ""
    truth = references(validation, rows, task)
    counts = np.bincount(train.labels.astype(np.int64), minlength=len(task.labels))
    metric = task.metrics[0]
    scores = [
        metrics.compute(metric, constant_predictions(class_, len(rows)), truth, task)
        for class_ in range(len(task.labels))
    ]
    return max(range(len(scores)), key=lambda class_: (scores[class_], counts[class_]))


def constant_predictions(answer: float | str, rows: int) -> np.ndarray:
    """The same answer for every row, [rows]: class index (int64), score (float64) or text (object)."""
    return np.full(rows, answer, dtype=object if isinstance(answer, str) else None)


def noteworthy(task: Task, predictions: np.ndarray, invalid_share: float | None) -> list[str]:
    """What a reader of a run's test score must know, as sentences; empty for ordinary predictions [rows]."""
    notes = []
    if invalid_share:
        notes.append(f"{100 * invalid_share:.1f} % of the test predictions are not a label")
    if task.kind != "extraction" and len(predictions) > 1 and np.ptp(predictions) == 0:
        (value,) = set(predictions.tolist())
        undefined = {"matthews", "pearson", "spearman"} & set(task.metrics)
        counted = f"; {', '.join(sorted(undefined))} of a constant counts as 0" if undefined else ""
        if value != INVALID or task.kind == "regression":
            notes.append(f"every test prediction is {value:g}{counted}")
    return notes
