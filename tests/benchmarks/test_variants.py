"""Every variant trains its prompt and nothing else, and predicts."""

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks import memory
from benchmarks.plan import OURS, RUN_BY_RUN, VARIANTS
from benchmarks.rates import measure_rates, measured_variants
from benchmarks.score import Race, time_to_score
from benchmarks.subjects import Subjects
from benchmarks.theirs import PaddedRows, Rows, pad


@pytest.fixture(scope="module")
def subjects(plan, tmp_path_factory):
    return Subjects(plan, str(tmp_path_factory.mktemp("trainer")))


def _tensors(subject, variant) -> dict[str, torch.Tensor]:
    module = subject.model if variant in RUN_BY_RUN else subject.prompts
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_moves_the_prompt_alone(subjects, plan, task, variant):
    runs = 3 if variant in OURS else 1
    subject = subjects.make(variant, runs, task)
    before = _tensors(subject, variant)
    assert subject.train(2) > 0
    assert subject.evaluate(4) > 0
    after = _tensors(subject, variant)
    moved = {name: value.numel() for name, value in after.items() if not torch.equal(value, before[name])}
    # PEFT's cast of the prompt to the backbone's precision must not reach the trained tensor.
    assert {value.dtype for name, value in after.items() if name in moved} == {torch.float32}
    if VARIANTS[variant].method in ("peft_pt", "pt"):
        assert list(moved.values()) == [runs * plan.length * 16]
    else:
        assert {"prompt", "A", "B"} <= set(moved)
        assert not any(name.startswith("model.") for name in moved)


def test_all_variants_have_the_same_backbone(subjects, task):
    weights = subjects.backbone().backbone.model.state_dict()
    for variant in RUN_BY_RUN:
        model = subjects.make(variant, 1, task).model
        base = model.get_base_model() if VARIANTS[variant].method == "peft_pt" else model.model
        theirs = base.state_dict()
        dtype = getattr(torch, VARIANTS[variant].dtype)
        assert all(torch.equal(value.to(dtype), theirs[name]) for name, value in weights.items())


def test_grouped_batches_are_padded_to_their_longest_row_and_as_long_as_an_epoch(subjects, plan, task):
    subject = subjects.make("peft_pt_grouped", 1, task)
    rows = subject._grouped(4).reshape(5, plan.batch_size)
    order = get_length_grouped_indices(task.train.lengths, plan.batch_size, generator=torch.Generator().manual_seed(0))
    epoch = np.array(order[: len(order) // plan.batch_size * plan.batch_size]).reshape(-1, plan.batch_size)
    longest = task.train.lengths[rows[1:]].max(1)
    assert longest.mean() == pytest.approx(task.train.lengths[epoch].max(1).mean(), rel=0.1)
    dataset = Rows(task.train, rows[1])
    batch = pad([dataset[row] for row in range(plan.batch_size)])
    truth = task.train.collate(rows[1])
    assert torch.equal(batch["input_ids"], truth.input_ids)
    assert torch.equal(batch["attention_mask"], truth.attention_mask)
    assert torch.equal(batch["labels"], truth.target_ids)


def test_as_released_pads_every_text(plan, task):
    rows = PaddedRows(task.train, np.arange(5), plan.padding)
    assert {len(row["input_ids"]) for row in rows} == {256}
    assert [int(row["attention_mask"].sum()) for row in rows] == task.train.lengths[:5].tolist()


def test_rates_of_all_variants_in_a_round(plan, subjects, task):
    lines = []
    rates = measure_rates(plan, subjects, [task], lines.append)
    names = {(rate.variant, rate.runs, rate.quantity) for rate in rates}
    measured = measured_variants()
    assert {name for name in VARIANTS if VARIANTS[name].dtype == "float32"} <= set(measured)
    wanted = {(variant, 1) for variant in measured} | {(variant, 3) for variant in measured if VARIANTS[variant].ours}
    assert names == {(*name, quantity) for name in wanted for quantity in ("training", "evaluation")}
    assert all(len(rate.rounds) == plan.rounds and rate.rounds[0] > 0 for rate in rates)
    assert len(lines) == plan.rounds


@pytest.mark.parametrize("variant", ["peft_pt", "ept"])
def test_memory_peaks_during_the_step(plan, task, variant):
    before, peak = memory.peak_memory(plan, variant, 1, task, 1)
    assert 0 < before <= peak


def test_race_ends_where_all_seeds_have_arrived():
    race = Race(score=0.0, runs=3, steps=4, warmup=1, evaluate_every=2, validation_rows=8, positions=2048)
    found = time_to_score(race)
    steps = {name: tuple(arrival["steps"]) for name, arrival in found["arrivals"].items()}
    assert steps == dict.fromkeys(("peft_pt_grouped", "pt", "ept"), (2, 2, 2))
    assert all(arrival["seconds"] > 0 for arrival in found["arrivals"].values())


def test_a_race_that_nobody_finishes_has_no_time():
    race = Race(score=101.0, runs=3, steps=2, warmup=1, evaluate_every=2, validation_rows=8, positions=2048)
    found = time_to_score(race)
    assert {arrival["seconds"] for arrival in found["arrivals"].values()} == {None}
