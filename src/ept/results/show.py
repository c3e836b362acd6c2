"""The last lines of a run: where the tables are, and the main one."""

from ept import paths
from ept.errors import InputError
from ept.experiment import Experiment


def show_tables(experiment: Experiment) -> None:
    """Print the main table with aligned columns and the paths of all tables. Raises InputError before they are made."""
    output = experiment.config.output
    main = paths.table_file(output, "main").with_suffix(".md")
    if not main.exists():
        raise InputError(f"{main} is not there yet; make it with `snakemake --cores all all`")
    try:
        text = main.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.startswith("| method |"):
        raise InputError(f"{main} is no table; make it again with `ept table --table main`")
    table, _, notes = text.partition("\n\n")
    print("Test scores after training on full data:\n")
    print(align(table))
    print(notes.replace("\n\n", "\n"))
    print("Tables, each as .csv, .md, .tex and .html:")
    for table in experiment.default_tables:
        print(f"  {paths.table_file(output, table)}")
    print(f"Headline numbers: {paths.summary_file(output)}")
    print(f"Where a number comes from: ept trace {paths.table_file(output, 'main')} --method METHOD --task TASK")
    print(f"Figures: {output}/figures/   Report of all of it: report.zip (unpack it and open report.html)")
    print(f"Prompts: prompts/{experiment.config.backbone.name}/   Runs: {output}/runs/")


def align(markdown: str) -> str:
    """A Markdown table with its columns padded to equal width, without HTML's underline tags."""
    plain = markdown.replace("<u>", "_").replace("</u>", "_")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in plain.splitlines()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows[1] = ["-" * width for width in widths]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in rows)
