"""The further tasks of DePT's paper (Shi and Lipani 2024, arXiv 2309.05173): MRQA's four and four others.

Templates are those of DePT's and ATTEMPT's published code, which writes no task name in front of a text.
"""

from ept.errors import InputError
from ept.tasks.record import Row, Task

BLANK = "_"


def check_blank(row: Row) -> Row:
    """WinoGrande's row as it is. Raises InputError unless the sentence has the blank and the options differ."""
    if BLANK not in row["sentence"]:
        raise InputError(
            f"the sentence {row['sentence']!r} has no {BLANK} for an option; check that sentence, option1 and option2 "
            "are not mixed up"
        )
    if row["option1"] == row["option2"]:
        raise InputError(f"option1 and option2 are both {row['option1']!r}; correct one of them")
    return row


OTHERS = (
    Task(
        name="winogrande",
        suite="winogrande",
        config="winogrande_xl",
        title="WinoGrande",
        kind="classification",
        columns={"sentence": "text", "option1": "text", "option2": "text"},
        # DePT's and ATTEMPT's code has {option1} in both places, so that their models never read option2.
        template="sentence: {sentence} option0: {option1} option1: {option2}",
        labels=("0", "1"),
        label="answer",
        classes=("1", "2"),
        metrics=("accuracy",),
        split="carve",
        sets=("dept_other",),
        prepare=check_blank,
        note="both options are shown; published code shows the first one twice",
    ),
    Task(
        name="yelp",
        suite="yelp_polarity",
        config="plain_text",
        title="Yelp",
        kind="classification",
        columns={"text": "text"},
        template="sentence: {text}",
        labels=("0", "1"),
        metrics=("accuracy",),
        split="carve",
        test_split="test",
        most_train=100_000,
        sets=("dept_other",),
    ),
    Task(
        name="scitail",
        suite="scitail",
        config="tsv_format",
        title="SciTail",
        kind="classification",
        columns={"premise": "text", "hypothesis": "text"},
        template="premise: {premise} hypothesis: {hypothesis}",
        labels=("0", "1"),
        classes=("entails", "neutral"),
        metrics=("accuracy",),
        split="halve",
        sets=("dept_other",),
    ),
    Task(
        name="paws",
        suite="paws",
        config="labeled_final",
        title="PAWS",
        kind="classification",
        columns={"sentence1": "text", "sentence2": "text"},
        template="sentence1: {sentence1} sentence2: {sentence2}",
        labels=("0", "1"),
        metrics=("accuracy",),
        split="published",
        sets=("dept_other",),
    ),
)


def _mrqa(name: str, title: str) -> Task:
    """A data set of MRQA 2019 (Fisch et al., arXiv 1910.09753), scored against all its answers."""
    return Task(
        name=name,
        suite=name,
        config="data",
        title=title,
        kind="extraction",
        columns={"question": "text", "context": "text"},
        # The context comes last: a cut takes nothing of the question.
        template="question: {question} context: {context}",
        # Published scores of these are F1; the rules are SQuAD's, as in MRQA's own script.
        metrics=("f1", "exact_match"),
        split="carve",
        sets=("mrqa",),
        source_length=512,
        passage="context",
    )


MRQA = (
    _mrqa("nq", "NQ"),
    _mrqa("hotpotqa", "HotpotQA"),
    _mrqa("searchqa", "SearchQA"),
    _mrqa("newsqa", "NewsQA"),
)
