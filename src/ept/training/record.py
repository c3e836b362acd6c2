"""What a finished pack leaves: the chosen learning rates, test predictions, prompts and the record of its runs."""

import resource
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ept.config.settings import SOURCE
from ept.evaluation.score import majority_predictions, predict_split, references, score
from ept.files import write_atomically, write_json
from ept.methods.base import MethodModule
from ept.methods.prompt_file import save_prompt
from ept.plan.pack import Pack
from ept.plan.paths import prompt_file
from ept.training.choose_source import SourceScores, build_runs
from ept.training.job import Job
from ept.training.runs import DIVERGED, Run, RunResult


@dataclass(frozen=True)
class Outcome:
    """What training a pack has brought; `costs` are seconds and rates."""

    runs: list[Run]
    results: list[RunResult]
    sources: SourceScores
    costs: dict[str, float]


def write_results(job: Job, outcome: Outcome) -> None:
    """Choose the learning rates, predict the test split with them and write all files, runs.json last.

    A source prompt is judged by its validation score and by what starts from it: its test split, which may be large, is
    not predicted.
    """
    runs, results = outcome.runs, outcome.results
    best = choose_rates(job, runs, results)
    chosen = [index for index, run in enumerate(runs) if run.learning_rates == best]
    predictions: dict[int, np.ndarray] = {}
    for group in [chosen] if job.method.packed else [[index] for index in chosen]:
        prompts = _trained(job, [runs[index] for index in group], [results[index] for index in group])
        for place, index in enumerate(group):
            _save(job, prompts, place, runs[index].seed)
        if job.pack.regime != SOURCE:
            predictions |= dict(zip(group, _predict_test(job, prompts, [results[i] for i in group]), strict=True))
        counts = {"trained_parameters": prompts.trained_parameters, "stored_parameters": prompts.stored_parameters}
        prompts.close()
    truth = references(job.test, np.arange(len(job.test)), job.task)
    tests = {index: score(job.task, prediction, truth) for index, prediction in predictions.items()}
    splits = {"train": job.train, "validation": job.validation, "test": job.test}
    pack = job.pack
    record = {
        **record_head(pack, job.config.backbone.name),
        **outcome.sources.record(),
        "learning_rates": best,
        **counts,
        "train_rows": pack.k or len(job.train),
        "validation_rows": len(job.validation_rows()),
        "test_rows": len(job.test),
        "split_rule": job.test.metadata["split_rule"],
        "data_fingerprints": {name: split.fingerprint for name, split in splits.items()},
        "majority_baseline": score(job.task, majority_predictions(job.task, job.train, len(job.test)), truth),
        **job.conditions(),
        "forward_positions": job.size.positions,
        **outcome.costs,
        "peak_memory_bytes": _peak_memory(job.backbone.device),
        "device_memory_bytes": _device_memory(job.backbone.device),
        "runs": [
            run_record(run, result, index in chosen, tests.get(index))
            for index, (run, result) in enumerate(zip(runs, results, strict=True))
        ],
    }
    write_settings(pack, record)
    if predictions:
        by_seed = {runs[index].seed: prediction for index, prediction in predictions.items()}
        with write_atomically(pack.folder / "predictions.parquet") as path:
            pq.write_table(_prediction_table(job, by_seed), path)
    write_json(pack.folder / "runs.json", record)


def choose_rates(job: Job, runs: list[Run], results: list[RunResult]) -> dict[str, float]:
    """The learning rates with the best mean validation score over seeds; a diverged run counts as the majority."""
    rows = job.validation_rows()
    majority = majority_predictions(job.task, job.train, len(rows))
    fallback = score(job.task, majority, references(job.validation, rows, job.task))[job.task.metrics[0]]
    scores: dict[tuple, list[float]] = {}
    for run, result in zip(runs, results, strict=True):
        counted = fallback if result.status == DIVERGED else result.best_score
        scores.setdefault(tuple(run.learning_rates.items()), []).append(counted)
    return dict(max(scores, key=lambda rates: float(np.mean(scores[rates]))))


def _trained(job: Job, runs: list[Run], results: list[RunResult]) -> MethodModule:
    """The prompts of these runs at their best checkpoints; a run without one stays at its start."""
    prompts = build_runs(job, [run.seed for run in runs])
    for place, result in enumerate(results):
        if result.best_tensors:
            prompts.load_tensors(place, result.best_tensors)
    return prompts


def record_head(pack: Pack, backbone: str) -> dict[str, str]:
    """What every runs.json begins with: which pack of which backbone it is."""
    return {
        "hash": pack.hash,
        "backbone": backbone,
        "method": pack.method,
        "task": pack.task,
        "regime": pack.regime,
    }


def write_settings(pack: Pack, record: dict) -> None:
    """settings.json beside a pack's runs, and beside its prompts with what its record says of their data and scores.

    `best_validation` is the first metric on the validation split in percent by seed (None: diverged before that).
    """
    settings = {"hash": pack.hash, "settings": pack.settings}
    write_json(pack.folder / "settings.json", settings)
    origin = {
        "data_fingerprints": record["data_fingerprints"],
        "best_validation": {str(run["seed"]): run["best_validation"] for run in record["runs"] if run["selected"]},
    }
    write_json(pack.prompts / "settings.json", settings | origin)


def prompt_metadata(job: Job, seed: int) -> dict[str, Any]:
    """What a prompt file says of its origin."""
    metadata = {
        "backbone": job.config.backbone.public_name,
        "backbone_identity": job.pack.settings["backbone"]["identity"],
        "method": job.pack.method,
        "task": job.pack.title,
        "hash": job.pack.hash,
        "seed": seed,
    }
    # Files without it are of encoder-decoders.
    return metadata if job.backbone.family.encoder_decoder else metadata | {"task_type": "CAUSAL_LM"}


def _save(job: Job, prompts: MethodModule, run: int, seed: int) -> None:
    path = prompt_file(job.pack.prompts, seed)
    save_prompt(path, prompts.tensors(run), prompts.collapse(run), prompt_metadata(job, seed))


def _predict_test(job: Job, prompts: MethodModule, results: list[RunResult]) -> list[np.ndarray]:
    """Test predictions [rows] of each run; the majority's where a run diverged."""
    rows = np.arange(len(job.test))
    with torch.inference_mode():
        output = prompts()
    predictions = predict_split(job.backbone, output, job.test, rows, job.answers, job.size.positions)
    majority = majority_predictions(job.task, job.train, len(rows))
    return [
        majority if result.status == DIVERGED else prediction
        for result, prediction in zip(results, predictions, strict=True)
    ]


def run_record(run: Run, result: RunResult, chosen: bool, test: dict[str, float] | None = None) -> dict:
    """What runs.json says of one run; `test` are its test scores where it was predicted."""
    return {
        "seed": run.seed,
        "learning_rates": run.learning_rates,
        "selected": chosen,
        "status": result.status,
        "steps": result.steps,
        "best_step": result.best_step,
        "best_validation": result.best_score if result.validation_curve else None,
        "validation_curve": result.validation_curve,
        "diagnostics": result.diagnostics,
        "test": test,
    }


def _prediction_table(job: Job, predictions: dict[int, np.ndarray]) -> pa.Table:
    """One row per seed and test example: what was predicted and what was right."""
    split, times = job.test, len(predictions)
    stacked = np.concatenate(list(predictions.values()))
    extraction = job.task.kind == "extraction"
    answers = [split.answers(row) for row in range(len(split))]
    return pa.table(
        {
            "seed": np.repeat(np.array(list(predictions), dtype=np.int64), len(split)),
            "id": pa.array(list(split.ids) * times, pa.string()),
            "group": pa.array(list(split.groups) * times, pa.string()),
            "label": np.tile(split.labels, times),
            "prediction": np.full(len(stacked), np.nan) if extraction else stacked.astype(np.float64),
            "text": pa.array(list(stacked) if extraction else [""] * len(stacked), pa.string()),
            "answers": pa.array(answers * times, pa.list_(pa.string())),
        }
    )


def _device_memory(device: torch.device) -> int | None:
    """What the GPU has in all; None on a CPU, whose memory jobs share."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
