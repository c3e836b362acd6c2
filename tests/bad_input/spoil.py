"""The folder that every case starts from, and what a case does to it: functions without arguments, run inside it."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from safetensors.torch import load_file, save_file

from data.task_rows import table, write_local, write_tokenizer
from ept.cli import main
from ept.config.configuration import load_configuration
from ept.files import sha256_file
from ept.methods.prompt_file import save_prompt
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS

# Data in published/, a backbone in model/, all made for training.
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
ADAPTER = {
    "peft_type": "PROMPT_TUNING",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": 4,
    "token_dim": 16,
    "revision": None,
}


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


def fetched(name, *split, verbs=("fetch",), **changes):
    """A task fetched after changes as in `published`."""

    def make():
        published(name, *split, **changes)()
        for verb in verbs:
            assert main([verb, "--config", "config.yaml", "--task", name]) == 0

    return make


def prepared(name, **changes):
    """A task fetched and tokenized, after changes as in `published`."""
    return fetched(name, verbs=("fetch", "tokenize"), **changes)


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


def signed(spoil, pattern):
    """The same, with the digests of the folder as if the training had written it so."""

    def write():
        spoil()
        (folder,) = Path(".").glob(pattern)
        settings_file = folder / "settings.json"
        stored = json.loads(settings_file.read_text())
        stored["sha256"] = {name: sha256_file(folder / name) for name in stored["sha256"]}
        settings_file.write_text(json.dumps(stored))

    return write


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
        save_prompt(source_prompt_file(), kept, {}, {"method": "dept", "hash": source_prompt_file().parent.name})

    return write


def source_prompt_file():
    """Where the source prompt that DePT starts from lies."""
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
