"""Prompts in use: one for all rows or one for each row, against separate calls and transformers."""

import numpy as np
import pytest
import torch
from transformers import T5ForConditionalGeneration

import ept
from ept.backbones.families import FAMILIES
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.evaluation.predict import generate
from ept.methods.registry import METHODS


@pytest.fixture(scope="module")
def prompts(prompt_files):
    return {name: ept.Prompt.from_pretrained(path) for name, path in prompt_files.items()}


def test_mixed_prompts_give_what_separate_calls_give(model, prompts, texts):
    names = [list(prompts)[row % len(prompts)] for row in range(len(texts))]
    mixed = model.predict_proba(texts, [prompts[name] for name in names])
    for name, prompt in prompts.items():
        rows = [row for row, other in enumerate(names) if other == name]
        alone = model.predict_proba([texts[row] for row in rows], prompt)
        np.testing.assert_allclose(mixed[rows], alone, atol=1e-5, rtol=0)
        one_by_one = np.concatenate([model.predict_proba([texts[row]], prompt) for row in rows])
        np.testing.assert_allclose(mixed[rows], one_by_one, atol=1e-5, rtol=0)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    assert len({tuple(row) for row in mixed.round(4)}) > len(texts) // 2


@pytest.mark.parametrize("decoding", ["closed", "open"])
def test_prompts_of_other_labels_and_kinds_share_one_pass(
    model, save_random_prompt, texts, tmp_path, decoding, monkeypatch
):
    facts = [
        {"labels": ["0", "1"]},
        {"labels": ["1", "0"]},
        {"labels": ["yes", "no", "1"]},
        {"labels": ["0.0", "0.2", "0.4"], "kind": "regression", "metrics": ["pearson"]},
    ]
    prompts = [
        ept.Prompt.from_pretrained(save_random_prompt(tmp_path / f"{number}.safetensors", "pt", seed=number, **one))
        for number, one in enumerate(facts)
    ]
    chosen = [prompts[row % len(prompts)] for row in range(len(texts))]
    alone = [model.predict([text], one, decoding=decoding)[0] for text, one in zip(texts, chosen, strict=True)]
    passes = []
    read = type(model.backbone).tree_logits
    monkeypatch.setattr(
        type(model.backbone), "tree_logits", lambda self, *parts: passes.append(1) or read(self, *parts)
    )
    assert model.predict(texts, chosen, decoding=decoding) == alone
    assert len(passes) == 1


def test_closed_answers_are_the_likeliest_label(model, prompts, texts):
    for prompt in prompts.values():
        likeliest = model.predict_proba(texts, prompt).argmax(1)
        assert model.predict(texts, prompt) == [prompt.labels[number] for number in likeliest]


def test_open_answers_are_what_generation_writes(model, prompts, texts):
    for prompt in prompts.values():
        inputs = model.inputs_embeds(texts, prompt)
        written = generate(model.backbone, inputs["inputs_embeds"], inputs["attention_mask"], 8)
        # By pieces: "0" within a word is not the label "0".
        labels = {tuple(model._tokenizer(prompt).label(label)): label for label in prompt.labels}
        expected = [labels.get(tuple(pieces)) for pieces in written]
        assert model.predict(texts, prompt, decoding="open") == expected
        spelled = model.generate(texts, prompt, max_new_tokens=8)
        assert all(label in (None, text) for label, text in zip(expected, spelled, strict=True))


def test_transformers_generates_the_same_from_the_embeddings(model, prompts, texts):
    reference = T5ForConditionalGeneration.from_pretrained(BACKBONE_FOLDER).eval()
    inputs = model.inputs_embeds(
        texts,
        list(prompts.values()) * (len(texts) // len(prompts)) + list(prompts.values())[: len(texts) % len(prompts)],
    )
    with torch.inference_mode():
        tokens = reference.generate(**inputs, max_new_tokens=8, num_beams=1, do_sample=False)
    mixed = list(prompts.values()) * (len(texts) // len(prompts)) + list(prompts.values())[: len(texts) % len(prompts)]
    pieces = model._tokenizer(mixed[0])
    assert [pieces.text(row.tolist()) for row in tokens] == model.generate(texts, mixed, max_new_tokens=8)


def test_batches_of_any_size_agree(model, prompts, texts):
    prompt = prompts["ept"] if "ept" in prompts else next(iter(prompts.values()))
    whole = model.predict_proba(texts, prompt, batch_size=100)
    np.testing.assert_allclose(model.predict_proba(texts, prompt, batch_size=3), whole, atol=1e-5)
    assert model.predict([], prompt) == []


def test_rows_are_strings_dictionaries_or_any_iterable(model, prompts, texts):
    prompt = next(iter(prompts.values()))
    rows = ({"sentence": text, "other": 3} for text in texts)
    assert model.predict(rows, prompt) == model.predict(iter(texts), prompt)


@pytest.mark.parametrize(
    ("texts", "words"),
    [("one text", ["list"]), ([{"text": "x"}], ["sentence"]), ([{}], ["sentence"])],
)
def test_bad_rows_are_one_sentence(model, prompts, texts, words):
    with pytest.raises(InputError) as error:
        model.predict(texts, next(iter(prompts.values())))
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_table_of_pandas_is_refused_and_its_rows_are_taken(model, prompts, texts):
    pandas = pytest.importorskip("pandas", reason="comes with the extra `data`")
    table, prompt = pandas.DataFrame({"id": range(len(texts)), "sentence": texts}), next(iter(prompts.values()))
    assert model.predict(table.to_dict("records"), prompt) == model.predict(texts, prompt)
    with pytest.raises(InputError, match="records"):
        model.predict(table, prompt)
    with pytest.raises(InputError, match="'sentence' is empty"):
        model.predict(table.assign(sentence=[*texts[1:], None]).to_dict("records"), prompt)


def test_as_many_prompts_as_texts(model, prompts, texts):
    with pytest.raises(InputError, match=r"24.*2"):
        model.predict(texts, list(prompts.values())[:2])


def test_a_prompt_of_another_backbone_is_refused_or_warned_of(model, save_random_prompt, tmp_path, texts):
    file = save_random_prompt(tmp_path / "other.safetensors", "pt", backbone="t5-small", backbone_identity="t5-small@1")
    other = ept.Prompt.from_pretrained(file)
    with pytest.raises(InputError, match="t5-small@1"):
        model.predict(texts, other)
    lenient = ept.Prompted(model.backbone, model.folder, model.name, allow_mismatch=True)
    with pytest.warns(UserWarning, match="t5-small@1"):
        assert len(lenient.predict(texts, other)) == len(texts)


def test_every_family_has_a_default_cue_and_padding():
    """What mixed batches rely on: the adapters take padding at the end, whatever the family."""
    assert {family.encoder_decoder for family in FAMILIES.values()} == {True, False}


def test_weights_of_a_run_are_used_and_taken_off_again(model, prompts, texts, tmp_path):
    from ept.config.settings import BaselineSettings
    from ept.methods.build import build_weight_module
    from ept.methods.prompt_file import save_prompt

    plain = next(iter(prompts.values()))
    before = model.predict_proba(texts, plain)
    settings = BaselineSettings(adapter_reduction=8, adapterdrop_layers=1, lora_rank=4, lst_reduction=4)
    for name in (name for name, method in METHODS.items() if not method.packed):
        module = build_weight_module(name, model.backbone, settings, 0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        metadata = {**plain.metadata, "method": name, "settings": {"baselines": vars(settings)}}
        save_prompt(tmp_path / f"{name}.safetensors", module.tensors(0), module.collapse(0), metadata)
        module.close()
        weights = ept.Prompt.from_pretrained(tmp_path / f"{name}.safetensors")
        first = model.predict_proba(texts, weights)
        assert first.shape == before.shape
        np.testing.assert_array_equal(model.predict_proba(texts, weights), first)
        np.testing.assert_array_equal(model.predict_proba(texts, plain), before)
        with pytest.raises(InputError, match=METHODS[name].title):
            model.predict(texts[:2], [weights, plain])
