"""What `ept plan` prints before anything starts: memory, steps and hours of a configuration."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ept.backbones.shape import Shape
from ept.cost.estimate import PackCost, backbone_shape, pack_cost
from ept.cost.hardware import CPU_THREAD, GIB, GPUS, LAUNCH_SECONDS, PRECISIONS, UTILIZATION, Device, with_rates
from ept.cost.resources import JobResources
from ept.errors import InputError
from ept.methods.registry import get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.results.records import read_record
from ept.results.render import aligned

HEAD = ["method", "jobs", "runs", "steps", "trained", "least", "batch"]
NO_ROOM, UNKNOWN = "no room", "unknown"
# How many devices the days are told for.
NUMBERS = (1, 4, 8)


@dataclass(frozen=True)
class Priced:
    """A pack and what it costs."""

    pack: Pack
    cost: PackCost


def plan_text(experiment: Experiment, rates: Sequence[str] = ()) -> str:
    """The plan of one configuration: memory, steps and hours by method, regime and table.

    Args:
        experiment: The configuration.
        rates: Measured rates, as in `with_rates`.

    Returns:
        The text. Raises InputError where the backbone's sizes are not known before its download.
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
    for table, group in _by_table(experiment, packs).items():
        rows.append([f"  + {table}", *_counts(group), "", "", "", *_cells(group, devices)])
    rows.append(["all", *_counts(packs), "", "", "", *_cells(packs, devices)])
    rows += [
        [f"  days on {number}", "", "", "", "", "", "", *(_days(packs, device, number) for device in devices)]
        for number in (NUMBERS if gpu else ())
    ]
    title = f"{backbone.name}: {shape.parameters / 1e6:,.1f} M parameters, {weights:.2f} GiB in {form}"
    return "\n".join([title, "", *aligned(rows), "", *_too_large(packs, devices), *_notes(gpu, rows)])


def priced(experiment: Experiment, shape: Shape, gpu: bool) -> list[Priced]:
    """Every pack of the configuration with its cost on a GPU or a CPU."""
    return [Priced(pack, pack_cost(experiment, pack, shape, gpu)) for pack in experiment.packs]


def measured(packs: Sequence[Priced]) -> tuple[Device, ...]:
    """The devices on which packs of this configuration were trained, with their memory and their median rates.

    The rates of packs of different precision are kept apart; NaN where there was none.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    memory: dict[str, float] = {}
    for found in packs:
        try:
            record = read_record(found.pack.folder, found.pack.hash)
        except InputError:
            # Not trained yet, or damaged: tables say so.
            continue
        device, rate = record["device"], found.cost.training_flops / record["train_seconds"] / 1e12
        rates.setdefault(device, {}).setdefault(found.cost.precision, []).append(rate)
        if size := record.get("device_memory_bytes"):
            memory[device] = size / GIB
    return tuple(
        Device(f"{name} (measured)", memory.get(name), *(_median(found, precision) for precision in PRECISIONS))
        for name, found in rates.items()
    )


def _median(rates: dict[str, list[float]], precision: str) -> float:
    return statistics.median(rates.get(precision, [math.nan]))


def _by_table(experiment: Experiment, packs: Sequence[Priced]) -> dict[str, list[Priced]]:
    """By table, the packs that no earlier table contains, with their source prompts; no table without any."""
    by_hash = {found.pack.hash: found for found in packs}
    seen: set[str] = set()
    groups: dict[str, list[Priced]] = {}
    for table, members in experiment.tables.items():
        needed: dict[str, None] = {}
        for pack in members:
            for source in pack.candidates:
                needed |= dict.fromkeys(teacher.hash for teacher in source.candidates)
                needed[source.hash] = None
            needed[pack.hash] = None
        if new := [hash_ for hash_ in needed if hash_ not in seen]:
            groups[table] = [by_hash[hash_] for hash_ in new]
            seen |= set(new)
    return groups


def _groups(packs: Sequence[Priced], key: Callable[[Priced], str]) -> dict[str, list[Priced]]:
    groups: dict[str, list[Priced]] = {}
    for found in packs:
        groups.setdefault(key(found), []).append(found)
    return groups


def _counts(group: Sequence[Priced]) -> list[str]:
    """The number of jobs, of runs, and of steps of all runs."""
    runs = [found.cost.runs for found in group]
    steps = sum(found.cost.runs * found.cost.steps for found in group)
    return [f"{len(group):,}", f"{sum(runs):,}", f"{steps:,}"]


def _most_bytes(group: Sequence[Priced]) -> int:
    return max(found.cost.batch_bytes for found in group)


def _cells(group: Sequence[Priced], devices: Sequence[Device]) -> list[str]:
    """Hours on each device of the packs that fit; with a star where a batch is processed in parts."""
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


def _days(packs: Sequence[Priced], device: Device, number: int) -> str:
    """Days of the packs that fit, on a number of devices; a job is not divided."""
    hours = [found.cost.hours(device) for found in packs if device.holds(found.cost.least_bytes)]
    if not hours:
        return NO_ROOM
    total = sum(hours)
    return UNKNOWN if math.isnan(total) else _hours(max(total / number, *hours) / 24)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _too_large(packs: Sequence[Priced], devices: Sequence[Device]) -> list[str]:
    """For each method that does not fit somewhere: how much memory it needs, and where it does not fit."""
    lines = []
    for method, group in _groups(packs, lambda found: found.pack.method).items():
        needed = max(found.cost.least_bytes for found in group)
        small = [f"{device.name} ({device.gib:.0f} GiB)" for device in devices if not device.holds(needed)]
        if small:
            lines.append(f"{get_method(method).title} needs {_gib(needed)} GiB: no room on {', '.join(small)}")
    return lines


def _notes(gpu: bool, rows: Sequence[Sequence[str]]) -> list[str]:
    notes = [
        "Steps: all runs together. Memory in GiB: one row at a time (least), a whole batch (*: processed in parts).",
        "Hours: on one device, of the jobs that fit there, with start-up. + table: beyond the tables above it.",
    ]
    if gpu:
        launch = f"{1e6 * LAUNCH_SECONDS:.0f} µs a kernel launch"
        notes += [
            f"Rates: published peak x {UTILIZATION} and {launch}, both assumed.",
            "--rate NAME=TFLOPS sets a measured rate, NAME=TFLOPS:GIB adds a GPU, NAME=TFLOPS,float32=TFLOPS: both.",
        ]
    if any(UNKNOWN in cell for row in rows for cell in row):
        notes.append(f"{UNKNOWN.capitalize()}: nothing has been trained there in that precision yet.")
    return notes
