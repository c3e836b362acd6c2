"""Small models, inputs and backbone folders."""

import json

import pytest
import torch

from tiny_models import VERSIONS, make_t5, t5_inputs


@pytest.fixture(params=VERSIONS)
def t5(request):
    return make_t5(request.param)


@pytest.fixture
def inputs():
    return t5_inputs()


@pytest.fixture
def write_backbone(tmp_path):
    """A function that writes a model as a backbone folder as the Hub has it: safetensors in one file or in shards."""

    def write(model, name="backbone", version="v1.0", shards=False, dtype=torch.float32):
        folder = tmp_path / name
        model.to(dtype).save_pretrained(folder, max_shard_size="8KB" if shards else "1GB")
        # Published configurations of v1.1 say that the head is not tied; transformers 5 forgets it on saving.
        config = json.loads((folder / "config.json").read_text())
        config.pop("scale_decoder_outputs", None)
        config["tie_word_embeddings"] = version == "v1.0"
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
        return folder

    return write
