"""Bad splits, tokenizers and tokenized files, as `ept tokenize` and `ept train` find them."""

from bad_input.cases import TRAIN_FEW, cases
from bad_input.spoil import after, content, gone, prepared, published, settings, tokenizer, torn
from ept.cli import main

WSC_WITHOUT_SPAN = ["Eve"] * 5 + ["Zoe"]
TRAIN_ARROW, TRAIN_RAW = "data/tokenized/tiny/rte/*/train.arrow", "data/raw/*/rte/train.parquet"


def fetched(name, *arguments, **columns):
    """A task's published splits after changes, fetched."""
    return after(
        published(name, *arguments, **columns), lambda: main(f"fetch --config config.yaml --task {name}".split())
    )


# More than the backbone's vocabulary; the tests' rows are written with the last of them.
EVERY_WORD = " ".join([*map(str, range(40)), "sentence1:", "Ann"])
RTE, WSC, SST2, RECORD = (f"tokenize --task {name}" for name in ("rte", "wsc", "sst2", "record"))
CASES = {
    "not fetched": (gone("data/raw"), RTE, "data/raw .. rte .. `ept fetch --task rte`"),
    "a split not fetched": (gone(TRAIN_RAW), RTE, "rte/train.parquet"),
    "no manifest": (gone("data/raw/*/rte/manifest.json"), RTE, "rte/manifest.json .. `ept fetch --task rte`"),
    "another manifest": (content("data/raw/*/rte/manifest.json", "[1]"), RTE, "rte/manifest.json"),
    "half a file": (torn(TRAIN_RAW), RTE, "rte/train.parquet"),
    "half a file more": (content(TRAIN_RAW, lambda whole: whole + whole[:100]), RTE, "rte/train.parquet"),
    "span nowhere": (
        fetched("wsc", "validation", span1_text=WSC_WITHOUT_SPAN),
        WSC,
        "wsc .. validation .. row 5 .. 'Zoe'",
    ),
    "no placeholder": (
        fetched("record", query=["@placeholder is here"] * 4 + ["nobody is here", "@placeholder"]),
        RECORD,
        "record .. train .. row 4 .. 'nobody is here' .. @placeholder",
    ),
    "half a row": (fetched("wsc", "validation", rows=1), WSC, "wsc .. validation"),
    "nothing to carve": (fetched("sst2", rows=3), SST2, "sst2 .. validation"),
    "no </s>": (tokenizer(drop="</s>"), RTE, "model .. </s>"),
    "no <pad>": (tokenizer(drop="<pad>"), RTE, "model .. <pad>"),
    "no piece for the unknown": (tokenizer(drop="<unk>"), RTE, "model .. tokenizer"),
    "half a tokenizer": (torn("model/tokenizer.json"), RTE, "model/tokenizer.json"),
    "other tokenizer": (content("model/tokenizer.json", "{}"), RTE, "model/tokenizer.json"),
    "no tokenizer": (gone("model/tokenizer.json"), RTE, "tokenizer.json"),
    "more pieces than embeddings": (tokenizer(EVERY_WORD), RTE, "vocab_size"),
    "tokens absent": (gone("data/tokenized"), TRAIN_FEW, "train.arrow .. `ept tokenize`"),
    "tokens without their end": (torn(TRAIN_ARROW), TRAIN_FEW, "train.arrow"),
    "half the tokens": (torn(TRAIN_ARROW, 40), TRAIN_FEW, "train.arrow"),
    "tokens empty": (content(TRAIN_ARROW, ""), TRAIN_FEW, "train.arrow"),
    "tokens of another program": (
        content(TRAIN_ARROW, lambda whole: whole.replace(b"fingerprint", b"fingerpaint")),
        TRAIN_FEW,
        "train.arrow .. `ept tokenize`",
    ),
    "too few examples": (settings(), "train --method pt --task rte --regime k40", "k = 40 .. 20 .. class 0 .. 3"),
    "a class absent": (prepared("rte", label=[0] * 6), TRAIN_FEW, "class 1 .. k = 4"),
}


@cases(CASES)
def test_bad_tokens(refused, spoil, command, words):
    refused(spoil, command, words)
