"""Tables from records written by hand: rows, averages, marks, and the strangers that are refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.methods.registry import METHODS, SUBJECT
from ept.plan.experiment import Experiment
from ept.results.records import collect, read_own_table
from ept.results.render import Cell, Layout, show_tables, table_page, to_latex, to_markdown, to_text
from ept.results.tables.scores import make_table, scores_layout, table_rows
from ept.results.write import write_table
from results.records import edit_record, edit_table, write_runs


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
    """Change a file behind the back of whatever has its digest."""
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
    # An average over one task would repeat its column.
    assert layout.head == ["method", "parameters", "stored", "All", "RTE acc.", "CB acc."]
    assert [line[0].text for line in layout.lines] == ["majority", "PT", "EPT"]
    lines = to_markdown(layout).splitlines()
    assert lines[3].startswith("| PT | 1,000 | 900 | <u>55.0 ± 7.1</u> |")
    assert lines[4].startswith("| EPT | 1,000 | 900 | **80.0 ± 7.1** |")
    assert r"EPT & 1,000 & 900 & \textbf{80.0 $\pm$ 7.1}" in to_latex(layout)
    plain = to_text(layout).splitlines()
    assert plain[0].split() == ["method", "parameters", "stored", "All", "RTE", "acc.", "CB", "acc."]
    assert len({len(line) for line in (plain[1], plain[4])}) == 1
    assert [line.split()[:6] for line in plain[3:5]] == [
        ["PT", "1,000", "900", "55.0", "±", "7.1+"],
        ["EPT", "1,000", "900", "80.0", "±", "7.1*"],
    ]
    assert "**" not in to_text(layout) and "<u>" not in to_text(layout)


def test_stored_parameters_have_a_column_where_they_are_not_the_trained_ones(experiment):
    packs = experiment.tables["main"]
    for pack in packs:
        edit_record(pack, stored_parameters=1000)
    layout = scores_layout(table_rows(collect(packs)))
    assert "stored" not in layout.head and "stored" not in " ".join(layout.notes).lower()
    for pack in packs:
        if pack.method == "ept":
            edit_record(pack, stored_parameters=600)
    layout = scores_layout(table_rows(collect(packs)))
    place = layout.head.index("stored")
    assert [(line[0].text, line[place].text) for line in layout.lines] == [
        ("majority", ""),
        ("PT", "1,000"),
        ("EPT", "600"),
    ]
    assert any("stored" in note.lower() for note in layout.notes)


def test_nothing_at_or_below_the_majority_is_marked(experiment):
    for pack in experiment.tables["main"]:
        if pack.method == "pt":
            edit_record(pack, majority_baseline={"accuracy": 80.0, "macro_f1": 80.0})
        else:
            edit_record(pack, majority_baseline={"accuracy": 55.0, "macro_f1": 80.0})
    layout = scores_layout(table_rows(collect(experiment.tables["main"])))
    (pt, ept) = layout.lines[1:]
    place = layout.head.index("RTE acc.")
    assert not pt[place].underlined and ept[place].text == "80.0 ± 7.1"
    assert ept[place].bold == (layout.lines[0][place].text == "55.0")


def test_with_one_seed_nothing_has_a_spread(experiment):
    config = experiment.config.model_copy(update={"seeds": [0], "weight_seeds": None})
    packs = Experiment(config).tables["main"]
    for pack in packs:
        write_runs(pack, right=(120,))
    layout = scores_layout(table_rows(collect(packs)))
    assert "±" not in to_markdown(layout)


def test_invalid_answers_are_shown_where_there_are_any(experiment):
    rows = table_rows(collect(experiment.tables["main"]))
    assert "invalid" not in scores_layout(rows).head
    pack = experiment.tables["main"][0]
    record = json.loads((pack.folder / "runs.json").read_text())
    record["runs"][1]["invalid_share"] = 0.25
    edit_record(pack, runs=record["runs"])
    rows = table_rows(collect(experiment.tables["main"]))
    row = next(row for row in rows if (row["method"], row["task"]) == ("pt", "rte"))
    assert (row["invalid_share"], row["open_mean"], row["closed_mean"]) == (12.5, 55.0, 56.0)
    assert (row["combinations"], row["validation_labels"]) == (1, 100)
    layout = scores_layout(rows)
    assert [line[layout.head.index("invalid")].text for line in layout.lines] == ["", "6.2", "0.0"]


def test_what_could_have_started_from_a_diverged_source_is_marked(experiment):
    edit_record(experiment.tables["main"][0], diverged_sources=["mnli"])
    rows = table_rows(collect(experiment.tables["main"]))
    assert {(row["task"], row["diverged_sources"]) for row in rows if row["method"] == "pt"} == {
        ("rte", 1),
        ("cb", 0),
        ("average_glue", 1),
        ("average_super_glue", 0),
        ("average", 1),
    }
    assert "‡" in to_markdown(scores_layout(rows)).splitlines()[3]
    assert r"$^\ddagger$" in to_latex(scores_layout(rows))


def test_a_table_from_runs_of_two_versions_says_so(experiment):
    write_table(experiment, "main")
    assert "abcdef012345" not in Path("results/main.md").read_text()
    edit_record(experiment.tables["main"][0], commit={"id": "abcdef0123456789", "clean": False})
    write_table(experiment, "main")
    (note,) = (line for line in Path("results/main.md").read_text().splitlines() if "abcdef012345" in line)
    settings = json.loads(Path("results/main.settings.json").read_text())
    assert len(settings["runs_made_by"]) == 2 and all(made_by in note for made_by in settings["runs_made_by"])


def test_a_table_whose_texts_lost_their_answers_to_the_cut_says_so(experiment):
    packs = experiment.tables["main"]
    for pack in packs:
        edit_record(pack, answers_cut=37 if pack.task == "rte" else 0)
    _, layout = make_table(experiment, packs)
    (note,) = (note for note in layout.notes if "37" in note)
    assert all(fact in note for fact in ("RTE", "200", str(packs[0].settings["source_length"])))
    assert not any("CB" in note for note in layout.notes)


def test_a_table_of_sampled_test_rows_says_of_how_many(experiment):
    packs = experiment.tables["main"]
    for pack in packs:
        if pack.task == "rte":
            edit_record(pack, test_rows_sampled_from=5463)
    _, layout = make_table(experiment, packs)
    (note,) = (note for note in layout.notes if "5,463" in note)
    assert all(fact in note for fact in ("RTE", "200", "data.test_rows")) and "CB" not in note


def test_a_table_with_a_reading_of_the_paper_says_so(experiment):
    write_table(experiment, "main")
    reading = [line for line in Path("results/main.md").read_text().splitlines() if "our reading" in line]
    assert len(reading) == 1
    for pack in experiment.tables["main"]:
        assert METHODS[pack.method].module
    others = [pack for pack in experiment.tables["main"] if METHODS[pack.method].module != METHODS[SUBJECT].module]
    _, layout = make_table(experiment, others)
    assert not any("our reading" in note for note in layout.notes)


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


HOSTILE = "<script>alert(1)</script> | *x* [y](z) `q` &lt; \\input{/etc/passwd} $x$ #1 ~ ^\nnext"


@pytest.mark.parametrize("place", ["head", "cell", "note"])
def test_text_of_results_is_text_in_every_form(place):
    texts = {"head": "method", "cell": "text", "note": "A note.", place: HOSTILE}
    layout = Layout([texts["head"], "b"], [[Cell(texts["cell"]), Cell("1")]], [texts["note"]])
    page = table_page("title", to_markdown(layout))
    # The page's own script sorts the table.
    assert page.lower().count("<script") == 1 and "alert(1)" not in page[page.index("<script>") :]
    assert page.count("<a ") == page.count("<em>") == page.count("<code>") == 0
    assert "alert(1)" in page and "&amp;lt;" in page
    assert page.count("<td") == 2 and page.count("<th ") + page.count("<th>") == 2
    assert "\\input" not in to_latex(layout) and r"\textbackslash{}input" in to_latex(layout)


def test_a_diverged_run_is_marked(experiment):
    pack = experiment.tables["main"][0]
    record = json.loads((pack.folder / "runs.json").read_text())
    record["runs"][1]["status"] = "diverged"
    edit_record(pack, runs=record["runs"])
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
    assert not any(mark in printed for mark in ("**", "<u>", "|"))
    main = Path("results/main.md")
    main.write_text(main.read_text().replace("80.0", "81.0"))
    with pytest.raises(InputError, match=r"results/main\.md"):
        show_tables(experiment)


def test_a_foreign_hash_is_refused(experiment):
    pack = experiment.tables["main"][0]
    _edit(pack.folder / "settings.json", hash="deadbeef")
    with pytest.raises(InputError, match=f"{pack.folder}.*deadbeef.*{pack.hash}"):
        collect(experiment.tables["main"])


def test_a_missing_seed_is_refused(experiment):
    pack = experiment.tables["main"][0]
    record = json.loads((pack.folder / "runs.json").read_text())
    edit_record(pack, runs=record["runs"][:1])
    with pytest.raises(InputError, match="seed 1"):
        collect(experiment.tables["main"])


@pytest.mark.parametrize("table", ["main", "significance", "efficiency"])
def test_other_data_are_refused(experiment, table):
    for pack in experiment.tables["fewshot_k4"]:
        write_runs(pack, right=(100, 100))
    pack = experiment.tables["main"][-1]
    edit_record(pack, data_fingerprints={"train": "a", "validation": "b", "test": "other"})
    with pytest.raises(InputError, match=r"\btest\b.*\bcb\b.* other"):
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
    source = by_task["sst2"]
    edit_record(source, data_fingerprints={"train": "of another day", "validation": "b", "test": "c"})
    with pytest.raises(
        InputError,
        match=f"{source.folder}/runs.json.* train .*sst2.* of anoth.* a\\b",
    ):
        collect(packs)
    edit_record(source, data_fingerprints={"train": "a", "validation": "b", "test": "c"})
    (distilled,) = (pack.candidates[0] for pack in packs if (pack.method, pack.task) == ("mpt", "rte"))
    write_runs(by_task["mnli"], (100, 100))
    _write_distilled(distilled, sst2="a", mnli="older")
    # MNLI is no target: the teacher of the distilled prompt says what its data are.
    with pytest.raises(InputError, match="train .*mnli"):
        collect(packs)
    _write_distilled(distilled, sst2="a", mnli="a")
    assert len(collect(packs)) == 4


def _write_distilled(pack, **trained_on):
    pack.folder.mkdir(parents=True, exist_ok=True)
    fingerprints = {task: {"train": train, "validation": "b"} for task, train in trained_on.items()}
    (pack.folder / "runs.json").write_text(json.dumps({"data_fingerprints": fingerprints}))


@pytest.mark.parametrize("name", ["runs.json", "settings.json", "predictions.parquet"])
def test_a_file_that_was_changed_is_refused(experiment, name):
    """One flipped bit at many places: never silent, never another exception."""
    path = experiment.tables["main"][0].folder / name
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(len(whole), size=40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=re.escape(str(path.parent))):
            collect(experiment.tables["main"])
    for length in generator.integers(len(whole), size=10):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=re.escape(str(path.parent))):
            collect(experiment.tables["main"])
    path.write_bytes(whole)
    assert len(collect(experiment.tables["main"])) == 4


@pytest.mark.parametrize("name", ["main.csv", "main.settings.json"])
def test_a_changed_table_is_refused(experiment, name):
    write_table(experiment, "main")
    path = Path("results") / name
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    for place in generator.integers(len(whole) - 1, size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="main"):
            read_own_table(experiment, "main")
    path.write_bytes(whole)
    table = read_own_table(experiment, "main")
    edit_table(Path("results/main.csv"), Path("results/main.csv").read_text())
    assert read_own_table(experiment, "main") == table


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_torn_or_absent_record_is_refused(experiment, content):
    path = experiment.tables["main"][0].folder / "runs.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match="runs.json"):
        collect(experiment.tables["main"])


def test_an_unknown_table_is_refused(experiment):
    with pytest.raises(InputError, match="fewshot_k5.*main, fewshot_k4"):
        write_table(experiment, "fewshot_k5")
