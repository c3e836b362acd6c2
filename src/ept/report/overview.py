"""The part of the report's landing page that depends on the run, as reStructuredText."""

from ept.experiment import Experiment
from ept.figures.captions import conditions
from ept.figures.registry import left_out
from ept.methods import METHODS
from ept.pack import SOURCE
from ept.tasks import get_task

DEMONSTRATION = (
    "The embedded benchmark is generated from a grammar and its backbone is a small T5 made for it. The run shows how "
    "the workflow works and what it leaves. **It is a demonstration, not science**: nothing in it says how the methods "
    "compare on real text."
)


def overview(experiment: Experiment) -> str:
    """What was run, on what, how much of it, and what was left out and why."""
    config = experiment.config
    lines = [conditions(experiment), ""]
    if config.data.source == "demo":
        lines += [DEMONSTRATION, ""]
    lines += [f"- {name}: {text}" for name, text in _facts(experiment).items()]
    missing = _missing_tables(experiment) | left_out(experiment)
    if missing:
        lines += ["", "Left out, because the configuration does not ask for it:", ""]
        lines += [f"- {title} ({_literal(reason)})" for title, reason in missing.items()]
    return "\n".join(lines) + "\n"


def _facts(experiment: Experiment) -> dict[str, str]:
    config = experiment.config
    sources = [pack for pack in experiment.packs if pack.regime == SOURCE]
    return {
        "Target tasks": _titles(config.tasks.target),
        "Source tasks": _titles(config.tasks.source) or "none",
        "Methods": ", ".join(METHODS[method].title for method in config.methods),
        "Seeds": ", ".join(map(str, config.seeds)),
        "Few-shot": ", ".join(f"k = {k}" for k in config.few_shot.k) or "none",
        "Trainings": f"{sum(pack.number_of_runs for pack in experiment.packs)} runs (learning rates x seeds) in "
        f"{len(experiment.packs)} packs, {len(sources)} of them source prompts",
        "Tables": ", ".join(f"``{table}``" for table in experiment.default_tables),
    }


def _titles(tasks: list[str]) -> str:
    return ", ".join(get_task(task).title for task in tasks)


def _missing_tables(experiment: Experiment) -> dict[str, str]:
    """Tables that could be made and are not."""
    missing = [table for table in experiment.tables if table not in experiment.default_tables]
    return {f"Table ``{table}``": "only for the backbone of published scores" for table in missing}


def _literal(reason: str) -> str:
    """Keys of the configuration as literals: what has a dot or an underscore is no word to docutils."""
    return " ".join(f"``{word}``" if "." in word or "_" in word else word for word in reason.split())
