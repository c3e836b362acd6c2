"""Decoder-only models behind the adapter against transformers' own forward pass, row by row and without padding."""

import copy

import pytest
import torch
from torch.nn import functional

from ept.backbones.decoder_only import DecoderOnly
from ept.evaluation.predict import generate, predict_labels, score_candidates
from tiny_models import END, FAMILIES, HIDDEN, VOCABULARY, causal_inputs, make_causal

CLOSE = dict(atol=1e-5, rtol=1e-5)


@pytest.fixture(params=FAMILIES)
def model(request):
    return make_causal(request.param)


@pytest.fixture
def inputs():
    return causal_inputs()


def _alone(model, embeddings, mask, row, pieces):
    """Transformers' logits [1 + pieces, vocab] behind one row's text and behind each of some pieces after it."""
    text = embeddings[row : row + 1, : int(mask[row].sum())]
    joined = torch.cat([text, model.get_input_embeddings()(torch.tensor([pieces], dtype=torch.int64))], 1)
    return model(inputs_embeds=joined).logits[0, text.shape[1] - 1 :]


def _gradient(model, embeddings, mask, targets):
    """That of the embeddings by transformers' own forward pass of every row."""
    embeddings = embeddings.clone().requires_grad_()
    for row, target in enumerate(targets):
        label = target[target != -100]
        logits = _alone(model, embeddings, mask, row, label[:-1].tolist()).float()
        functional.cross_entropy(logits, label, reduction="sum").backward()
    return embeddings.grad


def test_losses_are_on_the_label_alone_and_those_of_each_row_without_padding(model, inputs):
    embeddings, mask, targets = inputs
    losses = DecoderOnly(model).token_losses(embeddings, mask, targets)
    for row, target in enumerate(targets):
        label = target[target != -100]
        logits = _alone(model, embeddings, mask, row, label[:-1].tolist())
        expected = functional.cross_entropy(logits, label, reduction="none")
        torch.testing.assert_close(losses[row, : len(label)], expected, **CLOSE)
    assert (losses[targets == -100] == 0).all()


def test_gradients_reach_the_input_alone_and_no_padding(model, inputs):
    embeddings, mask, targets = inputs
    found, expected = embeddings.clone().requires_grad_(), _gradient(model, embeddings, mask, targets)
    model.zero_grad()
    backbone = DecoderOnly(model)
    backbone.token_losses(found, mask, targets).sum().backward()
    torch.testing.assert_close(found.grad, expected, **CLOSE)
    assert (found.grad[mask == 0] == 0).all()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not backbone.embed(torch.tensor([[1, 2]])).requires_grad


def test_gradients_in_bfloat16_are_as_exact_as_with_fused_attention(model, inputs):
    embeddings, mask, targets = inputs
    rounded, embeddings = model.bfloat16(), embeddings.bfloat16()
    single = copy.deepcopy(rounded).float()
    exact = _gradient(single, embeddings.float(), mask, targets)
    fused = _gradient(rounded, embeddings, mask, targets).float()
    assert rounded.config._attn_implementation == "sdpa"
    found = embeddings.clone().requires_grad_()
    DecoderOnly(rounded).token_losses(found, mask, targets).sum().backward()
    assert (found.grad.float() - exact).norm() < 1.2 * (fused - exact).norm()


def test_padding_and_row_order_change_nothing(model, inputs):
    embeddings, mask, targets = inputs
    backbone = DecoderOnly(model)
    order = torch.tensor([2, 0, 1])
    wide = torch.cat([embeddings, torch.full((3, 9, HIDDEN), 7.0)], 1)[order]
    wide_mask, long = functional.pad(mask, (0, 9))[order], functional.pad(targets, (0, 2), value=-100)[order]
    losses = backbone.token_losses(embeddings, mask, targets)
    torch.testing.assert_close(backbone.token_losses(wide, wide_mask, long)[:, :3], losses[order], **CLOSE)
    labels = [[3, END], [3, 4, END], [5, END]]
    scores = score_candidates(backbone, embeddings, mask, labels)
    torch.testing.assert_close(score_candidates(backbone, wide, wide_mask, labels), scores[order], **CLOSE)
    texts = generate(backbone, embeddings, mask, 5)
    assert generate(backbone, wide, wide_mask, 5) == [texts[row] for row in order]


def test_every_node_of_a_tree_has_the_logits_of_its_prefix_alone(model, inputs):
    embeddings, mask, _ = inputs
    tokens, parents = [-1, 5, 6, 7, 8, 9], [0, 0, 1, 1, 3, 0]
    prefixes = [[], [5], [5, 6], [5, 7], [5, 7, 8], [9]]
    found = DecoderOnly(model).tree_logits(embeddings, mask, tokens, parents)
    for row in range(3):
        for node, prefix in enumerate(prefixes):
            torch.testing.assert_close(found[row, node], _alone(model, embeddings, mask, row, prefix)[-1], **CLOSE)


def test_single_piece_labels_need_no_node_beside_the_text(model, inputs):
    embeddings, mask, _ = inputs
    found = score_candidates(DecoderOnly(model), embeddings, mask, [[3], [4]])
    for row in range(3):
        expected = _alone(model, embeddings, mask, row, [])[-1].log_softmax(-1)[[3, 4]]
        torch.testing.assert_close(found[row], expected, **CLOSE)


def test_the_head_gets_adjacent_rows(model, inputs):
    """From rows that are not adjacent the matrix product copies the head once for each of them: gigabytes."""
    embeddings, mask, targets = inputs
    backbone, seen = DecoderOnly(model), []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone.tree_logits(embeddings, mask, [-1, 5, 6], [0, 0, 1])
    backbone.label_states(embeddings, mask, targets)
    state = backbone.begin(embeddings, mask)
    state.advance(torch.tensor([[3], [4], [5]]))
    assert len(seen) == 4 and all(hidden.dim() == 2 or hidden.is_contiguous() for hidden in seen)


def test_writes_what_transformers_writes_greedily(model, inputs):
    embeddings, mask, _ = inputs
    backbone = DecoderOnly(model)
    written = generate(backbone, embeddings, mask, 6)
    for row in range(3):
        text = embeddings[row : row + 1, : int(mask[row].sum())]
        options = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, attention_mask=torch.ones(text.shape[:2]))
        pieces = model.generate(inputs_embeds=text, **options)[0].tolist()
        assert written[row] == (pieces[: pieces.index(END)] if END in pieces else pieces)
    # What generation begins with is the label that is looked up.
    strings = [*{tuple(pieces) for pieces in written if len(pieces) < 6}, (VOCABULARY - 1, 3)]
    found = predict_labels(backbone, embeddings, mask, [[*string, END] for string in strings]).tolist()
    assert found == [strings.index(tuple(pieces)) if tuple(pieces) in strings else -1 for pieces in written]


def test_states_of_the_input_are_in_its_order(model, inputs):
    embeddings, mask, targets = inputs
    states = DecoderOnly(model).label_states(embeddings, mask, targets)
    for row in range(3):
        text = embeddings[row : row + 1, : int(mask[row].sum())]
        expected = model.base_model(inputs_embeds=text).last_hidden_state[0]
        torch.testing.assert_close(states.encoded[row, : text.shape[1]], expected, **CLOSE)
    assert states.decoded.shape == (int((targets != -100).sum()), HIDDEN)


def test_attributes(model):
    backbone = DecoderOnly(model)
    assert (backbone.hidden_size, backbone.eos_id, backbone.pad_id) == (HIDDEN, END, END)
    assert (backbone.embedding.shape, backbone.most_places) == ((VOCABULARY, HIDDEN), 64)
    assert not backbone.family.encoder_decoder
    assert backbone.most_positions > 1000


def test_dropout_is_on_where_transformers_has_it_and_off_again(model, inputs):
    backbone, (embeddings, mask, targets) = DecoderOnly(model), inputs
    without = backbone.token_losses(embeddings, mask, targets)
    backbone.set_dropout(0.5)
    torch.manual_seed(0)
    first = backbone.token_losses(embeddings, mask, targets)
    torch.manual_seed(0)
    again, other = (backbone.token_losses(embeddings, mask, targets) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, without)
    backbone.set_dropout(0.0)
    assert torch.equal(backbone.token_losses(embeddings, mask, targets), without)


def test_dropout_and_gradient_checkpointing_draw_the_same(inputs):
    embeddings, mask, targets = inputs
    gradients = []
    for checkpointing in (False, True):
        backbone = DecoderOnly(make_causal("gpt2"), gradient_checkpointing=checkpointing)
        backbone.set_dropout(0.3)
        leaf = embeddings.clone().requires_grad_()
        torch.manual_seed(0)
        backbone.token_losses(leaf, mask, targets).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
