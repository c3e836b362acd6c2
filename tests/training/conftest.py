"""The tiny backbone and splits of this folder."""

import numpy as np
import pytest
from small_training import LENGTH, make_split, make_t5

from ept.backbones.encoder_decoder import EncoderDecoder


@pytest.fixture(scope="session")
def t5():
    """The model of transformers behind `backbone`."""
    return make_t5()


@pytest.fixture(scope="session")
def backbone(t5):
    return EncoderDecoder(t5)


@pytest.fixture(scope="session")
def even(tmp_path_factory):
    """Forty rows of one length, so that a run meets the same padding alone and in a pack."""
    return make_split(tmp_path_factory.mktemp("even") / "train.arrow", [LENGTH] * 40)


@pytest.fixture(scope="session")
def uneven(tmp_path_factory):
    """Forty rows of 2 to 12 pieces."""
    lengths = np.random.default_rng(5).integers(2, LENGTH + 1, 40)
    return make_split(tmp_path_factory.mktemp("uneven") / "train.arrow", lengths)
