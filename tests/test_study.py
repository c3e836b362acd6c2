"""The study on SmolLM2: its committed records, its configurations, and the tables of its page."""

import importlib.util
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ept.config.configuration import load_configuration
from ept.files import DIGESTS, digest, sha256_file

ROWS = 40
STUDY = ("smollm2_pilots", "smollm2_rates", "smollm2", "smollm2_fewshot")


@pytest.fixture
def study(project, tmp_path, monkeypatch):
    """The script, with a folder of its own in the place of docs/study."""
    spec = importlib.util.spec_from_file_location("study", project / "scripts/study.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, "study", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STUDY", tmp_path / "study")
    return module


def finish(study, root, pack, right, backbone="smollm2-135m-instruct"):
    """Write the three files of a finished pack; `right` [seeds, rows] says which test rows are predicted rightly."""
    used = pack.config.backbone.used_dtype(study.METHODS[pack.method].float32)
    settings = {**pack.settings, "backbone": {"name": backbone, "dtype": used, "identity": "0"}}
    hash_ = digest(settings)
    folder = root / backbone / pack.method / pack.task / pack.regime / hash_
    folder.mkdir(parents=True)
    labels = np.arange(ROWS) % 2
    seeds = pack.settings["seeds"]
    table = {
        "seed": np.repeat(seeds, ROWS),
        "id": [f"test:{row}" for row in range(ROWS)] * len(seeds),
        "group": [""] * ROWS * len(seeds),
        "label": np.tile(labels, len(seeds)).astype(float),
        "prediction": np.where(right, labels, 1 - labels).ravel().astype(float),
        "text": [""] * ROWS * len(seeds),
        "answers": pa.array([[]] * ROWS * len(seeds), pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    run = {"status": "finished", "steps": 300, "best_step": 150, "validation_curve": [[0, 50.0], [150, 77.5]]}
    record = {
        "hash": hash_,
        **dict.fromkeys(("backbone", "source", "commit", "device", "dtype", "threads", "split_rule", "versions"), "x"),
        **dict.fromkeys(("train_rows", "validation_rows", "validation_labels", "test_rows", "stored_parameters"), 1),
        **{"trained_parameters": 18432, "train_seconds": 600.0, "wall_seconds": 900.0, "examples_per_second": 4.0},
        **{"peak_memory_bytes": 2**30, "diverged_sources": [], "source_losses": {}, "data_fingerprints": {}},
        **{"majority_baseline": {pack.metric: 50.0}, "majority_validation": {pack.metric: 51.0}},
        "runs": [
            {**run, "seed": seed, "learning_rates": {"a": 1.0}, "selected": True, "best_validation": 77.5}
            for seed in seeds
        ],
    }
    (folder / "runs.json").write_text(json.dumps(record))
    sums = {name: sha256_file(folder / name) for name in ("runs.json", "predictions.parquet")}
    (folder / "settings.json").write_text(json.dumps({"hash": hash_, "settings": settings, DIGESTS: sums}))
    return folder


def without_prompt(study, task, right):
    """Write answers without a prompt."""
    labels = np.arange(ROWS) % 2
    answers = np.where(right, labels, 1 - labels)
    path = study.zero_shot_file(task)
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"test:{row}" for row in range(ROWS)]
    pq.write_table(pa.table({"id": ids, "label": labels.astype(float), "open": answers, "closed": answers}), path)


def cells(layout, row):
    """The texts of the line that begins with `row`."""
    (line,) = [line for line in layout.lines if line[0].text == row]
    return [cell.text for cell in line[1:]]


def test_every_committed_record_is_sound_and_of_a_configuration_of_the_study(study, project):
    packs = [pack for name in STUDY for pack in study.asked(name)]
    root = project / "docs/study/runs"
    folders = {path.parent for path in root.glob("*/*/*/*/*/*")}
    found = study.finished(root)
    assert {each.folder for each in found} == folders
    for each in found:
        assert {path.name for path in each.folder.iterdir()} == set(study.files_of(each.folder))
        assert digest(each.settings) == each.folder.name
        assert any(pack.fits(each.settings) for pack in packs), each.folder


def test_the_committed_answers_without_a_prompt_are_those_of_a_task_of_the_study(study, project):
    config = load_configuration(project / "config/smollm2.yaml")
    for path in (project / "docs/study/zero_shot").iterdir():
        assert path.stem in config.tasks.target
        classes = len(config.tasks.record(path.stem).labels)
        table = pq.read_table(path).to_pydict()
        assert len(set(table["id"])) == len(table["id"])
        assert set(table["label"]) | set(table["closed"]) <= set(range(classes))
        assert set(table["open"]) <= {-1, *range(classes)}


def test_the_tables_of_the_page_are_those_of_the_committed_records(study, project, monkeypatch):
    monkeypatch.setattr(study, "STUDY", project / "docs/study")
    text = study.PAGE.read_text(encoding="utf-8")
    named = [match["name"] for match in study.PART.finditer(text)]
    assert sorted(named) == sorted(name for name, _ in study.tables())
    assert study.filled(text) == text, "run `python scripts/study.py page`"


def test_the_configurations_differ_only_where_the_study_says_so(project):
    pilots, rates, final, few = (load_configuration(project / "config" / f"{name}.yaml") for name in STUDY)
    for other in (pilots, rates, few):
        for section in ("backbone", "data", "prompt", "ept", "baselines"):
            ours = getattr(other, section)
            # Only the final rows have tasks that are scored on a sample.
            ours = ours.model_copy(update={"test_rows": final.data.test_rows}) if section == "data" else ours
            assert ours == getattr(final, section)
        assert set(other.tasks.target) <= set(final.tasks.target)
        assert not set(other.tasks.target) & set(final.data.test_rows)
    assert set(final.tasks.target) <= {*rates.tasks.target, *pilots.tasks.source}
    # An equal grid: as many combinations for every method, and the final rates are among them.
    grids = rates.training.learning_rates
    assert list(grids) == final.methods == rates.methods
    for method, grid in grids.items():
        assert np.prod([len(tried) for tried in grid.values()]) == 3
        chosen = final.training.learning_rates[method]
        assert all(len(chosen[group]) == 1 and chosen[group][0] in tried for group, tried in grid.items())
        assert few.learning_rates(few.few_shot, method) == chosen or method not in few.methods
    for settings in (pilots.training, rates.training, final.training, few.few_shot):
        assert settings.include_start


def test_scores_and_gains_are_those_of_the_predictions(study):
    packs = [pack for pack in study.asked("smollm2") if pack.table == "main" and pack.task == "sst2"]
    generator = np.random.default_rng(0)
    right = generator.random((3, ROWS)) < 0.9
    nothing = np.arange(ROWS) < 20
    finish(study, study.STUDY / "runs", packs[0], right)
    without_prompt(study, "sst2", nothing)
    title = study.METHODS[packs[0].method].title
    accuracies = 100 * right.mean(1)
    table = study.scores(packs)
    assert cells(table, title)[0] == f"{accuracies.mean():.1f} ± {accuracies.std(ddof=1):.1f}"
    assert cells(table, "majority")[0] == "50.0"
    # Both of its rules: `without_prompt` writes every label that it finds likelier.
    assert [line[1].text for line in table.lines[1:3]] == ["50.0", "50.0"]
    unfinished = study.METHODS[packs[1].method].title
    assert cells(table, unfinished)[0] == study.MISSING
    (line,) = study.gains(packs).lines
    assert line[2].text == f"+{accuracies.mean() - 50:.1f}"
    low, high = (float(text.replace("−", "-")) for text in line[3].text.split(" to "))
    assert low < accuracies.mean() - 50 < high
    assert line[4].bold


def test_no_gain_is_not_made_into_one(study):
    packs = [pack for pack in study.asked("smollm2") if pack.table == "main" and pack.task == "sst2"]
    right = np.tile(np.arange(ROWS) < 30, (3, 1))
    finish(study, study.STUDY / "runs", packs[0], right)
    without_prompt(study, "sst2", right[0])
    (line,) = study.gains(packs).lines
    assert line[2].text == "+0.0" and not line[4].bold


def test_keep_copies_what_is_finished_and_of_the_study_once(study, tmp_path):
    packs = {pack.table: pack for name in STUDY for pack in study.asked(name)}
    right = np.ones((3, ROWS), bool)
    mine = finish(study, tmp_path / "runs", packs["main"], right)
    finish(study, tmp_path / "runs", packs["k16"], right, backbone="another")
    half = finish(study, tmp_path / "runs", packs["k32"], right)
    (half / "predictions.parquet").unlink()
    target = tmp_path / "kept"
    (copied,) = study.keep(tmp_path / "runs", target)
    assert copied.relative_to(target) == mine.relative_to(tmp_path / "runs")
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {
        path.name: path.read_bytes() for path in mine.iterdir()
    }
    assert study.keep(tmp_path / "runs", target) == []


def test_the_grid_names_the_best_rate_and_what_is_not_finished(study):
    packs = study.asked("smollm2_rates")
    finish(study, study.STUDY / "runs", packs[0], np.ones((1, ROWS), bool))
    first, second = (study.METHODS[pack.method].title for pack in packs[:2])
    table = study.rates()
    assert cells(table, first) == ["a=1", "77.5", "150"]
    assert cells(table, second)[0] == study.MISSING
    assert cells(study.progress(), "rates")[1] == f"1 of {len(packs)}"
