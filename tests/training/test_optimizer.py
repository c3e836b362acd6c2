"""The packed optimizer against torch's own, run by run."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ept.training.optimizer import PackedAdam, linear_schedule


def _alone(start, gradients, rates, factors, clip_norm):
    """One run by torch: Adam with clip_grad_norm_ on each group."""
    parameters = {name: [torch.nn.Parameter(t.clone()) for t in tensors] for name, tensors in start.items()}
    optimizer = torch.optim.Adam([{"params": p, "lr": rates[name]} for name, p in parameters.items()])
    for step, factor in enumerate(factors):
        for group, name in zip(optimizer.param_groups, parameters, strict=True):
            group["lr"] = rates[name] * factor
            for parameter, gradient in zip(parameters[name], gradients[step][name], strict=True):
                parameter.grad = gradient.clone()
            torch.nn.utils.clip_grad_norm_(parameters[name], clip_norm)
        optimizer.step()
    return parameters


@given(seed=st.integers(0, 10_000), runs=st.integers(1, 4), clip_norm=st.sampled_from([0.1, 1.0, 1e6]))
@settings(max_examples=15, deadline=None)
def test_every_run_gets_the_update_that_torch_gives_it_alone(seed, runs, clip_norm):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"prompt": [(3, 4)], "low_rank": [(5, 2), (2, 4), ()]}
    factors = [0.0, 0.5, 1.0, 0.7]

    def draw(shape, scale=1.0):
        return scale * torch.randn(runs, *shape, generator=generator)

    start = {name: [draw(shape) for shape in group] for name, group in shapes.items()}
    gradients = [{name: [draw(shape, 3.0) for shape in group] for name, group in shapes.items()} for _ in factors]
    rates = {"prompt": torch.rand(runs, generator=generator), "low_rank": torch.rand(runs, generator=generator) * 0.01}
    packed = {name: [torch.nn.Parameter(t.clone()) for t in tensors] for name, tensors in start.items()}
    optimizer = PackedAdam(packed, rates, clip_norm)
    for factor, gradient in zip(factors, gradients, strict=True):
        for name, parameters in packed.items():
            for parameter, value in zip(parameters, gradient[name], strict=True):
                parameter.grad = value.clone()
        optimizer.step(factor, torch.ones(runs, dtype=torch.bool))
    for run in range(runs):
        expected = _alone(
            {name: [t[run] for t in tensors] for name, tensors in start.items()},
            [{name: [t[run] for t in tensors] for name, tensors in step.items()} for step in gradients],
            {name: float(rate[run]) for name, rate in rates.items()},
            factors,
            clip_norm,
        )
        for name, parameters in packed.items():
            for parameter, alone in zip(parameters, expected[name], strict=True):
                torch.testing.assert_close(parameter[run], alone, rtol=1e-4, atol=1e-6)


def test_a_run_that_is_not_alive_keeps_its_values_and_harms_no_other():
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    parameter.grad = torch.tensor([[float("nan")] * 3, [1.0] * 3])
    PackedAdam({"prompt": [parameter]}, {"prompt": torch.tensor([0.1, 0.1])}, 1.0).step(
        1.0, torch.tensor([False, True])
    )
    assert parameter[0].tolist() == [1.0] * 3
    assert parameter[1].tolist() == pytest.approx([0.9] * 3, abs=1e-5)


def test_schedule_rises_over_the_warm_up_and_falls_to_zero():
    assert [linear_schedule(step, 2, 6) for step in range(7)] == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert linear_schedule(0, 0, 4) == 1.0
