"""Laws of the methods that train inside the backbone, for each of them."""

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.evaluation.predict import generate
from ept.methods.prompt import combine
from ept.methods.prompt_file import read_prompt, save_prompt
from ept.methods.registry import METHODS
from tiny_models import make_t5

# All but a ladder, whose first predictions come from its own almost empty map.
START_AS_BACKBONE = [name for name, method in METHODS.items() if not method.packed and name != "lst"]
TREE = ([0, 3, 5, 7], [0, 0, 0, 1])


def _state(backbone):
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


def _assert_same(before, after):
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def _train(backbone, pack, losses, inputs, steps=3):
    optimizer = torch.optim.Adam(pack.parameters(), lr=1e-2)
    for _ in range(steps):
        losses(backbone, inputs).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def _outputs(backbone, losses, inputs):
    """Every way to read the backbone: losses, a tree of prefixes, decoding step by step."""
    embeddings, mask, _ = inputs
    with torch.inference_mode():
        state = backbone.begin(embeddings, mask)
        state = state.select(torch.tensor([2, 0]))
        stepwise = torch.cat([state.logits, state.advance(torch.tensor([[3], [5]]))[:, 0]])
        return losses(backbone, inputs), backbone.tree_logits(embeddings, mask, *TREE), stepwise


@pytest.fixture
def with_keys(monkeypatch):
    """Cross-attention makes keys and values, as it must where biases or low-rank updates go into them.

    The bare backbone's shorter way differs in rounding.
    """
    monkeypatch.setattr("ept.backbones.t5._plain", lambda module: False)


@pytest.mark.parametrize("method", START_AS_BACKBONE)
def test_starts_as_the_bare_backbone(backbone, attach, losses, inputs, method, with_keys):
    before = _outputs(backbone, losses, inputs)
    attach(backbone, method)
    assert all(map(torch.equal, before, _outputs(backbone, losses, inputs)))


@pytest.mark.parametrize("method", START_AS_BACKBONE)
def test_starts_as_the_bare_backbone_but_for_rounding(backbone, attach, losses, inputs, method):
    before = _outputs(backbone, losses, inputs)
    attach(backbone, method)
    for found, expected in zip(_outputs(backbone, losses, inputs), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_close_leaves_the_backbone_as_it_was(backbone, attach, losses, inputs, method):
    before, modules = _state(backbone), [(name, type(part)) for name, part in backbone.model.named_modules()]
    attributes, outputs = set(vars(backbone.model)), _outputs(backbone, losses, inputs)
    pack = attach(backbone, method)
    _train(backbone, pack, losses, inputs)
    assert not all(map(torch.equal, outputs, _outputs(backbone, losses, inputs)))
    pack.close()
    _assert_same(before, _state(backbone))
    assert [(name, type(part)) for name, part in backbone.model.named_modules()] == modules
    assert set(vars(backbone.model)) == attributes
    assert not any(part._forward_hooks for part in backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert all(map(torch.equal, outputs, _outputs(backbone, losses, inputs)))


def test_frozen_weights_are_bit_identical_after_training(backbone, attach, losses, inputs, method):
    before = {name: (parameter, parameter.clone()) for name, parameter in backbone.model.named_parameters()}
    pack = attach(backbone, method)
    own = {id(parameter) for parameter in pack.parameters()}
    _train(backbone, pack, losses, inputs)
    frozen = [name for name, (parameter, _) in before.items() if id(parameter) not in own]
    expected = {
        "fine_tuning": 0,
        "adapter": len([name for name in before if "norm" not in name]),
        "adapterdrop": len([name for name in before if "norm" not in name or ".block.0." in name]),
    }.get(method, len(before))
    assert len(frozen) == expected
    assert all(torch.equal(*before[name]) for name in frozen)


def test_gradients_reach_every_tensor_within_three_steps(backbone, attach, losses, inputs, method):
    pack = attach(backbone, method)
    silent = {name for name, _ in pack.named_parameters() if not name.endswith(".k.bias")}
    optimizer = torch.optim.SGD(pack.parameters(), lr=1e-3)
    for _ in range(3):
        losses(backbone, inputs).sum().backward()
        silent -= {name for name, parameter in pack.named_parameters() if parameter.grad.abs().max() > 0}
        optimizer.step()
        optimizer.zero_grad()
    assert not silent


def test_a_reloaded_run_predicts_what_the_trained_one_predicted(backbone, attach, losses, inputs, method, tmp_path):
    pack = attach(backbone, method)
    _train(backbone, pack, losses, inputs)
    expected = _outputs(backbone, losses, inputs)
    save_prompt(tmp_path / "seed0.safetensors", pack.tensors(0), pack.collapse(0), {})
    pack.close()
    again = attach(backbone, method, seed=5)
    saved = read_prompt(tmp_path / "seed0.safetensors")
    again.load_tensors(0, saved.tensors)
    assert all(map(torch.equal, expected, _outputs(backbone, losses, inputs)))
    assert sum(tensor.numel() for tensor in saved.collapsed.values()) == again.stored_parameters


def test_runs_one_after_another_are_runs_alone(backbone, attach, losses, inputs, method):
    def run(seed):
        pack = attach(backbone, method, seed)
        _train(backbone, pack, losses, inputs)
        trained = pack.collapse(0)
        pack.close()
        return trained

    alone = run(1)
    run(0)
    _assert_same(alone, run(1))


@pytest.mark.parametrize("method", ["adapter", "adapterdrop", "lora", "lst"])
def test_the_start_comes_from_the_seed_alone(backbone, attach, method):
    starts = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(starts))
        expected = torch.get_rng_state()
        pack = attach(backbone, method, seed)
        assert torch.equal(torch.get_rng_state(), expected)
        starts.append(pack.collapse(0))
        pack.close()
    _assert_same(*starts[:2])
    assert any(not torch.equal(starts[0][name], starts[2][name]) for name in starts[0])


def test_ways_of_reading_agree_with_each_other(backbone, attach, randomize, losses, inputs, method):
    """Losses, tree and generation see the same weights: decoding alone what the tree decodes at once."""
    randomize(attach(backbone, method))
    embeddings, mask, _ = inputs
    targets = torch.tensor([[3, 7]]).expand(3, -1)
    with torch.inference_mode():
        token_losses = backbone.token_losses(embeddings, mask, targets)
        tree = backbone.tree_logits(embeddings, mask, *TREE).log_softmax(-1)
        state = backbone.begin(embeddings, mask)
        first = state.logits.log_softmax(-1)
        second = state.advance(targets[:, :1])[:, 0].log_softmax(-1)
        third = state.advance(targets[:, 1:])[:, 0].log_softmax(-1)
    for found in (tree[:, [0, 1]], torch.stack([first, second], 1)):
        torch.testing.assert_close(-found.gather(2, targets[..., None])[..., 0], token_losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(third, tree[:, 3], rtol=1e-4, atol=1e-4)


def test_generation_writes_the_likeliest_pieces(backbone, attach, randomize, inputs, method):
    randomize(attach(backbone, method))
    embeddings, mask, _ = inputs
    for row, written in enumerate(generate(backbone, embeddings, mask, 4)):
        for length in range(len(written)):
            tokens = [0, *written[:length]]
            parents = [max(0, index - 1) for index in range(len(tokens))]
            with torch.inference_mode():
                logits = backbone.tree_logits(embeddings[row : row + 1], mask[row : row + 1], tokens, parents)
            assert int(logits[0, -1].argmax()) == written[length]


def test_a_pack_is_one_run_with_nothing_at_the_input(backbone, attach, method):
    pack = attach(backbone, method)
    text, mask = torch.randn(1, 3, 7, 16), torch.ones(1, 3, 7)
    joined, joined_mask = combine(pack(), text, mask)
    assert torch.equal(joined, text[0]) and torch.equal(joined_mask, mask[0])
    groups = pack.parameter_groups()
    assert tuple(groups) == METHODS[method].groups and pack.runs == 1 and pack.seeds == (0,) and not pack.packed
    assert [id(p) for p in groups["weights"]] == [id(p) for p in pack.parameters()]
    assert pack.trained_parameters == pack.stored_parameters == sum(p.numel() for p in pack.parameters())
    assert not any(part.training for part in backbone.model.modules())


@pytest.mark.parametrize("method", ["adapter", "adapterdrop", "lora", "lst"])
def test_trained_tensors_are_float32_over_a_bfloat16_backbone(attach, losses, inputs, method, with_keys):
    backbone = EncoderDecoder(make_t5("v1.0").to(torch.bfloat16))
    before = losses(backbone, inputs)
    frozen = _state(backbone)
    pack = attach(backbone, method)
    if method != "lst":
        assert torch.equal(losses(backbone, inputs), before)
    _train(backbone, pack, losses, inputs)
    assert {parameter.dtype for parameter in pack.parameters()} == {torch.float32}
    found = losses(backbone, inputs)
    assert found.isfinite().all() and not torch.equal(found, before)
    pack.close()
    _assert_same(frozen, _state(backbone))
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.bfloat16}


def test_only_what_trains_the_weights_themselves_wants_float32(method):
    assert METHODS[method].float32 == (method in ("fine_tuning", "bitfit"))


def test_lst_sends_no_gradient_through_the_backbone(backbone, attach, losses, inputs):
    """No activation of the backbone has a graph, and training keeps fewer bytes than with adapters."""

    def kept_bytes(method):
        pack = attach(backbone, method)
        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = losses(backbone, inputs).sum()
        del loss
        weights = {parameter.data_ptr() for parameter in backbone.model.parameters()}
        pack.close()
        return sum(size for pointer, size in kept.items() if pointer not in weights)

    blocks = [*backbone.model.encoder.block, *backbone.model.decoder.block]
    graphs = []
    handles = [
        block.register_forward_hook(lambda _, i, output: graphs.append(output.requires_grad)) for block in blocks
    ]
    lst = kept_bytes("lst")
    assert graphs == [False] * len(blocks)
    for handle in handles:
        handle.remove()
    assert lst < kept_bytes("adapter") / 2


def test_adapterdrop_sends_no_gradient_into_the_dropped_layers(backbone, attach, losses, inputs):
    attach(backbone, "adapterdrop")
    graphs = []
    for block in backbone.model.encoder.block:
        block.register_forward_hook(lambda _, i, output: graphs.append(output.requires_grad))
    losses(backbone, inputs)
    assert graphs == [False, True]
