"""Methods that train on tasks with images, over random features: alone and in a pack, frozen and trained projection."""

import numpy as np
import pytest
import torch
from small_training import BASELINES, LENGTH, PROMPT, distance, make_grid, make_split, train

from ept.config.settings import EptSettings
from ept.errors import InputError
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.prompt import ImageInput
from ept.methods.registry import METHODS, get_method
from ept.training.runs import Run
from ept.training.step import ForwardSize
from ept.vision.projection import WithImages

PATCHES, WIDTH, HIDDEN = 3, 5, 16
OFFSETS = {"text": LENGTH, "visual": PATCHES, "both": PATCHES + LENGTH}


class RandomFeatures:
    """Features of as many images as rows."""

    patches = PATCHES

    def __init__(self, rows):
        self.values = torch.randn(rows, PATCHES, WIDTH, generator=torch.Generator().manual_seed(5))

    def rows(self, indices):
        return self.values[torch.from_numpy(np.asarray(indices))]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    found = make_split(tmp_path_factory.mktemp("images") / "split.arrow", [5 + row % 4 for row in range(24)])
    found.features = RandomFeatures(len(found))
    return found


def projection(seed=2):
    return torch.randn(1, WIDTH + 1, HIDDEN, generator=torch.Generator().manual_seed(seed))


def make(backbone, method, seeds, trained, offset="text"):
    """A pack of untrained runs that reads images."""
    images = ImageInput(PATCHES, offset, None if trained else projection())
    if get_method(method).packed:
        sources = 3 * torch.randn(2, PROMPT.length, HIDDEN, generator=torch.Generator().manual_seed(1))
        rows = OFFSETS[offset]
        pack = build_prompt_module(method, backbone.embedding, PROMPT, EptSettings(), rows, seeds, sources=sources)
    else:
        pack = build_weight_module(method, backbone, BASELINES, *seeds)
    return WithImages(pack, images, projection().repeat(len(seeds), 1, 1) if trained else None)


def grid(method, trained, seeds=(0, 1)):
    runs = make_grid(method, seeds, scales=(1.0,))
    return [Run(run.seed, {**run.learning_rates, "projection": 0.01}) for run in runs] if trained else runs


@pytest.mark.registry
@pytest.mark.parametrize(
    ("method", "trained"),
    [(name, False) for name in METHODS] + [(name, True) for name in METHODS if METHODS[name].input_gradient],
)
def test_every_method_learns_from_images(backbone, split, method, trained):
    """A trained projection is one more tensor, trained, counted and stored; with a frozen one nothing is."""
    runs = grid(method, trained, seeds=(0,))
    pack = make(backbone, method, [0], trained)
    try:
        without = pack.method.trained_parameters
        assert pack.trained_parameters == without + trained * (WIDTH + 1) * HIDDEN
        assert pack.stored_parameters == pack.method.stored_parameters + trained * (WIDTH + 1) * HIDDEN
        start = {name: tensor.clone() for name, tensor in pack.tensors(0).items()}
        (result,) = train(backbone, pack, split, runs)
        assert result.status == "finished" and result.best_step > 0
        assert ("projection" in pack.tensors(0)) == ("projection" in pack.collapse(0)) == trained
        moved = distance(pack.tensors(0), start)
        assert max(moved.values()) > 1e-3
        assert not trained or moved["projection"] > 1e-3
    finally:
        pack.close()


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize(
    ("method", "offset"), [("ept", "text"), ("dept", "visual"), ("ept", "both"), ("attempt", "text")]
)
def test_a_run_in_a_pack_is_the_run_alone(backbone, split, method, offset, trained):
    runs = grid(method, trained)
    together = make(backbone, method, [run.seed for run in runs], trained, offset)
    train(backbone, together, split, runs, size=ForwardSize(60))
    for place, run in enumerate(runs):
        alone = make(backbone, method, [run.seed], trained, offset)
        train(backbone, alone, split, [run])
        assert max(distance(together.tensors(place), alone.tensors(0)).values()) < 1e-4
    assert distance(together.tensors(0), together.tensors(1))["prompt"] > 1e-2


def test_what_is_saved_of_a_run_gives_the_same_input(backbone, split):
    pack = make(backbone, "ept", [0, 1], trained=True, offset="both")
    train(backbone, pack, split, grid("ept", trained=True))
    other = make(backbone, "ept", [7], trained=True, offset="both")
    other.load_tensors(0, {name: tensor.clone() for name, tensor in pack.tensors(1).items()})
    for found, expected in zip(other(), pack().select([1]), strict=True):
        assert (found is None and expected is None) or torch.equal(found, expected)


def test_a_prompt_without_a_projection_does_not_become_one_with(backbone):
    plain = make(backbone, "pt", [0], trained=False)
    trained = make(backbone, "pt", [0], trained=True)
    before = {name: tensor.clone() for name, tensor in trained.tensors(0).items()}
    with pytest.raises(InputError):
        trained.load_tensors(0, plain.tensors(0))
    with pytest.raises(InputError):
        trained.load_tensors(0, {**trained.tensors(0), "projection": torch.zeros(WIDTH, HIDDEN)})
    with pytest.raises(InputError):
        plain.load_tensors(0, before)
    assert max(distance(trained.tensors(0), before).values()) == 0
