"""The table of EPT's ablations: its variants, their packs, and the rows made of records written by hand."""

import csv
import json

import numpy as np
import pytest

from ept.config.configuration import load_configuration, parse_configuration
from ept.config.settings import EptSettings, PromptSettings
from ept.config.variants import AblationSettings, variants
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.results.statistics import paired_difference
from ept.results.write import write_table
from results.records import write_runs
from results.simulation import samples_of

# Fits the embedded backbone (hidden size 128): 24 * 128 numbers hold four spaces with a matched budget.
SMALL = {
    "tasks": {"target": ["rte", "cb"]},
    "methods": ["pt", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 24, "short_length": 10, "reference_length": 64},
    "few_shot": {"k": [], "initialize_from": ["scratch"]},
    "ablation": {
        "tasks": ["rte", "cb"],
        "spaces": [1, 4],
        "short_lengths": [5, 10],
        "fusions": [],
        "projections": [],
        "gates": [],
        "fusion_contexts": [],
        "fusion_differences": [],
        "decompositions": [],
    },
}


def _experiment(**changes):
    return Experiment(parse_configuration(SMALL | changes, "my.yaml"))


def _changes(variant):
    """The settings in which a variant differs from the defaults."""
    found = {}
    for ours, defaults in ((variant.prompt, PromptSettings()), (variant.ept, EptSettings())):
        found |= {key: value for key, value in vars(ours).items() if value != getattr(defaults, key)}
    return found


def test_every_variant_changes_what_its_name_says():
    found = {
        variant.name: _changes(variant) for variant in variants(PromptSettings(), EptSettings(), AblationSettings())
    }
    assert found == {
        "EPT": {},
        "without fusion": {"fusion": "none"},
        "without projection": {"spaces": 1},
        "without both": {"fusion": "none", "spaces": 1},
        **{f"N = {number}": {} if number == 4 else {"spaces": number} for number in (1, 2, 4, 6, 8)},
        **{f"s = {length}": {} if length == 60 else {"short_length": length} for length in (20, 40, 60, 80)},
        "budget decomposition": {},
        "budget matched": {"budget": "matched"},
        "fusion projected": {"fusion": "projected"},
        "projection elementwise": {"projection": "elementwise"},
        "projection full": {"projection": "full"},
        "gate prompt": {"gate": "prompt"},
        **{f"fusion context {name}": {"fusion_context": name} for name in ("all", "factors", "joint")},
        "fusion difference": {"fusion_difference": True},
        "decomposition svd": {"decomposition": "svd"},
    }


def test_a_length_of_the_short_prompt_lets_the_rank_follow():
    found = variants(PromptSettings(rank=3), EptSettings(), AblationSettings())
    assert {variant.name: variant.prompt.rank for variant in found if variant.prompt.rank != 3} == {
        f"s = {length}": "auto" for length in (20, 40, 60, 80)
    }


def test_a_pack_has_the_settings_of_its_variant_and_equal_variants_are_one_pack():
    experiment = _experiment()
    packs = {(pack.variant.name, pack.task): pack for pack in experiment.tables["ablation"]}
    assert len(packs) == 2 * (4 + 2 + 2 + 2)
    assert (
        packs["without both", "cb"].settings["ept"] | {"spaces": 1, "fusion": "none"}
        == (packs["without both", "cb"].settings["ept"])
    )
    assert packs["s = 5", "rte"].settings["prompt"]["short_length"] == 5
    (main,) = (pack for pack in experiment.tables["main"] if (pack.method, pack.task) == ("ept", "rte"))
    same = {name for (name, task), pack in packs.items() if task == "rte" and pack.hash == main.hash}
    assert same == {"EPT", "N = 4", "s = 10", "budget decomposition"}
    assert packs["without projection", "rte"].hash == packs["N = 1", "rte"].hash
    # PT and EPT on two tasks; without fusion, without projection, without both, s = 5, budget matched on two tasks.
    assert len(experiment.packs) == 4 + 5 * 2
    assert experiment.find(main.hash).variant.name == ""
    assert experiment.find(packs["s = 5", "cb"].hash).variant.prompt.short_length == 5


def test_without_tasks_there_is_no_table_and_the_error_says_how_to_get_one():
    experiment = _experiment(ablation={})
    assert "ablation" not in experiment.tables
    with pytest.raises(InputError, match=r"ablation .* main, .*ablation\.tasks"):
        experiment.table_packs("ablation")


def test_rows_are_variants_with_their_averages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = _experiment()
    for pack in experiment.tables["ablation"]:
        right = (100, 120) if pack.variant.name == "without fusion" else (150, 170)
        write_runs(pack, right)
    write_table(experiment, "ablation")
    with open("results/ablation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["backbone", "method", "variant", "task"]
    means = {(row["variant"], row["task"]): float(row["mean"]) for row in rows if row["metric"] != "macro_f1"}
    names = dict.fromkeys(pack.variant.name for pack in experiment.tables["ablation"])
    assert set(means) == {
        (name, task) for name in names for task in ("rte", "cb", "average_glue", "average_super_glue", "average")
    }
    assert means["without fusion", "rte"] == means["without fusion", "average"] == 55.0
    assert means["EPT", "cb"] == means["N = 4", "average"] == 80.0
    lines = (tmp_path / "results/ablation.md").read_text().splitlines()
    rows_shown = lines[2 : lines.index("")]
    assert [line.split("|")[1].strip() for line in rows_shown] == ["majority", *names]
    assert "without fusion & 1,000 & 900 & \\underline{55.0" in (tmp_path / "results/ablation.tex").read_text()
    runs = json.loads((tmp_path / "results/ablation.settings.json").read_text())["runs"]
    assert [run["variant"] for run in runs[::2]] == list(names)


def test_ept_is_tested_against_each_of_its_variants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = _experiment(seeds=[0, 1, 2])
    right = {
        "EPT": (150, 160, 155),
        "without fusion": (100, 120, 110),
        "without projection": (140, 150, 150),
        "without both": (148, 150, 150),
        "s = 5": (152, 158, 157),
        "budget matched": (130, 149, 149),
    }
    # Variants with the settings of one of these are its training.
    by_hash = {
        pack.hash: right[pack.variant.name] for pack in experiment.tables["ablation"] if pack.variant.name in right
    }
    for pack in experiment.tables["ablation"]:
        write_runs(pack, by_hash[pack.hash])
    write_table(experiment, "ablation")
    with open("results/ablation.csv", newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file) if row["task"] == "rte"}
    for variant in ("EPT", "N = 4", "s = 10", "budget decomposition"):
        assert {rows[variant][name] for name in ("difference", "difference_low", "p_corrected")} == {""}
    assert rows["N = 1"]["p_corrected"] == rows["without projection"]["p_corrected"] != ""

    def sample(counts):
        return samples_of(np.array([[np.arange(200) < count for count in counts]]))

    p = {
        name: paired_difference(sample(right["EPT"]), sample(counts)).p
        for name, counts in right.items()
        if name != "EPT"
    }
    for family in (["without fusion", "without projection", "without both"], ["s = 5", "budget matched"]):
        largest = 0.0
        # The smallest p value times the number of tests, the next times one less; never below the one before.
        for place, variant in enumerate(sorted(family, key=p.__getitem__)):
            largest = max(largest, min(1.0, p[variant] * (len(family) - place)))
            row = rows[variant]
            difference = (sum(right["EPT"]) - sum(right[variant])) / 6
            assert float(row["difference"]) == pytest.approx(difference, abs=1e-4)
            assert float(row["difference_low"]) < difference < float(row["difference_high"])
            assert float(row["p_corrected"]) == pytest.approx(largest, abs=1e-4), variant
    text = (tmp_path / "results/ablation.md").read_text()
    shown = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in text.splitlines() if "|" in line}
    assert shown["EPT"] == shown["majority"] == ""
    assert shown["without fusion"].startswith("**+22.5 (")
    assert shown["s = 5"].startswith("−0.3 (")


def test_ept_with_two_seeds_has_differences_and_no_p_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = _experiment()
    for pack in experiment.tables["ablation"]:
        write_runs(pack, (100, 120) if pack.variant.name == "without fusion" else (150, 170))
    write_table(experiment, "ablation")
    with open("results/ablation.csv", newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if (row["variant"], row["task"]) == ("without fusion", "average"))
    assert float(row["difference"]) == 25.0
    assert row["p_corrected"] == ""
    assert "p = " not in (tmp_path / "results/ablation.md").read_text().split("\n\n")[0]


BAD = [
    ({"tasks": ["rtee"]}, ["my.yaml", "ablation.tasks", "rtee"]),
    ({"tasks": ["rte", "rte"]}, ["my.yaml", "ablation: tasks", "rte"]),
    ({"tasks": ["rte"], "spaces": [2, 0]}, ["my.yaml", "ablation.spaces.1", "0"]),
    ({"tasks": ["rte"], "short_lengths": [30]}, ["'s = 30'", "prompt.length", "24"]),
    ({"tasks": ["rte"], "short_length": [20]}, ["my.yaml", "ablation.short_length"]),
    ({"tasks": ["rte"], "budgets": ["equal"]}, ["ablation.budgets.0", "'equal'", "'matched'"]),
]


@pytest.mark.parametrize(("ablation", "words"), BAD, ids=[words[-1] for _, words in BAD])
def test_variants_that_no_backbone_can_have_are_refused(ablation, words):
    with pytest.raises(InputError) as error:
        _experiment(ablation=ablation)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_variants_that_the_backbone_cannot_hold_are_refused_before_anything_runs():
    # 23 * 128 + (64 + 128) numbers are more than 24 * 128.
    with pytest.raises(InputError, match="'s = 23'.*prompt.short_length 23 .*128"):
        _ = _experiment(ablation={"tasks": ["rte"], "short_lengths": [23]}).tables
    with pytest.raises(InputError, match="'budget matched'.*ept.budget matched"):
        _ = _experiment(prompt=SMALL["prompt"] | {"short_length": 16}).tables
    with pytest.raises(InputError, match=r"^prompt\.rank\b.*\b99\b.*\b9\b"):
        _ = _experiment(prompt=SMALL["prompt"] | {"rank": 99}).tables


@pytest.mark.parametrize("name", ["demo_full.yaml", "paper.yaml"])
def test_shipped_configurations_ablate_what_the_paper_does(project, name):
    experiment = Experiment(load_configuration(project / "config" / name))
    names = list(dict.fromkeys(pack.variant.name for pack in experiment.tables["ablation"]))
    assert names[:9] == ["EPT", "without fusion", "without projection", "without both"] + [
        f"N = {number}" for number in (1, 2, 4, 6, 8)
    ]
    lengths = [
        pack.variant.prompt.short_length for pack in experiment.tables["ablation"] if "s = " in pack.variant.name
    ]
    limit = experiment.config.prompt.length
    # A fifth to four fifths of the length, as s in {20, 40, 60, 80} of 100.
    assert sorted({round(5 * length / limit) for length in lengths}) == [1, 2, 3, 4]
    assert {"budget decomposition", "budget matched"} <= set(names)


def test_the_default_configuration_ablates_nothing(project):
    experiment = Experiment(load_configuration(project / "config/config.yaml"))
    fewshot = ["fewshot_k4", "fewshot_k16", "fewshot_k32"]
    assert experiment.default_tables == ["main", *fewshot, "significance", "efficiency", "transfer_gains"]
