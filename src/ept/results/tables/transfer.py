"""What source prompts bring: every start from a source against the start from scratch, and where transfer hurts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.tables import Transfer, asked_for, found_in
from ept.results.records import PackResult, collect, selection_scores
from ept.results.render import Cell, Layout, signed
from ept.results.statistics import paired_difference
from ept.results.tables.scores import Score, column_title, first_metrics, mark_notes, reading_notes, table_rows

# What a row's `choice` says of its source: whether the protocol takes it for this target. All source tasks are one
# start of ATTEMPT and MPT; the target's own task is never a source.
CHOSEN, NOT_CHOSEN, ALL, OWN = "chosen", "not chosen", "all", "own task"
# What a row's `effect` says: on which side of 0 the 95 % interval of the gain lies.
HELPS, HURTS, OPEN = "helps", "hurts", "open"
SIGNS = {HELPS: "↑", HURTS: "↓"}
GAIN_NOTE = (
    f"Gain over the start from scratch, in percentage points (mean over seeds). {SIGNS[HELPS]} and {SIGNS[HURTS]}: the "
    "95 % interval of the gain, paired by seed and test example, lies above or below 0. These marks are exploratory: "
    "the intervals are not corrected for many comparisons, so up to one of twenty gains of 0 is marked by chance."
)
SEED_NOTE = "All seeds share one source prompt, trained with one seed: the intervals are about this source prompt."
# How that is printed: which tasks these are depends on the target.
ALL_TITLE = "all others"
MATRIX_NOTE = "Bold: the source that the protocol chooses. A target's own task is never its source (—)."


def make_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """The rows of every source task to every target task, and sources by targets."""
    rows = rows_of(experiment, asked_for(experiment), packs)
    return rows, matrix_layout(rows, reading_notes(pack.method for pack in packs))


def make_gains_table(experiment: Experiment, packs: list[Pack]) -> tuple[list[dict], Layout]:
    """One row a start from a source and metric, and the gains with sentences on where transfer helps and hurts."""
    rows = rows_of(experiment, found_in(experiment, packs), packs)
    return rows, gains_layout(rows, reading_notes(pack.method for pack in packs))


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
    """One row a source and metric.

    Where every one of `sources` was tried, an empty one at its place among them stands for the target's own task, which
    is never its source.

    Besides the columns of a table of scores a row holds `scratch_mean`, the mean of the start from scratch; `gain`
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
    return [{**where, "source": pack.task, "metric": metric, "choice": OWN} for metric in pack.record.metrics]


def _choices(started: list[PackResult]) -> list[str]:
    """The choice of each start. A pack that chose among several sources started from the one it took."""
    if METHODS[started[0].pack.method].start_from != "best":
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


def matrix_layout(rows: list[dict], notes: Sequence[str] = ()) -> Layout:
    """Sources as rows, targets as columns, for each method and regime."""
    return _layout(rows, source_name, _matrix_cell, [GAIN_NOTE, MATRIX_NOTE, SEED_NOTE, *mark_notes(rows), *notes])


def gains_layout(rows: list[dict], notes: Sequence[str] = ()) -> Layout:
    """Methods and regimes as rows, targets as columns; the source stands behind each gain."""
    sentences = [*(sentence(rows, effect) for effect in (HURTS, HELPS)), lower_means(rows)]
    return _layout(rows, lambda _: "", _gain_cell, [GAIN_NOTE, *sentences, SEED_NOTE, *mark_notes(rows), *notes])


def _layout(
    rows: list[dict], source_of: Callable[[dict], str], cell_of: Callable[[dict], Cell], notes: list[str]
) -> Layout:
    rows = first_metrics(rows)
    titles = {row["task"]: column_title(row["task"], row["metric"]) for row in rows}
    named = any(source_of(row) for row in rows)
    # The first block may have every source; others only those that were chosen, here and there.
    order = list(dict.fromkeys(source_of(row) for row in rows))
    lines: dict[tuple, dict[str, Cell]] = {}
    for row in rows:
        lines.setdefault((row["method"], row["regime"], source_of(row)), {})[row["task"]] = cell_of(row)
    return Layout(
        head=["method", "regime", *["source"] * named, *titles.values()],
        lines=[
            [
                Cell(METHODS[method].title),
                Cell(regime),
                *[Cell(source)] * named,
                *(cells.get(task, Cell()) for task in titles),
            ]
            for (method, regime, source), cells in _by_source(lines, order)
        ],
        notes=notes,
    )


def source_name(row: dict) -> str:
    """What a row started from, as it is printed."""
    return ALL_TITLE if row["choice"] == ALL else row["source"]


def _by_source(lines: dict[tuple, dict[str, Cell]], order: list[str]) -> list[tuple[tuple, dict[str, Cell]]]:
    """The lines of each method and regime, in the order of their sources."""
    blocks = list(dict.fromkeys((method, regime) for method, regime, _ in lines))
    return sorted(lines.items(), key=lambda line: (blocks.index(line[0][:2]), order.index(line[0][2])))


def sentence(rows: list[dict], effect: str) -> str:
    """Where transfer helps or hurts beyond the interval of its gain."""
    found = [_case(row) for row in first_metrics(rows) if row.get("effect") == effect]
    return f"Transfer {effect} beyond the interval: {'; '.join(found) or 'nowhere'}."


def lower_means(rows: list[dict]) -> str:
    """Where the mean is lower from the source than from scratch, whether the interval says so or not."""
    found = [_case(row) for row in first_metrics(rows) if row.get("gain", 0) < 0]
    return f"Lower mean from the source than from scratch: {'; '.join(found) or 'nowhere'}."


def _case(row: dict) -> str:
    return f"{METHODS[row['method']].title} {row['regime']} {source_name(row)} to {row['task']} ({signed(row['gain'])})"


def _matrix_cell(row: dict) -> Cell:
    if row["choice"] == OWN:
        return Cell("—")
    return Cell(signed(row["gain"]), bold=row["choice"] == CHOSEN, signs=_signs(row))


def _gain_cell(row: dict) -> Cell:
    return Cell(f"{signed(row['gain'])} ({source_name(row)})", signs=_signs(row))


def _signs(row: dict) -> str:
    return SIGNS.get(row["effect"], "") + Score.signs_of(row)
