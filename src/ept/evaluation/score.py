"""Predictions and scores of all runs of a pack on one split."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone, is_out_of_memory
from ept.data.dataset import TokenizedSplit
from ept.data.tokenizer import Pieces
from ept.evaluation import metrics
from ept.evaluation.predict import generate, predict_labels, score_candidates
from ept.methods.combine import combine
from ept.methods.prompt import PromptOutput
from ept.tasks.record import Task

# Enough for the longest answers of SQuAD and ReCoRD; generation stops at `</s>` long before.
MAX_ANSWER_PIECES = 64


@dataclass(frozen=True)
class Answers:
    """How a task's answers are read off the backbone: the pieces of its labels, or free text."""

    task: Task
    pieces: Pieces
    closed: bool = False
    """Whether the likeliest label counts, by its own pieces alone, and not what generation would write."""

    def label_ids(self) -> list[list[int]]:
        """The pieces of every label string, each with the end piece unless the labels are `closed`."""
        labels = [self.pieces.label(label) for label in self.task.labels]
        return [label[:-1] for label in labels] if self.closed else labels


@torch.inference_mode()
def predict_split(
    backbone: Backbone,
    output: PromptOutput,
    split: TokenizedSplit,
    rows: np.ndarray,
    answers: Answers,
    most_positions: int,
) -> np.ndarray:
    """The predictions of all runs, [runs, rows].

    Classification: class indices, -1 where generation would write something that is no label. Regression: the score
    whose string is likeliest. Extraction: generated text (dtype object). Rows are batched by length; every batch goes
    through the backbone with all runs' prompts, and has at most so many positions that four times `most_positions`
    (which is for passes with a graph) hold them. Out of memory halves the batches.
    """
    runs, prompt_length = output.prompt.shape[:2]
    kind = answers.task.kind
    dtype = {"classification": np.int64, "regression": np.float64, "extraction": object}[kind]
    predictions = np.empty((runs, len(rows)), dtype=dtype)
    order = np.argsort(split.lengths[rows], kind="stable")
    sizes = runs * (prompt_length + split.lengths[rows][order])
    # Without a graph several times as many positions fit as in training.
    start, budget = 0, 4 * most_positions
    while start < len(order):
        stop = _batch_end(sizes, start, budget)
        try:
            predictions[:, order[start:stop]] = _predict_rows(backbone, output, split, rows[order[start:stop]], answers)
        except RuntimeError as error:
            if not is_out_of_memory(error) or stop == start + 1:
                raise
            budget = (stop - start) * int(sizes[stop - 1]) // 2
        else:
            start = stop
    return predictions


def _batch_end(sizes: np.ndarray, start: int, budget: int) -> int:
    """Where the batch from `start` ends: as many rows as have `budget` positions when padded to the last; at least one.

    `sizes` are the positions of each row over all runs, ascending.
    """
    padded = np.arange(1, len(sizes) - start + 1) * sizes[start:]
    return start + max(1, int(np.searchsorted(padded, budget, side="right")))


def _predict_rows(
    backbone: Backbone, output: PromptOutput, split: TokenizedSplit, rows: np.ndarray, answers: Answers
) -> np.ndarray:
    """The predictions [runs, rows] in one batch."""
    runs = len(output.prompt)
    batch = split.collate(rows).to(backbone.device)
    embeddings = backbone.embed(batch.input_ids).expand(runs, -1, -1, -1)
    mask = batch.attention_mask.expand(runs, -1, -1)
    return _predict(backbone, *combine(output, embeddings, mask), answers).reshape(runs, -1)


def _predict(backbone: Backbone, embeddings: Tensor, mask: Tensor, answers: Answers) -> np.ndarray:
    if answers.task.kind == "classification" and answers.closed:
        return score_candidates(backbone, embeddings, mask, answers.label_ids()).argmax(1).cpu().numpy()
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


def majority_predictions(task: Task, train: TokenizedSplit, rows: int) -> np.ndarray:
    """The baseline that ignores its input, [rows]: the commonest training class, the mean training score, no answer."""
    if task.kind == "classification":
        classes, counts = np.unique(train.labels.astype(np.int64), return_counts=True)
        return np.full(rows, classes[counts.argmax()])
    if task.kind == "regression":
        return np.full(rows, train.labels.mean())
    return np.full(rows, "", dtype=object)
