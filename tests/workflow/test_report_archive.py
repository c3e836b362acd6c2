"""The whole of `all` and `snakemake --report` on a small configuration: what the unpacked report holds."""

import json
import re
import zipfile

import pytest

from ept.results.tables.registry import caption_of

pytestmark = pytest.mark.long

TRAINING = {
    "batch_size": 4,
    "steps": 4,
    "warmup_steps": 1,
    "evaluate_every": 2,
    "validation_rows": 8,
    "learning_rates": {"pt": {"prompt": [0.3]}, "ept": {"prompt": [0.3], "low_rank": [0.005]}},
}
CONFIGURATION = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["cb"], "source": ["sst2"]},
    "methods": ["pt", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    "training": TRAINING,
    "few_shot": {**TRAINING, "k": [4], "initialize_from": ["scratch", "source"]},
}
SHOWN = {"few_shot", "gates", "fusion", "validation"}


@pytest.fixture(scope="module")
def finished(shared_workflow):
    """The workflow after a complete run, and the configuration that made it."""
    config = shared_workflow.configure(CONFIGURATION)
    shared_workflow.run("all", config=config)
    return shared_workflow, config


@pytest.fixture(scope="module")
def unpacked(finished):
    """The folder of the unpacked report."""
    workflow, config = finished
    workflow.run("--report", "report.zip", config=config)
    with zipfile.ZipFile(workflow.folder / "report.zip") as archive:
        archive.extractall(workflow.folder / "unpacked")
    return workflow.folder / "unpacked/report"


@pytest.fixture(scope="module")
def shown(unpacked):
    """What the report shows: path of a result -> its name, labels, caption and place in the archive."""
    page = (unpacked / "report.html").read_text()
    return json.loads(re.search(r"var results = (\{.*?\});\n", page, re.DOTALL).group(1))


def test_figures_and_tables_stand_in_it_with_labels_and_captions(unpacked, shown):
    figures = {path: entry for path, entry in shown.items() if "/figures/" in path}
    assert set(figures) == {f"results/figures/{name}.{form}" for name in SHOWN for form in ("html", "svg")}
    curves = figures["results/figures/few_shot.svg"]
    # The report sorts by labels.
    assert curves["labels"] == {"figure": "01. Few-shot curves", "form": "vector graphics"}
    numbered = {entry["labels"]["table"] for path, entry in shown.items() if "table" in entry["labels"]}
    assert {"1. All training data", "2. 4 training examples"} <= numbered
    assert curves["job_properties"]["rule"] == "figures"
    assert "Backbone: demo-t5" in curves["caption"] and "Tasks: " not in curves["caption"]
    assert "Task: CB; seeds: 0, 1." in curves["caption"]
    tables = {path for path, entry in shown.items() if entry["labels"].get("form") == "as printed"}
    assert {"results/main.html", "results/fewshot_k4.html", "results/significance.html"} <= tables
    for table in ("main", "significance"):
        assert caption_of(table) in shown[f"results/{table}.html"]["caption"]
    for entry in shown.values():
        assert (unpacked / entry["data_uri"]).stat().st_size > 0


def test_scores_link_to_their_runs_within_the_archive(unpacked, shown):
    index = unpacked / shown["results/report/runs/index.html"]["data_uri"]
    links = set(re.findall(r'href="([^"]+)"', index.read_text()))
    # PT and EPT with all data, and with four examples from scratch, and EPT from a source prompt.
    assert len(links) == 5
    assert all("<h2>Predictions" in (index.parent / link).read_text() for link in links)


def test_the_landing_page_says_what_was_run_and_left_out(unpacked):
    page = (unpacked / "report.html").read_text()
    landing = json.loads(re.search(r"var workflow_desc = (\".*?\");\n", page, re.DOTALL).group(1))
    assert "It is a demonstration, not science" in landing and "Methods: PT, EPT" in landing
    assert "Ablation of EPT" in landing and "system-message" not in landing
    # It opens with the main table and the few-shot picture.
    assert landing.count("<table>") == 1 and landing.index("<svg") < landing.index("It is a demonstration")


def test_the_costs_are_those_of_every_job(unpacked, shown):
    page = (unpacked / shown["results/report/costs.html"]["data_uri"]).read_text()
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    jobs = {row[0]: row[1:3] for row in rows if row}
    # Both methods with all data, with four examples from scratch, and EPT from a source prompt.
    assert jobs["train"] == ["5", "5"] and jobs["train_source"] == ["1", "1"]
    assert jobs["fetch"] == jobs["tokenize"] == ["2", "2"] and jobs["figures"] == ["1", "1"]
    assert all(asked == measured for rule, (asked, measured) in jobs.items() if rule != "<strong>total</strong>")


def test_nothing_is_loaded_from_elsewhere(unpacked):
    for path in unpacked.rglob("*.html"):
        assert not re.search(r"<(script|img|iframe|link)[^>]+(src|href)=[\"']?(https?:)?//", path.read_text()), path


def test_figures_of_another_configuration_are_made_again(finished):
    workflow, config = finished
    figures = workflow.folder / "results/figures"
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    other = workflow.configure({**CONFIGURATION, "few_shot": {"k": [], "initialize_from": ["scratch"]}}, "other.yaml")
    assert workflow.planned("all", config=other)["figures"] == 1
    workflow.run("all", config=other)
    assert not (figures / "few_shot.svg").exists()
    workflow.run("all", config=config)
    after = {path.name: path.read_bytes() for path in figures.iterdir()}
    changing = ("training_time", "settings")
    assert {name for name in before if before[name] != after[name]} <= {
        name for name in before if name.startswith(changing)
    }
    assert "Nothing to be done" in workflow.run("all", config=config)
