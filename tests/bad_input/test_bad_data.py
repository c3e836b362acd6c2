"""Bad data sets, as `ept fetch` and `ept check` find them."""

import pyarrow as pa

from bad_input.cases import cases
from bad_input.spoil import (
    a_folder,
    after,
    content,
    fetched,
    gone,
    moved,
    published,
    settings,
    torn,
    two_columns_of_one_name,
)

INVALID_UTF8 = pa.StringArray.from_buffers(
    6, pa.array([0, 1, 2, 4, 5, 6, 7], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xff\xfecde")
)
IDX = [{"paragraph": n // 3, "question": n // 2, "answer": n} for n in range(6)]
RTE, STSB, RECORD, SQUAD, MULTIRC = (f"fetch --task {name}" for name in ("rte", "stsb", "record", "squad", "multirc"))
TRAIN_FILE = "published/glue/rte/train.parquet"
CASES = {
    "no column": (published("rte", sentence2=None), RTE, "rte/train.parquet .. 'sentence2'"),
    "no labels": (published("rte", "validation", label=None), RTE, "rte/validation.parquet .. 'label'"),
    "column twice": (two_columns_of_one_name, RTE, "rte/train.parquet .. 'label' .. 2"),
    "label out of range": (
        published("rte", label=[0, 1, -1, 0, 5, 1]),
        RTE,
        "rte/train.parquet .. row 2 .. -1 .. 0 .. 1",
    ),
    "score out of range": (
        published("stsb", "validation", label=[0.0, 5.0, 5.1, 1.0, 1.0, 1.0]),
        STSB,
        "stsb/validation.parquet .. row 2 .. 5.1",
    ),
    "score not a number": (published("stsb", label=[float("nan")] * 6), STSB, "stsb/train.parquet .. row 0 .. nan"),
    "label missing": (published("rte", label=[0, 1, None] * 2), RTE, "rte/train.parquet .. 'label' .. row 2"),
    "label as text": (published("rte", label=["0", "1"] * 3), RTE, "rte/train.parquet .. 'label' .. string"),
    "label as fraction": (published("rte", label=[0.0, 1.0] * 3), RTE, "rte/train.parquet .. 'label' .. double"),
    "text missing": (
        published("rte", sentence1=["a", "b", "c", "d", None, "f"]),
        RTE,
        "rte/train.parquet .. 'sentence1' .. row 4",
    ),
    "bytes for text": (published("rte", sentence1=[b"a"] * 6), RTE, "rte/train.parquet .. 'sentence1' .. binary"),
    "text not UTF-8": (published("rte", sentence1=INVALID_UTF8), RTE, "train.parquet .. 'sentence1' .. UTF-8 .. row 2"),
    "no entity in a list": (
        published("record", entities=[["a"]] * 5 + [["a", None]]),
        RECORD,
        "record/train.parquet .. 'entities' .. row 5",
    ),
    "no answers": (published("record", answers=[["a"], []] * 3), RECORD, "record/train.parquet .. 'answers' .. row 1"),
    "no answer in a list": (
        published("squad", answers=[{"text": ["a"]}, {"text": [None]}] * 3),
        SQUAD,
        "plain_text/train.parquet .. 'answers' .. row 1",
    ),
    "a blank answer": (
        published("squad", answers=[{"text": ["a"]}, {"text": ["a"]}, {"text": ["a", ""]}] * 2),
        SQUAD,
        "plain_text/train.parquet .. 'answers' .. row 2",
    ),
    "an idx twice": (
        published("multirc", idx=IDX[:5] + IDX[1:2]),
        MULTIRC,
        "multirc/train.parquet .. 'idx' .. row 1 .. row 5",
    ),
    "no idx of a paragraph": (
        published("multirc", idx=[*IDX[:5], {"paragraph": None, "question": 1, "answer": 1}]),
        MULTIRC,
        "multirc/train.parquet .. 'idx' .. 'paragraph' .. row 5",
    ),
    "idx a number": (published("multirc", idx=list(range(6))), MULTIRC, "multirc/train.parquet .. 'idx' .. int64"),
    "idx without question": (
        published("multirc", idx=[{"paragraph": 1}] * 6),
        MULTIRC,
        "multirc/train.parquet .. 'idx' .. 'question'",
    ),
    "numbers for words": (published("scitail", label=[0, 1] * 3), "fetch --task scitail", "train.parquet .. 'label'"),
    "words for numbers": (
        published("paws", "test", label=["yes", "no"] * 3),
        "fetch --task paws",
        "labeled_final/test.parquet .. 'label' .. string",
    ),
    "another word": (
        published("winogrande", answer=["1", "2", "option1"] * 2),
        "fetch --task winogrande",
        "train.parquet .. row 2 .. 'option1' .. 1, 2",
    ),
    "answers in records of MRQA": (
        published("nq", answers=[[{"text": "May", "spans": [3]}]] * 6),
        "fetch --task nq",
        "nq/data/train.parquet .. 'answers'",
    ),
    "a passage in records of MRQA": (
        published("newsqa", context=[{"tokens": ["The", "lake"]}] * 6),
        "fetch --task newsqa",
        "newsqa/data/train.parquet .. 'context'",
    ),
    "answers of other passages": (
        fetched("hotpotqa", "validation", answers=[["June"]] * 6),
        "tokenize --task hotpotqa",
        "hotpotqa .. validation .. 6 of 6 .. row 0 .. 'context'",
    ),
    "an option for the sentence": (
        fetched("winogrande", "validation", sentence=["Ann thanked Eve as _ helped."] * 5 + ["Eve"]),
        "tokenize --task winogrande",
        "winogrande .. validation .. row 5 .. 'Eve' .. option1",
    ),
    "no rows": (published("rte", "validation", rows=0), RTE, "rte/validation.parquet"),
    "half a file": (torn(TRAIN_FILE), RTE, TRAIN_FILE),
    "half a file, checked": (torn("published/glue/sst2/train.parquet"), "check", "published/glue/sst2/train.parquet"),
    "pages of zeros": (content(TRAIN_FILE, lambda whole: whole[:4] + bytes(400) + whole[404:]), RTE, TRAIN_FILE),
    "no Parquet": (content(TRAIN_FILE, "a,b\n1,2\n"), RTE, TRAIN_FILE),
    "empty Parquet": (content(TRAIN_FILE, ""), RTE, TRAIN_FILE),
    "Parquet in words": (content(TRAIN_FILE, b"PAR1" + b"x" * 64 + b"\x20\0\0\0PAR1"), RTE, TRAIN_FILE),
    "no file": (gone(TRAIN_FILE), RTE, TRAIN_FILE),
    "a shard missing": (
        after(
            moved(TRAIN_FILE, "published/glue/rte/train-00000-of-00002.parquet"),
            settings(data__path="published"),
        ),
        RTE,
        "published/glue/rte .. train-0000 .. of-00002.parquet .. 1",
    ),
    "a folder as file": (a_folder(TRAIN_FILE), RTE, TRAIN_FILE),
    "no folder of a task": (settings(), "fetch --task cola", "published/glue/cola"),
    "no folder of data": (settings(data__path="elsewhere"), RTE, "elsewhere .. data.path"),
    "a file as folder": (settings(data__path="config.yaml"), RTE, "config.yaml .. data.path"),
    "a file where data go": (after(gone("data"), content("data", "")), RTE, "data/raw"),
}


@cases(CASES)
def test_bad_data(refused, spoil, command, words):
    refused(spoil, command, words)
