"""The tables of transfer as people read them: gains over scratch, and sentences on where transfer helps and hurts."""

from collections.abc import Callable

from ept.methods import METHODS
from ept.results.layout import Cell, Layout, signed
from ept.results.scores_layout import column_title
from ept.tasks import get_task

# What a row's `choice` says of its source: whether the protocol takes it for this target. All source tasks are one
# start of ATTEMPT and MPT; the target's own task is never a source.
CHOSEN, NOT_CHOSEN, ALL, OWN = "chosen", "not chosen", "all", "own task"
# What a row's `effect` says: on which side of 0 the 95 % interval of the gain lies.
HELPS, HURTS, OPEN = "helps", "hurts", "open"
SIGNS = {HELPS: "↑", HURTS: "↓"}
GAIN_NOTE = (
    f"Gain over the start from scratch, in percentage points (mean over seeds). {SIGNS[HELPS]} and {SIGNS[HURTS]}: the "
    "95 % interval of the gain, paired by seed and test example, lies above or below 0. These intervals are not "
    "corrected for many comparisons: of twenty gains that are nothing one is expected to be marked."
)
SEED_NOTE = "All seeds share one source prompt, trained with one seed: the intervals hold for this source prompt."
# How that is printed: which tasks these are depends on the target.
ALL_TITLE = "all others"
MATRIX_NOTE = "Bold: the source that the protocol chooses. A target's own task is never its source (—)."


def matrix_layout(rows: list[dict]) -> Layout:
    """Sources as rows, targets as columns, for each method and regime."""
    return _layout(rows, source_name, _matrix_cell, [GAIN_NOTE, MATRIX_NOTE, SEED_NOTE])


def gains_layout(rows: list[dict]) -> Layout:
    """Methods and regimes as rows, targets as columns; the source stands behind each gain."""
    notes = [GAIN_NOTE, *(sentence(rows, effect) for effect in (HURTS, HELPS)), lower_means(rows), SEED_NOTE]
    return _layout(rows, lambda row: "", _gain_cell, notes)


def _layout(
    rows: list[dict], source_of: Callable[[dict], str], cell_of: Callable[[dict], Cell], notes: list[str]
) -> Layout:
    rows = [row for row in rows if _is_first_metric(row)]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    named = any(source_of(row) for row in rows)
    # The first block may have every source; others only those that were chosen, here and there.
    order = list(dict.fromkeys(source_of(row) for row in rows))
    lines: dict[tuple, dict[str, Cell]] = {}
    for row in rows:
        lines.setdefault((row["method"], row["regime"], source_of(row)), {})[row["task"]] = cell_of(row)
    return Layout(
        head=["method", "regime", *["source"] * named, *(_task_title(task) for task in tasks)],
        lines=[
            [
                Cell(METHODS[method].title),
                Cell(regime),
                *[Cell(source)] * named,
                *(cells.get(task, Cell()) for task in tasks),
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
    found = [_case(row) for row in rows if _is_first_metric(row) and row.get("effect") == effect]
    return f"Transfer {effect} beyond the interval: {'; '.join(found) or 'nowhere'}."


def lower_means(rows: list[dict]) -> str:
    """Where the mean is lower from the source than from scratch, whether the interval says so or not."""
    found = [_case(row) for row in rows if _is_first_metric(row) and row.get("gain", 0) < 0]
    return f"Lower mean from the source than from scratch: {'; '.join(found) or 'nowhere'}."


def _case(row: dict) -> str:
    return f"{METHODS[row['method']].title} {row['regime']} {source_name(row)} to {row['task']} ({signed(row['gain'])})"


def _is_first_metric(row: dict) -> bool:
    return row["metric"] == get_task(row["task"]).metrics[0]


def _task_title(task: str) -> str:
    return column_title(task, get_task(task).metrics[0])


def _matrix_cell(row: dict) -> Cell:
    if row["choice"] == OWN:
        return Cell("—")
    return Cell(signed(row["gain"]), bold=row["choice"] == CHOSEN, signs=SIGNS.get(row["effect"], ""))


def _gain_cell(row: dict) -> Cell:
    return Cell(f"{signed(row['gain'])} ({source_name(row)})", signs=SIGNS.get(row["effect"], ""))
