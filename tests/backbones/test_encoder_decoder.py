"""The attachment point against transformers' own forward pass."""

import pytest
import torch
from torch.nn import functional

from ept.backbones.encoder_decoder import EncoderDecoder

CLOSE = dict(atol=1e-5, rtol=1e-5)


def test_losses_are_those_of_transformers(t5, inputs):
    embeddings, mask, targets = inputs
    losses = EncoderDecoder(t5).token_losses(embeddings, mask, targets)
    output = t5(inputs_embeds=embeddings, attention_mask=mask, labels=targets)
    expected = functional.cross_entropy(output.logits.transpose(1, 2), targets, reduction="none", ignore_index=-100)
    torch.testing.assert_close(losses, expected, **CLOSE)
    torch.testing.assert_close(losses.sum() / (targets != -100).sum(), output.loss, **CLOSE)
    assert (losses[targets == -100] == 0).all()


def test_gradients_are_those_of_transformers_and_reach_the_input_alone(t5, inputs):
    embeddings, mask, targets = inputs
    backbone = EncoderDecoder(t5)
    found, expected = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    backbone.token_losses(found, mask, targets).sum().backward()
    output = t5(inputs_embeds=expected, attention_mask=mask, labels=targets)
    (output.loss * (targets != -100).sum()).backward()
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-4, rtol=1e-4)
    assert (found.grad[1, 4:] == 0).all()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in t5.parameters())
    assert not backbone.embed(torch.tensor([[1, 2]])).requires_grad


def test_training_after_inference_mode(t5, inputs):
    # A position bias made in inference mode must not get into a graph.
    embeddings, mask, targets = inputs
    backbone = EncoderDecoder(t5)
    with torch.inference_mode():
        backbone.token_losses(embeddings, mask, targets)
    backbone.token_losses(embeddings.requires_grad_(), mask, targets).sum().backward()
    assert embeddings.grad.abs().sum() > 0


def test_longer_and_shorter_inputs_share_the_position_bias(t5):
    backbone = EncoderDecoder(t5)
    for length in (5, 60, 3, 300, 31):
        embeddings, mask = torch.randn(2, length, 16), torch.ones(2, length, dtype=torch.bool)
        expected = t5.encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(backbone.encode(embeddings, mask), expected, atol=1e-4, rtol=1e-4)


def test_padding_and_row_order_change_nothing(t5, inputs):
    embeddings, mask, targets = inputs
    backbone = EncoderDecoder(t5)
    losses = backbone.token_losses(embeddings, mask, targets)
    padded = torch.cat([embeddings, torch.full((3, 9, 16), 7.0)], 1)
    longer = torch.cat([targets, torch.full((3, 2), -100)], 1)
    found = backbone.token_losses(padded, functional.pad(mask, (0, 9)), longer)
    torch.testing.assert_close(found[:, :3], losses, **CLOSE)
    order = torch.tensor([2, 0, 1])
    found = backbone.token_losses(embeddings[order], mask[order], targets[order])
    torch.testing.assert_close(found, losses[order], **CLOSE)


def test_tree_logits_are_those_of_each_prefix_alone(t5, inputs):
    embeddings, mask, _ = inputs
    tokens, parents = [0, 5, 6, 7, 8, 9], [0, 0, 1, 1, 3, 0]
    prefixes = [[0], [0, 5], [0, 5, 6], [0, 5, 7], [0, 5, 7, 8], [0, 9]]
    found = EncoderDecoder(t5).tree_logits(embeddings, mask, tokens, parents)
    for node, prefix in enumerate(prefixes):
        decoder_ids = torch.tensor([prefix] * 3)
        output = t5(inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=decoder_ids)
        torch.testing.assert_close(found[:, node], output.logits[:, -1], atol=1e-4, rtol=1e-4)


def test_decoding_steps_are_those_of_one_pass(t5, inputs):
    embeddings, mask, _ = inputs
    tokens = torch.tensor([[4, 9, 2, 7], [3, 3, 8, 5], [6, 1, 0, 2]])
    expected = t5(
        inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=functional.pad(tokens, (1, 0))
    ).logits
    close = dict(atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        state = EncoderDecoder(t5).begin(embeddings, mask)
        torch.testing.assert_close(state.logits, expected[:, 0], **close)
        torch.testing.assert_close(state.advance(tokens[:, :1]), expected[:, 1:2], **close)
        part = state.select(torch.tensor([2, 0]))
        torch.testing.assert_close(part.logits, expected[[2, 0], 1], **close)
        # Several pieces at once, and the state that the part was taken from is as it was.
        torch.testing.assert_close(part.advance(tokens[[2, 0], 1:3]), expected[[2, 0], 2:4], **close)
        torch.testing.assert_close(state.advance(tokens[:, 1:]), expected[:, 2:], **close)
        torch.testing.assert_close(part.advance(tokens[[2, 0], 3:]), expected[[2, 0], 4:], **close)


def test_bfloat16_computes_the_loss_in_float32(t5, inputs):
    embeddings, mask, targets = inputs
    exact = EncoderDecoder(t5).token_losses(embeddings, mask, targets)
    backbone = EncoderDecoder(t5.bfloat16())
    losses = backbone.token_losses(embeddings.bfloat16(), mask, targets)
    assert (backbone.dtype, losses.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(losses, exact, atol=0.5, rtol=0.1)


def test_attributes(t5):
    backbone = EncoderDecoder(t5)
    assert (backbone.hidden_size, backbone.pad_id, backbone.eos_id, backbone.start_id) == (16, 0, 1, 0)
    assert backbone.embedding.shape == (40, 16)
    assert backbone.device == torch.device("cpu")
    assert backbone.most_positions >= 1000
    assert not any(module.training for module in t5.modules())


@pytest.mark.parametrize("start", [None, 3])
def test_start_token(t5, inputs, start):
    embeddings, mask, targets = inputs
    t5.config.decoder_start_token_id = start
    backbone = EncoderDecoder(t5)
    assert backbone.start_id == (start or 0)
    t5.config.decoder_start_token_id = backbone.start_id
    expected = t5(inputs_embeds=embeddings, attention_mask=mask, labels=targets).loss
    found = backbone.token_losses(embeddings, mask, targets)
    torch.testing.assert_close(found.sum() / (targets != -100).sum(), expected, **CLOSE)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_is_off_unless_it_is_set(t5, inputs, checkpointing):
    backbone, (embeddings, mask, targets) = EncoderDecoder(t5, gradient_checkpointing=checkpointing), inputs

    def gradient(seed):
        torch.manual_seed(seed)
        leaf = embeddings.clone().requires_grad_()
        losses = backbone.token_losses(leaf, mask, targets)
        losses.sum().backward()
        return losses.detach(), leaf.grad

    without = gradient(0)
    backbone.set_dropout(0.3)
    first, again, other = gradient(0), gradient(0), gradient(1)
    for part in range(2):
        assert torch.equal(first[part], again[part])
        assert not torch.equal(first[part], other[part]) and not torch.equal(first[part], without[part])
    backbone.set_dropout(0.0)
    assert all(torch.equal(*parts) for parts in zip(gradient(2), without, strict=True))


def test_dropout_is_where_transformers_t5_has_it(t5, inputs, monkeypatch):
    """As many places and the same sizes as in transformers' training mode, attention included."""
    embeddings, mask, targets = inputs

    def dropped_sizes(run):
        sizes = []

        def dropout(hidden, p=0.5, training=True, inplace=False):
            if training and p:
                sizes.append(tuple(hidden.shape))
            return hidden

        def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **options):
            if dropout_p:
                sizes.append((*query.shape[:3], key.shape[2]))
            return plain(query, key, value, attn_mask=attn_mask, is_causal=is_causal, scale=scale, **options)

        plain = torch.nn.functional.scaled_dot_product_attention
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "dropout", dropout)
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
            run()
        return sorted(sizes)

    for module in t5.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    t5.train()
    expected = dropped_sizes(lambda: t5(inputs_embeds=embeddings, attention_mask=mask, labels=targets))
    backbone = EncoderDecoder(t5)
    backbone.set_dropout(0.1)
    found = dropped_sizes(lambda: backbone.token_losses(embeddings, mask, targets))
    assert found == expected and len(found) > 20
