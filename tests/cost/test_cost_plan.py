"""`ept plan` against numbers reckoned by hand for T5-base (768 hidden units, 12 heads of 64, 3072, 12 + 12 layers)."""

import json

import pytest

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.cost.estimate import backbone_shape
from ept.cost.hardware import GPUS, with_rates
from ept.cost.plan import plan_text, priced
from ept.errors import InputError
from ept.plan.experiment import Experiment

D, FF, HEADS, LAYERS, VOCABULARY = 768, 3072, 12, 12, 32128
TRAINING = {"steps": 1000, "warmup_steps": 10, "evaluate_every": 500, "validation_rows": 100}
VALUES = {
    "backbone": {"name": "t5", "source": "hub", "id": "google-t5/t5-base", "revision": "0" * 40},
    "data": {"source": "hub"},
    "tasks": {"target": ["rte"]},
    "methods": ["pt", "fine_tuning"],
    "seeds": [0, 1],
    "training": {**TRAINING, "learning_rates": {"pt": {"prompt": [0.3, 0.5]}}},
    "few_shot": {"k": []},
}


def experiment(**changes):
    return Experiment(parse_configuration(VALUES | changes))


def row(text, title):
    (line,) = [line for line in text.splitlines() if line.startswith(f"{title}  ")]
    return line.removeprefix(title).split()


def pass_by_hand(positions, target, head_rows):
    """Multiplications of a forward pass of one row: with weights, and of activations with each other."""
    attention, feed_forward = 4 * D * D, 2 * D * FF
    weights = LAYERS * (positions * (attention + feed_forward) + target * (2 * attention + feed_forward))
    weights += head_rows * D * VOCABULARY
    scores = LAYERS * 2 * D * (positions**2 + target**2) + LAYERS * 2 * HEADS * D * target * positions
    return weights, scores


def hours_by_hand(prompt, runs, effort, rate):
    """RTE: texts of 82 pieces, labels of 3, prefixes of 4, 139 test rows; two seeds are tested."""
    weights, scores = pass_by_hand(prompt + 82, 3, 3)
    # What the decoder does before it first meets the text has no gradient.
    unneeded = 3 * 6 * D * D + 2 * 2 * D * 9 + HEADS * D * 3 * (prompt + 82)
    step = 16 * 2 * (2 * weights + 3 * scores - unneeded) * effort
    prediction = 2 * sum(pass_by_hand(prompt + 82, 4, 4))
    return (runs * (1000 * step + 2 * 100 * prediction) + 2 * 139 * prediction) / rate / 3600


def test_hours_are_those_reckoned_by_hand():
    text = plan_text(experiment(), ["H100=100", "mine=1:10"])
    assert text.startswith("t5: 222.9 M parameters, 0.42 GiB in bfloat16\n")
    head = [line for line in text.splitlines() if line.startswith("method")][0].split()
    mine, h100 = head.index("mine") - len(head), head.index("H100") - len(head)
    pt, tuning, everything = row(text, "PT"), row(text, "Fine-tuning"), row(text, "all")
    assert pt[:4] == ["1", "4", "4,000", "76,800"]
    assert tuning[:4] == ["1", "2", "2,000", "222,903,552"]
    found = [hours_by_hand(100, 4, 1.0, 1e12), hours_by_hand(0, 2, 1.5, 1e12)]
    assert pt[mine] == f"{found[0]:.1f}" and tuning[mine] == f"{found[1]:.2f}"
    assert everything[:3] == ["2", "6", "6,000"] and everything[mine] == f"{sum(found):.1f}"
    assert pt[h100] == f"{found[0] / 100:.2f}"


def test_rates_that_are_not_measured_are_published_peaks_times_a_named_assumption():
    pt = row(plan_text(experiment()), "PT")
    assert pt[6] == f"{hours_by_hand(100, 4, 1.0, 0.3 * 989.4e12):.2f}"
    tuning = row(plan_text(experiment()), "Fine-tuning")
    # In float32.
    assert tuning[6] == f"{hours_by_hand(0, 2, 1.5, 0.3 * 66.9e12):.2f}"
    assert "published peak x 0.3, an assumption" in plan_text(experiment())


def test_memory_is_that_reckoned_by_hand_and_what_does_not_fit_is_said():
    large = experiment(backbone={**VALUES["backbone"], "id": "google-t5/t5-3b"})
    text = plan_text(large)
    pt = row(text, "PT")
    weights = 2 * 2_851_598_336
    trained = 5 * 4 * 4 * 100 * 1024
    # 356 positions in 24 layers, and 2 under way: two norms with a float32 copy, queries, keys, values and mixture of
    # 4096, one feed-forward of 16384; bias; logits.
    layer = 2 * (2 * 1024 + 4 * 4096 + 16384) + 4 * 2 * 1024
    graph = 356 * (24 + 2) * layer + 2 * 32 * 356**2 + 3 * 3 * 32128 * 4
    assert pt[4] == f"{(weights + trained + graph) / 2**30:.1f}"
    assert pt[5] == f"{(weights + trained + 16 * graph) / 2**30:.1f}"
    tuning = row(text, "Fine-tuning")
    assert float(tuning[4]) > 60
    assert tuning[-1] == "room" and "Fine-tuning needs" in text
    (line,) = [line for line in text.splitlines() if line.startswith("Fine-tuning needs")]
    assert line.endswith("GiB: no room on A100-40 (40 GiB), RTX4090 (24 GiB), V100 (32 GiB)")


def test_rates_of_this_machine_come_from_what_it_has_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = experiment()
    (pack,) = [pack for pack in plan.packs if pack.method == "pt"]
    pack.folder.mkdir(parents=True)
    weights, scores = pass_by_hand(182, 3, 3)
    unneeded = 3 * 6 * D * D + 2 * 2 * D * 9 + HEADS * D * 3 * 182
    flops = 4 * 1000 * 16 * 2 * (2 * weights + 3 * scores - unneeded)
    # Two TFLOP/s.
    record = {"device": "Card X", "train_seconds": flops / 2e12}
    (pack.folder / "runs.json").write_text(json.dumps(record))
    text = plan_text(plan)
    assert "Card X (measured)" in text
    assert row(text, "PT")[-1] == f"{hours_by_hand(100, 4, 1.0, 2e12):.2f}"
    # In float32.
    assert row(text, "Fine-tuning")[-1] == row(text, "all")[-1] == "unknown"
    assert "Unknown: nothing in that precision was trained there yet." in text


def test_measured_rates_are_those_of_their_precision_and_the_card_has_its_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = experiment()

    def record(found, rate, gib):
        found.pack.folder.mkdir(parents=True, exist_ok=True)
        values = {"device": "Card X", "train_seconds": found.cost.training_flops / rate}
        (found.pack.folder / "runs.json").write_text(json.dumps(values | {"device_memory_bytes": gib * 2**30}))

    for found in priced(plan, backbone_shape(plan), gpu=True):
        record(found, {"pt": 2e12, "fine_tuning": 1e12}[found.pack.method], gib=8)
    text = plan_text(plan)
    assert row(text, "PT")[-1] == f"{hours_by_hand(100, 4, 1.0, 2e12):.2f}"
    # Its batch of 16 does not fit at once.
    assert row(text, "Fine-tuning")[-1] == f"{hours_by_hand(0, 2, 1.5, 1e12):.2f}*"
    assert "Unknown" not in text
    for found in priced(plan, backbone_shape(plan), gpu=True):
        record(found, 1e12, gib=4)
    text = plan_text(plan)
    assert row(text, "Fine-tuning")[-2:] == ["no", "room"]
    assert "no room on Card X (measured) (4 GiB)" in text


def test_the_demonstration_is_planned_for_a_cpu(project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    for spelling in ("--config", "--configfile"):
        assert main(["plan", spelling, "config/config.yaml"]) == 0
        text = capsys.readouterr().out
        assert "CPU thread" in text and "H100" not in text
        assert len(text.splitlines()) < 25 and max(map(len, text.splitlines())) <= 120


def test_the_papers_plan_is_one_screen_and_two_backbones_are_two_plans(project, capsys):
    assert main(["plan", "--configfile", *[str(project / "config/paper.yaml")] * 2]) == 0
    text = capsys.readouterr().out
    assert text.count("t5-base: 222.9 M parameters") == 2
    one = text[: len(text) // 2].splitlines()
    assert len(one) <= 40 and max(map(len, one)) <= 120


@pytest.mark.parametrize("text", ["H100", "H100=fast", "H100=0", "H100=1:x", "=3"])
def test_a_rate_that_is_none_is_one_sentence(text):
    with pytest.raises(InputError, match="is no NAME=TFLOPS"):
        with_rates(GPUS, [text])
    with pytest.raises(InputError, match="L4 is none of H100, .*; add its memory, L4=30:80"):
        with_rates(GPUS, ["L4=30"])


def test_a_backbone_of_unknown_size_is_one_sentence():
    with pytest.raises(InputError, match="someone/t5 are not known before its download; run `ept download-backbone`"):
        plan_text(experiment(backbone={**VALUES["backbone"], "id": "someone/t5"}))
