"""The captions of tables in the report, rendered as Snakemake does."""

from types import SimpleNamespace

import jinja2
import pytest

TABLES = {
    "main": ("Full data: mean", "Test splits"),
    "fewshot_k16": ("16 training examples: mean", "Test splits"),
    "ablation": ("Variants of EPT, full data: mean", "Test splits"),
    "learning_rates": ("best validation score", "Validation splits"),
    "significance": ("paired tests", "Test splits"),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_caption_says_which_runs_and_which_split(project, table):
    template = (project / "workflow/report/table.rst").read_text()
    of_table = SimpleNamespace(wildcards=SimpleNamespace(table=table))
    text = jinja2.Template(template, undefined=jinja2.StrictUndefined).render(snakemake=of_table)
    runs, split = TABLES[table]
    assert text.strip().startswith(f"Table {table}: {runs}")
    assert f"{split} of the configured tasks (docs/tasks.md)." in text
