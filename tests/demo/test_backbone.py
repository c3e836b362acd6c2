"""The shipped backbone: its files, its pretraining code, and what it has mastered on held-out facts."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from ept.demo.corpus import NAMES, TEMPLATE_WORDS, corrupt, task_example
from ept.demo.identity import BACKBONE_FOLDER
from ept.demo.mastery import held_out, percent_exact
from ept.demo.network import padded
from ept.demo.pretrain import HELD_OUT, STEPS
from ept.demo.world import World

# Not above chance when this backbone was made; no prompt brings these out.
NOT_MASTERED = {"paws", "winogrande"}


@pytest.fixture(scope="module")
def backbone():
    torch.set_num_threads(1)
    model = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER).eval()
    return model, Tokenizer.from_file(str(BACKBONE_FOLDER / "tokenizer.json"))


def accuracy(model, tokenizer, task: str, count: int) -> float:
    """Percent of pretraining examples over validation facts whose target is generated exactly."""
    world = World("validation", (11,))
    examples = [task_example(world, task) for _ in range(count)]
    sources = padded([tokenizer.encode(source).ids for source, _ in examples], 0)
    with torch.no_grad():
        written = model.generate(input_ids=sources, attention_mask=(sources != 0).long(), max_new_tokens=6)
    texts = [tokenizer.decode(pieces.tolist()) for pieces in written]
    return 100 * sum(text == target for text, (_, target) in zip(texts, examples, strict=True)) / count


def test_files_and_size():
    weights = BACKBONE_FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 12 * 2**20
    assert {path.name for path in BACKBONE_FOLDER.iterdir()} == {
        "config.json",
        "curve.csv",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    settings = json.loads((BACKBONE_FOLDER / "config.json").read_text())
    assert settings["model_type"] == "t5" and settings["dropout_rate"] == 0.0
    assert all(torch.isfinite(tensor).all() for tensor in load_file(weights).values())


def test_embeddings_have_unit_scale(backbone):
    model, tokenizer = backbone
    weight = model.shared.weight
    assert weight.shape[0] == tokenizer.get_vocab_size()
    assert 0.7 < weight.square().mean().sqrt() < 1.4
    assert model.lm_head.weight.data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("task", sorted(set(NAMES) - NOT_MASTERED))
def test_it_is_well_above_the_majority_on_held_out_facts(backbone, task):
    model, tokenizer = backbone
    # Half of the way from the majority to all.
    assert accuracy(model, tokenizer, task, 100) >= (100 + held_out(tokenizer, task, 200).majority) / 2


def test_its_curve_ends_with_what_it_has_mastered(backbone):
    model, tokenizer = backbone
    rows = list(csv.DictReader((BACKBONE_FOLDER / "curve.csv").open()))
    assert [rows[0]["step"], rows[-1]["step"]] == ["majority", str(STEPS)]
    asked = {task: held_out(tokenizer, task, HELD_OUT) for task in ("cola", "stsb", "paws", "hotpotqa")}
    assert {task: float(rows[0][task]) for task in asked} == {task: e.majority for task, e in asked.items()}
    for task, examples in asked.items():
        assert percent_exact(model, examples) == pytest.approx(float(rows[-1][task]), abs=1)


def test_pretraining_never_shows_the_benchmarks_templates_with_labels():
    world = World("pretraining", (0,))
    markers = {f"{word}:" for word in TEMPLATE_WORDS}
    for task in NAMES:
        for _ in range(100):
            source, _target = task_example(world, task)
            assert markers.isdisjoint(source.split()), source


def test_span_corruption_loses_nothing():
    world = World("pretraining", (1,))
    for length in range(1, 40):
        pieces = [100 + world.below(50) for _ in range(length)]
        source, target = corrupt(world, pieces, 3)
        spans, current = {}, None
        for piece in target:
            if piece < 19:
                current = spans.setdefault(piece, [])
            else:
                current.append(piece)
        restored = [p for piece in source for p in (spans[piece] if piece < 19 else [piece])]
        assert restored == pieces
        assert list(spans) == list(range(3, 3 + len(spans)))
