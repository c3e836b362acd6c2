"""The configuration: what is refused, in which words, and what the shipped files resolve to."""

import copy
import json

import jsonschema
import pytest
import yaml

from ept.config.configuration import load_configuration, parse_configuration, write_resolved
from ept.config.reference import REFERENCE, SCHEMA, reference, schema
from ept.config.settings import (
    BaselineSettings,
    EptSettings,
    FewShotSettings,
    MptSettings,
    PromptSettings,
    TrainingSettings,
    check_ranges,
    check_regime,
)
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.tasks.registry import expand_sets

HUB = {"source": "hub", "id": "google-t5/t5-base", "revision": "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1"}
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
    (_with(seeds=[1, 1]), ["seeds", "1 is listed more than once"]),
    (_with(seeds=[True]), ["seeds.0", "true"]),
    (_with(training__batch_size=True), ["training.batch_size", "true"]),
    (_with(training__learning_rates={"pt": {"prompt": [True]}}), ["training.learning_rates.pt.prompt.0", "true"]),
    (_with(ablation={"tasks": ["rte"], "spaces": [True]}), ["ablation.spaces.0", "true"]),
    (_with(seeds=[2**63]), ["seeds.0", str(2**63)]),
    (_with(seeds=[10**300]), ["seeds.0", "bits"]),
    (_with(seeds=list(range(101))), ["seeds", "100"]),
    (_with(seeds=[0, 1], weight_seeds=[2]), ["weight_seeds", "2", "seeds"]),
    (_with(weight_seeds=[]), ["weight_seeds"]),
    (_with(weight_seeds=[0, 0]), ["weight_seeds", "0 is listed more than once"]),
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
    (_with(backbone={**HUB, "revision": "main"}), ["backbone.revision", "'main'", "40"]),
    (_with(backbone={**HUB, "revision": "../../x"}), ["backbone.revision", "'../../x'"]),
    (_with(backbone={**HUB, "revision": "A" * 40}), ["backbone.revision", "AAAA"]),
    (_with(backbone={**HUB, "revision": ""}), ["backbone", HUB["id"], "revision"]),
    (_with(backbone={**HUB, "id": "../x/y"}), ["backbone", "'../x/y'"]),
    (_with(backbone={**HUB, "id": "a/b/c"}), ["backbone", "'a/b/c'"]),
    (_with(backbone__weights="bin"), ["backbone", "weights bin is for source hub", "ept convert-weights"]),
    (_with(data__source="local"), ["data", "path"]),
    (_with(data__path="somewhere"), ["data", "path"]),
    (_with(data__source_length={"rtee": 3}), ["data", "rtee"]),
    (_with(data__test_rows={"rtee": 3}), ["data.test_rows", "rtee"]),
    (_with(prompt__short_length=101), ["short_length", "101"]),
    (_with(training__steps=0), ["training.steps", "0"]),
    (_with(training__batch_size=-1), ["training.batch_size", "-1"]),
    (_with(training__steps=10), ["training.warmup_steps", "500"]),
    (_with(training__learning_rates={"pt": {"prompts": [0.1]}}), ["training.learning_rates.pt", "prompts"]),
    (_with(training__learning_rates={"ept": {"prompt": [0.1]}}), ["training.learning_rates.ept", "low_rank"]),
    (_with(few_shot__learning_rates={"pt": {"prompt": []}}), ["few_shot.learning_rates.pt.prompt"]),
    (_with(few_shot__k=[0]), ["few_shot.k.0", "found 0"]),
    (_with(few_shot__k=[4, 4]), ["4 is listed more than once"]),
    (_with(few_shot__k=list(range(1, 18))), ["few_shot.k", "16"]),
    (_with(few_shot__initialize_from=["source", "source"]), ["source is listed more than once"]),
    (
        _with(training__learning_rates={"pt": {"prompt": [0.1, 0.1]}}),
        ["training.learning_rates.pt.prompt", "[0.1, 0.1]"],
    ),
    (
        _with(rate_study={"tasks": ["rte"], "learning_rates": {"pt": {"prompt": [1, 1.0]}}}),
        ["rate_study", "[1.0, 1.0]"],
    ),
    (_with(transfer={"methods": ["ept"], "every_source": [f"k{'9' * 5000}"]}), ["transfer", "k1000000"]),
    (_with(training__dropout=1), ["training.dropout", "found 1"]),
    (_with(training__steps="many"), ["training.steps", "'many'", "integer", "'auto'"]),
    (_with(tasks__target="glue+nothing"), ["tasks.target", "'nothing'"]),
    (_with(tasks__target=["glue", "rte"]), ["tasks.target", "rte is listed more than once"]),
    (_with(tasks__target=3), ["tasks.target", "found 3"]),
    (_with(prompt__init_text="a" * 10_001, prompt__init="text"), ["prompt.init_text", "10000"]),
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


def test_few_shot_training_takes_the_rates_of_training_and_then_the_method_s_own():
    config = parse_configuration(
        _with(
            training__learning_rates={"pt": {"prompt": [0.7]}, "spot": {"prompt": [0.6]}},
            few_shot__learning_rates={"spot": {"prompt": [0.5]}},
        )
    )
    found = {name: config.learning_rates(config.few_shot, name) for name in METHODS}
    assert found.pop("pt") == {"prompt": [0.7]} and found.pop("spot") == {"prompt": [0.5]}
    assert found == {name: METHODS[name].few_shot_rates for name in found}


def test_methods_that_train_weights_take_the_first_three_seeds_or_their_own():
    def seeds(**changes):
        config = parse_configuration(_with(**changes))
        return {record.packed: config.seeds_of(name) for name, record in METHODS.items()}

    assert seeds(seeds=[4, 2, 0, 1, 3]) == {True: (4, 2, 0, 1, 3), False: (4, 2, 0)}
    assert seeds(seeds=[4, 2]) == {True: (4, 2), False: (4, 2)}
    assert seeds(seeds=[4, 2], weight_seeds=[2]) == {True: (4, 2), False: (2,)}
    assert parse_configuration(_with(seeds=[4, 2])).seeds_of("pt", "source") == (4,)


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("results/", "results"),
        ("./results//a/.", "results/a"),
        ("a/../b", "b"),
        ("../b", "../b"),
        ("/tmp/x/", "/tmp/x"),
        ("//tmp//x", "/tmp/x"),
        ("my results", "my results"),
        ("it's (new) #1, ~80 %", "it's (new) #1, ~80 %"),
        ("ergebnisse-ä/漢字", "ergebnisse-ä/漢字"),
    ],
)
def test_output_is_normalised(output, folder):
    assert parse_configuration(_with(output=output)).output == folder


BAD_FOLDERS = [
    *(
        "$(touch pwned)",
        "`touch pwned`",
        "a;b",
        "a&b",
        "a|b",
        "a>b",
        "a<b",
        "a*",
        "a?",
        "a[b]",
        "{task}",
        'a"b',
        "a\\b",
    ),
    *("a\nb", "a\tb", "a\0b", "a\x7fb", "a\u2028b", "\ud800", " a", "a ", "-a", "~/a"),
    *("a" * 5000, "a" * 256, "a/" * 600),
]


@pytest.mark.parametrize("folder", BAD_FOLDERS, ids=ascii)
def test_a_folder_that_a_shell_or_a_pattern_could_misread_is_refused(folder):
    for key, values in (
        ("output", _with(output=folder)),
        ("path", _with(data={"source": "local", "path": folder})),
        ("id", _with(backbone={"source": "local", "id": folder})),
    ):
        with pytest.raises(InputError) as error:
            parse_configuration(values)
        sentence = str(error.value)
        assert key in sentence and sentence.isprintable() and len(sentence) <= 500


@pytest.mark.parametrize("folder", ["", ".", "./", "..", "/", "../..", "a/.."])
def test_output_is_a_folder_of_its_own(folder):
    with pytest.raises(InputError, match="output"):
        parse_configuration(_with(output=folder))


def test_no_source_is_needed_where_nothing_starts_from_one():
    values = {"tasks": {"target": ["rte"]}, "methods": ["dept"]}
    with pytest.raises(InputError, match="tasks.source"):
        parse_configuration(values | {"few_shot": {"initialize_from": ["source"]}})
    for few_shot in ({}, {"k": []}, {"initialize_from": ["scratch"]}):
        assert parse_configuration(values | {"few_shot": few_shot}).tasks.source == []


def test_sets_of_tasks_are_written_out():
    config = parse_configuration(_with(tasks={"target": "glue+superglue", "source": ["squad", "record"]}))
    assert config.tasks.target == expand_sets(["glue", "superglue"]) and len(config.tasks.target) == 13
    assert parse_configuration(_with(tasks__target=["superglue", "rte"])).tasks.target[-1] == "rte"


def test_precision_does_not_depend_on_the_device():
    def used(**backbone):
        settings = parse_configuration(_with(backbone=backbone, methods=["pt"])).backbone
        return settings.used_dtype(), settings.used_dtype(float32=True)

    assert used() == used(dtype="float32") == ("float32", "float32")
    assert used(dtype="bfloat16") == used(quantization="nf4") == ("bfloat16", "float32")
    assert used(quantization="nf4", dtype="float32") == ("float32", "float32")


def test_shipped_configurations_resolve_and_survive_being_written(project, tmp_path):
    complete = [path for path in (project / "config").glob("*.yaml") if 'revision: ""' not in path.read_text()]
    assert len(complete) >= 10
    for path in complete:
        config = load_configuration(path)
        written = write_resolved(config, tmp_path)
        assert (
            load_configuration(written) == config and write_resolved(load_configuration(written), tmp_path) == written
        )


def test_a_shipped_configuration_without_revision_names_its_repository(project):
    missing = [path for path in (project / "config").glob("*.yaml") if 'revision: ""' in path.read_text()]
    assert missing
    for path in missing:
        with pytest.raises(InputError, match=f"{path.name}.*google/t5-base-lm-adapt"):
            load_configuration(path)
        values = yaml.safe_load(path.read_text())
        values["backbone"]["revision"] = "0" * 40
        assert parse_configuration(values).backbone.public_name == "google/t5-base-lm-adapt"


def test_every_shipped_configuration_names_the_schema_and_fits_it(project):
    for path in (project / "config").glob("*.yaml"):
        first, *_ = path.read_text().splitlines()
        assert (path.parent / first.partition("$schema=")[2]).resolve() == (project / SCHEMA).resolve()
        jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(schema()))


def _numbers(schema, key=""):
    """Every number of a JSON schema with its key."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield key, schema
        for name, part in schema.items():
            yield from _numbers(part, f"{key}.{name}" if name not in ("items", "anyOf") else key)
    elif isinstance(schema, list):
        for part in schema:
            yield from _numbers(part, key)


def test_every_number_has_a_lower_and_an_upper_bound():
    found = dict(_numbers(json.loads(schema())))
    assert len(found) > 30
    for key, number in found.items():
        assert {"minimum", "exclusiveMinimum"} & set(number) and {"maximum", "exclusiveMaximum"} & set(number), key


HUGE = (10**9, 10**12, 10**400, 1e300, float("inf"), float("nan"), -1)


def test_huge_numbers_are_refused_everywhere():
    """Each number of each section, alone and in lists, in one sentence that names its key."""
    values = parse_configuration(SMALL).model_dump()
    tried = 0
    for section, content in values.items():
        for key, value in (content or {}).items() if isinstance(content, dict) else ():
            default = value[0] if isinstance(value, list | tuple) and value else value
            if isinstance(default, int | float) and not isinstance(default, bool):
                for huge in HUGE:
                    if key == "seed" and huge in (10**9, 10**12):
                        continue
                    wrong = [huge] if isinstance(value, list | tuple) else huge
                    with pytest.raises(InputError, match=rf"{section}\.{key}") as error:
                        parse_configuration(_with(**{f"{section}__{key}": wrong}))
                    assert str(error.value).isprintable() and len(str(error.value)) <= 500
                    tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (PromptSettings(length=10**9), "length"),
        (PromptSettings(rank=0), "rank"),
        (EptSettings(spaces=10**9), "spaces"),
        (EptSettings(space_rank=0), "space_rank"),
        (BaselineSettings(lst_skip_every=1), "lst_skip_every"),
        (BaselineSettings(lora_rank=10**9), "lora_rank"),
        (TrainingSettings(steps=0), "steps"),
        (TrainingSettings(clip_norm=float("nan")), "clip_norm"),
        (TrainingSettings(dropout=1.0), "dropout"),
        (FewShotSettings(halving=10**9), "halving"),
    ],
)
def test_ranges_are_checked_without_a_configuration_too(settings, key):
    with pytest.raises(InputError, match=rf"somewhere\.{key} "):
        check_ranges("somewhere", settings)


def test_defaults_are_within_their_ranges():
    for settings in (
        PromptSettings(),
        EptSettings(),
        BaselineSettings(),
        TrainingSettings(),
        FewShotSettings(),
        MptSettings(),
    ):
        check_ranges("", settings)
    check_ranges("", BaselineSettings(lst_skip_every=0))
    check_ranges("", TrainingSettings(steps="auto", runs_per_pass=3))


@pytest.mark.parametrize("regime", ["full", "source", "k1", "k1000000"])
def test_regimes(regime):
    check_regime(regime)


@pytest.mark.parametrize("regime", ["k", "k0", "k01", "k1000001", f"k{'1' * 5000}", "K4", "k4 ", "k٤", ""])
def test_other_regimes_are_refused(regime):
    with pytest.raises(InputError) as error:
        check_regime(regime)
    assert len(str(error.value)) < 200


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
