"""Every output of every rule says what it was made from: in its path, or in a settings file that a list watches."""

import re

from ept.config.configuration import load_configuration
from ept.demo.identity import GENERATOR_VERSION
from ept.files import digest
from ept.plan.experiment import Experiment

# A settings hash, or the declared identity of data or a backbone.
IDENTITY = re.compile(rf"/[0-9a-f]{{8}}(/|\.)|^data/raw/demo-v{GENERATOR_VERSION}-seed\d+/|-[0-9a-f]{{8}}$")


def jobs_of(text):
    """Rule, inputs and outputs of every job in what a dry run prints."""
    for block in re.split(r"\n(?=(?:local)?(?:rule|checkpoint) \w+:)", text):
        lines = dict(re.findall(r"^    (input|output): (.*)$", block, re.M))
        if "output" in lines:
            rule = re.search(r"rule (\w+):", block)[1]
            yield rule, lines.get("input", "").split(", "), lines["output"].split(", ")


def test_every_output_is_covered(workflow, project):
    config = project / "config/config.yaml"
    targets = ("all", "data", "experiments", "source_prompts", "results/zero_shot.csv", "results/comparison.csv")
    jobs = list(jobs_of(workflow.explained(*targets, config=config)))
    expected = {"fetch", "tokenize", "train", "train_source", "table", "summary", "zero_shot", "figures"}
    assert {rule for rule, _, _ in jobs} >= expected | {"report_pages", "source_prompts"}
    for rule, inputs, outputs in jobs:
        if all(IDENTITY.search(path) for path in outputs):
            continue
        assert [path for path in outputs if path.endswith("settings.json")], rule
        (watched,) = (path for path in inputs if path.startswith(".snakemake/ept/lists/"))
        assert (workflow.folder / watched).is_file()


def test_the_identity_of_a_backbone_is_covered(workflow, project):
    """Its file is named by the backbone's identity."""
    experiment = Experiment(load_configuration(project / "config/config.yaml"))
    text = workflow.explained("backbone_identity", config=project / "config/config.yaml")
    ((_, _, (path,)),) = jobs_of(text)
    assert path.endswith(f"-{digest(experiment.backbone_identity)}.txt")
