"""Which packs every table is made of, in the order of its rows. No torch, no data."""

from typing import TYPE_CHECKING

from ept.ablation import variants
from ept.methods import METHODS
from ept.pack import FULL, Pack
from ept.tasks import get_task
from ept.transfer_plan import Transfer, asked_for, found_in

if TYPE_CHECKING:
    from ept.config import Configuration
    from ept.experiment import Experiment

MAIN, ABLATION, COMPARISON = "main", "ablation", "comparison"
SIGNIFICANCE, EFFICIENCY = "significance", "efficiency"
TRANSFER, TRANSFER_GAINS = "transfer", "transfer_gains"
LEARNING_RATES = "learning_rates"
# No table, but made of some: the headline numbers of the main table and of the few-shot ones.
SUMMARY = "summary"
# The method that the others are compared with.
SUBJECT = "ept"
# What a configuration must name to have a table that it does not have.
REMEDIES = {
    ABLATION: "name tasks in ablation.tasks",
    SIGNIFICANCE: f"name {SUBJECT} and another method in methods",
    LEARNING_RATES: "name several rates in training.learning_rates, or a rate_study",
    TRANSFER: "name methods in transfer.methods",
    TRANSFER_GAINS: "name scratch and source in few_shot.initialise_from, or pt and spot in methods",
}


def few_shot_table(k: int) -> str:
    """The name of the table of runs with k examples."""
    return f"fewshot_k{k}"


def plan_tables(experiment: "Experiment") -> dict[str, list[Pack]]:
    """Every table that the configuration can have. A new table is one entry here."""
    config = experiment.config
    main = _comparison_of_methods(experiment, FULL)
    tables = {MAIN: main}
    tables |= {few_shot_table(k): _comparison_of_methods(experiment, f"k{k}") for k in config.few_shot.k}
    scored = [pack for packs in tables.values() for pack in packs]
    if SUBJECT in config.methods and len(config.methods) > 1:
        tables[SIGNIFICANCE] = scored
    tables[EFFICIENCY] = main
    if pairs := found_in(experiment, scored):
        tables[TRANSFER_GAINS] = _packs_of(pairs)
    if config.transfer.methods:
        tables[TRANSFER] = _packs_of(asked_for(experiment))
    if config.ablation.tasks:
        tables[ABLATION] = _ablation(experiment)
    if grids := _grids(experiment, main):
        tables[LEARNING_RATES] = grids
    tables[COMPARISON] = main
    return tables


def headline_tables(config: "Configuration") -> list[str]:
    """The tables that the summary and the significance tests speak of: full data, then few examples."""
    return [MAIN, *(few_shot_table(k) for k in config.few_shot.k)]


def measured_packs(packs: list[Pack]) -> list[Pack]:
    """The packs whose time of prediction the table `efficiency` measures: those of the first task whose answers are not
    generated, since generated answers have any length.
    """
    tasks = list(dict.fromkeys(pack.task for pack in packs))
    chosen = next((task for task in tasks if get_task(task).kind != "extraction"), tasks[0])
    return [pack for pack in packs if pack.task == chosen]


def _packs_of(transfers: list[Transfer]) -> list[Pack]:
    """Every pack once: one start from scratch serves several methods."""
    return list({pack.hash: pack for transfer in transfers for pack in transfer.packs}.values())


def _comparison_of_methods(experiment: "Experiment", regime: str) -> list[Pack]:
    """For each method and each of its starts, one pack a target task."""
    return [
        experiment.pack(method, task, regime, start)
        for method in experiment.config.methods
        for start in _starts(experiment, method, regime)
        for task in experiment.config.tasks.target
    ]


def _starts(experiment: "Experiment", method: str, regime: str) -> list[str]:
    starts = {"none": ["scratch"], "required": ["source"]}.get(METHODS[method].source)
    if starts is None:
        starts = ["scratch"] if regime == FULL else experiment.config.few_shot.initialise_from
    return starts


def _ablation(experiment: "Experiment") -> list[Pack]:
    config = experiment.config
    return [
        experiment.pack("ept", task, FULL, "scratch", variant)
        for variant in variants(config.prompt, config.ept, config.ablation)
        for task in config.ablation.tasks
    ]


def _grids(experiment: "Experiment", main: list[Pack]) -> list[Pack]:
    """The packs that try several learning rates with full data: those of the main table, or of the study of rates."""
    study = experiment.config.rate_study
    studied = [
        experiment.pack(method, task, FULL, start, learning_rates=rates)
        for method, rates in study.learning_rates.items()
        for start in _starts(experiment, method, FULL)
        for task in study.tasks
    ]
    tried = [pack for pack in main if pack.method not in study.learning_rates]
    return [pack for pack in tried + studied if pack.number_of_runs > len(pack.seeds)]
