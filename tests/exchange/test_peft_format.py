"""PEFT's prompt-tuning folders, both ways, against PEFT itself."""

import json

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM, PeftModel, PromptTuningConfig, get_peft_model

from ept.backbones.decoder_only import DecoderOnly
from ept.config.settings import PromptSettings
from ept.exchange.formats import export_prompt, import_prompt
from ept.methods.prompt import PromptOutput, combine
from ept.methods.prompt_file import read_prompt
from tiny_models import FAMILIES, make_causal


@torch.no_grad()
def peft_logits(model, texts):
    source, mask, target = texts
    return model(input_ids=source, attention_mask=mask, labels=target).logits


@pytest.mark.parametrize("method", ["pt", "spot", "mpt"])
def test_peft_loads_what_was_exported(ept, tmp_path, prompt_file, make_t5, texts, our_logits, method):
    file, folder, back = prompt_file(method), tmp_path / "folder", tmp_path / "back.safetensors"
    status, out, _ = ept("export", "--format", "peft", "--from", file, "--to", folder, "--backbone", "t5-tiny")
    assert (status, out) == (0, f"{folder}: an adapter in the format peft, prompt 8 x 16\n")
    model = PeftModel.from_pretrained(make_t5(), str(folder))
    assert model.active_peft_config.base_model_name_or_path == "t5-tiny"
    torch.testing.assert_close(peft_logits(model, texts), our_logits(make_t5(), file))
    import_prompt("peft", folder, back)
    assert read_prompt(back).metadata["method"] == "pt"
    assert torch.equal(read_prompt(back).tensors["prompt"], read_prompt(file).collapsed["prompt"])
    torch.testing.assert_close(our_logits(make_t5(), back), our_logits(make_t5(), file))


def test_placeholder_is_refused_by_name_where_peft_looks_for_the_model(tmp_path, prompt_file):
    export_prompt("peft", prompt_file("pt"), tmp_path / "folder")
    with pytest.raises(Exception, match="<name of the base model>"):
        AutoPeftModelForSeq2SeqLM.from_pretrained(str(tmp_path / "folder"))


@pytest.mark.parametrize("submodules", [None, 1, 2])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_import_of_what_peft_saved_after_a_training_step(ept, tmp_path, make_t5, texts, our_logits, submodules, safe):
    source, mask, target = texts
    settings = PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, num_transformer_submodules=submodules)
    model = get_peft_model(make_t5(), settings)
    weight = model.prompt_encoder["default"].embedding.weight
    optimizer = torch.optim.SGD([weight], lr=10.0)
    model(input_ids=source, attention_mask=mask, labels=target).loss.backward()
    # What the remark says of PEFT: half of what it allocates by default is never trained.
    assert len(weight) == (5 if submodules == 1 else 10)
    assert (weight.grad[:5] != 0).any() and not (weight.grad[5:] != 0).any()
    optimizer.step()
    folder, file = tmp_path / "saved", tmp_path / "prompt.safetensors"
    model.save_pretrained(folder)
    if not safe:
        # As PEFT saved before safetensors.
        torch.save({"prompt_embeddings": weight.detach()}, folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    status, out, _ = ept("import", "--format", "peft", "--from", folder, "--to", file)
    assert status == 0 and ("second half" in out) == (submodules != 1)
    assert torch.equal(read_prompt(file).tensors["prompt"], weight.detach()[:5])
    found = our_logits(make_t5(), file, PromptSettings(length=5, short_length=2))
    torch.testing.assert_close(found, peft_logits(model.eval(), texts))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_import_of_a_decoder_only_prompt_that_peft_saved(ept, tmp_path, family, safe):
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    model = get_peft_model(make_causal(family), settings)
    weight = model.prompt_encoder["default"].embedding.weight
    folder, file = tmp_path / "saved", tmp_path / "prompt.safetensors"
    model.save_pretrained(folder)
    if not safe:
        torch.save({"prompt_embeddings": weight.detach()}, folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    assert ept("import", "--from", folder, "--to", file)[0] == 0
    assert torch.equal(read_prompt(file).tensors["prompt"], weight.detach())
    # The next piece by our adapter, and by PEFT.
    source = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 3]])
    backbone = DecoderOnly(make_causal(family))
    output = PromptOutput(read_prompt(file).collapsed["prompt"][None], None)
    with torch.no_grad():
        state = backbone.begin(*combine(output, backbone.embed(source)[None], torch.ones_like(source)[None]))
        expected = model(input_ids=source, attention_mask=torch.ones_like(source)).logits[:, -1]
    torch.testing.assert_close(state.logits, expected)


def test_a_decoder_only_prompt_stays_one(tmp_path, peft_folder):
    folder, file = peft_folder({"task_type": "CAUSAL_LM"}, without=["num_transformer_submodules"]), tmp_path / "file"
    import_prompt("peft", folder, file)
    export_prompt("peft", file, tmp_path / "again")
    assert '"task_type": "CAUSAL_LM"' in (tmp_path / "again" / "adapter_config.json").read_text()


@pytest.mark.parametrize("given", [True, False], ids=["size given", "default"])
def test_a_decoder_only_backbone_is_compared(ept, tmp_path, peft_folder, given):
    """Also where config.json leaves the size to the default of its kind."""
    hidden = 16 if given else 768
    config = {"model_type": "gpt2", "vocab_size": 50, "n_layer": 1, "n_head": 2} | ({"n_embd": 16} if given else {})
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone/config.json").write_text(json.dumps(config))
    changes = {"task_type": "CAUSAL_LM", "token_dim": hidden}
    folder = peft_folder(changes, {"prompt_embeddings": torch.ones(4, hidden)})
    words = ["import", "--format", "peft", "--from", folder, "--to", tmp_path / "file", "--backbone-folder"]
    assert ept(*words, tmp_path / "backbone")[0] == 0
