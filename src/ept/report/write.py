"""The files of the report that are neither tables nor figures."""

import math

from ept.files import write_json, write_text
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.targets import PAGES, made_from
from ept.report.costs import Cost, costs
from ept.report.findings import findings
from ept.report.overview import overview
from ept.results.render import Cell, Layout, table_page, to_markdown

HEAD = ("rule", "jobs", "measured here", "seconds", "CPU seconds", "peak memory (MB)")

NOTES = (
    "Seconds are sums over jobs, which may have run at the same time.",
    "Snakemake samples CPU seconds and memory while a job runs: what a job does after its last sample is not in them, "
    "so short jobs count for less than they take.",
    "Not counted: what `snakemake all` does not make (the table zero_shot, tables asked for by name), and this page.",
)


def write_report_pages(experiment: Experiment) -> None:
    """Write the landing page's part on this run, and the costs by rule.

    Raises InputError for a damaged benchmark file or table.
    """
    files = paths.report_files(experiment.config.output)
    write_text(files["overview"], findings(experiment) + overview(experiment))
    write_text(files["costs"], table_page("Costs by rule", to_markdown(cost_layout(costs(experiment)))))
    write_json(files["settings"], {"made_from": made_from(experiment, PAGES)})


def cost_layout(found: list[Cost]) -> Layout:
    """One line for each rule; the last is the total."""
    lines = [[_cell(value, cost.rule == "total") for value in vars(cost).values()] for cost in found]
    return Layout(HEAD, lines, notes=NOTES)


def _cell(value: str | float, bold: bool) -> Cell:
    if isinstance(value, float):
        return Cell("" if math.isnan(value) else f"{value:,.0f}", bold)
    return Cell(str(value), bold)
