"""The shipped configurations of large backbones."""

import pytest

from ept.config.configuration import load_configuration
from ept.cost.estimate import backbone_shape
from ept.cost.resources import JobResources
from ept.plan.experiment import Experiment


@pytest.mark.parametrize("name", ["t5-v1_1-base", "t5-3b", "t5-11b", "llama2-7b"])
def test_configurations_of_large_backbones_are_complete(project, name):
    plan = Experiment(load_configuration(project / "config" / f"{name}.yaml"))
    backbone, resources = plan.config.backbone, JobResources(plan)
    assert backbone.source == "hub" and len(backbone.revision) == 40
    assert backbone.quantization == ("none" if name == "t5-v1_1-base" else "nf4")
    assert (resources.gpus, plan.config.output) == (1, f"results/{name}")
    assert backbone_shape(plan) is not None
