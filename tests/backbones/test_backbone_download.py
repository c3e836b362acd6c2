"""The download against a stand-in of the hub on loopback that serves real files."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from ept.backbones import convert
from ept.backbones.download import download_backbone
from ept.backbones.load import load_backbone
from ept.cli import main
from ept.errors import InputError
from ept.hub import HubRepository
from tiny_models import make_t5

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


def _refused(tmp_path, *facts, **options):
    """A download stops with one sentence that has these facts, and leaves nothing behind."""
    with pytest.raises(InputError) as caught:
        download_backbone(NAME, REVISION, tmp_path / "fetched" / "t5", **options)
    assert all(fact in str(caught.value) for fact in (NAME, *facts)), str(caught.value)
    assert not any((tmp_path / "fetched").glob("*"))
    return str(caught.value)


def _completes(tmp_path, files):
    download_backbone(NAME, REVISION, tmp_path / "fetched" / "t5")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "fetched" / "t5" / name).read_bytes() == files[name]


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, files, tmp_path):
    # The client keeps whole chunks of 10 MiB and asks for the rest.
    tensors = safetensors.torch.load(files["model.safetensors"]) | {"shared.weight": torch.rand(375_000, 16)}
    files["model.safetensors"] = safetensors.torch.save(tensors)
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | {"vocab_size": 375_000}).encode()
    hub.publish(NAME, REVISION, files)
    hub.breaks["model.safetensors"] = [12_000_000, 23_000_000]
    _completes(tmp_path, files)
    asked = [request.split() for request in hub.requests if "model.safetensors" in request and "GET" in request]
    assert [request[2:] for request in asked] == [[], ["bytes=10485760-"], ["bytes=20971520-"]]


def test_a_connection_that_stays_broken_is_one_sentence_and_a_second_try_completes(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    hub.breaks["model.safetensors"] = [500] * 20
    _refused(tmp_path, "model.safetensors", "network", "backbone.source")
    hub.breaks.clear()
    _completes(tmp_path, files)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_the_declared_one_is_refused_and_a_second_try_completes(hub, files, tmp_path, name):
    hub.publish(NAME, REVISION, files)
    # Of the declared size: weights are declared by their SHA-256, small files as git names them.
    hub.altered[name] = files[name][:-1] + b"?"
    found, declared = (
        hashlib.sha256(content).hexdigest()
        if name == "model.safetensors"
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        for content in (hub.altered[name], files[name])
    )
    _refused(tmp_path, name, found[:12], declared[:12])
    hub.altered.clear()
    _completes(tmp_path, files)


def test_a_gated_repository_opens_with_a_token(hub, files, tmp_path, monkeypatch):
    hub.publish(NAME, REVISION, files)
    hub.token = "hf_mine"
    _refused(tmp_path, "gated", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    _completes(tmp_path, files)


def _without(files, *names):
    return {name: content for name, content in files.items() if name not in names}


# What the repository has, and the facts of the sentence.
UNFIT = {
    "a pickle": (lambda files: _without(files, "model.safetensors"), ("pytorch_model.bin", "backbone.weights")),
    "no weights": (lambda files: _without(files, "model.safetensors", "pytorch_model.bin"), ("model.safetensors",)),
    "no tokenizer": (lambda files: _without(files, "tokenizer.json"), ("tokenizer.json", "spiece.model")),
    "no config.json": (lambda files: _without(files, "config.json"), ("config.json",)),
    "another kind": (lambda files: files | {"config.json": b'{"model_type": "bert"}'}, ("config.json", "bert")),
    "a missing shard": (
        lambda files: (
            _without(files, "model.safetensors")
            | {"model.safetensors.index.json": b'{"weight_map": {"shared.weight": "other.safetensors"}}'}
        ),
        ("other.safetensors", "model.safetensors.index.json"),
    ),
    "quantized": (
        lambda files: files | {"config.json": b'{"model_type": "t5", "quantization_config": {"quant_method": "awq"}}'},
        ("config.json", "awq", "backbone.quantization"),
    ),
    "too many layers": (
        lambda files: (
            files | {"config.json": files["config.json"].replace(b'"num_layers": 2', b'"num_layers": 100000', 1)}
        ),
        ("num_layers", "100000"),
    ),
    "a file elsewhere": (
        lambda files: (
            _without(files, "model.safetensors")
            | {
                "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}',
                "model-/../../../../out.safetensors": b"x",
            }
        ),
        ("..",),
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_repository_that_is_no_backbone_is_refused(hub, files, tmp_path, name):
    change, facts = UNFIT[name]
    hub.publish(NAME, REVISION, change(files))
    _refused(tmp_path, *facts)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize(
    ("refusal", "facts"),
    [
        ((403, "GatedRepo"), ["gated"]),
        ((404, "RepoNotFound"), ["backbone.id", "backbone.revision", "HF_ENDPOINT"]),
        ((404, "RevisionNotFound"), [REVISION, "backbone.revision", "HF_ENDPOINT"]),
        ((500, ""), ["500", "HF_ENDPOINT"]),
    ],
    ids=str,
)
def test_refusals_are_one_sentence(hub, tmp_path, refusal, facts):
    hub.refusals[NAME] = refusal
    _refused(tmp_path, *facts)


def test_a_file_that_is_listed_and_missing_is_one_sentence(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    hub.lost.add("model.safetensors")
    _refused(tmp_path, "model.safetensors", "backbone.id")


def test_no_network_is_one_sentence(hub, tmp_path):
    hub.close()
    _refused(tmp_path, "network", "HF_ENDPOINT")


@pytest.mark.parametrize("gone", [False, True], ids=["refused", "no server"])
def test_a_password_in_the_endpoint_is_not_printed(hub, tmp_path, monkeypatch, gone):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("://", "://me:s3cr@et@"))
    hub.refusals[NAME] = (500, "")
    if gone:
        hub.close()
    sentence = _refused(tmp_path, hub.endpoint)
    assert "s3cr" not in sentence and "me:" not in sentence


def test_an_endpoint_that_is_not_a_url_is_one_sentence(hub, tmp_path, monkeypatch):
    for wrong in ("nonsense", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:99999"):
        monkeypatch.setenv("HF_ENDPOINT", wrong)
        _refused(tmp_path, "HF_ENDPOINT")


def test_a_name_that_is_no_repository_is_one_sentence(hub, tmp_path):
    with pytest.raises(InputError) as caught:
        download_backbone("some/one/t5", REVISION, tmp_path / "t5")
    assert "some/one/t5" in str(caught.value) and "backbone.id" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["../a", "a/../../b", "/etc/a", "..", "a\\b", "a\0b", ""],
    ids=["up", "deep", "root", "dots", "back", "nul", "no"],
)
def test_a_file_name_that_leads_elsewhere_is_refused(hub, files, tmp_path, name):
    hub.publish(NAME, REVISION, files)
    repository = HubRepository("model", NAME, REVISION)
    hub.requests.clear()
    with pytest.raises(InputError) as caught:
        repository.download([name], tmp_path / "inner")
    assert repr(name) in str(caught.value).replace("  ", " ") and hub.requests == [] and not any(tmp_path.glob("a*"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing(hub, files, tmp_path, kind):
    hub.publish(NAME, REVISION, files)
    hub.stalls.add("model.safetensors")
    settings = {"name": "t5", "source": "hub", "id": NAME, "revision": REVISION}
    config = yaml.safe_load((Path(__file__).parents[2] / "config" / "config.yaml").read_text()) | {"backbone": settings}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ept.cli", "download-backbone", "--config", "config.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert hub.stalled.wait(timeout=60)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if kind == signal.SIGINT else 143) and "Traceback" not in errors
    assert [path for path in tmp_path.rglob("*") if "t5" in path.name] == []


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
    "harmful": lambda path: _pickled({"shared.weight": Harmful(str(path))}),
    "torn": lambda path: b"torn",
    "a number": lambda path: _pickled({"shared.weight": 5}),
    "a number as name": lambda path: _pickled({5: torch.ones(2)}),
    "a list": lambda path: _pickled([torch.ones(2)]),
    "an expanded tensor": lambda path: _pickled({"shared.weight": torch.ones(1).expand(10**12)}),
    "keys that take forever to hash": lambda path: _nested(60),
}


def _nested(depth):
    """A pickle of {((1,), (1,)) ...: 1}, each level twice the one before."""
    levels = b"".join(b"q%ch%c\x86" % (level, level) for level in range(depth))
    return b"\x80\x02}K\x01\x85" + levels + b"K\x01s."


@pytest.mark.parametrize("name", BAD_BIN)
def test_a_file_with_more_than_tensors_is_refused_and_nothing_in_it_is_run(hub, files, tmp_path, name):
    content = BAD_BIN[name](tmp_path / "harm")
    hub.publish(NAME, REVISION, _without(files, "model.safetensors") | {"pytorch_model.bin": content})
    _refused(tmp_path, "pytorch_model.bin", weights="bin")
    assert not (tmp_path / "harm").exists()


def test_the_option_is_for_repositories_without_safetensors(hub, files, tmp_path):
    hub.publish(NAME, REVISION, files)
    _refused(tmp_path, "model.safetensors", "backbone.weights", weights="bin")


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_a_local_folder_is_converted_by_a_command(write_backbone, monkeypatch, capsys, shards):
    folder = write_backbone(make_t5("v1.1"), version="v1.1")
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert main(["convert-weights", "--folder", str(folder)]) == 2
    assert str(folder / "model.safetensors") in capsys.readouterr().err
    expected = load_backbone(folder).model.state_dict()
    (folder / "model.safetensors").unlink()
    before = {path.name for path in folder.iterdir()}
    if shards:
        monkeypatch.setattr(convert, "SHARD_SIZE", "8KB")
    umask = os.umask(0o027)
    assert main(["convert-weights", "--folder", str(folder)]) == 0
    os.umask(umask)
    made = [path for path in folder.iterdir() if path.name not in before]
    assert len(made) > 2 if shards else [path.name for path in made] == ["model.safetensors"]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o640}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_backbone(folder).model.state_dict().items())


def test_a_conversion_that_finds_the_disk_full_leaves_nothing(write_backbone, tmp_path):
    folder = write_backbone(make_t5("v1.0"))
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "ept.cli", "convert-weights", "--folder", str(folder)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(folder) in done.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


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
    assert NAME in done.stdout and "HF_HUB_OFFLINE" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert hub.requests == [] and not (tmp_path / "missing").exists()
