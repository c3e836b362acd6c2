"""Medians, ratios, geometric means and targets against numbers written by hand."""

import pytest

from benchmarks import report
from benchmarks.rates import Rate

TASKS = ("rte", "sst2")
# Medians by variant: rte, sst2.
TRAINING = {
    ("peft_pt", 1): (10.0, 10.0),
    ("recipe_dept", 1): (12.0, 15.0),
    ("peft_pt_grouped", 1): (16.0, 20.0),
    ("peft_pt_bf16", 1): (20.0, 16.0),
    ("pt", 1): (11.0, 44.0),
    ("ept", 1): (1.0, 1.0),
    ("pt", 9): (20.0, 40.0),
    ("ept", 9): (20.0, 80.0),
    ("ept_bf16", 9): (40.0, 60.0),
}
ARRIVALS = {
    "peft_pt_grouped": {"steps": [60, 20, 120], "seconds": 65.9},
    "pt": {"steps": [20, None, 40], "seconds": None},
}

CELL = {
    **{"task": "rte", "dtype": "float32", "steps": 60, "runs": 9, "peft_runs": 3},
    "ways": {"peft_pt": {"seconds": 300.0}, "ept": {"seconds": 150.0}, "ept, halving": {"seconds": 50.0}},
    "ratios": {"peft_pt": 1.0, "ept": 2.0, "ept, halving": 6.0},
}


@pytest.fixture
def rates() -> list[Rate]:
    found = []
    for (variant, runs), medians in TRAINING.items():
        for task, median in zip(TASKS, medians, strict=True):
            # The median is neither the first, the last, nor the mean.
            found.append(Rate(variant, task, runs, "training", 16, [median / 2, 7 * median, median]))
            found.append(Rate(variant, task, runs, "evaluation", 16, [2 * median] * 3))
    return found


COSTS = {
    "over_bare_backbone": {"rte": {"ratio": 1.0, "pairs": 3}, "sst2": {"ratio": 1.21, "pairs": 3}},
    "beside_prompt_tuning": {"rte": {"ratio": 0.75, "pairs": 3}},
}


def test_targets(rates):
    records = {record["name"]: record for record in report.targets(rates, COSTS, TASKS, gpu=False)}
    released = records["training, grid of 9: EPT over PEFT PT as released (float32)"]
    assert released["by_task"] == {"rte": 2.0, "sst2": 8.0}
    assert released["reached"] == pytest.approx(4.0)
    # The faster of ours over the fastest of theirs, task by task.
    best = records["training, grid of 9: EPT over best-configured PEFT PT"]
    assert best["by_task"] == {"rte": 2.0, "sst2": 4.0}
    assert best["reached"] == pytest.approx(8**0.5) and best["met"]
    prompts = records["training, grid of 9: PT over best-configured PEFT PT"]
    assert prompts["by_task"] == {"rte": 1.0, "sst2": 2.0}
    assert not prompts["met"]
    assert records["evaluation, grid of 9: EPT over best-configured PEFT PT"]["reached"] == pytest.approx(8**0.5)
    assert records["EPT's step over a bare backbone's"]["reached"] == pytest.approx(1.1)
    assert not records["EPT's step over a bare backbone's"]["met"]
    assert records["EPT's step over PT's at equal padding"]["met"]


def test_what_was_not_measured_is_no_target(rates):
    names = [record["name"] for record in report.targets(rates, COSTS, TASKS, gpu=True)]
    assert not any("27" in name for name in names)


def test_run_by_run_rates_serve_every_grid(rates):
    for runs in (1, 9, 27):
        assert report.median_rate(rates, "peft_pt", "training", runs, "rte") == 10.0
    assert report.median_rate(rates, "pt", "training", 1, "sst2") == 44.0
    assert report.median_rate(rates, "pt", "training", 27, "sst2") is None


def test_share_is_that_of_the_largest_pack():
    rows = [
        {"sweep": "pack size", "value": 27, "matrix_share": 0.39},
        {"sweep": "pack size", "value": 9, "matrix_share": 0.5},
        {"sweep": "text length", "value": 256, "matrix_share": 0.9},
    ]
    assert (report.share_record(rows)["reached"], report.share_record(rows)["met"]) == (0.39, False)


def test_the_time_to_a_cell_is_wanted_three_times_as_short_and_six_with_halving():
    plain, halved = report.cell_records(CELL)
    assert (plain["reached"], plain["at_least"], plain["met"]) == (2.0, 3.0, False)
    assert (halved["reached"], halved["at_least"], halved["met"]) == (6.0, 6.0, True)


def test_table(rates):
    result = {
        "hardware": {"cpu": "a processor", "cores": 2, "gpu": None, "bfloat16": None},
        "backbone": {"shape": "tiny", "parameters": 1_500_000},
        "data": "synthetic",
        "plan": {"tasks": TASKS, "grids": (1, 9), "rounds": 5},
        "memory": [
            {"variant": "peft_pt", "runs": 1, "before_mib": 100.0, "peak_mib": 400.4},
            {"variant": "ept", "runs": 9, "before_mib": 100.0, "peak_mib": 300.4},
        ],
        "targets": report.targets(rates, COSTS, TASKS, gpu=False),
        "time_to_score": {"task": "sst2", "score": 90.0, "runs": 9, "arrivals": ARRIVALS},
        "time_to_cell": CELL,
        "sweeps": None,
    }
    lines = report.markdown(result, rates).splitlines()
    # The rounds that were measured, not those of the plan.
    assert "medians of 3 rounds" in lines[0]
    assert "| PEFT PT, as released | 10.0 | 10.0 | 0.50 | 20.0 | 20.0 | 0.50 | 400 |" in lines
    assert "| EPT (ours) | 20.0 | 80.0 | 2.00 | 40.0 | 160.0 | 2.00 | 300 |" in lines
    assert "| EPT's step over PT's at equal padding | ≤ 0.80 | 0.75 | met |" in lines
    assert "| EPT (ours), halving: 2 | 50 | 6.00 |" in lines
    assert "| PEFT PT, grouped | 66 | 60, 20, 120 |" in lines
    assert "| PT (ours) | not reached | 20, –, 40 |" in lines
