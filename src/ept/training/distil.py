"""MPT's source training (Wang et al., ICLR 2023): one shared prompt distilled from the prompts of several tasks."""

import shutil
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ept.backbones.backbone import Backbone, LabelStates
from ept.config.settings import steps_for
from ept.data.dataset import Batch, TokenizedSplit
from ept.data.sampling import BatchOrder
from ept.files import write_json
from ept.methods.combine import combine
from ept.methods.mpt import SharedPrompt
from ept.methods.prompt import PromptOutput
from ept.methods.prompt_file import save_prompt
from ept.methods.registry import get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.training.checkpoint import Checkpoint
from ept.training.choose_source import build_prompts, candidate_prompts
from ept.training.job import Job, load_jobs, runs_of
from ept.training.loop import Validate, train_runs
from ept.training.progress import Progress
from ept.training.record import prompt_metadata, record_head, run_record, write_settings
from ept.training.runs import Run, RunResult
from ept.training.step import ForwardSize, Piece, cut
from ept.training.train import validation


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
    """Rows of one source task. `labels` and `positions` count label pieces and positions (prompt and text, without
    padding) of a run's whole batch, over which its losses are means."""

    task: int
    labels: int
    positions: int


@dataclass(frozen=True)
class DistillationInput:
    """The batches of one step, as `ept.training.inputs.StepInput`."""

    pieces: list[TaskPiece]
    positions: int
    examples: int


class Distillation:
    """What source training minimizes.

    [known] L_task + weight · (L_logits + L_hidden) with PT's prompts as teachers; the shared prompt and the u and v of
    all tasks are trained jointly. [ours] Every step takes a batch of each task, and a loss is the mean over the tasks.
    """

    def __init__(self, backbone: Backbone, tasks: list[SourceTask], weight: float):
        self.backbone, self.tasks, self.weight = backbone, tasks, weight

    def take(self, step: int, alive: list[int], size: ForwardSize) -> DistillationInput:
        """A batch of each task, cut into pieces."""
        pieces, longest, examples = [], 0, 0
        for number, task in enumerate(self.tasks):
            rows, length = task.order.batch(step), task.teacher.shape[1]
            labels = int(task.train.target_lengths[rows].sum())
            positions = int(task.train.lengths[rows].sum()) + rows.size * length
            for piece in cut(task.train, np.repeat(rows, len(alive), axis=0), length, size):
                pieces.append(TaskPiece(piece.first, piece.last, piece.batch, number, labels, positions))
            longest = max(longest, length + int(task.train.lengths[rows].max()))
            examples += rows.size * len(alive)
        return DistillationInput(pieces, longest, examples)

    def accumulate(self, prompts: SharedPrompt, alive: list[int], found: DistillationInput) -> Tensor:
        """Add the gradients of one step to the prompts' parameters and return the loss of each living run, [alive]."""
        made = [prompts.of_task(task).prompt[alive] for task in range(len(self.tasks))]
        leaves = [prompt.detach().requires_grad_() for prompt in made]
        losses = torch.zeros(len(alive), 3, device=self.backbone.device)
        for piece in found.pieces:
            parts = self._losses(leaves[piece.task][piece.first : piece.last], piece) / len(self.tasks)
            self._total(parts).sum().backward()
            losses[piece.first : piece.last] += parts.detach()
        torch.autograd.backward(made, [leaf.grad for leaf in leaves])
        prompts.losses = dict(zip(alive, losses, strict=True))
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
            teacher, mask = _states(self.backbone, self.tasks[piece.task].teacher, rows)
        student, _ = _states(self.backbone, prompts, batch)
        task, logits, decoded, encoded = loss_sums(student, teacher, mask, rows.target_ids)
        hidden = decoded / piece.labels + encoded / piece.positions
        return torch.stack([task / piece.labels, logits / piece.labels, hidden], 1)


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


def _states(backbone: Backbone, prompts: Tensor, batch: Batch) -> tuple[LabelStates, Tensor]:
    """What the backbone computes with prompts [runs, length, hidden] before the rows of their runs, and the mask."""
    runs = len(prompts)
    embeddings = backbone.embed(batch.input_ids).unflatten(0, (runs, -1))
    mask = batch.attention_mask.unflatten(0, (runs, -1))
    embeddings, mask = combine(PromptOutput(prompts, None), embeddings, mask)
    return backbone.label_states(embeddings, mask, batch.target_ids), mask


def distil_job(experiment: Experiment, pack: Pack, threads: int, checkpoint_seconds: float) -> None:
    """Train the `multitask` pack, as `train_job` does; write the prompt, settings.json and, last, runs.json."""
    started = time.perf_counter()
    jobs = load_jobs(experiment, pack.candidates, threads)
    # Settings and backbone are those of every source task; the first also lends its labels to prompts that need some.
    job = replace(jobs[0], pack=pack)
    runs = runs_of(pack)
    prompts = SharedPrompt(
        build_prompts(job, [run.seed for run in runs], get_method(pack.method).source_method), len(jobs)
    )
    steps = steps_for(job.settings, sum(job.train.metadata["rows_published_train"] for job in jobs))
    checkpoint = Checkpoint(
        pack.checkpoints / "part0.safetensors",
        identity={"hash": pack.hash, "data": [job.train.fingerprint for job in jobs]},
        conditions=job.conditions(),
        seconds=checkpoint_seconds,
        began=started,
    )
    checkpoint.stop_on_signal()
    results, seconds = train_runs(
        prompts,
        runs,
        Distillation(job.backbone, source_tasks(job, jobs), job.config.mpt.distillation_weight),
        steps,
        job.settings,
        job.size,
        mean_validation(jobs),
        Progress(f"{pack.method} source training on {pack.title}", steps),
        checkpoint,
    )
    wall_seconds = checkpoint.seconds_before + time.perf_counter() - started
    costs = {"train_seconds": seconds, "wall_seconds": wall_seconds}
    _write(job, jobs, prompts, runs, results, costs)
    shutil.rmtree(pack.checkpoints, ignore_errors=True)


def source_tasks(job: Job, jobs: list[Job]) -> list[SourceTask]:
    """The source tasks with their teachers, the trained prompts of the pack's candidates, as they stand."""
    seed = job.pack.seeds[0]
    teachers = candidate_prompts(job).prompt.detach().split(1)
    return [
        SourceTask(
            task.train,
            BatchOrder(task.train.lengths, task.train_rows(seed)[None], [seed], task.settings.batch_size),
            teacher,
        )
        for task, teacher in zip(jobs, teachers, strict=True)
    ]


def mean_validation(jobs: list[Job]) -> Validate:
    """The mean over the source tasks of their first metric, each with its own prompt [ours]."""
    tasks = [validation(job) for job in jobs]

    def validate(prompts: SharedPrompt, alive: list[int]) -> np.ndarray:
        scores = [scores_of(partial(prompts.of_task, task), alive) for task, scores_of in enumerate(tasks)]
        return np.mean(scores, axis=0)

    return validate


def _write(
    job: Job, jobs: list[Job], prompts: SharedPrompt, runs: list[Run], results: list[RunResult], costs: dict[str, float]
) -> None:
    """Keep the run with the best validation score: its best checkpoint is what target tasks start from."""
    pack = job.pack
    best = max(range(len(runs)), key=lambda run: results[run].best_score)
    if results[best].best_tensors:
        prompts.load_tensors(best, results[best].best_tensors)
    tensors = prompts.target_tensors(best)
    save_prompt(pack.source_prompt, tensors, prompts.collapse(best), prompt_metadata(job, runs[best].seed))
    record = {
        **record_head(pack, job.config.backbone.name),
        "source": pack.title,
        "learning_rates": runs[best].learning_rates,
        "trained_parameters": prompts.trained_parameters,
        "stored_parameters": sum(tensor.numel() for tensor in tensors.values()),
        "data_fingerprints": {
            job.task.name: {"train": job.train.fingerprint, "validation": job.validation.fingerprint} for job in jobs
        },
        **job.conditions(),
        **costs,
        "runs": [
            run_record(run, result, number == best)
            for number, (run, result) in enumerate(zip(runs, results, strict=True))
        ],
    }
    write_settings(pack, record)
    write_json(pack.folder / "runs.json", record)
