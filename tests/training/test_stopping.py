"""Patience and successive halving against a simulation, with scores from a table."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import SETTINGS, distance, make_grid, make_pack, train, train_new

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.training.runs import Run, RunResult, halving_steps, stop_runs


def simulate(table, grid, every, steps, patience, halving):
    """Status, last step and best step of each run, by hand.

    `table` [validations][runs] are scores, NaN where a run has diverged; `grid` [runs] names each run's combination.
    """
    runs = range(len(grid))
    ended = dict.fromkeys(runs)
    last = dict.fromkeys(runs, 0)
    best = dict.fromkeys(runs, -math.inf)
    best_step, without = dict.fromkeys(runs, 0), dict.fromkeys(runs, 0)
    validations = [step for step in range(1, steps + 1) if step % every == 0 or step == steps]
    cuts = set()
    for rung in range(1, halving + 1):
        # The first validation after the share of the steps; the end is no cut.
        cuts |= {next(step for step in validations if step * 2**rung >= steps)} - {steps}
    for number, step in enumerate(validations):
        for run in runs:
            if ended[run]:
                continue
            last[run] = step
            score = table[number][run]
            if math.isnan(score):
                ended[run] = "diverged"
            elif score > best[run]:
                best[run], best_step[run], without[run] = score, step, 0
            else:
                without[run] += 1
        if step == steps:
            break
        for run in runs:
            if patience and not ended[run] and without[run] >= patience:
                ended[run] = "stopped early"
        if step in cuts:
            means = {}
            for combination in dict.fromkeys(grid):
                members = [run for run in runs if grid[run] == combination]
                if not all(ended[run] for run in members):
                    lost = any(ended[run] == "diverged" for run in members)
                    means[combination] = -math.inf if lost else sum(best[run] for run in members) / len(members)
            for _ in range(len(means) // 2):
                # Of equal ones the last goes.
                worst = min(reversed(means), key=means.get)
                del means[worst]
                for run in runs:
                    if grid[run] == worst and not ended[run]:
                        ended[run] = "halved"
    return [(ended[run] or "finished", last[run], best_step[run]) for run in runs]


@st.composite
def trainings(draw):
    """Everything that `simulate` takes."""
    combinations, seeds = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    steps, every = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    validations = math.ceil(steps / every)
    # Quarters, so that means are exact and ties happen.
    score = st.integers(0, 12).map(lambda number: number / 4)
    if draw(st.booleans()):
        score = st.one_of(score, score, score, st.just(math.nan))
    row = st.lists(score, min_size=combinations * seeds, max_size=combinations * seeds)
    table = draw(st.lists(row, min_size=validations, max_size=validations))
    grid = [combination for combination in range(combinations) for _ in range(seeds)]
    return table, grid, every, steps, draw(st.integers(0, 3)), draw(st.integers(0, 4))


def follow(table, grid, every, steps, patience, halving):
    """The results of runs whose validations give the table, as the loop makes them."""
    options = dataclasses.replace(SETTINGS, evaluate_every=every, steps=steps, patience=patience, halving=halving)
    runs = [Run(seed, {"prompt": 0.1 * (1 + combination)}) for seed, combination in enumerate(grid)]
    results = [RunResult() for _ in runs]
    for number, scores in enumerate(table):
        step = min(steps, (number + 1) * every)
        for result, score in zip(results, scores, strict=True):
            if not result.alive:
                continue
            result.steps = step
            if math.isnan(score):
                result.status = "diverged"
                continue
            result.validation_curve.append((step, score))
            if score > result.best_score:
                result.best_score, result.best_step = score, step
        stop_runs(runs, results, step, steps, options)
    return runs, results


@given(trainings())
@settings(deadline=None, max_examples=300)
def test_runs_end_where_the_simulation_ends_them(training):
    _, results = follow(*training)
    assert [(result.status, result.steps, result.best_step) for result in results] == simulate(*training)


def test_rungs_are_at_shares_of_the_steps_moved_up_to_a_validation():
    def rungs(steps, every, halving):
        return halving_steps(steps, dataclasses.replace(SETTINGS, evaluate_every=every, halving=halving))

    assert rungs(30_000, 1000, 3) == [4000, 8000, 15_000]
    assert rungs(300, 50, 2) == [100, 150]
    assert rungs(300, 50, 0) == rungs(10, 10, 3) == []
    # Two shares that fall on one validation are one rung.
    assert rungs(20, 10, 4) == [10]


class Counting(EncoderDecoder):
    """Counts the rows of each training pass."""

    def __init__(self, model):
        super().__init__(model)
        self.rows = []

    def token_losses(self, embeddings, attention_mask, target_ids):
        self.rows.append(len(embeddings))
        return super().token_losses(embeddings, attention_mask, target_ids)


def _from_table(table):
    """A validation whose scores are the next row of a table."""
    rows = iter(table)

    def validate(alive):
        row = next(rows)
        return np.array([row[run] for run in alive])

    return validate


# Of 2 combinations x 2 seeds in 6 validations: the second combination is the worse one from the start, and seed 1 of
# the first has its best score at the second validation.
TABLE = [[1, 1, 0, 0], [2, 9, 0, 0], [3, 5, 0, 0], [4, 5, 0, 0], [5, 5, 0, 0], [6, 5, 0, 0]]


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"halving": 1}, [24, 24, 12, 12]),
        ({"patience": 3}, [24, 20, 16, 16]),
        ({"halving": 2, "patience": 3}, [24, 20, 8, 8]),
        ({}, [24, 24, 24, 24]),
    ],
    ids=["halving", "patience", "both", "off"],
)
def test_a_run_that_ends_gives_its_rows_back_and_changes_no_other(t5, backbone, even, options, ends):
    longer = dataclasses.replace(SETTINGS, steps=24, evaluate_every=4)
    stopping = dataclasses.replace(longer, **options)
    counting, runs = Counting(t5), make_grid("ept")
    prompts = make_pack(counting, "ept", [run.seed for run in runs])
    results = train(counting, prompts, even, runs, settings=stopping, validate=_from_table(TABLE))
    assert [result.steps for result in results] == ends
    assert counting.rows == [4 * sum(step < end for end in ends) for step in range(24)]
    assert [result.best_step for result in results] == [24, 8, 4, 4]
    alive = [run for run, end in enumerate(ends) if end == 24]
    assert all(results[run].status == "finished" for run in alive)
    survivors, _ = train_new(backbone, "ept", even, [runs[run] for run in alive], settings=longer)
    for place, run in enumerate(alive):
        assert max(distance(prompts.tensors(run), survivors.tensors(place)).values()) < 1e-4
    for run, end in enumerate(ends):
        # What has ended stays as it was then; what is selected is what was best.
        found = _at_validations(backbone, even, runs[run], longer)
        assert max(distance(prompts.tensors(run), found[end]).values()) < 1e-4
        assert max(distance(results[run].best_tensors, found[results[run].best_step]).values()) < 1e-4


def _at_validations(backbone, split, run, options):
    """The tensors of a run that trains alone to the end, by the step of each validation."""
    found, steps = {}, iter(range(options.evaluate_every, options.steps + 1, options.evaluate_every))

    prompts = make_pack(backbone, "ept", [run.seed])

    def validate(alive):
        found[next(steps)] = {name: tensor.clone() for name, tensor in prompts.tensors(0).items()}
        return np.zeros(len(alive))

    train(backbone, prompts, split, [run], settings=options, validate=validate)
    return found
