"""What the workflow plans, before anything is trained."""

import subprocess
import sys

import yaml

PAPER_TARGETS = 13


def test_paper_configuration_shows_the_full_grid_without_downloading(workflow, project):
    # pt, dept, ept from scratch and spot from a source on full data
    full = 4 * PAPER_TARGETS
    # pt from scratch, spot from a source, dept and ept from both, for three k
    few_shot = 3 * (1 + 1 + 2 + 2) * PAPER_TARGETS
    planned = workflow.planned("all", config=project / "config/paper.yaml")
    assert planned["train"] == full + few_shot
    assert planned["train_source"] == 3 * 5
    assert planned["fetch"] == planned["tokenize"] == 15
    assert planned["download_backbone"] == 1
    assert planned["table"] == 4
    assert not (workflow.folder / "data").exists()


def test_one_few_shot_table_trains_no_other_k(workflow, project):
    text = workflow.run("results/fewshot_k16.csv", "--dry-run", config=project / "config/config.yaml")
    assert "/k16/" in text
    assert not any(f"/{regime}/" in text for regime in ("k4", "k32", "full"))


def test_every_shipped_configuration_resolves_the_same_alone_and_through_snakemake(workflow, project):
    from ept.config import load_configuration

    for name in ("config.yaml", "paper.yaml"):
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
