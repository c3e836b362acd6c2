"""What source prompts bring: every start from a source beside the start from scratch, and where transfer hurts."""

from collections.abc import Sequence
from dataclasses import dataclass

from ept.experiment import Experiment
from ept.methods import METHODS
from ept.pack import Pack
from ept.results.collect import PackResult, collect, selection_scores
from ept.results.layout import Layout
from ept.results.paired import paired_difference
from ept.results.scores import table_rows
from ept.results.transfer_layout import ALL, CHOSEN, HELPS, HURTS, NOT_CHOSEN, OPEN, OWN, matrix_layout
from ept.tasks import get_task
from ept.transfer_plan import Transfer, asked_for


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of every source task to every target task, and sources by targets."""
    rows = rows_of(experiment, asked_for(experiment), packs)
    return rows, matrix_layout(rows)


def rows_of(experiment: Experiment, transfers: list[Transfer], packs: list[Pack]) -> list[dict]:
    """The rows of all transfers from the records of their packs."""
    results = {result.pack.hash: _Scored(result, _score_rows(result)) for result in collect(packs)}
    rows = []
    for transfer in transfers:
        rows += transfer_rows(
            results[transfer.scratch.hash],
            [results[pack.hash] for pack in transfer.started],
            sources=experiment.config.tasks.source if transfer.whole else (),
        )
    return rows


@dataclass(frozen=True)
class _Scored:
    result: PackResult
    rows: dict[str, dict]
    """A tidy row a metric."""


def _score_rows(result: PackResult) -> dict[str, dict]:
    return {row["metric"]: row for row in table_rows([result]) if row["metric"] != "average"}


def transfer_rows(scratch: _Scored, started: list[_Scored], sources: Sequence[str] = ()) -> list[dict]:
    """One row a source and metric. Where every one of `sources` was tried, an empty one at its place among them stands
    for the target's own task, which is never its source.

    Beside the columns of a table of scores a row holds `scratch_mean`, the mean score of the start from scratch; `gain`
    over it with its 95 % interval, paired by seed and test example; `effect`, whether that interval is above or below
    0; `selection_score`, by which the source is chosen before any training (`chosen_by`: the lowest loss or the largest
    similarity); and `choice`.
    """
    choices = _choices([scored.result for scored in started])
    groups = []
    for scored, choice in zip(started, choices, strict=True):
        rows: list[dict] = []
        record = scored.result.record
        by, scores = selection_scores(record)
        for metric, row in scored.rows.items():
            gain = paired_difference(row["samples"], scratch.rows[metric]["samples"])
            low, high = gain.interval
            rows.append(
                {
                    **row,
                    "scratch_mean": scratch.rows[metric]["mean"],
                    "gain": gain.mean,
                    "gain_low": low,
                    "gain_high": high,
                    "effect": HELPS if low > 0 else HURTS if high < 0 else OPEN,
                    "chosen_by": by,
                    "selection_score": _number(scores.get(record["source"])),
                    "choice": choice,
                }
            )
        groups.append(rows)
    task = scratch.result.pack.task
    if task in sources and ALL not in choices:
        groups.insert(list(sources).index(task), _own_rows(started[0].result))
    return [row for rows in groups for row in rows]


def _own_rows(result: PackResult) -> list[dict]:
    pack = result.pack
    where = {"backbone": result.record["backbone"], "method": pack.method, "task": pack.task, "regime": pack.regime}
    return [{**where, "source": pack.task, "metric": metric, "choice": OWN} for metric in get_task(pack.task).metrics]


def _choices(started: list[PackResult]) -> list[str]:
    """The choice of each start. A pack that chose among several sources started from the one it took."""
    if METHODS[started[0].pack.method].sources != "best":
        return [ALL] * len(started)
    if len(started) == 1:
        return [CHOSEN]
    ranks = []
    for result in started:
        by, scores = selection_scores(result.record)
        score = scores[result.record["source"]]
        ranks.append(float("-inf") if score is None else score if by == "similarity" else -score)
    best = ranks.index(max(ranks))
    return [CHOSEN if place == best else NOT_CHOSEN for place in range(len(ranks))]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
