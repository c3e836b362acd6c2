"""One real SLURM for all tests of this folder."""

import os

import pytest

from slurm.single_node import SingleNode, Unavailable


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM of one node.

    With EPT_TEST_SLURM=1 anything that keeps it from starting is a failure; without, tests that need it are skipped.
    """
    if os.environ.get("EPT_TEST_SLURM") != "1":
        pytest.skip("EPT_TEST_SLURM=1 lets this test install SLURM and run its daemons as root on loopback")
    try:
        with SingleNode(tmp_path_factory.mktemp("slurm")) as node:
            yield node
    except Unavailable as reason:
        pytest.fail(f"EPT_TEST_SLURM=1 asks for a SLURM, but {reason}", pytrace=False)
