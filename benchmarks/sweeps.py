"""`make bench-full`: what EPT's training costs against pack size, text length, prompt length and backbone size."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.backbones import make_t5
from benchmarks.costs import over_bare_backbone, seconds_of
from benchmarks.data import TaskData
from benchmarks.ours import Pack, SizedBackbone, sized
from benchmarks.plan import Plan
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import shape_of

PACK_SIZES = (1, 3, 9, 27)
TEXT_LENGTHS = (16, 32, 64, 128, 256)
SHORT_LENGTHS = (20, 40, 60, 80)


def measure_sweeps(plan: Plan, backbone: SizedBackbone, task: TaskData, matrix_rate: float, say) -> list[dict]:
    """Rows {`sweep`, `value`, `seconds` a step, `examples_per_second`, `matrix_share`}, EPT on `task`.

    `matrix_share` is the part of `matrix_rate` (operations per second of a large product) that the step reaches, with
    padding counted as work. Each sweep is measured in `plan.rounds` rounds in turn; medians.
    """
    found = []
    for name, sweep in (
        ("pack size", _pack_sizes),
        ("text length", _text_lengths),
        ("short length", _short_lengths),
        ("backbone", _backbones),
    ):
        packs = sweep(plan, backbone, task)
        steps = {value: partial(pack.step, batch) for value, (pack, batch) in packs.items()}
        seconds = medians_in_turn(steps, plan.rounds)
        for value, (pack, batch) in packs.items():
            found.append(
                {
                    "sweep": name,
                    "value": value,
                    "seconds": seconds[value],
                    "examples_per_second": batch.size / seconds[value],
                    "matrix_share": pack_flops(pack, batch) / seconds[value] / matrix_rate,
                }
            )
        say(f"sweep over {name} done")
    return found


def costs_by_short_length(plan: Plan, backbone: SizedBackbone, task: TaskData) -> list[dict]:
    """EPT's step over the bare backbone's with as many positions, for several prompt lengths s."""
    return [
        {"short_length": length}
        | over_bare_backbone(backbone, task, replace(plan, short_length=length), plan.slice_seconds * plan.rounds)
        for length in SHORT_LENGTHS
    ]


def medians_in_turn(calls: dict[object, Callable[[], None]], rounds: int) -> dict:
    """The median seconds of each call, over `rounds` rounds in turn after a warm-up."""
    for call in calls.values():
        call()
    seconds = [{name: seconds_of(call) for name, call in calls.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in seconds) for name in calls}


def pack_flops(pack: Pack, batch: np.ndarray) -> int:
    """Operations of one step of `pack` on `batch` [runs, rows]."""
    shape = shape_of({"model_type": "t5", **vars(pack.backbone.model.config)})
    prompt_length = pack.prompts.prompt.shape[1]
    total = 0
    for piece in pack.pieces(batch):
        (rows, length), targets = piece.batch.input_ids.shape, piece.batch.target_ids
        pieces = int((targets != -100).sum())
        total += shape.training_flops(rows, prompt_length + length, targets.shape[1], pieces)
    return total


def _mean_batch(pack: Pack) -> tuple[Pack, np.ndarray]:
    (batch,) = pack.batches(1)
    return pack, batch


def _pack_sizes(plan: Plan, backbone: SizedBackbone, task: TaskData) -> dict:
    return {runs: _mean_batch(Pack(backbone, "ept", runs, task, plan)) for runs in PACK_SIZES}


def _text_lengths(plan: Plan, backbone: SizedBackbone, task: TaskData) -> dict:
    shortest = np.argsort(task.train.lengths, kind="stable")[None, : plan.batch_size]
    return {length: (Pack(backbone, "ept", 1, task, plan, length), shortest) for length in TEXT_LENGTHS}


def _short_lengths(plan: Plan, backbone: SizedBackbone, task: TaskData) -> dict:
    return {
        length: _mean_batch(Pack(backbone, "ept", 1, task, replace(plan, short_length=length)))
        for length in SHORT_LENGTHS
    }


def _backbones(plan: Plan, backbone: SizedBackbone, task: TaskData) -> dict:
    # Each measures the size of its passes, as training would; that of the plan has done so.
    known = {plan.shape: plan.positions}
    made = {shape: sized(EncoderDecoder(make_t5(shape)), known.get(shape)) for shape in plan.backbones}
    return {shape: _mean_batch(Pack(each, "ept", 1, task, plan)) for shape, each in made.items()}
