"""The columns of the tables' CSV files."""

from ept.table_plan import ABLATION, COMPARISON

COLUMNS = (
    "backbone",
    "method",
    "task",
    "regime",
    "source",
    "metric",
    "mean",
    "std",
    "seeds",
    "ci_low",
    "ci_high",
    "trained_parameters",
    "stored_parameters",
    "majority_baseline",
)
PUBLISHED = (
    "published_method",
    "published_backbone",
    "published_parameters",
    "published",
    "published_source",
    "comparable",
    "gap",
    "difference",
)


def columns(table: str) -> tuple[str, ...]:
    """The columns of a table: COLUMNS, except for the variant of ablations and for published scores beside ours."""
    if table == ABLATION:
        return ("backbone", "method", "variant", *COLUMNS[2:])
    if table == COMPARISON:
        return tuple(name for name in COLUMNS if name not in ("stored_parameters", "majority_baseline")) + PUBLISHED
    return COLUMNS
