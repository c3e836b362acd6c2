"""Tables from records written by hand: rows, averages, marks, and the strangers that are refused."""

import json

import numpy as np
import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.results.records import collect
from ept.results.render import Cell, Layout, align, show_tables, to_latex, to_markdown
from ept.results.tables.scores import scores_layout, table_rows
from ept.results.write import write_table
from results.records import write_runs


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """PT and EPT on RTE and CB with two seeds; EPT is right more often."""
    monkeypatch.chdir(tmp_path)
    config = parse_configuration(
        {
            "tasks": {"target": ["rte", "cb"]},
            "methods": ["pt", "ept"],
            "seeds": [0, 1],
        }
        | {"few_shot": {"k": [4], "initialize_from": ["scratch"]}}
    )
    experiment = Experiment(config)
    for pack in experiment.tables["main"]:
        write_runs(pack, right={"pt": (100, 120), "ept": (150, 170)}[pack.method])
    return experiment


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_rows_hold_means_spreads_and_averages(experiment):
    rows = table_rows(collect(experiment.tables["main"]))
    found = {(row["method"], row["task"], row["metric"]): row for row in rows}
    assert found["pt", "rte", "accuracy"]["mean"] == pytest.approx(55.0)
    assert found["pt", "rte", "accuracy"]["std"] == pytest.approx(np.std([50, 60], ddof=1))
    assert found["ept", "average", "average"]["mean"] == pytest.approx(80.0)
    assert found["ept", "average_glue", "average"]["majority_baseline"] == 50.0
    # Macro F1 of a class that is right in 100 (120) of 200 cases, and of another that never is.
    expected = [np.mean([2 * right / (right + 200), 0]) * 100 for right in (100, 120)]
    assert found["pt", "cb", "macro_f1"]["mean"] == pytest.approx(np.mean(expected))


def test_readers_see_the_best_in_bold_and_the_second_underlined(experiment):
    layout = scores_layout(table_rows(collect(experiment.tables["main"])))
    assert layout.head == ["method", "parameters", "stored", "RTE acc.", "GLUE", "CB acc.", "SuperGLUE", "All"]
    assert [line[0].text for line in layout.lines] == ["majority", "PT", "EPT"]
    lines = to_markdown(layout).splitlines()
    assert lines[3].startswith("| PT | 1,000 | 900 | <u>55.0 ± 7.1</u> |")
    assert lines[4].startswith("| EPT | 1,000 | 900 | **80.0 ± 7.1** |")
    assert r"EPT & 1,000 & 900 & \textbf{80.0 $\pm$ 7.1}" in to_latex(layout)
    assert "majority" in align("\n".join(lines[:5])).splitlines()[2]


def test_stored_parameters_have_a_column_where_they_are_not_the_trained_ones(experiment):
    packs = experiment.tables["main"]
    for pack in packs:
        _edit(pack.folder / "runs.json", stored_parameters=1000)
    layout = scores_layout(table_rows(collect(packs)))
    assert "stored" not in layout.head and "stored" not in " ".join(layout.notes)
    for pack in packs:
        if pack.method == "ept":
            _edit(pack.folder / "runs.json", stored_parameters=600)
    layout = scores_layout(table_rows(collect(packs)))
    place = layout.head.index("stored")
    assert [(line[0].text, line[place].text) for line in layout.lines] == [
        ("majority", ""),
        ("PT", "1,000"),
        ("EPT", "600"),
    ]
    assert any("stored" in note for note in layout.notes)


def test_cells_are_escaped_and_notes_stand_below():
    layout = Layout(
        head=["a_b", "share & %"],
        lines=[[Cell("x_1"), Cell("2.0 ± 1.0", underlined=True, signs="†")], [Cell("y"), Cell()]],
        notes=["First & last.", "† a sign."],
    )
    assert to_markdown(layout) == (
        "| a_b | share & % |\n| --- | ---: |\n| x_1 | <u>2.0 ± 1.0 †</u> |\n| y |  |\n\nFirst & last.\n\n† a sign.\n"
    )
    assert to_latex(layout).splitlines()[2:6] == [
        r"a\_b & share \& \% \\",
        "\\midrule",
        r"x\_1 & \underline{2.0 $\pm$ 1.0$^\dagger$} \\",
        r"y &  \\",
    ]
    assert to_latex(layout).endswith("\\end{tabular}\n\n{\\footnotesize First \\& last. $^\\dagger$ a sign.}\n")


def test_a_diverged_run_is_marked(experiment):
    pack = experiment.tables["main"][0]
    record = json.loads((pack.folder / "runs.json").read_text())
    record["runs"][1]["status"] = "diverged"
    _edit(pack.folder / "runs.json", runs=record["runs"])
    layout = scores_layout(table_rows(collect(experiment.tables["main"])))
    assert to_markdown(layout).splitlines()[3].startswith("| PT | 1,000 | 900 | <u>55.0 ± 7.1 †</u> | ")
    assert "†" not in to_markdown(layout).splitlines()[4]
    assert r"55.0 $\pm$ 7.1$^\dagger$" in to_latex(layout)


def test_files_are_written_and_shown(experiment, capsys):
    for pack in experiment.tables["fewshot_k4"]:
        write_runs(pack, right=(100, 100))
    write_table(experiment, "main")
    write_table(experiment, "fewshot_k4")
    show_tables(experiment)
    printed = capsys.readouterr().out
    assert "80.0 ± 7.1" in printed and "results/fewshot_k4.csv" in printed


def test_a_foreign_hash_is_refused(experiment):
    pack = experiment.tables["main"][0]
    _edit(pack.folder / "settings.json", hash="deadbeef")
    with pytest.raises(InputError, match=f"{pack.folder}.*deadbeef.*{pack.hash}"):
        collect(experiment.tables["main"])


def test_a_missing_seed_is_refused(experiment):
    pack = experiment.tables["main"][0]
    record = json.loads((pack.folder / "runs.json").read_text())
    _edit(pack.folder / "runs.json", runs=record["runs"][:1])
    with pytest.raises(InputError, match="seed 1 is missing"):
        collect(experiment.tables["main"])


@pytest.mark.parametrize("table", ["main", "significance", "efficiency"])
def test_other_data_are_refused(experiment, table):
    for pack in experiment.tables["fewshot_k4"]:
        write_runs(pack, right=(100, 100))
    pack = experiment.tables["main"][-1]
    _edit(pack.folder / "runs.json", data_fingerprints={"train": "a", "validation": "b", "test": "other"})
    with pytest.raises(InputError, match="test split of cb has the fingerprint other"):
        write_table(experiment, table)


def test_a_source_prompt_of_other_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"tasks": {"target": ["rte", "sst2"], "source": ["sst2", "mnli"]}, "methods": ["spot", "mpt"]}
    packs = Experiment(parse_configuration(values | {"seeds": [0, 1], "few_shot": {"k": []}})).tables["main"]
    for pack in packs:
        write_runs(pack, (100, 100))
    # Without the source prompts' records, as after a fetch of the results alone.
    assert len(collect(packs)) == 4
    by_task = {pack.task: pack for pack in packs[0].candidates}
    for pack in by_task.values():
        write_runs(pack, (100, 100))
    assert len(collect(packs)) == 4
    source = by_task["sst2"].folder / "runs.json"
    _edit(source, data_fingerprints={"train": "of another day", "validation": "b", "test": "c"})
    with pytest.raises(
        InputError, match=f"{source}: the train split of sst2 has the fingerprint of anoth, but .* from a;"
    ):
        collect(packs)
    _edit(source, data_fingerprints={"train": "a", "validation": "b", "test": "c"})
    (distilled,) = (pack.candidates[0] for pack in packs if (pack.method, pack.task) == ("mpt", "rte"))
    write_runs(by_task["mnli"], (100, 100))
    _write_distilled(distilled, sst2="a", mnli="older")
    # MNLI is no target: the teacher of the distilled prompt says what its data are.
    with pytest.raises(InputError, match="the train split of mnli has the fingerprint"):
        collect(packs)
    _write_distilled(distilled, sst2="a", mnli="a")
    assert len(collect(packs)) == 4


def _write_distilled(pack, **trained_on):
    pack.folder.mkdir(parents=True, exist_ok=True)
    fingerprints = {task: {"train": train, "validation": "b"} for task, train in trained_on.items()}
    (pack.folder / "runs.json").write_text(json.dumps({"data_fingerprints": fingerprints}))


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_torn_or_absent_record_is_refused(experiment, content):
    path = experiment.tables["main"][0].folder / "runs.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match="runs.json"):
        collect(experiment.tables["main"])


def test_an_unknown_table_is_refused(experiment):
    with pytest.raises(InputError, match="no table fewshot_k5.*main, fewshot_k4"):
        write_table(experiment, "fewshot_k5")
