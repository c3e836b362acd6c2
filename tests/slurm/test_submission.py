"""What profiles/slurm asks SLURM for, read from the words that a stub `sbatch` was called with."""

import os
import re

import pytest
import yaml

from ept.config.configuration import load_configuration
from ept.plan import paths
from ept.plan.experiment import Experiment

TARGETS = {
    "tasks": {"target": ["cb"]},
    "methods": ["pt"],
    "few_shot": {"k": [4], "initialize_from": ["scratch"]},
}

# `efficiency` measures predictions.
ON_GPUS = ("train", "table efficiency", "zero_shot")

# Keeps its words and fails, so that Snakemake ends when all that is ready was submitted.
SBATCH = """\
#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done > "$(mktemp submitted.XXXXXX)"
exit 1
"""
# The plugin asks these for the state of jobs, the default partition, MinJobAge and the user's accounts.
OTHERS = {"squeue": "", "sacct": "", "sinfo": "main*", "scontrol": "MinJobAge = 300 sec", "sacctmgr": "my_account"}


class Submission:
    """Jobs submitted by profiles/slurm whose inputs are there.

    Few-shot training, a fetch, tables of full-data results, and a job that asks for nothing itself.
    """

    def __init__(self, workflow, values):
        self.workflow = workflow
        self.config = workflow.configure({**values, **TARGETS, "ablation": {}, "transfer": {}})
        experiment = Experiment(load_configuration(self.config))
        full, few = (experiment.pack("pt", "cb", regime, "scratch") for regime in ("full", "k4"))
        tables = [str(paths.table_file(experiment.config.output, name)) for name in ("main", "efficiency", "zero_shot")]
        self.targets = (str(few.folder / "runs.json"), str(experiment.raw_folder("rte")), *tables)
        self._pretend(experiment.raw_folder("cb") / "train.parquet")
        for path in experiment.backbone_files + experiment.tokenizer_files:
            if not path.is_absolute():
                self._pretend(path)
        for split in ("train", "validation", "test"):
            self._pretend(few.token_folders[0] / f"{split}.arrow")
        for path in full.files:
            self._pretend(path)

    def _pretend(self, path):
        """Make an empty file, for Snakemake to find."""
        (self.workflow.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.workflow.folder / path).touch()

    def options(self, profile="slurm") -> dict[str, str]:
        """What sbatch was called with, by rule; `table` with the table's name."""
        snakemake = self.workflow.start(*self.targets, "--retries", "0", config=self.config, profile=profile)
        said = snakemake.communicate()[0]
        found = {}
        for path in self.workflow.folder.glob("submitted.*"):
            words = path.read_text().split("\0")
            comment = words[words.index("--comment") + 1]
            rule, values = re.fullmatch(r"rule_([a-z_]+?)(?:_wildcards_(.*))?", comment).groups()
            found[f"table {values}" if rule == "table" else rule] = " ".join(
                word for word in words if not word.startswith("--wrap")
            )
        assert set(found) == {"fetch", "table main", *ON_GPUS}, said
        return found


@pytest.fixture
def workflow(workflow, monkeypatch):
    """A folder in which SLURM is a few stubs."""
    programs = workflow.folder / "bin"
    programs.mkdir()
    others = {name: f"#!/bin/sh\necho '{answer}'\n" for name, answer in OTHERS.items()}
    for name, text in {"sbatch": SBATCH, **others}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return workflow


@pytest.fixture
def paper(project):
    """The values of the paper's configuration, whose backbone needs a GPU."""
    return yaml.safe_load((project / "config/paper.yaml").read_text())


def test_a_training_gets_one_gpu_and_what_needs_none_gets_none(workflow, paper):
    jobs = Submission(workflow, paper).options()
    for name in ON_GPUS:
        assert re.findall(r"--gpus\S*", jobs[name]) == ["--gpus=1"]
    assert not any("--gpu" in words for name, words in jobs.items() if name not in ON_GPUS)
    for words in jobs.values():
        assert re.search(r"--mem \d{4,} ", words) and re.search(r"-t \d+ ", words)
        assert "--requeue" in words and "--signal=TERM@120" in words


def test_a_training_on_cpus_asks_for_no_gpu(workflow):
    jobs = Submission(workflow, {}).options()
    assert not any("--gpu" in words for words in jobs.values())
    assert "--cpus-per-task=1" in jobs["train"]


@pytest.fixture
def filled_in(workflow, project):
    """profiles/slurm after what docs/cluster.md tells a site to do."""
    text = (project / "profiles/slurm/profile.yaml").read_text()
    profile = workflow.folder / "profile"
    profile.mkdir()
    keys = "slurm_partition|slurm_account|gpu_model|set-resources|train|train_source|zero_shot|table"
    (profile / "profile.yaml").write_text(re.sub(rf"# (?= *({keys}):)", "", text))
    return profile


def test_a_site_fills_in_partitions_account_and_gpu_model(workflow, paper, filled_in):
    jobs = Submission(workflow, paper).options(filled_in)
    for name, words in jobs.items():
        assert ("--gpus=a100:1 " in words, "-p gpu " in words) == (name in ON_GPUS, name in ON_GPUS)
        assert ("--gpu" not in words, "-p cpu " in words) == (name not in ON_GPUS, name not in ON_GPUS)
    assert all("-A my_account" in words for words in jobs.values())


@pytest.mark.long
def test_a_training_on_cpus_asks_for_no_gpu_of_the_model_either(workflow, filled_in):
    """The plugin names the model to SLURM all the same; test_same_tables.py has SLURM's answer."""
    jobs = Submission(workflow, {}).options(filled_in)
    for name, words in jobs.items():
        assert re.findall(r"--gpus=\S*", words) == (["--gpus=a100:0"] if name in ON_GPUS else [])
