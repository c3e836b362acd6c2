"""How the patches of images join prompt and text: checked row by row, and through models of both kinds."""

from dataclasses import replace

import pytest
import torch

from ept.backbones.decoder_only import DecoderOnly
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.errors import InputError
from ept.methods.prompt import ImageInput, PromptOutput, combine
from tiny_models import make_causal, make_t5

RUNS, BATCH, PROMPT, LENGTH, PATCHES, WIDTH, HIDDEN = 2, 3, 2, 5, 4, 6, 16
PIECES = [5, 2, 3]


@pytest.fixture(params=["t5", "llama", "gpt2"])
def backbone(request):
    return EncoderDecoder(make_t5()) if request.param == "t5" else DecoderOnly(make_causal(request.param))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def texts(runs=RUNS):
    mask = (torch.arange(LENGTH) < torch.tensor(PIECES)[:, None]).long()
    return random(runs, BATCH, LENGTH, HIDDEN, seed=1), mask.expand(runs, -1, -1)


def output(offset="text", trained=False, runs=RUNS):
    rows = {"text": LENGTH, "visual": PATCHES, "both": PATCHES + LENGTH}[offset]
    projection = random(runs, WIDTH + 1, HIDDEN, seed=2)
    frozen = None if trained else projection[:1]
    return PromptOutput(
        random(runs, PROMPT, HIDDEN, seed=3),
        random(runs, rows, HIDDEN, seed=4),
        projection=projection if trained else None,
        images=ImageInput(PATCHES, offset, frozen),
    )


def expected_row(found, run, row, text, features):
    """[prompt | text | patches] of one row, position by position."""
    projection = found.images.projection[0] if found.projection is None else found.projection[run]
    offset, where = found.offset[run], found.images.offset
    words = text[run, row, : PIECES[row]]
    patches = torch.stack([patch @ projection[:-1] + projection[-1] for patch in features])
    if where in ("text", "both"):
        start = PATCHES if where == "both" else 0
        words = words + offset[start : start + len(words)]
    if where in ("visual", "both"):
        patches = patches + offset[:PATCHES]
    return torch.cat([found.prompt[run], words, patches])


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("offset", ["text", "visual", "both"])
def test_patches_follow_the_last_piece_and_padding_follows_them(offset, trained):
    found, (text, mask) = output(offset, trained), texts()
    features = random(RUNS, BATCH, PATCHES, WIDTH, seed=5)
    joined, joined_mask = combine(found, text, mask, features)
    for run in range(RUNS):
        for row in range(BATCH):
            expected = expected_row(found, run, row, text, features[run, row])
            place = run * BATCH + row
            assert joined_mask[place].tolist() == [1] * len(expected) + [0] * (LENGTH - PIECES[row])
            torch.testing.assert_close(joined[place, : len(expected)], expected)


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_runs_that_read_the_same_images_share_their_features(trained):
    found, (text, mask) = output("both", trained), texts()
    features = random(1, BATCH, PATCHES, WIDTH, seed=5)
    shared = combine(found, text, mask, features)
    repeated = combine(found, text, mask, features.expand(RUNS, -1, -1, -1))
    torch.testing.assert_close(shared, repeated)


def test_a_row_with_an_image_gets_the_same_loss_alone_and_among_longer_ones(backbone):
    """The model sees [prompt | text | patches | label] at the positions that a row without padding has."""
    found, (text, mask) = output(runs=1), texts(runs=1)
    features = random(1, BATCH, PATCHES, WIDTH, seed=5)
    targets = torch.tensor([[3, 4, 2], [5, 2, -100], [6, 7, 2]])
    together = backbone.token_losses(*combine(found, text, mask, features), targets)
    for row in range(BATCH):
        alone = expected_row(found, 0, row, text, features[0, row])[None]
        losses = backbone.token_losses(alone, torch.ones(1, alone.shape[1], dtype=torch.int64), targets[row : row + 1])
        torch.testing.assert_close(together[row], losses[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together, backbone.token_losses(*combine(found, text, mask, features.flip(1)), targets))


def test_without_an_image_the_input_is_that_of_a_text_bit_for_bit():
    plain, (text, mask) = replace(output(), images=None), texts()
    joined, joined_mask = combine(plain, text, mask)
    by_hand = torch.cat([plain.prompt[:, None].expand(-1, BATCH, -1, -1), text + plain.offset[:, None]], 2)
    assert torch.equal(joined, by_hand.flatten(0, 1))
    assert torch.equal(joined_mask[:, PROMPT:], mask.flatten(0, 1))


@pytest.mark.parametrize("offset", ["text", "visual", "both"])
def test_gradients_reach_prompt_offset_and_projection(offset):
    found, (text, mask) = output(offset, trained=True), texts()
    parts = [found.prompt, found.offset, found.projection]
    for part in parts:
        part.requires_grad_()
    combine(found, text, mask, random(RUNS, BATCH, PATCHES, WIDTH, seed=5))[0].square().sum().backward()
    assert all(bool((part.grad.flatten(1) != 0).any(1).all()) for part in parts)


def test_parts_of_runs_keep_how_images_are_read():
    found = output("both", trained=True)
    cut = found.slice(1, 2)
    assert cut.images is found.images and torch.equal(cut.projection[0], found.projection[1])
    assert torch.equal(found.select([1, 0]).projection[1], found.projection[0])


def test_inputs_that_do_not_fit_the_prompt_are_refused():
    found, (text, mask) = output("both"), texts()
    with pytest.raises(InputError, match="without"):
        combine(found, text, mask)
    with pytest.raises(InputError, match="without"):
        combine(replace(found, images=None), text, mask, random(1, BATCH, PATCHES, WIDTH))
    with pytest.raises(InputError, match=rf"\b{WIDTH + 1}\b.*\b{WIDTH}\b"):
        combine(found, text, mask, random(1, BATCH, PATCHES, WIDTH + 1))
    with pytest.raises(InputError, match=rf"\b{PATCHES - 1}\b.*\b{PATCHES}\b"):
        combine(found, text, mask, random(1, BATCH, PATCHES - 1, WIDTH))
    longer = torch.cat([text, text], 2), torch.cat([mask, mask], 2)
    with pytest.raises(InputError, match=rf"\b{2 * LENGTH}\b.*\b{LENGTH}\b"):
        combine(found, *longer, random(1, BATCH, PATCHES, WIDTH))
