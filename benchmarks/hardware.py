"""What the numbers were measured on."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.backbones import device, synchronize
from ept.devices import cpu_bfloat16

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")
# 2048^3: large enough for the full rate, a fraction of a second on two cores.
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
MATRIX_ROUNDS = 5


def cores() -> int:
    """Cores that this process may use; every variant gets as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def describe() -> dict:
    """Processor, cores, memory in GiB and GPU, and the versions of Python and the packages that compute."""
    gpu = torch.cuda.is_available()
    return {
        "cpu": _processor(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "bfloat16": "cuda" if gpu else cpu_bfloat16(),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "gpu_memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if gpu else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def matrix_rate(dtype: str = "float32") -> float:
    """Floating-point operations per second of a large matrix product: the median of five."""
    size = MATRIX_SIZE[device()]
    first, second = (torch.randn(size, size, device=device()).to(getattr(torch, dtype)) for _ in range(2))
    rates = []
    for _ in range(MATRIX_ROUNDS + 1):
        started = time.perf_counter()
        first @ second
        synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
