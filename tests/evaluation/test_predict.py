"""Predictions against transformers' own greedy generation and brute-force likelihoods."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.evaluation.predict import PrefixTree, generate, predict_both, predict_labels, score_candidates
from tiny_models import VERSIONS, make_t5

ROWS, LENGTH, HIDDEN, VOCABULARY = 200, 6, 16, 30
# As T5's tokenizer writes "0", "1" and "2": blank 0 </s>, 1 </s>, 2 </s>; and one label that begins like "0".
LABELS = [[2, 3, 1], [4, 1], [5, 1], [2, 6, 7, 1]]


# What the model is taught beside them: strings that begin like a label and are none, and others.
NEAR_MISSES = [[2, 8, 1], [4, 3, 1], [2, 6, 1], [9, 10, 11, 12, 1]]


@pytest.fixture(scope="module", params=VERSIONS)
def model(request, inputs):
    """A tiny T5 taught for a moment to write labels and near misses, so that it writes both and errs."""
    model = make_t5(request.param, seed=3, std=None, vocab_size=VOCABULARY, d_model=HIDDEN, num_layers=2)
    strings = LABELS + NEAR_MISSES
    padded = torch.tensor([string + [-100] * (5 - len(string)) for string in strings])
    targets = padded[inputs[0][:, 0, : len(strings)].argmax(1)]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model(inputs_embeds=inputs[0], attention_mask=inputs[1], labels=targets).loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def inputs():
    """Embeddings [200, 6, 16] and a mask with padding."""
    generator = torch.Generator().manual_seed(4)
    mask = (torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (ROWS, 1), generator=generator)).long()
    return torch.randn(ROWS, LENGTH, HIDDEN, generator=generator), mask


def _generated(model, embeddings, mask, new_tokens):
    """What transformers generates greedily, without padding, start and </s>."""
    options = dict(num_beams=1, do_sample=False, max_new_tokens=new_tokens, min_new_tokens=0)
    with torch.no_grad():
        written = model.generate(inputs_embeds=embeddings, attention_mask=mask, **options)[:, 1:].tolist()
    return [row[: row.index(1)] if 1 in row else row for row in written]


def test_labels_are_what_generation_writes(model, inputs):
    labels = predict_labels(EncoderDecoder(model), *inputs, LABELS)
    written = _generated(model, *inputs, 6)
    strings = [label[:-1] for label in LABELS]
    assert labels.tolist() == [strings.index(row) if row in strings else -1 for row in written]
    assert labels.dtype == torch.int64
    # The cases that matter: a label of several pieces, and rows that begin like a label and end as none.
    assert set(labels.tolist()) == {-1, 0, 1, 2, 3}
    first = {label[0] for label in LABELS}
    assert any(row and row[0] in first and label == -1 for row, label in zip(written, labels.tolist(), strict=True))


@pytest.mark.parametrize("new_tokens", [1, 2, 9])
def test_generates_what_transformers_generates(model, inputs, new_tokens):
    found = generate(EncoderDecoder(model), *inputs, new_tokens)
    assert found == _generated(model, *inputs, new_tokens)
    assert new_tokens < 9 or len({len(row) for row in found}) > 2


def test_scores_are_teacher_forced_log_likelihoods(model, inputs):
    embeddings, mask = inputs
    candidates = [[2, 3, 8, piece, 1] for piece in (9, 10, 11)] + [[4, 8, 9, 1], [2, 1], [12, 1]]
    scores = score_candidates(EncoderDecoder(model), embeddings, mask, candidates)
    for column, candidate in enumerate(candidates):
        target = torch.tensor([candidate] * ROWS)
        with torch.no_grad():
            logits = model(inputs_embeds=embeddings, attention_mask=mask, labels=target).logits
        expected = -functional.cross_entropy(logits.transpose(1, 2), target, reduction="none").sum(1)
        torch.testing.assert_close(scores[:, column], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("closed_end", [True, False])
def test_both_rules_in_one_pass(model, inputs, closed_end):
    backbone = EncoderDecoder(model)
    opened, closed = predict_both(backbone, *inputs, LABELS, closed_end)
    assert torch.equal(opened, predict_labels(backbone, *inputs, LABELS))
    strings = LABELS if closed_end else [label[:-1] for label in LABELS]
    assert torch.equal(closed, score_candidates(backbone, *inputs, strings).argmax(1))
    # A closed answer is always a label, and not always the one that an open answer names.
    assert set(closed.tolist()) == {0, 1, 2, 3} and (opened == -1).any()


def test_padding_and_row_order_change_nothing(model, inputs):
    embeddings, mask = inputs
    backbone = EncoderDecoder(model)
    order = torch.randperm(ROWS)
    wider = torch.cat([embeddings, torch.ones(ROWS, 5, HIDDEN)], 1)[order]
    mask_wider = functional.pad(mask, (0, 5))[order]
    scores = score_candidates(backbone, embeddings, mask, LABELS)
    found = score_candidates(backbone, wider, mask_wider, LABELS)
    torch.testing.assert_close(found, scores[order], atol=1e-5, rtol=1e-5)
    labels = predict_labels(backbone, embeddings, mask, LABELS)
    assert torch.equal(predict_labels(backbone, wider, mask_wider, LABELS), labels[order])
    texts = generate(backbone, embeddings, mask, 5)
    assert generate(backbone, wider, mask_wider, 5) == [texts[row] for row in order]


def test_one_row(model, inputs):
    embeddings, mask = (part[:1] for part in inputs)
    assert predict_labels(EncoderDecoder(model), embeddings, mask, LABELS).shape == (1,)
    assert len(generate(EncoderDecoder(model), embeddings, mask, 3)) == 1


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(2, 5), max_size=4), min_size=1, max_size=8))
def test_tree_holds_every_proper_prefix_once(strings):
    strings = [[*string, 1] for string in strings]
    tree = PrefixTree.of(strings)
    prefixes = [()]
    for token, parent in zip(tree.tokens[1:], tree.parents[1:], strict=True):
        prefixes.append((*prefixes[parent], token))
    assert len(set(prefixes)) == len(prefixes)
    assert set(prefixes) == {tuple(string[:end]) for string in strings for end in range(len(string))}
    for string, path in zip(strings, tree.paths, strict=True):
        assert [piece for _, piece in path] == string
        assert [prefixes[node] for node, _ in path] == [tuple(string[:end]) for end in range(len(string))]
