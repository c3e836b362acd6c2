"""Tasks with images through the commands, on random pictures, a tiny T5 and a small encoder; their prompts in use."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file

from data.task_rows import ROWS, write_tokenizer
from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.cli import main
from ept.config.configuration import load_configuration
from ept.demo.shapes import png
from ept.errors import InputError
from ept.methods.prompt_file import SavedPrompt
from ept.plan.experiment import Experiment
from ept.tasks.registry import TASKS
from ept.vision.encoder import VisionTransformer
from tiny_models import make_t5

Image = pytest.importorskip("PIL.Image")
WORDS = "question: what was red? is it even? yes no ball tree house wheel red blue green 0 1 2 3 4 5 6 7 8 9"
HIDDEN, ROWS_OF_A_SPLIT = 16, 24
CONFIGURATION = {
    "output": "out",
    "backbone": {"name": "tiny", "source": "local", "id": "model"},
    "data": {"source": "local", "path": "published", "source_length": {"default": 8}},
    "seeds": [0, 1],
    "prompt": {"length": 9, "short_length": 2, "reference_length": 4},
    "baselines": {"lora_rank": 2, "lora_alpha": 2},
    "training": {"batch_size": 4, "steps": 4, "warmup_steps": 1, "evaluate_every": 2, "runs_per_pass": 4},
    "few_shot": {"k": []},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Backbone, encoder and published splits whose pictures are noise, so that every one has other features."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    torch.manual_seed(0)
    make_t5(std=0.4, vocab_size=40).save_pretrained(folder / "model")
    write_tokenizer(folder / "model", WORDS)
    (folder / "encoder").mkdir()
    save_file(VisionTransformer(HIDDEN).state_dict(), folder / "encoder/model.safetensors")
    for name in ("shapes_vqa", "shapes_captioning", "digits"):
        task = TASKS[name]
        files = folder / "published" / task.suite / task.config
        files.mkdir(parents=True)
        for split in task.splits:
            pictures = [png(random.integers(0, 255, (48, 48, 3), np.uint8)) for _ in range(ROWS_OF_A_SPLIT)]
            rows = [{**ROWS[name], "image": {"bytes": picture, "path": None}} for picture in pictures]
            for number, row in enumerate(rows if task.labels else ()):
                row["label"] = number % len(task.labels)
            pq.write_table(pa.Table.from_pylist(rows), files / f"{split}.parquet")
    return folder


@pytest.fixture
def project(folder, monkeypatch):
    """A function from settings to an experiment whose data are ready, in the folder of backbone and encoder."""
    monkeypatch.chdir(folder)

    def make(target="shapes_vqa", source=(), **values):
        vision = {"source": "local", "id": "encoder", **values.pop("vision", {})}
        tasks = {"target": [target], "source": list(source)}
        Path("config.yaml").write_text(yaml.safe_dump({**CONFIGURATION, "tasks": tasks, "vision": vision, **values}))
        experiment = Experiment(load_configuration("config.yaml"))
        for name in (target, *source):
            if experiment.visual_folder(name).exists():
                continue
            for verb in ("fetch", "tokenize", "visual-features"):
                assert main([verb, "--config", "config.yaml", "--task", name]) == 0
        return experiment

    return make


def train(pack):
    assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 0
    return json.loads((pack.folder / "runs.json").read_text())


def predicted(experiment, pack):
    """The test rows of seed 0 as they were published, and what the run predicted for them."""
    published = pq.read_table(experiment.raw_folder(pack.task) / "test.parquet").to_pylist()
    found = [row for row in pq.read_table(pack.folder / "predictions.parquet").to_pylist() if row["seed"] == 0]
    return [published[int(row["id"].rpartition(":")[2])] for row in found], found


@pytest.mark.parametrize(
    ("method", "vision"),
    [
        ("pt", {}),
        ("ept", {"projection": "trained", "offset": "both"}),
        ("dept", {"offset": "visual"}),
        ("adept", {"offset": "both"}),
        ("lora", {"projection": "trained"}),
    ],
)
def test_a_prompt_in_use_writes_what_it_wrote_when_it_was_tested(project, method, vision):
    experiment = project("shapes_captioning", methods=[method], vision=vision)
    (pack,) = experiment.packs
    record = train(pack)
    assert set(record["runs"][0]["test"] or record["runs"][1]["test"]) == set(TASKS["shapes_captioning"].metrics)
    rows, found = predicted(experiment, pack)
    prompt, model = Prompt.from_pretrained(pack.source_prompt), Prompted.from_pretrained("model")
    written = [row["text"] for row in found]
    assert model.predict(rows, prompt, batch_size=5) == written
    pictures = [row["image"] for row in rows]
    assert model.predict([{}] * len(rows), prompt, images=pictures) == written
    # The pictures matter: a text follows its own.
    assert len(set(written)) > 1
    assert model.predict([{}] * len(rows), prompt, images=pictures[::-1]) == written[::-1]


def test_a_picture_may_be_bytes_a_path_an_image_an_array_or_a_column(project, tmp_path):
    experiment = project(methods=["pt"])
    (pack,) = experiment.packs
    train(pack)
    rows, _ = predicted(experiment, pack)
    prompt, model = Prompt.from_pretrained(pack.source_prompt), Prompted.from_pretrained("model")
    pictures = [row["image"] for row in rows[:3]]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(picture)
    images = [Image.open(io.BytesIO(picture)) for picture in pictures]
    questions = [row["question"] for row in rows[:3]]
    expected = model.predict_proba(questions, prompt, images=pictures)
    for form in (paths, images, [np.asarray(image) for image in images]):
        np.testing.assert_array_equal(model.predict_proba(questions, prompt, images=form), expected)
    for column in (pictures, [{"bytes": picture, "path": None} for picture in pictures], [str(path) for path in paths]):
        asked = [{"question": one, "image": picture} for one, picture in zip(questions, column, strict=True)]
        np.testing.assert_array_equal(model.predict_proba(asked, prompt), expected)
    for wrong in (None, [None] * 3, [pictures[0][:40]] * 3, [tmp_path / "none.png"] * 3, pictures[:2]):
        with pytest.raises(InputError):
            model.predict(questions, prompt, images=wrong)


def test_what_reads_images_is_neither_exported_nor_mixed_up_with_text(project, tmp_path):
    experiment = project(methods=["pt"])
    (pack,) = experiment.packs
    train(pack)
    exported = ["export", "--from", str(pack.source_prompt), "--to", str(tmp_path / "peft"), "--format", "peft"]
    assert main(exported) == 2 and not (tmp_path / "peft").exists()
    saved = Prompt.from_pretrained(pack.source_prompt)
    metadata = {key: value for key, value in saved.metadata.items() if key != "vision"}
    of_text = replace(saved, saved=SavedPrompt(saved.saved.tensors, saved.saved.collapsed, metadata))
    model, picture = Prompted.from_pretrained("model"), np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InputError):
        model.predict(["what was red?"], of_text, images=[picture])
    other = replace(saved, saved=SavedPrompt(saved.saved.tensors, saved.saved.collapsed, _other_encoder(saved)))
    with pytest.raises(InputError, match="encoder"):
        model.predict(["what was red?"], other, images=[picture])
    # In one call, each row as its own prompt wants it.
    mixed = model.predict(["what was red?"] * 2, [saved, of_text], images=[picture, None])
    alone = model.predict(["what was red?"], saved, images=[picture]), model.predict(["what was red?"], of_text)
    assert mixed == [answer for (answer,) in alone]


def _other_encoder(prompt):
    return {**prompt.metadata, "vision": {**prompt.metadata["vision"], "encoder": "another"}}


@pytest.mark.parametrize("method", ["spot", "attempt", "mpt"])
def test_methods_that_start_from_source_prompts(project, method):
    experiment = project(source=["digits"], methods=[method])
    done = [train(pack) for pack in experiment.packs]
    assert len(done) >= 2 and done[-1]["runs"][0]["test"]


def test_features_that_are_damaged_end_in_one_sentence(project, capsys):
    (pack,) = project(methods=["pt"], seeds=[3]).packs
    file = pack.visual / "train/features.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert main(["train", "--config", "config.yaml", "--hash", pack.hash]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "features.npy" in line
    assert not pack.folder.exists()
    content[-1] ^= 1
    file.write_bytes(content)
