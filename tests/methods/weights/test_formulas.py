"""Each method against independent truth: its formula written out, transformers' own forward, or PEFT."""

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from methods.weights import explicit_t5
from tiny_models import VERSIONS, make_t5

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def _gradients(pack, loss):
    loss.backward()
    return {name: parameter.grad for name, parameter in pack.named_parameters()}


@pytest.mark.parametrize("method", ["fine_tuning", "adapter", "adapterdrop", "bitfit", "lst"])
def test_losses_and_gradients_are_those_of_the_formula(backbone, attach, randomize, losses, inputs, method):
    embeddings, mask, targets = inputs
    frozen = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    pack = randomize(attach(backbone, method))
    found = losses(backbone, inputs)

    trained = {name: tensor.clone().requires_grad_() for name, tensor in pack.tensors(0).items()}
    weights = frozen | trained
    if method == "fine_tuning" and "lm_head.weight" not in trained:
        weights["lm_head.weight"] = weights["shared.weight"]
    ids = torch.arange(mask.numel()).view(mask.shape) % len(backbone.embedding)
    texts = weights["shared.weight"][ids] + embeddings
    expected = explicit_t5.losses(weights, backbone.model.config, texts, mask, targets)
    torch.testing.assert_close(found, expected, **TOLERANCE)

    expected.sum().backward()
    for name, gradient in _gradients(pack, found.sum()).items():
        scale = trained[name].grad.abs().max()
        if name.endswith(".k.bias"):
            # It shifts all scores of a query alike, which the softmax cancels.
            assert max(scale, gradient.abs().max()) < 1e-4, name
            continue
        assert scale > 1e-4, name
        torch.testing.assert_close(gradient / scale, trained[name].grad / scale, msg=name, **TOLERANCE)


def test_the_formula_is_t5(backbone, losses, inputs):
    embeddings, mask, targets = inputs
    weights = backbone.model.state_dict()
    expected = explicit_t5.losses(weights, backbone.model.config, embeddings, mask, targets)
    torch.testing.assert_close(backbone.token_losses(embeddings, mask, targets), expected, **TOLERANCE)


@pytest.mark.parametrize("version", VERSIONS)
def test_fine_tuning_is_a_training_step_of_transformers(attach, inputs, version):
    """The same loss, the same gradients, and after a step of plain SGD on both the same loss again."""
    _, mask, targets = inputs
    ids = torch.arange(mask.numel()).view(mask.shape) % 40
    plain, backbone = make_t5(version), EncoderDecoder(make_t5(version))
    pack = attach(backbone, "fine_tuning")
    optimizers = [torch.optim.SGD(parameters, lr=1e-3) for parameters in (plain.parameters(), pack.parameters())]
    for _ in range(2):
        expected = plain(input_ids=ids, attention_mask=mask, labels=targets).loss
        found = backbone.token_losses(backbone.embed(ids), mask, targets).sum() / (targets != -100).sum()
        torch.testing.assert_close(found, expected, **TOLERANCE)
        expected.backward()
        own = _gradients(pack, found)
        for name, parameter in plain.named_parameters():
            scale = parameter.grad.abs().max()
            torch.testing.assert_close(own[name] / scale, parameter.grad / scale, msg=name, **TOLERANCE)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("version", VERSIONS)
def test_lora_is_pefts(attach, randomize, inputs, version):
    from peft import LoraConfig, get_peft_model

    _, mask, targets = inputs
    ids = torch.arange(mask.numel()).view(mask.shape) % 40
    other, backbone = make_t5(version), EncoderDecoder(make_t5(version))
    pack = randomize(attach(backbone, "lora"))
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, lora_alpha=6, target_modules=["q", "v"], lora_dropout=0.0)
    peft_model = get_peft_model(other, config).eval()
    trained = {name: parameter for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    prefix = "base_model.model."
    assert [name.removeprefix(prefix) for name in trained] == list(pack.tensors(0))
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(pack.tensors(0)[name.removeprefix(prefix)])

    expected = peft_model(input_ids=ids, attention_mask=mask, labels=targets).loss
    found = backbone.token_losses(backbone.embed(ids), mask, targets).sum() / (targets != -100).sum()
    torch.testing.assert_close(found, expected, **TOLERANCE)
    expected.backward()
    for name, gradient in _gradients(pack, found).items():
        expected_gradient = trained[prefix + name].grad
        torch.testing.assert_close(gradient, expected_gradient, msg=name, **TOLERANCE)


def test_side_network_starts_from_the_largest_units(backbone, attach):
    """Brute force in loops: which units stay, and that the side layers hold the backbone's numbers for them."""
    model, reduction = backbone.model, 4
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = attach(backbone, "lst").tensors(0)

    def largest(scores, count):
        return sorted(sorted(range(len(scores)), key=lambda unit: -scores[unit])[:count])

    kept = largest(frozen["shared.weight"].abs().sum(0).tolist(), 16 // reduction)
    for stack, index, layer, name in (("encoder", 1, 0, "SelfAttention"), ("decoder", 1, 1, "EncDecAttention")):
        source, side = f"{stack}.block.{index}.layer.{layer}", f"{stack}.block.{index}.rung.side.layer.{layer}"
        assert torch.equal(own[f"{side}.layer_norm.weight"], frozen[f"{source}.layer_norm.weight"][kept])
        q, k, v, o = (frozen[f"{source}.{name}.{part}.weight"] for part in "qkvo")
        for first, second, parts in ((q, k, "qk"), (v, o.T, "vo")):
            scores = (first.abs().sum(1) * second.abs().sum(1)).tolist()
            units = [head * 4 + unit for head in range(4) for unit in largest(scores[head * 4 : head * 4 + 4], 1)]
            for part, rows in zip(parts, (first, second), strict=True):
                cut = torch.tensor([[float(rows[unit, hidden]) for hidden in kept] for unit in units])
                assert torch.equal(own[f"{side}.{name}.{part}.weight"], cut.T if part == "o" else cut)
    dense = "encoder.block.1.layer.1.DenseReluDense"
    inward = [name for name in ("wi", "wi_0", "wi_1") if f"{dense}.{name}.weight" in frozen]
    scores = frozen[f"{dense}.wo.weight"].abs().sum(0)
    for name in inward:
        scores = scores * frozen[f"{dense}.{name}.weight"].abs().sum(1)
    units = largest(scores.tolist(), 24 // reduction)
    for name in inward:
        cut = frozen[f"{dense}.{name}.weight"][units][:, kept]
        assert torch.equal(own[f"encoder.block.1.rung.side.layer.1.DenseReluDense.{name}.weight"], cut)
