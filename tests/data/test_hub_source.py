"""The real hub client against a server on loopback that speaks the hub's protocol with files made here."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from data.task_rows import table
from ept.data.hub import REPOSITORIES
from ept.data.source import DataSource, fetch, identity
from ept.tasks import TASKS

FETCH = """
import sys
from pathlib import Path
from ept.data.source import DataSource, fetch
from ept.errors import InputError
from ept.tasks import TASKS
try:
    for name in sys.argv[2:]:
        fetch(TASKS[name], DataSource("hub"), Path(sys.argv[1]) / name)
except InputError as error:
    print(error)
    sys.exit(2)
"""


class Hub(ThreadingHTTPServer):
    """Serves `files` ("<repository>/<path>": bytes) at the pinned revisions, or a refusal (status, code)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None
        self.requests: list[str] = []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        hub, path = self.server, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        if hub.refusal:
            return self._send(*hub.refusal, b"", {}, body)
        for repository, revision in REPOSITORIES.values():
            resolve = f"/datasets/{repository}/resolve/{revision}/"
            if path == f"/api/datasets/{repository}/revision/{revision}":
                return self._list(repository, revision, body)
            if path.startswith(resolve):
                content = hub.files.get(f"{repository}/{path.removeprefix(resolve)}")
                if content is None:
                    return self._send(404, "EntryNotFound", b"", {}, body)
                etag = hashlib.sha256(content).hexdigest()
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": revision}
                return self._send(200, None, content, headers, body)
        return self._send(404, "RevisionNotFound", b"", {}, body)

    def _list(self, repository, revision, body):
        prefix = f"{repository}/"
        files = [{"rfilename": name.removeprefix(prefix)} for name in self.server.files if name.startswith(prefix)]
        content = json.dumps({"id": repository, "sha": revision, "siblings": files}).encode()
        return self._send(200, None, content, {"Content-Type": "application/json"}, body)

    def _send(self, status, code, content, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _publish(hub, tmp_path, name, shards=1):
    """Put a task's splits on the hub as <config>/<split>-0000x-of-0000y.parquet."""
    task = TASKS[name]
    for split in (*task.splits, "test"):
        for shard in range(shards):
            path = tmp_path / "shard.parquet"
            pq.write_table(table(task, 6 + 6 * shard), path)
            where = f"{REPOSITORIES[task.suite][0]}/{task.config}/{split}-{shard:05d}-of-{shards:05d}.parquet"
            hub.files[where] = path.read_bytes()


def _fetch(endpoint, folder, *names, **environment):
    """What `fetch` prints and its exit status, in a process of its own: HF_ENDPOINT is read at import."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    surroundings |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, folder / "raw", *names],
        capture_output=True,
        text=True,
        env=surroundings | environment,
        timeout=120,
    )
    assert done.returncode in (0, 2), done.stderr
    assert list(temporary.iterdir()) == [], "something half-downloaded was left"
    return done.stdout, done.returncode


def test_splits_are_downloaded_and_then_need_no_network(hub, tmp_path):
    names = ("rte", "mnli", "wsc", "squad", "record")
    for name in names:
        _publish(hub, tmp_path, name)
    assert _fetch(hub.endpoint, tmp_path, *names) == ("", 0)
    for name in names:
        task = TASKS[name]
        folder = tmp_path / "raw" / name
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{split}.parquet" for split in task.splits)
        for split in task.splits:
            assert pq.read_table(folder / f"{split}.parquet").equals(table(task))
    assert not any("/test-" in request for request in hub.requests), "hidden test sets are never used"
    count = len(hub.requests)
    # In this process, whose hub client knows of no server here.
    for name in names:
        fetch(TASKS[name], DataSource("hub"), tmp_path / "raw" / name)
    assert len(hub.requests) == count


def test_shards_are_joined_in_order(hub, tmp_path):
    _publish(hub, tmp_path, "qnli", shards=3)
    assert _fetch(hub.endpoint, tmp_path, "qnli") == ("", 0)
    assert pq.read_table(tmp_path / "raw/qnli/train.parquet").num_rows == 6 + 12 + 18


def _sentence(hub, tmp_path, *names, **environment):
    output, status = _fetch(getattr(hub, "endpoint", hub), tmp_path, *names, **environment)
    assert status == 2
    assert output.count("\n") == 1
    assert not (tmp_path / "raw").exists()
    return output


def test_no_network_is_one_sentence(hub, tmp_path):
    hub.shutdown()
    hub.server_close()
    sentence = _sentence(hub.endpoint, tmp_path, "rte")
    assert f"{hub.endpoint}/datasets/nyu-mll/glue: the hub cannot be reached for rte" in sentence
    assert "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or use data.source local" in sentence


def test_offline_mode_is_one_sentence(hub, tmp_path):
    assert "the hub cannot be reached for rte" in _sentence(hub, tmp_path, "rte", HF_HUB_OFFLINE="1")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (
            (403, "GatedRepo"),
            "the repository is gated; accept its terms there and give your token as HF_TOKEN",
        ),
        ((404, "RepoNotFound"), "the hub has no such repository at revision bcdcba79"),
        ((404, "RevisionNotFound"), "the hub has no such repository at revision bcdcba79"),
    ],
)
def test_refusals_are_one_sentence(hub, tmp_path, refusal, expected):
    hub.refusal = refusal
    assert expected in _sentence(hub, tmp_path, "rte")


def test_missing_configuration_and_split_are_one_sentence(hub, tmp_path):
    _publish(hub, tmp_path, "cola")
    assert "there are 0 files rte/train-*.parquet, which is not the whole split" in _sentence(hub, tmp_path, "rte")
    del hub.files["nyu-mll/glue/cola/validation-00000-of-00001.parquet"]
    assert "there are 0 files cola/validation-*.parquet" in _sentence(hub, tmp_path, "cola")
    _publish(hub, tmp_path, "sst2", shards=2)
    del hub.files["nyu-mll/glue/sst2/train-00001-of-00002.parquet"]
    assert "there are 1 files sst2/train-*.parquet" in _sentence(hub, tmp_path, "sst2")


def test_a_bad_table_of_the_hub_is_refused_with_its_place(hub, tmp_path):
    _publish(hub, tmp_path, "rte")
    name = "nyu-mll/glue/rte/train-00000-of-00001.parquet"
    hub.files[name] = hub.files[name][:-20]
    assert "this is not a whole Parquet file" in _sentence(hub, tmp_path, "rte")
    pq.write_table(table(TASKS["rte"]).drop_columns("sentence1"), tmp_path / "bad.parquet")
    hub.files[name] = (tmp_path / "bad.parquet").read_bytes()
    assert "nyu-mll/glue rte train: column 'sentence1', which rte needs" in _sentence(hub, tmp_path, "rte")


def test_identity_is_the_revision():
    assert {identity(DataSource("hub"), TASKS[name]) for name in ("cola", "mnli")} == {"hub-bcdcba79"}
    assert identity(DataSource("hub"), TASKS["wic"]) == "hub-3de24cf8"
    assert identity(DataSource("hub"), TASKS["squad"]) == "hub-7b6d24c4"
