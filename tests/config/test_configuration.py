"""The configuration: what is refused, in which words, and what the shipped files resolve to."""

import copy
import json

import pytest
import yaml

from ept.config.configuration import load_configuration, parse_configuration, write_resolved
from ept.config.reference import REFERENCE, SCHEMA, reference, schema
from ept.errors import InputError

SMALL = {"tasks": {"target": ["rte", "sst2"], "source": ["mnli"]}}


def _with(**changes):
    values = copy.deepcopy(SMALL)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return values


BAD = [
    (_with(sedes=[1]), ["sedes", "unknown key"]),
    (_with(training__stepz=1), ["training.stepz", "unknown key"]),
    (_with(prompt__lenght=1), ["prompt.lenght", "unknown key"]),
    (_with(seeds="three"), ["seeds", "three"]),
    (_with(seeds=[]), ["seeds"]),
    (_with(seeds=[0, -1]), ["seeds", "-1"]),
    (_with(data__seed=-1), ["data.seed", "-1"]),
    (_with(seeds=[1, 1]), ["seeds", "more than once"]),
    (_with(tasks__target=["rtee"]), ["tasks.target", "rtee", "rte"]),
    (_with(tasks__target=[]), ["tasks.target"]),
    (_with(methods=["ept", "lorra"]), ["methods", "lorra", "lora"]),
    (_with(backbone__source="hub"), ["backbone", "revision"]),
    (_with(backbone__source="local"), ["backbone", "id"]),
    (_with(backbone__name="a/b"), ["backbone.name", "a/b"]),
    (_with(backbone__dtype="float16"), ["backbone.dtype", "float16", "bfloat16"]),
    (_with(backbone__quantization="nf5"), ["backbone.quantization", "nf5", "nf4", "int8"]),
    (_with(backbone__quantization="nf4", methods=["lora", "bitfit"]), ["quantization is nf4", "leave bitfit out"]),
    (_with(backbone__quantization="int8", methods=["fine_tuning"]), ["quantization is int8", "leave fine_tuning out"]),
    (_with(backbone__device_map="auto", methods=["lora"]), ["device_map is auto", "leave lora out"]),
    (_with(backbone__weights="bin"), ["backbone", "weights bin is for source hub", "ept convert-weights"]),
    (_with(data__source="local"), ["data", "path"]),
    (_with(data__path="somewhere"), ["data", "path"]),
    (_with(data__source_length={"rtee": 3}), ["data", "rtee"]),
    (_with(prompt__short_length=101), ["short_length", "101"]),
    (_with(training__steps=0), ["training.steps", "0"]),
    (_with(training__batch_size=-1), ["training.batch_size", "-1"]),
    (_with(training__steps=10), ["training.warmup_steps", "500"]),
    (_with(training__learning_rates={"pt": {"prompts": [0.1]}}), ["training.learning_rates.pt", "prompts"]),
    (_with(training__learning_rates={"ept": {"prompt": [0.1]}}), ["training.learning_rates.ept", "low_rank"]),
    (_with(few_shot__learning_rates={"pt": {"prompt": []}}), ["few_shot.learning_rates.pt.prompt"]),
    (_with(few_shot__k=[0]), ["few_shot.k", "0"]),
    (_with(few_shot__initialize_from=["nowhere"]), ["few_shot.initialize_from", "nowhere"]),
    (_with(few_shot__source="qqp"), ["few_shot.source", "qqp"]),
    (_with(tasks__target=["mnli"]), ["mnli", "source"]),
    (_with(ept__fusion="sum"), ["ept.fusion", "sum", "dot"]),
    (_with(ept__spaces=0), ["spaces", "0"]),
    (_with(mpt__distillation_weight=-1), ["mpt.distillation_weight", "-1"]),
    (_with(mpt__distillation_weight=float("nan")), ["mpt.distillation_weight", "nan"]),
    (_with(mpt__temperature=2), ["mpt.temperature", "unknown key"]),
    (_with(baselines__lora_rnk=4), ["baselines.lora_rnk", "unknown key"]),
    (_with(baselines__lora_rank="high"), ["baselines.lora_rank", "high"]),
    (_with(baselines__lora_alpha=0), ["baselines.lora_alpha", "0"]),
    (_with(baselines__adapter_reduction=-1), ["baselines.adapter_reduction", "-1"]),
    (_with(baselines__lst_skip_every=1), ["baselines.lst_skip_every", "found 1"]),
    (_with(training__learning_rates={"lora": {"prompt": [0.1]}}), ["training.learning_rates.lora", "weights"]),
    ({"methods": ["pt"]}, ["tasks", "missing"]),
    ([1, 2], ["mapping"]),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(words) for _, words in BAD])
def test_bad_settings_are_refused_in_one_sentence(values, words):
    with pytest.raises(InputError) as error:
        parse_configuration(values, "my.yaml")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("my.yaml")
    for word in words:
        assert word in message


def test_broken_yaml_and_missing_file_name_the_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("tasks: [a\nseeds: 3: 4")
    with pytest.raises(InputError, match="broken.yaml, line 2"):
        load_configuration(path)
    with pytest.raises(InputError, match="absent.yaml"):
        load_configuration(tmp_path / "absent.yaml")


def test_learning_rates_of_a_method_left_out_keep_their_default():
    config = parse_configuration(_with(training__learning_rates={"pt": {"prompt": [0.7]}}))
    assert config.learning_rates(config.training, "pt") == {"prompt": [0.7]}
    assert config.learning_rates(config.training, "ept")["low_rank"] == [1e-4, 5e-4, 5e-3]


def test_source_length_falls_back_from_task_to_default_to_protocol():
    assert parse_configuration(SMALL).source_length("multirc") == 348
    config = parse_configuration(_with(data__source_length={"default": 64, "rte": 80}))
    assert (config.source_length("rte"), config.source_length("multirc")) == (80, 64)


@pytest.mark.parametrize(
    "name", ["config.yaml", "demo_full.yaml", "paper.yaml", "local.yaml", "smollm2.yaml", "smollm2_gpu.yaml"]
)
def test_shipped_configurations_resolve_and_survive_being_written(project, tmp_path, name):
    config = load_configuration(project / "config" / name)
    assert load_configuration(write_resolved(config, tmp_path)) == config


def test_schema_and_reference_are_as_generated(project):
    assert (project / SCHEMA).read_text() == schema()
    assert (project / REFERENCE).read_text() == reference()


def test_every_key_is_explained(project):
    def unexplained(properties):
        # A key that leads to a section is explained by the section.
        return [key for key, value in properties.items() if not value.get("description") and "$ref" not in value]

    found = json.loads(schema())
    assert unexplained(found["properties"]) == []
    for name, section in found["$defs"].items():
        assert unexplained(section.get("properties", {})) == [], name


def test_default_configuration_asks_for_what_the_readme_says(project):
    values = yaml.safe_load((project / "config/config.yaml").read_text())
    assert set(values["methods"]) >= {"pt", "dept", "ept"}
    assert values["few_shot"]["k"] == [4, 16, 32]
