"""Verbs after training: tables and what they show."""

import argparse

from ept.commands.options import Verbs, add_threads, experiment_of


def add_verbs(verbs: Verbs) -> None:
    """table, figures, report-pages, zero-shot, show."""
    verbs.add_with_config(table).add_argument("--table", required=True, help="for example main or fewshot_k16")
    verbs.add_with_config(figures)
    verbs.add_with_config(report_pages, "report-pages")
    add_threads(verbs.add_with_config(zero_shot, "zero-shot"))
    verbs.add_with_config(show)


def table(options: argparse.Namespace) -> None:
    """Make a table (CSV, Markdown, LaTeX, HTML) from the runs of the configuration."""
    from ept.results.write import write_table

    write_table(experiment_of(options), options.table)


def figures(options: argparse.Namespace) -> None:
    """Draw all figures of the configuration (SVG, PNG, captions, pages) from its tables and runs."""
    from ept.figures.write import write_figures

    write_figures(experiment_of(options))


def report_pages(options: argparse.Namespace) -> None:
    """Write what the report holds beside tables and figures: what was run, and what it cost by rule."""
    from ept.report.write import write_report_pages

    write_report_pages(experiment_of(options))


def zero_shot(options: argparse.Namespace) -> None:
    """Score the backbone without any prompt on the test splits and write the table zero_shot."""
    from ept.results.zero_shot import write_zero_shot

    write_zero_shot(experiment_of(options), options.threads)


def show(options: argparse.Namespace) -> None:
    """Print the configuration's main table and say where all tables are."""
    from ept.results.show import show_tables

    show_tables(experiment_of(options))
