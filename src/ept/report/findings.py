"""What the landing page opens with: the main table, sentences made from its numbers, and the few-shot picture."""

import math

from ept.figures.data import Results, Row
from ept.figures.registry import asked_for
from ept.methods.registry import METHODS, SUBJECT
from ept.plan import paths
from ept.plan.experiment import Experiment
from ept.plan.tables import MAIN, SIGNIFICANCE, headline_tables
from ept.results.render import drawing, to_html
from ept.results.statistics import LEVEL
from ept.results.tables.scores import FROM_SOURCE

FEW_SHOT = "few_shot"


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
        f"With all training data {_title(main)} has the best average: {_score(main)}. Always answering the most "
        f"frequent label gives {main['majority_baseline']:.1f}."
    ]
    if SIGNIFICANCE in results.experiment.default_tables:
        found += _tests(results)
    few = [f"{_title(row)} with k = {table.rpartition('k')[2]}, {row['mean']:.1f}" for table, row in best.items()][1:]
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
    return _title({"method": row["method_b"], "source": row["start_b"]})


def _title(row: Row) -> str:
    method = METHODS[row["method"]]
    return method.title + FROM_SOURCE * (method.start == "optional" and row["source"] != "scratch")


def _score(row: Row) -> str:
    return f"{row['mean']:.1f} (95 % interval {row['ci_low']:.1f} to {row['ci_high']:.1f})"


def _raw(style: str, html: str) -> list[str]:
    """HTML as part of reStructuredText, where empty lines would not end it but indentation does."""
    return [".. raw:: html", "", *[f"   {line}" for line in f'<div class="{style}">\n{html}</div>'.splitlines()], ""]
