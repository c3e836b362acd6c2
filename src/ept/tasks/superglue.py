"""Five tasks of SuperGLUE (Wang et al., arXiv 1905.00537) in the templates of the T5 line of work."""

import re

from ept.errors import InputError
from ept.tasks.record import Row, Task


def strip_tags(row: Row) -> Row:
    """The row with `<br>` as a blank and all other HTML tags taken out of its texts (T5's remove_markup)."""
    return row | {column: _strip_tags(row[column]) for column in ("question", "answer", "paragraph")}


def _strip_tags(text: str) -> str:
    return re.sub(r"</?[A-Za-z][^<>]*>", "", re.sub(r"<br\s*/?>", " ", text))


def mark_spans(row: Row) -> Row:
    """The row with `* noun *` and `# pronoun #` in its text, found by word index (T5's preprocessor of WSC).

    An index at which the span does not stand is an error of the data set (one validation row has it): the
    nearest word where it does stand is marked instead. Raises InputError where the span stands nowhere.
    """
    text = row["text"]
    marks = [(_find_span(text, row[f"{span}_text"], row[f"{span}_index"]), mark) for span, mark in MARKS]
    # The later span first: the place of the other one does not change.
    for (start, end), mark in sorted(marks, reverse=True):
        text = f"{text[:start]}{mark} {text[start:end]} {mark}{text[end:]}"
    return row | {"text": text}


MARKS = (("span1", "*"), ("span2", "#"))


def _find_span(text: str, span: str, index: int) -> tuple[int, int]:
    """First and last character + 1 of the span that begins nearest to word `index`."""
    begins = re.compile(re.escape(span) + r"(?!\w)")
    words = enumerate(re.finditer(r"\S+", text))
    found = [(abs(number - index), match) for number, word in words if (match := begins.match(text, word.start()))]
    if not found:
        raise InputError(f"the span {span!r} does not begin at a word of the text {text!r}; correct span and index")
    return min(found, key=lambda pair: pair[0])[1].span()


SUPERGLUE = (
    Task(
        name="multirc",
        suite="super_glue",
        config="multirc",
        title="MultiRC",
        kind="classification",
        columns={"paragraph": "text", "question": "text", "answer": "text", "idx": "records"},
        # The paragraph comes last: a cut takes nothing of question and answer.
        template="question: {question} answer: {answer} paragraph: {paragraph}",
        labels=("0", "1"),
        metrics=("f1", "exact_match"),
        split="halve",
        sets=("superglue",),
        source_length=348,
        groups=("paragraph", "question"),
        prepare=strip_tags,
    ),
    Task(
        name="boolq",
        suite="super_glue",
        config="boolq",
        title="BoolQ",
        kind="classification",
        columns={"question": "text", "passage": "text"},
        template="question: {question} passage: {passage}",
        labels=("0", "1"),
        metrics=("accuracy",),
        split="halve",
        sets=("superglue",),
    ),
    Task(
        name="wic",
        suite="super_glue",
        config="wic",
        title="WiC",
        kind="classification",
        columns={"sentence1": "text", "sentence2": "text", "word": "text"},
        template="sentence1: {sentence1} sentence2: {sentence2} word: {word}",
        labels=("0", "1"),
        metrics=("accuracy",),
        split="halve",
        sets=("superglue",),
    ),
    Task(
        name="wsc",
        suite="super_glue",
        config="wsc.fixed",
        title="WSC",
        kind="classification",
        columns={
            "text": "text",
            "span1_text": "text",
            "span1_index": "whole numbers",
            "span2_text": "text",
            "span2_index": "whole numbers",
        },
        template="text: {text}",
        labels=("0", "1"),
        metrics=("accuracy",),
        split="halve",
        sets=("superglue",),
        prepare=mark_spans,
    ),
    Task(
        name="cb",
        suite="super_glue",
        config="cb",
        title="CB",
        kind="classification",
        columns={"premise": "text", "hypothesis": "text"},
        template="premise: {premise} hypothesis: {hypothesis}",
        labels=("0", "1", "2"),
        metrics=("accuracy", "macro_f1"),
        split="halve",
        sets=("superglue",),
    ),
)
