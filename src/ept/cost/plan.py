"""What `ept plan` prints: for each method of a configuration memory, steps and hours, before anything starts."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ept.backbones.shape import Shape
from ept.cost.estimate import PackCost, backbone_shape, pack_cost
from ept.cost.hardware import CPU_THREAD, GIB, GPUS, Device, UTILizATION, with_rates
from ept.cost.resources import JobResources
from ept.errors import InputError
from ept.methods.registry import get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack

HEAD = ["method", "jobs", "runs", "steps", "trained", "least GiB", "batch GiB"]
NO_ROOM, UNKNOWN = "no room", "unknown"


@dataclass(frozen=True)
class Priced:
    """A pack and what it costs."""

    pack: Pack
    cost: PackCost


def plan_text(experiment: Experiment, rates: Sequence[str] = ()) -> str:
    """The plan of one configuration; `rates` as in `with_rates`.

    Raises InputError where the backbone's sizes are not known before its download.
    """
    backbone, shape = experiment.config.backbone, backbone_shape(experiment)
    if shape is None:
        raise InputError(
            f"the sizes of {backbone.public_name} are not known before its download; run `ept download-backbone`"
        )
    gpu = JobResources(experiment).gpus > 0
    packs = priced(experiment, shape, gpu)
    devices = with_rates(GPUS if gpu else (CPU_THREAD,), rates) + measured(packs)
    dtype = backbone.used_dtype()
    form = dtype if backbone.quantization == "none" else f"{backbone.quantization} and {dtype}"
    weights = shape.weight_bytes(dtype, backbone.quantization) / GIB
    rows = [[*HEAD, *(device.name for device in devices)]]
    for method, group in _groups(packs, lambda found: found.pack.method).items():
        memory = [_gib(max(found.cost.least_bytes for found in group)), _gib(_most_bytes(group))]
        trained = f"{max(found.cost.trained for found in group):,}"
        rows.append([get_method(method).title, *_counts(group), trained, *memory, *_cells(group, devices)])
    for regime, group in _groups(packs, lambda found: found.pack.regime).items():
        rows.append([f"  {regime}", *_counts(group), "", "", "", *_cells(group, devices)])
    rows.append(["all", *_counts(packs), "", "", "", *_cells(packs, devices)])
    title = f"{backbone.name}: {shape.parameters / 1e6:,.1f} M parameters, {weights:.2f} GiB in {form}"
    return "\n".join([title, "", *aligned(rows), "", *_too_large(packs, devices), *_notes(gpu, rows)])


def priced(experiment: Experiment, shape: Shape, gpu: bool) -> list[Priced]:
    """Every pack of the configuration with its cost on a GPU or a CPU."""
    return [Priced(pack, pack_cost(experiment, pack, shape, gpu)) for pack in experiment.packs]


def measured(packs: Sequence[Priced]) -> tuple[Device, ...]:
    """The devices on which packs of this configuration were trained, with their memory and their median rate.

    The rates of packs that are planned in bfloat16 and in float32 are kept apart; NaN where there was none. What such a
    pack really computes in depends on the device alone (`dtype: auto` is float32 on a CPU).
    """
    rates: dict[str, dict[str, list[float]]] = {}
    memory: dict[str, float] = {}
    for found in packs:
        path = found.pack.folder / "runs.json"
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            device, rate = record["device"], found.cost.training_flops / record["train_seconds"] / 1e12
            rates.setdefault(device, {}).setdefault(found.cost.dtype, []).append(rate)
            # Records of earlier versions do not have it.
            if size := record.get("device_memory_bytes"):
                memory[device] = size / GIB
    return tuple(
        Device(f"{name} (measured)", memory.get(name), _median(found, "bfloat16"), _median(found, "float32"))
        for name, found in rates.items()
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if column else '<'}{widths[column]}}" for column, cell in enumerate(row)) for row in rows
    ]


def _median(rates: dict[str, list[float]], dtype: str) -> float:
    return statistics.median(rates.get(dtype, [math.nan]))


def _groups(packs: Sequence[Priced], key: Callable[[Priced], str]) -> dict[str, list[Priced]]:
    groups: dict[str, list[Priced]] = {}
    for found in packs:
        groups.setdefault(key(found), []).append(found)
    return groups


def _counts(group: Sequence[Priced]) -> list[str]:
    """Jobs, runs, and steps of all runs."""
    runs = [found.cost.runs for found in group]
    steps = sum(found.cost.runs * found.cost.steps for found in group)
    return [f"{len(group):,}", f"{sum(runs):,}", f"{steps:,}"]


def _most_bytes(group: Sequence[Priced]) -> int:
    return max(found.cost.batch_bytes for found in group)


def _cells(group: Sequence[Priced], devices: Sequence[Device]) -> list[str]:
    """Hours on each device of what has room there; with a star where a batch goes through it in parts."""
    cells = []
    for device in devices:
        fitting = [found for found in group if device.holds(found.cost.least_bytes)]
        hours = sum(found.cost.hours(device) for found in fitting)
        star = "" if device.holds(_most_bytes(fitting or group)) else "*"
        cells.append(f"{_hours(hours)}{star}" if fitting else NO_ROOM)
    return cells


def _hours(hours: float) -> str:
    if math.isnan(hours):
        return UNKNOWN
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _too_large(packs: Sequence[Priced], devices: Sequence[Device]) -> list[str]:
    """For each method that has no room somewhere: how much it needs, and where it does not fit."""
    lines = []
    for method, group in _groups(packs, lambda found: found.pack.method).items():
        needed = max(found.cost.least_bytes for found in group)
        small = [f"{device.name} ({device.gib:.0f} GiB)" for device in devices if not device.holds(needed)]
        if small:
            lines.append(f"{get_method(method).title} needs {_gib(needed)} GiB: no room on {', '.join(small)}")
    return lines


def _notes(gpu: bool, rows: Sequence[Sequence[str]]) -> list[str]:
    notes = [
        "Steps: of all runs. Memory: with one row at a time (least), with a run's batch at once (* goes in parts).",
        "Hours: on one device, of what has room there, without start-up; N devices take about 1/N of them.",
    ]
    if gpu:
        peaks = f"Rates: published peak x {UTILizATION}, an assumption"
        notes.append(f"{peaks}; --rate NAME=TFLOPS takes a measured one (NAME=TFLOPS:GIB another GPU).")
    if any(UNKNOWN in cell for row in rows for cell in row):
        notes.append(f"{UNKNOWN.capitalize()}: nothing in that precision was trained there yet.")
    return notes
