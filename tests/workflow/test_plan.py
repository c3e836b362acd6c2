"""What the workflow plans, before anything is trained."""

import re
import shutil

import pytest

from data.task_rows import write_local
from ept.config.configuration import load_configuration
from ept.demo.identity import BACKBONE_FOLDER
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS

PAPER_TARGETS = 13
# Fine-tuning, Adapter, AdapterDrop, BitFit, LoRA, LST.
INSIDE_BACKBONE = 6
# Tasks of the paper's ablations, and their variants beside EPT itself that are trainings of their own: three parts left
# out (one of them also N = 1), N = 2, 6, 8, s = 20, 40, 80, a matched budget, and nine other readings.
ABLATED, VARIANTS = 9, 3 + 3 + 3 + 1 + 9


def test_paper_configuration_shows_the_full_grid_without_downloading(workflow, project):
    # all methods on full data: spot, attempt and mpt from sources, the others from scratch
    full = 7 * PAPER_TARGETS
    # the same, but dept, ept and EPT (matched) from both, for three k
    few_shot = 3 * (1 + 3 + 2 + 2 + 2) * PAPER_TARGETS
    # SPoT, DePT and EPT with k = 16 from each of five sources, three of which are targets too; and DePT and EPT on full
    # data from the chosen source, from which the other three start anyway
    transfer = 3 * (5 * PAPER_TARGETS - 3) + 2 * PAPER_TARGETS
    planned = workflow.planned("all", config=project / "config/paper.yaml")
    assert planned["train"] == full + few_shot + ABLATED * VARIANTS + transfer
    assert planned["train_weights"] == (1 + 3) * INSIDE_BACKBONE * PAPER_TARGETS
    # pt, dept, ept and EPT (matched) on each source; mpt from all five, and without mnli, qqp or sst2, also targets
    assert planned["train_source"] == 4 * 5 + 4
    assert planned["fetch"] == planned["tokenize"] == 15
    assert planned["download_backbone"] == 1
    # main, three k, significance, efficiency, gains of transfer, its matrix, ablation, learning rates, comparison
    assert planned["table"] == 11
    assert planned["figures"] == planned["report_pages"] == 1
    assert not tree(workflow.folder)


def test_sources_that_are_used_together_are_trained_before(workflow):
    values = {
        "tasks": {"target": ["sst2", "cb"], "source": ["mnli", "sst2", "qqp"]},
        "methods": ["attempt", "mpt"],
        "few_shot": {"k": [4]},
    }
    planned = workflow.planned("all", config=workflow.configure(values))
    # PT on three source tasks, and MPT's source training with and without sst2
    assert planned["train_source"] == 3 + 2
    assert planned["train"] == 2 * 2 * 2
    assert planned["fetch"] == planned["tokenize"] == 4


def test_one_few_shot_table_trains_no_other_k(workflow, project):
    text = workflow.explained("results/fewshot_k16.csv", config=project / "config/config.yaml")
    assert "/k16/" in text
    assert not any(f"/{regime}/" in text for regime in ("k4", "k32", "full"))


def test_the_table_without_prompts_trains_nothing(workflow, project):
    planned = workflow.planned("results/zero_shot.csv", config=project / "config/config.yaml")
    assert planned == {"fetch": 4, "tokenize": 4, "zero_shot": 1}


def test_the_table_of_ablations_trains_each_variant_once(workflow, project):
    planned = workflow.planned("results/demo_full/ablation.csv", config=project / "config/demo_full.yaml")
    assert planned["train"] == 4 * (1 + VARIANTS)
    assert planned["table"] == 1 and "train_source" not in planned


def test_the_comparison_needs_full_data_alone_and_is_no_default_of_the_demonstration(workflow, project):
    config = project / "config/config.yaml"
    assert workflow.planned("results/comparison.csv", config=config)["train"] == 4 * 4
    assert "comparison.csv" not in workflow.explained("all", config=config)


def test_every_shipped_configuration_resolves_the_same_alone_and_through_snakemake(workflow, project, monkeypatch):
    # config/local.yaml, smollm2.yaml and smollm2_gpu.yaml name these folders.
    for task in TASKS.values():
        write_local(workflow.folder / "local/data", task)
    for name in ("backbone", "smollm2"):
        shutil.copytree(BACKBONE_FOLDER, workflow.folder / "local" / name)
    monkeypatch.chdir(workflow.folder)
    # One configuration waits for its backbone's revision.
    shipped = [path for path in sorted((project / "config").glob("*.yaml")) if 'revision: ""' not in path.read_text()]
    assert len(shipped) >= 3
    before = tree(workflow.folder)
    for path in shipped:
        config = load_configuration(path)
        workflow.run("all", "--dry-run", "--quiet", "all", config=path)
        (written,) = paths.job_configurations_folder().glob("*.yaml")
        assert load_configuration(written) == config
        experiment = Experiment(config)
        for table in (*experiment.tables, "summary"):
            listed = paths.table_list_file(config.output, table).read_text().split()
            assert listed == [str(pack.folder) for pack in experiment.packs_behind(table)]
        shutil.rmtree(".snakemake/ept")
    assert tree(workflow.folder) == before


def tree(folder):
    """Every path in a folder but those of Snakemake."""
    return {path for path in folder.rglob("*") if ".snakemake" not in path.parts}


def test_without_a_configuration_file_the_default_is_used_and_nothing_is_merged_under_another(workflow, project):
    with_default = workflow.planned("all", config=project / "config/config.yaml")
    assert workflow.planned("all", config=None) == with_default
    # One in the folder itself comes before the one next to the rules.
    (workflow.folder / "config").mkdir()
    shutil.copy(project / "config/demo_full.yaml", workflow.folder / "config/config.yaml")
    assert workflow.planned("all", config=None)["train"] > with_default["train"]
    # One method on one task, no source: were this merged over the default, sources and few-shot tables would be there.
    small = workflow.configure({"tasks": {"target": ["rte"]}, "methods": ["pt"], "few_shot": {"k": [4]}})
    # main, k = 4, efficiency, learning rates
    assert workflow.planned("tables", config=small) == {"fetch": 1, "tokenize": 1, "train": 2, "table": 4, "tables": 1}


def test_a_mistake_in_the_configuration_is_one_sentence(workflow):
    path = workflow.configure({"tasks": {"target": ["rtee"]}})
    text = workflow.run("all", "--dry-run", config=path, check=False)
    assert "rtee" in text and "tasks.target" in text
    assert "Traceback" not in text
    path.write_text("tasks: {target: [rte]}\nmethods: [pt]\nmethods: [dept]\n")
    text = workflow.run("all", "--dry-run", config=path, check=False)
    assert re.search("test.yaml.*line 3.*methods", text)
    assert "Traceback" not in text


def test_a_table_that_the_configuration_does_not_have_is_one_sentence(workflow):
    config = workflow.configure({"tasks": {"target": ["cb"]}, "methods": ["pt"], "few_shot": {"k": [4]}})
    for path, said in {
        "results/nonsense.csv": ".*nonsense.*main, fewshot_k4, ",
        "results/ablation.md": ".*table ablation .*ablation.tasks",
    }.items():
        process = workflow.start("results/main.csv", path, config=config)
        text = process.communicate()[0]
        assert process.returncode == 1 and re.search(f"^error: {said}", text, re.M), text
        assert "Traceback" not in text and "Exception" not in text
    # Nothing is left locked.
    assert workflow.planned("results/main.csv", config=config)["table"] == 1


@pytest.mark.parametrize("content", [b"another configuration's\n", b"\xff\xfe", None])
def test_a_list_of_anything_else_is_replaced(workflow, content):
    config = workflow.configure({"tasks": {"target": ["cb"]}, "methods": ["pt", "bitfit"], "few_shot": {"k": [4]}})
    path = workflow.folder / paths.table_list_file("results", "main")
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    assert workflow.planned("results/main.csv", "results/fewshot_k4.csv", config=config)["table"] == 2
    assert path.read_text().count("runs/") == 2
