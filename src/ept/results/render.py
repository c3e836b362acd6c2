"""A table as people read it, in Markdown and LaTeX, whatever it holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markdown_it import MarkdownIt

from ept.errors import InputError
from ept.plan import paths
from ept.plan.experiment import Experiment

# Signs that LaTeX writes otherwise. The rest of a cell's text is escaped first.
_LATEX = {
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "≈": r"$^\approx$",
    "−": "$-$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


@dataclass(frozen=True)
class Cell:
    """`text` as it is read, `signs` that stand behind it and are explained below the table."""

    text: str = ""
    bold: bool = False
    underlined: bool = False
    signs: str = ""


@dataclass(frozen=True)
class Layout:
    """`head` [columns] and `lines` [rows][columns]; the first column is text, the others are set to the right.

    `notes` stand below the table, a sentence each.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def signed(difference: float) -> str:
    """A difference in points, with its sign: +1.5, −0.3, +0.0."""
    return f"{round(difference, 1) + 0.0:+.1f}".replace("-", "−")


def to_markdown(layout: Layout) -> str:
    """A Markdown table; notes follow after an empty line."""
    lines = [list(layout.head), ["---"] + ["---:"] * (len(layout.head) - 1)]
    lines += [[_markdown(cell) for cell in line] for line in layout.lines]
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return text + "".join(f"\n{note}\n" for note in layout.notes)


def to_latex(layout: Layout) -> str:
    """A booktabs table; notes follow as a paragraph in small print."""
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(layout.head) - 1)}}}", "\\toprule"]
    lines += [" & ".join(_escape(title) for title in layout.head) + r" \\", "\\midrule"]
    lines += [" & ".join(_latex(cell) for cell in line) + r" \\" for line in layout.lines]
    lines += ["\\bottomrule", "\\end{tabular}"]
    if layout.notes:
        lines += ["", "{\\footnotesize " + " ".join(_escape(note) for note in layout.notes) + "}"]
    return "\n".join(lines) + "\n"


def _markdown(cell: Cell) -> str:
    text = " ".join(part for part in (cell.text, cell.signs) if part)
    if cell.bold:
        return f"**{text}**"
    return f"<u>{text}</u>" if cell.underlined else text


def _latex(cell: Cell) -> str:
    text = _escape(cell.text) + _escape(cell.signs)
    if cell.bold:
        return rf"\textbf{{{text}}}"
    return rf"\underline{{{text}}}" if cell.underlined else text


def _escape(text: str) -> str:
    for sign in "_%&":
        text = text.replace(sign, rf"\{sign}")
    for sign, latex in _LATEX.items():
        text = text.replace(sign, latex)
    return text


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1.5rem; }}
h1 {{ font-size: 1.2rem; }}
table {{ border-collapse: collapse; border-top: 2px solid #1a1a1a; border-bottom: 2px solid #1a1a1a; }}
th, td {{ padding: 0.2rem 0.7rem; white-space: nowrap; }}
th {{ border-bottom: 1px solid #1a1a1a; }}
tbody tr:nth-child(even) {{ background: #f4f4f4; }}
figure {{ max-width: 44rem; margin: 0; }}
svg {{ width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
{body}</html>
"""


def table_page(title: str, markdown: str) -> str:
    """A page with the tables and paragraphs of a Markdown text."""
    # The tables' own Markdown underlines by an HTML tag.
    return _page(title, MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def figure_page(title: str, svg: str, caption: str) -> str:
    """A page with a drawing, larger than in a paper's column, and its caption."""
    drawing = svg[svg.index("<svg") :]
    return _page(title, f"<figure>\n{drawing}<figcaption>{escape(caption)}</figcaption>\n</figure>\n")


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=escape(title), body=body)


def show_tables(experiment: Experiment) -> None:
    """Print the main table with aligned columns and the paths of all tables. Raises InputError before they are made."""
    output = experiment.config.output
    main = paths.table_file(output, "main").with_suffix(".md")
    if not main.exists():
        raise InputError(f"{main} is not there yet; make it with `snakemake --cores all all`")
    try:
        text = main.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("| method |"):
        raise InputError(f"{main} is no table; make it again with `ept table --table main`")
    table, _, notes = text.partition("\n\n")
    print("Test scores after training on full data:\n")
    print(align(table))
    print(notes.replace("\n\n", "\n"))
    print("Tables, each as .csv, .md, .tex and .html:")
    for table in experiment.default_tables:
        print(f"  {paths.table_file(output, table)}")
    print(f"Headline numbers: {paths.summary_file(output)}")
    print(f"Where a number comes from: ept trace {paths.table_file(output, 'main')} --method METHOD --task TASK")
    print(f"Figures: {output}/figures/   Report of all of it: report.zip (unpack it and open report.html)")
    print(f"Prompts: prompts/{experiment.config.backbone.name}/   Runs: {output}/runs/")


def align(markdown: str) -> str:
    """A Markdown table with its columns padded to equal width, without HTML's underline tags."""
    plain = markdown.replace("<u>", "_").replace("</u>", "_")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in plain.splitlines()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows[1] = ["-" * width for width in widths]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in rows)
