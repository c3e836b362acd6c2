"""Bad input to every verb: status 2, one sentence that names file, row or key and the remedy, nothing left behind."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from data.task_rows import table, write_local, write_tokenizer
from ept.cli import main
from ept.config import load_configuration
from ept.experiment import Experiment
from ept.prompts.save import save_prompt
from ept.tasks import TASKS

# The folder that every case starts from: data in published/, a backbone in model/, all made for training.
SOUND = {
    "output": "out",
    "backbone": {"name": "tiny", "source": "local", "id": "model"},
    "data": {"source": "local", "path": "published"},
    "tasks": {"target": ["rte"], "source": ["sst2"]},
    "methods": ["pt", "dept"],
    "seeds": [0],
    "prompt": {"length": 20, "short_length": 4, "reference_length": 16},
    "training": {
        "steps": 1,
        "warmup_steps": 0,
        "learning_rates": {"pt": {"prompt": [0.3]}, "dept": {"prompt": [0.3], "low_rank": [0.1]}},
    },
    "few_shot": {"k": [4], "steps": 1, "warmup_steps": 0},
}
FETCH_WSC = ["fetch", "--config", "config.yaml", "--task", "wsc"]
TRAIN = "train --method pt --task rte --regime full"
TRAIN_FEW = "train --method pt --task rte --regime k4"
FROM_SOURCE = "train --method dept --task rte --regime k4 --initialise-from source"
IMPORT = "import --format peft --from adapter --to prompts/new.safetensors"
EXPORT = "export --format dept --from prompts/mine.safetensors --to new"
ADAPTER = {"peft_type": "PROMPT_TUNING", "task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 4, "token_dim": 16}


# What a case does to the folder: functions without arguments, run inside it.


def settings(**changes):
    """config.yaml with other settings; `training__steps` is the key training.steps."""

    def write():
        new = json.loads(json.dumps(SOUND))
        for key, value in changes.items():
            *sections, name = key.split("__")
            section = new
            for part in sections:
                section = section.setdefault(part, {})
            section[name] = value
        Path("config.yaml").write_text(yaml.safe_dump(new))

    return write


def content(file, new):
    """A file with these bytes, this text, or, given a function, changed bytes; `file` may be a pattern."""

    def write():
        (path,) = Path(".").glob(file) if "*" in file else [Path(file)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(new(path.read_bytes()) if callable(new) else new.encode() if isinstance(new, str) else new)

    return write


def torn(file, kept=-100):
    """A file without its end; a negative `kept` counts from there."""
    return content(file, lambda whole: whole[:kept])


def gone(path):
    """Without a file or folder."""

    def remove():
        (found,) = Path(".").glob(path)
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return remove


def moved(path, to):
    """A file or folder under another name."""
    return lambda: Path(path).rename(to)


def a_folder(path):
    """An empty folder where a file should be."""

    def make():
        Path(path).unlink(missing_ok=True)
        Path(path).mkdir(parents=True)

    return make


def published(name, split="train", rows=6, **columns):
    """A task's published splits, the columns of one of them replaced; None takes a column away."""

    def write():
        files = write_local(Path("published"), TASKS[name])
        changed = table(TASKS[name], rows)
        for column, values in columns.items():
            changed = changed.drop_columns(column)
            if values is not None:
                changed = changed.append_column(column, values if isinstance(values, pa.Array) else pa.array(values))
        pq.write_table(changed, files / f"{split}.parquet")

    return write


def two_columns_of_one_name():
    files = write_local(Path("published"), TASKS["rte"])
    sound = table(TASKS["rte"])
    pq.write_table(sound.append_column("label", sound["label"]), files / "train.parquet")


def prepared(name, **changes):
    """A task fetched and tokenised, after changes as in `published`."""

    def make():
        published(name, **changes)()
        for verb in ("fetch", "tokenize"):
            assert main([verb, "--config", "config.yaml", "--task", name]) == 0

    return make


def after(*steps):
    """Several changes, one after the other."""
    return lambda: [step() for step in steps]


def model_json(**changes):
    """The backbone's config.json with other values."""
    return content("model/config.json", lambda whole: json.dumps(json.loads(whole) | changes).encode())


def record(file, **changes):
    """A JSON record with other values; None takes a key away."""

    def change(whole):
        new = json.loads(whole) | changes
        return json.dumps({key: value for key, value in new.items() if value is not None}).encode()

    return content(file, change)


def model_tensors(change):
    """The backbone's weights after a change of the dictionary."""

    def write():
        tensors = load_file("model/model.safetensors")
        change(tensors)
        save_file(tensors, "model/model.safetensors")

    return write


def index(weight_map):
    """The backbone's weights as one shard with this index."""
    text = json.dumps({"weight_map": weight_map})
    shard = moved("model/model.safetensors", "model/model-00001-of-00001.safetensors")
    return after(shard, content("model/model.safetensors.index.json", text))


def tokenizer(words="0 1", drop="", **changes):
    """Another tokenizer in the backbone's folder."""

    def write():
        path = write_tokenizer(Path("model"), words, drop) / "tokenizer.json"
        values = json.loads(path.read_text())
        values["model"] |= changes
        path.write_text(json.dumps(values))

    return write


def source_prompt(without=(), **changes):
    """The source prompt that DePT starts from, with other tensors."""
    tensors = {"prompt": torch.ones(4, 16), "A": torch.ones(256, 8), "B": torch.ones(8, 16)} | changes

    def write():
        kept = {name: tensor for name, tensor in tensors.items() if name not in without}
        save_prompt(_source_prompt(), kept, {}, {"method": "dept"})

    return write


def _source_prompt():
    pack = Experiment(load_configuration("config.yaml")).source_pack("dept", "sst2")
    return pack.source_prompt


def prompt(**tensors):
    """The prompt file that is exported."""
    return lambda: save_prompt("prompts/mine.safetensors", {}, tensors, {"method": "ept"})


def foreign(file, header=None):
    """A safetensors file that another program has written."""

    def write():
        path = file() if callable(file) else Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"prompt": torch.ones(4, 16)}, path, metadata=header and {"ept": json.dumps(header)})

    return write


def adapter(config=(), **tensors):
    """A folder as PEFT writes it."""

    def write():
        Path("adapter").mkdir()
        Path("adapter/adapter_config.json").write_text(json.dumps(ADAPTER | dict(config)))
        save_file({"prompt_embeddings": torch.ones(8, 16)} | tensors, "adapter/adapter_model.safetensors")

    return write


INVALID_UTF8 = pa.StringArray.from_buffers(
    6, pa.array([0, 1, 2, 4, 5, 6, 7], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xff\xfecde")
)
WSC_WITHOUT_SPAN = ["Eve"] * 5 + ["Zoe"]
IDX = [{"paragraph": n // 3, "question": n // 2, "answer": n} for n in range(6)]
RUN = "out/runs/tiny/pt/rte/full/*/"
TRAIN_ARROW = "data/tokenized/tiny/rte/*/train.arrow"

# Name: (what is wrong, the command, words of the sentence in their order, parted by " .. "). No word of the command
# names the configuration: it is config.yaml.
CONFIGURATION = {
    "unknown key": (settings(sedes=[1]), "check", "config.yaml: unknown key sedes; .. lists the keys"),
    "unknown key in a section": (settings(prompt__lenght=1), "check", "config.yaml: unknown key prompt.lenght;"),
    "unknown key in training": (settings(training__stepz=1), "check", "unknown key training.stepz; .. lists the keys"),
    "a number as key": (content("config.yaml", "1: 2\ntasks: {target: [rte]}"), "check", "config.yaml .. key .. 1"),
    "missing key": (content("config.yaml", "seeds: [1]"), "check", "config.yaml: the key tasks is missing"),
    "nothing in a section": (settings(tasks=None), "check", "config.yaml, key tasks: found None; input should be"),
    "text for a list": (settings(seeds="three"), "check", "config.yaml, key seeds: found 'three'; input should be"),
    "a list for a mapping": (settings(data__source_length=[3]), "check", "key data.source_length: found [3]; input"),
    "text for a number": (settings(training__steps="many"), "check", "key training.steps .. found 'many'; input"),
    "text for a rate": (
        settings(training__learning_rates={"pt": {"prompt": ["fast"]}}),
        "check",
        "key training.learning_rates.pt.prompt.0: found 'fast'; input should be a valid number",
    ),
    "seed too large": (
        settings(seeds=[2**64]),
        "check",
        "key seeds: 18446744073709551616 is too large; .. below 2**63",
    ),
    "norm not a number": (settings(training__clip_norm=float("nan")), "check", "training.clip_norm is nan; it must"),
    "norm without end": (settings(few_shot__clip_norm=float("inf")), "check", "few_shot.clip_norm is inf; it must"),
    "length 0": (settings(data__source_length={"rte": 0}), "check", "key data: source_length.rte is 0; it must"),
    "unknown task": (settings(tasks__target=["rtee"]), "check", "key tasks.target: .. 'rtee'; .. rte"),
    "unknown method": (settings(methods=["lora"]), "check", "key methods: unknown method 'lora'; known are pt"),
    "local without path": (settings(data__path=""), "check", "key data: path is needed with source local"),
    "demo with path": (settings(data__source="demo"), "check", "key data: path is .. allowed only there"),
    "hub without revision": (settings(backbone__source="hub"), "check", "key backbone: .. a revision (commit)"),
    "no room for the pair": (
        settings(prompt__short_length=20),
        "check",
        "prompt.short_length is 20, .. choose it below",
    ),
    "start from no text": (settings(prompt__init="text"), "check", "prompt.init_text is empty; write the text there"),
    "budget that cannot be": (
        settings(ept={"budget": "matched", "projection": "full"}),
        "check",
        "config.yaml: ept.budget matched cannot be met with ept.projection full, .. use budget decomposition",
    ),
    "only itself as source": (settings(tasks__source=["rte"]), "check", "dept starts rte .. add a source task"),
    "source that is no source": (settings(few_shot__source="cb"), "check", "few_shot.source is cb, .. ['sst2']"),
    "no YAML": (content("config.yaml", "tasks: [a\nseeds: 3: 4"), "check", "config.yaml, line 2 .. YAML: .. mend"),
    "tabs": (content("config.yaml", "tasks:\n\ttarget: [rte]"), "check", "config.yaml, line 2 .. YAML: .. mend"),
    "two documents": (content("config.yaml", "seeds: [1]\n---\nseeds: [2]"), "check", "config.yaml, line 2 .. mend"),
    "control character": (content("config.yaml", "seeds: [1]\0"), "check", "config.yaml is not valid YAML: .. mend"),
    "Python objects": (content("config.yaml", "output: !!python/name:os.system ''"), "check", "line 1 .. mend"),
    "nested without end": (content("config.yaml", "[" * 2_000), "check", "config.yaml is not valid YAML: .. mend"),
    "inside itself": (content("config.yaml", "tasks: &all {target: *all}"), "check", "key tasks.target: found"),
    "Latin-1": (content("config.yaml", "output: é".encode("latin-1")), "check", "config.yaml: .. save it as UTF-8"),
    "UTF-16": (content("config.yaml", "output: a".encode("utf-16")), "check", "config.yaml: .. save it as UTF-8"),
    "empty": (content("config.yaml", ""), "check", "config.yaml is empty; write"),
    "only comments": (content("config.yaml", "# later\n"), "check", "config.yaml is empty; write"),
    "a list": (content("config.yaml", "[1, 2]"), "check", "config.yaml must be a mapping of settings, found list"),
    "no configuration": (gone("config.yaml"), "check", "configuration config.yaml .. No such file .. with --config"),
    "a folder as configuration": (a_folder("config.yaml"), "show", "config.yaml .. Is a directory .. with --config"),
    "no hub backbone": (settings(), "download-backbone", "config.yaml: backbone.source is local; only a hub backbone"),
}
DATA = {
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
    "no such task": (settings(), "fetch --task rtee", "'rtee'; .. rte"),
    "no task named": (settings(), "fetch", "--task .. see `ept fetch --help`"),
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
TOKENS = {
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
        "model: the tokenizer cannot encode .. use that of a T5 model",
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
}
TRAINING = {
    "no pack": (settings(), "train --method pt", "name a pack by --hash, or by --method, --task and --regime"),
    "unknown hash": (settings(), "train --hash 01234567", "settings hash 01234567; is it another configuration's"),
    "unknown method": (settings(), "train --method lora --task rte --regime full", "'lora'; known are pt"),
    "unknown task": (settings(), "train --method pt --task rtee --regime full", "'rtee'; .. rte"),
    "unknown regime": (settings(), "train --method pt --task rte --regime half", "'half'; use full, source or k"),
    "no examples": (settings(), "train --method pt --task rte --regime k0", "'k0'; use full, source or k"),
    "PT from a source": (settings(), f"{TRAIN_FEW} --initialise-from source", "pt .. from scratch; leave out"),
    "SPoT from scratch": (settings(), "train --method spot --task rte --regime k4", "spot .. --initialise-from source"),
    "no source tasks": (
        settings(methods=["pt"], tasks={"target": ["rte"]}),
        FROM_SOURCE,
        "tasks.source has no task other than rte; add a source task",
    ),
    "no threads": (settings(), f"{TRAIN} --threads 0", "--threads: .. '0' .. see `ept train --help`"),
    "threads in words": (settings(), f"{TRAIN} --threads two", "--threads: .. 'two' .. see `ept train --help`"),
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
    "no labels to start from": (
        after(settings(prompt__init="labels"), prepared("squad")),
        "train --method pt --task squad --regime full",
        "prompt.init is labels, but the task has no class labels; use init: vocabulary",
    ),
    "rank too large": (
        settings(prompt__rank=9),
        "train --method dept --task rte --regime full",
        "prompt.rank is 9, .. hidden size 16 .. at most 8; lower prompt.rank",
    ),
    "no budget for a pair": (
        settings(prompt={"length": 20, "short_length": 19, "reference_length": 256}),
        "train --method dept --task rte --regime full",
        "prompt.short_length 19 .. hidden size 16; lower prompt.short_length",
    ),
    "source prompt absent": (
        lambda: _source_prompt().unlink(),
        FROM_SOURCE,
        "there is no prompt file prompts/tiny/dept/sst2/source/ .. seed0.safetensors; train it first",
    ),
    "source prompt torn": (
        torn("prompts/tiny/dept/sst2/source/*/seed0.safetensors"),
        FROM_SOURCE,
        "seed0.safetensors is damaged .. make it anew",
    ),
    "source prompt empty": (
        content("prompts/tiny/dept/sst2/source/*/seed0.safetensors", ""),
        FROM_SOURCE,
        "seed0.safetensors is damaged .. make it anew",
    ),
    "source of another program": (
        foreign(_source_prompt),
        FROM_SOURCE,
        "seed0.safetensors is no prompt file .. use one",
    ),
    "source of half a header": (
        foreign(_source_prompt, {"format": "ept-prompt-1"}),
        FROM_SOURCE,
        "seed0.safetensors is no prompt file .. use one",
    ),
    "source of another method": (
        source_prompt(without=("A", "B")),
        FROM_SOURCE,
        "seed0.safetensors lacks A, B: it belongs to another method .. use a prompt with",
    ),
    "source with more tensors": (
        source_prompt(gate=torch.ones(4)),
        FROM_SOURCE,
        "seed0.safetensors has gate too many: it belongs to another method .. use a prompt with",
    ),
    "source of another hidden size": (
        source_prompt(prompt=torch.ones(4, 24), B=torch.ones(8, 24)),
        FROM_SOURCE,
        "seed0.safetensors: tensor prompt has hidden size 24, the backbone has 16; use a prompt that",
    ),
    "source of another rank": (
        source_prompt(A=torch.ones(256, 3), B=torch.ones(3, 16)),
        FROM_SOURCE,
        "seed0.safetensors: tensor A has shape [256, 3], needed is [256, 8]; use a prompt that",
    ),
    "source without an axis": (
        source_prompt(prompt=torch.tensor(1.0)),
        FROM_SOURCE,
        "seed0.safetensors: tensor prompt has shape [], needed is [4, 16]; use a prompt that",
    ),
    "source with NaN": (
        source_prompt(B=torch.full((8, 16), torch.nan)),
        FROM_SOURCE,
        "seed0.safetensors: tensor B holds NaN or infinity; use a prompt of a run that did not diverge",
    ),
}
BACKBONE = {
    "no folder": (settings(backbone__id="elsewhere"), TRAIN, "elsewhere .. check backbone.id"),
    "a file as folder": (settings(backbone__id="config.yaml"), TRAIN, "config.yaml .. check backbone.id"),
    "no config.json": (gone("model/config.json"), TRAIN, "model/config.json is missing; a backbone folder holds"),
    "torn config.json": (torn("model/config.json"), TRAIN, "model/config.json is no JSON .. fetch it again"),
    "config.json in Latin-1": (
        content("model/config.json", b'{"\xe9": 1}'),
        TRAIN,
        "config.json is no JSON .. fetch it",
    ),
    "config.json nested": (
        content("model/config.json", "[" * 10**5),
        TRAIN,
        "config.json is no JSON .. fetch it again",
    ),
    "config.json a list": (content("model/config.json", "[]"), TRAIN, "config.json: model_type is None; supported: t5"),
    "other architecture": (
        model_json(model_type="bert"),
        TRAIN,
        "model/config.json: model_type is bert; supported: t5",
    ),
    "size in words": (model_json(d_model="large"), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "no layers": (model_json(num_layers=None), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "negative size": (model_json(d_ff=-5), TRAIN, "model/config.json describes no T5 .. fetch it again"),
    "unknown activation": (model_json(dense_act_fn="tanhh"), TRAIN, "config.json describes no T5 .. fetch it"),
    "other size": (
        model_json(d_ff=48),
        TRAIN,
        "model: .. has the shape [24, 16], config.json says [48, 16]; .. belong to",
    ),
    "torn weights": (torn("model/model.safetensors"), TRAIN, "model.safetensors cannot be read .. fetch it again"),
    "torn header": (torn("model/model.safetensors", 40), TRAIN, "model.safetensors is no complete .. fetch it again"),
    "empty weights": (
        content("model/model.safetensors", ""),
        TRAIN,
        "model.safetensors is no complete .. fetch it again",
    ),
    "header in words": (
        content("model/model.safetensors", b"\x10" + bytes(7) + b"x" * 400),
        TRAIN,
        "model.safetensors cannot be read as safetensors .. fetch it again",
    ),
    "a tensor missing": (
        model_tensors(lambda tensors: tensors.pop("encoder.final_layer_norm.weight")),
        TRAIN,
        "model: no tensor encoder.final_layer_norm.weight in its safetensors files; fetch the backbone again",
    ),
    "a tensor of other shape": (
        model_tensors(lambda tensors: tensors.update({"encoder.final_layer_norm.weight": torch.ones(8)})),
        TRAIN,
        "model: encoder.final_layer_norm.weight has the shape [8], config.json says [16]; .. belong to different",
    ),
    "only a pickle": (
        moved("model/model.safetensors", "model/pytorch_model.bin"),
        TRAIN,
        "model has neither model.safetensors nor .. only safetensors are read, so convert other weights",
    ),
    "a shard missing": (
        index({"a": "b.safetensors"}),
        TRAIN,
        "model/b.safetensors is missing, .. fetch the backbone again",
    ),
    "a shard elsewhere": (
        index({"a": "../b.safetensors"}),
        TRAIN,
        "index.json: '../b.safetensors' is no .. fetch it again",
    ),
    "a shard with a number": (index({"a": 5}), TRAIN, "index.json .. fetch it again"),
    "an index of nothing": (index([]), TRAIN, "index.json is no index of safetensors shards .. fetch it again"),
    "too many pieces": (
        after(tokenizer(" ".join("0123456789abcdefgh")), prepared("rte")),
        TRAIN,
        "model: the tokenizer has 21 pieces, the backbone 16; use the tokenizer that belongs to the backbone",
    ),
    "another </s>": (
        after(model_json(eos_token_id=2), prepared("rte")),
        TRAIN,
        "model: </s> is piece 1 of the tokenizer, config.json says 2; use the tokenizer that belongs to the backbone",
    ),
    "torn tokenizer": (
        torn("model/tokenizer.json"),
        TRAIN,
        "tokenizer.json: this is no tokenizer .. copy the model's again",
    ),
    "no </s>": (tokenizer(drop="</s>"), TRAIN, "model: the tokenizer does not know </s>; use that of a T5 model"),
}
EXCHANGE = {
    "unknown format": (adapter(), IMPORT.replace("peft", "lora"), "--format: .. 'lora' .. see `ept import --help`"),
    "no adapter": (settings(), IMPORT, "there is no adapter folder adapter; mend --from"),
    "other adapter": (
        adapter({"peft_type": "LORA"}),
        IMPORT,
        "adapter_config.json: peft_type is 'LORA', .. can become",
    ),
    "no adapter_config.json": (
        after(adapter(), gone("adapter/adapter_config.json")),
        IMPORT,
        "adapter/adapter_config.json is missing; name the folder",
    ),
    "adapter torn": (
        after(adapter(), torn("adapter/adapter_model.safetensors")),
        IMPORT,
        "adapter_model.safetensors is damaged .. fetch the adapter again",
    ),
    "adapter with NaN": (
        adapter(prompt_embeddings=torch.full((8, 16), torch.nan)),
        IMPORT,
        "adapter_model.safetensors: prompt_embeddings holds NaN or infinity; take an adapter",
    ),
    "adapter for another backbone": (
        after(adapter(), model_json(d_model=24)),
        f"{IMPORT} --backbone-folder model",
        "the prompt in adapter has hidden size 16, the backbone in model has 24; name the backbone",
    ),
    "target there already": (
        after(adapter(), prompt(prompt=torch.ones(4, 16))),
        IMPORT.replace("new", "mine"),
        "prompts/mine.safetensors exists already; name a new file with --to",
    ),
    "target below a file": (
        adapter(),
        IMPORT.replace("prompts/new", "config.yaml/new"),
        "cannot write config.yaml/new.safetensors .. name another file with --to",
    ),
    "no prompt": (settings(), EXPORT, "there is no prompt file prompts/mine.safetensors; train it first"),
    "prompt torn": (
        after(prompt(prompt=torch.ones(4, 16)), torn("prompts/mine.safetensors", -1)),
        EXPORT,
        "prompts/mine.safetensors is damaged .. make it anew",
    ),
    "foreign file": (foreign("prompts/mine.safetensors"), EXPORT, "mine.safetensors is no prompt file .. use one that"),
    "no pair": (
        prompt(prompt=torch.ones(4, 16)),
        EXPORT,
        "prompts/mine.safetensors .. has no low-rank pair .. use --format peft",
    ),
    "prompt with NaN": (
        prompt(prompt=torch.full((4, 16), torch.nan)),
        EXPORT,
        "prompts/mine.safetensors .. prompt is no matrix of finite numbers; use a prompt of a run",
    ),
}
TABLES = {
    "unknown table": (settings(), "table --table fewshot_k5", "no table fewshot_k5 .. it has main, fewshot_k4"),
    "no run": (
        gone("out/runs/tiny/pt"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. is not there; .. `ept train",
    ),
    "run of other settings": (
        settings(seeds=[0, 1]),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. is not there; .. `ept train",
    ),
    "foreign hash": (
        record(RUN + "runs.json", hash="01234567"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. holds the record of settings 01234567, not of .. delete it and run again",
    ),
    "foreign settings": (
        record(RUN + "settings.json", hash="01234567"),
        "table --table main",
        "out/runs/tiny/pt/rte/full/ .. holds the record of settings 01234567, not of .. delete it and run again",
    ),
    "record torn": (torn(RUN + "runs.json"), "table --table main", "runs.json .. delete its folder and run again"),
    "record a list": (content(RUN + "runs.json", "[]"), "table --table main", "runs.json .. delete its folder and run"),
    "record without runs": (
        record(RUN + "runs.json", runs=None),
        "table --table main",
        "runs.json .. 'runs' .. delete",
    ),
    "a seed missing": (
        record(RUN + "runs.json", runs=[]),
        "table --table main",
        "seed 0 is missing; delete the folder",
    ),
    "no predictions": (
        gone(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet: .. delete its folder",
    ),
    "predictions torn": (
        torn(RUN + "predictions.parquet"),
        "table --table main",
        "predictions.parquet: .. delete its folder and run again",
    ),
    "other predictions": (
        lambda: pq.write_table(pa.table({"seed": [0]}), next(Path(".").glob(RUN)) / "predictions.parquet"),
        "table --table main",
        "predictions.parquet lacks the column 'group'; delete its folder and run again",
    ),
    "other data": (
        record(RUN + "runs.json", data_fingerprints={"train": "0", "validation": "0", "test": "0"}),
        "table --table main",
        "the train split of rte has the fingerprint .. delete the older folder and run again",
    ),
    "shown before made": (settings(), "show", "out/main.md is not there yet; make it with `snakemake"),
    "an empty table": (content("out/main.md", ""), "show", "out/main.md is no table; make it again"),
    "a table in Latin-1": (content("out/main.md", "é".encode("latin-1")), "show", "out/main.md is no table; make it"),
    "a file as output": (settings(output="config.yaml"), "show", "config.yaml/main.md is not there yet"),
    "unknown verb": (settings(), "tables", "'tables' .. see `ept --help`"),
    "no verb": (settings(), "", "VERB; see `ept --help`"),
}
CASES = {
    f"{kind}: {name}": case
    for kind, cases in {
        "configuration": CONFIGURATION,
        "data": DATA,
        "tokens": TOKENS,
        "training": TRAINING,
        "backbone": BACKBONE,
        "exchange": EXCHANGE,
        "tables": TABLES,
    }.items()
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The folder that every case starts from: with it, all commands succeed."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings()()
        torch.manual_seed(0)
        shape = T5Config(
            vocab_size=16, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        T5ForConditionalGeneration(shape).save_pretrained("model")
        tokenizer()()
        for name in ("rte", "sst2"):
            prepared(name)()
        source_prompt()()
        for method in ("pt", "dept"):
            assert (
                main(["train", "--config", "config.yaml", "--method", method, "--task", "rte", "--regime", "full"]) == 0
            )
    return folder


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    copy = tmp_path / "copy"
    shutil.copytree(sound, copy)
    monkeypatch.chdir(copy)
    return copy


def run(command):
    """The exit status of a command, argparse's own included."""
    verb, *words = command.split() or [""]
    config = [] if verb in ("import", "export", "tables", "") else ["--config", "config.yaml"]
    try:
        return main([verb, *config, *words] if verb else [])
    except SystemExit as error:
        return error.code


def tree(folder):
    """Every path with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_the_sound_folder_is_sound(folder, capsys):
    for command in ("check", "fetch --task rte", "tokenize --task rte", TRAIN, TRAIN_FEW, FROM_SOURCE):
        assert run(command) == 0, command
    for command in ("table --table main", "show"):
        assert run(command) == 0, command
    adapter()()
    prompt(prompt=torch.ones(4, 16), A=torch.ones(9, 2), B=torch.ones(2, 16))()
    assert run(f"{IMPORT} --backbone-folder model") == run(EXPORT) == 0


@pytest.mark.parametrize(("spoil", "command", "words"), CASES.values(), ids=CASES.keys())
def test_bad_input(folder, capsys, spoil, command, words):
    spoil()
    capsys.readouterr()
    before = tree(folder)
    assert run(command) == 2
    out, error = capsys.readouterr()
    assert tree(folder) == before
    assert out == "" and "Traceback" not in error
    assert error.startswith("error: ") and error.endswith("\n") and error.count("\n") == 1
    place = 0
    for word in words.split(" .. "):
        assert word in error[place:], f"{word!r} is not in its place in {error!r}"
        place = error.index(word, place) + len(word)
