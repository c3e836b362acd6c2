"""The files of the report that are neither tables nor figures."""

import math
import re

from ept.config.settings import SOURCE
from ept.figures.registry import left_out
from ept.figures.write import conditions
from ept.files import write_json, write_text
from ept.methods.registry import METHODS
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import COMPARISON, REMEDIES
from ept.plan.targets import PAGES, made_from
from ept.report.costs import Cost, costs
from ept.report.findings import findings
from ept.report.runs import write_run_pages
from ept.results.render import Cell, Layout, table_page, to_markdown
from ept.tasks.registry import title_of

HEAD = ("rule", "jobs", "measured here", "seconds", "CPU seconds", "peak memory (MB)")

NOTES = (
    "Seconds are sums over jobs, which may have run at the same time.",
    "Each job measures itself, from its start to its end. Imports that local jobs share (docs/speed.md) and Snakemake "
    "itself are not counted.",
    "Not counted: what `snakemake all` does not make (the table zero_shot, tables asked for by name), and this page.",
)

DEMONSTRATION = (
    "The embedded benchmark is generated from a grammar and its backbone is a small T5 made for it. The run shows how "
    "the workflow works and what it produces. **It is a demonstration, not science**: nothing in it says how the "
    "methods compare on real text."
)


def write_report_pages(experiment: Experiment) -> None:
    """Write the landing page's part on this run, the costs by rule, and a page for each run behind a score.

    Raises InputError for a damaged benchmark file or table.
    """
    files = paths.report_files(experiment.config.output)
    write_text(files["overview"], findings(experiment) + overview(experiment))
    write_text(files["costs"], table_page("Costs by rule", to_markdown(cost_layout(costs(experiment)))))
    write_run_pages(experiment, files["runs"])
    write_json(files["settings"], {"made_from": made_from(experiment, PAGES)})


def cost_layout(found: list[Cost]) -> Layout:
    """One line for each rule; the last is the total."""
    lines = [[_cell(value, cost.rule == "total") for value in vars(cost).values()] for cost in found]
    return Layout(HEAD, lines, notes=NOTES)


def _cell(value: str | float, bold: bool) -> Cell:
    if isinstance(value, float):
        return Cell("" if math.isnan(value) else f"{value:,.0f}", bold)
    return Cell(str(value), bold)


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
