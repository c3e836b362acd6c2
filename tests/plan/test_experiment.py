"""Which packs a configuration asks for: sources are never the target, whatever the method."""

import pytest

from ept.config.configuration import load_configuration, parse_configuration
from ept.config.sections import BackboneSettings, DataSettings
from ept.config.settings import MULTITASK, SOURCE, PromptSettings
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment

# Every method's budget fits the demonstration's backbone.
PROMPT = PromptSettings(length=24, short_length=10, reference_length=64)
TRANSFERRED = [name for name, method in METHODS.items() if method.start != "never"]
TOGETHER = [name for name, method in METHODS.items() if method.start_from != "best"]


def shipped(project):
    # One configuration waits for its backbone's revision.
    return [path for path in sorted((project / "config").glob("*.yaml")) if 'revision: ""' not in path.read_text()]


def sources_of(pack):
    """Every task whose prompts or data reached this pack through its start, however far back."""
    found = set()
    for candidate in pack.candidates:
        found |= {candidate.task} | sources_of(candidate)
    return found - {MULTITASK}


def test_a_target_is_never_among_its_sources_in_any_shipped_configuration(project):
    assert len(shipped(project)) >= 3
    for path in shipped(project):
        # The same plan, over a backbone and data that are there.
        small = {"backbone": BackboneSettings(), "data": DataSettings(), "prompt": PROMPT}
        config = load_configuration(path).model_copy(update=small)
        experiment = Experiment(config)
        for method in TRANSFERRED:
            for regime in ("full", *(f"k{k}" for k in config.few_shot.k)):
                for target in config.tasks.target:
                    found = sources_of(experiment.pack(method, target, regime, "source"))
                    assert found == set(config.tasks.source) - {target}, (path.name, method, target)


def experiment(**tasks):
    return Experiment(parse_configuration({"tasks": tasks, "methods": ["attempt", "mpt"], "few_shot": {"k": [4]}}))


def test_one_source_training_of_mpt_for_each_set_of_sources():
    plan = experiment(target=["rte", "cb", "mnli", "sst2"], source=["mnli", "sst2"])
    distilled = [pack for pack in plan.packs if pack.task == MULTITASK]
    assert [pack.title for pack in distilled] == ["mnli+sst2", "sst2", "mnli"]
    assert {(pack.method, pack.regime, pack.seeds) for pack in distilled} == {("mpt", SOURCE, (0,))}
    teachers = {teacher.hash for pack in distilled for teacher in pack.candidates}
    assert teachers == {plan.source_pack("mpt", task).hash for task in ("mnli", "sst2")}
    assert [plan.find(pack.hash) for pack in distilled] == distilled
    # Teachers come before what is distilled from them, and that before what starts from it.
    order = {pack.hash: place for place, pack in enumerate(plan.packs)}
    assert all(order[candidate.hash] < order[pack.hash] for pack in plan.packs for candidate in pack.candidates)
    assert plan.tasks == ["mnli", "sst2", "rte", "cb"]


def test_a_named_source_is_for_methods_that_start_from_one():
    values = {"tasks": {"target": ["rte"], "source": ["mnli", "sst2"]}, "methods": ["spot", *TOGETHER]}
    plan = Experiment(parse_configuration(values | {"few_shot": {"source": "sst2"}}))
    for method in ("spot", *TOGETHER):
        expected = {"sst2"} if method == "spot" else {"mnli", "sst2"}
        assert sources_of(plan.pack(method, "rte", "k4", "source")) == expected


def test_what_source_training_depends_on_is_in_its_hash():
    values = {"tasks": {"target": ["rte"], "source": ["mnli", "sst2"]}, "methods": ["mpt"]}

    def hashes(**changes):
        pack = Experiment(parse_configuration(values | changes)).pack("mpt", "rte", "full", "source")
        return pack.candidates[0].hash, pack.hash

    plain = hashes()
    for changes in (
        {"mpt": {"distillation_weight": 0.5}},
        {"source_training": {"learning_rates": {"mpt": {"prompt": [0.1], "task": [0.1]}}}},
        {"source_training": {"learning_rates": {"pt": {"prompt": [0.1]}}}},
        {"data": {"source_length": {"mnli": 20}}},
    ):
        assert not set(hashes(**changes)) & set(plain), changes


@pytest.mark.parametrize("method", TRANSFERRED)
def test_no_source_but_the_target_is_one_sentence(method):
    plan = Experiment(parse_configuration({"tasks": {"target": ["rte"], "source": ["sst2"]}, "methods": ["pt"]}))
    with pytest.raises(InputError, match=f"no task other than sst2; add a source task to start {method} from"):
        plan.pack(method, "sst2", "full", "source")
    if METHODS[method].start == "always":
        with pytest.raises(InputError, match=f"{method} always starts from a source prompt"):
            plan.pack(method, "rte", "full", "scratch")


def test_the_hash_knows_the_quantization_and_is_as_before_without_it():
    def hashes(**backbone):
        plan = Experiment(parse_configuration({"tasks": {"target": ["rte"]}, "methods": ["pt"], "backbone": backbone}))
        return [plan.pack("pt", "rte", "full", "scratch").hash, plan.tokenized_folder("rte").name]

    plain = hashes()
    assert hashes(quantization="none") == hashes(gradient_checkpointing=True) == plain
    assert len({plain[0], hashes(quantization="nf4")[0], hashes(quantization="int8")[0]}) == 3
    assert hashes(quantization="nf4")[1] == plain[1]


def test_a_method_that_needs_float32_is_refused_on_a_quantized_backbone_by_name_too():
    values = {"tasks": {"target": ["rte"]}, "methods": ["lora"], "backbone": {"quantization": "nf4"}}
    plan = Experiment(parse_configuration(values))
    assert plan.pack("lora", "rte", "full", "scratch").settings["backbone"]["quantization"] == "nf4"
    with pytest.raises(InputError, match="quantization is nf4, but bitfit trains a backbone in float32"):
        plan.pack("bitfit", "rte", "full", "scratch")
