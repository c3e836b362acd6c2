"""A table as people read it: in Markdown, LaTeX, HTML, and as plain text in a terminal."""

import itertools
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

from markdown_it import MarkdownIt

from ept.errors import InputError
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.results.records import check_table_file, read_table_settings

# Characters that LaTeX writes in another way.
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        **{sign: rf"\{sign}" for sign in "_%&#${}"},
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "†": r"$^\dagger$",
        "‡": r"$^\ddagger$",
        "§": r"\S",
        "≈": r"$^\approx$",
        "−": "$-$",
        "×": r"$\times$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
    }
)
# What a note says of the marks of a column, and what it says where text has no typefaces.
MARKS, PLAIN_MARKS = "Best in bold, second underlined", "* best, + second"
# Characters: notes in a terminal are at least so wide.
LEAST_WIDTH = 80
_MARK = {"bold": "*", "underlined": "+"}


@dataclass(frozen=True)
class Cell:
    """What a cell shows: `text`, and `signs` after it that the notes below the table explain.

    `link` is where it leads to in Markdown and HTML.
    """

    text: str = ""
    bold: bool = False
    underlined: bool = False
    signs: str = ""
    link: str = ""


@dataclass(frozen=True)
class Layout:
    """A table: `head` [columns] and `lines` [rows][columns]; the first column is text, the others are right-aligned.

    `notes` stand below the table. In HTML `groups` [columns] stand above the titles, once for neighbors that are alike.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    groups: Sequence[str] = ()


def p_text(p: float) -> str:
    """A p value with two digits, or that it is below 0.001; empty where nothing was tested (NaN)."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.2g}"


def signed(difference: float) -> str:
    """A difference in points, with its sign: +1.5, −0.3, +0.0."""
    return f"{round(difference, 1) + 0.0:+.1f}".replace("-", "−")


def to_markdown(layout: Layout) -> str:
    """A Markdown table; notes follow after an empty line."""
    lines = [[_markdown_text(title) for title in layout.head], ["---"] + ["---:"] * (len(layout.head) - 1)]
    lines += [[_markdown(cell) for cell in line] for line in layout.lines]
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return text + "".join(f"\n{_markdown_text(note)}\n" for note in layout.notes)


def to_latex(layout: Layout) -> str:
    """A booktabs table; notes follow as a paragraph in small print."""
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(layout.head) - 1)}}}", "\\toprule"]
    lines += [" & ".join(title.translate(_LATEX) for title in layout.head) + r" \\", "\\midrule"]
    lines += [" & ".join(_latex(cell) for cell in line) + r" \\" for line in layout.lines]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if layout.notes:
        lines += ["", "{\\footnotesize " + " ".join(note.translate(_LATEX) for note in layout.notes) + "}"]
    return "\n".join(lines) + "\n"


def to_text(layout: Layout) -> str:
    """An aligned table for a terminal; the two best cells of a column are marked by signs. Notes follow."""
    rows = [list(layout.head), *([_plain(cell) for cell in line] for line in layout.lines)]
    head, *lines = aligned(rows)
    width = max(len(head), LEAST_WIDTH)
    notes = [textwrap.fill(note.replace(MARKS, PLAIN_MARKS), width) for note in layout.notes]
    return "\n".join([head, "-" * len(head), *lines, *[""] * bool(notes), *notes]) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as lines: the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if column else '<'}{widths[column]}}" for column, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _markdown(cell: Cell) -> str:
    text = _markdown_text(" ".join(part for part in (cell.text, cell.signs) if part))
    text = f"[{text}]({cell.link})" if cell.link else text
    if cell.bold:
        return f"**{text}**"
    return f"<u>{text}</u>" if cell.underlined else text


def _markdown_text(text: str) -> str:
    """Text that stays what it is in Markdown and HTML, whatever a file of results says."""
    text = re.sub(r"&(?=#|\w+;)", "&amp;", " ".join(text.splitlines()))
    return re.sub(r"([\\`*\[|])", r"\\\1", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text))


def _from_markdown(cell: str) -> Cell:
    """The cell that `_markdown` wrote."""
    bold, underlined = cell.startswith("**"), cell.startswith("<u>")
    text = cell.removeprefix("**").removesuffix("**").removeprefix("<u>").removesuffix("</u>")
    return Cell(re.sub(r"\\([\\`*\[|])", r"\1", unescape(text)), bold, underlined)


def _latex(cell: Cell) -> str:
    text = (cell.text + cell.signs).translate(_LATEX)
    if cell.bold:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.underlined else text


def _plain(cell: Cell) -> str:
    text = " ".join(part for part in (cell.text, cell.signs) if part)
    return text + _MARK["bold"] * cell.bold + _MARK["underlined"] * cell.underlined


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
h1 {{ font-size: 1.2rem; }}
h2 {{ font-size: 1.05rem; margin-top: 2rem; }}
p {{ max-width: 60rem; position: sticky; left: 1.5rem; width: calc(100vw - 3rem); }}
table {{ border-collapse: separate; border-spacing: 0; border: solid #1a1a1a; border-width: 2px 0; }}
th, td {{ padding: 0.2rem 0.7rem; white-space: nowrap; background: #fff; }}
th {{ border-bottom: 1px solid #1a1a1a; position: sticky; top: 0; z-index: 1; cursor: pointer; }}
tr > :first-child {{ position: sticky; left: 0; border-right: 1px solid #ccc; }}
th:first-child, .groups th {{ text-align: left; }}
th:first-child {{ z-index: 2; }}
.groups th {{ position: static; border-bottom: 0; font-weight: normal; cursor: default; }}
.groups th:not(:first-child) {{ border-left: 1px solid #ccc; }}
tbody tr:nth-child(even) > * {{ background: #f4f4f4; }}
td {{ vertical-align: top; }}
td a {{ color: #0b57a4; text-decoration: none; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; min-width: 14rem; max-width: 36rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; max-width: calc(100vw - 3rem); position: sticky; left: 1.5rem; }}
figure {{ max-width: 44rem; margin: 0; }}
svg {{ width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
{body}{script}</html>
"""
# A click on a title sorts by its column, numbers by size; a second click turns the order around.
_SORT = """<script>
for (const title of document.querySelectorAll("thead tr:last-child th")) {
  title.title = "sort by this column";
  title.onclick = () => {
    const body = title.closest("table").tBodies[0], column = title.cellIndex;
    const text = row => row.cells[column].textContent.trim();
    const number = row => parseFloat(text(row).replace(/,/g, "").replace("\u2212", "-"));
    const turned = title.dataset.turned = title.dataset.turned === "1" ? "-1" : "1";
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (isNaN(x) && isNaN(y)) return text(a).localeCompare(text(b));
      return isNaN(x) ? 1 : isNaN(y) ? -1 : y - x;
    };
    body.append(...[...body.rows].sort((a, b) => turned * compare(a, b)));
  };
}
</script>
"""


def table_page(title: str, markdown: str, groups: Sequence[str] = ()) -> str:
    """A page with the tables and paragraphs of a Markdown text; tables can be sorted.

    Args:
        title: The page's title.
        markdown: What it shows.
        groups: [columns] of the first table, see `Layout`; shown where there are several.

    Returns:
        The page.
    """
    html = to_html(markdown)
    if len(set(groups) - {""}) > 1:
        html = html.replace("<thead>\n", f"<thead>\n{_group_row(groups)}", 1)
    return page(title, html, sortable=True)


def _group_row(groups: Sequence[str]) -> str:
    spans = [(name, len(list(members))) for name, members in itertools.groupby(groups)]
    cells = "".join(f'<th colspan="{columns}">{escape(name)}</th>' for name, columns in spans)
    return f'<tr class="groups">{cells}</tr>\n'


def to_html(markdown: str) -> str:
    """The tables and paragraphs of a Markdown text as HTML."""
    # The tables' own Markdown underlines by an HTML tag.
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def figure_page(title: str, svg: str, caption: str) -> str:
    """A page with a drawing, larger than in a paper's column, and its caption."""
    return page(title, f"<figure>\n{drawing(svg)}<figcaption>{escape(caption)}</figcaption>\n</figure>\n")


def drawing(svg: str) -> str:
    """The drawing of an SVG file, to be embedded in a page."""
    return svg[svg.index("<svg") :]


def html_table(head: Sequence[str], lines: Sequence[Sequence[str]], wrapped: Sequence[int] = ()) -> str:
    """A table of plain texts as HTML; the columns whose numbers are in `wrapped` hold texts of several lines."""

    def row(cells: Sequence[str], tag: str) -> str:
        styles = [' class="text"' if column in wrapped else "" for column in range(len(cells))]
        parts = zip(styles, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{style}>{escape(cell)}</{tag}>" for style, cell in parts) + "</tr>\n"

    body = "".join(row(line, "td") for line in lines)
    return f"<table>\n<thead>\n{row(head, 'th')}</thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def page(title: str, body: str, sortable: bool = False) -> str:
    """A page that needs no other file. A click on a column's title sorts its table where tables are `sortable`."""
    return _PAGE.format(title=escape(title), body=body, script=_SORT if sortable else "")


def show_tables(experiment: Experiment) -> None:
    """Print the main table for a terminal and the paths of all tables.

    Raises InputError before they are made, and for a file that was changed since.
    """
    output = experiment.config.output
    table = paths.table_file(output, "main")
    main = table.with_suffix(".md")
    if not main.exists():
        raise InputError(f"{main} does not exist yet; make it with `snakemake --cores all all`")
    check_table_file(main, read_table_settings(paths.table_settings_file(output, "main")))
    print("Test scores after training on full data:\n")
    print(text_of(main))
    print("Tables, each as .csv, .md, .tex and .html:")
    for name in experiment.default_tables:
        print(f"  {paths.table_file(output, name)}")
    print(f"Headline numbers: {paths.summary_file(output)}")
    print(f"Where a number comes from: ept trace {table} --method METHOD --task TASK")
    print(f"Figures: {output}/figures/   Report of all of it: {output}/report.zip (unpack it and open report.html)")
    print(f"Prompts: prompts/{experiment.config.backbone.name}/   Runs: {paths.RUNS}/")


def text_of(path: Path) -> str:
    """A table's Markdown file as text for a terminal."""
    return to_text(parse_table(path.read_text(encoding="utf-8")))


def parse_table(markdown: str) -> Layout:
    """The table that `to_markdown` wrote, without links."""
    rows, _, notes = markdown.partition("\n\n")
    # No cell ends with a backslash, which would protect the bar after it.
    head, _, *lines = [
        [_from_markdown(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in rows.splitlines()
    ]
    notes_ = [_from_markdown(note).text for note in notes.splitlines() if note]
    return Layout([cell.text for cell in head], lines, notes_)
