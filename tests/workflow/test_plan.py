"""What the workflow plans, before anything is trained."""

import subprocess
import sys

import yaml

PAPER_TARGETS = 13
# Fine-tuning, Adapter, AdapterDrop, BitFit, LoRA, LST.
INSIDE_BACKBONE = 6
# Tasks of the paper's ablations, and their variants beside EPT itself that are trainings of their own: three parts left
# out (one of them also N = 1), N = 2, 6, 8, s = 20, 40, 80, a matched budget, and four other readings.
ABLATED, VARIANTS = 9, 3 + 3 + 3 + 1 + 4


def test_paper_configuration_shows_the_full_grid_without_downloading(workflow, project):
    # pt, dept, ept and what trains inside the backbone from scratch, and spot from a source on full data
    full = (4 + INSIDE_BACKBONE) * PAPER_TARGETS
    # the same, but dept and ept from both, for three k
    few_shot = 3 * (1 + 1 + 2 + 2 + INSIDE_BACKBONE) * PAPER_TARGETS
    planned = workflow.planned("all", config=project / "config/paper.yaml")
    assert planned["train"] == full + few_shot + ABLATED * VARIANTS
    assert planned["train_source"] == 3 * 5
    assert planned["fetch"] == planned["tokenize"] == 15
    assert planned["download_backbone"] == 1
    # main, three k, ablation, comparison
    assert planned["table"] == 6
    assert not (workflow.folder / "data").exists()


def test_one_few_shot_table_trains_no_other_k(workflow, project):
    text = workflow.run("results/fewshot_k16.csv", "--dry-run", config=project / "config/config.yaml")
    assert "/k16/" in text
    assert not any(f"/{regime}/" in text for regime in ("k4", "k32", "full"))


def test_the_table_of_ablations_trains_each_variant_once(workflow, project):
    planned = workflow.planned("results/demo_full/ablation.csv", config=project / "config/demo_full.yaml")
    assert planned["train"] == 4 * (1 + VARIANTS)
    assert planned["table"] == 1 and "train_source" not in planned


def test_the_comparison_needs_full_data_alone_and_is_no_default_of_the_demonstration(workflow, project):
    config = project / "config/config.yaml"
    assert workflow.planned("results/comparison.csv", config=config)["train"] == 3 * 4
    assert "comparison.csv" not in workflow.run("all", "--dry-run", config=config)


def test_every_shipped_configuration_resolves_the_same_alone_and_through_snakemake(workflow, project):
    from ept.config import load_configuration

    for name in ("config.yaml", "demo_full.yaml", "paper.yaml"):
        config = load_configuration(project / "config" / name)
        workflow.run("all", "--dry-run", "--quiet", "all", config=project / "config" / name)
        written = list((workflow.folder / config.output / "configurations").glob("*.yaml"))
        assert [yaml.safe_load(path.read_text()) for path in written] == [config.model_dump(mode="json")]


def test_a_mistake_in_the_configuration_is_one_sentence(workflow):
    path = workflow.configure({"tasks": {"target": ["rtee"]}})
    text = workflow.run("all", "--dry-run", config=path, check=False)
    assert "rtee" in text and "tasks.target" in text
    assert "Traceback" not in text


def test_lint_and_format_are_clean(project):
    for command in (["snakemake", "--lint"], ["snakefmt", "--check", "Snakefile", "workflow"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_is_clean(project):
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "src", "tests"], cwd=project, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
