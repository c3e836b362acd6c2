"""Verbs after training: tables and what they show."""

import argparse
from pathlib import Path

from ept.commands.options import Verbs, add_threads, experiment_of


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs that come after training."""
    verbs.group("tables and report")
    verbs.add_with_config(table).add_argument("--table", required=True, help="for example main or fewshot_k16")
    verbs.add_with_config(summary)
    verbs.add_with_config(figures)
    verbs.add_with_config(report_pages, "report-pages")
    add_threads(verbs.add_with_config(zero_shot, "zero-shot"))
    verbs.add_with_config(show).add_argument("--folder", action="store_true", help="print only the output folder")
    tracing = verbs.add(trace)
    tracing.add_argument("table", help="a table's CSV file, for example results/main.csv")
    tracing.add_argument("--method", required=True, help="for example ept")
    tracing.add_argument("--task", help="a task or an average of the table, for example rte (all)")
    for name in ("regime", "start", "metric", "variant"):
        tracing.add_argument(f"--{name}", help=f"only rows with this {name}")
    comparing = verbs.add(compare)
    comparing.add_argument("first", help="a configuration, for example config/config.yaml, or a table's CSV file")
    comparing.add_argument("second", help="the other one")
    comparing.add_argument("--table", help="the table to compare, for example fewshot_k16 (main)")


def table(options: argparse.Namespace) -> None:
    """Make a table (CSV, Markdown, LaTeX, HTML) from the configuration's runs."""
    from ept.cost.resources import JobResources
    from ept.devices import free_gpus
    from ept.plan.tables import EFFICIENCY
    from ept.results.write import write_table

    experiment = experiment_of(options)
    # Only this one measures something: on what its packs were trained.
    with free_gpus(JobResources(experiment).gpus if options.table == EFFICIENCY else 0):
        write_table(experiment, options.table)


def figures(options: argparse.Namespace) -> None:
    """Draw the configuration's figures (SVG, PNG, caption, page) from its tables and runs."""
    from ept.figures.write import write_figures

    write_figures(experiment_of(options))


def report_pages(options: argparse.Namespace) -> None:
    """Write the report's pages on what was run and what each rule cost."""
    from ept.report.write import write_report_pages

    write_report_pages(experiment_of(options))


def zero_shot(options: argparse.Namespace) -> None:
    """Score the backbone without a prompt on the test splits (table zero_shot)."""
    from ept.cost.resources import JobResources
    from ept.devices import free_gpus, limit_threads

    limit_threads(options.threads)
    from ept.results.tables.zero_shot import write_zero_shot

    experiment = experiment_of(options)
    with free_gpus(JobResources(experiment).gpus):
        write_zero_shot(experiment, options.threads)


def show(options: argparse.Namespace) -> None:
    """Print the configuration's main table and the paths of all tables."""
    experiment = experiment_of(options)
    if options.folder:
        print(experiment.config.output)
        return
    from ept.results.render import show_tables

    show_tables(experiment)


def summary(options: argparse.Namespace) -> None:
    """Write the headline numbers (summary.json) from the main and few-shot tables."""
    from ept.results.write import write_summary

    write_summary(experiment_of(options))


def trace(options: argparse.Namespace) -> None:
    """Print where a table's cell comes from: runs, rates, prompts, data, versions, command."""
    from ept.results.trace import Cell, trace

    wanted = {name: getattr(options, name) for name in ("method", "task", "regime", "start", "metric", "variant")}
    print("\n".join(trace(Path(options.table), Cell(**wanted))))


def compare(options: argparse.Namespace) -> None:
    """Print two configurations or tables side by side: scores, paired tests, settings that differ."""
    from ept.results.compare import compare
    from ept.results.render import to_text

    layout, differences = compare(Path(options.first), Path(options.second), options.table)
    print(to_text(layout))
    print("Settings that differ (A | B):" if differences else "All settings are the same.")
    print("".join(f"  {line}\n" for line in differences), end="")
