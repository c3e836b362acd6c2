"""The columns of the tables' CSV files, by kind of table (ept.results.kinds)."""

SCORES = (
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
ABLATION = ("backbone", "method", "variant", *SCORES[2:])
# Our scores, then published ones beside them.
COMPARISON = (
    *(name for name in SCORES if name not in ("stored_parameters", "majority_baseline")),
    "published_method",
    "published_backbone",
    "published_parameters",
    "published",
    "published_source",
    "comparable",
    "gap",
    "difference",
)
