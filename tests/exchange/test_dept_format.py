"""DePT's adapter folders, both ways."""

import json
import os
from pathlib import Path

import pytest
import torch

from ept.config.settings import PromptSettings
from ept.exchange.formats import export_prompt, import_prompt
from ept.methods.prompt_file import read_prompt

NAMES = {
    "prompt_embeddings": "prompt",
    "prompt_encoder.lora_embedding_A": "A",
    "prompt_encoder.lora_embedding_B": "B",
}


@pytest.fixture(scope="module")
def published() -> Path:
    """The published adapter for T5-base and CoLA."""
    data = os.environ.get("EPT_TEST_DATA")
    folder = Path(data or ".").parent / "checkpoints/dept/cola"
    if not data or not folder.is_dir():
        pytest.skip("needs the published DePT adapter beside the folder that EPT_TEST_DATA names")
    return folder


def weights(folder):
    return torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def test_published_adapter_there_and_back(ept, tmp_path, published):
    file, folder = tmp_path / "cola.safetensors", tmp_path / "new" / "cola"
    status, out, _ = ept("import", "--format", "dept", "--from", published, "--to", file)
    assert (status, out) == (0, f"{file}: a prompt of method dept, prompt 80 x 768, A 256 x 15, B 15 x 768\n")
    saved, expected = read_prompt(file), weights(published)
    assert saved.metadata["method"] == "dept" and saved.tensors.keys() == set(NAMES.values())
    assert all(torch.equal(saved.tensors[own], expected[name]) for name, own in NAMES.items())
    assert ept("export", "--format", "dept", "--from", file, "--to", folder)[0] == 0
    again = weights(folder)
    assert again.keys() == expected.keys() and all(torch.equal(again[name], expected[name]) for name in expected)
    # All that the released code reads, but for the start of the prompt: it would make one and overwrite it.
    start = {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"}
    assert config(folder).keys() == config(published).keys()
    assert {key: value for key, value in config(folder).items() if key not in start} == {
        key: value for key, value in config(published).items() if key not in start
    }


def test_published_adapter_gives_the_logits_of_the_released_recipe(
    tmp_path, published, make_t5, our_logits, released_logits
):
    import_prompt("dept", published, tmp_path / "cola.safetensors")
    model = make_t5(hidden=768, layers=1)
    found = our_logits(model, tmp_path / "cola.safetensors", PromptSettings(short_length=80), 256)
    torch.testing.assert_close(found, released_logits(model, published), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["dept", "ept"])
def test_export_gives_equal_logits_and_comes_back_as_dept(
    tmp_path, prompt_file, make_t5, our_logits, released_logits, method
):
    file, folder, back = prompt_file(method), tmp_path / "folder", tmp_path / "back.safetensors"
    export_prompt("dept", file, folder, backbone="t5-tiny")
    assert config(folder)["base_model_name_or_path"] == "t5-tiny"
    expected = our_logits(make_t5(), file)
    torch.testing.assert_close(released_logits(make_t5(), folder), expected)
    import_prompt("dept", folder, back)
    assert read_prompt(back).metadata["method"] == "dept"
    torch.testing.assert_close(our_logits(make_t5(), back), expected)
    collapsed = read_prompt(file).collapsed
    assert all(torch.equal(tensor, collapsed[name]) for name, tensor in read_prompt(back).tensors.items())


@pytest.mark.parametrize("alpha", [8, 16, 3.7])
def test_import_keeps_the_outputs_of_another_scale(tmp_path, dept_folder, make_t5, our_logits, released_logits, alpha):
    folder, file = dept_folder({"lora_alpha": alpha}), tmp_path / "prompt.safetensors"
    sentences = import_prompt("dept", folder, file)
    assert len(sentences) == (1 if alpha == 8 else 2) and ("lora_alpha" in sentences[-1]) == (alpha != 8)
    torch.testing.assert_close(our_logits(make_t5(), file), released_logits(make_t5(), folder))


def test_only_the_encoder_half_of_two_is_imported(tmp_path, dept_folder, make_t5, our_logits, released_logits):
    two = {"prompt_embeddings": torch.randn(8, 16, generator=torch.Generator().manual_seed(5))}
    folder, file = dept_folder({"num_transformer_submodules": 2}, two), tmp_path / "prompt.safetensors"
    assert "second half" in import_prompt("dept", folder, file)[1]
    torch.testing.assert_close(our_logits(make_t5(), file), released_logits(make_t5(), folder))


def test_half_precision_becomes_float32_unchanged(tmp_path, dept_folder):
    rough = torch.randn(4, 16).bfloat16()
    import_prompt("dept", dept_folder(tensors={"prompt_embeddings": rough}), tmp_path / "prompt.safetensors")
    prompt = read_prompt(tmp_path / "prompt.safetensors").tensors["prompt"]
    assert prompt.dtype == torch.float32 and torch.equal(prompt, rough.float())


def test_base_model_is_told_never_made_up(ept, tmp_path, prompt_file, dept_folder):
    file, folders = prompt_file("dept"), [tmp_path / str(number) for number in range(3)]
    _, out, _ = ept("export", "--format", "dept", "--from", file, "--to", folders[0])
    assert config(folders[0])["base_model_name_or_path"] == "<name of the base model>" and "--backbone" in out
    imported = tmp_path / "imported.safetensors"
    import_prompt("dept", dept_folder({"num_layers": 2}), imported)
    export_prompt("dept", imported, folders[1])
    export_prompt("dept", imported, folders[2], backbone="another")
    found = [(config(folder)["base_model_name_or_path"], config(folder)["num_layers"]) for folder in folders]
    assert found[1:] == [("t5-tiny", 2), ("another", None)]


def test_equal_prompts_give_equal_bytes(tmp_path, prompt_file):
    file = prompt_file("ept")
    for name in ("one", "two"):
        export_prompt("dept", file, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
