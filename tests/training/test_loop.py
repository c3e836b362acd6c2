"""A step's loss and gradients, and runs that diverge: they leave the others untouched."""

import dataclasses

import numpy as np
import pytest
import torch
from small_training import RATES, SETTINGS, accumulate, distance, make_grid, make_pack, train, train_new

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.training.loop import LOOK_EVERY
from ept.training.record import run_record
from ept.training.runs import Run
from ept.training.step import ForwardSize

STEPS_24 = dataclasses.replace(SETTINGS, steps=24, evaluate_every=6)


@pytest.mark.parametrize(
    "size", [ForwardSize(1), ForwardSize(20), ForwardSize(70), ForwardSize(130), ForwardSize(1, 2)]
)
@pytest.mark.parametrize("method", ["ept", "attempt"])
def test_gradients_are_those_of_separate_runs_and_of_pieces(backbone, even, method, size):
    """A row of EPT has 15 positions and a run 4 rows: pieces of 1 row, of 1, of 4, of 2 runs."""
    rows = np.random.default_rng(1).permutation(40)[:12].reshape(3, 4)
    packed = make_pack(backbone, method, [0, 1, 2])
    losses = accumulate(backbone, packed, even, rows)
    in_pieces = make_pack(backbone, method, [0, 1, 2])
    torch.testing.assert_close(accumulate(backbone, in_pieces, even, rows, size), losses)
    for run in range(3):
        alone = make_pack(backbone, method, [run])
        loss = accumulate(backbone, alone, even, rows[run : run + 1])
        torch.testing.assert_close(loss[0], losses[run])
        for one, many, pieces in zip(alone.parameters(), packed.parameters(), in_pieces.parameters(), strict=True):
            scale = one.grad[0].norm() + 1e-12
            assert (many.grad[run] - one.grad[0]).norm() / scale < 1e-6
            assert (pieces.grad[run] - one.grad[0]).norm() / scale < 1e-5


def test_the_loss_of_a_run_is_the_mean_over_its_label_pieces(t5, backbone, even):
    rows = np.array([[0, 1, 2, 3]])
    pack = make_pack(backbone, "pt", [0])
    loss = accumulate(backbone, pack, even, rows)
    batch = even.collate(rows[0])
    embeddings = torch.cat([pack.prompt.detach().expand(4, -1, -1), backbone.embed(batch.input_ids)], 1)
    out = t5(
        inputs_embeds=embeddings,
        attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.int64),
        labels=batch.target_ids,
    )
    # transformers' own loss is the token mean of the batch.
    torch.testing.assert_close(loss[0], out.loss.detach(), rtol=1e-5, atol=1e-6)


def test_the_backbone_is_bit_identical_after_training(backbone, even):
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    for method in ("ept", "mpt", "attempt"):
        train_new(backbone, method, even, [Run(0, RATES)])
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())


def test_training_teaches_the_labels(backbone, even):
    pack = make_pack(backbone, "pt", [0])
    rows = np.arange(40)[None]
    before = accumulate(backbone, pack, even, rows)
    longer = dataclasses.replace(SETTINGS, steps=60, evaluate_every=60)
    prompts, _ = train_new(backbone, "pt", even, [Run(0, {"prompt": 0.3})], settings=longer)
    # An untrained backbone can be steered only so far: one nat.
    assert accumulate(backbone, prompts, even, rows) < before - 1


class Poisoned(EncoderDecoder):
    """From its training pass `since` (counted from 0) on the losses of some rows are NaN, or only their gradients.

    Until the run has been dropped: then passes are smaller.
    """

    def __init__(self, model, rows, since, gradients_alone=False):
        super().__init__(model)
        self.rows, self.since, self.gradients_alone, self.passes, self.full = rows, since, gradients_alone, 0, 0

    def token_losses(self, embeddings, attention_mask, target_ids):
        losses = super().token_losses(embeddings, attention_mask, target_ids)
        if not torch.is_grad_enabled():
            return losses
        self.passes += 1
        self.full = max(self.full, len(losses))
        if self.passes <= self.since or len(losses) < self.full:
            return losses
        factor = torch.ones(len(losses), 1)
        factor[self.rows] = torch.nan
        if not self.gradients_alone:
            return losses * factor
        losses.register_hook(lambda gradient: gradient * factor)
        return losses


@pytest.mark.parametrize("gradients_alone", [False, True])
@pytest.mark.parametrize("since", [0, 3, 13, 17, 23])
def test_a_run_that_diverges_at_any_step_leaves_the_others_untouched(t5, backbone, even, since, gradients_alone):
    assert since == 0 or since % LOOK_EVERY
    runs = make_grid("ept")
    poisoned = Poisoned(t5, slice(4, 8), since, gradients_alone)
    prompts, results = train_new(poisoned, "ept", even, runs, settings=STEPS_24)
    kept = [0, 2, 3]
    expected_prompts, expected = train_new(backbone, "ept", even, [runs[run] for run in kept], settings=STEPS_24)
    for place, run in enumerate(kept):
        assert results[run].status == "finished" and results[run].steps == 24
        assert results[run].best_step == expected[place].best_step
        assert max(distance(prompts.tensors(run), expected_prompts.tensors(place)).values()) < 1e-4
    bad = results[1]
    assert bad.status == "diverged"
    # A gradient shows in the loss of the step after.
    assert bad.steps == min(24, since + gradients_alone)
    # What was selected before stays.
    before = since // 6 * 6
    assert [step for step, _ in bad.validation_curve] == list(range(6, before + 1, 6))
    assert bad.best_step <= before and bool(bad.best_tensors) == (before > 0)


def test_a_wild_learning_rate_diverges_alone(backbone, even):
    runs = [Run(0, RATES), Run(1, dict.fromkeys(RATES, 1e38))]
    prompts, (good, bad) = train_new(backbone, "ept", even, runs)
    alone, _ = train_new(backbone, "ept", even, runs[:1])
    assert bad.status == "diverged" and bad.steps < 12
    assert good.status == "finished" and good.steps == 12
    assert max(distance(prompts.tensors(0), alone.tensors(0)).values()) < 1e-4


def test_a_pack_whose_runs_all_diverge_ends_there(t5, even):
    poisoned = Poisoned(t5, slice(None), 13)
    _, results = train_new(poisoned, "ept", even, make_grid("ept"), settings=STEPS_24)
    assert [result.status for result in results] == ["diverged"] * 4
    assert [result.steps for result in results] == [13] * 4
    assert {step for result in results for step, _ in result.validation_curve} == {6, 12}
    # Seen at the validation of step 18.
    assert poisoned.passes == 18


def test_the_start_is_a_candidate_where_that_is_asked_for(backbone, even):
    """With scores that only fall the start is kept; where one rises, the step that reached it."""
    start = make_pack(backbone, "pt", [0, 1])
    begun = [{name: tensor.clone() for name, tensor in start.tensors(run).items()} for run in range(2)]
    table = iter([[5.0, 5.0], [4.0, 4.0], [3.0, 6.0], [2.0, 1.0]])
    options = dataclasses.replace(SETTINGS, include_start=True)
    runs = [Run(seed, {"prompt": 0.3}) for seed in (0, 1)]
    results = train(backbone, start, even, runs, settings=options, validate=lambda alive: np.array(next(table)))
    assert [result.validation_curve[0] for result in results] == [(0, 5.0)] * 2
    assert [result.best_step for result in results] == [0, 8]
    assert torch.equal(results[0].best_tensors["prompt"], begun[0]["prompt"])
    assert not torch.equal(results[1].best_tensors["prompt"], begun[1]["prompt"])
    records = [run_record(run, result, True) for run, result in zip(runs, results, strict=True)]
    assert [record["start_chosen"] for record in records] == [True, False]
    # Without the option nothing is scored before the first step.
    table = iter([[4.0], [3.0], [2.0]])
    (result,) = train(
        backbone, make_pack(backbone, "pt", [0]), even, runs[:1], validate=lambda _: np.array(next(table))
    )
    assert result.best_step == 4 and [step for step, _ in result.validation_curve] == [4, 8, 12]
    assert not run_record(runs[0], result, True)["start_chosen"]


def test_a_score_that_is_not_a_number_is_never_chosen_and_said(backbone, even, capsys):
    table = iter([[np.nan, np.nan], [1.0, np.nan], [np.nan, np.nan]])
    runs = [Run(seed, {"prompt": 0.3}) for seed in (7, 8)]
    prompts = make_pack(backbone, "pt", [7, 8])
    results = train(backbone, prompts, even, runs, validate=lambda alive: np.array(next(table)))
    assert [result.best_step for result in results] == [8, 0] and not results[1].best_tensors
    lines = [line for line in capsys.readouterr().err.splitlines() if "not a number" in line]
    assert len(lines) == 5 and sum("seed 8" in line for line in lines) == 3
