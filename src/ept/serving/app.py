"""An HTTP server for many prompts over one frozen backbone (extra `serve`)."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import h11
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.errors import InputError, reason_of
from ept.methods.registry import get_method
from ept.serving.batching import Batcher, Full

LOG = logging.getLogger("ept")
HEADER_SECONDS = 10.0
"""Seconds in which the first line and the headers of a request must have arrived."""
IDLE_SECONDS = 5
"""Seconds that a connection may wait for its next request."""
STOP_SECONDS = 30
"""Seconds in which the requests that wait are answered after SIGTERM."""


@dataclass(frozen=True)
class Limits:
    """What one request and all waiting ones may have."""

    rows: int = 256
    """Rows in a request; more are answered with 413."""
    characters: int = 200_000
    """Characters of all rows of a request; more are answered with 413."""
    queue_rows: int = 4096
    """Rows that wait in all; more are answered with 429."""
    body_seconds: float = 10.0
    """Seconds in which a request's body must have arrived; later it is answered with 408."""

    @property
    def body_bytes(self) -> int:
        """Bytes of a request's body: four for a character, and as much again for JSON around it."""
        return 8 * self.characters + 10_000


def make_app(model: Prompted, prompts: Mapping[str, Prompt], limits: Limits | None = None) -> FastAPI:
    """The server's application.

    `POST /predict` takes `{"prompt": NAME, "rows": [...], "decoding": "closed"}` and gives `{"predictions": [...]}`;
    rows are strings or objects of the template's columns. `GET /prompts`, `/health`, `/ready` and `/metrics` say what
    there is, whether the process lives, whether it takes requests, and counts. A prompt is known by its name alone: no
    path from a request is ever opened.

    Args:
        model: The backbone.
        prompts: The prompts by name.
        limits: What requests may have.
    """
    limits = limits or Limits()
    for name, prompt in prompts.items():
        if not get_method(prompt.method).packed:
            raise InputError(
                f"{name} holds weights of {prompt.title}, which change the backbone; only prompts are served"
            )
        if prompt.metadata.get("vision"):
            # A row's image may be a path, and no path of a request is ever opened.
            raise InputError(f"{name} reads images, which are not taken over HTTP; use it from Python")
    # One thread: passes over one backbone follow each other.
    thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
    decodings: tuple[Literal["closed", "open"], ...] = ("closed", "open")
    batchers = {
        decoding: Batcher(partial(model.predict, decoding=decoding), thread, queue_rows=limits.queue_rows)
        for decoding in decodings
    }
    state = {"ready": False, "started": time.monotonic()}
    counts: dict[int, int] = {}

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        for batcher in batchers.values():
            await batcher.start()
        state["ready"] = True
        yield
        state["ready"] = False
        for batcher in batchers.values():
            await batcher.stop()
        thread.shutdown(wait=True)

    app = FastAPI(title="ept", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": state["ready"]}, status_code=200 if state["ready"] else 503)

    @app.get("/prompts")
    async def names() -> dict[str, Any]:
        return {
            name: {"method": prompt.method, "template": prompt.template, "labels": prompt.labels}
            for name, prompt in prompts.items()
        }

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        lines = [f"ept_uptime_seconds {time.monotonic() - state['started']:.0f}"]
        lines += [f'ept_responses_total{{status="{status}"}} {number}' for status, number in sorted(counts.items())]
        for name, batcher in batchers.items():
            lines.append(f'ept_waiting_rows{{decoding="{name}"}} {batcher.waiting_rows}')
            lines += [
                f'ept_{key}_total{{decoding="{name}"}} {number}' for key, number in sorted(batcher.counts.items())
            ]
        return PlainTextResponse("\n".join(lines) + "\n")

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        try:
            status, answer = await _predict(request)
        except asyncio.CancelledError:
            # uvicorn ends what is not answered within STOP_SECONDS.
            status, answer = 503, {"error": "the server stops; ask again later"}
        counts[status] = counts.get(status, 0) + 1
        return JSONResponse(answer, status_code=status)

    async def _predict(request: Request) -> tuple[int, dict[str, Any]]:
        try:
            body = await asyncio.wait_for(_body(request, limits.body_bytes), limits.body_seconds)
        except TimeoutError:
            return 408, {"error": f"the body did not arrive within {limits.body_seconds:g} seconds"}
        if body is None:
            return 413, {"error": f"the body has more than {limits.body_bytes:,} bytes"}
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return 400, {"error": "the body is not valid JSON"}
        if problem := _problem(asked, prompts, limits):
            return problem
        try:
            batcher = batchers[asked.get("decoding", "closed")]
            answers = await batcher.answer(asked["rows"], prompts[asked["prompt"]])
        except Full:
            return 429, {"error": "too many rows wait; try again later"}
        except InputError as error:
            return 400, {"error": str(error)}
        except Exception:  # whatever the backbone raises, out of memory for example
            LOG.exception("a prediction failed")
            return 500, {"error": "the prediction failed; the server's log says why"}
        return 200, {"predictions": answers}

    return app


async def _body(request: Request, most: int) -> bytes | None:
    """The body; None where it is larger than `most` bytes, without reading the rest."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def _problem(asked: Any, prompts: Mapping[str, Prompt], limits: Limits) -> tuple[int, dict[str, Any]] | None:
    """What is wrong with a request, as its answer; None where nothing is."""
    if not isinstance(asked, dict):
        return 400, {"error": "the body must be an object with prompt and rows"}
    name, rows, decoding = asked.get("prompt"), asked.get("rows"), asked.get("decoding", "closed")
    if not isinstance(name, str) or name not in prompts:
        return 404, {"error": "unknown prompt; GET /prompts lists the names"}
    if decoding not in ("closed", "open"):
        return 400, {"error": "decoding must be closed or open"}
    if not isinstance(rows, list) or not all(isinstance(row, str | dict) for row in rows):
        return 400, {"error": "rows must be a list of strings or objects"}
    if len(rows) > limits.rows:
        return 413, {"error": f"{len(rows)} rows; at most {limits.rows} in one request"}
    characters = sum(len(row) if isinstance(row, str) else sum(len(str(cell)) for cell in row.values()) for row in rows)
    if characters > limits.characters:
        return 413, {"error": f"{characters:,} characters; at most {limits.characters:,} in one request"}
    return None


class Connection(H11Protocol):
    """A connection that is closed where a request begins and its headers do not end in time.

    uvicorn waits for them without end, so that silent clients could take all connections.
    """

    header_seconds = HEADER_SECONDS
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once the headers are there."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.header_seconds, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def serve(model: Prompted, prompts: Mapping[str, Prompt], host: str, port: int, limits: Limits | None = None) -> None:
    """Run the server until SIGTERM or SIGINT; requests that wait are answered before it ends.

    Raises:
        InputError: A prompt is not served, or nothing can listen at that host and port.
    """
    config = uvicorn.Config(
        make_app(model, prompts, limits),
        http=Connection,
        log_level="warning",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(f"nothing can listen at {host}:{port} ({reason_of(error)}); choose another --port") from error
    with listening:
        uvicorn.Server(config).run(sockets=[listening])
