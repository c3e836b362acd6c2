"""The table of tasks and the strings that labels are written as."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from ept.errors import InputError
from ept.tasks.registry import TASKS, expand_sets, get_task, suite_of, task_sets

# protocol: suite, configuration, number of labels, metrics, split rule, source length
PROTOCOL = {
    "cola": ("glue", "cola", 2, ("matthews",), "halve", 256),
    "sst2": ("glue", "sst2", 2, ("accuracy",), "carve", 256),
    "mrpc": ("glue", "mrpc", 2, ("accuracy", "f1"), "halve", 256),
    "qqp": ("glue", "qqp", 2, ("accuracy", "f1"), "carve", 256),
    "stsb": ("glue", "stsb", 26, ("pearson", "spearman"), "halve", 256),
    "mnli": ("glue", "mnli", 3, ("accuracy",), "mismatched", 256),
    "qnli": ("glue", "qnli", 2, ("accuracy",), "carve", 256),
    "rte": ("glue", "rte", 2, ("accuracy",), "halve", 256),
    "boolq": ("super_glue", "boolq", 2, ("accuracy",), "halve", 256),
    "cb": ("super_glue", "cb", 3, ("accuracy", "macro_f1"), "halve", 256),
    "multirc": ("super_glue", "multirc", 2, ("f1", "exact_match"), "halve", 348),
    "wic": ("super_glue", "wic", 2, ("accuracy",), "halve", 256),
    "wsc": ("super_glue", "wsc.fixed", 2, ("accuracy",), "halve", 256),
    "record": ("super_glue", "record", 0, ("f1", "exact_match"), "carve", 512),
    "squad": ("squad", "plain_text", 0, ("exact_match", "f1"), "carve", 512),
    "nq": ("nq", "data", 0, ("f1", "exact_match"), "carve", 512),
    "hotpotqa": ("hotpotqa", "data", 0, ("f1", "exact_match"), "carve", 512),
    "searchqa": ("searchqa", "data", 0, ("f1", "exact_match"), "carve", 512),
    "newsqa": ("newsqa", "data", 0, ("f1", "exact_match"), "carve", 512),
    "winogrande": ("winogrande", "winogrande_xl", 2, ("accuracy",), "carve", 256),
    "yelp": ("yelp_polarity", "plain_text", 2, ("accuracy",), "carve", 256),
    "scitail": ("scitail", "tsv_format", 2, ("accuracy",), "halve", 256),
    "paws": ("paws", "labeled_final", 2, ("accuracy",), "published", 256),
    "shapes_vqa": ("shapes", "vqa", 12, ("accuracy",), "published", 256),
    "shapes_captioning": ("shapes", "captioning", 0, ("cider", "bleu4"), "published", 256),
    "digits": ("digits", "questions", 12, ("accuracy",), "published", 256),
    "vqa": ("vqa", "data", 0, ("vqa_accuracy",), "carve", 20),
    "coco": ("coco", "karpathy", 0, ("cider", "bleu4"), "published", 20),
}


def test_tasks_are_those_of_the_protocol():
    found = {
        name: (task.suite, task.config, len(task.labels), task.metrics, task.split, task.source_length)
        for name, task in TASKS.items()
    }
    assert found == PROTOCOL


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.kind == "classification" and not task.image])
def test_classes_are_written_as_their_index(task):
    assert [task.written(index) for index in range(len(task.labels))] == list("012"[: len(task.labels)])


def test_stsb_is_written_on_the_grid_of_fifths():
    stsb = TASKS["stsb"]
    assert stsb.labels == (
        "0.0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "1.0",
        "1.2",
        "1.4",
        "1.6",
        "1.8",
        "2.0",
        "2.2",
        "2.4",
        "2.6",
        "2.8",
        "3.0",
        "3.2",
        "3.4",
        "3.6",
        "3.8",
        "4.0",
        "4.2",
        "4.4",
        "4.6",
        "4.8",
        "5.0",
    )
    # 0.5 and 2.5 lie half-way: to even fifths, as T5 rounds. 3.8 as a 32-bit float is 3.7999999523162842.
    scores = {
        0.0: "0.0",
        0.5: "0.4",
        2.5: "2.4",
        3.25: "3.2",
        3.7999999523162842: "3.8",
        4.917: "5.0",
        5.0: "5.0",
    }
    assert {score: stsb.written(score) for score in scores} == scores
    assert all(stsb.written(number / 1000) in stsb.labels for number in range(5001))


def test_the_columns_that_a_template_names_are_required():
    for task in TASKS.values():
        assert set(re.findall(r"{(\w+)}", task.template)) <= set(task.columns)


def test_an_unknown_task_is_named_with_one_that_it_resembles():
    for name, similar in (("rtee", "rte"), ("super_glue", "superglue")):
        with pytest.raises(InputError) as error:
            get_task(name)
        assert repr(name) in str(error.value) and similar in str(error.value) and "\n" not in str(error.value)


def test_sets_stand_for_their_tasks_in_the_order_of_the_records():
    glue = ["mnli", "qqp", "qnli", "sst2", "stsb", "mrpc", "rte", "cola"]
    superglue = ["multirc", "boolq", "wic", "wsc", "cb"]
    mrqa, others = ["nq", "hotpotqa", "searchqa", "newsqa"], ["winogrande", "yelp", "scitail", "paws"]
    pictures = {"vision_demo": ["shapes_vqa", "shapes_captioning", "digits"], "vision": ["vqa", "coco"]}
    assert task_sets() == {"glue": glue, "superglue": superglue, "mrqa": mrqa, "dept_other": others, **pictures}
    assert {name: suite_of(name) for name in ("rte", "cb", "nq", "paws", "squad", "own")} == {
        "rte": "glue", "cb": "superglue", "nq": "mrqa", "paws": "dept_other", "squad": "", "own": ""
    }  # fmt: skip
    assert expand_sets(["glue+superglue"]) == expand_sets(["glue", "superglue"]) == glue + superglue
    assert expand_sets(["squad", "superglue", "nothing"]) == ["squad", *superglue, "nothing"]
    assert expand_sets(["rte+cb"]) == ["rte", "cb"]


def test_a_new_set_is_a_name_in_records(monkeypatch):
    for name in ("rte", "cb"):
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], sets=(*TASKS[name].sets, "small")))
    assert expand_sets(["small"]) == ["rte", "cb"]


def test_records_and_sources_import_nothing_heavy():
    """They are imported when Snakemake parses the workflow and by each of its jobs."""
    code = "import sys, ept.tasks, ept.data.source; print({'numpy', 'pyarrow', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
