"""`ept plan` against numbers computed by hand for T5-base (768 hidden units, 12 heads of 64, 3072, 12 + 12 layers)."""

import pytest

from ept.cli import main
from ept.config.configuration import parse_configuration
from ept.cost.estimate import backbone_shape
from ept.cost.hardware import GPUS, with_rates
from ept.cost.plan import plan_text, priced
from ept.errors import InputError
from ept.plan.experiment import Experiment
from results.records import write_runs

D, FF, HEADS, LAYERS, VOCABULARY = 768, 3072, 12, 12, 32128
TRAINING = {"steps": 1000, "warmup_steps": 10, "evaluate_every": 500, "validation_rows": 100}
VALUES = {
    "backbone": {"name": "t5", "source": "hub", "id": "google-t5/t5-base", "revision": "0" * 40, "dtype": "bfloat16"},
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
    line = next(line for line in text.splitlines() if line.startswith(f"{title} "))
    return line.removeprefix(title).split()


def column(text, name):
    """The place of a device, from the right."""
    head = next(line for line in text.splitlines() if line.startswith("method")).split()
    return head.index(name) - len(head)


def pass_by_hand(positions, target, head_rows):
    """Multiplications of a forward pass of one row: with weights, and of activations with each other."""
    attention, feed_forward = 4 * D * D, 2 * D * FF
    weights = LAYERS * (positions * (attention + feed_forward) + target * (2 * attention + feed_forward))
    weights += head_rows * D * VOCABULARY
    scores = LAYERS * 2 * D * (positions**2 + target**2) + LAYERS * 2 * HEADS * D * target * positions
    return weights, scores


def hours_by_hand(prompt, runs, effort, rate, launches, together, size):
    """RTE: texts of 82 pieces, labels of 3, prefixes of 4, 139 test rows; two seeds are tested.

    A step takes its arithmetic or 5 µs for each of its kernels, whichever is longer; starting takes 20 seconds, and a
    second for each 10^9 bytes of weights. `together` runs share a pass.
    """
    weights, scores = pass_by_hand(prompt + 82, 3, 3)
    # What the decoder does before it first meets the text has no gradient.
    unneeded = 3 * 6 * D * D + 2 * 2 * D * 9 + HEADS * D * 3 * (prompt + 82)
    step = 16 * 2 * (2 * weights + 3 * scores - unneeded) * effort
    prediction = 2 * sum(pass_by_hand(prompt + 82, 4, 4))
    rows = runs * 2 * 100 + 2 * 139
    training = max(runs * 1000 * step / rate, runs / together * 1000 * launches * 5e-6)
    # Batches of evaluation have four times as many rows, and a third of the kernels of a step.
    evaluation = max(rows * prediction / rate, rows / together / 64 * launches / 3 * 5e-6)
    return (training + evaluation + 20 + size / 1e9) / 3600


def pt_by_hand(rate):
    return hours_by_hand(100, 4, 1.0, rate, 1835, 4, 2 * 222_903_552)


def tuning_by_hand(rate):
    return hours_by_hand(0, 2, 1.5, rate, 6881, 1, 4 * 222_903_552)


def measured_by_hand(arithmetic, rate):
    """A measured rate has launches in it, and what starting takes is not known."""
    prompt, runs, effort, size = arithmetic
    return hours_by_hand(prompt, runs, effort, rate, 0, 1, size) - (20 + size / 1e9) / 3600


PT, TUNING = (100, 4, 1.0, 2 * 222_903_552), (0, 2, 1.5, 4 * 222_903_552)


def test_hours_are_those_computed_by_hand():
    text = plan_text(experiment(), ["H100=100", "mine=1:10"])
    assert text.startswith("t5: 222.9 M parameters, 0.42 GiB in bfloat16\n")
    mine, h100 = column(text, "mine"), column(text, "H100")
    pt, tuning, everything = row(text, "PT"), row(text, "Fine-tuning"), row(text, "all")
    assert pt[:4] == ["1", "4", "4,000", "76,800"]
    assert tuning[:4] == ["1", "2", "2,000", "222,903,552"]
    found = [pt_by_hand(1e12), tuning_by_hand(1e12)]
    assert pt[mine] == f"{found[0]:.1f}" and tuning[mine] == f"{found[1]:.2f}"
    assert everything[:3] == ["2", "6", "6,000"] and everything[mine] == f"{sum(found):.1f}"
    assert pt[h100] == f"{pt_by_hand(1e14):.2f}"


def test_rates_that_are_not_measured_are_published_peaks_times_a_named_assumption():
    pt = row(plan_text(experiment()), "PT")
    assert pt[6] == f"{pt_by_hand(0.3 * 989.4e12):.2f}"
    tuning = row(plan_text(experiment()), "Fine-tuning")
    # In float32.
    assert tuning[6] == f"{tuning_by_hand(0.3 * 66.9e12):.2f}"
    # Launches of kernels, not arithmetic, are what small steps of fine-tuning take.
    assert tuning_by_hand(0.3 * 66.9e12) == pytest.approx((2 * 1000 * 6881 * 5e-6 + 20) / 3600, rel=0.2)
    assert "published peak x 0.3" in plan_text(experiment())


def test_tf32_and_rates_of_one_precision():
    tf32 = experiment(backbone={**VALUES["backbone"], "dtype": "float32", "tf32": True})
    text = plan_text(tf32, ["new=1:10,tf32=40"])
    pt = hours_by_hand(100, 4, 1.0, 40e12, 1835, 4, 4 * 222_903_552)
    assert row(text, "PT")[column(text, "new")] == f"{pt:.2f}"
    (device,) = with_rates((), ["H200=700:141,float32=60"])
    assert [device.rate(name) for name in ("bfloat16", "float32", "tf32")] == [700e12, 60e12, 700e12]
    assert device.gib == 141
    h200 = next(gpu for gpu in GPUS if gpu.name == "H200")
    assert h200.rate("bfloat16") == pytest.approx(0.3 * 989.4e12) and h200.gib == 141


def test_hours_by_table_add_up_and_days_are_those_of_several_devices():
    values = {"ablation": {"tasks": ["rte"], "spaces": [1, 2]}, "methods": ["pt", "ept"]}
    plan = experiment(**values)
    text = plan_text(plan, ["mine=1:10"])
    mine = column(text, "mine")
    lines = [line for line in text.splitlines() if line.startswith("  + ")]
    assert [line.split()[1] for line in lines] == ["main", "ablation"]
    assert sum(int(line.split()[2]) for line in lines) == int(row(text, "all")[0])
    hours = [float(line.split()[mine]) for line in lines]
    assert sum(hours) == pytest.approx(float(row(text, "all")[mine]), abs=0.2)
    (device,) = with_rates((), ["mine=1:10"])
    single = [found.cost.hours(device) for found in priced(plan, backbone_shape(plan), gpu=True)]
    for number in (1, 4, 8):
        days = float(row(text, f"  days on {number}")[mine])
        assert days == pytest.approx(max(sum(single) / number, *single) / 24, abs=0.05)


def test_memory_is_that_computed_by_hand_and_what_does_not_fit_is_said():
    large = experiment(backbone={**VALUES["backbone"], "id": "google-t5/t5-3b"})
    text = plan_text(large)
    pt = row(text, "PT")
    weights = 2 * 2_851_598_336
    trained = 5 * 4 * 4 * 100 * 1024
    # 356 positions in 24 layers, and 2 under way: two norms, queries, keys, values and mixture of 4096, one
    # feed-forward of 16384; bias; logits.
    layer = 2 * (2 * 1024 + 4 * 4096 + 16384)
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
    weights, scores = pass_by_hand(182, 3, 3)
    unneeded = 3 * 6 * D * D + 2 * 2 * D * 9 + HEADS * D * 3 * 182
    flops = 4 * 1000 * 16 * 2 * (2 * weights + 3 * scores - unneeded)
    # Two TFLOP/s.
    write_runs(pack, [100], device="Card X", train_seconds=flops / 2e12)
    text = plan_text(plan)
    assert "Card X (measured)" in text
    assert row(text, "PT")[-1] == f"{measured_by_hand(PT, 2e12):.2f}"
    # In float32.
    assert row(text, "Fine-tuning")[-1] == row(text, "all")[-1] == "unknown"
    assert "Unknown: nothing has been trained there in that precision yet." in text


def test_measured_rates_are_those_of_their_precision_and_the_card_has_its_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = experiment()

    def record(found, rate, gib):
        seconds = found.cost.training_flops / rate
        write_runs(found.pack, [100], device="Card X", train_seconds=seconds, device_memory_bytes=gib * 2**30)

    for found in priced(plan, backbone_shape(plan), gpu=True):
        record(found, {"pt": 2e12, "fine_tuning": 1e12}[found.pack.method], gib=8)
    text = plan_text(plan)
    assert row(text, "PT")[-1] == f"{measured_by_hand(PT, 2e12):.2f}"
    # Its batch of 16 does not fit at once.
    assert row(text, "Fine-tuning")[-1] == f"{measured_by_hand(TUNING, 1e12):.2f}*"
    assert "Unknown" not in text
    for found in priced(plan, backbone_shape(plan), gpu=True):
        record(found, 1e12, gib=4)
    text = plan_text(plan)
    assert row(text, "Fine-tuning")[-2:] == ["no", "room"]
    assert "no room on Card X (measured) (4 GiB)" in text
    for pack in plan.packs:
        path = pack.folder / "runs.json"
        path.write_text(path.read_text().replace('"train_seconds": ', '"train_seconds": 9'))
    assert "Card X" not in plan_text(plan)


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
    assert len(one) <= 50 and max(map(len, one)) <= 120


@pytest.mark.parametrize("text", ["H100", "H100=fast", "H100=0", "H100=1:x", "=3", "H100=1,float64=2", "H100=1,tf32=0"])
def test_a_rate_that_is_none_is_one_sentence(text):
    with pytest.raises(InputError, match=f"--rate {text}:"):
        with_rates(GPUS, [text])


def test_another_device_needs_its_memory():
    with pytest.raises(InputError, match="L4=30:80"):
        with_rates(GPUS, ["L4=30"])


def test_a_backbone_of_unknown_size_is_one_sentence():
    with pytest.raises(InputError, match="someone/t5 .*ept download-backbone"):
        plan_text(experiment(backbone={**VALUES["backbone"], "id": "someone/t5"}))
