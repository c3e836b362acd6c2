"""`ept trace` and summary.json, from tables and records written by hand."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.results.write import write_table
from results.records import edit_record, edit_table, write_record, write_runs

VALUES = {
    "tasks": {"target": ["rte", "cb"], "source": ["mnli", "sst2"]},
    "methods": ["pt", "ept"],
    "seeds": [0, 1],
    "few_shot": {"k": [4], "initialize_from": ["scratch", "source"]},
}
TABLES = ("main", "fewshot_k4")


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """PT and EPT on RTE and CB with full data and four examples, their tables written."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(VALUES))
    experiment = Experiment(parse_configuration(VALUES))
    for table in TABLES:
        for pack in experiment.tables[table]:
            write_runs(pack, right={"pt": (100, 120), "ept": (150, 170)}[pack.method])
        write_table(experiment, table)
    return experiment


def _trace(capsys, *arguments):
    assert main(["trace", *arguments]) == 0
    return capsys.readouterr().out


def _refusal(capsys, *arguments):
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def _pack(experiment, table, method, task, start="scratch"):
    (pack,) = (
        pack
        for pack in experiment.tables[table]
        if (pack.method, pack.task, pack.initialize_from) == (method, task, start)
    )
    return pack


def test_a_cell_leads_to_its_runs_prompts_data_and_command(experiment, capsys):
    pack = _pack(experiment, "main", "ept", "rte")
    text = _trace(capsys, "results/main.csv", "--method", "ept", "--task", "rte")
    assert "results/main.csv: ept rte full from scratch, accuracy 80.0000 (standard deviation 7.0711" in text
    for seed, accuracy in ((0, "75.00"), (1, "85.00")):
        assert f"seed {seed}: finished, best step 20 of 30, accuracy {accuracy}, learning rates prompt 0.3, " in text
        assert str(pack.prompts / f"seed{seed}.safetensors") in text
    assert (
        "fingerprints train a, validation b, test c" in text
        and "torch 2\n" in text
        and "float32 on cpu, threads 1" in text
    )
    assert "source:" not in text
    others = [other.hash for table in TABLES for other in experiment.tables[table] if other.hash != pack.hash]
    assert pack.hash in text and not any(other in text for other in others)


def test_the_printed_command_is_of_the_same_pack(experiment, capsys):
    pack = _pack(experiment, "fewshot_k4", "ept", "cb", "source")
    where = ["--method", "ept", "--task", "cb", "--start", "source", "--metric", "accuracy"]
    text = _trace(capsys, "results/fewshot_k4.csv", *where)
    assert "macro_f1 8" not in text.splitlines()[0]
    assert "source: mnli (chosen by loss: mnli 1.5000, sst2 1.5000)" in text
    (source,) = (candidate for candidate in pack.candidates if candidate.task == "mnli")
    assert [line for line in text.splitlines() if "source prompt:" in line] == [
        f"  source prompt: {source.source_prompt}"
    ]
    (command,) = (line.split() for line in text.splitlines() if "ept train" in line)
    config, hash_ = command[command.index("--config") + 1], command[command.index("--hash") + 1]
    again = Experiment(parse_configuration(yaml.safe_load(Path(config).read_text()))).find(hash_)
    assert (again.hash, again.folder) == (pack.hash, pack.folder)
    assert f"  again: snakemake --cores all {pack.folder}/runs.json --configfile {config}\n" in text


def test_of_a_mixture_and_of_a_distilled_start_every_source_prompt_is_named(experiment, capsys):
    values = VALUES | {"methods": ["attempt", "mpt"], "few_shot": {"k": []}}
    # Both name all that they were made of.
    other = Experiment(parse_configuration(values))
    for pack in other.tables["main"]:
        write_runs(pack, (100, 100), source="mnli+sst2")
    write_table(other, "main")
    for method, number in (("attempt", 2), ("mpt", 1)):
        pack = _pack(other, "main", method, "rte", "source")
        text = _trace(capsys, "results/main.csv", "--method", method, "--task", "rte")
        named = [line.split()[-1] for line in text.splitlines() if "source prompt:" in line]
        assert named == [str(candidate.source_prompt) for candidate in pack.candidates] and len(named) == number


def test_costs_lead_to_all_packs_of_the_method(experiment, capsys):
    # By hand: the product would measure predictions.
    shutil.copy("results/main.settings.json", "results/efficiency.settings.json")
    costs = "backbone,method,regime,train_seconds\ndemo-t5,pt,full,8\ndemo-t5,ept,full,9\n"
    edit_table(Path("results/efficiency.csv"), costs)
    text = _trace(capsys, "results/efficiency.csv", "--method", "ept")
    assert text.splitlines()[0] == "results/efficiency.csv: ept full: backbone demo-t5, train_seconds 9"
    for pack in experiment.tables["main"]:
        assert (pack.hash in text) == (pack.method == "ept")
    alone = _trace(capsys, "results/efficiency.csv", "--method", "ept", "--task", "cb")
    assert _pack(experiment, "main", "ept", "cb").hash in alone
    assert _pack(experiment, "main", "ept", "rte").hash not in alone
    assert "has no task 'sst2'; it has rte, cb" in _refusal(
        capsys, "trace", "results/efficiency.csv", "--method", "ept", "--task", "sst2"
    )


def test_a_source_that_was_chosen_by_similarity_is_told(experiment, capsys):
    pack = _pack(experiment, "fewshot_k4", "ept", "cb", "source")
    record = json.loads((pack.folder / "runs.json").read_text())
    del record["source_losses"]
    write_record(pack, record | {"source_similarities": {"mnli": 0.75, "sst2": 0.5}})
    text = _trace(capsys, "results/fewshot_k4.csv", "--method", "ept", "--task", "cb", "--start", "source")
    assert "source: mnli (chosen by similarity: mnli 0.7500, sst2 0.5000)" in text


def test_every_start_is_shown_unless_one_is_named_and_an_average_shows_all_its_tasks(experiment, capsys):
    both = _trace(capsys, "results/fewshot_k4.csv", "--method", "ept", "--task", "average")
    hashes = {pack.hash for pack in experiment.tables["fewshot_k4"] if pack.method == "ept"}
    assert len(hashes) == 4 and all(hash_ in both for hash_ in hashes)
    glue = _trace(capsys, "results/fewshot_k4.csv", "--method", "ept", "--task", "average_glue", "--start", "scratch")
    assert [hash_ for hash_ in hashes if hash_ in glue] == [_pack(experiment, "fewshot_k4", "ept", "rte").hash]


def test_titles_are_taken_as_tables_print_them(experiment, capsys):
    names = ["--method", "ept", "--task", "cb", "--start", "source", "--metric", "accuracy"]
    titles = ["--method", "EPT from source", "--task", "CB acc."]
    assert _trace(capsys, "results/fewshot_k4.csv", *titles) == _trace(capsys, "results/fewshot_k4.csv", *names)
    average = _trace(capsys, "results/main.csv", "--method", "PT", "--task", "All")
    assert average == _trace(capsys, "results/main.csv", "--method", "pt", "--task", "average")


def test_a_source_that_was_left_out_and_the_commit_are_named(experiment, capsys):
    pack = _pack(experiment, "fewshot_k4", "ept", "cb", "source")
    edit_record(pack, diverged_sources=["sst2"], commit={"id": "0123456789abcdef", "clean": True}, source="mnli/sst2")
    text = _trace(capsys, "results/fewshot_k4.csv", "--method", "ept", "--task", "cb", "--start", "source")
    assert "diverged: sst2\n" in text and "0123456789ab" in text
    named = [line.split()[-1] for line in text.splitlines() if "source prompt:" in line]
    assert named == [str(candidate.source_prompt) for candidate in pack.candidates]


def test_files_alone_are_enough(experiment, capsys):
    Path("elsewhere").mkdir()
    for folder in ("results", "runs"):
        shutil.move(folder, f"elsewhere/{folder}")
    Path("config.yaml").unlink()
    text = _trace(capsys, "elsewhere/results/main.csv", "--method", "pt", "--task", "cb")
    assert f"elsewhere/{_pack(experiment, 'main', 'pt', 'cb').folder}/runs.json" in text


CASES = [
    ("results/main.md", ["--method", "ept", "--task", "rte"], "results/main.md"),
    ("results/none.csv", ["--method", "ept", "--task", "rte"], "snakemake results/none.csv"),
    ("alone.csv", ["--method", "ept", "--task", "rte"], "alone.settings.json is missing or damaged"),
    ("results/main.csv", ["--method", "dept", "--task", "rte"], "has no method 'dept'; it has pt, ept"),
    ("results/main.csv", ["--method", "ept", "--task", "sst2"], "has no task 'sst2'; it has rte, cb, average_glue"),
    ("results/main.csv", ["--method", "ept", "--task", "cb", "--metric", "f1"], "it has accuracy, macro_f1, average"),
    ("results/main.csv", ["--method", "ept", "--task", "cb", "--variant", "EPT"], "it has no such column"),
    ("results/main.csv", ["--method", "ept", "--task", "rte", "--regime", "k4"], "no regime 'k4'; it has full"),
    (
        "results/main.csv",
        ["--method", "ept", "--task", "rte", "--metric", "macro_f1"],
        "no row with all of these values",
    ),
]


@pytest.mark.parametrize(("path", "arguments", "words"), CASES, ids=[words for *_, words in CASES])
def test_what_cannot_be_traced_is_one_sentence(experiment, capsys, path, arguments, words):
    shutil.copy("results/main.csv", "alone.csv")
    assert words in _refusal(capsys, "trace", path, *arguments)


def test_a_table_of_differences_says_where_the_scores_are(experiment, capsys):
    write_table(experiment, "significance")
    error = _refusal(capsys, "trace", "results/significance.csv", "--method", "ept", "--task", "rte")
    assert "results/significance.csv" in error and "fewshot_k<k>.csv" in error


def test_a_table_whose_record_is_gone_or_of_other_settings_is_not_traced(experiment, capsys):
    pack = _pack(experiment, "main", "ept", "rte")
    record = json.loads((pack.folder / "runs.json").read_text())
    write_record(pack, record | {"hash": "deadbeef"})
    arguments = ["trace", "results/main.csv", "--method", "ept", "--task", "rte"]
    assert "deadbeef" in _refusal(capsys, *arguments)
    (pack.folder / "runs.json").unlink()
    assert f"{pack.folder}/runs.json" in _refusal(capsys, *arguments)


def test_the_summary_holds_what_the_tables_say_and_no_times(experiment):
    pack = _pack(experiment, "main", "pt", "rte")
    record = json.loads((pack.folder / "runs.json").read_text())
    record["runs"][1]["status"] = "diverged"
    write_record(pack, record)
    assert main(["summary", "--config", "config.yaml"]) == 0
    summary = json.loads(Path("results/summary.json").read_text())
    # Two seeds of two methods on two tasks; with four examples PT from one start, EPT from two.
    assert (summary["runs"], summary["diverged_runs"]) == (2 * 2 * 2 + 2 * 2 * 3, 1)
    assert set(summary["full"]) == {"pt", "ept", "majority_baseline"}
    assert set(summary["k4"]) == {"pt", "ept", "ept_from_source", "majority_baseline"}
    for table, regime in zip(TABLES, ("full", "k4"), strict=True):
        with open(f"results/{table}.csv", newline="") as file:
            for row in csv.DictReader(file):
                if row["metric"] == "average":
                    method = "ept_from_source" if (row["method"], row["source"]) == ("ept", "source") else row["method"]
                    found = summary[regime][method]
                    name = row["task"]
                    values = [found[name], found[f"{name}_ci_low"], found[f"{name}_ci_high"]]
                    assert values == [float(row[column]) for column in ("mean", "ci_low", "ci_high")]
                    assert found["trained_parameters"] == 1000 and found["stored_parameters"] == 900
                    assert summary[regime]["majority_baseline"][name] == 50.0
    assert "second" not in json.dumps(summary)
    headline = json.loads(Path("results/headline.json").read_text())
    assert (headline.pop("runs"), headline.pop("diverged_runs")) == (summary["runs"], 1)
    for regime, methods in headline.items():
        assert methods == {method: numbers["average"] for method, numbers in summary[regime].items()}


def test_the_summary_refuses_a_table_of_other_settings(experiment, capsys):
    Path("other.yaml").write_text(yaml.safe_dump(VALUES | {"seeds": [0, 1, 2]}))
    for pack in Experiment(parse_configuration(VALUES | {"seeds": [0, 1, 2]})).packs_behind("summary"):
        write_runs(pack, (100, 100))
    error = _refusal(capsys, "summary", "--config", "other.yaml")
    assert "results/main.csv" in error and "ept table --table main" in error
    assert not Path("results/summary.json").exists() and not Path("results/headline.json").exists()
