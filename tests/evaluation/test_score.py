"""Predictions of a whole split for all runs: whatever the batches, also where memory ends."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.data.dataset import TokenizedSplit
from ept.data.prepare import SCHEMA, write_tokens
from ept.evaluation.predict import generate, score_candidates
from ept.evaluation.score import MAX_ANSWER_PIECES, Answers, predict_split
from ept.methods.prompt import PromptOutput
from ept.tasks.registry import get_task

ROWS, HIDDEN, PROMPT_LENGTH, RUNS = 30, 16, 3, 2

FULL = torch.OutOfMemoryError("out of memory")


class Limited(EncoderDecoder):
    """A backbone that has memory for so many rows."""

    def __init__(self, model, most_rows=10**6, error=FULL):
        super().__init__(model)
        self.most_rows, self.error, self.passes = most_rows, error, []

    def encode(self, embeddings, attention_mask):
        self.passes.append(len(embeddings))
        if len(embeddings) > self.most_rows:
            raise self.error
        return super().encode(embeddings, attention_mask)


class Pieces(Answers):
    """Labels of two pieces, without a tokenizer."""

    def label_ids(self):
        return [[2 + number // 6, 2 + number % 6, 1] for number in range(len(self.task.labels))]


class Numbers:
    """Texts as numbers, without a tokenizer."""

    def text(self, pieces):
        return " ".join(map(str, pieces))


@pytest.fixture(scope="module")
def t5():
    torch.manual_seed(0)
    shape = dict(d_model=HIDDEN, d_kv=4, d_ff=24, num_layers=1, num_heads=4, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=12, **shape)).eval()
    for name, parameter in model.named_parameters():
        if "layer_norm" not in name:
            # Large enough that rows differ in their answers.
            torch.nn.init.normal_(parameter, std=0.6)
    return model


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Thirty rows of 1 to 12 pieces."""
    generator = np.random.default_rng(0)
    columns = {
        "id": [str(row) for row in range(ROWS)],
        "group": [""] * ROWS,
        "input_ids": [[*generator.integers(2, 12, length), 1] for length in generator.integers(0, 12, ROWS)],
        "target_ids": [[4, 1]] * ROWS,
        "label": [0.0] * ROWS,
        "answers": [["4"]] * ROWS,
    }
    (batch,) = pa.table(columns, schema=SCHEMA).to_batches()
    path = tmp_path_factory.mktemp("tokens") / "test.arrow"
    write_tokens(path, batch, {"pad_id": 0, "split": "test"})
    return TokenizedSplit(path)


@pytest.fixture(scope="module")
def output():
    generator = torch.Generator().manual_seed(1)
    return PromptOutput(3 * torch.randn(RUNS, PROMPT_LENGTH, HIDDEN, generator=generator), None)


def _alone(t5, split, output, answer):
    """`answer` of a backbone, embeddings and mask for each row of each run alone, [runs][rows]."""
    backbone = EncoderDecoder(t5)
    found = []
    for prompt in output.prompt:
        found.append([])
        for row in range(ROWS):
            text = backbone.embed(split.collate(np.array([row])).input_ids)
            embeddings = torch.cat([prompt[None], text], 1)
            found[-1] += answer(backbone, embeddings, torch.ones(embeddings.shape[:2]))
    return found


@pytest.fixture(scope="module")
def scores(t5, split, output):
    """The likeliest of STS-B's scores for each row alone, [runs][rows]."""
    answers = Pieces(get_task("stsb"), None)

    def likeliest(*inputs):
        return [float(answers.task.labels[i]) for i in score_candidates(*inputs, answers.label_ids()).argmax(1)]

    return _alone(t5, split, output, likeliest)


@settings(deadline=None, max_examples=25)
@given(most_positions=st.integers(1, 400), most_rows=st.sampled_from([2, 3, 7, 10, 31, 10**6]), reverse=st.booleans())
def test_predictions_are_those_of_each_row_alone(t5, split, output, scores, most_positions, most_rows, reverse):
    backbone = Limited(t5, most_rows)
    rows = np.arange(ROWS)[::-1] if reverse else np.arange(5, ROWS)
    found = predict_split(backbone, output, split, rows, Pieces(get_task("stsb"), None), most_positions)
    assert found.tolist() == [[run_scores[row] for row in rows] for run_scores in scores]
    assert len(np.unique(found)) > 3
    done = [size for size in backbone.passes if size <= most_rows]
    assert sum(done) == RUNS * len(rows)
    # A failed pass is not tried again at its size.
    failed = [size for size in backbone.passes if size > most_rows]
    assert failed == sorted(set(failed), reverse=True)
    if most_rows == 10**6:
        longest = PROMPT_LENGTH + int(split.lengths.max())
        assert all(size == RUNS or size * (PROMPT_LENGTH + 1) <= 4 * most_positions for size in done)
        assert len(done) == 1 or max(done) * longest * 2 > 4 * most_positions


def test_texts_are_those_of_each_row_alone(t5, split, output):
    found = predict_split(Limited(t5, 9), output, split, np.arange(ROWS), Pieces(get_task("squad"), Numbers()), 10**6)
    alone = _alone(t5, split, output, lambda *inputs: generate(*inputs, MAX_ANSWER_PIECES))
    assert found.tolist() == [[" ".join(map(str, text)) for text in texts] for texts in alone]
    assert len(np.unique(found.astype(str))) > 3


def test_errors_that_smaller_batches_do_not_mend_are_raised(t5, split, output):
    answers, rows = Pieces(get_task("sst2"), None), np.arange(ROWS)
    with pytest.raises(torch.OutOfMemoryError):
        predict_split(Limited(t5, RUNS - 1), output, split, rows, answers, 10**6)
    other = Limited(t5, 4, RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        predict_split(other, output, split, rows, answers, 10**6)
    assert other.passes == [RUNS * ROWS]
