"""GPUs by name: memory and rate of computation. Published peaks and one assumption, or a rate that was measured."""

import re
from dataclasses import dataclass, replace

from ept.errors import InputError

# The share of its published peak that a GPU is assumed to reach in training. An assumption, not a measurement.
UTILizATION = 0.3
# What CUDA, torch and fragmentation take of a GPU's memory: an assumption too.
RESERVED_BYTES = 2 * 2**30
GIB = 2**30


@dataclass(frozen=True)
class Device:
    """What trains. Rates are 10^12 multiplications and additions a second, each counted as one operation, in bfloat16
    and float32, NaN where they are not known; `gib` of memory, None where that is no limit.
    """

    name: str
    gib: float | None
    bfloat16: float
    float32: float

    def rate(self, dtype: str) -> float:
        """Operations a second; NaN where that is not known."""
        return (self.bfloat16 if dtype == "bfloat16" else self.float32) * 1e12

    def holds(self, needed: int) -> bool:
        """Whether so many bytes fit."""
        return self.gib is None or needed + RESERVED_BYTES <= self.gib * GIB


def _gpu(name: str, gib: int, bfloat16: float, float32: float) -> Device:
    return Device(name, gib, bfloat16 * UTILizATION, float32 * UTILizATION)


# Published peaks without sparsity, in TFLOP/s, bfloat16 on tensor cores and float32 without: NVIDIA's data sheets of
# H100 SXM, A100 and V100 SXM2 (no bfloat16 units, so its float32 peak), and the Ada whitepaper for the RTX 4090.
GPUS = (
    _gpu("H100", 80, 989.4, 66.9),
    _gpu("A100", 80, 312.0, 19.5),
    _gpu("A100-40", 40, 312.0, 19.5),
    _gpu("RTX4090", 24, 165.2, 82.6),
    _gpu("V100", 32, 15.7, 15.7),
)
# Measured by `make bench` on two threads of an AMD EPYC (benchmarks/performance.json).
CPU_THREAD = Device("CPU thread", None, 0.037, 0.037)
# What time limits count on (ept.cost.resources): an A100, and a thread less than half as fast as the measured one.
LIMIT_GPU = next(gpu for gpu in GPUS if gpu.name == "A100")
LIMIT_CPU = Device("slow CPU thread", None, 0.015, 0.015)


def with_rates(devices: tuple[Device, ...], rates: list[str]) -> tuple[Device, ...]:
    """Devices with measured rates in the place of the assumed ones: `NAME=TFLOPS` for one that is there,
    `NAME=TFLOPS:GIB` for another. Raises InputError for anything else.
    """
    known = {device.name: device for device in devices}
    for text in rates:
        match = re.fullmatch(r"([^=]+)=(\d+\.?\d*)(?::(\d+))?", text)
        if not match or not float(match[2]):
            raise InputError(f"--rate {text} is no NAME=TFLOPS (or NAME=TFLOPS:GIB), for example H100=250")
        name, rate = match[1], float(match[2])
        if name not in known and not match[3]:
            raise InputError(f"--rate {text}: {name} is none of {', '.join(known)}; add its memory, {text}:80")
        gib = int(match[3]) if match[3] else known[name].gib
        known[name] = replace(known.get(name, Device(name, gib, rate, rate)), gib=gib, bfloat16=rate, float32=rate)
    return tuple(known.values())
