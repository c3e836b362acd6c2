"""Answers that are spans: SQuAD (arXiv 1606.05250) and ReCoRD (arXiv 1810.12885), sources of prompts."""

import re

from ept.errors import InputError
from ept.tasks.record import Row, Task


def join_highlights(row: Row) -> Row:
    """ReCoRD's row with its entities as one text and its `@highlight` lines as sentences of the passage.

    A highlight line becomes the start of the next sentence; the sentence before it gets a full stop where it
    has no mark at its end (T5's preprocessor of ReCoRD). One row is one query; training learns the first
    answer. Raises InputError for a query without the `@placeholder` that the answer takes the place of.
    """
    if "@placeholder" not in row["query"]:
        raise InputError(f"the query {row['query']!r} has no @placeholder; add it or remove the row")
    passage = re.sub(r"([.?!\"'])\n@highlight\n", r"\1 ", row["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    return row | {"passage": passage, "entities": ", ".join(row["entities"])}


QA = (
    Task(
        name="record",
        suite="super_glue",
        config="record",
        title="ReCoRD",
        kind="extraction",
        columns={"passage": "text", "query": "text", "entities": "lists of text"},
        # The passage comes last: a cut takes nothing of query and entities.
        template="query: {query} entities: {entities} passage: {passage}",
        metrics=("f1", "exact_match"),
        split="carve",
        source_length=512,
        passage="passage",
        prepare=join_highlights,
    ),
    Task(
        name="squad",
        suite="squad",
        config="plain_text",
        title="SQuAD",
        kind="extraction",
        columns={"question": "text", "context": "text"},
        template="question: {question} context: {context}",
        metrics=("exact_match", "f1"),
        split="carve",
        source_length=512,
        passage="context",
    ),
)
