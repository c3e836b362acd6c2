"""Methods by name."""

import subprocess
import sys

import pytest
import torch

from ept.config.settings import BaselineSettings, EptSettings, PromptSettings
from ept.errors import InputError
from ept.methods.build import build_prompt_module
from ept.methods.registry import METHODS, get_method


def test_methods(small_pack):
    prompts = {name: method for name, method in METHODS.items() if method.packed}
    assert list(prompts) == ["pt", "spot", "attempt", "mpt", "dept", "ept"]
    for name, method in prompts.items():
        pack = small_pack(name, seeds=[0, 1])
        assert method.name == name and pack.runs == 2
        assert tuple(pack.parameter_groups()) == method.groups
        if method.start_from == "best":
            assert METHODS[method.source_method].module == method.module
        assert all(parameter.shape[0] == 2 for parameter in pack.parameters())
    assert get_method("spot").start == "always" and get_method("spot").source_method == "pt"


def test_errors():
    with pytest.raises(InputError, match="lorra.*lora"):
        get_method("lorra")
    with pytest.raises(InputError, match="seed"):
        build_prompt_module("pt", torch.ones(5, 4), PromptSettings(), EptSettings(), 8, [])


def test_prompts_are_float32_over_a_bfloat16_backbone():
    settings = PromptSettings(length=8, short_length=4, reference_length=4)
    pack = build_prompt_module("ept", torch.ones(20, 16, dtype=torch.bfloat16), settings, EptSettings(), 8, [0])
    assert {parameter.dtype for parameter in pack.parameters()} == {torch.float32}


def test_settings_are_read_without_torch():
    """A hundred jobs parse the configuration; none of them should wait for torch before it needs it."""
    code = (
        "import sys, ept.methods.registry, ept.methods.budget, ept.config.settings;"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_are_checked_and_documented_through_pydantic():
    from pydantic import TypeAdapter, ValidationError

    for settings in (PromptSettings, EptSettings, BaselineSettings):
        adapter = TypeAdapter(settings)
        schema = adapter.json_schema()
        assert all(entry.get("description") for entry in schema["properties"].values())
        with pytest.raises(ValidationError, match="unexpected|extra"):
            adapter.validate_python({"no_such_key": 1})
    with pytest.raises(ValidationError, match="token"):
        TypeAdapter(EptSettings).validate_python({"gate": "row"})
    assert TypeAdapter(PromptSettings).validate_python({"rank": 7}).rank == 7
