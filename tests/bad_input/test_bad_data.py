"""Bad data sets, as `ept fetch` and `ept check` find them."""

import pyarrow as pa

from bad_input.cases import cases
from bad_input.spoil import a_folder, after, content, gone, published, settings, torn, two_columns_of_one_name

INVALID_UTF8 = pa.StringArray.from_buffers(
    6, pa.array([0, 1, 2, 4, 5, 6, 7], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xff\xfecde")
)
IDX = [{"paragraph": n // 3, "question": n // 2, "answer": n} for n in range(6)]
CASES = {
    "no column": (
        published("rte", sentence2=None),
        "fetch --task rte",
        "train.parquet: column 'sentence2' .. name the",
    ),
    "no labels": (published("rte", "validation", label=None), "fetch --task rte", "validation.parquet: column 'label'"),
    "column twice": (two_columns_of_one_name, "fetch --task rte", "train.parquet: .. 'label' .. 2 times; leave one"),
    "label out of range": (
        published("rte", label=[0, 1, -1, 0, 5, 1]),
        "fetch --task rte",
        "train.parquet: the label in row 2 is -1, but rte's labels go from 0 to 1; correct it",
    ),
    "score out of range": (
        published("stsb", "validation", label=[0.0, 5.0, 5.1, 1.0, 1.0, 1.0]),
        "fetch --task stsb",
        "stsb/validation.parquet: the label in row 2 is 5.1, .. correct it",
    ),
    "score not a number": (published("stsb", label=[float("nan")] * 6), "fetch --task stsb", "row 0 is nan .. correct"),
    "label missing": (
        published("rte", label=[0, 1, None] * 2),
        "fetch --task rte",
        "'label' has no value in row 2; label",
    ),
    "label as text": (
        published("rte", label=["0", "1"] * 3),
        "fetch --task rte",
        "'label' holds string, .. convert it",
    ),
    "label as fraction": (
        published("rte", label=[0.0, 1.0] * 3),
        "fetch --task rte",
        "'label' holds double, .. convert",
    ),
    "text missing": (
        published("rte", sentence1=["a", "b", "c", "d", None, "f"]),
        "fetch --task rte",
        "train.parquet: column 'sentence1' has no value in row 4; fill it",
    ),
    "bytes for text": (
        published("rte", sentence1=[b"a"] * 6),
        "fetch --task rte",
        "'sentence1' holds binary, .. convert",
    ),
    "text not UTF-8": (
        published("rte", sentence1=INVALID_UTF8),
        "fetch --task rte",
        "train.parquet: column 'sentence1' holds text that is not UTF-8 in row 2; write",
    ),
    "no entity in a list": (
        published("record", entities=[["a"]] * 5 + [["a", None]]),
        "fetch --task record",
        "train.parquet: column 'entities' has a list with an empty place in row 5; fill it",
    ),
    "no answers": (published("record", answers=[["a"], []] * 3), "fetch --task record", "no answer in row 1; give one"),
    "no answer in a list": (
        published("squad", answers=[{"text": ["a"]}, {"text": [None]}] * 3),
        "fetch --task squad",
        "train.parquet: column 'answers' has a list with an empty place in row 1; fill it",
    ),
    "an idx twice": (
        published("multirc", idx=IDX[:5] + IDX[1:2]),
        "fetch --task multirc",
        "multirc/train.parquet: column 'idx' has the value of row 1 again in row 5; number",
    ),
    "no idx of a paragraph": (
        published("multirc", idx=IDX[:5] + [{"paragraph": None, "question": 1, "answer": 1}]),
        "fetch --task multirc",
        "multirc/train.parquet: column 'idx' has no 'paragraph' in row 5; fill it",
    ),
    "idx a number": (
        published("multirc", idx=list(range(6))),
        "fetch --task multirc",
        "'idx' holds int64, .. convert it",
    ),
    "idx without question": (
        published("multirc", idx=[{"paragraph": 1}] * 6),
        "fetch --task multirc",
        "column 'idx' lacks the field 'question' of multirc; add it",
    ),
    "no rows": (
        published("rte", "validation", rows=0),
        "fetch --task rte",
        "validation.parquet: the split has no rows; put",
    ),
    "torn Parquet": (
        torn("published/glue/rte/train.parquet"),
        "fetch --task rte",
        "rte/train.parquet: .. copy it again",
    ),
    "torn pages": (
        content("published/glue/rte/train.parquet", lambda whole: whole[:4] + bytes(400) + whole[404:]),
        "fetch --task rte",
        "rte/train.parquet: this is not a whole Parquet file .. make it again",
    ),
    "no Parquet": (
        content("published/glue/rte/train.parquet", "a,b\n1,2\n"),
        "fetch --task rte",
        "rte/train.parquet: this",
    ),
    "empty Parquet": (
        content("published/glue/rte/train.parquet", ""),
        "fetch --task rte",
        "rte/train.parquet: .. copy it",
    ),
    "Parquet in words": (
        content("published/glue/rte/train.parquet", b"PAR1" + b"x" * 64 + b"\x20\0\0\0PAR1"),
        "fetch --task rte",
        "rte/train.parquet: this is not a whole Parquet file .. make it again",
    ),
    "no file": (
        gone("published/glue/rte/train.parquet"),
        "fetch --task rte",
        "rte/train.parquet: there is no .. put rte's",
    ),
    "a folder as file": (
        a_folder("published/glue/rte/train.parquet"),
        "fetch --task rte",
        "rte/train.parquet: .. put rte's",
    ),
    "no folder of a task": (
        settings(),
        "fetch --task cola",
        "published/glue/cola: there is no such folder; put cola's",
    ),
    "no folder of data": (settings(data__path="elsewhere"), "fetch --task rte", "elsewhere: .. correct data.path"),
    "a file as folder": (settings(data__path="config.yaml"), "fetch --task rte", "config.yaml: .. correct data.path"),
    "a file where data go": (
        after(gone("data"), content("data", "")),
        "fetch --task rte",
        "data/raw .. Not a directory; mend that path",
    ),
    "checked with torn data": (
        torn("published/glue/sst2/train.parquet"),
        "check",
        "sst2/train.parquet: .. copy it again",
    ),
}


@cases(CASES)
def test_bad_data(refused, spoil, command, words):
    refused(spoil, command, words)
