"""Prompts to and from a stand-in of the Hub on loopback, bit for bit."""

import base64
import json
import re
import threading

import pytest
import torch

import ept
import hub_stand_in
from ept.errors import InputError

SHA = "5" * 40
COMMIT = re.compile(r"/api/models/(.+)/commit/main")
TREE = re.compile(r"/api/models/(.+)/tree/[^/]+")


class _Writable(hub_stand_in._Handler):
    """The stand-in with repositories that can be created and written, as huggingface_hub does it."""

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._answer({"error": "no token"}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.repositories.setdefault(name, (SHA, {}))
            return self._answer({"url": f"{self.server.endpoint}/{name}", "name": name, "id": "1"})
        if self.path.endswith("/preupload/main"):
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return self._answer({"files": [{**file, "shouldIgnore": False} for file in files]})
        if self.path == "/api/validate-yaml":
            return self._answer({"warnings": [], "errors": []})
        if found := COMMIT.fullmatch(self.path):
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.server.publish(found[1], SHA, files)
            return self._answer({"commitUrl": f"{self.server.endpoint}/{found[1]}/commit/1", "commitOid": "1" * 40})
        return self._answer({"error": self.path}, 404)

    def do_GET(self):  # noqa: N802 (the name that http.server calls)
        found = TREE.fullmatch(self.path.partition("?")[0])
        if not found or self.command == "HEAD":
            # The stand-in knows a repository by its commit alone.
            self.path = re.sub(r"/(revision|resolve)/main", rf"/\1/{SHA}", self.path)
            return super().do_GET()
        if found[1] not in self.server.repositories:
            return self._send(404, code="RepoNotFound")
        declared = [
            hub_stand_in._declared(name, content) for name, content in self.server.repositories[found[1]][1].items()
        ]
        return self._answer(
            [{"type": "file", "path": one["rfilename"], "size": one["size"], "oid": one["blobId"]} for one in declared]
        )

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, values, status=200):
        content = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = hub_stand_in.Hub()
    hub.RequestHandlerClass = _Writable
    hub.token = "hf_test"
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield hub
    hub.close()


def test_a_prompt_goes_to_the_hub_and_comes_back_bit_for_bit(hub, prompt_files, tmp_path):
    prompt = ept.Prompt.from_pretrained(prompt_files["ept"])
    address = prompt.push_to_hub("me/mood-ept", token=hub.token)
    assert address.startswith(hub.endpoint)
    files = hub.repositories["me/mood-ept"][1]
    assert set(files) == {"prompt.safetensors", "config.json", "README.md"}
    card = files["README.md"].decode()
    assert card.startswith("---\n") and "me/mood-ept" in card and prompt.template in card
    again = ept.Prompt.from_pretrained("me/mood-ept", token=hub.token, cache_dir=tmp_path / "cache")
    assert again.metadata == prompt.metadata
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in prompt.tensors.items())
    hub.close()
    offline = ept.Prompt.from_pretrained("me/mood-ept", cache_dir=tmp_path / "cache", local_files_only=True)
    assert offline.metadata == prompt.metadata


def test_refusals_are_one_sentence(hub, prompt_files, tmp_path):
    prompt = ept.Prompt.from_pretrained(prompt_files["pt"])
    for attempt in (
        lambda: prompt.push_to_hub("me/mood", token="wrong"),
        lambda: ept.Prompt.from_pretrained("me/nothing", cache_dir=tmp_path),
        lambda: ept.Prompt.from_pretrained("me/nothing", cache_dir=tmp_path, local_files_only=True),
        lambda: ept.Prompted.from_pretrained("me/nothing", cache_dir=tmp_path),
    ):
        with pytest.raises(InputError) as error:
            attempt()
        assert "me/" in str(error.value) and "\n" not in str(error.value)
        assert "hf_test" not in str(error.value)
