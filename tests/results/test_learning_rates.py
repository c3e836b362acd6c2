"""The table of learning rates: means over seeds by NumPy, diverged runs, and which packs are behind it."""

import itertools

import numpy as np
import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.results.render import to_markdown
from ept.results.tables.learning_rates import make_table
from results.records import write_runs

STUDY = {"tasks": ["rte"], "learning_rates": {"pt": {"prompt": [0.1, 1.0]}}}


def experiment_of(**changes):
    values = {
        "tasks": {"target": ["rte", "cb"]},
        "methods": ["pt", "ept"],
        "seeds": [0, 1],
        "training": {"learning_rates": {"pt": {"prompt": [0.3]}, "ept": {"prompt": [0.3], "low_rank": [1e-3]}}},
        "few_shot": {"k": [], "initialize_from": ["scratch"]},
    }
    return Experiment(parse_configuration(values | changes))


def runs_of(scores):
    """Records of two seeds for each of the rates, `scores` [rates][seeds] (None: diverged)."""
    return [
        {
            "seed": seed,
            "learning_rates": {"prompt": rate},
            "selected": rate == 1.0,
            "status": "diverged" if score is None else "finished",
            "best_validation": score,
            "test": {"accuracy": 50.0},
        }
        for rate, by_seed in zip((0.1, 1.0), scores, strict=True)
        for seed, score in enumerate(by_seed)
    ]


def test_rows_are_means_over_seeds_and_a_diverged_run_counts_as_the_majority(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = experiment_of(rate_study=STUDY)
    (pack,) = experiment.table_packs("learning_rates")
    write_runs(pack, right=(100, 100), runs=runs_of([[60.0, 64.0], [80.0, None]]))
    rows, layout = make_table(experiment, [pack])
    # 40 is the majority of the validation split; that of the test split is 50.
    for row, scores in zip(rows, ([60.0, 64.0], [80.0, 40.0]), strict=True):
        assert row["validation_mean"] == pytest.approx(np.mean(scores))
        assert row["validation_std"] == pytest.approx(np.std(scores, ddof=1))
    assert [(row["learning_rates"], row["diverged"], row["reported"]) for row in rows] == [
        ("prompt=0.1", 0, "no"),
        ("prompt=1", 1, "yes"),
    ]
    assert "| PT | prompt=1 | **60.0 ± 28.3 †** |" in to_markdown(layout)


def test_the_study_trains_packs_of_its_own_and_changes_no_other():
    plain, studied = experiment_of(), experiment_of(rate_study=STUDY)
    assert "learning_rates" not in plain.tables
    assert [pack.hash for pack in studied.tables["main"]] == [pack.hash for pack in plain.tables["main"]]
    (pack,) = studied.table_packs("learning_rates")
    assert pack.grid == {"prompt": [0.1, 1.0]} and pack.hash in {found.hash for found in studied.packs}


def test_without_a_study_the_grids_of_the_main_table_are_shown():
    rates = {"pt": {"prompt": [0.3]}, "ept": {"prompt": [0.3, 0.5], "low_rank": [1e-3, 5e-3]}}
    grids = experiment_of(training={"learning_rates": rates})
    packs = grids.table_packs("learning_rates")
    assert [(pack.method, pack.task) for pack in packs] == list(itertools.product(["ept"], ["rte", "cb"]))


@pytest.mark.parametrize(
    ("study", "facts"),
    [
        ({"tasks": ["rte"]}, "rate_study.*tasks.*learning_rates"),
        (STUDY | {"tasks": ["rtee"]}, "rtee"),
        (STUDY | {"learning_rates": {"pt": {"weights": [0.1]}}}, r"rate_study\.learning_rates\.pt.*weights"),
    ],
)
def test_a_wrong_study_is_one_sentence(study, facts):
    with pytest.raises(InputError, match=facts):
        experiment_of(rate_study=study)
