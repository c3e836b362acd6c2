"""Requests of many clients as batches over one backbone: rows that arrive together go through it together."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ept.api.prompt import Prompt

# (texts, a prompt for each) -> an answer for each.
Predict = Callable[[Sequence[Any], Sequence[Prompt]], list[Any]]


class Full(Exception):
    """The queue holds as many rows as it may; the client should try again later."""


@dataclass
class _Request:
    rows: list[Any]
    prompt: Prompt
    answers: asyncio.Future
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Collects the rows of waiting requests and predicts them in one pass, whatever their prompts.

    One pass runs at a time, in a thread of its own, so that the event loop keeps answering. A request whose client has
    gone is dropped before its pass.
    """

    def __init__(
        self,
        predict: Predict,
        thread: ThreadPoolExecutor,
        batch_rows: int = 64,
        queue_rows: int = 4096,
        wait_seconds: float = 0.003,
    ):
        """Set the limits.

        Args:
            predict: What answers a batch.
            thread: Where it runs; one thread for all that share a backbone.
            batch_rows: At most so many rows in one pass; a larger request is a pass of its own.
            queue_rows: At most so many rows wait; more raise `Full`.
            wait_seconds: How long a pass waits for further requests when the queue is nearly empty.
        """
        self.predict, self.batch_rows, self.queue_rows, self.wait_seconds = (
            predict,
            batch_rows,
            queue_rows,
            wait_seconds,
        )
        self.waiting_rows = 0
        self.counts: Counter[str] = Counter()
        self._queue: asyncio.Queue[_Request] = asyncio.Queue()
        self._thread = thread
        self._task: asyncio.Task | None = None
        self._closing = False

    async def start(self) -> None:
        """Begin to work; call it inside the event loop."""
        self._task = asyncio.create_task(self._work())

    async def answer(self, rows: list[Any], prompt: Prompt) -> list[Any]:
        """The answers to the rows of one request. Raises Full where too many rows wait, or the server stops."""
        if not rows:
            return []
        if self._closing or self.waiting_rows + len(rows) > self.queue_rows:
            self.counts["refused"] += 1
            raise Full
        request = _Request(rows, prompt, asyncio.get_running_loop().create_future())
        self.waiting_rows += len(rows)
        self._queue.put_nowait(request)
        return await request.answers

    async def stop(self) -> None:
        """Answer what waits, take nothing more, and end."""
        self._closing = True
        while self.waiting_rows:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        held: _Request | None = None
        while True:
            first = held or await self._queue.get()
            batch, held = await self._collect(first)
            self.counts["passes"] += 1
            living = [request for request in batch if not request.answers.done()]
            try:
                await self._answer(living)
            finally:
                self.waiting_rows -= sum(len(request.rows) for request in batch)

    async def _collect(self, first: _Request) -> tuple[list[_Request], _Request | None]:
        """Requests up to `batch_rows` rows, and the one that no longer fits."""
        batch, rows = [first], len(first.rows)
        deadline = time.monotonic() + self.wait_seconds
        while rows < self.batch_rows:
            try:
                left = max(0.0, deadline - time.monotonic())
                request = (
                    await asyncio.wait_for(self._queue.get(), left) if self._queue.empty() else self._queue.get_nowait()
                )
            except TimeoutError:
                break
            if rows + len(request.rows) > self.batch_rows:
                return batch, request
            batch.append(request)
            rows += len(request.rows)
        return batch, None

    async def _answer(self, batch: list[_Request]) -> None:
        """One pass; where it fails, every request alone, so that a bad one harms no other."""
        loop = asyncio.get_running_loop()
        texts = [row for request in batch for row in request.rows]
        prompts = [request.prompt for request in batch for _ in request.rows]
        if not batch:
            return
        try:
            answers = await loop.run_in_executor(self._thread, self.predict, texts, prompts)
        except Exception as error:  # whatever the backbone raises is the request's answer, not the server's end
            if len(batch) == 1:
                self._set(batch[0], error=error)
                return
            for request in batch:
                await self._answer([request])
            return
        self.counts["rows"] += len(texts)
        start = 0
        for request in batch:
            self._set(request, answers[start : start + len(request.rows)])
            start += len(request.rows)

    @staticmethod
    def _set(request: _Request, answers: list[Any] | None = None, error: Exception | None = None) -> None:
        if request.answers.done():
            return
        if error is not None:
            request.answers.set_exception(error)
        else:
            request.answers.set_result(answers)
