"""The server under many clients: what predict gives, limits as statuses, malformed requests harm nobody."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra `serve`")

import ept  # noqa: E402
from ept.errors import InputError  # noqa: E402
from ept.serving.app import Connection, Limits, make_app, serve  # noqa: E402

LIMITS = Limits(rows=20, characters=2000, queue_rows=2000, body_seconds=1.0)


class ImpatientConnection(Connection):
    """Waits a second for headers, so that a test does not wait ten."""

    header_seconds = 1.0


@contextlib.contextmanager
def running(app, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options |= {"log_level": "error", "http": ImpatientConnection}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def call(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        text = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request(method, path, text, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        kind = answer.headers.get("content-type", "")
        return answer.status, json.loads(content) if "json" in kind else content.decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def prompts(save_random_prompt, tmp_path_factory):
    """Twenty prompts of several methods."""
    folder = tmp_path_factory.mktemp("served")
    methods = ["pt", "dept", "ept", "mpt"]
    return {
        f"p{number}": ept.Prompt.from_pretrained(
            save_random_prompt(folder / f"p{number}.safetensors", methods[number % 4], seed=number, length=24 + number)
        )
        for number in range(20)
    }


@pytest.fixture(scope="module")
def port(model, prompts):
    with running(make_app(model, prompts, LIMITS)) as port:
        yield port


def test_two_hundred_clients_of_twenty_prompts_get_what_predict_gives(port, model, prompts, texts):
    names = list(prompts)
    asked = [
        (names[number % 20], [texts[(number + place) % len(texts)] for place in range(1 + number % 4)])
        for number in range(200)
    ]
    bad = [b"{", b"[]", b'{"prompt": "../../etc/passwd", "rows": ["x"]}', b"\xff" * 50]

    def ask(job):
        name, rows = job
        return call(port, "POST", "/predict", {"prompt": name, "rows": rows, "decoding": "open"})

    with ThreadPoolExecutor(50) as pool:
        spoilers = [pool.submit(call, port, "POST", "/predict", bad[number % 4]) for number in range(40)]
        answers = list(pool.map(ask, asked))
        assert {spoiler.result()[0] for spoiler in spoilers} == {400, 404}
    for (name, rows), (status, answer) in zip(asked, answers, strict=True):
        assert status == 200
        assert answer["predictions"] == model.predict(rows, prompts[name], decoding="open")
    status, text = call(port, "GET", "/metrics")
    passes = float(
        next(line.split()[1] for line in text.splitlines() if line.startswith('ept_passes_total{decoding="open"'))
    )
    # Requests that wait together share a pass.
    assert status == 200 and passes < 200


def test_what_there_is_and_whether_it_lives(port, prompts):
    assert call(port, "GET", "/health") == (200, {"status": "alive"})
    assert call(port, "GET", "/ready") == (200, {"ready": True})
    status, found = call(port, "GET", "/prompts")
    assert status == 200 and list(found) == list(prompts)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"prompt": "p0", "rows": ["x"] * 21}, 413),
        ({"prompt": "p0", "rows": ["x" * 2001]}, 413),
        (b" " * (LIMITS.body_bytes + 1), 413),
        ({"prompt": "none", "rows": ["x"]}, 404),
        ({"prompt": "p0", "rows": "x"}, 400),
        ({"prompt": "p0", "rows": [1]}, 400),
        ({"prompt": "p0", "rows": [{"text": "x"}]}, 400),
        ({"prompt": "p0", "rows": ["x"], "decoding": "beam"}, 400),
        ({"prompt": ["p0"], "rows": ["x"]}, 404),
        (b"[" * 5000, 400),
        ({"prompt": "p0", "rows": [{"sentence": None}]}, 400),
        (b'{"prompt": "p0", "rows": ["half a character \\ud800"]}', 400),
        ({"prompt": "p0", "rows": ["x", {}]}, 400),
    ],
    ids=str,
)
def test_bad_requests_have_a_status_and_one_sentence(port, body, status):
    found, answer = call(port, "POST", "/predict", body)
    assert found == status
    assert "\n" not in answer["error"] and "Traceback" not in answer["error"]
    assert call(port, "POST", "/predict", {"prompt": "p0", "rows": ["a good film"]})[0] == 200


def test_a_body_that_never_arrives_is_given_up(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert call(port, "POST", "/predict", {"prompt": "p0", "rows": ["a good film"]})[0] == 200
        assert b" 408 " in slow.recv(1000)


def test_headers_that_never_end_are_given_up(port):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(50)]
        for number, one in enumerate(slow):
            one.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n"[: 20 * (number % 3)])
        assert call(port, "POST", "/predict", {"prompt": "p0", "rows": ["a good film"]})[0] == 200
        assert [one.recv(1000) for one in slow] == [b""] * 50


def test_a_connection_may_ask_again_and_no_rows_have_no_answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for rows in (["a good film"], [], ["a poor plot"]):
        connection.request("POST", "/predict", json.dumps({"prompt": "p0", "rows": rows}))
        answer = connection.getresponse()
        assert (answer.status, len(json.loads(answer.read())["predictions"])) == (200, len(rows))
    connection.close()


def test_a_failed_prediction_is_no_end(model, prompts, monkeypatch):
    def fail(texts, *_, **__):
        raise RuntimeError("out of memory")

    with running(make_app(model, prompts)) as port:
        monkeypatch.setattr(type(model), "_batches", fail)
        status, answer = call(port, "POST", "/predict", {"prompt": "p0", "rows": ["x"]})
        assert status == 500 and "log" in answer["error"] and "memory" not in answer["error"]
        monkeypatch.undo()
        assert call(port, "POST", "/predict", {"prompt": "p0", "rows": ["x"]})[0] == 200


def test_on_sigterm_what_waits_is_answered_and_nothing_more_is_taken(prompt_files, texts):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [f"{name}={prompt_files[name]}" for name in ("pt", "ept")]
    command = [sys.executable, "-m", "ept.cli", "serve", "--prompt", *given, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while True:
            try:
                if call(port, "GET", "/ready")[0] == 200:
                    break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
        with ThreadPoolExecutor(24) as pool:
            body = {"prompt": "ept", "rows": texts[:8]}
            jobs = [pool.submit(call, port, "POST", "/predict", body) for _ in range(24)]
            while _waiting(port) < 80 and not all(job.done() for job in jobs):
                assert process.poll() is None
            process.terminate()
            # Those that came before it; others may find a closed door.
            found = [job.exception() or job.result()[0] for job in jobs]
        assert found.count(200) >= 80 // len(body["rows"])
        others = [one for one in found if one not in (200, 429)]
        assert all(isinstance(one, OSError | http.client.HTTPException) for one in others), others
        assert process.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("place", ["taken", 70000, "no.such.host.invalid"])
def test_a_place_where_nothing_can_listen_is_one_sentence(model, prompts, port, place):
    host, port = (
        (place, 8000) if place == "no.such.host.invalid" else ("127.0.0.1", port if place == "taken" else place)
    )
    with pytest.raises(InputError, match=f"{host}:{port}") as error:
        serve(model, prompts, host, port)
    assert "\n" not in str(error.value)


def test_what_cannot_be_answered_before_the_end_is_told_so(model, prompts):
    class Slow(type(model)):
        def predict(self, texts, *others, **options):
            time.sleep(1.5)
            return super().predict(texts, *others, **options)

    app = make_app(Slow(model.backbone, model.folder, model.name), prompts)
    with ThreadPoolExecutor(4) as pool:
        with running(app, timeout_graceful_shutdown=1) as port:
            body = {"prompt": "p0", "rows": ["a good film"] * 40}
            jobs = [pool.submit(call, port, "POST", "/predict", body) for _ in range(4)]
            while _waiting(port) < 160 and not any(job.done() for job in jobs):
                time.sleep(0.01)
        found = [job.result() for job in jobs]
    assert 503 in {status for status, _ in found} <= {200, 503}
    assert all("\n" not in answer["error"] for status, answer in found if status == 503)


def _waiting(port):
    text = call(port, "GET", "/metrics")[1]
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("ept_waiting_rows"))


def test_a_full_queue_is_said_and_empties(model, prompts, texts):
    with running(make_app(model, prompts, Limits(queue_rows=30))) as port, ThreadPoolExecutor(40) as pool:
        jobs = [pool.submit(call, port, "POST", "/predict", {"prompt": "p1", "rows": texts[:10]}) for _ in range(40)]
        statuses = [job.result()[0] for job in jobs]
        assert set(statuses) == {200, 429}
        assert call(port, "POST", "/predict", {"prompt": "p1", "rows": texts[:10]})[0] == 200


@pytest.mark.parametrize(("fact", "named"), [({"method": "lora"}, "LoRA"), ({"vision": {"column": "i"}}, "images")])
def test_weights_and_readers_of_images_are_not_served(model, prompts, fact, named):
    prompt = prompts["p0"]
    other = replace(prompt, saved=replace(prompt.saved, metadata={**prompt.metadata, **fact}))
    with pytest.raises(InputError, match=named):
        make_app(model, {"w": other})
