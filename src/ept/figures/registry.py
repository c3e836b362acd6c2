"""The figures: which tables and runs each is made of, what it shows, and why it may be left out. No matplotlib."""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ept.methods.registry import SUBJECT
from ept.plan.experiment import Experiment
from ept.plan.tables import ABLATION, EFFICIENCY, LEARNING_RATES, MAIN, TRANSFER

INTERVALS = "Bars are 95 % intervals over seeds and test examples"
BASELINE = "the dashed line is the majority baseline"

# One point a method makes a figure from this many on.
LEAST_POINTS = 4


def _nothing(experiment: Experiment) -> str:
    return ""


def _without_projection(experiment: Experiment) -> str:
    config = experiment.config
    return (
        ""
        if SUBJECT in config.methods and config.ept.has_projection
        else f"methods lacks {SUBJECT}, or EPT has one space"
    )


def _without_fusion(experiment: Experiment) -> str:
    config = experiment.config
    return (
        ""
        if SUBJECT in config.methods and config.ept.fusion != "none"
        else f"methods lacks {SUBJECT}, or EPT has no fusion"
    )


def _without_sweep(experiment: Experiment) -> str:
    ablation = experiment.config.ablation
    return "" if max(len(ablation.spaces), len(ablation.short_lengths)) > 1 else "ablation compares no numbers"


def _without_images(experiment: Experiment) -> str:
    tasks = experiment.config.tasks
    return "" if any(tasks.record(task).image for task in tasks.target) else "no target task has images"


def _of_few_methods(experiment: Experiment) -> str:
    number = len(experiment.config.methods)
    return "" if number >= LEAST_POINTS else f"methods names fewer than {LEAST_POINTS}; the main table says the same"


@dataclass(frozen=True)
class FigureKind:
    """One figure: `drawer` is "module:function" below ept.figures, which returns a matplotlib figure of the results.

    `tables` are the tables that it is made of, or patterns of them; `reads` names what it takes, `caption` what it
    shows. A configuration without such tables leaves it out (`unless_asked` says which setting asks for them), and so
    does one for which `left_out` has a reason.
    """

    name: str
    drawer: str
    title: str
    tables: tuple[str, ...]
    reads: str
    caption: str
    unless_asked: str = ""
    left_out: Callable[[Experiment], str] = _nothing

    def tables_of(self, experiment: Experiment) -> list[str]:
        """The tables of the configuration that it is made of."""
        return [table for pattern in self.tables for table in fnmatch.filter(experiment.default_tables, pattern)]

    def reason_left_out(self, experiment: Experiment) -> str:
        """Why the configuration's figures lack it, or nothing."""
        return self.left_out(experiment) if self.tables_of(experiment) else self.unless_asked

    def draw(self, results: Any) -> Any:
        """The matplotlib figure, drawn from ept.figures.data.Results."""
        module, function = self.drawer.split(":")
        return getattr(import_module(f"ept.figures.{module}"), function)(results)


FIGURES = (
    FigureKind(
        "parameters",
        "parameters:draw",
        "Score against trained parameters",
        (MAIN,),
        "rows `average`",
        "Average test score of each method against the number of its trained parameters (logarithmic), full data. "
        "Methods with the same number are drawn side by side, slightly to the right of it. "
        f"{INTERVALS}; {BASELINE}.",
        left_out=_of_few_methods,
    ),
    FigureKind(
        "few_shot",
        "curves:draw_few_shot",
        "Few-shot curves",
        ("fewshot_k*",),
        "rows `average`",
        "Average test score over the number of training examples k, started from scratch and from source prompts. "
        "Curves are shifted slightly to either side of k, so that intervals do not overlap. "
        f"{INTERVALS}; {BASELINE}.",
        "few_shot.k names no k",
    ),
    FigureKind(
        "training_time",
        "parameters:draw_training_time",
        "Score against training time",
        (MAIN, EFFICIENCY),
        "rows `average`, and `train_seconds_per_run`",
        "Average test score of each method against the time that one run trains (seconds of all runs of all tasks, "
        f"divided by their number), full data. {INTERVALS}; {BASELINE}. Times depend on the machine and its "
        "other load.",
        left_out=_of_few_methods,
    ),
    FigureKind(
        "ablation",
        "ablation:draw",
        "Ablation of EPT",
        (ABLATION,),
        "rows `average`",
        "EPT with parts left out, with other parameter budgets and with other readings of the paper: average test "
        f"score, full data. {INTERVALS}; {BASELINE}.",
        "ablation.tasks names no task",
    ),
    FigureKind(
        "sensitivity",
        "ablation:draw_sensitivity",
        "Number of spaces and short length",
        (ABLATION,),
        "rows `average`",
        "EPT's average test score over the number of its spaces and over the length of its short prompt (the rank "
        f"follows from the budget), full data. The ring is the configured value. {INTERVALS}; {BASELINE}.",
        "ablation.tasks names no task",
        _without_sweep,
    ),
    FigureKind(
        "gates",
        "gates:draw",
        "Gate weights of EPT",
        (MAIN,),
        "`gate_weights` of the runs",
        "Weights that EPT's gate gives to its spaces at the start and at the end of training, mean over the tokens of "
        "the short prompt and over seeds, full data. Space 1 is the short prompt itself.",
        left_out=_without_projection,
    ),
    FigureKind(
        "fusion",
        "gates:draw_fusion",
        "Norm of EPT's fusion",
        (MAIN,),
        "`fusion_ratio` of the runs",
        "Norm of EPT's fusion term F as a share of the norm of the short prompt over the steps of training, mean over "
        "seeds, full data. Where it stays near 0, an ablation of the fusion is not informative.",
        left_out=_without_fusion,
    ),
    FigureKind(
        "transfer",
        "transfer:draw",
        "Transfer matrix",
        (TRANSFER,),
        "gains and choices",
        "Gain of a start from each source prompt over the start from scratch, in points of the first metric of each "
        "target task. Framed: the source that is chosen by the protocol. Hatched: the target's own task, which is "
        "never its source.",
        "transfer.methods names no method",
    ),
    FigureKind(
        "learning_rates",
        "curves:draw_learning_rates",
        "Learning-rate sensitivity",
        (LEARNING_RATES,),
        "`best_validation` of all runs",
        "Best validation score by learning rate, mean over tasks and seeds, full data; a diverged run counts as the "
        "majority baseline.",
        "training.learning_rates gives every method one combination, and there is no rate_study",
    ),
    FigureKind(
        "validation",
        "curves:draw_validation",
        "Validation curves",
        (MAIN,),
        "`validation_curve` of the runs",
        "Validation score over the steps of training with the chosen learning rates, mean over seeds, full data.",
    ),
    FigureKind(
        "pictures",
        "pictures:draw",
        "Images, questions and answers",
        (MAIN,),
        "predictions of the runs",
        "Images of the test split with their text, the right answer and what each method answers with its first "
        "seed, full data: green where it is right, orange where it is wrong. A caption is green where it equals one of "
        "the references, and gray otherwise.",
        left_out=_without_images,
    ),
)


def asked_for(experiment: Experiment) -> list[FigureKind]:
    """The figures of a configuration in their order."""
    return [kind for kind in FIGURES if not kind.reason_left_out(experiment)]


def left_out(experiment: Experiment) -> dict[str, str]:
    """Titles of the figures that a configuration leaves out, each with the reason."""
    reasons = {kind.title: kind.reason_left_out(experiment) for kind in FIGURES}
    return {title: reason for title, reason in reasons.items() if reason}
