"""Metrics of the library `evaluate` in a definition: run only where allowed, scored as that library does, in hashes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import cohen_kappa_score

from ept.config.configuration import parse_configuration
from ept.errors import InputError
from ept.evaluation import metrics
from ept.plan.experiment import Experiment
from ept.tasks import plugins

METRIC = """
from pathlib import Path
import datasets
import evaluate
from sklearn.metrics import cohen_kappa_score

Path({mark!r}).touch()


class Kappa(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {{"kappa": {factor} * cohen_kappa_score(references, predictions)}}
"""


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_allowed_metrics", set())
    monkeypatch.delenv(plugins.ALLOW, raising=False)
    plugins.load_metric.cache_clear()
    (tmp_path / "rows.csv").write_text("text,verdict\na,bad\nb,good\n")
    write_metric()


def write_metric(name="kappa.py", factor=1):
    Path(name).write_text(METRIC.format(mark=str(Path("ran").absolute()), factor=factor))


def configuration(metric="evaluate:kappa.py", allow_code=False, definition=None):
    definition = definition or {
        "files": {"train": "rows.csv"},
        "template": "text: {text}",
        "label": "verdict",
        "labels": ["bad", "good"],
        "metrics": [metric, "accuracy"],
    }
    values = {
        "data": {"source_length": {"default": 64}},
        "tasks": {"define": {"reviews": definition}, "target": ["reviews"]},
        "methods": ["pt"],
        "prompt": {"length": 16, "short_length": 10, "reference_length": 64},
    }
    return parse_configuration(values, allow_code=allow_code)


def test_without_the_flag_nothing_runs():
    with pytest.raises(InputError) as error:
        configuration()
    assert all(part in str(error.value) for part in ("evaluate:kappa.py", "--allow-code", plugins.ALLOW))
    with pytest.raises(InputError, match=r"kappa\.py"):
        plugins.load_metric("evaluate:kappa.py")
    assert not Path("ran").exists()


def test_a_shared_definition_runs_none_even_with_the_flag():
    task = {"files": {"train": "rows.csv"}, "template": "{text}", "label": "verdict", "labels": ["bad", "good"]}
    Path("shared.yaml").write_text(yaml.safe_dump({**task, "metrics": ["evaluate:kappa.py"]}))
    with pytest.raises(InputError) as error:
        configuration(allow_code=True, definition="shared.yaml")
    assert "shared.yaml" in str(error.value) and "evaluate:kappa.py" in str(error.value)
    assert not Path("ran").exists()


def test_a_prompt_runs_none(prompt_file):
    import ept

    assert ept.Prompt.from_pretrained(prompt_file(["evaluate:kappa.py"])).task.metrics == ("accuracy", "macro_f1")
    assert ept.Prompt.from_pretrained(prompt_file(["evaluate:kappa.py", "macro_f1"])).task.metrics == ("macro_f1",)
    assert not Path("ran").exists()


@pytest.fixture
def prompt_file(tmp_path):
    """A function metrics -> a prompt file that names them."""
    import torch

    from ept.methods.prompt_file import save_prompt

    def make(names):
        facts = {"method": "pt", "task": "own", "template": "{text}", "labels": ["bad", "good"], "metrics": names}
        path = tmp_path / "p.safetensors"
        save_prompt(path, {"prompt": torch.ones(4, 8)}, {}, {**facts, "kind": "classification"})
        return path

    return make


def test_it_scores_as_the_library_does_and_its_code_is_in_the_hash():
    pytest.importorskip("evaluate", reason="needs the extra `data`")
    config = configuration(allow_code=True)
    task = config.tasks.record("reviews")
    generator = np.random.default_rng(0)
    truth = metrics.References(labels=generator.integers(0, 2, 60).astype(float), groups=[""] * 60)
    seeds = [np.where(generator.random(60) < 0.8, truth.labels, metrics.INVALID).astype(np.int64) for _ in range(2)]
    scored = metrics.scorer("evaluate:kappa.py", seeds, truth, task)
    for seed, predictions in enumerate(seeds):
        for rows in (np.arange(60), generator.integers(0, 60, 60)):
            expected = 100 * cohen_kappa_score(truth.labels[rows], predictions[rows])
            assert scored(seed, rows) == pytest.approx(expected)
    assert Path("ran").exists()

    before = Experiment(config).pack("pt", "reviews", "full", "scratch")
    assert before.settings["data"]["metric_codes"] == [plugins.metric_code("evaluate:kappa.py")]
    write_metric("kappa.py", factor=0.5)
    assert Experiment(configuration(allow_code=True)).pack("pt", "reviews", "full", "scratch").hash != before.hash

    write_metric("far.py", factor=50)
    configuration("evaluate:far.py", allow_code=True)
    with pytest.raises(InputError, match=r"far\.py"):
        metrics.compute("evaluate:far.py", truth.labels.astype(np.int64), truth, task)
    Path("broken.py").write_text("import evaluate\nraise ValueError('no')\n")
    configuration("evaluate:broken.py", allow_code=True)
    with pytest.raises(InputError, match=r"broken\.py"):
        metrics.compute("evaluate:broken.py", seeds[0], truth, task)
