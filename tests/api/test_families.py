"""Training and use of prompts over decoder-only models of every family, and over quantized models."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split

import ept
from ept.backbones.load import load_backbone
from ept.config.settings import BaselineSettings
from ept.errors import InputError
from ept.evaluation.predict import score_candidates
from ept.methods.build import build_weight_module
from ept.methods.prompt import combine
from ept.methods.prompt_file import save_prompt
from ept.methods.registry import METHODS
from tiny_models import END, FAMILIES, VOCABULARY, make_causal

SETTINGS = {
    "training": {"steps": 3, "warmup_steps": 0, "evaluate_every": 3, "batch_size": 4, "validation_rows": 6},
    "prompt": {"length": 20, "short_length": 4, "reference_length": 24},
    "ept": {"spaces": 2},
    "baselines": {"adapter_reduction": 4, "adapterdrop_layers": 1, "lora_rank": 2, "lst_reduction": 2},
}
ROWS = [{"text": text, "mood": mood} for text, mood in [("a good film", "yes"), ("no", "no"), ("bad plot", "no")] * 6]
TEXTS = ["a good film", "no", "the plot was bad", "a b c d"]
TRAINED = [name for name, method in METHODS.items() if not method.encoder_decoder]
PACKED = [name for name in TRAINED if METHODS[name].packed]


def save_characters(folder):
    """A tokenizer whose pieces are single characters, in as many pieces as the tiny models have."""
    characters = " abcdefghijklmnopqrstuvwxyz:\n0123AN"
    pieces = ["<unk>", "<s>", "</s>", *characters]
    vocabulary = {piece: number for number, piece in enumerate(pieces[:VOCABULARY])}
    assert vocabulary["</s>"] == END
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=FAMILIES)
def causal(request, tmp_path_factory):
    """A random decoder-only model as transformers saves it, with its transformers twin."""
    folder = tmp_path_factory.mktemp(request.param)
    reference = make_causal(request.param)
    reference.save_pretrained(folder)
    save_characters(folder)
    return ept.Prompted.from_pretrained(folder), reference


@pytest.fixture(scope="module")
def prompts(causal):
    """A prompt of every prompt method that such a model can have, trained for three steps."""
    model, _ = causal
    options = {"template": "t: {text}", "label": "mood", "labels": ["no", "yes"], "source_length": 24}
    source = ept.train(ROWS, model=model, method="pt", settings=SETTINGS, **options)
    starts = {"always": [source]}
    return {
        name: ept.train(
            ROWS, model=model, method=name, settings=SETTINGS, init_from=starts.get(METHODS[name].start), **options
        )
        for name in PACKED
    }


def test_prompts_of_every_method_mix(causal, prompts):
    model, _ = causal
    names = [list(prompts)[row % len(prompts)] for row in range(3 * len(prompts))]
    texts = [TEXTS[row % len(TEXTS)] for row in range(len(names))]
    mixed = model.predict_proba(texts, [prompts[name] for name in names])
    alone = [model.predict_proba([text], prompts[name])[0] for text, name in zip(texts, names, strict=True)]
    np.testing.assert_allclose(mixed, alone, atol=1e-5, rtol=0)
    assert set(model.predict(TEXTS, prompts[names[0]])) <= {"no", "yes"}


def test_transformers_generates_the_same(causal, prompts):
    model, reference = causal
    for prompt in prompts.values():
        inputs = model.inputs_embeds(TEXTS, prompt)
        with torch.inference_mode():
            tokens = reference.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=END)
        pieces = model._tokenizer(prompt)
        ends = [row.tolist().index(END) if END in row.tolist() else len(row) for row in tokens]
        expected = [pieces.text(row[:end].tolist()) for row, end in zip(tokens, ends, strict=True)]
        assert model.generate(TEXTS, prompt, max_new_tokens=5) == expected


@pytest.mark.parametrize("method", [name for name in TRAINED if not METHODS[name].packed])
def test_weights_of_a_run_are_trained_saved_and_used(causal, prompts, method, tmp_path):
    model, _ = causal
    before = model.predict_proba(TEXTS, prompts[PACKED[0]])
    options = {"template": "t: {text}", "label": "mood", "labels": ["no", "yes"], "source_length": 24}
    trained = ept.train(ROWS, model=model, method=method, settings=SETTINGS, **options)
    trained.save_pretrained(tmp_path / "weights")
    again = ept.Prompt.from_pretrained(tmp_path / "weights")
    np.testing.assert_array_equal(model.predict_proba(TEXTS, again), model.predict_proba(TEXTS, trained))
    # The backbone is as before.
    np.testing.assert_array_equal(model.predict_proba(TEXTS, prompts[PACKED[0]]), before)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - set(TRAINED)))
def test_methods_that_need_an_encoder_are_refused(causal, method):
    with pytest.raises(InputError, match=rf"{method} .*encoder"):
        ept.train(ROWS, model=causal[0], method=method, template="{text}", label="mood")


@pytest.fixture(scope="module", params=["nf4", "int8"])
def quantized(request):
    """The embedded backbone in 4 and 8 bit."""
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantized`")
    return ept.Prompted.from_pretrained(quantization=request.param), request.param


def test_a_quantized_backbone_takes_every_prompt(quantized, prompt_files, texts):
    """Against what the quantized model gives for the joined embeddings, without the API."""
    model, quantization = quantized
    assert any("Params" in type(weight).__name__ for weight in model.backbone.model.parameters())
    backbone = load_backbone(model.folder, quantization=quantization)
    prompts = {name: ept.Prompt.from_pretrained(path) for name, path in prompt_files.items()}
    text = texts[0]
    for prompt in prompts.values():
        pieces = model._tokenizer(prompt)
        (ids,), _ = pieces.sources([prompt.text(text)], prompt.source_length)
        embedded = backbone.embed(torch.tensor([ids]))[None]
        with torch.inference_mode():
            joined = combine(model._output(prompt), embedded, torch.ones(1, 1, len(ids), dtype=torch.int64))
            scores = score_candidates(backbone, *joined, [pieces.label(label) for label in prompt.labels])
        np.testing.assert_allclose(model.predict_proba([text], prompt), scores.softmax(1).numpy(), atol=1e-5, rtol=0)
    mixed = model.predict(texts, [list(prompts.values())[row % len(prompts)] for row in range(len(texts))])
    assert set(mixed) <= {"0", "1"}


def test_weights_over_a_quantized_backbone(quantized, prompt_files, texts, tmp_path):
    model, _ = quantized
    plain = ept.Prompt.from_pretrained(prompt_files[PACKED[0]])
    before = model.predict_proba(texts[:6], plain)
    settings = BaselineSettings(lora_rank=2)
    module = build_weight_module("lora", model.backbone, settings, 0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05)
    metadata = {**plain.metadata, "method": "lora", "settings": {"baselines": vars(settings)}}
    save_prompt(tmp_path / "lora.safetensors", module.tensors(0), module.collapse(0), metadata)
    module.close()
    weights = ept.Prompt.from_pretrained(tmp_path / "lora.safetensors")
    changed = model.predict_proba(texts[:6], weights)
    assert not np.allclose(changed, before)
    np.testing.assert_array_equal(model.predict_proba(texts[:6], plain), before)
