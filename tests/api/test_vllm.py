"""Exported tensors, joined by the exported client, give transformers what Prompted gives the backbone."""

import importlib.util

import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

import ept
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.exchange.formats import export_prompt
from ept.methods.registry import METHODS

TEXTS = ["a good film", "the judge did not like the poor plot of it", "no"]


PROMPTS = [name for name, method in METHODS.items() if method.packed]
MIXTURES = [name for name in PROMPTS if METHODS[name].start_from == "mixture"]


@pytest.mark.parametrize("method", [name for name in PROMPTS if name not in MIXTURES])
def test_the_client_builds_what_generates_the_same(method, model, prompt_files, tmp_path):
    export_prompt("vllm", prompt_files[method], tmp_path / "out")
    spec = importlib.util.spec_from_file_location("client", tmp_path / "out/client.py")
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    prompt = ept.Prompt.from_pretrained(prompt_files[method])
    tokenizer = AutoTokenizer.from_pretrained(BACKBONE_FOLDER)
    reference = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER).eval()
    for text in TEXTS:
        found = client.prompt_embeds(prompt.text(text), tokenizer)
        expected = model.inputs_embeds([text], prompt)["inputs_embeds"][0]
        torch.testing.assert_close(found, expected)
        with torch.inference_mode():
            tokens = reference.generate(inputs_embeds=found[None], max_new_tokens=8, do_sample=False)[0]
        assert (
            tokenizer.decode(tokens, skip_special_tokens=True).strip()
            == model.generate([text], prompt, max_new_tokens=8)[0]
        )


@pytest.mark.parametrize("method", MIXTURES)
def test_a_prompt_that_depends_on_its_text_is_refused(method, prompt_files, tmp_path):
    with pytest.raises(InputError, match=method):
        export_prompt("vllm", prompt_files[method], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_backbones_embeddings_nothing_is_written(save_random_prompt, tmp_path):
    file = save_random_prompt(tmp_path / "p.safetensors", "dept", backbone="t5-base")
    with pytest.raises(InputError, match="--backbone"):
        export_prompt("vllm", file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
