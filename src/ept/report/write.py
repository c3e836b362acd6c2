"""The files of the report that are neither tables nor figures."""

import math
import re

from ept.config.settings import SOURCE
from ept.figures.data import Results, Row
from ept.figures.registry import asked_for, left_out
from ept.figures.write import conditions
from ept.files import write_json, write_text
from ept.methods.registry import METHODS, SUBJECT
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import COMPARISON, MAIN, REMEDIES, SIGNIFICANCE, headline_tables
from ept.plan.targets import PAGES, made_from
from ept.report.costs import Cost, costs
from ept.report.runs import write_run_pages
from ept.results.render import Cell, Layout, drawing, table_page, to_html, to_markdown
from ept.results.statistics import LEVEL
from ept.results.tables.scores import row_title
from ept.tasks.registry import title_of

HEAD = ("rule", "jobs", "measured here", "seconds", "CPU seconds", "peak memory (MB)")

NOTES = (
    "Seconds are sums over jobs, which may have run at the same time.",
    "Each job measures itself, from its start to its end. Imports that local jobs share (docs/speed.md) and Snakemake "
    "itself are not counted.",
    "Not counted: what `snakemake all` does not make (the table zero_shot, tables asked for by name), and this page.",
)

FEW_SHOT = "few_shot"
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


def findings(experiment: Experiment) -> str:
    """The results in short, as reStructuredText: sentences, the main table, the few-shot picture.

    Raises InputError where a table is missing or was changed since it was made.
    """
    results = Results(experiment)
    lines = [f"- {sentence}" for sentence in sentences(results)]
    markdown = paths.table_file(experiment.config.output, MAIN).with_suffix(".md").read_text(encoding="utf-8")
    lines += ["", "**Test scores after training on all data**", "", *_raw("wide", to_html(markdown))]
    for kind in asked_for(experiment):
        if kind.name == FEW_SHOT:
            svg, *_ = paths.figure_files(experiment.config.output, kind.name)
            lines += [f"**{kind.title}**", "", *_raw("drawing", drawing(svg.read_text(encoding="utf-8")))]
    return "\n".join([*lines, "**The run**", ""]) + "\n"


def sentences(results: Results) -> list[str]:
    """The best average of the main table, how EPT compares with the others, and the best averages by k."""
    tables = headline_tables(results.experiment.config)
    best = {table: max(results.averages(table), key=lambda row: row["mean"]) for table in tables}
    main = best[MAIN]
    found = [
        f"With all training data {row_title(main)} has the best average: {_score(main)}. Always answering the most "
        f"frequent label gives {main['majority_baseline']:.1f}."
    ]
    if SIGNIFICANCE in results.experiment.default_tables:
        found += _tests(results)
    _, *few_shot = best.items()
    few = [f"{row_title(row)} with k = {table.rpartition('k')[2]}, {row['mean']:.1f}" for table, row in few_shot]
    best_are = "best average is" if len(few) == 1 else "best averages are"
    return found + [f"With few examples the {best_are} {'; '.join(few)}."] * bool(few)


def _tests(results: Results) -> list[str]:
    """How many of the other rows EPT is better and worse than, on the average after training on all data."""
    rows = results.rows(SIGNIFICANCE, task="average", regime="full")
    pairs = [row if row["method_a"] == SUBJECT else _turned(row) for row in rows if _about_subject(row)]
    title = METHODS[SUBJECT].title
    if not pairs:
        return []
    if all(math.isnan(row["p_corrected"]) for row in pairs):
        return [f"Whether {title} differs from the other methods was not tested: there are too few seeds."]
    clear = [row for row in pairs if row["p_corrected"] < LEVEL]
    better = [_other(row) for row in clear if row["difference"] > 0]
    worse = [_other(row) for row in clear if row["difference"] < 0]
    if not clear:
        return [f"{title} does not differ significantly from any other method on this average (paired tests)."]
    parts = [f"{word} {', '.join(names)}" for word, names in (("better than", better), ("worse than", worse)) if names]
    return [f"{title} is significantly {' and '.join(parts)} on this average (paired tests of {len(pairs)} pairs)."]


def _about_subject(row: Row) -> bool:
    return SUBJECT in (row["method_a"], row["method_b"]) and row["method_a"] != row["method_b"]


def _turned(row: Row) -> Row:
    return row | {
        "method_b": row["method_a"],
        "start_b": row["start_a"],
        "difference": -row["difference"],
    }


def _other(row: Row) -> str:
    return row_title({"method": row["method_b"], "source": row["start_b"]})


def _score(row: Row) -> str:
    return f"{row['mean']:.1f} (95 % interval {row['ci_low']:.1f} to {row['ci_high']:.1f})"


def _raw(style: str, html: str) -> list[str]:
    """HTML as part of reStructuredText, where empty lines would not end it but indentation does."""
    return [".. raw:: html", "", *[f"   {line}" for line in f'<div class="{style}">\n{html}</div>'.splitlines()], ""]
