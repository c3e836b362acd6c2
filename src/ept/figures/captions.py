"""Captions: what a figure shows, and on which backbone, data, tasks and seeds, from the configuration."""

from ept.experiment import Experiment
from ept.figures.registry import FigureKind
from ept.tasks import get_task


def caption(kind: FigureKind, experiment: Experiment) -> str:
    """The caption of a figure: plain sentences that are valid reStructuredText too."""
    packs = [pack for table in kind.tables_of(experiment) for pack in experiment.table_packs(table)]
    tasks = [get_task(task).title for task in dict.fromkeys(pack.task for pack in packs)]
    seeds = dict.fromkeys(seed for pack in packs for seed in pack.seeds)
    return f"{kind.caption} {conditions(experiment)} {_counted('Task', tasks)}; {_counted('seed', seeds)}.\n"


def conditions(experiment: Experiment) -> str:
    """Which backbone and which data stand behind every number; of generated data, that they are no science."""
    config = experiment.config
    data = {
        "demo": f"a benchmark generated with seed {config.data.seed} (a demonstration, not science)",
        "hub": "the published data sets from the Hugging Face hub",
        "local": "data from a local folder",
    }[config.data.source]
    return f"Backbone: {config.backbone.public_name}; data: {data}."


def _counted(noun: str, names) -> str:
    """`Task: RTE` or `Tasks: RTE, CB`."""
    names = [str(name) for name in names]
    return f"{noun}{'s' if len(names) > 1 else ''}: {', '.join(names)}"
