"""Time to the same table cell: a grid of nine runs, its rate chosen on validation, test scores with an interval.

PEFT under the Trainer trains the nine runs one after another in one process; ours in one pack, with and without
halving of the grid. Each is timed from the start of its process.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from transformers import TrainerCallback

from benchmarks.backbones import device, has_bfloat16, make_t5
from benchmarks.data import TaskData
from benchmarks.ours import RATES, Pack, sized
from benchmarks.plan import Plan
from benchmarks.theirs import EVALUATION_BATCH, GROUPED, Rows, make_trainer, pad, peft_prompt_tuning, quieten
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.config.settings import TrainingSettings
from ept.results.statistics import Sample, estimate
from ept.training.loop import label_loss, train_runs
from ept.training.progress import Progress
from ept.training.runs import Run, choose_rates

RESAMPLES = 1000
PEFT, OURS = "peft_pt", ("pt", "ept")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is trained for one cell of a table. The defaults are those of `make bench-full`."""

    steps: int = 300
    evaluate_every: int = 50
    rates: tuple[float, ...] = (0.1, 0.3, 0.5)
    seeds: int = 3
    batch_size: int = 16
    validation_rows: int = 128
    test_rows: int = 256
    peft_runs: int = 9
    """How many of PEFT's runs are trained; the others are taken to last as long."""

    @property
    def runs(self) -> list[tuple[float, int]]:
        """Rate and seed of each run."""
        return [(rate, seed) for rate in self.rates for seed in range(self.seeds)]


SHORT = Cell(steps=60, evaluate_every=10, batch_size=8, validation_rows=64, test_rows=128, peft_runs=3)
"""That of `make bench`."""


def time_to_cell(cell: Cell, plan: Plan, task: TaskData, threads: int) -> dict:
    """Seconds to the cell of each way, and how many times as fast as PEFT the others are."""
    dtype = "bfloat16" if has_bfloat16() else "float32"
    ways = {PEFT: (_peft, ()), **{method: (_pack, (method, 0)) for method in OURS}}
    ways |= {f"{method}, halving": (_pack, (method, 2)) for method in OURS}
    found = {}
    context = multiprocessing.get_context("spawn")
    for name, (way, arguments) in ways.items():
        started = time.perf_counter()
        with ProcessPoolExecutor(1, context) as pool:
            began, per_run, estimated = pool.submit(
                _timed, way, (cell, plan, task, dtype, *arguments), threads
            ).result()
        seconds = time.perf_counter() - started
        if name == PEFT:
            seconds += per_run * (len(cell.runs) - cell.peft_runs)
        found[name] = {"seconds": seconds, "import_cpu_seconds": began, "interval": estimated}
    ratios = {name: found[PEFT]["seconds"] / record["seconds"] for name, record in found.items()}
    settings = {"task": task.name, "dtype": dtype, "steps": cell.steps, "runs": len(cell.runs)}
    return {**settings, "peft_runs": cell.peft_runs, "ways": found, "ratios": ratios}


def _timed(way, arguments: tuple, threads: int) -> tuple:
    """In a process of its own: CPU seconds until it has imported everything, and what the way returns."""
    began = time.process_time()
    quieten()
    torch.set_num_threads(threads)
    return began, *way(*arguments)


def _rows(cell: Cell, task: TaskData) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test rows, both of the validation split and sorted by length."""
    split = task.validation
    order = np.random.default_rng(0).permutation(len(split))
    parts = order[: cell.validation_rows], np.resize(order[::-1], cell.test_rows)
    first, second = (part[np.argsort(split.lengths[part], kind="stable")] for part in parts)
    return first, second


def _interval(right: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean over seeds; `right` [seeds, rows] says which rows are."""
    drawn = np.random.default_rng(0).integers(0, right.shape[1], (RESAMPLES, right.shape[1]))
    resampled = 100 * right[:, drawn].mean(2).T
    sample = Sample(100 * right.mean(1), resampled, right.shape[1], share=True)
    return estimate([sample]).interval


# ---- PEFT under the Trainer ------------------------------------------------------------------------------------------


class _Validation(TrainerCallback):
    """Scores the prompt regularly and keeps the best one."""

    def __init__(self, model: torch.nn.Module, dataset: Rows, pieces: list[list[int]], every: int):
        self.model, self.dataset, self.pieces, self.every = model, dataset, pieces, every
        self.best, self.prompt = -1.0, None

    def on_step_end(self, args, state, control, **kwargs):
        """Score."""
        if state.global_step % self.every == 0:
            score = float(_written(self.model, self.dataset, self.pieces).mean())
            if score > self.best:
                self.best = score
                self.prompt = {name: value.clone() for name, value in self.model.prompt_encoder.state_dict().items()}
            self.model.train()


def _written(model: torch.nn.Module, dataset: Rows, pieces: list[list[int]]) -> np.ndarray:
    """Which rows have their label written, [rows]."""
    model.eval()
    fewest = max(map(len, pieces)) - 1
    right = []
    with torch.inference_mode():
        for start in range(0, len(dataset), EVALUATION_BATCH):
            batch = pad(dataset.rows[start : start + EVALUATION_BATCH])
            inputs = {name: batch[name].to(device()) for name in ("input_ids", "attention_mask")}
            found = model.generate(**inputs, max_new_tokens=fewest, do_sample=False, num_beams=1)[:, 1 : 1 + fewest]
            labels = batch["labels"][:, : found.shape[1]].to(found.device)
            right.append((found == labels).all(1).cpu().numpy())
    return np.concatenate(right)


def _peft(cell: Cell, plan: Plan, task: TaskData, dtype: str) -> tuple[float, tuple[float, float]]:
    """Seconds of one run, and the interval of the chosen rate."""
    backbone = make_t5(plan.shape, dtype)
    rows, test = _rows(cell, task)
    validation, train = Rows(task.validation, rows), Rows(task.train, np.arange(len(task.train)))
    found: dict[float, list[_Validation]] = {}
    seconds = []
    with tempfile.TemporaryDirectory(prefix="ept-bench-") as folder:
        for rate, seed in cell.runs[: cell.peft_runs]:
            started = time.perf_counter()
            model = peft_prompt_tuning(backbone, plan.length)
            model.prompt_encoder.float()
            scored = _Validation(model, validation, task.label_ids, cell.evaluate_every)
            arguments = GROUPED | {"seed": seed, "learning_rate": rate}
            parts = {"data_collator": pad, "callbacks": [scored]}
            make_trainer(model, train, folder, cell.steps, cell.batch_size, arguments, **parts).train()
            found.setdefault(rate, []).append(scored)
            seconds.append(time.perf_counter() - started)
    chosen = max(found.values(), key=lambda runs: fmean(run.best for run in runs))
    right = []
    for run in chosen:
        run.model.prompt_encoder.load_state_dict(run.prompt)
        right.append(_written(run.model, Rows(task.validation, test), task.label_ids))
    return fmean(seconds), _interval(np.array(right))


# ---- One pack of ours ------------------------------------------------------------------------------------------------


def _pack(cell: Cell, plan: Plan, task: TaskData, dtype: str, method: str, halving: int) -> tuple:
    """Seconds of one run's share, and the interval of the chosen rate."""
    started = time.perf_counter()
    positions = plan.positions if dtype == "float32" else plan.positions_bfloat16
    backbone = sized(EncoderDecoder(make_t5(plan.shape, dtype)), positions)
    pack = Pack(backbone, method, len(cell.runs), task, replace(plan, batch_size=cell.batch_size))
    groups = pack.prompts.parameter_groups()
    runs = [Run(seed, {name: rate * RATES[name] / RATES["prompt"] for name in groups}) for rate, seed in cell.runs]
    settings = TrainingSettings(
        steps=cell.steps, warmup_steps=cell.steps // 10, evaluate_every=cell.evaluate_every, halving=halving
    )
    rows, test = _rows(cell, task)
    labels = task.validation.labels

    def validate(alive: list[int]) -> np.ndarray:
        return 100 * (pack.predict(task.validation, rows, alive) == labels[rows]).mean(1)

    every = np.tile(np.arange(len(task.train)), (len(runs), 1))
    objective = label_loss(backbone.backbone, pack.prompts, runs, task.train, every, cell.batch_size)
    results, _ = train_runs(
        pack.prompts, runs, objective, cell.steps, settings, backbone.size, validate, Progress(method, cell.steps)
    )
    rates = choose_rates(runs, results, 0.0)
    chosen = [number for number, run in enumerate(runs) if run.learning_rates == rates]
    for number in chosen:
        pack.prompts.load_tensors(number, results[number].best_tensors)
    right = pack.predict(task.validation, test, chosen) == labels[test]
    return (time.perf_counter() - started) / len(runs), _interval(right)
