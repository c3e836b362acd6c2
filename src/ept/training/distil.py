"""MPT's source training (Wang et al., ICLR 2023): one shared prompt distilled from the prompts of several tasks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone, LabelStates
from ept.data.dataset import Batch, TokenizedSplit
from ept.data.sampling import BatchOrder
from ept.methods.mpt import SharedPrompt
from ept.methods.prompt import ImageInput, PromptOutput, combine
from ept.training.choose_source import source_prompts
from ept.training.job import Job
from ept.training.step import ForwardSize, Piece, backward, cut


@dataclass(frozen=True)
class SourceTask:
    """A source task: its teacher, the prompt [1, length, hidden] that PT has trained on it, and its batches.

    `order` has one run: all runs of the source training see the same rows.
    """

    train: TokenizedSplit
    order: BatchOrder
    teacher: Tensor


@dataclass(frozen=True)
class TaskPiece(Piece):
    """Rows of one source task.

    `labels` and `positions` count label pieces and positions (prompt and text, without padding) of a run's whole batch,
    over which its losses are means.
    """

    task: int
    labels: int
    positions: int


@dataclass(frozen=True)
class DistillationInput:
    """The batches of one step, as `StepInput`."""

    pieces: list[TaskPiece]
    positions: int
    examples: int


class Distillation:
    """What source training minimizes.

    [known] L_task + weight · (L_logits + L_hidden) with PT's prompts as teachers; the shared prompt and the u and v of
    all tasks are trained jointly. [ours] Every step takes a batch of each task, and a loss is the mean over the tasks.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompts: SharedPrompt,
        tasks: list[SourceTask],
        weight: float,
        images: ImageInput | None = None,
    ):
        self.backbone, self.prompts, self.tasks, self.weight = backbone, prompts, tasks, weight
        self.images = images

    def take(self, step: int, alive: list[int], size: ForwardSize) -> DistillationInput:
        """The input of a step (counted from 0): a batch of each task, cut into pieces."""
        pieces: list[TaskPiece] = []
        longest, examples = 0, 0
        for number, task in enumerate(self.tasks):
            rows, length = task.order.batch(step), task.teacher.shape[1]
            labels = int(task.train.target_lengths[rows].sum())
            positions = int(task.train.lengths[rows].sum()) + rows.size * (length + task.train.patches)
            for piece in cut(task.train, np.repeat(rows, len(alive), axis=0), length, size):
                pieces.append(TaskPiece(piece.first, piece.last, piece.batch, number, labels, positions))
            longest = max(longest, length + task.train.patches + int(task.train.lengths[rows].max()))
            examples += rows.size * len(alive)
        return DistillationInput(pieces, longest, examples)

    def accumulate(self, alive: list[int], found: DistillationInput) -> Tensor:
        """Add the gradients of one step to the pack's parameters and return the loss of each living run, [alive]."""
        made = [self.prompts.of_task(task).prompt[alive] for task in range(len(self.tasks))]
        leaves = [prompt.detach().requires_grad_() for prompt in made]
        losses = torch.zeros(len(alive), 3, device=self.backbone.device)
        for piece in found.pieces:
            parts = self._losses(leaves[piece.task][piece.first : piece.last], piece) / len(self.tasks)
            self._total(parts).sum().backward()
            losses[piece.first : piece.last] += parts.detach()
        backward([(prompt, leaf.grad) for prompt, leaf in zip(made, leaves, strict=True) if leaf.grad is not None])
        self.prompts.losses = dict(zip(alive, losses, strict=True))
        return self._total(losses)

    def close(self) -> None:
        """Nothing is open."""

    def _total(self, losses: Tensor) -> Tensor:
        return losses[:, 0] + self.weight * losses[:, 1:].sum(1)

    def _losses(self, prompts: Tensor, piece: TaskPiece) -> Tensor:
        """A piece's part of the three losses [runs, 3] with the students' prompts [runs, length, hidden]."""
        batch = piece.batch.to(self.backbone.device)
        # Every run has the same rows: the teacher reads them once.
        rows = batch.slice(0, len(batch.input_ids) // len(prompts))
        with torch.no_grad():
            teacher, mask = self._states(self.tasks[piece.task].teacher, rows)
        student, _ = self._states(prompts, batch)
        task, logits, decoded, encoded = loss_sums(student, teacher, mask, rows.target_ids)
        hidden = decoded / piece.labels + encoded / piece.positions
        return torch.stack([task / piece.labels, logits / piece.labels, hidden], 1)

    def _states(self, prompts: Tensor, batch: Batch) -> tuple[LabelStates, Tensor]:
        """What the backbone computes with prompts [runs, length, hidden] before their runs' rows, and the mask."""
        runs = len(prompts)
        embeddings = self.backbone.embed(batch.input_ids).unflatten(0, (runs, -1))
        mask = batch.attention_mask.unflatten(0, (runs, -1))
        output = PromptOutput(prompts, None, images=self.images)
        embeddings, mask = combine(output, embeddings, mask, batch.features_of(runs))
        return self.backbone.label_states(embeddings, mask, batch.target_ids), mask


def loss_sums(student: LabelStates, teacher: LabelStates, mask: Tensor, target_ids: Tensor) -> tuple[Tensor, ...]:
    """Four sums for each run, float32 [runs]: of three over the label pieces, of the last over the positions.

    `teacher` holds what the backbone computes for the rows of one run with the teacher's prompt, `student` the same for
    all runs, run by run; `mask` [rows, positions] with 1 at prompt and pieces, `target_ids` [rows, target_length].

    - [known] task: cross-entropy of the label.
    - [known] logits: KL(teacher || student) over the vocabulary; [ours] at temperature 1.
    - [known] hidden states: mean squared difference; [ours] of the decoder's output and of the encoder's, added.
    """
    runs = len(student.encoded) // len(teacher.encoded)

    def by_run(values: Tensor) -> Tensor:
        return values.float().unflatten(0, (runs, -1))

    labels = target_ids[target_ids != -100].expand(runs, -1).unsqueeze(2)
    logs, taught = by_run(student.logits).log_softmax(-1), teacher.logits.log_softmax(-1)
    task = -logs.gather(2, labels).sum((1, 2))
    logits = (taught.exp() * (taught - logs)).sum((1, 2))
    decoded = (by_run(student.decoded) - teacher.decoded.float()).square().mean(2).sum(1)
    encoded = (by_run(student.encoded) - teacher.encoded.float()).square().mean(3)
    return task, logits, decoded, encoded[:, mask.bool()].sum(1)


def distillation(job: Job, prompts: SharedPrompt) -> Distillation:
    """The objective of a distilled prompt; its teachers are the source prompts of its tasks, as they stand."""
    seed = job.pack.seeds[0]
    teachers = source_prompts(job)().prompt.detach().split(1)
    tasks = [
        SourceTask(
            part.train,
            BatchOrder(part.train.lengths, part.train_rows(seed)[None], [seed], part.settings.batch_size),
            teacher,
        )
        for part, teacher in zip(job.parts, teachers, strict=True)
    ]
    return Distillation(job.backbone, prompts, tasks, job.config.mpt.distillation_weight, job.images)
