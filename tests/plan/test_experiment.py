"""Which packs a configuration asks for: sources are never the target, whatever the method."""

import dataclasses

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
        for method in TRANSFERRED if config.tasks.source else ():
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
    with pytest.raises(InputError, match=f"tasks.source .* sst2.* {method}"):
        plan.pack(method, "sst2", "full", "source")
    if METHODS[method].start == "always":
        with pytest.raises(InputError, match=f"{method} .* source"):
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
    with pytest.raises(InputError, match="backbone.quantization.*nf4.* bitfit"):
        plan.pack("bitfit", "rte", "full", "scratch")


def hash_of(method, regime="full", start="scratch", **changes):
    values = {"tasks": {"target": ["rte"], "source": ["mnli", "sst2"]}, "methods": [method]}
    values |= {"prompt": dataclasses.asdict(PROMPT)} | changes
    return Experiment(parse_configuration(values)).pack(method, "rte", regime, start).hash


def test_sampled_test_rows_are_in_the_hash_of_their_task_alone():
    plain = hash_of("pt")
    assert hash_of("pt", data={"test_rows": {"mnli": 7}}) == plain
    sampled = {hash_of("pt", data={"test_rows": rows}) for rows in ({"rte": 7}, {"rte": 8}, {"default": 8})}
    assert len(sampled) == 2 and plain not in sampled


BFLOAT16 = {"dtype": "bfloat16"}
STARTED = [(name, method.start_from) for name, method in METHODS.items() if method.start != "never"]


@pytest.mark.parametrize(("method", "start_from"), STARTED, ids=[name for name, _ in STARTED])
def test_the_order_of_source_tasks_counts_where_all_are_used(method, start_from):
    hashes = {
        hash_of(method, start="source", tasks={"target": ["rte"], "source": sources})
        for sources in (["mnli", "sst2"], ["sst2", "mnli"])
    }
    assert len(hashes) == (1 if start_from == "best" else 2)


@pytest.mark.parametrize(("method", "record"), METHODS.items(), ids=METHODS)
def test_settings_that_only_methods_with_own_passes_use_are_in_no_other_hash(method, record):
    start = "source" if record.start == "always" else "scratch"
    plain = hash_of(method, start=start)
    dropout = {"source_training": {"dropout": 0.1}, "training": {"dropout": 0.1}}
    assert (hash_of(method, start=start, **dropout) == plain) == record.packed
    assert hash_of(method, start=start, training={"dropout": 0.0, "include_start": False}) == plain
    assert hash_of(method, start=start, training={"include_start": True}) != plain
    # Five seeds are three for methods that train weights.
    five, three = ({"seeds": [*range(number)]} for number in (5, 3))
    assert (hash_of(method, start=start, **five) == hash_of(method, start=start, **three)) != record.packed


@pytest.mark.parametrize(("method", "record"), METHODS.items(), ids=METHODS)
def test_the_hash_knows_the_precision_that_is_used(method, record):
    start = "source" if record.start == "always" else "scratch"
    plain = hash_of(method, start=start)
    assert hash_of(method, start=start, backbone={"dtype": "float32"}) == plain
    assert (hash_of(method, start=start, backbone={"dtype": "bfloat16"}) == plain) == record.float32
    assert hash_of(method, start=start, backbone={"tf32": True}) != plain
    if not record.float32:
        four_bit = {hash_of(method, start=start, backbone={"quantization": "nf4"} | more) for more in ({}, BFLOAT16)}
        assert len(four_bit) == 1 and plain not in four_bit


@pytest.mark.parametrize(("method", "record"), METHODS.items(), ids=METHODS)
def test_what_a_record_fixes_is_in_its_packs(method, record):
    values = {"tasks": {"target": ["rte"], "source": ["mnli"]}, "methods": [method]}
    config = parse_configuration(values | {"prompt": dataclasses.asdict(PROMPT)})
    start = "source" if record.start == "always" else "scratch"
    pack = Experiment(config).pack(method, "rte", "full", start)
    expected = {"prompt": dataclasses.asdict(config.prompt), "ept": dataclasses.asdict(config.ept)}
    for option, value in record.overrides.items():
        section, key = option.split(".")
        assert expected[section][key] != value, "the override changes nothing here"
        expected[section][key] = value
    assert {"prompt": vars(pack.variant.prompt), "ept": vars(pack.variant.ept)} == expected
    assert {
        section: pack.settings[section] for section in expected if section in pack.settings
    }.items() <= expected.items()


def test_seeds_of_the_packs():
    values = {"tasks": {"target": ["rte"], "source": ["mnli"]}, "methods": ["pt"], "seeds": [7, 5, 3, 1, 0]}
    plan = Experiment(parse_configuration(values | {"prompt": dataclasses.asdict(PROMPT)}))
    for name, record in METHODS.items():
        start = "source" if record.start == "always" else "scratch"
        pack = plan.pack(name, "rte", "k4", start)
        assert pack.seeds == ((7, 5, 3, 1, 0) if record.packed else (7, 5, 3))
        assert {candidate.seeds for candidate in pack.candidates} <= {(7,)}


@pytest.mark.parametrize("path", ["config/config.yaml", "config/demo_full.yaml"])
def test_a_job_finds_its_pack_without_making_the_others(project, path):
    config = load_configuration(project / path)
    whole = Experiment(config)
    packs = whole.packs
    assert len(packs) > 90
    for pack in packs[::7]:
        plan = Experiment(config)
        assert plan.find(pack.hash, pack.method, pack.task) == pack
        assert "packs" not in vars(plan) or pack.task == MULTITASK
        # Wrong names find it too, only later: then all are made, here once.
        assert whole.find(pack.hash, "bitfit", "cb") == pack
    assert Experiment(config).find(packs[-1].hash, "bitfit", "cb") == packs[-1]


def test_all_missing_local_folders_are_named_at_once(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_configuration(project / "config/local.yaml")
    with pytest.raises(InputError) as error:
        Experiment(config)
    for words in (config.backbone.id, "backbone.id", config.data.path, "data.path"):
        assert words in str(error.value)
