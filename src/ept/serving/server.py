"""The process behind `ept serve`: uvicorn, with connections that must say what they want in time."""

import asyncio
import socket
from collections.abc import Mapping

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.errors import InputError, reason_of
from ept.serving.app import Limits, make_app

HEADER_SECONDS = 10.0
"""Seconds in which the first line and the headers of a request must have arrived."""
IDLE_SECONDS = 5
"""Seconds that a connection may wait for its next request."""
STOP_SECONDS = 30
"""Seconds in which the requests that wait are answered after SIGTERM."""


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
