"""Tasks in words that a language model has met, in the manner of GPT-3 (Brown et al., arXiv 2005.14165, appendix G)."""

from dataclasses import replace
from typing import Any

from ept.errors import InputError
from ept.tasks.record import Task

# Template, labels, and the cue between them where it is not "Answer:". SST-2's was chosen on 240 training examples with
# SmolLM2-135M (docs/backbones.md); the others are GPT-3's.
_CLAIM = "{premise}\nQuestion: {hypothesis} True, False, or Neither?"
_WORDS: dict[str, dict[str, Any]] = {
    "sst2": {"template": "Review: {sentence}", "labels": ("negative", "positive"), "cue": "Sentiment:"},
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
