"""The form in which papers print a table: methods as rows, tasks as columns."""

from dataclasses import dataclass

from ept.methods import METHODS
from ept.tasks import get_task

AVERAGE_TITLES = {"average_glue": "GLUE", "average_super_glue": "SuperGLUE", "average": "All"}
METRIC_TITLES = {"accuracy": "acc.", "matthews": "Matthews", "pearson": "Pearson", "f1": "F1", "exact_match": "EM"}


@dataclass(frozen=True)
class Layout:
    """`cells[row][column]` is (mean, std, diverged runs) or None.

    `marked`: the best means are marked, except in the first row, the majority baseline (no std).
    """

    columns: list[str]
    rows: list[str]
    parameters: list[int | None]
    cells: list[list[tuple[float, float, int] | None]]
    marked: bool = True

    @staticmethod
    def of(rows: list[dict]) -> "Layout":
        """Lay out tidy rows; of tasks with several metrics the first one is shown."""
        keys = list(dict.fromkeys((row["task"], row["metric"]) for row in rows))
        firsts = list(dict.fromkeys(task for task, _ in keys))
        columns = [key for task in firsts for key in [next(key for key in keys if key[0] == task)]]
        columns.sort(key=_column_order)
        lines: dict[str, dict] = {"majority": {}}
        for row in rows:
            key = (row["task"], row["metric"])
            lines.setdefault(_row_title(row), {})[key] = (row["mean"], row["std"], row["diverged"])
            lines["majority"][key] = (row["majority_baseline"], float("nan"), 0)
        parameters = {_row_title(row): row["trained_parameters"] for row in rows}
        return Layout(
            columns=[column_title(*column) for column in columns],
            rows=list(lines),
            parameters=[parameters.get(title) for title in lines],
            cells=[[line.get(column) for column in columns] for line in lines.values()],
        )

    def best(self, column: int, rank: int) -> float | None:
        """The best (rank 0) or second best (rank 1) mean among the methods, rounded as printed; None if unmarked."""
        if not self.marked:
            return None
        means = sorted({round(row[column][0], 1) for row in self.cells[1:] if row[column]}, reverse=True)
        return means[rank] if rank < len(means) else None


def _column_order(column: tuple[str, str]) -> tuple[int, int]:
    """GLUE's tasks and its average, SuperGLUE's and its average, the rest, the average over all."""
    task = column[0]
    if task in AVERAGE_TITLES:
        return ({"average_glue": 0, "average_super_glue": 1, "average": 3}[task], 1)
    return ({"glue": 0, "super_glue": 1}.get(get_task(task).suite, 2), 0)


def column_title(task: str, metric: str) -> str:
    """The title of a task's or an average's column."""
    if task in AVERAGE_TITLES:
        return AVERAGE_TITLES[task]
    return f"{get_task(task).title} {METRIC_TITLES.get(metric, metric)}"


def _row_title(row: dict) -> str:
    if row["variant"]:
        return row["variant"]
    title = METHODS[row["method"]].title
    started = row["source"] != "scratch" and METHODS[row["method"]].source == "optional"
    return f"{title} from source" if started else title


def to_markdown(layout: Layout) -> str:
    """Mean ± standard deviation in percent; best in bold, second underlined, † where a run diverged."""
    lines = [["method", "parameters", *layout.columns]]
    for row, (title, parameters) in enumerate(zip(layout.rows, layout.parameters, strict=True)):
        marked = [
            _mark(layout, row, column, "**{}**", "<u>{}</u>", " ± ", " †") for column in range(len(layout.columns))
        ]
        lines.append([title, "" if parameters is None else f"{parameters:,}", *marked])
    lines.insert(1, ["---"] + ["---:"] * (len(lines[0]) - 1))
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def to_latex(layout: Layout) -> str:
    """A booktabs table with the same marks."""
    head = " & ".join(["method", "parameters", *(_escape(column) for column in layout.columns)])
    lines = [f"\\begin{{tabular}}{{lr{'r' * len(layout.columns)}}}", "\\toprule", head + r" \\", "\\midrule"]
    for row, (title, parameters) in enumerate(zip(layout.rows, layout.parameters, strict=True)):
        marked = [
            _mark(layout, row, column, r"\textbf{{{}}}", r"\underline{{{}}}", r" $\pm$ ", r"$^\dagger$")
            for column in range(len(layout.columns))
        ]
        lines.append(" & ".join([_escape(title), "" if parameters is None else f"{parameters:,}", *marked]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _mark(layout: Layout, row: int, column: int, bold: str, underlined: str, plus_minus: str, dagger: str) -> str:
    cell = layout.cells[row][column]
    if cell is None:
        return ""
    mean, std, diverged = cell
    text = (f"{mean:.1f}" if std != std else f"{mean:.1f}{plus_minus}{std:.1f}") + (dagger if diverged else "")
    if row > 0 and round(mean, 1) == layout.best(column, 0):
        return bold.format(text)
    if row > 0 and round(mean, 1) == layout.best(column, 1):
        return underlined.format(text)
    return text


def _escape(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")
