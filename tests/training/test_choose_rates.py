"""The learning rates that are reported: never ones that were dropped and are worse."""

import math

import numpy as np
from hypothesis import example, given, settings
from test_stopping import follow, trainings

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.training.runs import Run, RunResult, choose_rates

MAJORITY = 50.0


# A dropped combination whose mean equals that of one that was trained to the end.
@example(([[0.5, math.nan, 0.0, 0.5], [0.0, math.nan, math.nan, 0.0]], [0, 0, 1, 1], 1, 2, 0, 1))
@given(trainings())
@settings(deadline=None, max_examples=200)
def test_the_best_mean_is_chosen_and_a_dropped_combination_only_where_it_is_better(training):
    runs, results = follow(*training)
    grid = training[1]
    counted = [MAJORITY if result.status == "diverged" else result.best_score for result in results]
    means = {}
    for combination in dict.fromkeys(grid):
        means[combination] = np.mean([score for score, name in zip(counted, grid, strict=True) if name == combination])
    chosen = choose_rates(runs, results, MAJORITY)
    (number,) = {name for name, run in zip(grid, runs, strict=True) if run.learning_rates == chosen}
    assert means[number] == max(means.values())
    halved = {name for name, result in zip(grid, results, strict=True) if result.status == "halved"}
    if number in halved:
        assert all(mean < means[number] for name, mean in means.items() if name not in halved)
        # It takes a run that diverged, which counts as the majority's score, to turn the order round.
        assert any(math.isnan(score) for scores in training[0] for score in scores)


def test_a_diverged_run_counts_as_the_majority():
    runs = [Run(seed, {"prompt": rate}) for rate in (0.1, 0.3) for seed in (0, 1)]
    for other, chosen in ((40.0, 0.1), (60.0, 0.3)):
        # 90 and the majority's 50 against two of 40 + 30 or 60 + 30.
        results = [RunResult(best_score=score) for score in (90.0, 95.0, other + 10, other + 20)]
        results[1].status = "diverged"
        assert choose_rates(runs, results, MAJORITY) == {"prompt": chosen}


def test_patience_and_halving_are_off_by_default_and_stand_in_the_settings():
    def recorded(**training):
        config = {"tasks": {"target": ["rte"]}, "methods": ["pt"], "training": training, "few_shot": {"k": []}}
        return Experiment(parse_configuration(config)).pack("pt", "rte", "full", "scratch")

    usual = recorded()
    assert usual.settings["training"]["patience"] == usual.settings["training"]["halving"] == 0
    changed = recorded(patience=3, halving=2)
    assert (changed.settings["training"]["patience"], changed.settings["training"]["halving"]) == (3, 2)
    assert changed.hash != usual.hash
