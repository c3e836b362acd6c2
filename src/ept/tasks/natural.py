"""Tasks in words that a language model has met, in the manner of GPT-3 (Brown et al., arXiv 2005.14165, appendix G)."""

from dataclasses import replace

from ept.errors import InputError
from ept.tasks.record import Task

# Template and labels; between them stands what the backbone's family puts there (ept.data.pieces).
_CLAIM = "{premise}\nQuestion: {hypothesis} True, False, or Neither?"
_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sst2": ("Review: {sentence}\nIs this review negative or positive?", ("negative", "positive")),
    "rte": ("{sentence1}\nQuestion: {sentence2} True or False?", ("True", "False")),
    "cb": (_CLAIM, ("True", "False", "Neither")),
    "mnli": (_CLAIM, ("True", "Neither", "False")),
    "boolq": ("{passage}\nQuestion: {question}?", ("no", "yes")),
}


def in_words(task: Task) -> Task:
    """The task with a natural template and natural labels. Raises InputError for one that has none."""
    if task.name not in _WORDS:
        raise InputError(
            f"{task.name} has no natural wording; use tasks.wording protocol, or one of {', '.join(_WORDS)}"
        )
    template, labels = _WORDS[task.name]
    return replace(task, template=template, labels=labels)
