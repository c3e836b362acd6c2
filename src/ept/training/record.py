"""What a finished pack leaves: the chosen learning rates, test predictions, prompts and the record of its runs."""

import math
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import ept
from ept.config.settings import SOURCE
from ept.evaluation.score import (
    Predictions,
    constant_predictions,
    noteworthy,
    predict_split_both,
    references,
    score,
)
from ept.files import DIGESTS, sha256_file, write_atomically, write_json
from ept.methods.base import MethodModule
from ept.methods.prompt_file import save_prompt
from ept.plan.paths import prompt_file
from ept.training.choose_source import SourceChoice, build_runs
from ept.training.job import Job
from ept.training.measure import device_memory, peak_memory
from ept.training.runs import DIVERGED, Run, RunResult, choose_rates


@dataclass(frozen=True)
class Outcome:
    """What training a pack has brought; `costs` are seconds and rates."""

    runs: list[Run]
    results: list[RunResult]
    sources: SourceChoice
    costs: dict[str, float]


@dataclass(frozen=True)
class Tested:
    """The test predictions of one run, [rows], by the task's own rule, open and closed (None for free text)."""

    reported: np.ndarray
    open: np.ndarray
    closed: np.ndarray | None
    invalid_share: float | None


def write_results(job: Job, outcome: Outcome) -> None:
    """Choose the learning rates, predict the test split with them and write all files, settings.json last.

    A source prompt is judged by its validation score and by what starts from it; its test split, which may be large, is
    not predicted.
    """
    runs, results = outcome.runs, outcome.results
    best = choose_rates(runs, results, majority_validation(job))
    chosen = [index for index, run in enumerate(runs) if run.learning_rates == best]
    truth = references(job.test, np.arange(len(job.test)), job.task)
    predictions: dict[int, Tested] = {}
    tests: dict[int, dict[str, Any]] = {}
    for group in [chosen] if job.method.packed else [[index] for index in chosen]:
        prompts = _trained(job, [runs[index] for index in group], [results[index] for index in group])
        if job.pack.regime != SOURCE:
            found = _predict_test(job, prompts, [results[index] for index in group])
            predictions |= dict(zip(group, found, strict=True))
        for place, index in enumerate(group):
            if index in predictions:
                tests[index] = _scores(job, predictions[index], truth)
                _print_notes(job, runs[index], tests[index])
            metadata = prompt_metadata(job, runs[index].seed, results[index], tests.get(index))
            path = prompt_file(job.pack.prompts, runs[index].seed)
            save_prompt(path, prompts.target_tensors(place), prompts.collapse(place), metadata)
        counts = {"trained_parameters": prompts.trained_parameters, "stored_parameters": prompts.stored_parameters}
        prompts.close()
    record = _finite(
        {
            **record_head(job),
            **outcome.sources.record(),
            "learning_rates": best,
            **counts,
            **_data(job),
            **_majority(job),
            **job.conditions(),
            "commit": source_commit(),
            "forward_positions": job.size.positions,
            **outcome.costs,
            "peak_memory_bytes": peak_memory(job.backbone.device),
            "device_memory_bytes": device_memory(job.backbone.device),
            "runs": [
                run_record(run, result, index in chosen, tests.get(index))
                for index, (run, result) in enumerate(zip(runs, results, strict=True))
            ],
        }
    )
    by_seed = {runs[index].seed: tested for index, tested in predictions.items()}
    _write_files(job, record, by_seed)


def majority_validation(job: Job) -> float:
    """The validation score of the majority baseline by the first metric; for a distilled prompt the mean over tasks."""
    return float(np.mean([_majority_scores(part)[part.task.metrics[0]] for part in job.data]))


def _majority_scores(job: Job) -> dict[str, float]:
    """The majority baseline on the rows that select checkpoints, by metric."""
    rows = job.validation_rows()
    return score(job.task, constant_predictions(job.majority, len(rows)), references(job.validation, rows, job.task))


def _majority(job: Job) -> dict[str, Any]:
    """Test and validation scores of the majority baseline; empty for a distilled prompt, which has no task."""
    if job.parts:
        return {"majority_baseline": {}, "majority_validation": {}}
    truth = references(job.test, np.arange(len(job.test)), job.task)
    return {
        "majority_baseline": score(job.task, constant_predictions(job.majority, len(job.test)), truth),
        "majority_validation": _majority_scores(job),
    }


def _data(job: Job) -> dict[str, Any]:
    """How many rows were used, and the fingerprints of the splits; those of a distilled prompt by source task."""
    fingerprints = {
        part.task.name: {
            name: split.fingerprint
            for name, split in (("train", part.train), ("validation", part.validation), ("test", part.test))
        }
        for part in job.data
    }
    selecting = sum(len(part.validation_rows()) for part in job.data)
    return {
        "train_rows": job.pack.k or sum(len(part.train) for part in job.data),
        "validation_rows": selecting,
        # Labels beyond the training examples that the result depends on: they select the checkpoint and the rates.
        "validation_labels": selecting,
        "test_rows": sum(len(part.test) for part in job.data),
        "split_rule": "/".join(dict.fromkeys(part.test.metadata["split_rule"] for part in job.data)),
        **_sampled(job),
        **_shared_rows(job),
        **_unread_answers(job),
        "data_fingerprints": fingerprints if job.parts else fingerprints[job.task.name],
    }


def _sampled(job: Job) -> dict[str, int]:
    """How many test rows there are, where only some are scored (`data.test_rows`)."""
    scored = sum(len(part.test) for part in job.data)
    there = sum(part.test.metadata.get("sampled_from", len(part.test)) for part in job.data)
    return {"test_rows_sampled_from": there} if there > scored else {}


def _shared_rows(job: Job) -> dict[str, Any]:
    """How many test rows of tasks of one's own occur in their training rows, by task; nothing for shipped tasks."""
    shared = {part.task.name: part.test.metadata.get("shared_rows") for part in job.data if part.task.own}
    return {"shared_rows": shared} if shared else {}


def _unread_answers(job: Job) -> dict[str, int]:
    """How many test rows lose every answer to the cut, and how many have none; only for tasks with passages."""
    found = [part.test.metadata for part in job.data if "answers_cut" in part.test.metadata]
    keys = ("answers_cut", "answers_missing") if found else ()
    return {key: sum(metadata[key] for metadata in found) for key in keys}


def _trained(job: Job, runs: list[Run], results: list[RunResult]) -> MethodModule:
    """The prompts of these runs at their best checkpoints; a run without one stays at its start."""
    prompts = build_runs(job, [run.seed for run in runs])
    for place, result in enumerate(results):
        if result.best_tensors:
            prompts.load_tensors(place, result.best_tensors)
    return prompts


def record_head(job: Job) -> dict[str, str]:
    """What every runs.json begins with: which pack of which backbone it is."""
    pack = job.pack
    return {
        "hash": pack.hash,
        "backbone": job.config.backbone.name,
        "method": pack.method,
        "task": pack.task,
        "regime": pack.regime,
    }


def prompt_metadata(job: Job, seed: int, result: RunResult, test: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a prompt file says of its origin, and what its use needs: template, labels, cue, source length."""
    task = job.task
    use: dict[str, Any] = {}
    if not job.parts:
        use = {
            "kind": task.kind,
            "template": task.template,
            "labels": list(task.labels),
            "cue": task.cue,
            "metrics": list(task.metrics),
            "source_length": job.config.source_length(task.name),
        }
    if job.images is not None:
        where = job.config.vision.model_dump(include={"source", "id", "revision"})
        use["vision"] = {**job.pack.settings["vision"], **where, "column": job.task.image}
    if not job.backbone.family.encoder_decoder:
        # Files without it are those of encoder-decoders.
        use["task_type"] = "CAUSAL_LM"
    return _finite(
        {
            "backbone": job.config.backbone.public_name,
            "backbone_identity": job.pack.settings["backbone"]["identity"],
            "method": job.pack.method,
            "task": job.pack.title,
            "hash": job.pack.hash,
            "seed": seed,
            "status": result.status,
            **use,
            "settings": job.pack.settings,
            "data_fingerprints": _data(job)["data_fingerprints"],
            "validation_score": result.best_score,
            "scores": test["test"] if test else {},
        }
    )


def _predict_test(job: Job, prompts: MethodModule, results: list[RunResult]) -> list[Tested]:
    """Test predictions of each run; the majority's where a run diverged."""
    rows = np.arange(len(job.test))
    with torch.inference_mode():
        output = prompts()
    found = predict_split_both(job.backbone, output, job.test, rows, job.answers, job.size.positions)
    majority = constant_predictions(job.majority, len(rows))
    return [
        _tested(job, found, run, majority if result.status == DIVERGED else None) for run, result in enumerate(results)
    ]


def _tested(job: Job, found: Predictions, run: int, replaced: np.ndarray | None) -> Tested:
    """The predictions of one run, or those that replace them."""
    closed, shares = found.closed, found.invalid_shares()
    if replaced is not None:
        return Tested(replaced, replaced, None if closed is None else replaced, None if shares is None else 0.0)
    return Tested(
        found.reported(job.task)[run],
        found.open[run],
        None if closed is None else closed[run],
        None if shares is None else shares[run],
    )


def _scores(job: Job, tested: Tested, truth: Any) -> dict[str, Any]:
    """The test scores of one run by both rules, and what is noteworthy about its predictions."""
    return {
        "test": score(job.task, tested.reported, truth),
        "test_open": score(job.task, tested.open, truth),
        "test_closed": None if tested.closed is None else score(job.task, tested.closed, truth),
        "invalid_share": tested.invalid_share,
        "notes": noteworthy(job.task, tested.reported, tested.invalid_share),
    }


def _print_notes(job: Job, run: Run, test: dict[str, Any]) -> None:
    for note in test["notes"]:
        print(f"{job.title}, seed {run.seed}: {note}", file=sys.stderr, flush=True)


def run_record(run: Run, result: RunResult, chosen: bool, test: dict[str, Any] | None = None) -> dict[str, Any]:
    """What runs.json says of one run; `test` are its test scores if it was predicted."""
    nothing: dict[str, Any] = {"test": None, "test_open": None, "test_closed": None, "invalid_share": None, "notes": []}
    return {
        "seed": run.seed,
        "learning_rates": run.learning_rates,
        "selected": chosen,
        "status": result.status,
        "steps": result.steps,
        "best_step": result.best_step,
        # The candidate of step 0 (training.include_start) was the best: training brought nothing on validation.
        "start_chosen": bool(result.best_tensors) and result.best_step == 0,
        "best_validation": result.best_score,
        "validation_curve": result.validation_curve,
        "diagnostics": result.diagnostics,
        **(test or nothing),
    }


def _finite(value: Any) -> Any:
    """The same value as JSON can hold it: NaN and infinity become None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_files(job: Job, record: dict[str, Any], predictions: dict[int, Tested]) -> None:
    """Write predictions.parquet and runs.json, and settings.json beside them and beside the prompts.

    Each settings.json comes last and has the digests of the files of its folder. `best_validation` is the first metric
    on the validation split in percent by seed (None: diverged before that).
    """
    pack = job.pack
    settings = {"hash": pack.hash, "settings": pack.settings}
    selected = [run for run in record["runs"] if run["selected"]]
    prompts = [prompt_file(pack.prompts, run["seed"]) for run in selected]
    origin = {
        "data_fingerprints": record["data_fingerprints"],
        "best_validation": {str(run["seed"]): run["best_validation"] for run in selected},
    }
    write_json(pack.prompts / "settings.json", settings | origin | {DIGESTS: _digests(prompts)})
    files = [pack.folder / "runs.json"]
    if predictions:
        files.append(pack.folder / "predictions.parquet")
        with write_atomically(files[-1]) as path:
            pq.write_table(_prediction_table(job, predictions), path)
    write_json(files[0], record)
    write_json(pack.folder / "settings.json", settings | {DIGESTS: _digests(files)})


def _digests(files: list[Path]) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in files}


def _prediction_table(job: Job, predictions: dict[int, Tested]) -> pa.Table:
    """One row per seed and test example: what was predicted, by both rules, and what was right."""
    split, times = job.test, len(predictions)
    extraction = job.task.kind == "extraction"
    answers = [split.answers(row) for row in range(len(split))]
    tested = list(predictions.values())

    def numbers(parts: list[np.ndarray]) -> np.ndarray:
        return np.full(len(split) * times, np.nan) if extraction else np.concatenate(parts).astype(np.float64)

    texts = np.concatenate([each.reported for each in tested]).tolist() if extraction else [""] * len(split) * times
    return pa.table(
        {
            "seed": np.repeat(np.array(list(predictions), dtype=np.int64), len(split)),
            "id": pa.array(list(split.ids) * times, pa.string()),
            "group": pa.array(list(split.groups) * times, pa.string()),
            "label": np.tile(split.labels, times),
            "prediction": numbers([each.reported for each in tested]),
            "text": pa.array(texts, pa.string()),
            "answers": pa.array(answers * times, pa.list_(pa.string())),
            "prediction_open": numbers([each.open for each in tested]),
            "prediction_closed": numbers([each.open if each.closed is None else each.closed for each in tested]),
        }
    )


def source_commit() -> dict[str, Any] | None:
    """The git commit that the package runs from, and whether its tracked files were unchanged; None if installed."""
    root, git = Path(ept.__file__).parents[2], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None

    def ask(*words: str) -> str:
        command = [git, "--no-optional-locks", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout  # noqa: S603

    try:
        commit = ask("rev-parse", "HEAD").strip()
        return {"id": commit, "clean": not ask("status", "--porcelain", "--untracked-files=no").strip()}
    except (OSError, subprocess.SubprocessError):
        return None
