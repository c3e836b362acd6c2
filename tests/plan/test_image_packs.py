"""Packs of tasks with images: the budget of an offset on patches, hashes, starts and parameters counted beforehand."""

import pytest
import torch
from safetensors.torch import save_file

from ept.backbones.files import read_config
from ept.backbones.shape import shape_of
from ept.config.configuration import parse_configuration
from ept.config.settings import PromptSettings
from ept.cost.estimate import pack_cost
from ept.errors import InputError
from ept.methods.budget import decomposition_rank
from ept.plan.experiment import Experiment

METHODS = ["pt", "dept", "ept", "adept", "lora"]


@pytest.fixture
def experiment(tmp_path):
    """A function from `vision` settings to an experiment over a local encoder, one text task and one with images."""
    save_file({"anything": torch.zeros(1)}, tmp_path / "model.safetensors")

    def make(tasks=("rte", "shapes_vqa"), source=(), methods=METHODS, **vision):
        local = {"source": "local", "id": str(tmp_path), **vision}
        values = {"tasks": {"target": list(tasks), "source": list(source)}, "methods": methods, "vision": local}
        prompt = {"length": 24, "short_length": 10, "reference_length": 16}
        return Experiment(parse_configuration({**values, "prompt": prompt, "few_shot": {"k": []}}))

    return make


@pytest.mark.parametrize(("offset", "rows", "rank"), [("text", 20, 19), ("visual", 36, 19), ("both", 56, 18)])
def test_the_budget_counts_a_row_for_each_position_that_the_offset_is_added_to(experiment, offset, rows, rank):
    """T5-base, 40 tokens of which 20 remain, questions of 20 pieces, 36 patches: rank 19, 19, 18."""
    vision = experiment(offset=offset).config.vision
    assert vision.rows(20) == rows
    prompt = PromptSettings(length=40, short_length=20, reference_length=vision.rows(20))
    assert decomposition_rank(prompt, 768) == rank
    assert 20 * 768 + (rows + 768) * rank <= 40 * 768 < 20 * 768 + (rows + 768) * (rank + 1)


def test_only_packs_of_tasks_with_images_depend_on_the_encoder(experiment):
    plain, other = experiment(), experiment(offset="both", projection="trained", patches=49)
    for method in METHODS:
        text, image = (plain.pack(method, task, "full", "scratch") for task in ("rte", "shapes_vqa"))
        assert other.pack(method, "rte", "full", "scratch").hash == text.hash
        assert other.pack(method, "shapes_vqa", "full", "scratch").hash != image.hash
        assert text.visual is None and text.visual_folders == ()
        assert image.visual_folders == (image.visual,)
        assert "vision" not in text.settings and "vision" in image.settings


def test_a_trained_projection_has_rates_of_its_own(experiment):
    plan = experiment(projection="trained", projection_rates=[0.1, 0.2])
    image, text = (plan.pack("ept", task, "full", "scratch") for task in ("shapes_vqa", "rte"))
    assert image.grid == {**text.grid, "projection": [0.1, 0.2]}
    assert image.number_of_runs == 2 * text.number_of_runs


@pytest.mark.parametrize("method", METHODS)
def test_cost_counts_the_patches_and_a_trained_projection(experiment, method):
    frozen, trained = experiment(), experiment(projection="trained")
    shape = shape_of(read_config(frozen.backbone_folder))

    def cost(plan):
        return pack_cost(plan, plan.pack(method, "shapes_vqa", "full", "scratch"), shape, gpu=False)

    assert cost(trained).trained - cost(frozen).trained == (96 + 1) * shape.hidden_size
    assert cost(experiment(patches=72)).flops > cost(frozen).flops


def test_starts_that_cannot_fit_are_refused_before_anything_is_trained(experiment):
    """A source prompt without images has no projection, and with the offset on patches another number of rows."""
    methods = ["spot"]
    experiment(["shapes_vqa"], ["rte"], methods).pack("spot", "shapes_vqa", "full", "source")
    for vision in ({"projection": "trained"}, {"offset": "both"}):
        mixed = experiment(["shapes_vqa"], ["rte"], methods, **vision)
        with pytest.raises(InputError, match="rte"):
            mixed.pack("spot", "shapes_vqa", "full", "source")
        experiment(["shapes_vqa"], ["digits"], methods, **vision).pack("spot", "shapes_vqa", "full", "source")
    distilled = experiment(["shapes_vqa"], ["digits"], ["mpt"], projection="trained")
    with pytest.raises(InputError, match="mpt"):
        distilled.pack("mpt", "shapes_vqa", "full", "source")
    side = experiment(["shapes_vqa"], [], ["lst"], projection="trained")
    with pytest.raises(InputError, match="lst"):
        side.pack("lst", "shapes_vqa", "full", "scratch")


@pytest.mark.parametrize(
    "vision",
    [
        {"source": "hub", "id": "timm/resnet101_clip.openai"},
        {"source": "hub", "id": "timm/resnet101_clip.openai", "revision": "0" * 40},
        {"source": "demo", "patches": 49},
        {"source": "demo", "id": "somewhere"},
        {"source": "local", "id": ""},
        {"offset": "prompt"},
        {"projection_rates": [0.1, 0.1]},
    ],
    ids=["no revision", "hub frozen", "demo of another size", "demo with id", "local without id", "offset", "rates"],
)
def test_settings_that_are_impossible(vision):
    with pytest.raises(InputError, match="vision"):
        parse_configuration({"tasks": {"target": ["shapes_vqa"], "source": []}, "methods": ["pt"], "vision": vision})


def test_a_folder_without_an_encoder(tmp_path):
    values = {"tasks": {"target": ["shapes_vqa"], "source": []}, "methods": ["pt"]}
    config = parse_configuration({**values, "vision": {"source": "local", "id": str(tmp_path)}})
    with pytest.raises(InputError, match=r"vision\.id"):
        Experiment(config).pack("pt", "shapes_vqa", "full", "scratch")
