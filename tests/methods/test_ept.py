"""EPT against its equations in plain NumPy, and what it owes to DePT."""

import numpy as np
import pytest
import torch

from ept.config.settings import EptSettings, PromptSettings
from ept.errors import InputError
from ept.methods.build import build_prompt_module
from ept.methods.prompt import combine


def _softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _normalized(rows):
    return np.stack([row / np.sqrt(np.mean(row**2) + 1e-6) for row in rows])


def _expected_fusion(t, options, product, e, reached):
    kind, context = options.get("fusion", "dot"), options.get("fusion_context", "reached")
    if kind == "none":
        return np.zeros_like(t["prompt"])
    rows = {"all": product, "factors": t["B"]}.get(context, product[:reached])
    values = rows * e / np.sqrt(np.mean(rows**2) + (0.01 * e) ** 2)
    queries, keys = _normalized(t["prompt"]), _normalized(rows)
    if context == "joint":
        keys, values = np.concatenate([keys, queries]), np.concatenate([values, t["prompt"]])
    if kind == "dot":
        read = _softmax(queries @ keys.T / np.sqrt(product.shape[1])) @ values
    else:
        attention = _softmax((queries @ t["fusion.W_q"]) @ (keys @ t["fusion.W_k"]).T / np.sqrt(options["fusion_rank"]))
        read = attention @ (values @ t["fusion.W_v"] @ t["fusion.W_o"])
    return t["fusion.gain"] * (read - t["prompt"] if options.get("fusion_difference") else read)


def _expected_spaces(t, options):
    """Σ g_n H_n space by space, and the gate weights [tokens, N]."""
    prompt, spaces = t["prompt"], options.get("spaces", 4)
    kind = options.get("projection", "low_rank")
    if kind == "none" or spaces == 1:
        return prompt, None
    rank = len(prompt[0]) if kind == "full" else options.get("space_rank", 1)
    mapped = [prompt]
    for n in range(spaces - 1):
        if kind == "elementwise":
            mapped.append(prompt * (1 + t["spaces.U"][n] * t["spaces.V"][n]))
        else:
            columns = slice(n * rank, (n + 1) * rank)
            mapped.append(prompt + prompt @ t["spaces.U"][:, columns] @ t["spaces.V"][columns])
    rows = _normalized(prompt)
    if options.get("gate") == "prompt":
        rows = np.repeat(rows.mean(0, keepdims=True), len(prompt), 0)
    gate = _softmax(rows @ t["spaces.W_g"])
    return sum(gate[:, n : n + 1] * mapped[n] for n in range(spaces)), gate


@pytest.mark.parametrize("reached", [9, 5])
def test_output_equals_the_equations(small_pack, randomize, ept_options, reached):
    pack = randomize(small_pack(seeds=[0, 1], ept=ept_options, text_length=reached))
    embedding = 3 * torch.randn(50, 12, generator=torch.Generator().manual_seed(99))
    e = np.sqrt(np.mean(embedding.double().numpy() ** 2))
    output = pack()
    for run in range(2):
        t = {name: tensor.double().numpy() for name, tensor in pack.tensors(run).items()}
        product = 8 / np.sqrt(pack.rank) * t["A"] @ t["B"]
        fused = _expected_fusion(t, ept_options, product, e, reached)
        spaces, gate = _expected_spaces(t, ept_options)
        found = output.prompt[run].detach().double().numpy()
        np.testing.assert_allclose(found, spaces + fused, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(output.offset[run].detach().numpy(), product, rtol=1e-5, atol=1e-6)
        diagnostics = pack.diagnostics(run)
        if "gain" in diagnostics:
            ratio = np.linalg.norm(fused) / np.linalg.norm(t["prompt"])
            assert diagnostics["fusion_ratio"] == pytest.approx(ratio, rel=1e-4)
            assert diagnostics["gain"] == pytest.approx(float(t["fusion.gain"]))
        assert ("gate_weights" in diagnostics) == (gate is not None)
        if gate is not None:
            np.testing.assert_allclose(diagnostics["gate_weights"], gate.mean(0), rtol=1e-4)


def test_equals_dept_at_the_start_exactly(small_pack, ept_options):
    ept = small_pack("ept", seeds=[5, 6], ept={**ept_options, "budget": "decomposition"})
    dept = small_pack("dept", seeds=[5, 6])
    assert (ept().prompt - dept().prompt).abs().max() == 0.0
    assert (ept().offset - dept().offset).abs().max() == 0.0
    if "decomposition" not in ept_options:
        assert torch.equal(ept.A, dept.A)


def test_rows_that_no_training_text_reaches_get_no_gradient_through_fusion(small_pack, randomize):
    """They are never added to anything, as in DePT; with `all` the fusion attends to them too."""
    for context, silent in (("reached", True), ("all", False)):
        pack = randomize(small_pack(ept={"fusion_context": context}, text_length=4))
        pack().prompt.square().sum().backward()
        assert pack.A.grad[0, :4].any() and pack.A.grad[0, 4:].any() != silent


def test_a_start_from_singular_vectors(small_pack):
    """B holds the directions of PT's first prompt: its best approximation of rank r is a product with B."""
    pack, plain = small_pack(seeds=[3, 4], ept={"decomposition": "svd"}), small_pack("pt", seeds=[3, 4])
    assert not pack.A.any()
    for run in range(2):
        prompt, B = plain.prompt[run].detach().double().numpy(), pack.B[run].detach().double().numpy()
        left, values, right = np.linalg.svd(prompt, full_matrices=False)
        best = (left[:, : pack.rank] * values[: pack.rank]) @ right[: pack.rank]
        np.testing.assert_allclose(prompt @ np.linalg.pinv(B) @ B, best, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(B, axis=1), values[: pack.rank] / np.sqrt(len(prompt)), rtol=1e-4)


def test_a_rank_that_no_prompt_has_is_refused(small_pack):
    with pytest.raises(InputError, match="svd.*12.*13"):
        small_pack(
            ept={"decomposition": "svd"}, length=40, short_length=2, rank=13, reference_length=12, source_length=12
        )


def test_backbone_sees_no_difference_at_the_start(tiny_t5):
    model = tiny_t5()
    source, target = torch.randint(2, 50, (2, 6)), torch.tensor([[5, 1], [6, 1]])
    logits = []
    for method in ("ept", "dept"):
        settings = PromptSettings(length=10, short_length=5, reference_length=8)
        pack = build_prompt_module(method, model.shared.weight, settings, EptSettings(), 8, [0])
        embeddings, mask = combine(pack(), model.shared(source)[None], torch.ones(1, 2, 6))
        logits.append(model(inputs_embeds=embeddings, attention_mask=mask, labels=target).logits)
    assert (logits[0] - logits[1]).abs().max() == 0.0


def _loss(pack):
    target = torch.randn(4, 12, generator=torch.Generator().manual_seed(4))
    output = pack()
    return (output.prompt - target).square().sum() + (output.offset - 1).square().sum()


def test_first_gradients_are_finite_and_come_when_they_should(small_pack, ept_options):
    """At the start B = V = W_g = 0: prompt, B and V learn; A, U, W_g and gain only after the first update.

    With the singular vectors A = 0 and A learns first; a gain that starts at 0 learns first.
    """
    pack = small_pack(ept=ept_options)
    late = {"spaces.U", "spaces.W_g", "fusion.gain", "fusion.W_q", "fusion.W_k", "fusion.W_v", "fusion.W_o"}
    late |= {"B"} if ept_options.get("decomposition") == "svd" else {"A"}
    if ept_options.get("fusion_context") == "joint" or ept_options.get("fusion_difference"):
        late -= {"fusion.gain"}
    optimizer = torch.optim.SGD(pack.parameters(), lr=1e-3)
    _loss(pack).backward()
    for name, parameter in pack.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert bool(parameter.grad.any()) == (name not in late), name
    optimizer.step()
    optimizer.zero_grad()
    _loss(pack).backward()
    for name, parameter in pack.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("projection", ["low_rank", "elementwise", "full"])
def test_spaces_grow_apart(small_pack, projection):
    """Equal starts and equal gradients would leave the spaces 2..N equal, that is one space."""
    pack = small_pack(ept={"projection": projection, "spaces": 3})
    optimizer = torch.optim.Adam(pack.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        _loss(pack).backward()
        optimizer.step()
    gates = pack.diagnostics(0)["gate_weights"]
    assert abs(gates[1] - gates[2]) > 1e-4
    second, third = pack.spaces.V[0].detach().chunk(2)
    assert (second - third).abs().max() > 1e-3


def test_gate_is_uniform_at_the_start(small_pack):
    assert small_pack().diagnostics(0)["gate_weights"] == [0.25] * 4
    assert small_pack().diagnostics(0) == {"fusion_ratio": 0.0, "gain": 1.0, "gate_weights": [0.25] * 4}


def test_trained_tensors_are_only_those_of_the_options(small_pack):
    def names(**ept):
        return set(small_pack(ept=ept).tensors(0))

    base, gate = {"prompt", "A", "B"}, {"spaces.U", "spaces.V", "spaces.W_g"}
    assert names(fusion="none", projection="none") == base
    assert names(fusion="none", spaces=1) == base
    assert names(fusion="none") == base | gate
    assert names(projection="none") == base | {"fusion.gain"}
    assert names() == base | gate | {"fusion.gain"}


def test_all_but_the_prompt_learns_with_the_low_rank_pair(small_pack):
    pack = small_pack(ept={"fusion": "projected"})
    groups = pack.parameter_groups()
    assert groups.keys() == {"prompt", "low_rank"}
    assert groups["prompt"] == [pack.prompt]
    assert sum(len(group) for group in groups.values()) == len(list(pack.parameters()))
