"""Predictions and scores of all runs of a pack on one split."""

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.data.tokenized import TokenizedSplit
from ept.evaluation import metrics
from ept.evaluation.predict import generate, predict_labels, score_candidates
from ept.prompts.base import PromptOutput
from ept.prompts.combine import combine
from ept.tasks.record import Task

# Enough for the longest answers of SQuAD and ReCoRD; generation stops at `</s>` long before.
MAX_ANSWER_PIECES = 64


@dataclass(frozen=True)
class Answers:
    """How a task's answers are read off the backbone: the pieces of its labels, or free text."""

    task: Task
    tokenizer: Tokenizer

    def label_ids(self) -> list[list[int]]:
        """The pieces of every label string, each with `</s>`."""
        return [self.tokenizer.encode(label).ids for label in self.task.labels]

    def text(self, pieces: list[int]) -> str:
        """Generated pieces as text."""
        return self.tokenizer.decode(pieces, skip_special_tokens=True).strip()


@torch.inference_mode()
def predict_split(
    backbone: EncoderDecoder,
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
    (which is for passes with a graph) hold them.
    """
    runs, prompt_length = output.prompt.shape[:2]
    kind = answers.task.kind
    dtype = {"classification": np.int64, "regression": np.float64, "extraction": object}[kind]
    predictions = np.empty((runs, len(rows)), dtype=dtype)
    for positions in _batches(split.lengths[rows], runs, prompt_length, most_positions):
        batch = split.collate(rows[positions]).to(backbone.device)
        embeddings = backbone.embed(batch.input_ids).expand(runs, -1, -1, -1)
        mask = batch.attention_mask.expand(runs, -1, -1)
        predictions[:, positions] = _predict(backbone, *combine(output, embeddings, mask), answers).reshape(runs, -1)
    return predictions


def _batches(lengths: np.ndarray, runs: int, prompt_length: int, budget: int) -> list[np.ndarray]:
    """Index arrays into `lengths`, short rows first, each batch within `budget` positions over all runs.

    Without a graph several times as many positions fit as in training.
    """
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * runs * (prompt_length + lengths[order[stop]]) <= 4 * budget:
            stop += 1
        batches.append(order[start:stop])
        start = stop
    return batches


def _predict(backbone: EncoderDecoder, embeddings: Tensor, mask: Tensor, answers: Answers) -> np.ndarray:
    if answers.task.kind == "classification":
        return predict_labels(backbone, embeddings, mask, answers.label_ids()).cpu().numpy()
    if answers.task.kind == "regression":
        best = score_candidates(backbone, embeddings, mask, answers.label_ids()).argmax(1).cpu().numpy()
        return np.array([float(label) for label in answers.task.labels])[best]
    texts = [answers.text(pieces) for pieces in generate(backbone, embeddings, mask, MAX_ANSWER_PIECES)]
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
