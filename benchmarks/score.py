"""Time to a validation score: a grid of nine on the demonstration benchmark, by us and run by run."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import T5ForConditionalGeneration, TrainerCallback

from benchmarks import backbones
from benchmarks.data import TaskData, open_task
from benchmarks.ours import SEEDS, Pack, SizedBackbone, sized
from benchmarks.plan import Plan
from benchmarks.theirs import GROUPED, Rows, make_trainer, pad, peft_prompt_tuning
from ept.backbones.load import load_backbone
from ept.data.fetch import fetch
from ept.data.prepare import tokenize_task
from ept.data.source import DataSource, identity
from ept.data.tokenizer import load_pieces
from ept.demo.identity import BACKBONE_FOLDER
from ept.tasks.registry import get_task
from ept.training.optimizer import linear_schedule


@dataclass(frozen=True, kw_only=True)
class Race:
    """The defaults are those of config/config.yaml, with a grid of nine."""

    task: str = "sst2"
    score: float = 90.0
    """Validation accuracy in percent that counts as arrived."""
    runs: int = 9
    steps: int = 200
    """A run that has not arrived by then never does."""
    warmup: int = 20
    evaluate_every: int = 20
    validation_rows: int = 100
    batch_size: int = 8
    padding: int = 64
    length: int = 16
    short_length: int = 10
    positions: int | None = None
    """As in Plan."""


def time_to_score(race: Race) -> dict:
    """Seconds until three seeds of one learning rate have all arrived, with the whole grid trained as long, in float32.

    `peft_pt_grouped`: the three seeds are run one after another, each until it arrives, and the sum is multiplied by
    runs / 3. `pt`, `ept`: the pack of all runs, until the last of the three arrives. None where one never did.
    """
    with tempfile.TemporaryDirectory(prefix="ept-bench-") as folder:
        task = _demo_task(race.task, Path(folder))
        rows = np.random.default_rng(0).permutation(len(task.validation))[: race.validation_rows]
        alone = [_peft_arrival(race, task, rows, seed, folder) for seed in range(SEEDS)]
        arrivals = {"peft_pt_grouped": _summary(alone, race.runs / SEEDS)}
        backbone = sized(load_backbone(BACKBONE_FOLDER, dtype="float32", device=backbones.device()), race.positions)
        for method in ("pt", "ept"):
            arrivals[method] = _pack_arrival(race, backbone, method, task, rows)
    return {**{name: getattr(race, name) for name in ("task", "score", "runs")}, "arrivals": arrivals}


def _demo_task(name: str, folder: Path) -> TaskData:
    task, source = get_task(name), DataSource("demo")
    fetch(task, source, folder / "raw")
    tokenize_task(task, folder / "raw", BACKBONE_FOLDER, 64, folder / "tokens", identity(source, task))
    pieces = load_pieces(BACKBONE_FOLDER)
    return open_task(name, folder / "tokens", [pieces.label(label) for label in task.labels])


class _Arrival(TrainerCallback):
    """Evaluates as the Trainer does and stops the run where it arrives."""

    def __init__(self, score: float):
        self.score = score
        self.started = time.perf_counter()
        self.step, self.seconds = None, None

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if metrics["eval_accuracy"] >= self.score:
            self.step, self.seconds = state.global_step, time.perf_counter() - self.started
            control.should_training_stop = True


def _accuracy(prediction) -> dict[str, float]:
    """Percent of rows whose generated pieces begin with those of the label."""
    written = prediction.predictions[:, 1:]
    labels = prediction.label_ids
    labels = np.where(labels < 0, 0, labels)[:, : written.shape[1]]
    return {"accuracy": 100 * float((written[:, : labels.shape[1]] == labels).all(1).mean())}


def _peft_arrival(race: Race, task: TaskData, rows: np.ndarray, seed: int, folder: str) -> tuple:
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER, dtype=torch.float32)
    arrival = _Arrival(race.score)
    trainer = make_trainer(
        peft_prompt_tuning(model, race.length),
        Rows(task.train, np.arange(len(task.train))),
        folder,
        race.steps,
        race.batch_size,
        dict(seed=seed, warmup_steps=race.warmup, eval_strategy="steps", eval_steps=race.evaluate_every, **GROUPED),
        eval_dataset=Rows(task.validation, rows[np.argsort(task.validation.lengths[rows], kind="stable")]),
        data_collator=pad,
        compute_metrics=_accuracy,
        callbacks=[arrival],
    )
    trainer.train()
    return arrival.step, arrival.seconds


def _summary(arrivals: list[tuple], factor: float) -> dict:
    steps, seconds = zip(*arrivals, strict=True)
    if None in steps:
        return {"steps": list(steps), "seconds": None}
    return {"steps": list(steps), "seconds": factor * sum(seconds)}


def _pack_arrival(race: Race, backbone: SizedBackbone, method: str, task: TaskData, rows: np.ndarray) -> dict:
    plan = replace(
        Plan(), batch_size=race.batch_size, length=race.length, short_length=race.short_length, padding=race.padding
    )
    pack = Pack(backbone, method, race.runs, task, plan)
    truth = task.validation.labels[rows]
    steps: list[int | None] = [None] * SEEDS
    started = time.perf_counter()
    for step in range(race.steps):
        pack.step(pack.order.batch(step), linear_schedule(step, race.warmup, race.steps))
        if (step + 1) % race.evaluate_every:
            continue
        scores = 100 * (pack.predict(task.validation, rows) == truth).mean(1)
        steps = [
            step + 1 if seen is None and score >= race.score else seen
            for seen, score in zip(steps, scores[:SEEDS], strict=True)
        ]
        if None not in steps:
            return {"steps": steps, "seconds": time.perf_counter() - started}
    return {"steps": steps, "seconds": None}
