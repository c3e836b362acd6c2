"""The tasks. A new one is one record in one of the lists below."""

from ept.errors import InputError, unknown
from ept.tasks.glue import GLUE
from ept.tasks.qa import QA
from ept.tasks.record import Example, Task
from ept.tasks.superglue import SUPERGLUE

__all__ = ["GLUE", "QA", "SUPERGLUE", "TASKS", "Example", "Task", "get_task"]

TASKS: dict[str, Task] = {task.name: task for task in GLUE + SUPERGLUE + QA}


def get_task(name: str) -> Task:
    """The record of a task. Raises InputError for an unknown name."""
    if name not in TASKS:
        raise InputError(unknown("task", name, TASKS))
    return TASKS[name]
