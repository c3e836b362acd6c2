"""Prompts to and from a stand-in of the Hub on loopback, bit for bit."""

import base64
import json
import re
import threading

import huggingface_hub
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
        files = self.server.repositories[found[1]][1]
        return self._answer([hub_stand_in._entry(name, content) for name, content in files.items()])

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
    # huggingface_hub reads HF_ENDPOINT once, when it is imported.
    constants = huggingface_hub.constants
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
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
    assert "me/mood-ept" in card and prompt.template in card
    assert huggingface_hub.ModelCard(card).data.library_name == "ept"
    again = ept.Prompt.from_pretrained("me/mood-ept", token=hub.token, cache_dir=tmp_path / "cache")
    assert again.metadata == prompt.metadata
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in prompt.tensors.items())
    hub.close()
    offline = ept.Prompt.from_pretrained("me/mood-ept", cache_dir=tmp_path / "cache", local_files_only=True)
    assert offline.metadata == prompt.metadata


def test_the_mixins_own_ways_to_save_and_share(hub, prompt_files, tmp_path):
    prompt = ept.Prompt.from_pretrained(prompt_files["pt"])
    assert isinstance(prompt, huggingface_hub.ModelHubMixin)
    assert prompt.save_pretrained(tmp_path / "plain") is None
    address = prompt.save_pretrained(tmp_path / "mood", push_to_hub=True, repo_id="me/mood-pt", token=hub.token)
    assert address.startswith(hub.endpoint)
    files = hub.repositories["me/mood-pt"][1]
    for name in ("prompt.safetensors", "config.json"):
        assert files[name] == (tmp_path / "mood" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    # A folder that held another prompt gets this one's card.
    other = ept.Prompt.from_pretrained(prompt_files["dept"])
    other.save_pretrained(tmp_path / "plain")
    assert other.title in (tmp_path / "plain/README.md").read_text()
    assert ept.Prompt.from_pretrained(tmp_path / "plain").method == "dept"


def test_the_card_holds_scores_with_intervals_license_and_data(prompt_files, model, texts):
    rows = [{"sentence": text, "mood": str(place % 2)} for place, text in enumerate(texts)]
    prompt = ept.Prompt.from_pretrained(prompt_files["ept"])
    scores = ept.evaluate(rows, label="mood", prompt=prompt, model=model)
    described = prompt.with_card(scores=scores, data_license="cc-by-4.0", note="For film reviews | only.")
    assert all(torch.equal(described.tensors[name], tensor) for name, tensor in prompt.tensors.items())
    card = described.generate_model_card("me/mood")
    assert card.data.license == "cc-by-4.0"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        name: round(score.value, 2) for name, score in scores.items()
    }
    for score in scores.values():
        assert f"{score.value:.1f} (95 % interval {score.low:.1f} to {score.high:.1f})" in card.content
    for part in ("For film reviews", prompt.template, prompt.task.name, "me/mood", *prompt.labels):
        assert part in card.content
    # Of the rows nothing is shared.
    assert not any(text in card.content for text in texts)


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
