"""How much the validation score depends on the learning rates: one row a combination."""

import numpy as np

from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.pack import DIVERGED as DIVERGED_STATUS
from ept.plan.pack import Pack
from ept.results.records import read_record, validation_score
from ept.results.render import Cell, Layout
from ept.results.tables.scores import DIVERGED, DIVERGED_NOTE, column_title, reading_notes

SPREAD_NOTE = "Best validation score, mean ± standard deviation over seeds, in percent."
ONE_SEED_NOTE = "Best validation score of one seed, in percent."
BOLD_NOTE = "Bold: the combination that is reported."


def make_table(_: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """One row a method, task and combination of rates, and combinations by tasks."""
    rows = [row for pack in packs for row in rate_rows(pack, read_record(pack.folder, pack.hash))]
    return rows, _layout(rows)


def rate_rows(pack: Pack, record: dict) -> list[dict]:
    """The best validation score of each combination over seeds; a diverged run counts as the majority baseline."""
    metric = pack.record.metrics[0]
    runs: dict[str, list[dict]] = {}
    for run in record["runs"]:
        runs.setdefault(_text(run["learning_rates"]), []).append(run)
    rows = []
    for rates, members in runs.items():
        scores = [validation_score(record, run, metric) for run in members]
        rows.append(
            {
                "backbone": record["backbone"],
                "method": pack.method,
                "task": pack.task,
                "regime": pack.regime,
                "source": record["source"],
                "learning_rates": rates,
                "metric": metric,
                "validation_mean": float(np.mean(scores)),
                "validation_std": float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan"),
                "seeds": len(scores),
                "diverged": sum(run["status"] == DIVERGED_STATUS for run in members),
                "reported": "yes" if members[0]["selected"] else "no",
            }
        )
    return rows


def _text(rates: dict[str, float]) -> str:
    return " ".join(f"{group}={rate:g}" for group, rate in rates.items())


def _layout(rows: list[dict]) -> Layout:
    columns = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
    methods = dict.fromkeys(row["method"] for row in rows)
    notes = [ONE_SEED_NOTE if all(np.isnan(row["validation_std"]) for row in rows) else SPREAD_NOTE, BOLD_NOTE]
    lines: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for row in rows:
        spread = "" if np.isnan(row["validation_std"]) else f" ± {row['validation_std']:.1f}"
        lines.setdefault((row["method"], row["learning_rates"]), {})[row["task"], row["metric"]] = Cell(
            f"{row['validation_mean']:.1f}{spread}",
            bold=row["reported"] == "yes",
            signs=DIVERGED if row["diverged"] else "",
        )
    return Layout(
        head=["method", "learning rates", *(column_title(*column) for column in columns)],
        lines=[
            [Cell(METHODS[method].title), Cell(rates), *(cells.get(column, Cell()) for column in columns)]
            for (method, rates), cells in lines.items()
        ],
        notes=[*notes, *[DIVERGED_NOTE] * any(row["diverged"] for row in rows), *reading_notes(methods)],
    )
