"""A tiny plan and synthetic data, so that every variant runs in a moment."""

import pytest

from benchmarks.data import draw_synthetic
from benchmarks.plan import Plan


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A plan over a backbone of hidden size 16."""
    return Plan(
        shape="tiny",
        tasks=("rte",),
        grids=(1, 3),
        grid_once=3,
        rounds=1,
        slice_seconds=0.01,
        batch_size=4,
        positions=2048,
        positions_bfloat16=2048,
    )


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """Random pieces with the lengths of RTE."""
    return draw_synthetic("rte", tmp_path_factory.mktemp("tokens"))
