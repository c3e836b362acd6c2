"""Tasks of one's own in a configuration: the record that a definition makes, files of their own, and mistakes."""

from pathlib import Path

import pytest
import yaml

from ept.config.configuration import load_configuration, parse_configuration, write_resolved
from ept.config.reference import REFERENCE
from ept.errors import InputError
from ept.plan.experiment import Experiment
from ept.tasks.define import METRICS, TaskDefinition, score_strings
from ept.tasks.record import template_columns
from ept.tasks.registry import TASKS

DEFINITION = {
    "files": {"train": "train.csv"},
    "template": "title: {title} text: {text}",
    "label": "verdict",
    "labels": ["bad", "good"],
}


def _configuration(define, target=("reviews",), **values):
    return parse_configuration({"tasks": {"define": define, "target": list(target)}, "methods": ["pt"], **values})


def _write_rows(path="train.csv", rows=12):
    lines = [f"t{number},text {number},{'good' if number % 2 else 'bad'}" for number in range(rows)]
    Path(path).write_text("title,text,verdict\n" + "\n".join(lines) + "\n")


def test_a_definition_makes_a_record():
    task = _configuration({"reviews": DEFINITION}).tasks.record("reviews")
    assert (task.name, task.title, task.kind, task.split) == ("reviews", "reviews", "classification", "own")
    assert list(task.columns) == ["title", "text"]
    assert task.labels == task.own.values == ("bad", "good")
    assert task.metrics == ("accuracy", "macro_f1")
    assert task.splits == ("train",)
    example = task.example({"title": "a", "text": "b", "label": 1})
    assert (example.source, example.target) == ("title: a text: b", "good")


@pytest.mark.parametrize(("kind", "record"), [("regression", "regression"), ("generation", "extraction")])
def test_other_kinds(kind, record):
    values = {**DEFINITION, "kind": kind, "labels": [], **({"range": [1, 3]} if kind == "regression" else {})}
    task = TaskDefinition.model_validate(values).task("reviews")
    assert (task.kind, task.metrics) == (record, METRICS[record][:2])


def test_scores_are_written_as_for_stsb():
    assert score_strings(0, 5) == TASKS["stsb"].labels
    values = {**DEFINITION, "kind": "regression", "labels": [], "range": [0, 5]}
    own = TaskDefinition.model_validate(values).task("reviews")
    for score in (0.0, 0.1, 2.5, 4.99, 5.0):
        assert own.written(score) == TASKS["stsb"].written(score)


def test_braces_and_repeated_columns_in_a_template():
    assert template_columns("{{a}} {text} {text} {title}") == ["text", "title"]


def test_a_definition_in_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shared").mkdir()
    _write_rows("shared/train.csv")
    Path("shared/reviews.yaml").write_text(yaml.safe_dump(DEFINITION))
    config = _configuration({"reviews": "shared/reviews.yaml"})
    direct = _configuration({"reviews": {**DEFINITION, "files": {"train": "shared/train.csv"}}})
    assert config == direct
    # Jobs read the resolved configuration, which lies elsewhere.
    assert load_configuration(write_resolved(config, tmp_path / "deep/below")) == config


def test_the_order_of_labels_is_kept_in_files_and_in_hashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write_rows()
    turned = {**DEFINITION, "labels": ["good", "bad"]}
    configs = [_configuration({"reviews": definition}) for definition in (DEFINITION, turned)]
    again = load_configuration(write_resolved(configs[1], tmp_path / "resolved"))
    assert again.tasks.record("reviews").labels == ("good", "bad")
    assert len({Experiment(config).tokenized_folder("reviews") for config in configs}) == 2


def _hash(**changes):
    experiment = Experiment(_configuration({"reviews": {**DEFINITION, **changes}}))
    return experiment.pack("pt", "reviews", "full", "scratch").hash


def test_whatever_changes_results_changes_the_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write_rows()
    _write_rows("copy.csv")
    known = _hash()
    assert _hash(files={"train": "copy.csv"}) == known
    changes = [
        {"template": "{text}"},
        {"labels": {"bad": "no", "good": "yes"}},
        {"metrics": ["macro_f1"]},
        {"source_length": 32},
        {"cue": "Verdict:"},
        {"files": {"train": "train.csv", "test": "copy.csv"}},
    ]
    hashes = [_hash(**change) for change in changes]
    _write_rows(rows=13)
    assert len({known, *hashes, _hash()}) == len(changes) + 2


def test_two_configurations_in_one_process_keep_their_own_tasks():
    first = _configuration({"reviews": DEFINITION})
    second = _configuration({"reviews": {**DEFINITION, "labels": ["a", "b", "c"]}})
    assert first.tasks.record("reviews").labels == ("bad", "good")
    assert second.tasks.record("reviews").labels == ("a", "b", "c")
    with pytest.raises(InputError) as error:
        _configuration({}, target=["reviews"])
    assert "'reviews'" in str(error.value)


def test_own_tasks_stand_wherever_tasks_are_named():
    sections = {
        "data": {"source_length": {"reviews": 48}},
        "ablation": {"tasks": ["reviews"]},
        "rate_study": {"tasks": ["reviews"], "learning_rates": {"pt": {"prompt": [0.1, 0.2]}}},
    }
    config = _configuration({"reviews": DEFINITION}, target=["reviews", "rte"], **sections)
    assert (config.source_length("reviews"), config.tasks.own, config.tasks.shipped) == (48, ["reviews"], ["rte"])


def test_natural_wording_leaves_own_tasks_alone():
    tasks = {"define": {"reviews": DEFINITION}, "target": ["reviews", "sst2"], "wording": "natural"}
    config = parse_configuration({"tasks": tasks, "methods": ["pt"]})
    assert config.tasks.record("reviews").template == DEFINITION["template"]
    assert config.tasks.record("sst2").template != TASKS["sst2"].template


def test_without_source_tasks_few_shot_runs_start_from_scratch():
    assert _configuration({"reviews": DEFINITION}, methods=["ept"]).few_shot.initialize_from == ["scratch"]
    asked = {"methods": ["ept"], "few_shot": {"initialize_from": ["source"]}}
    with pytest.raises(InputError) as error:
        _configuration({"reviews": DEFINITION}, **asked)
    assert "tasks.source" in str(error.value)


HUB = {"id": "me/reviews", "revision": "0" * 40}
BAD = {
    "both": ({"hub": HUB}, ["files", "hub"]),
    "neither": ({"files": None}, ["files", "hub"]),
    "ending": ({"files": {"train": "train.xlsx"}}, ["files", "train.xlsx", "csv"]),
    "same file": ({"files": {"train": "a.csv", "test": "a.csv"}}, ["files", "a.csv"]),
    "unknown split": ({"files": {"train": "a.csv", "tset": "b.csv"}}, ["files.tset"]),
    "no column": ({"template": "text"}, ["template"]),
    "format": ({"template": "{text!r:>10}"}, ["template", "{text}"]),
    "open brace": ({"template": "text: {text"}, ["template"]),
    "answer in text": ({"template": "{verdict}"}, ["template", "{verdict}"]),
    "one label": ({"labels": ["bad"]}, ["labels", "1"]),
    "label twice": ({"labels": ["bad", "bad"]}, ["labels", "twice"]),
    "word twice": ({"labels": {0: "bad", 1: "bad"}}, ["labels"]),
    "empty label": ({"labels": ["bad", " "]}, ["labels"]),
    "truth": ({"labels": [True, False]}, ["labels", "quotes"]),
    "labels of scores": ({"kind": "regression", "range": [0, 1]}, ["labels", "regression"]),
    "no range": ({"kind": "regression", "labels": []}, ["range"]),
    "range turned": ({"kind": "regression", "labels": [], "range": [5, 0]}, ["range", "5"]),
    "range too wide": ({"kind": "regression", "labels": [], "range": [0, 100]}, ["range", "100", "40"]),
    "kind": ({"kind": "ranking"}, ["kind", "ranking"]),
    "metric": ({"metrics": ["bleu"]}, ["metrics", "bleu", "macro_f1"]),
    "f1 of three": ({"labels": ["a", "b", "c"], "metrics": ["f1"]}, ["metrics", "f1", "macro_f1"]),
    "metric of the Hub without revision": ({"metrics": ["evaluate:accuracy"]}, ["metrics", "evaluate:accuracy"]),
    "metric of a branch": ({"metrics": ["evaluate:me/mine@main"]}, ["metrics", "evaluate:me/mine@main"]),
    "metric's file": ({"metrics": ["evaluate:none.py"]}, ["metrics", "evaluate:none.py"]),
    "branch": ({"files": None, "hub": {**HUB, "revision": "main"}}, ["hub.revision", "main"]),
    "repository": ({"files": None, "hub": {**HUB, "id": "reviews"}}, ["hub.id", "reviews"]),
    "code": ({"plugins": ["a.py"]}, ["plugins"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_in_a_definition_is_one_sentence_with_its_key(case):
    changes, words = BAD[case]
    with pytest.raises(InputError) as error:
        _configuration({"reviews": {**DEFINITION, **changes}})
    sentence = str(error.value)
    for word in ("tasks.define.reviews", *words):
        assert word in sentence, sentence
    assert len(sentence) <= 500


@pytest.mark.parametrize("name", ["rte", "glue", "multitask", "average", "Reviews", "my reviews", "a/b", "a" * 41])
def test_names_that_a_task_cannot_have(name):
    with pytest.raises(InputError) as error:
        _configuration({name: DEFINITION}, target=["rte"])
    assert name in str(error.value)
    assert "tasks.define" in str(error.value)


def test_a_misspelled_name_is_compared_with_own_tasks():
    with pytest.raises(InputError) as error:
        _configuration({"reviews": DEFINITION}, target=["review"])
    assert "did you mean reviews" in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"), [(None, ["own.yaml"]), ("- a", ["own.yaml"]), ("files: {train: a.csv}", ["template"])]
)
def test_a_bad_file_of_a_definition(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("own.yaml").write_text(content)
    with pytest.raises(InputError) as error:
        _configuration({"reviews": "own.yaml"})
    assert all(word in str(error.value) for word in ("tasks.define.reviews", *words))


def test_the_reference_lists_every_key_of_a_definition(project):
    text = (project / REFERENCE).read_text()
    assert all(f"| `{key}` |" in text for key in TaskDefinition.model_fields)
