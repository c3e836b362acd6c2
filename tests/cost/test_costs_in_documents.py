"""The numbers in docs/costs.md, docs/cluster.md and docs/backbones.md are those that the code gives today."""

import json
import math
import shutil

import pytest

from data.task_rows import write_local
from ept.config.configuration import load_configuration
from ept.cost.estimate import LABEL_PIECES, backbone_shape
from ept.cost.hardware import GIB, GPUS
from ept.cost.plan import plan_text, priced
from ept.cost.resources import JobResources
from ept.demo.identity import BACKBONE_FOLDER
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS

(A100,) = [gpu for gpu in GPUS if gpu.name == "A100"]

# Of its config.json, what sizes depend on.
SMOLLM2 = dict(model_type="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30)
SMOLLM2 |= dict(num_attention_heads=9, num_key_value_heads=3, head_dim=64, tie_word_embeddings=True)


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


def test_what_smollm2_takes_on_a_gpu(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for task in ("sst2", "rte", "cb", "mnli"):
        write_local(tmp_path / "local/data", TASKS[task])
    shutil.copytree(BACKBONE_FOLDER, tmp_path / "local/smollm2")
    (tmp_path / "local/smollm2/config.json").write_text(json.dumps(SMOLLM2))
    plan = experiment(project, "smollm2_gpu")
    packs = priced(plan, backbone_shape(plan), gpu=True)
    text = " ".join((project / "docs/backbones.md").read_text().split())
    hours = {
        gpu.name: [
            sum(found.cost.hours(gpu) for found in packs if belongs(found.pack))
            for belongs in (lambda pack: pack.regime == "source", lambda pack: pack.k is not None)
        ]
        for gpu in GPUS
    }
    (source, few_shot), (slower_source, slower_few_shot) = hours["A100"], hours["RTX4090"]
    assert (
        f"one A100 takes {source:.1f} hours for the source prompts of MNLI and {few_shot:.1f} for the few-shot" in text
    )
    assert f"one RTX 4090 {slower_source:.1f} and {slower_few_shot:.1f}, with 30 % of the published peak" in text


def test_what_dequantizing_takes(project):
    """Half a byte read and two written for a weight, forward and backward."""
    (rate,) = [gpu.rate("bfloat16") for gpu in GPUS if gpu.name == "H100"]
    seconds, shares = 2.5 / 3.35e12, []
    for name in ("llama2-7b", "t5-3b"):
        shape = backbone_shape(experiment(project, name))
        a_pass = shape.training_flops(16, 132, LABEL_PIECES, 16 * LABEL_PIECES) / rate
        shares.append(2 * shape.linear_parameters * seconds / a_pass)
    text = " ".join((project / "docs/costs.md").read_text().split())
    assert f"of each of {seconds * rate / 2:.0f} positions at the assumed rate" in text
    assert f"adds {100 * shares[0]:.0f} % on Llama-2-7B and {100 * shares[1]:.0f} % on T5-3B" in text


@pytest.mark.parametrize("name", ["t5-v1_1-base", "t5-3b", "t5-11b", "llama2-7b"])
def test_configurations_of_large_backbones_are_complete(project, name):
    plan = experiment(project, name)
    backbone, resources = plan.config.backbone, JobResources(plan)
    assert backbone.source == "hub" and len(backbone.revision) == 40
    assert backbone.quantization == ("none" if name == "t5-v1_1-base" else "nf4")
    assert (resources.gpus, plan.config.output) == (1, f"results/{name}")
    assert backbone_shape(plan) is not None
