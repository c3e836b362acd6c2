"""The download against a stand-in of the hub on loopback that serves real files."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tiny_t5 import make_t5

from ept.backbones.download import download_backbone
from ept.backbones.load import load_backbone
from ept.errors import InputError

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves `server.repositories`: name -> (revision, {file name: bytes}), or an HTTP status with an error
    code.
    """

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/api/models/"):
            name, _, revision = self.path.removeprefix("/api/models/").partition("/revision/")
            self._serve(name, revision, None)
        else:
            name, _, rest = self.path.removeprefix("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._serve(name, revision, file)

    do_HEAD = do_GET

    def _serve(self, name, revision, file):
        found = self.server.repositories.get(name, (404, "RepoNotFound"))
        if isinstance(found[0], int):
            return self._answer(found[0], b"", {"X-Error-Code": found[1]})
        if revision != found[0]:
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if file is None:
            siblings = [{"rfilename": name} for name in found[1]]
            return self._answer(200, json.dumps({"id": name, "sha": revision, "siblings": siblings}).encode(), {})
        if file not in found[1]:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        if found[1][file] is None:
            return self._answer(403, b"", {})
        return self._answer(200, found[1][file], {"ETag": f'"{file}"', "X-Repo-Commit": revision})

    def _answer(self, status, content, headers):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories, server.requests = {}, []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def files(write_backbone):
    folder = write_backbone(make_t5("v1.0"))
    extra = {"pytorch_model.bin": b"never", "README.md": b"words", "onnx/model.safetensors": b"other"}
    return {path.name: path.read_bytes() for path in folder.iterdir()} | extra


def _only_what_was_there(parent, *names):
    assert sorted(path.name for path in parent.iterdir()) == sorted(names)


def test_fetches_what_is_needed_and_only_once(hub, files, tmp_path):
    hub.repositories["someone/t5"] = (REVISION, files)
    folder = tmp_path / "fetched" / "t5-01234567"
    download_backbone("someone/t5", REVISION, folder)
    _only_what_was_there(folder.parent, folder.name)
    _only_what_was_there(folder, "config.json", "model.safetensors", "tokenizer.json")
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert torch.equal(load_backbone(folder).embedding, make_t5("v1.0").shared.weight)
    count = len(hub.requests)
    download_backbone("someone/t5", REVISION, folder)
    assert len(hub.requests) == count


def test_fetches_shards(hub, write_backbone, tmp_path):
    source = write_backbone(make_t5("v1.0"), shards=True)
    served = {path.name: path.read_bytes() for path in source.iterdir()} | {"tokenizer_config.json": b"{}"}
    hub.repositories["someone/t5"] = (REVISION, served)
    folder = tmp_path / "fetched"
    download_backbone("someone/t5", REVISION, folder)
    assert {path.name for path in folder.iterdir()} == set(served) - {"generation_config.json"}
    assert torch.equal(load_backbone(folder).embedding, make_t5("v1.0").shared.weight)


def _without(files, *names):
    return {name: content for name, content in files.items() if name not in names}


REFUSED = {
    "is gated: accept its terms": lambda files: (403, "GatedRepo"),
    "the hub has no repository someone/t5": lambda files: (404, "RepoNotFound"),
    f"has no revision {REVISION}": lambda files: ("f" * 40, files),
    "only safetensors are read": lambda files: (REVISION, _without(files, "model.safetensors")),
    "neither tokenizer.json nor spiece.model": lambda files: (REVISION, _without(files, "tokenizer.json")),
    "someone/t5 has no config.json": lambda files: (REVISION, _without(files, "config.json")),
    "someone/t5/config.json: model_type is bert": lambda files: (
        REVISION,
        files | {"config.json": b'{"model_type": "bert"}'},
    ),
    "cannot download someone/t5": lambda files: (REVISION, files | {"model.safetensors": None}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals_leave_nothing_behind(hub, files, tmp_path, message):
    hub.repositories["someone/t5"] = REFUSED[message](files)
    parent = tmp_path / "fetched"
    with pytest.raises(InputError, match=message) as caught:
        download_backbone("someone/t5", REVISION, parent / "t5")
    assert "\n" not in str(caught.value)
    _only_what_was_there(parent)


def test_no_network(hub, tmp_path, monkeypatch):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(InputError, match="cannot download someone/t5 .* check the network and HF_ENDPOINT"):
        download_backbone("someone/t5", REVISION, tmp_path / "fetched" / "t5")
    _only_what_was_there(tmp_path / "fetched")


def test_name_that_is_no_repository(hub, tmp_path):
    with pytest.raises(InputError, match="no name of a hub repository"):
        download_backbone("some/one/t5", REVISION, tmp_path / "t5")
