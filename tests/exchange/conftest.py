"""Prompts, adapter folders and small models for the tests of import and export."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import pad
from transformers import T5ForConditionalGeneration

import tiny_models
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.cli import main
from ept.config.settings import EptSettings, PromptSettings
from ept.methods.build import build_prompt_module
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt, save_prompt

VOCABULARY, HIDDEN, LENGTH = 50, 16, 9
SETTINGS = PromptSettings(length=8, short_length=4, rank=2, reference_length=LENGTH)
DEPT_CONFIG = {
    "base_model_name_or_path": "t5-tiny",
    "peft_type": "PROMPT_TUNING_LORA",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": 4,
    "num_transformer_submodules": 1,
    "token_dim": HIDDEN,
    "max_length": LENGTH,
    "r": 2,
    "lora_alpha": 8,
    "revision": None,
}
PEFT_CONFIG = {
    "base_model_name_or_path": None,
    "peft_type": "PROMPT_TUNING",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": 4,
    "num_transformer_submodules": 1,
    "token_dim": HIDDEN,
    "revision": None,
}


def make_t5(hidden=HIDDEN, layers=2) -> T5ForConditionalGeneration:
    """A random T5 in evaluation mode, the same at every call."""
    shape = dict(d_model=hidden, d_kv=8, d_ff=2 * hidden, num_layers=layers, num_heads=2)
    return tiny_models.make_t5(std=None, vocab_size=VOCABULARY, **shape)


@pytest.fixture(scope="session", name="make_t5")
def _make_t5():
    return make_t5


@pytest.fixture
def texts():
    """Source pieces [3, 7] with padding, their mask, and target pieces [3, 2]."""
    generator = torch.Generator().manual_seed(3)
    mask = (torch.arange(7) < torch.tensor([7, 4, 2])[:, None]).long()
    return (
        torch.randint(2, VOCABULARY, (3, 7), generator=generator) * mask,
        mask,
        torch.tensor([[5, 1], [6, 1], [7, 1]]),
    )


@pytest.fixture
def our_logits(texts):
    """A function model, prompt file -> logits [3, 2, vocab] by this project's own packs, combine and backbone."""

    @torch.no_grad()
    def logits(model, file, settings=SETTINGS, source_length=LENGTH):
        saved = read_prompt(file)
        backbone = EncoderDecoder(model)
        method = saved.metadata["method"]
        pack = build_prompt_module(method, backbone.embedding, settings, EptSettings(), source_length, [0])
        pack.load_tensors(0, saved.tensors, str(file))
        source, mask, target = texts
        state = backbone.begin(*combine(pack(), backbone.embed(source)[None], mask[None]))
        return torch.cat([state.logits[:, None], state.advance(target[:, :1])], 1)

    return logits


@pytest.fixture
def released_logits(texts):
    """A function model, DePT adapter folder -> logits [3, 2, vocab] by the recipe of DePT's released code.

    Text padded to max_length, lora_alpha / sqrt(r) A B added at all positions, prompt before it.
    """

    @torch.no_grad()
    def logits(model, folder):
        config = json.loads((folder / "adapter_config.json").read_text())
        weights = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
        source, mask, target = texts
        tokens, missing = config["num_virtual_tokens"], config["max_length"] - source.shape[1]
        offset = weights["prompt_encoder.lora_embedding_A"] @ weights["prompt_encoder.lora_embedding_B"]
        offset = config["lora_alpha"] / math.sqrt(config["r"]) * offset
        prompt = weights["prompt_embeddings"][:tokens].expand(len(source), -1, -1)
        embeddings = torch.cat([prompt, model.shared(pad(source, (0, missing))) + offset], 1)
        joined = pad(torch.cat([mask.new_ones(len(source), tokens), mask], 1), (0, missing))
        return model(inputs_embeds=embeddings, attention_mask=joined, labels=target).logits

    return logits


@pytest.fixture
def prompt_file(tmp_path):
    """A function method -> file of a prompt with random values, as after training."""

    def make(method):
        embedding = make_t5().shared.weight.detach()
        pack = build_prompt_module(method, embedding, SETTINGS, EptSettings(), LENGTH, [0])
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in pack.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        path = tmp_path / f"{method}.safetensors"
        save_prompt(path, pack.tensors(0), pack.collapse(0), {"method": method, "task": "rte", "seed": 0})
        return path

    return make


@pytest.fixture
def dept_folder(tmp_path):
    """A function that writes a folder as DePT's released code does; changes to configuration and tensors by key."""

    def make(config=(), tensors=(), without=()):
        generator = torch.Generator().manual_seed(2)
        contents = {
            "prompt_embeddings": 30 * torch.randn(4, HIDDEN, generator=generator),
            "prompt_encoder.lora_embedding_A": torch.randn(LENGTH, 2, generator=generator),
            "prompt_encoder.lora_embedding_B": torch.randn(2, HIDDEN, generator=generator),
        }
        contents = {name: value for name, value in (contents | dict(tensors)).items() if name not in without}
        folder = _write_config(tmp_path / "dept", DEPT_CONFIG, config, without)
        torch.save(contents, folder / "adapter_model.bin")
        return folder

    return make


@pytest.fixture
def peft_folder(tmp_path):
    """A function that writes a folder as PEFT does; changes to configuration and tensors by key."""

    def make(config=(), tensors=(), without=()):
        contents = {"prompt_embeddings": torch.randn(4, HIDDEN, generator=torch.Generator().manual_seed(2))}
        contents = {name: value for name, value in (contents | dict(tensors)).items() if name not in without}
        folder = _write_config(tmp_path / "peft", PEFT_CONFIG, config, without)
        save_file(contents, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def _write_config(folder, config, changes, without):
    folder.mkdir()
    config = {key: value for key, value in (config | dict(changes)).items() if key not in without}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def ept(capsys):
    """A function that runs `ept` with these words and returns status, standard output and standard error."""

    def run(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run
