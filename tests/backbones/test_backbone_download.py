"""The download against a stand-in of the hub on loopback that serves real files."""

import io
import json
import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from tiny_t5 import make_t5

from ept.backbones.download import download_backbone
from ept.backbones.load import load_backbone
from ept.cli import main
from ept.errors import InputError

NAME = "someone/t5"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def files(write_backbone):
    folder = write_backbone(make_t5("v1.0"))
    extra = {"pytorch_model.bin": b"never", "README.md": b"words", "onnx/model.safetensors": b"other"}
    return {path.name: path.read_bytes() for path in folder.iterdir()} | extra


def _only_what_was_there(parent, *names):
    assert sorted(path.name for path in parent.iterdir()) == sorted(names)


def test_fetches_what_is_needed_and_only_once(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    folder = tmp_path / "fetched" / "t5-01234567"
    download_backbone(NAME, REVISION, folder)
    _only_what_was_there(folder.parent, folder.name)
    _only_what_was_there(folder, "config.json", "model.safetensors", "tokenizer.json")
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert torch.equal(load_backbone(folder).embedding, make_t5("v1.0").shared.weight)
    hub.close()
    download_backbone(NAME, REVISION, folder)


def test_fetches_shards(hub, write_backbone, tmp_path):
    source = write_backbone(make_t5("v1.0"), shards=True)
    served = {path.name: path.read_bytes() for path in source.iterdir()} | {"tokenizer_config.json": b"{}"}
    hub.publish(NAME, REVISION, served)
    folder = tmp_path / "fetched"
    download_backbone(NAME, REVISION, folder)
    assert {path.name for path in folder.iterdir()} == set(served) - {"generation_config.json"}
    assert torch.equal(load_backbone(folder).embedding, make_t5("v1.0").shared.weight)


def _refused(tmp_path, match, **options):
    """A download stops with one sentence and leaves nothing behind."""
    with pytest.raises(InputError, match=match) as caught:
        download_backbone(NAME, REVISION, tmp_path / "fetched" / "t5", **options)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / "fetched").glob("*"))


def _completes(tmp_path, files):
    download_backbone(NAME, REVISION, tmp_path / "fetched" / "t5")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "fetched" / "t5" / name).read_bytes() == files[name]


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, files, tmp_path):
    # The client keeps whole chunks of 10 MiB and asks for the rest.
    files["model.safetensors"] = safetensors.torch.save({"weight": torch.rand(6_000_000)})
    hub.publish(NAME, REVISION, files)
    hub.breaks["model.safetensors"] = [12_000_000, 23_000_000]
    _completes(tmp_path, files)
    asked = [request.split() for request in hub.requests if "model.safetensors" in request and "GET" in request]
    assert [request[2:] for request in asked] == [[], ["bytes=10485760-"], ["bytes=20971520-"]]


def test_a_connection_that_stays_broken_is_one_sentence_and_a_second_try_completes(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    hub.breaks["model.safetensors"] = [500] * 20
    _refused(tmp_path, "cannot fetch model.safetensors .*; check the network.*, or use backbone.source local")
    hub.breaks.clear()
    _completes(tmp_path, files)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_the_declared_one_is_refused_and_a_second_try_completes(hub, files, tmp_path, name):
    hub.publish(NAME, REVISION, files)
    # Of the declared size: weights are declared by their SHA-256, small files as git names them.
    hub.altered[name] = files[name][:-1] + b"?"
    _refused(tmp_path, f"{name} came with the checksum .* declares .*; try again, and if it stays so, use")
    hub.altered.clear()
    _completes(tmp_path, files)


def test_a_gated_repository_opens_with_a_token(hub, files, tmp_path, monkeypatch):
    hub.publish(NAME, REVISION, files)
    hub.token = "hf_mine"
    _refused(tmp_path, "is gated; accept its terms there and set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    _completes(tmp_path, files)


def _without(files, *names):
    return {name: content for name, content in files.items() if name not in names}


UNFIT = {
    "only safetensors are read; set backbone.weights to bin": lambda files: _without(files, "model.safetensors"),
    "only safetensors are read; name a revision": lambda files: _without(
        files, "model.safetensors", "pytorch_model.bin"
    ),
    "neither tokenizer.json nor spiece.model": lambda files: _without(files, "tokenizer.json"),
    "someone/t5 has no config.json": lambda files: _without(files, "config.json"),
    "someone/t5/config.json: model_type is bert": lambda files: files | {"config.json": b'{"model_type": "bert"}'},
    "someone/t5/other.safetensors is missing, but model.safetensors.index.json names it": lambda files: (
        _without(files, "model.safetensors")
        | {"model.safetensors.index.json": b'{"weight_map": {"shared.weight": "other.safetensors"}}'}
    ),
}


@pytest.mark.parametrize("message", UNFIT)
def test_a_repository_that_is_no_backbone_is_refused(hub, files, tmp_path, message):
    hub.publish(NAME, REVISION, UNFIT[message](files))
    _refused(tmp_path, message)


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), "someone/t5: the repository is gated; accept its terms there"),
        ((404, "RepoNotFound"), "no such repository, or hides it; check backbone.id, backbone.revision, HF_ENDPOINT"),
        ((404, "RevisionNotFound"), f"no revision {REVISION} of it; check backbone.id, backbone.revision, HF_ENDPOINT"),
        ((500, ""), "cannot fetch its list of files .*500"),
    ],
)
def test_refusals_are_one_sentence(hub, tmp_path, refusal, message):
    hub.refusals[NAME] = refusal
    _refused(tmp_path, message)


def test_a_file_that_is_listed_and_missing_is_one_sentence(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    hub.lost.add("model.safetensors")
    _refused(tmp_path, "the hub lists model.safetensors, but does not have it; check backbone.id")


def test_no_network_is_one_sentence(hub, tmp_path):
    hub.close()
    _refused(tmp_path, "someone/t5: cannot fetch its list of files .*; check the network, HF_ENDPOINT")


def test_a_name_that_is_no_repository_is_one_sentence(hub, tmp_path):
    with pytest.raises(InputError, match="'some/one/t5' is no name of a hub repository; check backbone.id"):
        download_backbone("some/one/t5", REVISION, tmp_path / "t5")


def _pickled(state, **options):
    content = io.BytesIO()
    torch.save(state, content, **options)
    return content.getvalue()


def _as_bin(files, tmp_path, legacy=False, shards=False):
    """The repository with its weights in torch's own format, as it was published before safetensors."""
    path = tmp_path / "source.safetensors"
    path.write_bytes(files["model.safetensors"])
    state = safetensors.torch.load_file(path)
    # transformers wrote tied embeddings under all their names, in one piece of memory.
    state |= dict.fromkeys(("encoder.embed_tokens.weight", "lm_head.weight"), state["shared.weight"])
    rest = _without(files, "model.safetensors", "pytorch_model.bin")
    options = {"_use_new_zipfile_serialization": not legacy}
    if not shards:
        return rest | {"pytorch_model.bin": _pickled(state, **options)}
    names = sorted(state)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    parts = {file: _pickled({name: state[name] for name in part}, **options) for file, part in halves.items()}
    return rest | parts | {"pytorch_model.bin.index.json": json.dumps(index).encode()}


@pytest.mark.parametrize("options", [{}, {"legacy": True}, {"shards": True}], ids=str)
def test_weights_in_torchs_own_format_become_safetensors(hub, files, tmp_path, options):
    hub.publish(NAME, REVISION, _as_bin(files, tmp_path, **options))
    folder = tmp_path / "fetched" / "t5"
    download_backbone(NAME, REVISION, folder, weights="bin")
    _only_what_was_there(folder, "config.json", "model.safetensors", "tokenizer.json")
    expected = make_t5("v1.0").state_dict()
    found = load_backbone(folder).model
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    assert found.lm_head.weight is found.shared.weight


class Harmful:
    """Pickled, it would write a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


BAD_BIN = {
    "cannot be read as tensors alone .*fetch it again": lambda path: _pickled({"shared.weight": Harmful(str(path))}),
    "pytorch_model.bin cannot be read as tensors alone": lambda path: b"torn",
    "holds something else than tensors by name": lambda path: _pickled({"shared.weight": 5}),
}


@pytest.mark.parametrize("message", BAD_BIN)
def test_a_file_with_more_than_tensors_is_refused_and_nothing_in_it_is_run(hub, files, tmp_path, message):
    content = BAD_BIN[message](tmp_path / "harm")
    hub.publish(NAME, REVISION, _without(files, "model.safetensors") | {"pytorch_model.bin": content})
    _refused(tmp_path, message, weights="bin")
    assert not (tmp_path / "harm").exists()


def test_the_option_is_for_repositories_without_safetensors(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    _refused(tmp_path, "someone/t5 has model.safetensors at this revision; leave out backbone.weights", weights="bin")


def test_a_local_folder_is_converted_by_a_command(write_backbone, tmp_path, capsys):
    folder = write_backbone(make_t5("v1.1"), version="v1.1")
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert main(["convert-weights", "--folder", str(folder)]) == 2
    assert "model.safetensors is there already" in capsys.readouterr().err
    expected = load_backbone(folder).model.state_dict()
    (folder / "model.safetensors").unlink()
    assert main(["convert-weights", "--folder", str(folder)]) == 0
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_backbone(folder).model.state_dict().items())


def test_offline_nothing_is_asked_and_what_is_missing_is_one_sentence(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    download_backbone(NAME, REVISION, tmp_path / "there")
    hub.requests.clear()
    # In a process of its own: huggingface_hub reads the variable once.
    code = """
import sys
from ept.backbones.download import download_backbone
from ept.errors import InputError
download_backbone(*sys.argv[1:3], sys.argv[3] + "/there")
try:
    download_backbone(*sys.argv[1:3], sys.argv[3] + "/missing")
except InputError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, NAME, REVISION, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True
    )
    assert "someone/t5: cannot fetch its list of files" in done.stdout and "HF_HUB_OFFLINE" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert hub.requests == [] and not (tmp_path / "missing").exists()
