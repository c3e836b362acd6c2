"""MPT's source training (Wang et al., ICLR 2023): one shared prompt distilled from the prompts of several tasks."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ept.backbones.encoder_decoder import EncoderDecoder, LabelStates
from ept.data.batches import BatchOrder
from ept.data.tokenized import Batch
from ept.evaluation.split import predict_split, references, score
from ept.prompts.base import PromptOutput
from ept.prompts.combine import combine
from ept.prompts.multitask import SharedPrompt
from ept.training.load import Job
from ept.training.loop import Run, RunResult
from ept.training.optimiser import PackedAdam, linear_schedule
from ept.training.progress import Progress
from ept.training.settings import TrainingSettings

LOSSES = ("task_loss", "logits_loss", "hidden_loss")


@dataclass(frozen=True)
class SourceTask:
    """A source task, its teacher (the prompt that PT has trained on it, [1, length, hidden]) and its batches."""

    job: Job
    teacher: Tensor
    order: BatchOrder

    @staticmethod
    def of(job: Job, teacher: Tensor, batch_size: int) -> "SourceTask":
        """With batches in the order of the pack's one seed, the same for all of its runs."""
        seed = job.pack.seeds[0]
        rows = job.train_rows(seed)[None]
        return SourceTask(job, teacher, BatchOrder(job.train.lengths, rows, [seed], batch_size))


def distil(
    backbone: EncoderDecoder,
    prompts: SharedPrompt,
    runs: list[Run],
    tasks: list[SourceTask],
    steps: int,
    settings: TrainingSettings,
    weight: float,
    progress: Progress,
) -> tuple[list[RunResult], float]:
    """Train all runs and return their results and the seconds spent in optimiser steps (without validation).

    [known] A run's loss is L_task + weight · (L_logits + L_hidden) over the source tasks. [ours] Every step takes a
    batch of each task and the mean over the tasks; the best checkpoint is that of the best mean of the tasks' first
    metrics on validation.
    """
    groups = prompts.parameter_groups()
    rates = {name: torch.tensor([run.learning_rates[name] for run in runs], device=backbone.device) for name in groups}
    optimiser = PackedAdam(groups, rates, settings.clip_norm)
    results = [RunResult() for _ in runs]
    alive = torch.ones(len(runs), dtype=torch.bool, device=backbone.device)
    seconds = 0.0
    for step in range(steps):
        started = time.perf_counter()
        losses = torch.stack(
            [task_gradients(backbone, prompts, index, tasks, step, weight) for index in range(len(tasks))]
        ).mean(0)
        alive &= losses.isfinite().all(1)
        optimiser.step(linear_schedule(step, settings.warmup_steps, steps), alive)
        living = alive.tolist()
        seconds += time.perf_counter() - started
        for result, lives in zip(results, living, strict=True):
            result.steps, result.status = (step + 1, "finished") if lives else (result.steps, "diverged")
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == steps:
            _keep_best(results, prompts, _validate(backbone, prompts, tasks), losses, step + 1)
            progress.validated(max(result.best_score for result in results))
        progress.step(step + 1, sum(task.order.batch_size for task in tasks) * len(runs), sum(living), len(runs))
        if not any(living):
            break
    progress.close()
    return results, seconds


def task_gradients(
    backbone: EncoderDecoder, prompts: SharedPrompt, index: int, tasks: list[SourceTask], step: int, weight: float
) -> Tensor:
    """Add one task's part of a step's gradients to the prompts' parameters and return its losses, [runs, 3].

    All runs see the same rows, so the teacher reads them once. The backbone sees as many runs at a time as fit its
    forward budget.
    """
    task = tasks[index]
    batch = task.job.train.collate(task.order.batch(step)[0]).to(backbone.device)
    with torch.no_grad():
        teacher, mask = _states(backbone, task.teacher, batch)
    made = prompts.of_task(index).prompt
    leaf = made.detach().requires_grad_()
    losses = []
    for part in leaf.split(max(1, backbone.forward_positions // mask.numel())):
        student, _ = _states(backbone, part, batch)
        found = distillation_losses(student, teacher, mask, batch.target_ids)
        total = found[:, 0] + weight * found[:, 1:].sum(1)
        (total.sum() / len(tasks)).backward()
        losses.append(found.detach())
    made.backward(leaf.grad)
    return torch.cat(losses)


def distillation_losses(student: LabelStates, teacher: LabelStates, mask: Tensor, target_ids: Tensor) -> Tensor:
    """Task, logits and hidden loss of each run, float32 [runs, 3].

    `teacher` holds what the backbone computes for the rows of one batch with the teacher's prompt, `student` the same
    for all runs, run by run; `mask` [rows, positions] with 1 at prompt and pieces, `target_ids` [rows, target_length].

    - [known] task: cross-entropy, mean over the label pieces.
    - [known] logits: KL(teacher || student) over the vocabulary; [ours] at temperature 1, mean over the label pieces.
    - [known] hidden: mean squared difference of hidden states; [ours] of the encoder's output over prompt and text,
      plus that of the decoder's output over the label pieces.
    """
    runs = len(student.encoded) // len(teacher.encoded)
    labels = target_ids[target_ids != -100].expand(runs, -1).unsqueeze(2)
    logs = _by_run(student.logits, runs).log_softmax(-1)
    taught = teacher.logits.log_softmax(-1)
    task = -logs.gather(2, labels).mean((1, 2))
    divergence = (taught.exp() * (taught - logs)).sum(2).mean(1)
    encoded = (_by_run(student.encoded, runs) - teacher.encoded.float()).square().mean(3)
    decoded = (_by_run(student.decoded, runs) - teacher.decoded.float()).square()
    hidden = encoded[:, mask.bool()].mean(1) + decoded.mean((1, 2))
    return torch.stack([task, divergence, hidden], 1)


def _by_run(values: Tensor, runs: int) -> Tensor:
    return values.float().unflatten(0, (runs, -1))


def _states(backbone: EncoderDecoder, prompt: Tensor, batch: Batch) -> tuple[LabelStates, Tensor]:
    """What the backbone computes for a batch with each of the prompts [runs, length, hidden], and one run's mask."""
    runs = len(prompt)
    embeddings = backbone.embed(batch.input_ids).expand(runs, -1, -1, -1)
    mask = batch.attention_mask.expand(runs, -1, -1)
    embeddings, mask = combine(PromptOutput(prompt, None), embeddings, mask)
    states = backbone.label_states(embeddings, mask, batch.target_ids.repeat(runs, 1))
    return states, mask[: len(batch.input_ids)]


def _validate(backbone: EncoderDecoder, prompts: SharedPrompt, tasks: list[SourceTask]) -> np.ndarray:
    """The mean over the tasks of their first metric on validation, [runs]."""
    scores = []
    for index, task in enumerate(tasks):
        job, rows = task.job, task.job.validation_rows()
        with torch.inference_mode():
            output = prompts.of_task(index)
        predictions = predict_split(backbone, output, job.validation, rows, job.answers)
        truth = references(job.validation, rows, job.task)
        scores.append([score(job.task, prediction, truth)[job.task.metrics[0]] for prediction in predictions])
    return np.mean(scores, axis=0)


def _keep_best(results: list[RunResult], prompts: SharedPrompt, scores: np.ndarray, losses: Tensor, step: int) -> None:
    for index, (result, found, parts) in enumerate(zip(results, scores.tolist(), losses.tolist(), strict=True)):
        if result.status == "diverged":
            continue
        result.validation_curve.append((step, found))
        result.diagnostics.append({"step": step, **dict(zip(LOSSES, parts, strict=True))})
        if found > result.best_score:
            result.best_score, result.best_step = found, step
            result.best_tensors = {name: tensor.clone() for name, tensor in prompts.tensors(index).items()}
