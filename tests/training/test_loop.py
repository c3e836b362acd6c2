"""A pack trains like its runs alone; a run that diverges leaves the others untouched."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.data.tokenize import SCHEMA, write_tokens
from ept.data.tokenized import TokenizedSplit
from ept.prompts.build import build_pack
from ept.prompts.settings import EptSettings, PromptSettings
from ept.training.forward import ForwardSize, accumulate_gradients, cut
from ept.training.loop import train_pack
from ept.training.progress import Progress
from ept.training.results import Run
from ept.training.settings import TrainingSettings

LENGTH = 12
PROMPT = PromptSettings(length=8, short_length=3, reference_length=LENGTH)
SETTINGS = TrainingSettings(batch_size=4, steps=12, warmup_steps=2, evaluate_every=4)
LARGE = ForwardSize(10**6)
RATES = {"prompt": 0.3, "low_rank": 0.005, "task": 0.01, "attention": 0.01}
GROUPS = {"pt": ("prompt",), "mpt": ("prompt", "task"), "attempt": ("prompt", "attention")}


@pytest.fixture(scope="module")
def t5():
    torch.manual_seed(0)
    shape = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0)
    return T5ForConditionalGeneration(shape).eval()


@pytest.fixture(scope="module")
def backbone(t5):
    return EncoderDecoder(t5)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Forty rows of one length (so that a run meets the same padding alone and in a pack), two labels."""
    generator = np.random.default_rng(0)
    sources = [[*generator.integers(3, 40, LENGTH - 1), 1] for _ in range(40)]
    columns = {
        "id": [str(row) for row in range(40)],
        "group": [""] * 40,
        "input_ids": sources,
        "target_ids": [[5, 1] if row % 2 else [6, 7, 1] for row in range(40)],
        "label": [float(row % 2) for row in range(40)],
        "answers": [[]] * 40,
    }
    (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
    path = tmp_path_factory.mktemp("tokens") / "train.arrow"
    write_tokens(path, batch, {"pad_id": 0, "split": "train"})
    return TokenizedSplit(path)


def _pack(backbone, method, seeds):
    sources = 3 * torch.randn(2, PROMPT.length, 16, generator=torch.Generator().manual_seed(1))
    return build_pack(method, backbone.embedding, PROMPT, EptSettings(), LENGTH, seeds, sources=sources)


def _train(backbone, train, method, runs, steps=12, settings=SETTINGS):
    prompts = _pack(backbone, method, [run.seed for run in runs])
    rows = np.tile(np.arange(len(train)), (len(runs), 1))
    scores = iter(range(1, 100))

    def validate(current, alive):
        # Rises at every validation, so that the last one is the best.
        return np.full(len(alive), float(next(scores)))

    progress = Progress("test", steps)
    results, _ = train_pack(backbone, prompts, runs, train, rows, steps, settings, LARGE, validate, progress)
    return results


def _accumulate(backbone, prompts, train, rows, size=None):
    """The gradients of one step on `rows` [runs, batch], all runs alive."""
    length = prompts().prompt.shape[1]
    counts = torch.from_numpy(train.target_lengths[rows].sum(1))
    parts = list(cut(train, rows, length, size or LARGE))
    return accumulate_gradients(backbone, prompts, list(range(len(rows))), parts, counts)


@pytest.mark.parametrize("method", ["pt", "attempt", "mpt", "dept", "ept"])
def test_a_packed_run_ends_like_the_same_run_alone(backbone, train, method):
    groups = GROUPS.get(method, ("prompt", "low_rank"))
    rates = [{group: RATES[group] * scale for group in groups} for scale in (1.0, 0.3)]
    runs = [Run(seed, rate) for seed in (0, 1) for rate in rates]
    packed = _train(backbone, train, method, runs)
    for run, together in zip(runs, packed, strict=True):
        (alone,) = _train(backbone, train, method, [run])
        assert together.best_step == alone.best_step == 12
        assert together.validation_curve == alone.validation_curve
        for name, tensor in alone.best_tensors.items():
            torch.testing.assert_close(together.best_tensors[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size", [ForwardSize(1), ForwardSize(20), ForwardSize(70), ForwardSize(130), ForwardSize(1, 2)]
)
@pytest.mark.parametrize("method", ["ept", "attempt"])
def test_gradients_are_those_of_separate_runs_and_of_pieces(backbone, train, method, size):
    """A row of EPT has 15 positions and a run 4 rows: pieces of 1 row, of 1, of 4, of 2 runs."""
    rows = np.random.default_rng(1).permutation(40)[:12].reshape(3, 4)
    packed = _pack(backbone, method, [0, 1, 2])
    losses = _accumulate(backbone, packed, train, rows)
    in_pieces = _pack(backbone, method, [0, 1, 2])
    torch.testing.assert_close(_accumulate(backbone, in_pieces, train, rows, size), losses)
    for run in range(3):
        alone = _pack(backbone, method, [run])
        loss = _accumulate(backbone, alone, train, rows[run : run + 1])
        torch.testing.assert_close(loss[0], losses[run])
        for one, many, pieces in zip(alone.parameters(), packed.parameters(), in_pieces.parameters(), strict=True):
            scale = one.grad[0].norm() + 1e-12
            assert (many.grad[run] - one.grad[0]).norm() / scale < 1e-6
            assert (pieces.grad[run] - one.grad[0]).norm() / scale < 1e-5


def test_the_loss_of_a_run_is_the_mean_over_its_label_pieces(t5, backbone, train):
    rows = np.array([[0, 1, 2, 3]])
    pack = _pack(backbone, "pt", [0])
    loss = _accumulate(backbone, pack, train, rows)
    batch = train.collate(rows[0])
    embeddings = torch.cat([pack.prompt.detach().expand(4, -1, -1), backbone.embed(batch.input_ids)], 1)
    out = t5(
        inputs_embeds=embeddings,
        attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.int64),
        labels=batch.target_ids,
    )
    # transformers' own loss is the token mean of the batch.
    torch.testing.assert_close(loss[0], out.loss.detach(), rtol=1e-5, atol=1e-6)


def test_the_backbone_is_bit_identical_after_training(backbone, train):
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    for method in ("ept", "mpt", "attempt"):
        _train(backbone, train, method, [Run(0, RATES)])
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())


def test_a_diverging_run_is_recorded_and_leaves_the_others_untouched(backbone, train):
    wild = {"prompt": 1e38, "low_rank": 1e38}
    good, bad = _train(backbone, train, "ept", [Run(0, RATES), Run(1, wild)])
    (alone,) = _train(backbone, train, "ept", [Run(0, RATES)])
    assert bad.status == "diverged" and bad.steps < 12
    assert good.status == "finished" and good.steps == 12
    for name, tensor in alone.best_tensors.items():
        torch.testing.assert_close(good.best_tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_training_teaches_the_labels(backbone, train):
    pack = _pack(backbone, "pt", [0])
    rows = np.arange(40)[None]
    before = _accumulate(backbone, pack, train, rows)
    longer = dataclasses.replace(SETTINGS, steps=60, evaluate_every=60)
    (result,) = _train(backbone, train, "pt", [Run(0, {"prompt": 0.3})], steps=60, settings=longer)
    pack.load_tensors(0, result.best_tensors)
    # An untrained backbone can be steered only so far: one nat.
    assert _accumulate(backbone, pack, train, rows) < before - 1
