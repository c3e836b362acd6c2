"""The numbers in docs/costs.md and docs/cluster.md are those that the code gives today."""

import math

import pytest

from ept.config import load_configuration
from ept.cost.estimate import backbone_shape
from ept.cost.hardware import GIB, GPUS
from ept.cost.plan import plan_text, priced
from ept.cost.resources import JobResources
from ept.experiment import Experiment

(A100,) = [gpu for gpu in GPUS if gpu.name == "A100"]


def experiment(project, name):
    return Experiment(load_configuration(project / "config" / f"{name}.yaml"))


def row(project, name):
    """A line of the table in docs/cluster.md; the last number: the times that a day must be had for the longest job."""
    plan = experiment(project, name)
    packs = priced(plan, backbone_shape(plan), gpu=True)
    memory = max(JobResources(plan).memory_mb(pack) for pack in plan.packs) / 1000
    hours = [
        sum(found.cost.hours(A100) for found in packs if belongs(found.pack))
        for belongs in (
            lambda pack: pack.regime == "source",
            lambda pack: pack.regime == "full",
            lambda pack: pack.k is not None,
        )
    ]
    sizes = [max(getattr(found.cost, name) for found in packs) / GIB for name in ("least_bytes", "batch_bytes")]
    longest = max(found.cost.hours(A100) for found in packs)
    cells = [f"`{name}.yaml`", f"{len(packs):,}", *(f"{size:.1f}" for size in sizes), f"{memory:g}"]
    cells += [*(f"{time:,.0f}" for time in hours), f"{longest:,.0f}", f"{math.ceil(longest / 24)}"]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.long) for name in ("paper", "t5-v1_1-base")),
        *("t5-3b", "t5-11b", "llama2-7b"),
    ],
)
def test_what_the_paper_run_takes(project, name, tmp_path, monkeypatch):
    text = (project / "docs/cluster.md").read_text()
    monkeypatch.chdir(tmp_path)
    assert row(project, name) in text.splitlines()


def test_the_example_is_what_the_command_prints(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan_text(experiment(project, "t5-3b")) in (project / "docs/costs.md").read_text()


@pytest.mark.parametrize("name", ["t5-v1_1-base", "t5-3b", "t5-11b", "llama2-7b"])
def test_configurations_of_large_backbones_are_complete(project, name):
    plan = experiment(project, name)
    backbone, resources = plan.config.backbone, JobResources(plan)
    assert backbone.source == "hub" and len(backbone.revision) == 40
    assert backbone.quantization == ("none" if name == "t5-v1_1-base" else "nf4")
    assert (resources.gpus, plan.config.output) == (1, f"results/{name}")
    assert backbone_shape(plan) is not None
