"""Bad splits, tokenizers and tokenized files, as `ept tokenize` and `ept train` find them."""

from bad_input.cases import TRAIN, TRAIN_FEW, cases
from bad_input.spoil import after, content, gone, prepared, published, settings, tokenizer, torn
from ept.cli import main

WSC_WITHOUT_SPAN = ["Eve"] * 5 + ["Zoe"]
TRAIN_ARROW = "data/tokenized/tiny/rte/*/train.arrow"
FETCH_WSC = ["fetch", "--config", "config.yaml", "--task", "wsc"]
CASES = {
    "not fetched": (gone("data/raw"), "tokenize --task rte", "rte: there is no such folder; .. `ept fetch --task rte`"),
    "a split not fetched": (
        gone("data/raw/*/rte/train.parquet"),
        "tokenize --task rte",
        "rte/train.parquet: there is no",
    ),
    "torn after fetching": (torn("data/raw/*/rte/train.parquet"), "tokenize --task rte", "rte/train.parquet: .. again"),
    "span nowhere": (
        after(published("wsc", "validation", span1_text=WSC_WITHOUT_SPAN), lambda: main(FETCH_WSC)),
        "tokenize --task wsc",
        "wsc, validation split, row 5: the span 'Zoe' begins at no word .. correct span and index",
    ),
    "half a row": (
        after(published("wsc", "validation", rows=1), lambda: main(FETCH_WSC)),
        "tokenize --task wsc",
        "wsc: the published splits have too few rows for a validation split; use larger ones",
    ),
    "nothing to carve": (
        after(published("sst2", rows=3), lambda: main(["fetch", "--config", "config.yaml", "--task", "sst2"])),
        "tokenize --task sst2",
        "sst2: the published splits have too few rows for a validation split; use larger ones",
    ),
    "no </s>": (tokenizer(drop="</s>"), "tokenize --task rte", "model: the tokenizer does not know </s>; use"),
    "no <pad>": (tokenizer(drop="<pad>"), "tokenize --task rte", "model: the tokenizer does not know <pad>; use"),
    "no piece for the unknown": (
        tokenizer(drop="<unk>"),
        "tokenize --task rte",
        "model: the tokenizer cannot encode .. copy the model's again",
    ),
    "torn tokenizer": (
        torn("model/tokenizer.json"),
        "tokenize --task rte",
        "tokenizer.json: .. copy the model's again",
    ),
    "other tokenizer": (
        content("model/tokenizer.json", "{}"),
        "tokenize --task rte",
        "tokenizer.json: .. copy the model's",
    ),
    "no tokenizer": (
        gone("model/tokenizer.json"),
        "tokenize --task rte",
        "tokenizer.json is missing; a backbone folder",
    ),
    "tokens absent": (gone("data/tokenized"), TRAIN, "train.arrow: there is no such file; make it with `ept tokenize`"),
    "tokens torn": (
        torn(TRAIN_ARROW),
        TRAIN,
        "train.arrow: this is not a whole Arrow file; remove it and make it again",
    ),
    "tokens half": (torn(TRAIN_ARROW, 40), TRAIN, "train.arrow: this is not a whole Arrow file; remove it"),
    "tokens empty": (content(TRAIN_ARROW, ""), TRAIN, "train.arrow: this is not a whole Arrow file; remove it"),
    "tokens of another program": (
        content(TRAIN_ARROW, lambda whole: whole.replace(b"fingerprint", b"fingerpaint")),
        TRAIN,
        "train.arrow: this file was not written by `ept tokenize`; remove it and make it again",
    ),
    "too few examples": (
        settings(),
        "train --method pt --task rte --regime k40",
        "train.arrow: k = 40 needs 20 examples of class 0, but there are 3; choose a smaller k",
    ),
    "a class absent": (
        prepared("rte", label=[0] * 6),
        TRAIN_FEW,
        "train.arrow: the training split has no example of class 1, so k = 4 cannot be balanced; add some",
    ),
}


@cases(CASES)
def test_bad_tokens(refused, spoil, command, words):
    refused(spoil, command, words)
