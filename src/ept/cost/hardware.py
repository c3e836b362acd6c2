"""GPUs by name: memory and rate of computation, from published peaks and assumptions, or from measured rates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ept.errors import InputError

# The share of its published peak that a GPU is assumed to reach in training. An assumption, not a measurement.
UTILIZATION = 0.3
# What CUDA, torch and fragmentation take of a GPU's memory: also an assumption.
RESERVED_BYTES = 2 * 2**30
GIB = 2**30
# Seconds that a process needs to launch one kernel, and to start (Python, torch, CUDA): assumptions for every GPU.
LAUNCH_SECONDS, GPU_START_SECONDS = 5e-6, 20.0
# Bytes a second at which weights are read from a disk: an assumption.
READ_RATE = 1e9
PRECISIONS = ("bfloat16", "float32", "tf32")


@dataclass(frozen=True)
class Device:
    """A GPU or a CPU thread that trains.

    Rates are 10^12 multiplications and additions a second, each counted as one operation, by precision; NaN where they
    are not known. A process needs `launch_seconds` for one kernel, and `start_seconds` before it trains.
    """

    name: str
    gib: float | None
    """Memory in GiB; None where it is not a limit."""
    bfloat16: float
    float32: float
    tf32: float
    """The rate for float32 matrices that are multiplied in TF32."""
    launch_seconds: float = 0.0
    start_seconds: float = 0.0

    def rate(self, precision: str) -> float:
        """Operations a second in a precision; NaN where that is not known."""
        return float(getattr(self, precision)) * 1e12

    def holds(self, needed: int) -> bool:
        """Whether this number of bytes fits."""
        return self.gib is None or needed + RESERVED_BYTES <= self.gib * GIB


def _gpu(name: str, gib: int, bfloat16: float, float32: float, tf32: float) -> Device:
    reached = [rate * UTILIZATION for rate in (bfloat16, float32, tf32)]
    return Device(name, gib, reached[0], reached[1], reached[2], LAUNCH_SECONDS, GPU_START_SECONDS)


# Published peaks without sparsity, in TFLOP/s: bfloat16 and TF32 on tensor cores, float32 without. NVIDIA's data sheets
# of H200 SXM, H100 SXM, A100 and V100 SXM2 (which has neither bfloat16 nor TF32 units, so its float32 peak), and the
# Ada whitepaper for the RTX 4090.
GPUS = (
    _gpu("H200", 141, 989.4, 66.9, 494.7),
    _gpu("H100", 80, 989.4, 66.9, 494.7),
    _gpu("A100", 80, 312.0, 19.5, 156.0),
    _gpu("A100-40", 40, 312.0, 19.5, 156.0),
    _gpu("RTX4090", 24, 165.2, 82.6, 82.6),
    _gpu("V100", 32, 15.7, 15.7, 15.7),
)
# Measured by `make bench` on two threads of an AMD EPYC (benchmarks/performance.json).
CPU_THREAD = Device("CPU thread", None, 0.037, 0.037, 0.037, start_seconds=3.0)
# What time limits count on (ept.cost.resources): an A100, and a thread less than half as fast as the measured one.
LIMIT_GPU = next(gpu for gpu in GPUS if gpu.name == "A100")
LIMIT_CPU = Device("slow CPU thread", None, 0.015, 0.015, 0.015)


_RATE = re.compile(r"([^=]+)=(\d+\.?\d*)(?::(\d+))?((?:,\w+=\d+\.?\d*)*)")


def with_rates(devices: tuple[Device, ...], rates: Sequence[str]) -> tuple[Device, ...]:
    """Replace assumed rates by measured ones.

    Args:
        devices: The known devices.
        rates: `NAME=TFLOPS` for a known device, `NAME=TFLOPS:GIB` for another one; the rates of single precisions may
            follow, as in `H200=700:141,float32=60`.

    Returns:
        The devices. Raises InputError for anything else.
    """
    known = {device.name: device for device in devices}
    for text in rates:
        match = _RATE.fullmatch(text)
        if not match or not float(match[2]):
            raise InputError(f"--rate {text}: expected NAME=TFLOPS or NAME=TFLOPS:GIB, for example H100=250")
        name, rate = match[1], float(match[2])
        if name not in known and not match[3]:
            raise InputError(f"--rate {text}: unknown device {name}; add its memory in GiB ({text}:80)")
        pairs = (part.split("=") for part in match[4].split(",")[1:])
        single = {precision: float(value) for precision, value in pairs}
        if wrong := [precision for precision, value in single.items() if precision not in PRECISIONS or not value]:
            raise InputError(f"--rate {text}: {wrong[0]} needs a rate above 0; precisions are {', '.join(PRECISIONS)}")
        gib = int(match[3]) if match[3] else known[name].gib
        start = (LAUNCH_SECONDS, GPU_START_SECONDS)
        device = known.get(name, Device(name, gib, rate, rate, rate, *start))
        known[name] = replace(device, gib=gib, **dict.fromkeys(PRECISIONS, rate) | single)
    return tuple(known.values())
