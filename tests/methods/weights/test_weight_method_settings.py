"""The options of weight-side methods in the configuration, in hashes and in a job."""

from types import SimpleNamespace

import pytest

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.training.choose_source import build_runs

OWN = {
    "fine_tuning": set(),
    "adapter": {"adapter_reduction"},
    "adapterdrop": {"adapter_reduction", "adapterdrop_layers"},
    "bitfit": set(),
    "lora": {"lora_rank", "lora_alpha"},
    "lst": {"lst_reduction", "lst_skip_every"},
}


def _pack(method, **sections):
    values = {"tasks": {"target": ["rte"], "source": ["mnli"]}, "methods": [method], **sections}
    return Experiment(parse_configuration(values)).pack(method, "rte", "full", "scratch")


@pytest.mark.parametrize("option", sorted(set.union(*OWN.values())))
def test_an_option_changes_the_hash_of_the_methods_that_have_it(option):
    for method in [*OWN, "pt", "ept"]:
        changed = _pack(method, baselines={option: 2}).hash != _pack(method).hash
        assert changed == (option in OWN.get(method, ())), method


def test_settings_of_a_method_are_its_own():
    for method, options in OWN.items():
        settings = _pack(method).settings
        assert set(settings.get("baselines", {})) == options
        assert "prompt" not in settings and "ept" not in settings
        assert _pack(method, prompt={"length": 90}, ept={"spaces": 2}).hash == _pack(method).hash
    assert _pack("pt", ept={"spaces": 2}).hash == _pack("pt").hash != _pack("pt", prompt={"length": 90}).hash
    assert _pack("ept", ept={"spaces": 2}).hash != _pack("ept").hash


def test_rows_of_weight_side_methods_start_from_scratch():
    values = {
        "tasks": {"target": ["rte"], "source": ["mnli"]},
        "methods": list(OWN),
        "few_shot": {"initialize_from": ["scratch", "source"]},
    }
    for packs in Experiment(parse_configuration(values)).tables.values():
        assert [(pack.method, pack.initialize_from) for pack in packs] == [(name, "scratch") for name in OWN]
    with pytest.raises(InputError, match="lora.*--initialize-from source"):
        Experiment(parse_configuration(values)).pack("lora", "rte", "full", "source")


def test_a_job_builds_the_method_over_its_backbone(backbone, method):
    config = parse_configuration(
        {
            "tasks": {"target": ["rte"]},
            "methods": [method],
            "baselines": {
                "adapter_reduction": 4,
                "adapterdrop_layers": 1,
                "lora_rank": 2,
                "lst_reduction": 4,
                "lst_skip_every": 2,
            },
        }
    )
    job = SimpleNamespace(
        pack=SimpleNamespace(method=method),
        method=METHODS[method],
        backbone=backbone,
        config=config,
        parts=(),
        with_images=lambda built: built,
    )
    pack = build_runs(job, [7])
    module, name = METHODS[method].module.split(":")
    assert (type(pack).__module__, type(pack).__name__) == (module, name)
    assert pack.seeds == (7,) and pack.backbone is backbone
    pack.close()
