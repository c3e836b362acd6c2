"""The curves of finished runs in MLflow, TensorBoard or Trackio (extra `track`).

One process trains many runs, so a tracker that follows one run per process does not fit. The curves are in runs.json;
this module writes them to a tracker afterwards. Every run has a key, so a second call adds only what is new.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ept.config.settings import MULTITASK
from ept.errors import InputError, reason_of
from ept.files import digest
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import read_record


@dataclass(frozen=True)
class TrackedRun:
    """One run as trackers take it."""

    key: str
    """Of its pack's hash, seed and learning rates: the same run has the same key."""
    name: str
    """method/task/regime/seed, readable."""
    parameters: dict[str, str]
    curves: dict[str, list[tuple[int, float]]]
    """Curve -> (step, value), for example `validation/accuracy`."""
    scores: dict[str, float]
    """Final numbers, for example `test/accuracy`."""
    time_ms: int
    """When its record was written, in milliseconds since 1970."""


def tracked_runs(experiment: Experiment) -> Iterator[TrackedRun]:
    """Every run of the configuration that has been trained, source prompts included.

    Raises InputError for a damaged record.
    """
    for pack in experiment.packs:
        file = pack.folder / "runs.json"
        if file.exists():
            record = read_record(pack.folder, pack.hash)
            time_ms = int(1000 * file.stat().st_mtime)
            # A distilled prompt is selected by the mean over its tasks.
            metric = "score" if pack.task == MULTITASK else pack.record.metrics[0]
            yield from (_tracked(pack, record, run, metric, time_ms) for run in record["runs"])


def _tracked(pack: Pack, record: dict[str, Any], run: dict[str, Any], metric: str, time_ms: int) -> TrackedRun:
    rates = run["learning_rates"]
    names = ("hash", "backbone", "method", "task", "regime", "source", "trained_parameters", "train_rows")
    parameters = {name: str(record[name]) for name in names if record.get(name) is not None}
    parameters |= {"seed": str(run["seed"]), "status": run["status"], "selected": str(run["selected"])}
    parameters |= {f"learning_rate.{group}": str(rate) for group, rate in rates.items()}
    curves = {f"validation/{metric}": [(int(step), float(score)) for step, score in run["validation_curve"]]}
    for entry in run["diagnostics"]:
        for name, value in _numbers(entry):
            curves.setdefault(f"diagnostics/{name}", []).append((int(entry["step"]), value))
    scores = {f"test/{name}": value for name, value in (run["test"] or {}).items() if value is not None}
    if run["best_validation"] is not None:
        scores["best_validation"] = run["best_validation"]
    start = f"-from-{record['source']}" if record.get("source") else ""
    variant = f"-{pack.variant.name}" if pack.variant.name else ""
    return TrackedRun(
        key=digest([pack.hash, run["seed"], rates]),
        name=f"{record['method']}{variant}/{record['task']}/{record['regime']}{start}/seed{run['seed']}",
        parameters=parameters,
        curves={name: points for name, points in curves.items() if points},
        scores=scores,
        time_ms=time_ms,
    )


def _numbers(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of an entry of diagnostics; of a list each by its place."""
    for name, value in entry.items():
        if isinstance(value, list):
            numbers = [(place, one) for place, one in enumerate(value) if isinstance(one, int | float)]
            yield from ((f"{name}.{place}", float(one)) for place, one in numbers)
        elif name != "step" and isinstance(value, int | float):
            yield name, float(value)


def write_mlflow(runs: list[TrackedRun], store: str, name: str) -> int:
    """Add runs to the experiment `name` of an MLflow store, a folder or a tracking URI; return how many were new."""
    try:
        # MLflow asks for this before it writes to a folder; its reader of folders stays.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise _missing(error) from error
    try:
        client = MlflowClient(tracking_uri=store if "://" in store else Path(store).resolve().as_uri())
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        known, token = set(), None
        while True:
            page = client.search_runs([experiment], max_results=1000, page_token=token)
            known |= {run.data.tags.get("ept.key") for run in page if run.info.status == "FINISHED"}
            if not (token := page.token):
                break
        new = [run for run in runs if run.key not in known]
        for run in new:
            made = client.create_run(experiment, start_time=run.time_ms, run_name=run.name)
            metrics = [
                Metric(name, value, run.time_ms, step) for name, points in run.curves.items() for step, value in points
            ]
            metrics += [Metric(name, value, run.time_ms, 0) for name, value in run.scores.items()]
            # MLflow takes 1,000 values in one call.
            for start in range(0, len(metrics), 1000):
                client.log_batch(made.info.run_id, metrics=metrics[start : start + 1000])
            parameters = [Param(key, value) for key, value in run.parameters.items()]
            client.log_batch(made.info.run_id, params=parameters, tags=[RunTag("ept.key", run.key)])
            client.set_terminated(made.info.run_id, end_time=run.time_ms)
    except (MlflowException, OSError) as error:
        raise InputError(f"{store} cannot store the runs ({reason_of(error)}); check --into") from error
    return len(new)


def write_tensorboard(runs: list[TrackedRun], store: str, name: str) -> int:
    """Add runs to a folder of event files, a folder for each run; return how many were new."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing(error) from error
    added = 0
    for run in runs:
        folder = Path(store) / name / f"{run.name}-{run.key}"
        done = folder / "key"
        if done.exists():
            continue
        try:
            # Event files of a call that was killed are of no use.
            for torn in folder.glob("events.*"):
                torn.unlink()
            with SummaryWriter(str(folder)) as writer:
                writer.add_text("parameters", "```\n" + json.dumps(run.parameters, indent=1) + "\n```")
                for curve, points in run.curves.items():
                    for step, value in points:
                        writer.add_scalar(curve, value, step, walltime=run.time_ms / 1000)
                for score, value in run.scores.items():
                    writer.add_scalar(score, value, 0, walltime=run.time_ms / 1000)
            done.write_text(run.key)
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error}); check --into") from error
        added += 1
    return added


def write_trackio(runs: list[TrackedRun], store: str, name: str) -> int:
    """Add runs to the project `name` of Trackio's database in the folder `store`; return how many were new."""
    os.environ["TRACKIO_DIR"] = str(Path(store).resolve())
    try:
        import trackio
    except ImportError as error:
        raise _missing(error) from error
    keys = Path(store) / f"{name}.keys"
    known = set(keys.read_text(encoding="utf-8").split()) if keys.exists() else set()
    new = [run for run in runs if run.key not in known]
    for run in new:
        Path(store).mkdir(parents=True, exist_ok=True)
        # Without what it would measure of this process, which trains nothing.
        quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        trackio.init(name, name=f"{run.name} {run.key}", config=run.parameters, **quiet)
        by_step: dict[int, dict[str, float]] = {}
        for curve, points in run.curves.items():
            for step, value in points:
                by_step.setdefault(step, {})[curve] = value
        for step, values in sorted(by_step.items()):
            trackio.log(values, step=step)
        if run.scores:
            trackio.log(run.scores, step=max(by_step, default=0))
        trackio.finish()
        with keys.open("a", encoding="utf-8") as file:
            file.write(run.key + "\n")
    return len(new)


TRACKERS: dict[str, Callable[[list[TrackedRun], str, str], int]] = {
    "mlflow": write_mlflow,
    "tensorboard": write_tensorboard,
    "trackio": write_trackio,
}


def _missing(error: ImportError) -> InputError:
    return InputError(f"{error.name or error} is not installed; install the extra `track`")
