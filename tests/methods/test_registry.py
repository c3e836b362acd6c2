"""Laws that hold for the record and the module of every method: a new method is tested by being in the registry."""

import importlib
import subprocess
import sys
from dataclasses import fields
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ept.config.configuration import parse_configuration
from ept.config.settings import SOURCE, BaselineSettings, EptSettings, MethodSettings, PromptSettings
from ept.cost.estimate import backbone_shape, pack_cost
from ept.errors import InputError
from ept.exchange.formats import FORMATS, export_prompt
from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module
from ept.methods.prompt import PromptModule, combine
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.methods.registry import METHODS, REFERENCE, SUBJECT, check_start, get_method
from ept.methods.weights import WeightModule
from ept.plan.experiment import Experiment

pytestmark = pytest.mark.registry

HIDDEN = 12
PACKED = [name for name, method in METHODS.items() if method.packed]
each_method = pytest.mark.parametrize("method", METHODS)
each_prompt = pytest.mark.parametrize("method", PACKED)
# Methods that may start from the prompt of another run of their own.
each_transfer = pytest.mark.parametrize(
    "method", [name for name in PACKED if METHODS[name].start != "never" and METHODS[name].start_from == "best"]
)


@pytest.fixture(scope="session", name="small_pack")
def _small_pack(small_pack):
    """Small packs of any method: with two spaces a matched budget holds too."""
    return partial(small_pack, ept={"spaces": 2})


def module_class(method: str) -> type[MethodModule]:
    module, name = METHODS[method].module.split(":")
    return getattr(importlib.import_module(module), name)


def texts(runs, batch, length, seed=0):
    """Embeddings [runs, batch, length, hidden] and a mask with at least one piece a row."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (runs, batch, 1), generator=generator)
    return torch.randn(runs, batch, length, HIDDEN, generator=generator), (torch.arange(length) < lengths).long()


# --- the record


@each_method
def test_the_record_fits_its_module(method):
    record = METHODS[method]
    assert record.name == method == method.lower() and method.isidentifier()
    assert record.title and not record.title.isspace()
    assert issubclass(module_class(method), PromptModule if record.packed else WeightModule)
    assert record.groups and all(rates and min(rates) > 0 for rates in record.rates.values())
    assert record.few_shot_rates.keys() == record.rates.keys()
    assert all(values and min(values) > 0 for values in record.few_shot_rates.values())
    assert get_method(method) is record
    assert METHODS[record.source_method].module == record.module or record.start_from != "best"


def test_names_titles_and_formats_are_unique():
    for values in ([m.name for m in METHODS.values()], [m.title for m in METHODS.values()]):
        assert len(set(values)) == len(values)
    formats = [m.adapter_format for m in METHODS.values() if m.adapter_format]
    assert len(set(formats)) == len(formats) and set(formats) <= set(FORMATS)
    assert SUBJECT in METHODS and REFERENCE in METHODS


@each_method
def test_starts_that_the_record_excludes_are_refused(method):
    refused = {"never": ["source"], "optional": [], "always": ["scratch"]}[METHODS[method].start]
    for start in ("scratch", "source"):
        if start in refused:
            with pytest.raises(InputError, match=method):
                check_start(method, start)
        else:
            check_start(method, start)


@each_method
def test_the_record_names_settings_that_exist_and_change_its_hash(method):
    """Every section and key that the method reads is in its settings; those of other methods are not."""
    record = METHODS[method]

    def pack(**sections):
        values = {"tasks": {"target": ["rte"], "source": ["mnli", "sst2"]}, "methods": [method], **sections}
        start = "source" if record.start == "always" else "scratch"
        return Experiment(parse_configuration(values)).pack(method, "rte", "full", start)

    sections = {option.partition(".")[0] for option in record.options}
    assert sections <= pack().settings.keys()
    for other in {"prompt", "ept", "baselines"} - sections:
        assert other not in pack().settings
    changed = pack(prompt={"length": 90}).hash != pack().hash
    assert changed == ("prompt" in sections or record.start == "always")


@each_method
@pytest.mark.parametrize("regime", ["full", "k16", SOURCE])
def test_it_has_a_cost(method, regime):
    record = METHODS[method]
    if regime == SOURCE and method != record.source_method:
        return
    tasks = {"target": ["rte"], "source": ["mnli", "sst2"]}
    plan = Experiment(parse_configuration({"tasks": tasks, "methods": [method]}))
    start = "source" if record.start == "always" else "scratch"
    if regime == SOURCE:
        pack = plan.source_pack(method, "mnli") if record.start != "never" else None
    else:
        pack = plan.pack(method, "rte", regime, start)
    if pack is not None:
        found = pack_cost(plan, pack, backbone_shape(plan), False)
        assert found.trained > 0 and found.training_flops > 0 and found.batch_bytes >= found.least_bytes > 0


@each_method
def test_the_configuration_takes_it(method):
    record = METHODS[method]
    tasks = {"target": ["rte"], "source": ["mnli", "sst2"]}
    rates = {method: {group: [0.1] for group in record.groups}}
    config = parse_configuration({"tasks": tasks, "methods": [method], "training": {"learning_rates": rates}})
    assert config.learning_rates(config.training, method) == rates[method]
    assert Experiment(config).packs


# --- the module


@each_prompt
def test_the_module_is_as_the_record_says(small_pack, method):
    record, pack = METHODS[method], small_pack(method, seeds=[0, 1])
    assert pack.runs == 2 and all(parameter.shape[0] == 2 for parameter in pack.parameters())
    assert tuple(pack.parameter_groups()) == record.groups
    grouped = [id(parameter) for group in pack.parameter_groups().values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in pack.parameters())
    prompt = PromptSettings(length=10, short_length=4, rank=2, reference_length=9)
    assert pack().prompt.shape == (2, record.tokens(prompt), HIDDEN)
    assert all(
        key in (EptSettings.__dataclass_fields__ | PromptSettings.__dataclass_fields__) or "." in key
        for key in record.overrides
    )


@each_prompt
def test_prompts_are_float32_over_a_bfloat16_backbone(method):
    prompt = PromptSettings(length=10, short_length=4, rank=1, reference_length=4)
    embedding, sources = torch.ones(20, 768, dtype=torch.bfloat16), torch.ones(2, 10, 768)
    pack = build_prompt_module(method, embedding, prompt, EptSettings(spaces=2), 8, [0], sources=sources)
    assert {parameter.dtype for parameter in pack.parameters()} == {torch.float32}
    joined, _ = combine(pack(), torch.ones(1, 2, 8, 768, dtype=torch.bfloat16), torch.ones(1, 2, 8))
    assert joined.dtype == torch.bfloat16


@each_prompt
@settings(deadline=None, max_examples=10)
@given(runs=st.integers(1, 4), batch=st.integers(1, 3), length=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_a_pack_equals_its_runs_alone(small_pack, randomize, method, runs, batch, length, seed):
    """Outputs and gradients of run i in a pack, in a slice and in a selection are those of run i alone."""
    pack = randomize(small_pack(method, seeds=range(runs)), seed)
    text, mask = texts(runs, batch, length, seed)
    joined, _ = combine(pack(), text, mask)
    weights = torch.randn(joined.shape, generator=torch.Generator().manual_seed(seed))
    (joined * weights).sum().backward()
    for run in range(runs):
        alone, part = small_pack(method, seeds=[run]), slice(run, run + 1)
        alone.load_tensors(0, pack.tensors(run))
        rows = slice(run * batch, (run + 1) * batch)
        expected, _ = combine(alone(), text[part], mask[part])
        for output in (pack().slice(run, run + 1), pack().select([run])):
            torch.testing.assert_close(combine(output, text[part], mask[part])[0], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(joined[rows], expected, rtol=1e-5, atol=1e-5)
        (expected * weights[rows]).sum().backward()
        for (name, packed), single in zip(pack.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(packed.grad[run], single.grad[0], rtol=1e-3, atol=1e-4, msg=name)


@each_prompt
def test_detached_parts_collect_the_gradients_of_what_is_trained(small_pack, randomize, method):
    """As a training step has it: the backbone's graph ends at leaves, whose gradients go on into the parameters."""
    pack, (text, mask) = randomize(small_pack(method, seeds=[0, 1])), texts(2, 2, 6)
    combine(pack(), text, mask)[0].square().sum().backward()
    direct = {name: parameter.grad.clone() for name, parameter in pack.named_parameters()}
    pack.zero_grad()
    output = pack()
    leaves = output.detached()
    combine(leaves, text, mask)[0].square().sum().backward()
    made = [
        (part, leaf.grad) for part, leaf in zip(output, leaves, strict=True) if leaf is not None and leaf.requires_grad
    ]
    torch.autograd.backward([part for part, _ in made], [gradient for _, gradient in made])
    for name, parameter in pack.named_parameters():
        torch.testing.assert_close(parameter.grad, direct[name], msg=name)


@each_prompt
@settings(deadline=None, max_examples=10)
@given(padding=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_padding_changes_nothing(small_pack, randomize, method, padding, seed):
    """What stands at pieces and before them is the same whatever padding holds."""
    pack = randomize(small_pack(method, seeds=[0, 1], source_length=9), seed)
    text, mask = texts(2, 3, 4, seed)
    wider = torch.full((2, 3, 4 + padding, HIDDEN), 100.0)
    wider[:, :, :4] = torch.where(mask.bool().unsqueeze(-1), text, 100.0)
    found, found_mask = combine(pack(), wider, torch.nn.functional.pad(mask, (0, padding)))
    expected, expected_mask = combine(pack(), text, mask)
    torch.testing.assert_close(found[found_mask.bool()], expected[expected_mask.bool()])


@each_prompt
def test_gradients_reach_every_tensor_within_three_steps(small_pack, method):
    pack, (text, mask) = small_pack(method, seeds=[0, 1]), texts(2, 3, 9)
    silent = {name for name, _ in pack.named_parameters()}
    optimizer = torch.optim.SGD(pack.parameters(), lr=1e-2)
    for _ in range(3):
        joined, joined_mask = combine(pack(), text, mask)
        (joined[joined_mask.bool()] - 1).square().sum().backward()
        silent -= {name for name, parameter in pack.named_parameters() if all(g.any() for g in parameter.grad)}
        assert all(parameter.grad.isfinite().all() for parameter in pack.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert not silent


@each_prompt
@pytest.mark.parametrize("init", ["vocabulary", "uniform", "labels"])
def test_same_seed_same_draws_alone_and_in_a_pack(small_pack, method, init):
    ids = [[3], [4, 5]]
    pack = small_pack(method, seeds=[2, 11, 2], init=init, init_ids=ids)
    for run, seed in enumerate([2, 11, 2]):
        alone = small_pack(method, seeds=[seed], init=init, init_ids=ids)
        for name, tensor in alone.tensors(0).items():
            assert torch.equal(pack.tensors(run)[name], tensor), name
    torch.manual_seed(5)
    state = torch.get_rng_state()
    small_pack(method, seeds=[2])
    assert torch.equal(torch.get_rng_state(), state)


@each_prompt
def test_what_is_stored_is_all_that_use_needs(small_pack, randomize, method):
    """`collapse`, its file and `served` give the outputs of the trained run, and its numbers are those counted."""
    pack, (text, mask) = randomize(small_pack(method, seeds=[0, 1])), texts(2, 3, 6)
    stored = pack.collapse(1)
    served = type(pack).served(stored)
    expected, expected_mask = combine(pack().select([1]), text[1:], mask[1:])
    found, found_mask = combine(served, text[1:], mask[1:])
    torch.testing.assert_close(found, expected)
    assert torch.equal(found_mask, expected_mask)
    assert pack.stored_parameters == sum(tensor.numel() for tensor in stored.values())
    assert pack.trained_parameters == sum(tensor.numel() for tensor in pack.tensors(1).values())
    assert not any(tensor.requires_grad for tensor in stored.values())
    for tensor in stored.values():
        tensor.fill_(1e9)
    assert torch.equal(combine(pack().select([1]), text[1:], mask[1:])[0], expected)


@each_prompt
def test_a_saved_run_comes_back(tmp_path, small_pack, randomize, method):
    pack, (text, mask) = randomize(small_pack(method, seeds=[0, 1])), texts(2, 3, 6)
    path = tmp_path / "seed1.safetensors"
    save_prompt(path, pack.tensors(1), pack.collapse(1), {"method": method})
    saved = read_prompt(path)
    again = small_pack(method, seeds=[1])
    again.load_tensors(0, saved.tensors, str(path))
    assert all(torch.equal(tensor, pack.tensors(1)[name]) for name, tensor in again.tensors(0).items())
    expected, _ = combine(pack().select([1]), text[1:], mask[1:])
    torch.testing.assert_close(combine(again(), text[1:], mask[1:])[0], expected)
    served = module_class(saved.metadata["method"]).served(saved.collapsed)
    torch.testing.assert_close(combine(served, text[1:], mask[1:])[0], expected)


@each_prompt
def test_tensors_of_a_run_come_back_and_those_of_others_stay(small_pack, randomize, method):
    pack = randomize(small_pack(method, seeds=[0, 1]))
    kept = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
    randomize(pack, seed=1)
    other = {name: tensor.clone() for name, tensor in pack.tensors(1).items()}
    pack.load_tensors(0, kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in pack.tensors(0).items())
    assert all(torch.equal(tensor, other[name]) for name, tensor in pack.tensors(1).items())


@each_prompt
def test_foreign_tensors_are_refused_and_change_nothing(small_pack, randomize, method):
    pack, good = small_pack(method), randomize(small_pack(method)).tensors(0)
    before = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
    name = next(iter(good))
    bad = [
        ({**good, "another": torch.ones(2)}, "another"),
        ({key: tensor for key, tensor in good.items() if key != name}, name),
        ({**good, name: good[name] * torch.nan}, name),
        ({**good, name: good[name].repeat(2, *[1] * (good[name].dim() - 1))}, name),
    ]
    for tensors, word in bad:
        with pytest.raises(InputError, match=word) as caught:
            pack.load_tensors(0, tensors, "prompts/x.safetensors")
        assert "prompts/x.safetensors" in str(caught.value) and "\n" not in str(caught.value)
        assert all(torch.equal(tensor, before[key]) for key, tensor in pack.tensors(0).items())


@each_transfer
@pytest.mark.parametrize("source_length", [5, 9, 14])
def test_a_run_starts_from_a_run_of_another_task(small_pack, randomize, method, source_length):
    """The shorter of the two source lengths is treated as at the source; the target still trains every tensor."""
    source = randomize(small_pack(METHODS[method].source_method, seeds=[3], source_length=9))
    target = small_pack(method, seeds=[7, 8], source_length=source_length)
    before = {name: tensor.clone() for name, tensor in target.tensors(0).items()}
    target.load_tensors(1, source.tensors(0))
    length = min(9, source_length)
    text, mask = texts(1, 3, length)
    if METHODS[method].options == ("prompt", "ept"):
        # What is prepended depends on the rows that texts reach.
        torch.testing.assert_close(target().select([1]).offset[:, :length], source().offset[:, :length])
    else:
        found, expected = combine(target().select([1]), text, mask)[0], combine(source(), text, mask)[0]
        torch.testing.assert_close(found, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.tensors(0).items())


@each_prompt
def test_it_is_exported_or_refused_in_one_sentence(tmp_path, small_pack, randomize, method):
    pack = randomize(small_pack(method))
    save_prompt(tmp_path / "p.safetensors", pack.tensors(0), pack.collapse(0), {"method": method})
    # A plain prompt is PEFT's, one with a low-rank pair is DePT's.
    fitting = {("prompt",): "peft", ("A", "B", "prompt"): "dept"}.get(tuple(sorted(pack.collapse(0))))
    for name in ("peft", "dept"):
        if name == fitting:
            assert export_prompt(name, tmp_path / "p.safetensors", tmp_path / name)
            assert any((tmp_path / name).iterdir())
        else:
            with pytest.raises(InputError, match=r"p\.safetensors"):
                export_prompt(name, tmp_path / "p.safetensors", tmp_path / name)
            assert not (tmp_path / name).exists()


# --- what reads the registry


def test_settings_are_read_without_torch():
    """A hundred jobs parse the configuration; none of them should wait for torch before it needs it."""
    code = (
        "import sys, ept.methods.registry, ept.methods.budget, ept.config.settings;"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_methods_are_named_with_what_they_resemble():
    for method in METHODS:
        with pytest.raises(InputError, match=method):
            get_method(method + "x")
    with pytest.raises(InputError, match="seed"):
        build_prompt_module(REFERENCE, torch.ones(5, 4), PromptSettings(), EptSettings(), 8, [])


def test_settings_are_documented_and_refuse_unknown_keys():
    sections = [type(getattr(MethodSettings(), part.name)) for part in fields(MethodSettings)]
    for section in (PromptSettings, EptSettings, BaselineSettings, *sections):
        adapter = TypeAdapter(section)
        assert all(entry.get("description") for entry in adapter.json_schema()["properties"].values())
        with pytest.raises(ValidationError):
            adapter.validate_python({"no_such_key": 1})
