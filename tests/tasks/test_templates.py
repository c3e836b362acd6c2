"""What the model reads and is taught to write, against strings written out here and against real rows."""

import math
import re

import pyarrow.parquet as pq
import pytest

from data.task_rows import ROWS, fetched_row
from ept.data.source import locate
from ept.errors import InputError
from ept.tasks.registry import TASKS

WRITTEN = {
    "cola": ("sentence: Us seen it.", "0"),
    "sst2": ("sentence: a warm {and} funny film . ", "1"),
    "mrpc": ("sentence1: It rains . sentence2: Rain falls .", "1"),
    "qqp": ("question1: Who are you? question2: Who is she?", "0"),
    "stsb": ("sentence1: A dog runs. sentence2: A dog sits.", "2.4"),
    "mnli": ("premise: It is late. hypothesis: It is noon.", "2"),
    "qnli": ("question: When did it end? sentence: It ended in May.", "0"),
    "rte": ("sentence1: Ann sleeps. sentence2: Ann is awake.", "1"),
    "boolq": ("question: is ice cold passage: Ice -- Ice is frozen water.", "1"),
    "cb": ("premise: A: Is it? B: I doubt it. hypothesis: it is", "1"),
    "multirc": (
        "question: Who has more? answer: Ben  paragraph: Sent 1: Ann has 3 < 5 pens. Ben has > 7.",
        "1",
    ),
    "wic": ("sentence1: A bank of sand. sentence2: The bank lends. word: bank", "0"),
    "wsc": ("text: * Ann * told Eve's aunt that # she # had won, and Eve laughed.", "1"),
    "record": (
        "query: Thanks to @placeholder all went home. entities: Mayor Lund, Lund "
        "passage: The tide rose. Mayor Lund closed the pier. Nobody was hurt",
        "Lund",
    ),
    "squad": ("question: What is ice? context: Ice is frozen water.", "frozen water"),
    "scitail": ("premise: Ice is cold. hypothesis: Water freezes.", "1"),
    "paws": ("sentence1: Ann met Ben. sentence2: Ben met Ann.", "0"),
    "winogrande": ("sentence: Ann thanked Eve as _ helped. option0: Ann option1: Eve", "1"),
    "yelp": ("sentence: Cold soup.\nNever again.", "0"),
    **{
        name: (f"question: when did the lake freeze context: [{name}] The lake froze in May.", "May")
        for name in ("nq", "hotpotqa", "searchqa", "newsqa")
    },
    "shapes_vqa": ("question: what was red?", "ball"),
    "shapes_captioning": ("what was it?", "a red ball"),
    "digits": ("question: is it even?", "yes"),
    "vqa": ("question: What is it?", "dog"),
    "coco": ("describe the picture", "A dog sits."),
}


@pytest.mark.parametrize("name", TASKS)
def test_source_and_target(name):
    example = TASKS[name].example(fetched_row(TASKS[name]))
    assert (example.source, example.target) == WRITTEN[name]


def test_labels_answers_and_groups():
    examples = {name: TASKS[name].example(fetched_row(TASKS[name])) for name in ROWS}
    assert examples["mnli"].label == 2
    assert examples["stsb"].label == 2.5
    assert math.isnan(examples["squad"].label)
    assert examples["squad"].answers == ("frozen water", "water")
    assert examples["record"].answers == ("Lund", "Mayor Lund")
    assert examples["multirc"].group == "4/9"
    assert {name for name, example in examples.items() if example.group} == {"multirc"}


def _wsc(**changes):
    return TASKS["wsc"].example(ROWS["wsc"] | changes).source


def test_wsc_marks_the_span_and_not_the_rest_of_its_word():
    assert _wsc(span1_text="Eve", span1_index=2) == (
        "text: Ann told * Eve *'s aunt that # she # had won, and Eve laughed."
    )


def test_wsc_marks_a_pronoun_that_stands_before_the_noun():
    assert _wsc(span1_text="Eve laughed", span1_index=9) == (
        "text: Ann told Eve's aunt that # she # had won, and * Eve laughed *."
    )


def test_wsc_marks_the_nearest_place_where_the_index_is_wrong():
    assert "and * Eve * laughed" in _wsc(span1_text="Eve", span1_index=8)
    assert "* Eve *'s aunt" in _wsc(span1_text="Eve", span1_index=1)


def test_wsc_refuses_a_span_that_is_not_there():
    for span in ("Zoe", "Ev"):
        with pytest.raises(InputError, match=repr(span)):
            _wsc(span1_text=span)


def _real_rows(real_data, name):
    return pq.read_table(locate(TASKS[name], str(real_data))["train"]).slice(0, 300).to_pylist()


# The tasks whose source is nothing but columns with their names (multirc's copy here has no tags left).
COLUMNS = {
    "cola": "sentence",
    "sst2": "sentence",
    "mrpc": "sentence1 sentence2",
    "qqp": "question1 question2",
    "stsb": "sentence1 sentence2",
    "mnli": "premise hypothesis",
    "qnli": "question sentence",
    "rte": "sentence1 sentence2",
    "boolq": "question passage",
    "cb": "premise hypothesis",
    "multirc": "question answer paragraph",
    "wic": "sentence1 sentence2 word",
    "squad": "question context",
}


@pytest.mark.parametrize("name", COLUMNS)
def test_real_rows_are_named_columns_one_after_another(real_data, name):
    columns = COLUMNS[name].split()
    for row in _real_rows(real_data, name):
        assert TASKS[name].example(row).source == " ".join(f"{column}: {row[column]}" for column in columns)


def test_real_wsc_has_two_marked_spans_and_no_other_change(real_data):
    for row in _real_rows(real_data, "wsc"):
        source = TASKS["wsc"].example(row).source
        assert f"* {row['span1_text']} *" in source
        assert f"# {row['span2_text']} #" in source
        assert source.count("*") == source.count("#") == 2
        assert re.sub(r"[*#] | [*#]", "", source) == f"text: {row['text']}"


def test_real_record_keeps_passage_query_and_entities(real_data):
    for row in _real_rows(real_data, "record"):
        source = TASKS["record"].example(row).source
        assert "@highlight" not in source
        assert source.startswith(f"query: {row['query']} entities: {row['entities'][0]}")
        for highlight in row["passage"].split("\n@highlight\n"):
            assert highlight in source
