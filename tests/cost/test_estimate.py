"""Estimates of one pack: what changes them, and that they agree with what training really does."""

import pytest
import torch
from transformers import AutoModel, LlamaConfig

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import shape_of
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.config.configuration import parse_configuration
from ept.config.settings import MULTITASK, TrainingSettings
from ept.cost.estimate import backbone_shape, graph_bytes, halving_share, pack_cost
from ept.plan.experiment import Experiment
from ept.training.job import runs_of
from ept.training.runs import halving_steps

VALUES = {"tasks": {"target": ["rte"], "source": ["mnli", "sst2"]}, "methods": ["pt", "mpt", "dept", "lora"]}


def experiment(**changes):
    return Experiment(parse_configuration(VALUES | changes))


def cost(plan, method, task="rte", regime="full", start="scratch", gpu=False):
    return pack_cost(plan, plan.pack(method, task, regime, start), backbone_shape(plan), gpu)


@pytest.mark.parametrize("rungs", range(5))
def test_the_share_that_halving_leaves_is_that_of_its_schedule(rungs):
    steps, settings = 1600, TrainingSettings(halving=rungs, evaluate_every=1)
    runs, trained = 2**rungs, 0
    for step in range(1, steps + 1):
        trained += runs
        runs //= 2 if step in halving_steps(steps, settings) else 1
    assert halving_share(rungs) == trained / (steps * 2**rungs)


def test_halving_and_checkpointing_change_training_alone():
    plain = cost(experiment(), "pt")
    halved = cost(experiment(training={"halving": 2}), "pt")
    assert halved.training_flops == round(plain.training_flops / 2)
    kept = cost(experiment(backbone={"gradient_checkpointing": True}), "pt")
    assert kept.training_flops == round(plain.training_flops * 1.5)
    assert kept.batch_bytes < plain.batch_bytes
    assert {plain.evaluation_flops} == {halved.evaluation_flops, kept.evaluation_flops}


def test_sampled_test_rows_cost_their_share():
    all_rows = cost(experiment(), "pt").evaluation_flops
    some = [cost(experiment(data={"test_rows": {"rte": rows}}), "pt").evaluation_flops for rows in (39, 139, 9999)]
    seeds = len(experiment().pack("pt", "rte", "full", "scratch").seeds)
    row = (some[1] - some[0]) / (100 * seeds)
    # The protocol's test split of RTE has 139 rows.
    assert some[1] == some[2] == all_rows > some[0]
    assert row * seeds * 139 < all_rows


def test_runs_are_those_of_the_training():
    plan = experiment()
    for pack in plan.packs:
        assert pack_cost(plan, pack, backbone_shape(plan), False).runs == len(runs_of(pack))


def test_mpts_source_training_costs_a_batch_of_each_of_its_tasks():
    plan = experiment()
    (distilled,) = [pack for pack in plan.packs if pack.task == MULTITASK]
    found = pack_cost(plan, distilled, backbone_shape(plan), False)
    # Both source tasks have published training rows enough for the long schedule.
    assert found.steps == 300_000
    parts = [cost(plan, "pt", task, "source") for task in ("mnli", "sst2")]
    a_step = sum(part.training_flops / part.runs / part.steps for part in parts)
    students = found.runs * found.steps * a_step
    assert students < found.training_flops < 1.1 * students


def test_frozen_weights_in_bfloat16_are_half_as_large_but_for_float32_methods():
    plan = experiment(methods=["pt", "mpt", "fine_tuning"], backbone={"dtype": "bfloat16"})
    full = experiment(methods=["pt"])
    assert 2 * cost(plan, "pt").weight_bytes == cost(full, "pt").weight_bytes
    assert cost(plan, "fine_tuning").weight_bytes == cost(full, "pt").weight_bytes


def saved_bytes(run, model):
    """What autograd keeps of a forward pass beside the model's own weights."""
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    return sum(size for place, size in saved.items() if place not in weights)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_what_the_backward_pass_of_a_t5_keeps_is_what_autograd_saves(feed_forward, dtype):
    """Within a tenth: the estimate leaves out the decoder, whose positions are few."""
    sizes = dict(vocab_size=50, d_model=64, d_kv=16, d_ff=160, num_heads=4, num_layers=6, num_decoder_layers=1)
    config = T5Config(**sizes, feed_forward_proj=feed_forward)
    backbone = EncoderDecoder(T5(config).to(getattr(torch, dtype)))
    inputs = torch.randn(2, 200, 64, dtype=backbone.dtype, requires_grad=True)
    mask, targets = torch.ones(2, 200, dtype=torch.int64), torch.tensor([[3, 4, 1], [5, 1, -100]])
    found = saved_bytes(lambda: backbone.token_losses(inputs, mask, targets).sum(), backbone.model)
    shape = shape_of({"model_type": "t5", **vars(config)})
    assert found == pytest.approx(2 * graph_bytes(shape, 200, dtype, gpu=False), rel=0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_the_backward_pass_of_a_llama_keeps_is_what_autograd_saves(dtype):
    """Within a tenth: transformers keeps norms in float32 where the estimate has both precisions."""
    sizes = dict(hidden_size=64, intermediate_size=176, num_hidden_layers=6, num_attention_heads=4)
    config = LlamaConfig(vocab_size=50, **sizes)
    model = AutoModel.from_config(config, attn_implementation="sdpa").requires_grad_(False).to(getattr(torch, dtype))
    inputs = torch.randn(2, 200, 64, dtype=model.dtype, requires_grad=True)
    mask = torch.ones(2, 200, dtype=torch.int64)
    found = saved_bytes(lambda: model(inputs_embeds=inputs, attention_mask=mask, use_cache=False), model)
    assert found == pytest.approx(2 * graph_bytes(shape_of(config.to_dict()), 200, dtype), rel=0.1)
