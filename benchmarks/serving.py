"""Many prompts over one backbone: a mixed batch against its slowest prompt alone, and the server under many clients.

    python -m benchmarks.serving [--miniature]

The embedded T5 with prompts of every prompt method. Times are processor or wall seconds of interleaved rounds, so that
a change of the machine's speed meets all subjects alike; what counts is their ratio. Writes serving.json and
serving.md, as `make bench` does.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import ept
from benchmarks import hardware
from ept.api.prompt import Prompt
from ept.config.settings import EptSettings, PromptSettings
from ept.files import write_json, write_text
from ept.methods.build import build_prompt_module
from ept.methods.prompt_file import SavedPrompt
from ept.methods.registry import METHODS

# A mixed batch takes at most so many times what the slowest of its prompts takes alone on the same rows.
MOST_MIXED = 1.3
SOURCE_LENGTH = 96
WORDS = ("the", "teacher", "saw", "a", "good", "film", "and", "judge", "did", "not", "like", "poor", "plot", "of", "it")
LABELS = (["0", "1"], ["yes", "no"], ["negative", "positive"], ["0", "1", "2"])


@dataclass(frozen=True)
class ServingPlan:
    """How much is measured."""

    prompts: int = 12
    rows: tuple[int, ...] = (12, 36, 96)
    rounds: int = 9
    clients: int = 200
    served: int = 20
    requests: int = 200
    server_rounds: int = 3


MINIATURE = ServingPlan(rows=(12,), rounds=2, clients=8, served=4, requests=16, server_rounds=1)


def measure_serving(plan: ServingPlan, say: Callable[[str], None] = print) -> dict:
    """Ratios of mixed batches and of the server, with what they are made of.

    Returns:
        `mixed`: a row for each size and for equal and different labels, with the seconds of the mixed batch, of the
        slowest prompt and their `ratio`; `server`: requests in a second by 200 clients at once, by one client after the
        other, and by calls of Python without a server, and their `ratio` (clients at once over one after the other);
        `load`: the machine's load before and after, which tells how busy it was with other things.
    """
    model, load = ept.Prompted.from_pretrained(), os.getloadavg()[0]
    mixed = []
    for name, labels in (("equal labels", LABELS[:1]), ("different labels", LABELS)):
        prompts = make_prompts(model, plan.prompts, labels)
        mixed += [{"labels": name, **measure_mixed(model, prompts, rows, plan.rounds)} for rows in plan.rows]
        say(f"mixed batches with {name} done")
    server = measure_server(model, make_prompts(model, plan.served, LABELS), plan)
    say("server done")
    return {
        "hardware": hardware.describe(),
        "threads": torch.get_num_threads(),
        "load": [load, os.getloadavg()[0]],
        "mixed": mixed,
        "server": server,
    }


def make_prompts(model: ept.Prompted, number: int, labels: tuple[list[str], ...]) -> list[Prompt]:
    """Prompts of all prompt methods in turn, of different lengths, at random weights."""
    methods = [name for name, method in METHODS.items() if method.packed]
    embedding, prompts = model.backbone.embedding, []
    for seed in range(number):
        method, length = methods[seed % len(methods)], 20 + seed
        settings = PromptSettings(length=length, short_length=length // 4, reference_length=64)
        sources = embedding[torch.arange(2 * length).reshape(2, length)].clone()
        module = build_prompt_module(method, embedding, settings, EptSettings(), SOURCE_LENGTH, [seed], (), sources)
        facts = {"template": "sentence: {sentence}", "labels": labels[seed % len(labels)], "kind": "classification"}
        metadata = {"method": method, "task": "own", "source_length": SOURCE_LENGTH, **facts}
        prompts.append(Prompt._of_saved(SavedPrompt(module.tensors(0), module.collapse(0), metadata), method))
    return prompts


def make_texts(rows: int, seed: int = 0) -> list[str]:
    """Texts of 5 to 39 words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(5, 40))) for _ in range(rows)]


def measure_mixed(model: ept.Prompted, prompts: list[Prompt], rows: int, rounds: int) -> dict:
    """Rows with the prompts in turn, against the same rows with each prompt alone; medians of interleaved rounds."""
    texts = make_texts(rows)
    subjects: list[Prompt | list[Prompt]] = [[prompts[row % len(prompts)] for row in range(rows)], *prompts]
    seconds: list[list[float]] = [[] for _ in subjects]
    for number in range(rounds + 1):
        for subject, found in zip(subjects, seconds, strict=True):
            started = time.process_time() if model.backbone.device.type == "cpu" else time.perf_counter()
            model.predict(texts, subject, batch_size=rows)
            ended = time.process_time() if model.backbone.device.type == "cpu" else time.perf_counter()
            # The first round makes what is kept: tokenizers, the prompts on the device.
            found += [ended - started] if number else []
    mixed, *alone = (statistics.median(found) for found in seconds)
    slowest = max(range(len(alone)), key=lambda place: alone[place])
    return {
        "rows": rows,
        "prompts": len(prompts),
        "mixed_seconds": mixed,
        "slowest_seconds": alone[slowest],
        "slowest_method": prompts[slowest].method,
        "ratio": mixed / alone[slowest],
        "most": MOST_MIXED,
    }


def measure_server(model: ept.Prompted, prompts: list[Prompt], plan: ServingPlan) -> dict:
    """Requests of one to four rows over loopback: many clients at once, and the same requests one after the other."""
    import uvicorn

    from ept.serving.app import make_app

    named = {f"p{number}": prompt for number, prompt in enumerate(prompts)}
    texts = make_texts(64, seed=1)
    requests = [
        {
            "prompt": f"p{number % len(prompts)}",
            "rows": [texts[(number + place) % len(texts)] for place in range(1 + number % 4)],
        }
        for number in range(plan.requests)
    ]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.listen(1024)
        server = uvicorn.Server(uvicorn.Config(make_app(model, named), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            asyncio.run(_ask(port, requests[: len(prompts)], 1))
            rounds = [
                (
                    _seconds(lambda: asyncio.run(_ask(port, requests, plan.clients))),
                    _seconds(lambda: asyncio.run(_ask(port, requests, 1))),
                    _seconds(lambda: [model.predict(one["rows"], named[one["prompt"]]) for one in requests]),
                )
                for _ in range(plan.server_rounds)
            ]
        finally:
            server.should_exit = True
            thread.join(60)
    at_once, in_turn, python = (statistics.median(part) for part in zip(*rounds, strict=True))
    return {
        "requests": len(requests),
        "rows": sum(len(one["rows"]) for one in requests),
        "clients": plan.clients,
        "prompts": len(prompts),
        "requests_per_second": len(requests) / at_once,
        "requests_per_second_in_turn": len(requests) / in_turn,
        "requests_per_second_python": len(requests) / python,
        "ratio": in_turn / at_once,
        "ratio_python": python / at_once,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


async def _ask(port: int, requests: list[dict], clients: int) -> None:
    """Send the requests over so many connections, each of which waits for an answer before its next request."""
    waiting = list(reversed(requests))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            body = json.dumps(waiting.pop()).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            status = (await reader.readline()).split()
            length = 0
            while (line := await reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
            await reader.readexactly(length)
            if status[1] != b"200":
                raise RuntimeError(f"the server answered {status}")
        writer.close()

    await asyncio.gather(*(client() for _ in range(min(clients, len(requests)))))


def markdown(result: dict) -> str:
    """The result as tables for people, each ratio beside what is wanted."""
    machine, server = result["hardware"], result["server"]
    threads = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    before, after = result["load"]
    lines = [
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores; the embedded T5 on {threads}; the machine's "
        f"load was {before:.0f} before and {after:.0f} after.",
        "",
        "| rows | prompts | labels | mixed, ms | slowest alone, ms | ratio | wanted |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in result["mixed"]:
        times = f"{1000 * row['mixed_seconds']:.0f} | {1000 * row['slowest_seconds']:.0f} ({row['slowest_method']})"
        lines.append(
            f"| {row['rows']} | {row['prompts']} | {row['labels'].removesuffix(' labels')} | {times} "
            f"| {row['ratio']:.2f} | < {row['most']} |"
        )
    rates = [
        (f"{server['clients']} clients at once", server["requests_per_second"], 1.0),
        ("one request after the other", server["requests_per_second_in_turn"], server["ratio"]),
        ("one call of Python after the other, no server", server["requests_per_second_python"], server["ratio_python"]),
    ]
    lines += [
        "",
        f"The server with {server['prompts']} prompts; {server['requests']} requests, {server['rows']} rows in all:",
        "",
        "| | requests per second | at once is so many times as fast |",
        "| --- | ---: | ---: |",
        *(f"| {title} | {rate:.1f} | {ratio:.1f} |" for title, rate, ratio in rates),
    ]
    return "\n".join(lines) + "\n"


def write_serving(plan: ServingPlan, folder: Path, say: Callable[[str], None] = print) -> None:
    """Measure and write serving.json and serving.md to a folder; nothing is written before all is measured."""
    result = measure_serving(plan, say)
    write_json(folder / "serving.json", result)
    write_text(folder / "serving.md", markdown(result))


def main(arguments: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--miniature", action="store_true", help="seconds, to see that all works")
    parser.add_argument("--threads", type=int, help="as many as cores by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads or hardware.cores())
    write_serving(MINIATURE if options.miniature else ServingPlan(), options.out)
    print((options.out / "serving.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
