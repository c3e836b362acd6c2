"""PT against PEFT's prompt tuning."""

import torch
from peft import PromptTuningConfig, get_peft_model

from ept.config.settings import EptSettings, PromptSettings
from ept.methods.build import build_prompt_module
from ept.methods.prompt import combine


def test_loss_and_gradients_equal_peft(tiny_t5):
    """With num_transformer_submodules=1, PEFT puts the prompt before the encoder's input alone, as PT does.

    (Its default for encoder-decoder models is 2, which allocates a second prompt and does not train it.)
    """
    model = tiny_t5()
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(2, 50, (3, 7), generator=generator)
    target = torch.randint(2, 50, (3, 4), generator=generator)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 2 + [0] * 5])
    pack = build_prompt_module(
        "pt", model.shared.weight, PromptSettings(length=6, short_length=2), EptSettings(), 7, [3]
    )

    embeddings, joined_mask = combine(pack(), model.shared(source)[None], mask[None])
    loss = model(inputs_embeds=embeddings, attention_mask=joined_mask, labels=target).loss
    loss.backward()

    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=6, num_transformer_submodules=1, num_attention_heads=2
    )
    reference = get_peft_model(model, config).eval()
    weight = reference.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        weight.copy_(pack.prompt[0])
    reference_loss = reference(input_ids=source, attention_mask=mask, labels=target).loss
    reference_loss.backward()

    torch.testing.assert_close(loss, reference_loss, rtol=1e-6, atol=1e-6)
    assert weight.grad.norm() > 1e-3
    torch.testing.assert_close(pack.prompt.grad[0], weight.grad, rtol=1e-5, atol=1e-7)


def test_pt_has_one_tensor_in_one_group(small_pack):
    pack = small_pack("pt", seeds=[0, 1])
    assert pack.prompt.shape == (2, 10, 12)
    assert pack().offset is None
    groups = pack.parameter_groups()
    assert list(groups) == ["prompt"] and groups["prompt"][0] is pack.prompt
    assert pack.diagnostics(0) == {}
    assert pack.collapse(1).keys() == {"prompt"}
