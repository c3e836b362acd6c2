"""What is measured of a machine: how many positions a pass should have, and memory."""

import resource
import sys
import time
from pathlib import Path

import torch
from filelock import FileLock

from ept.backbones.backbone import Backbone, is_out_of_memory
from ept.files import parse_json, write_json

LENGTH = 128
FEWEST_ROWS = 4
# A pass that is as fast as the fastest but for this share is good enough: the smaller one needs less memory.
GOOD_ENOUGH = 0.95
# Growing ends where passes have become this much slower than the best, or take this long.
SLOWER, LONGEST_PASS = 0.85, 2.0


def forward_positions(backbone: Backbone, identity: str, file: Path) -> int:
    """The number in `file`, which is measured and written first where it is missing or of another backbone.

    On a CPU a batch whose activations leave the cache can be slower than several that stay in it; on a GPU a batch must
    be large enough to fill it. Jobs that start together wait for the one that measures, so that all use one number.
    """
    key = {"backbone": identity, "dtype": str(backbone.dtype), "torch": torch.__version__}
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        found = _read(file)
        if any(found.get(name) != value for name, value in key.items()):
            rates = measure(backbone)
            found = {**key, "positions": choose(rates), "positions_per_second": rates}
            write_json(file, found)
    return found["positions"]


def measure(backbone: Backbone) -> dict[str, float]:
    """Positions per second of a forward and backward pass, by its number of positions.

    The number is doubled until passes slow down or memory runs out.
    """
    rates: dict[str, float] = {}
    rows = FEWEST_ROWS
    _pass_seconds(backbone, rows)
    while not rates or rows * LENGTH <= backbone.most_positions:
        try:
            seconds = min(_pass_seconds(backbone, rows) for _ in range(3))
        except RuntimeError as error:
            if rates and is_out_of_memory(error):
                break
            raise
        rates[str(rows * LENGTH)] = rows * LENGTH / seconds
        if rates[str(rows * LENGTH)] < SLOWER * max(rates.values()) or seconds > LONGEST_PASS:
            break
        rows *= 2
    return rates


def choose(rates: dict[str, float]) -> int:
    """The smallest number of positions that is as fast as the fastest, or nearly."""
    best = max(rates.values())
    return min(int(positions) for positions, rate in rates.items() if rate >= GOOD_ENOUGH * best)


def device_memory(device: torch.device) -> int | None:
    """The GPU's memory in bytes; None on a CPU, whose memory jobs share."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the GPU's allocator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _pass_seconds(backbone: Backbone, rows: int) -> float:
    shape = (rows, LENGTH)
    embeddings = torch.zeros(*shape, backbone.hidden_size, dtype=backbone.dtype, device=backbone.device)
    targets = torch.full((rows, 2), backbone.eos_id, device=backbone.device)
    mask = torch.ones(shape, dtype=torch.int64, device=backbone.device)
    # On a CPU the processor's time: other programs on the machine do not count.
    clock = time.perf_counter if backbone.device.type == "cuda" else time.process_time
    started = clock()
    backbone.token_losses(embeddings.requires_grad_(), mask, targets).sum().backward()
    if backbone.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def _read(file: Path) -> dict:
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("positions"), int) else {}
