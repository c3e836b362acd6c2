"""Prompts of every prompt method over the embedded backbone, at random weights, saved as files."""

import pytest
import torch

from ept.api.prompted import Prompted
from ept.backbones.files import backbone_identity
from ept.config.settings import EptSettings, PromptSettings
from ept.demo.identity import BACKBONE_FOLDER
from ept.methods.build import build_prompt_module
from ept.methods.prompt_file import save_prompt
from ept.methods.registry import METHODS

TEMPLATE = "sentence: {sentence}"
LABELS = ["0", "1"]
PACKED = [name for name, method in METHODS.items() if method.packed]


@pytest.fixture(scope="session")
def model() -> Prompted:
    """The embedded backbone."""
    return Prompted.from_pretrained()


@pytest.fixture(scope="session")
def save_random_prompt(model):
    """A function path, method, seed, tokens -> the path of a prompt file of that method with random tensors."""

    def save(path, method, seed=0, length=24, **metadata):
        generator = torch.Generator().manual_seed(seed)
        settings = PromptSettings(length=length, short_length=length // 4, reference_length=64)
        embedding = model.backbone.embedding
        sources = embedding[torch.randint(0, 100, (2, length), generator=generator)].clone()
        module = build_prompt_module(method, embedding, settings, EptSettings(), 96, [seed], (), sources)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise if parameter.dim() > 1 else 0.01 * noise)
        facts = {
            "method": method,
            "task": "own",
            "template": TEMPLATE,
            "labels": LABELS,
            "kind": "classification",
            "cue": "Answer:",
            "metrics": ["accuracy", "macro_f1"],
            "source_length": 96,
            "backbone": "demo-t5",
            "backbone_identity": backbone_identity(BACKBONE_FOLDER),
        }
        save_prompt(path, module.tensors(0), module.collapse(0), {**facts, **metadata})
        return path

    return save


@pytest.fixture(scope="session")
def prompt_files(save_random_prompt, tmp_path_factory):
    """A prompt file of every prompt method, of different lengths, by method."""
    folder = tmp_path_factory.mktemp("prompts")
    return {
        name: save_random_prompt(folder / f"{name}.safetensors", name, seed=number, length=24 + 2 * number)
        for number, name in enumerate(PACKED)
    }


@pytest.fixture(scope="session")
def texts():
    """Texts of different lengths."""
    words = ("the teacher saw a good film and the judge", "did not like the poor plot of it at all")
    words = " ".join(words).split()
    return [" ".join(words[: 3 + number % 15]) for number in range(24)]
