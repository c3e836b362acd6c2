"""The tables of transfer: every source to every target, gains over scratch, where transfer hurts."""

import csv

import numpy as np
import pytest

from ept.config.configuration import load_configuration, parse_configuration
from ept.config.sections import BackboneSettings, DataSettings
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.tables import asked_for
from ept.results.render import to_markdown
from ept.results.tables.transfer import make_gains_table as make_gains
from ept.results.tables.transfer import make_table as make_matrix
from ept.results.write import write_table
from results.records import write_runs

LOSSES = {"mnli": 0.7, "rte": 0.4, "sst2": 0.9}
# Right answers of two seeds among 200, from scratch and from each source.
SCRATCH = (100, 110)
RIGHT = {"mnli": (160, 168), "rte": (124, 134), "sst2": (60, 72)}


def experiment_of(**changes):
    values = {
        "tasks": {"target": ["rte", "wic"], "source": ["mnli", "rte", "sst2"]},
        "methods": ["pt", "spot"],
        "seeds": [0, 1],
        "few_shot": {"k": [16], "initialize_from": ["scratch", "source"]},
        "transfer": {"methods": ["spot"]},
    }
    return Experiment(parse_configuration(values | changes))


def write_all(packs, right=RIGHT, losses=LOSSES, key="source_losses"):
    """Records of all packs; one that may choose starts from the source with the lowest loss."""
    for pack in packs:
        names = sorted((candidate.task for candidate in pack.candidates), key=losses.get)
        if not names:
            write_runs(pack, right=SCRATCH)
            continue
        scores = {name: losses[name] for name in names}
        write_runs(pack, right=right[names[0]], source=names[0], **{key: scores})


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """SPoT from three sources on two targets, one of which is a source, and PT from scratch."""
    monkeypatch.chdir(tmp_path)
    experiment = experiment_of()
    write_all(experiment.packs and experiment.tables["transfer"] + experiment.tables["transfer_gains"])
    return experiment


def test_every_source_meets_every_target_but_itself(experiment):
    packs = experiment.table_packs("transfer")
    for regime, whole in (("k16", True), ("full", False)):
        for task in ("rte", "wic"):
            found = [pack for pack in packs if (pack.task, pack.regime) == (task, regime)]
            (scratch,) = [pack for pack in found if not pack.candidates]
            assert scratch.method == "pt"
            sources = [[candidate.task for candidate in pack.candidates] for pack in found if pack.candidates]
            usable = [name for name in LOSSES if name != task]
            assert sources == ([[name] for name in usable] if whole else [usable])
    assert {pack.hash for pack in packs} <= {pack.hash for pack in experiment.packs}


def test_rows_hold_gains_choice_and_the_marked_diagonal(experiment):
    rows, layout = make_matrix(experiment, experiment.table_packs("transfer"))
    found = {(row["regime"], row["task"], row["source"]): row for row in rows}
    assert len(found) == len(rows) == (2 + 1) + 3 + 1 + 1
    for (regime, task, source), row in found.items():
        if source == task:
            assert row["choice"] == "own task" and "mean" not in row and "gain" not in row
            continue
        assert row["mean"] == pytest.approx(np.mean(RIGHT[source]) / 2)
        assert row["scratch_mean"] == pytest.approx(np.mean(SCRATCH) / 2)
        assert row["gain"] == pytest.approx(np.mean(np.subtract(RIGHT[source], SCRATCH)) / 2)
        assert row["selection_score"] == LOSSES[source] and row["chosen_by"] == "loss"
        best = min((name for name in LOSSES if name != task), key=LOSSES.get)
        assert row["choice"] == ("chosen" if source == best else "not chosen"), (regime, task, source)
    assert found["k16", "rte", "rte"]["choice"] == "own task"
    lines = to_markdown(layout).splitlines()
    assert lines[0] == "| method | regime | source | RTE acc. | WiC acc. |"
    assert lines[2] == "| SPoT | k16 | mnli | **+29.5 ↑** | +29.5 ↑ |"
    # In the order of the configuration, the task's own line too.
    assert lines[3] == "| SPoT | k16 | rte | — | **+12.0 ↑** |"
    assert lines[4] == "| SPoT | k16 | sst2 | −19.5 ↓ | −19.5 ↓ |"


def test_all_source_tasks_together_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = {"target": ["rte", "wic"], "source": ["mnli", "rte"]}
    experiment = experiment_of(tasks=tasks, methods=["attempt"], transfer={"methods": ["attempt"]})
    packs = experiment.table_packs("transfer")
    for pack in packs:
        sources = "+".join(candidate.task for candidate in pack.candidates)
        write_runs(pack, right=RIGHT["mnli"] if sources else SCRATCH, source=sources)
    rows, layout = make_matrix(experiment, packs)
    # RTE is no source of itself.
    assert {(row["task"], row["source"]) for row in rows} == {("rte", "mnli"), ("wic", "mnli+rte")}
    lines = to_markdown(layout).splitlines()[2:4]
    assert lines == [f"| ATTEMPT | {regime} | all others | +29.5 ↑ | +29.5 ↑ |" for regime in ("k16", "full")]


def test_gains_are_paired_by_seed_and_example(tmp_path, monkeypatch):
    """What both starts have in common, seeds or examples, is not in the interval of their difference."""
    monkeypatch.chdir(tmp_path)
    transfer = {"methods": ["spot"], "chosen_source": []}
    experiment = experiment_of(tasks={"target": ["rte"], "source": ["mnli"]}, transfer=transfer)
    scratch, started = experiment.table_packs("transfer")

    def row_of(from_scratch, from_source):
        write_runs(scratch, right=from_scratch)
        write_runs(started, right=from_source, source="mnli", source_losses={"mnli": 0.7})
        (row,), _ = make_matrix(experiment, [scratch, started])
        return row

    # Both starts agree on 80 % of the examples; apart, their intervals have half-widths of 6.9 and 6.4.
    row = row_of((100, 100), (140, 140))
    half_width = 1.96 * 100 * np.sqrt(0.2 * 0.8 / 200)
    for side in (row["gain_high"] - 20, 20 - row["gain_low"]):
        assert side == pytest.approx(half_width, rel=0.15)
    # The seeds' scores differ by 50 points, their gains do not. That they gain on other examples counts.
    row = row_of((60, 160), (100, 200))
    assert (row["ci_low"], row["ci_high"]) == (0, 100)
    other_examples = 100 * np.sqrt(0.2 * 0.8 / 200 / 2)
    assert row["gain_high"] - 20 == pytest.approx(12.7 * other_examples, rel=0.15)


def test_sources_are_compared_by_similarity_where_the_records_say_so(experiment):
    write_all(experiment.tables["transfer"], losses={"mnli": 0.1, "rte": 0.2, "sst2": 0.8}, key="source_similarities")
    rows, _ = make_matrix(experiment, experiment.table_packs("transfer"))
    chosen = [row for row in rows if row["choice"] == "chosen" and row["regime"] == "k16"]
    assert {(row["task"], row["source"]) for row in chosen} == {("rte", "sst2"), ("wic", "sst2")}
    assert {row["chosen_by"] for row in chosen} == {"similarity"}


def test_the_gains_say_where_transfer_hurts(experiment):
    pairs = experiment.table_packs("transfer_gains")
    assert {(pack.method, pack.task, pack.regime) for pack in pairs} == {
        (method, task, regime) for method in ("pt", "spot") for task in ("rte", "wic") for regime in ("full", "k16")
    }
    for pack in pairs:
        if (pack.method, pack.task, pack.regime) == ("spot", "wic", "k16"):
            write_runs(pack, right=(40, 48), source="rte", source_losses=LOSSES)
    _, layout = make_gains(experiment, pairs)
    text = to_markdown(layout)
    assert "| SPoT | k16 | +29.5 (mnli) ↑ | −30.5 (rte) ↓ |" in text
    assert "Transfer hurts beyond the interval: SPoT k16 rte to wic (−30.5).\n" in text
    assert "Lower mean from the source than from scratch: SPoT k16 rte to wic (−30.5).\n" in text
    assert "Transfer helps beyond the interval: SPoT full mnli to rte (+29.5); SPoT full rte to wic (+12.0); " in text


def test_files_are_tidy(experiment):
    write_table(experiment, "transfer")
    with open("results/transfer.csv") as file:
        rows = list(csv.DictReader(file))
    (own,) = [row for row in rows if row["choice"] == "own task"]
    filled = {"backbone", "method", "task", "regime", "source", "metric", "choice"}
    assert {name for name, value in own.items() if value} == filled
    assert all(row["gain_low"] and row["trained_parameters"] for row in rows if row is not own)


def test_without_both_starts_there_are_no_gains_and_without_methods_no_matrix():
    without = experiment_of(methods=["spot"], transfer={})
    assert not {"transfer", "transfer_gains"} & set(without.tables)
    with pytest.raises(InputError, match="transfer"):
        without.table_packs("transfer")
    only_few_shot = experiment_of(methods=["ept"], transfer={})
    assert {pack.regime for pack in only_few_shot.table_packs("transfer_gains")} == {"k16"}


@pytest.mark.parametrize(
    ("transfer", "facts"),
    [
        ({"methods": ["pt"]}, r"transfer\.methods.*\bpt\b"),
        ({"methods": ["spoot"]}, "'spoot'.*spot"),
        ({"methods": ["spot"], "every_source": ["k0"]}, "'k0'"),
        ({"methods": ["spot"], "chosen_source": ["source"]}, r"transfer.*\bchosen_source\b.*\bsource\b"),
        ({"methods": ["spot"], "every_source": ["full"]}, r"transfer.*\bevery_source\b.*\bfull\b"),
    ],
)
def test_a_wrong_section_is_one_sentence(transfer, facts):
    with pytest.raises(InputError, match=facts):
        experiment_of(transfer=transfer)


def test_the_shipped_matrices_hold_every_pair_but_the_diagonal(project):
    # One configuration waits for its backbone's revision.
    shipped = [path for path in sorted((project / "config").glob("*.yaml")) if 'revision: ""' not in path.read_text()]
    with_matrix = 0
    for path in shipped:
        # The same plan, over a backbone and data that are there.
        config = load_configuration(path).model_copy(update={"backbone": BackboneSettings(), "data": DataSettings()})
        if config.transfer.methods:
            with_matrix += 1
            sources, targets = config.tasks.source, config.tasks.target
            best = [name for name in config.transfer.methods if METHODS[name].start_from == "best"]
            pairs = {
                (pack.method, candidate.task, pack.task)
                for transfer in asked_for(Experiment(config))
                for pack in transfer.started
                if pack.regime == "k16" and METHODS[pack.method].start_from == "best"
                for candidate in pack.candidates
            }
            assert pairs == {(m, s, t) for m in best for s in sources for t in targets if s != t}
    assert with_matrix == 2
