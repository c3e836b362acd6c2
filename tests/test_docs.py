"""What the documents say about the code, compared with the code."""

import re
from pathlib import Path

import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.cli import SESSION, _parser
from ept.config.configuration import load_configuration, parse_configuration
from ept.config.settings import BaselineSettings, EptSettings, FewShotSettings, PromptSettings, TrainingSettings
from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import METHODS
from ept.tasks.registry import TASKS

ANSWER = "the answer"


@pytest.fixture
def documents(project) -> dict[str, str]:
    """The text of every document in docs/, by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((project / "docs").glob("*.md"))}


def _table(text: str, head: str) -> list[list[str]]:
    """The cells below a table's head line, without backticks."""
    lines = text[text.index(head) :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def _labels(task) -> str:
    if task.kind == "extraction":
        return ANSWER
    if len(task.labels) > 3:
        return f"{task.labels[0]} {task.labels[1]} … {task.labels[-1]}"
    return " ".join(task.labels)


def test_tasks_are_those_of_the_records(documents):
    head = "| task | data set | source text | labels | metrics | split | length |"
    expected = [
        [
            task.name,
            f"{task.suite}/{task.config}",
            task.template,
            _labels(task),
            ", ".join(task.metrics),
            task.split,
            str(task.source_length),
        ]
        for task in TASKS.values()
    ]
    assert _table(documents["tasks.md"], head) == expected


def test_parameters_are_those_of_the_tensors(documents):
    rows = _table(documents["prompt-methods.md"], "| method | options | m | r | trained | stored |")
    assert {row[0] for row in rows} == {"pt", "attempt", "mpt", "dept", "ept"}
    embedding = torch.ones(110, 768)
    for method, options, length, rank, trained, stored in rows:
        values = dict([options.split(": ")]) if options else {}
        sources = torch.ones(int(values.pop("sources", 0)), 100, 768)
        ept = EptSettings(**{key: int(value) if value.isdigit() else value for key, value in values.items()})
        pack = build_prompt_module(method, embedding, PromptSettings(), ept, int(length), [0], sources=sources)
        found = (str(getattr(pack, "rank", "")), f"{pack.trained_parameters:,}", f"{pack.stored_parameters:,}")
        assert found == (rank, trained, stored), (method, options)


@pytest.fixture(scope="module")
def t5_base() -> EncoderDecoder:
    """A backbone with the shapes of T5-base and no numbers."""
    sizes = dict(d_model=768, d_ff=3072, num_layers=12, num_decoder_layers=12, num_heads=12)
    with torch.device("meta"):
        model = T5(T5Config(**sizes))
    model.lm_head.weight = model.shared.weight
    return EncoderDecoder(model)


def _untrained(method: str, backbone: EncoderDecoder) -> MethodModule:
    if not METHODS[method].packed:
        return build_weight_module(method, backbone, BaselineSettings(), seed=0)
    sources = torch.ones(5, 100, 768)
    return build_prompt_module(method, torch.ones(110, 768), PromptSettings(), EptSettings(), 256, [0], sources=sources)


def test_parameters_of_all_methods_on_t5_base(documents, t5_base):
    rows = _table(documents["weight-methods.md"], "| method | trained | stored | printed |")
    assert sorted(row[0] for row in rows) == sorted(METHODS)
    for method, trained, stored, _ in rows:
        pack = _untrained(method, t5_base)
        assert (f"{pack.trained_parameters:,}", f"{pack.stored_parameters:,}") == (trained, stored), method
        pack.close()


def test_printed_sums_are_those_of_the_tensors(documents, t5_base):
    """The numbers in the text below the table."""
    counts = {}
    for method in ("lora", "bitfit", "adapterdrop", "lst"):
        pack = _untrained(method, t5_base)
        counts[method] = {name: tensor.numel() for name, tensor in pack.tensors(0).items()}
        pack.close()
    head = counts["bitfit"].pop("lm_head.bias")
    biases = sum(counts["bitfit"].values())
    dropped_norms = 768 * 5 * (2 + 3)
    maps = sum(count for name, count in counts["lst"].items() if ".down." in name or ".up." in name)
    text = " ".join(documents["weight-methods.md"].split())
    for number in (head, biases, sum(counts["lora"].values()) + biases):
        assert f"{number:,}" in text
    assert f"{sum(counts['adapterdrop'].values()) + dropped_norms:,} parameters instead of" in text
    assert f"are {100 * maps / sum(counts['lst'].values()):.0f} % of it" in text


def test_learning_rates_inside_the_backbone_are_those_of_the_registry(documents):
    rows = _table(documents["weight-methods.md"], "| method | rate | from |")
    assert [row[0] for row in rows] == [name for name, method in METHODS.items() if not method.packed]
    for method, rate, _ in rows:
        assert METHODS[method].rates == METHODS[method].few_shot_rates == {"weights": [float(rate)]}


def test_training_is_that_of_the_defaults(documents):
    rows = {
        row[0]: row[1:] for row in _table(documents["training-protocol.md"], "| | full data and source prompts | few-shot |")
    }
    full, few = TrainingSettings(), FewShotSettings()
    assert rows["batch"] == [str(full.batch_size), f"{few.batch_size}, or k if k is smaller"]
    assert rows["steps"][0].startswith("30,000 below 100,000") and rows["steps"][1] == str(few.steps)
    assert rows["warm-up"] == [f"{settings.warmup_steps} steps" for settings in (full, few)]
    assert rows["evaluation"] == [f"every {settings.evaluate_every:,} steps and at the end" for settings in (full, few)]
    config = parse_configuration({"tasks": {"target": ["rte"], "source": ["mnli"]}})
    for column, settings in enumerate((config.training, config.few_shot)):
        for method in ("attempt", "mpt", "dept", "ept"):
            for group, rates in config.learning_rates(settings, method).items():
                (row,) = (cells for title, cells in rows.items() if title.startswith(f"learning rates, {group}"))
                assert [float(rate) for rate in row[column].split(", ")] == rates


def test_links_lead_somewhere(project, documents):
    anchors = {
        name: {_anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.M)} for name, text in documents.items()
    }
    for name, text in documents.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("http"):
                continue
            path, _, anchor = target.partition("#")
            assert not path or (project / "docs" / path).exists(), (name, target)
            assert not anchor or anchor in anchors[Path(path).name if path else name], (name, target)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


def test_keys_that_documents_name_exist(documents):
    config = parse_configuration({"tasks": {"target": ["rte"], "source": ["mnli"]}})
    sections = {name for name in type(config).model_fields if not isinstance(getattr(config, name), list | str)}
    for name, text in documents.items():
        for section, key in re.findall(r"`([a-z_]+)\.([a-z_]+)(?:: [^`]*)?`", text):
            if section in sections - {"source_training"}:
                assert hasattr(getattr(config, section), key), (name, section, key)


def test_files_that_documents_name_exist(project, documents):
    for name, text in documents.items():
        for path in re.findall(r"`((?:src|config|profiles|workflow|tests)/[\w./]*)`", text):
            assert (project / path).exists(), (name, path)


def test_commands_that_help_and_documents_show_are_commands(project, documents):
    texts = {**documents, "README.md": (project / "README.md").read_text(encoding="utf-8"), "--help": SESSION}
    shown = [line for text in texts.values() for line in re.findall(r"^ *(ept [a-z].*)$", text, re.M)]
    assert len(shown) > 8
    for line in shown:
        # What stands two blanks after a command explains it.
        _parser().parse_args(re.split(r"  +", line)[0].split()[1:])
    config = load_configuration(project / "config/config.yaml")
    assert set(re.findall(r"--task (\w+) --regime source", SESSION)) == set(config.tasks.source)
