"""A sheet of test images, each with its question, the right answer and what every method answers."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ept.data.arrow import Parquet
from ept.evaluation.metrics import INVALID, exact_match
from ept.figures.data import Results
from ept.figures.style import NEUTRAL, SMALL, new_figure
from ept.methods.registry import METHODS
from ept.plan.pack import Pack
from ept.results.records import read_predictions
from ept.tasks.record import Row, Task
from ept.vision.image import decode

# Images of a task. Rows are so far apart that neighbors about one image are passed over.
SHOWN, APART = 3, 4
# Characters of a line, lines of a text, and inches of a line and of an image.
WIDTH, MOST_LINES, LINE, SIDE = 19, 4, 0.115, 1.0
RIGHT, WRONG = "#009E73", "#D55E00"


def draw(results: Results) -> Figure:
    """A row of images for each task that has images."""
    packs: dict[str, list[Pack]] = {}
    for record in results.full_data:
        if record.pack.record.image:
            packs.setdefault(record.pack.task, []).append(record.pack)
    sheets = [_sheet(of_task, results.experiment.raw_folder(task)) for task, of_task in packs.items()]
    heights = [SIDE + LINE * max(len(lines) for _, lines in sheet) for sheet in sheets]
    figure = new_figure(sum(heights))
    grid = figure.subplots(len(sheets), SHOWN, squeeze=False, height_ratios=heights)
    for axes, sheet in zip(grid, sheets, strict=True):
        for place, (image, lines) in zip(axes, sheet, strict=False):
            place.imshow(image)
            _write(place, lines)
        for place in axes:
            # The image stands at the top of its place, whose rest is for the lines.
            place.set_anchor("N")
            place.axis("off")
    return figure


def _sheet(packs: list[Pack], raw_folder: Path) -> list[tuple[np.ndarray, list[tuple[str, str]]]]:
    """Images [height, width, 3] of a task, each with lines of text and their colors."""
    task, answers = packs[0].record, [_answers(pack) for pack in packs]
    numbers = range(0, len(answers[0]), APART)[:SHOWN]
    published = _published(task, raw_folder, [answers[0][number]["id"] for number in numbers])
    sheet = []
    for number in numbers:
        found = published[answers[0][number]["id"]]
        truth = answers[0][number]
        right = truth["answers"][0] if task.kind == "extraction" else task.labels[int(truth["label"])]
        lines = [(line, "black") for line in _wrapped(task.template.format_map(found))]
        lines += [(line, NEUTRAL) for line in _wrapped(f"right: {right}")]
        for pack, rows in zip(packs, answers, strict=True):
            text, color = _judged(task, rows[number])
            lines += [(line, color) for line in _wrapped(f"{METHODS[pack.method].title}: {text}")]
        sheet.append((np.asarray(decode(found[str(task.image)])), lines))
    return sheet


def _answers(pack: Pack) -> list[dict[str, Any]]:
    """The test predictions of a pack's first seed, in the order of the test rows."""
    rows = read_predictions(pack.folder).to_pylist()
    return [row for row in rows if row["seed"] == rows[0]["seed"]]


def _judged(task: Task, row: dict[str, Any]) -> tuple[str, str]:
    """What was answered, and the color that says whether it is right; captions are not judged one by one."""
    if task.kind == "extraction":
        right = any(exact_match(row["text"], answer) for answer in row["answers"])
        return row["text"] or "nothing", RIGHT if right else NEUTRAL if "cider" in task.metrics else WRONG
    if row["prediction"] == INVALID:
        return "no label", WRONG
    return task.labels[int(row["prediction"])], RIGHT if row["prediction"] == row["label"] else WRONG


def _published(task: Task, raw_folder: Path, ids: list[str]) -> dict[str, Row]:
    """The published rows with these ids ("<split>:<row>"): the columns of the template and the image."""
    split = ids[0].partition(":")[0]
    wanted, first, found = {int(name.partition(":")[2]) for name in ids}, 0, dict[str, Row]()
    path = raw_folder / f"{split}.parquet"
    for batch in Parquet(path, str(path)).batches([*task.columns, str(task.image)]):
        for row in wanted & set(range(first, first + batch.num_rows)):
            found[f"{split}:{row}"] = batch.slice(row - first, 1).to_pylist()[0]
        first += batch.num_rows
        if len(found) == len(wanted):
            break
    return found


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, max_lines=MOST_LINES, placeholder=" …")


def _write(place: Axes, lines: list[tuple[str, str]]) -> None:
    """The lines under an image."""
    for number, (text, color) in enumerate(lines):
        below = (0, -2 - 72 * LINE * number)
        place.annotate(
            text, (0, 0), below, "axes fraction", "offset points", va="top", fontsize=SMALL, color=color,
            annotation_clip=False,
        )  # fmt: skip
