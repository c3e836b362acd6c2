"""The tasks. A new one is one record in one of the lists below."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ept.errors import InputError, unknown
from ept.tasks.dept import MRQA, OTHERS
from ept.tasks.glue import GLUE
from ept.tasks.qa import QA
from ept.tasks.record import Example, Task
from ept.tasks.superglue import SUPERGLUE
from ept.tasks.vision import VISION

__all__ = ["TASKS", "Example", "Task", "expand_sets", "get_task", "task_sets"]

TASKS: dict[str, Task] = {task.name: task for task in GLUE + SUPERGLUE + QA + MRQA + OTHERS + VISION}


def get_task(name: str, others: Iterable[str] = ()) -> Task:
    """The record of a shipped task; those that a configuration defines are found by its `tasks.record`.

    Raises InputError for an unknown name, which is compared with the names in `others` too.
    """
    if name not in TASKS:
        raise InputError(unknown("task", name, [*others, *TASKS, *task_sets()]))
    return TASKS[name]


def title_of(name: str) -> str:
    """What tables and figures call a task; one that a configuration defines is called by its name."""
    return TASKS[name].title if name in TASKS else name


def suite_of(name: str) -> str:
    """The suite that a task's scores are averaged with, its first set; empty where it has none."""
    return next(iter(TASKS[name].sets), "") if name in TASKS else ""


def task_sets() -> dict[str, list[str]]:
    """The named sets of tasks (`Task.sets`), each with its tasks in the order of the records."""
    sets: dict[str, list[str]] = {}
    for task in TASKS.values():
        for name in task.sets:
            sets.setdefault(name, []).append(task.name)
    return sets


def expand_sets(names: Iterable[str]) -> list[str]:
    """The tasks behind names of tasks and of sets, joined by `+` or not: `["glue+superglue", "squad"]` has 14.

    Names that are neither a task nor a set stay as they are; `get_task` refuses them.
    """
    sets = task_sets()
    parts = [part for name in names for part in name.split("+")]
    return [task for part in parts for task in (sets[part] if part in sets and part not in TASKS else [part])]


# Tasks in words that a language model has met, in the manner of GPT-3 (Brown et al., arXiv 2005.14165, appendix G):
# template, labels, and the cue between them where it is not "Answer:". Those of SST-2, MRPC (240 training examples
# each) and CoLA (96) were the best of several without training on SmolLM2-135M; QNLI's is ours, the others are GPT-3's.
_CLAIM = "{premise}\nQuestion: {hypothesis} True, False, or Neither?"
_WORDS: dict[str, dict[str, Any]] = {
    "sst2": {"template": "Review: {sentence}", "labels": ("negative", "positive"), "cue": "Sentiment:"},
    "cola": {"template": "Sentence: {sentence}", "labels": ("wrong", "correct"), "cue": "Grammar:"},
    "mrpc": {"template": "{sentence1}\nQuestion: {sentence2} True or False?", "labels": ("False", "True")},
    "qnli": {
        "template": "Question: {question}\nText: {sentence}\nDoes the text answer the question?",
        "labels": ("yes", "no"),
    },
    "rte": {"template": "{sentence1}\nQuestion: {sentence2} True or False?", "labels": ("True", "False")},
    "cb": {"template": _CLAIM, "labels": ("True", "False", "Neither")},
    "mnli": {"template": _CLAIM, "labels": ("True", "Neither", "False")},
    "boolq": {"template": "{passage}\nQuestion: {question}?", "labels": ("no", "yes")},
}


def in_words(task: Task) -> Task:
    """The task with a natural template and natural labels. Raises InputError for one that has none."""
    if task.name not in _WORDS:
        raise InputError(
            f"{task.name} has no natural wording; use tasks.wording protocol, or one of {', '.join(_WORDS)}"
        )
    return replace(task, **_WORDS[task.name])
