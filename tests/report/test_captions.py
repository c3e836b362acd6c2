"""The captions of tables in the report, rendered as Snakemake does."""

from types import SimpleNamespace

import jinja2
import pytest

from ept.results.tables.registry import caption_of

# What a caption must name.
TABLES = {
    "main": ("Full data", "Test scores"),
    "fewshot_k16": ("16 training examples", "Test scores"),
    "ablation": ("variants of EPT", "full data"),
    "learning_rates": ("validation score", "learning rates"),
    "significance": ("tests", "corrected"),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_caption_says_which_runs_and_which_scores(project, table):
    template = (project / "workflow/report/table.rst").read_text()
    of_table = SimpleNamespace(
        wildcards=SimpleNamespace(table=table), params=SimpleNamespace(caption=caption_of(table))
    )
    text = jinja2.Template(template, undefined=jinja2.StrictUndefined).render(snakemake=of_table)
    assert text.strip().startswith(f"Table {table}: ")
    assert all(words in text for words in TABLES[table])
