"""The DePT recipe against its formula in NumPy, and against the project's own DePT."""

import numpy as np
import pytest
import torch

from benchmarks.backbones import make_t5
from benchmarks.dept_recipe import DeptRecipe
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.methods.prompt import PromptOutput
from ept.training.step import pack_losses

SHORT, RANK, LENGTH = 5, 3, 64


@pytest.fixture(scope="module")
def recipe() -> DeptRecipe:
    recipe = DeptRecipe(make_t5("tiny"), SHORT, RANK, LENGTH)
    torch.nn.init.normal_(recipe.B, std=0.1)
    return recipe


@pytest.fixture(scope="module")
def batch(task):
    short = np.flatnonzero(task.train.lengths <= LENGTH)[:4]
    return task.train.collate(short, LENGTH)


def test_inputs_are_the_formula(recipe, batch):
    made = recipe._inputs(batch.input_ids, batch.attention_mask)
    embedding, prompt, a, b = (
        part.detach().numpy().astype(np.float64)
        for part in (recipe.model.shared.weight, recipe.prompt, recipe.A, recipe.B)
    )
    for row, ids in enumerate(batch.input_ids.numpy()):
        text = embedding[ids] + 8 / np.sqrt(RANK) * (a @ b)
        expected = np.concatenate([prompt, text])
        np.testing.assert_allclose(made["inputs_embeds"][row].detach().numpy(), expected, rtol=1e-5, atol=1e-5)
    assert made["attention_mask"][:, :SHORT].all()
    assert torch.equal(made["attention_mask"][:, SHORT:], batch.attention_mask)


def test_loss_is_that_of_our_dept_without_padding(recipe, batch):
    theirs = recipe(batch.input_ids, batch.attention_mask, batch.target_ids).loss
    longest = int(batch.attention_mask.sum(1).max())
    assert longest < LENGTH
    backbone = EncoderDecoder(make_t5("tiny"))
    output = PromptOutput(recipe.prompt[None], recipe.scale * (recipe.A @ recipe.B)[None])
    cut = type(batch)(batch.input_ids[:, :longest], batch.attention_mask[:, :longest], batch.target_ids)
    (ours,) = pack_losses(backbone, output, cut)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_trained_are_prompt_and_pair_each_with_its_rate(recipe, batch):
    recipe(batch.input_ids, batch.attention_mask, batch.target_ids).loss.backward()
    trained = {name for name, parameter in recipe.named_parameters() if parameter.grad is not None}
    assert trained == {"prompt", "A", "B"}
    groups = recipe.optimizer(0.3, 0.005).param_groups
    assert [(group["lr"], [tuple(p.shape) for p in group["params"]]) for group in groups] == [
        (0.3, [(SHORT, 16)]),
        (0.005, [(LENGTH, RANK), (RANK, 16)]),
    ]
