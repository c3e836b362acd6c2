"""The workflow in other hands: as a module of another one, below a prefix, and in a folder of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ept.config.configuration import load_configuration, parse_configuration
from ept.plan.experiment import Experiment
from workflow.ept_stand_in import install

VALUES = {"tasks": {"target": ["rte"]}, "methods": ["pt"], "few_shot": {"k": [4]}}
# `config["ept"]`: the other workflow has keys of its own.
SNAKEFILE = """
configfile: "mine.yaml"
module ept:
    snakefile: "{snakefile}"
    config: config["ept"]
{prefix}
use rule * from ept as ept_*
rule mine:
    default_target: True
    input: "{folder}results/main.csv"
"""
JOBS = {"ept_fetch": 1, "ept_tokenize": 1, "ept_train": 1, "ept_table": 1, "mine": 1}


def snakemake(folder, *arguments, programs=None):
    """Call Snakemake in a folder, without a profile; returns what it printed."""
    path = [*([str(programs)] if programs else []), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": os.pathsep.join(path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(folder):
    """Every file below a folder but those of Snakemake."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if ".snakemake" not in path.parts}


@pytest.mark.parametrize("below", ["", "analysis/ept's part/"])
def test_a_module_with_and_without_a_prefix(project, tmp_path, below):
    prefix = f'    prefix: "{below}"' if below else ""
    snakefile = SNAKEFILE.format(snakefile=project / "workflow/Snakefile", prefix=prefix, folder=below)
    (tmp_path / "Snakefile").write_text(snakefile)
    (tmp_path / "mine.yaml").write_text(json.dumps({"ept": VALUES, "other": 1}))
    before = files(tmp_path)
    planned = snakemake(tmp_path, "--dry-run", "--quiet", "rules")
    assert {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", planned, re.M) if name != "total"} == JOBS
    assert files(tmp_path) == before
    work = tmp_path / below
    programs = install(work, Experiment(parse_configuration(VALUES)))
    snakemake(tmp_path, programs=programs)
    made = files(work)
    assert {"results/main.csv", "logs/tables/results/main.log"} <= made
    assert any(path.startswith("runs/demo-t5/pt/rte/full/") for path in made)
    # Nothing but the other workflow's own files lies outside of the prefix.
    assert {path for path in files(tmp_path) if not path.startswith(below)} == before - files(work)
    calls = [json.loads(line) for line in (work / "calls.jsonl").read_text().splitlines()]
    assert [call[0] for call in calls] == ["fetch", "tokenize", "train", "table"]
    assert "Nothing to be done" in snakemake(tmp_path)


def test_another_folder_without_a_configuration_file(project, tmp_path):
    """`--directory`: the configuration next to the rules is used, and nothing is written but there."""
    before = files(tmp_path)
    target = tmp_path / "deep/folder"
    target.mkdir(parents=True)
    arguments = ("--snakefile", project / "workflow/Snakefile", "--directory", target, "--dry-run", "--quiet", "rules")
    text = snakemake(tmp_path, "results/main.csv", *arguments)
    assert re.search(r"^train +\d+$", text, re.M)
    assert files(tmp_path) == before


DEPLOYED = """
from snakemake.utils import min_version
min_version("6.10.0")
configfile: "config/config.yaml"
module ept:
    snakefile: "{snakefile}"
    config: config
use rule * from ept
"""


def test_a_deployment_as_snakedeploy_writes_it(project, tmp_path):
    """It copies `config`, writes workflow/Snakefile, and Snakemake is called in that folder."""
    catalog = yaml.safe_load((project / ".snakemake-workflow-catalog.yml").read_text())
    assert not any(catalog["usage"]["software-stack-deployment"].values())
    shutil.copytree(project / "config", tmp_path / "config")
    (tmp_path / "workflow").mkdir()
    snakefile = DEPLOYED.format(snakefile=project / "workflow/Snakefile")
    (tmp_path / "workflow/Snakefile").write_text(snakefile)
    before = files(tmp_path)
    text = snakemake(tmp_path, "all", "--dry-run", "--quiet", "rules")
    packs = Experiment(load_configuration(project / "config/config.yaml")).packs
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.M)}
    assert counts["train"] + counts["train_source"] == len(packs)
    assert files(tmp_path) == before
