"""Loading from a folder gives the same model as transformers loads."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from ept.backbones.load import load_backbone
from ept.errors import InputError
from tiny_models import T5_SHAPE, VERSIONS, make_t5


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_loads_what_transformers_loads(write_backbone, inputs, version, shards):
    original = make_t5(version)
    folder = write_backbone(original, version=version, shards=shards)
    assert len(list(folder.glob("*.safetensors"))) == 1 or shards
    theirs = T5ForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    backbone = load_backbone(folder)
    assert backbone.model.config.scale_decoder_outputs == theirs.config.scale_decoder_outputs == (version == "v1.0")
    expected = theirs.state_dict()
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert (backbone.model.lm_head.weight is backbone.model.shared.weight) == (version == "v1.0")
    embeddings, mask, targets = inputs
    loss = theirs(inputs_embeds=embeddings, attention_mask=mask, labels=targets).loss
    found = backbone.token_losses(embeddings, mask, targets)
    torch.testing.assert_close(found.sum() / (targets != -100).sum(), loss)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_dtype(write_backbone):
    folder = write_backbone(make_t5("v1.0"))
    backbone = load_backbone(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.bfloat16}
    half = write_backbone(make_t5("v1.0"), name="half", dtype=torch.bfloat16)
    assert load_backbone(half).dtype == torch.float32
    with pytest.raises(InputError) as caught:
        load_backbone(folder, dtype="float16")
    assert all(word in str(caught.value) for word in ("backbone.dtype", "float16", "float32", "bfloat16"))


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "lm_head.weight"])
def test_tied_embedding_under_any_of_its_names(write_backbone, name):
    folder = write_backbone(make_t5("v1.0"))
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors.pop("shared.weight")
    save_file({**tensors, name: embedding}, folder / "model.safetensors")
    backbone = load_backbone(folder)
    assert torch.equal(backbone.embedding, embedding)
    assert torch.equal(backbone.model.lm_head.weight, embedding)


def test_import_takes_no_more_than_it_must(write_backbone):
    """Every job pays for imports: none of SciPy, scikit-learn or TensorBoard, and SciPy works afterwards."""
    folder = write_backbone(make_t5("v1.0"))
    code = f"""
import sys
from ept.backbones.load import load_backbone
assert "transformers" not in sys.modules
load_backbone({str(folder)!r})
heavy = {{"scipy", "sklearn", "pandas", "tensorboard", "datasets", "evaluate"}} & set(sys.modules)
assert not heavy, heavy
from scipy.optimize import linear_sum_assignment
from transformers.utils import is_scipy_available
assert is_scipy_available()
from transformers import Trainer, pipeline
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_job_starts_without_torchs_compiler_and_transformers():
    """Each takes seconds, and a workflow starts a hundred jobs."""
    code = (
        "import sys, ept.training.job, ept.backbones.load, ept.demo.identity;"
        "ept.backbones.load.load_backbone(ept.demo.identity.BACKBONE_FOLDER);"
        "print([name for name in ('torch._dynamo', 'transformers', 'scipy', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Shapes of the published families where they differ; the vocabulary may be larger than the tokenizer's.
FAMILIES = {
    "t5 v1.0": ("t5", dict(feed_forward_proj="relu", tie_word_embeddings=True)),
    "t5 v1.1 and LM-adapted": ("t5", dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "ul2": ("t5", dict(feed_forward_proj="gated-silu", tie_word_embeddings=False, scalable_attention=True, d_kv=8)),
    "mt5": ("mt5", dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, vocab_size=57)),
    "tied, gated": ("t5", dict(feed_forward_proj="gated-gelu", tie_word_embeddings=True)),
    "own head, not gated": ("t5", dict(feed_forward_proj="gelu", tie_word_embeddings=False, num_decoder_layers=1)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_gradients_are_those_of_transformers_for_every_family(tmp_path, inputs, name):
    model_type, values = FAMILIES[name]
    kinds = {"t5": (T5Config, T5ForConditionalGeneration), "mt5": (MT5Config, MT5ForConditionalGeneration)}
    config_class, model_class = kinds[model_type]
    shape = T5_SHAPE | dict(decoder_start_token_id=0) | values
    torch.manual_seed(0)
    original = model_class(config_class(**shape))
    if not values["tie_word_embeddings"]:
        original.lm_head.weight = torch.nn.Parameter(torch.randn_like(original.shared.weight))
    for parameter in original.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    original.save_pretrained(tmp_path)
    # As it was published: transformers 5 writes other words.
    config = {**json.loads((tmp_path / "config.json").read_text()), **values}
    config.pop("scale_decoder_outputs", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = model_class.from_pretrained(tmp_path, local_files_only=True).eval()
    tied = theirs.lm_head.weight is theirs.shared.weight
    assert tied == values["tie_word_embeddings"]

    backbone = load_backbone(tmp_path)
    embeddings, mask, targets = inputs
    found, expected = (embeddings.clone().requires_grad_() for _ in range(2))
    states = backbone.label_states(found, mask, targets)
    logits = theirs(inputs_embeds=expected, attention_mask=mask, labels=targets).logits[targets != -100]
    assert states.logits.shape[1] == shape["vocab_size"]
    torch.testing.assert_close(states.logits, logits, rtol=1e-4, atol=1e-4)
    for part in (states.logits, logits):
        part.square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-3)


def test_mt5_without_a_head_of_its_own_is_tied_and_never_scaled(tmp_path, inputs):
    torch.manual_seed(0)
    theirs = MT5ForConditionalGeneration(MT5Config(**T5_SHAPE, decoder_start_token_id=0)).eval()
    theirs.save_pretrained(tmp_path)
    embeddings, mask, targets = inputs
    with torch.no_grad():
        found = load_backbone(tmp_path).token_losses(embeddings, mask, targets)
        loss = theirs(inputs_embeds=embeddings, attention_mask=mask, labels=targets).loss
    torch.testing.assert_close(found.sum() / (targets != -100).sum(), loss)
