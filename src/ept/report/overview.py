"""The part of the report's landing page that depends on the run, as reStructuredText."""

import re

from ept.config.settings import SOURCE
from ept.figures.registry import left_out
from ept.figures.write import conditions
from ept.methods.registry import METHODS
from ept.plan.experiment import Experiment
from ept.plan.tables import COMPARISON, REMEDIES
from ept.tasks.registry import title_of

DEMONSTRATION = (
    "The embedded benchmark is generated from a grammar and its backbone is a small T5 made for it. The run shows how "
    "the workflow works and what it produces. **It is a demonstration, not science**: nothing in it says how the "
    "methods compare on real text."
)


def overview(experiment: Experiment) -> str:
    """What was run, on what, how much of it, and what was left out and why."""
    config = experiment.config
    lines = [conditions(experiment), ""]
    if config.data.source == "demo" and config.tasks.shipped:
        lines += [DEMONSTRATION, ""]
    lines += [f"- {name}: {text}" for name, text in _facts(experiment).items()]
    missing = _missing_tables(experiment)
    missing |= {f"Figure {title}": reason for title, reason in left_out(experiment).items()}
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
    return ", ".join(map(title_of, tasks))


def _missing_tables(experiment: Experiment) -> dict[str, str]:
    """Tables that this configuration does not ask for, each with what would have to be set."""
    missing = {table: f"to have it, {remedy}" for table, remedy in REMEDIES.items() if table not in experiment.tables}
    if COMPARISON not in experiment.default_tables:
        missing[COMPARISON] = "only for the backbone of published scores"
    return {f"Table ``{table}``": reason for table, reason in missing.items()}


def _literal(reason: str) -> str:
    """The text with keys of the configuration as literals: docutils misreads dots and underscores in words."""
    return re.sub(r"\w*[a-z][._][a-z]\w*(\.\w+)*", r"``\g<0>``", reason)
