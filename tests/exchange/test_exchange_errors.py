"""Bad input to import and export: status 2, one sentence with file and remedy, nothing written."""

import json
import os
import pickle
import time
import tracemalloc
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from ept.methods.prompt_file import save_prompt

A, B, PROMPT = "prompt_encoder.lora_embedding_A", "prompt_encoder.lora_embedding_B", "prompt_embeddings"


class Harmful:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


DEPT = {
    "missing A": (dict(without=[A]), "adapter_model.bin.*prompt_encoder.lora_embedding_A"),
    "too many": (dict(tensors={"classifier.weight": torch.ones(2, 2)}), "adapter_model.bin.*classifier.weight"),
    "NaN": (dict(tensors={B: torch.full((2, 16), torch.nan)}), "adapter_model.bin.*lora_embedding_B.*NaN"),
    "overflow": (
        dict(tensors={B: torch.full((2, 16), 1e300, dtype=torch.double)}),
        "adapter_model.bin.*lora_embedding_B.*NaN",
    ),
    "no matrix": (dict(tensors={PROMPT: torch.ones(4)}), r"prompt_embeddings.*\[4\]"),
    "rank 0": (dict(tensors={A: torch.ones(9, 0), B: torch.ones(0, 16)}), r"lora_embedding_A.*\[9, 0\]"),
    "integers": (dict(tensors={PROMPT: torch.ones(4, 16).long()}), "adapter_model.bin.*prompt_embeddings"),
    "a list": (dict(tensors={PROMPT: [1.0]}), "adapter_model.bin.*prompt_embeddings"),
    "other rank": (dict(tensors={A: torch.ones(9, 3)}), r"\b3\b.*\b2\b"),
    "other hidden": (dict(tensors={PROMPT: torch.ones(4, 8)}), r"\b8\b.*\b16\b"),
    "stated r": (dict(config={"r": 3}), r"adapter_config\.json: r\b.*\b3\b.*\b2\b"),
    "stated m": (dict(config={"max_length": 256}), r"max_length.*\b256\b.*\b9\b"),
    "stated s": (dict(config={"num_virtual_tokens": 100}), r"num_virtual_tokens.*\b100\b.*\b4\b"),
    "no r": (dict(without=["r"]), r"\br\b.*None.*\b2\b"),
    "no alpha": (dict(without=["lora_alpha"]), "lora_alpha.*None"),
    "endless alpha": (dict(config={"lora_alpha": 10**400}), "lora_alpha.*1000"),
    "submodules": (dict(config={"num_transformer_submodules": 3}), r"num_transformer_submodules.*\b3\b.*\b1\b.*\b2\b"),
    "odd half": (
        dict(config={"num_transformer_submodules": 2}, tensors={PROMPT: torch.ones(5, 16)}),
        r"num_transformer_submodules.*\b2\b.*prompt_embeddings.*\b5\b",
    ),
    "task": (dict(config={"task_type": "CAUSAL_LM"}), "task_type.*'CAUSAL_LM'.* SEQ_2_SEQ_LM"),
    "format": (dict(config={"peft_type": "PROMPT_TUNING"}), "peft_type.*'PROMPT_TUNING'.*--format peft"),
    "LoRA": (dict(config={"peft_type": "LORA"}), "peft_type.*'LORA'.*PROMPT_TUNING"),
    "no type": (dict(without=["peft_type"]), "peft_type.*None"),
    "odd type": (dict(config={"peft_type": []}), r"peft_type.*\[\]"),
}
PEFT = {
    "missing": (dict(tensors={"x": torch.ones(2, 2)}, without=[PROMPT]), "prompt_embeddings.* x"),
    "NaN": (dict(tensors={PROMPT: torch.full((4, 16), torch.inf)}), "prompt_embeddings.*NaN"),
    "stated hidden": (dict(config={"token_dim": 768}), r"token_dim.*\b768\b.*\b16\b"),
    "format": (dict(config={"peft_type": "PROMPT_TUNING_LORA"}), "--format dept"),
    "task": (dict(config={"task_type": "SEQ_CLS"}), "task_type.*'SEQ_CLS'.* SEQ_2_SEQ_LM.*CAUSAL_LM"),
    "decoder's two": (
        dict(config={"task_type": "CAUSAL_LM", "num_transformer_submodules": 2}),
        r"num_transformer_submodules.*\b2\b.*CAUSAL_LM.*\b1\b",
    ),
}


@pytest.fixture
def refused(ept, tmp_path, monkeypatch):
    """A function that runs `ept` and checks that it refuses with one sentence and writes nothing."""
    # Where a pickle that runs its command would leave its trace.
    monkeypatch.chdir(tmp_path)

    def run(match, *words):
        before = sorted(tmp_path.rglob("*"))
        status, out, error = ept(*words)
        assert (status, out) == (2, "")
        assert error.startswith("error: ") and error.count("\n") == 1
        # The remedy; never torch's own, to load a file without its guard.
        assert ";" in error and "weights_only" not in error
        with pytest.raises(AssertionError, match=match):
            raise AssertionError(error)
        assert sorted(tmp_path.rglob("*")) == before

    return run


@pytest.mark.parametrize(("changes", "match"), DEPT.values(), ids=DEPT.keys())
def test_dept_folders(refused, tmp_path, dept_folder, changes, match):
    refused(match, "import", "--format", "dept", "--from", dept_folder(**changes), "--to", tmp_path / "to" / "file")


@pytest.mark.parametrize(("changes", "match"), PEFT.values(), ids=PEFT.keys())
def test_peft_folders(refused, tmp_path, peft_folder, changes, match):
    refused(match, "import", "--format", "peft", "--from", peft_folder(**changes), "--to", tmp_path / "to" / "file")


@pytest.mark.parametrize("kept", [0, 1, 100, -300, -1])
def test_torn_weights(refused, tmp_path, dept_folder, peft_folder, kept):
    for format, folder in (("dept", dept_folder()), ("peft", peft_folder())):
        weights = next(folder.glob("adapter_model.*"))
        weights.write_bytes(weights.read_bytes()[:kept])
        refused(
            weights.name,
            "import",
            "--format",
            format,
            "--from",
            folder,
            "--to",
            "file",
        )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_with_more_than_tensors_is_never_run(refused, tmp_path, dept_folder, legacy):
    path = dept_folder() / "adapter_model.bin"
    torch.save({PROMPT: Harmful()}, path, _use_new_zipfile_serialization=not legacy)
    refused("adapter_model.bin.*system", *words(path.parent))
    path.write_bytes(pickle.dumps(Harmful()))
    refused("adapter_model.bin", *words(path.parent))
    assert not (tmp_path / "harmed").exists()


def test_other_content(refused, dept_folder):
    folder = dept_folder()
    weights, config = folder / "adapter_model.bin", folder / "adapter_config.json"
    torch.save([torch.ones(2, 2)], weights)
    refused("adapter_model.bin", *words(folder))
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    refused("adapter_model.bin", *words(folder))
    weights.unlink()
    refused("adapter_model.safetensors.*adapter_model.bin", *words(folder))
    for content in ("{", "[1]", '{"r": NaN}', "[" * 100_000, "\xff"):
        config.write_text(content, encoding="latin-1")
        refused("adapter_config.json", *words(folder))
    config.unlink()
    refused("adapter_config.json", *words(folder))


def test_folders_and_files_that_are_not_there_or_are_already(refused, tmp_path, dept_folder, prompt_file):
    file, folder = prompt_file("dept"), dept_folder()
    refused("gone.*--from", *words("gone"))
    refused("dept.safetensors.*--to", *words(folder, to=file))
    refused("dept.safetensors/new", *words(folder, to=file / "new"))
    refused("gone", "export", "--format", "dept", "--from", "gone", "--to", "new")
    refused("dept.*--to", "export", "--format", "dept", "--from", file, "--to", folder)
    refused("dept.safetensors/new.*--to", "export", "--format", "dept", "--from", file, "--to", file / "new")


def test_other_hidden_size_than_the_backbone(ept, refused, tmp_path, dept_folder, make_t5):
    folder = dept_folder()
    for hidden in (16, 24):
        make_t5(hidden=hidden).config.save_pretrained(tmp_path / f"backbone{hidden}")
    match = r"\b16\b.*backbone24.*\b24\b.*--backbone-folder"
    refused(match, *words(folder), "--backbone-folder", "backbone24")
    refused("nowhere", *words(folder), "--backbone-folder", "nowhere")
    assert ept(*words(folder), "--backbone-folder", "backbone16")[0] == 0


def test_prompts_that_a_format_cannot_say(refused, tmp_path, prompt_file):
    for method in ("dept", "ept"):
        match = f"{method}.safetensors .method {method}.*--format dept"
        refused(match, "export", "--format", "peft", "--from", prompt_file(method), "--to", "new")
    match = "pt.safetensors .method pt.*--format peft"
    refused(match, "export", "--format", "dept", "--from", prompt_file("pt"), "--to", "new")


def test_damaged_prompt_files(refused, tmp_path):
    path = tmp_path / "prompt.safetensors"
    export = ["export", "--format", "dept", "--from", path, "--to", "new"]
    good = {"prompt": torch.ones(2, 4), "A": torch.ones(5, 1), "B": torch.ones(1, 4)}
    for name, value, match in (
        ("prompt", torch.full((2, 4), torch.nan), "prompt.*NaN"),
        ("prompt", torch.ones(4), "A, B, prompt"),
        ("A", torch.ones(5), r"\bA\b"),
        ("B", torch.ones(1, 3), r"\(5, 1\).*\(1, 3\).*\(2, 4\)"),
        ("W", torch.ones(2, 2), "A, B, W, prompt"),
    ):
        save_prompt(path, {}, good | {name: value}, {"method": "dept"})
        refused(match, *export)
    header = {"format": "ept-prompt-1", "collapsed": list(good), "metadata": {"method": "dept"}}
    save_file({"prompt": torch.ones(2, 4)}, path, metadata={"ept": json.dumps(header)})
    refused(r"prompt\.safetensors.*\bA\b", *export)
    path.write_bytes(path.read_bytes()[:-1])
    refused(r"prompt\.safetensors", *export)


def test_a_full_disk_leaves_no_half_folder(refused, prompt_file, monkeypatch):
    def fail(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    export = ["export", "--format", "dept", "--from", prompt_file("dept"), "--to", "new"]
    refused("new.*disk", *export)


def words(folder, to="file"):
    """An import of a DePT folder."""
    return "import", "--format", "dept", "--from", folder, "--to", to


def _nested(depth):
    key = (1,)
    for _ in range(depth):
        key = (key, key)
    return key


def _expanded():
    return torch.ones(1, 1).expand(30_000_000, 16)


ODD = {
    "sparse": lambda: {PROMPT: torch.eye(4, 16).to_sparse()},
    "quantized": lambda: {PROMPT: torch.quantize_per_tensor(torch.ones(4, 16), 0.1, 0, torch.qint8)},
    "meta": lambda: {PROMPT: torch.ones(4, 16, device="meta")},
    "expanded": lambda: {PROMPT: _expanded()},
    "complex": lambda: {PROMPT: torch.ones(4, 16, dtype=torch.complex64)},
    "numbers as keys": lambda: {0: torch.ones(4, 16), PROMPT: torch.ones(4, 16)},
    "tuples as keys": lambda: {("a", ("b",)): torch.ones(4, 16)},
    "tuples of tuples": lambda: {_nested(20): torch.ones(4, 16)},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_odd_tensors_and_keys(refused, peft_folder, make, legacy):
    folder = peft_folder()
    (folder / "adapter_model.safetensors").unlink()
    torch.save(make(), folder / "adapter_model.bin", _use_new_zipfile_serialization=not legacy)
    start = time.process_time()
    refused("adapter_model.bin", "import", "--format", "peft", "--from", folder, "--to", "file")
    assert time.process_time() - start < 5


def test_keys_that_take_forever_to_hash(refused, peft_folder):
    folder = peft_folder()
    (folder / "adapter_model.safetensors").unlink()
    # A dictionary with the key ((1,), (1,)) and so on, each level twice the one before: 60 levels.
    levels = b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02}K\x01\x85" + levels + b"K\x01s.")
    refused("adapter_model.bin", "import", "--format", "peft", "--from", folder, "--to", "file")


@pytest.mark.parametrize("inflated", ["data.pkl", "data/0"])
def test_a_small_archive_of_large_entries(refused, peft_folder, inflated):
    """Torch stores entries as they are; a compressed gigabyte of zeros has a megabyte."""
    folder = peft_folder()
    (folder / "adapter_model.safetensors").unlink()
    path = folder / "adapter_model.bin"
    torch.save({PROMPT: torch.ones(4, 16)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content + bytes(50_000_000 if name.endswith(inflated) else 0))
    tracemalloc.start()
    refused("adapter_model.bin", "import", "--format", "peft", "--from", folder, "--to", "file")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("submodules", [{}, {"num_transformer_submodules": 2}])
def test_two_trained_halves_of_early_peft_are_refused(refused, peft_folder, submodules):
    """PEFT 0.3 wrote no `revision`, and put the second half before the decoder's input."""
    without = ["revision"] if submodules else ["revision", "num_transformer_submodules"]
    folder = peft_folder(submodules, {PROMPT: torch.ones(8, 16)}, without)
    refused("adapter_config.json.*revision", "import", "--format", "peft", "--from", folder, "--to", "file")
