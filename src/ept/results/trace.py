"""Where a cell of a table comes from: read from the files next to the table, without a configuration."""

from dataclasses import dataclass, replace
from pathlib import Path

from ept.config.settings import MULTITASK, SOURCE
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.plan.paths import prompt_file
from ept.results.records import WrittenTable, read_record, read_settings, read_table, selection_scores, software
from ept.results.statistics import averaged_tasks
from ept.results.tables.scores import FROM_SOURCE, column_title


@dataclass(frozen=True)
class Cell:
    """What is asked for; what is None matches everything."""

    method: str
    task: str | None = None
    regime: str | None = None
    start: str | None = None
    metric: str | None = None
    variant: str | None = None

    def matches(self, found: dict[str, str]) -> bool:
        """Whether a row or a run of the table has every value that is asked for and that it can have."""
        return all(found.get(name, wanted) == wanted for name, wanted in vars(self).items() if wanted is not None)


def trace(path: Path, cell: Cell) -> list[str]:
    """Explain a cell, or all cells that match: its numbers, then every pack behind it.

    Raises InputError for a file that is not a table, a table of differences between methods, a cell that is not in it,
    and records that are missing, damaged or not the table's.
    """
    table = read_table(path)
    if "method" not in table.rows[0]:
        raise InputError(
            f"{path} has differences between methods; trace their scores in main.csv (full data) or fewshot_k<k>.csv"
        )
    rows = [row | {"start": _start(row)} if "source" in row else row for row in table.rows]
    cell = _named(cell, rows)
    for name in ("method", "task", "regime", "start", "metric", "variant"):
        # A table without tasks is made of the packs of all of them.
        found = table.runs if name == "task" and "task" not in rows[0] else rows
        _check(path, found, name, getattr(cell, name))
    rows = [row for row in rows if cell.matches(row)]
    if not rows:
        raise InputError(f"{path} has no row with all of these values together; leave some of them out")
    lines = [_numbers(path, row) for row in rows]
    for run in _runs_behind(table, cell, rows):
        lines += ["", *explain(table, run)]
    return lines


def _named(cell: Cell, rows: list[dict[str, str]]) -> Cell:
    """The cell by the names in the CSV file, where it was given by the titles that readers see."""
    methods = {record.title: name for name, record in METHODS.items()}
    method, start = cell.method, cell.start
    if method.endswith(FROM_SOURCE) and method.removesuffix(FROM_SOURCE) in methods:
        method, start = method.removesuffix(FROM_SOURCE), start or "source"
    cell = replace(cell, method=methods.get(method, method), start=start)
    titles = {column_title(row["task"], row["metric"]): (row["task"], row["metric"]) for row in rows if "metric" in row}
    if cell.task in titles:
        task, metric = titles[cell.task]
        cell = replace(cell, task=task, metric=cell.metric or metric)
    return cell


def _start(row: dict[str, str]) -> str:
    return "scratch" if row["source"] == "scratch" else "source"


def _check(path: Path, rows: list[dict[str, str]], name: str, wanted: str | None) -> None:
    if wanted is None:
        return
    known = list(dict.fromkeys(row[name] for row in rows if name in row))
    if wanted not in known:
        there = f"it has {', '.join(known)}" if known else "it has no such column"
        raise InputError(f"{path} has no {name} {wanted!r}; {there}")


def _numbers(path: Path, row: dict[str, str]) -> str:
    said = ("method", "variant", "task", "regime")
    what = " ".join(row[name] for name in said if row.get(name))
    if "mean" not in row:
        others = ", ".join(f"{name} {value}" for name, value in row.items() if name not in said and value)
        return f"{path}: {what}: {others}"
    spread = f"standard deviation {row['std']}, " if row["std"] else ""
    interval = f"95 % interval {row['ci_low']} to {row['ci_high']}"
    return (
        f"{path}: {what} from {row['start']}, {row['metric']} {row['mean']} ({spread}{interval}, seeds {row['seeds']})"
    )


def _runs_behind(table: WrittenTable, cell: Cell, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The table's runs that have a row's method, variant, regime, start and task, or one of an average's tasks."""
    tasks = averaged_tasks(dict.fromkeys(run["task"] for run in table.runs))
    wanted = None if cell.task is None else tasks.get(cell.task, [cell.task])
    names = ("method", "variant", "regime", "start")
    return [
        run
        for run in table.runs
        if (wanted is None or run["task"] in wanted)
        and any(all(row.get(name, run[name]) == run[name] for name in names) for row in rows)
    ]


def explain(table: WrittenTable, run: dict[str, str]) -> list[str]:
    """Lines on a pack behind a table: its runs, their prompts and data, and the commands that make it again.

    Args:
        table: The table.
        run: One of `table.runs`.

    Returns:
        The lines.

    Raises:
        InputError: The pack's record is missing, damaged or of other settings.
    """
    folder = _run_folder(table.path, run)
    record = read_record(folder, run["hash"])
    lines = [f"{run['method']} {run['task']} {run['regime']} from {run['start']}: {folder}/runs.json"]
    lines += [f"  {line}" for line in _runs(record, Path(run["prompts"]))]
    if run["start"] == "source":
        by, scores = selection_scores(record)
        known = ", ".join(f"{task} {score:.4f}" for task, score in scores.items() if score is not None)
        lines.append(f"  source: {record['source']}" + (f" (chosen by {by}: {known})" if known else ""))
        prompts = _source_prompts(run, record["source"], read_settings(folder, run["hash"]))
        lines += [f"  source prompt: {file}" for file in prompts]
        if record["diverged_sources"]:
            lines.append(f"  left out, because their training diverged: {', '.join(record['diverged_sources'])}")
    fingerprints = ", ".join(f"{split} {value[:12]}" for split, value in record["data_fingerprints"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in list(record["versions"].items())[1:])
    rows = f"{record['train_rows']} training, {record['validation_rows']} validation, {record['test_rows']} test rows"
    if sampled_from := record.get("test_rows_sampled_from"):
        rows += f" (of {sampled_from})"
    return [
        *lines,
        f"  data: {rows}, split rule {record['split_rule']}; fingerprints {fingerprints}",
        f"  settings: hash {run['hash']}, {folder}/settings.json",
        f"  made with: ept {software(record)}, {libraries}",
        f"  computed in: {record['dtype']} on {record['device']}, threads {record['threads']}",
        # A target behind --configfile would be taken for another configuration.
        f"  again: snakemake --cores all {run['folder']}/runs.json --configfile {table.configuration}",
        "         (with its data and source prompts; where these are there already, the training and the table alone:)",
        f"         ept train --config {table.configuration} --hash {run['hash']} --threads {record['threads']}",
        f"         ept table --config {table.configuration} --table {table.path.stem}",
    ]


def _run_folder(table: Path, run: dict[str, str]) -> Path:
    """A pack's records: above the table, which may have been moved together with them, or in the working directory."""
    above = [parent / run["folder"] for parent in table.parents]
    return next((folder for folder in above if folder.is_dir()), Path(run["folder"]))


def _source_prompts(run: dict[str, str], source: str, settings: dict) -> list[Path]:
    """The files of the source prompts that a pack started from: those that its seeds chose, or all that were mixed."""
    candidates = settings["initialize_from"]
    chosen = source.split("/")
    taken = chosen if candidates.keys() >= set(chosen) else list(candidates)
    backbone = Path(run["prompts"]).parents[3]
    return [
        prompt_file(_source_folder(backbone, run["method"], task, candidates[task]), settings["seeds"][0])
        for task in taken
    ]


def _source_folder(backbone: Path, method: str, task: str, hash_: str) -> Path:
    # A prompt that was distilled for a method is its own, the others are those of the method that trains them.
    return backbone / (method if task == MULTITASK else METHODS[method].source_method) / task / SOURCE / hash_


def _runs(record: dict, prompts: Path) -> list[str]:
    """A line for each reported run, and one for those whose learning rates were not chosen."""
    lines = []
    for run in record["runs"]:
        if run["selected"]:
            scores = ", ".join(f"{name} {value:.2f}" for name, value in run["test"].items())
            where = f"best step {run['best_step']} of {run['steps']}"
            file = prompt_file(prompts, run["seed"])
            lines.append(f"seed {run['seed']}: {run['status']}, {where}, {scores}, {_rates(run)}, {file}")
    others = {_rates(run) for run in record["runs"] if not run["selected"]}
    return lines + ([f"learning rates that validation did not choose: {'; '.join(sorted(others))}"] if others else [])


def _rates(run: dict) -> str:
    return "learning rates " + ", ".join(f"{group} {rate:g}" for group, rate in run["learning_rates"].items())
