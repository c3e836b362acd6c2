"""A table as people read it, in Markdown and LaTeX, whatever it holds."""

from collections.abc import Sequence
from dataclasses import dataclass

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
