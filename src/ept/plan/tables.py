"""Which packs every table is made of, in the order of its rows. No torch, no data."""

from dataclasses import dataclass

from ept.config.configuration import Configuration
from ept.config.settings import FULL
from ept.config.variants import variants
from ept.methods.registry import METHODS, SUBJECT
from ept.plan.pack import Pack
from ept.plan.packs import Packs

MAIN, ABLATION, COMPARISON = "main", "ablation", "comparison"
SIGNIFICANCE, EFFICIENCY = "significance", "efficiency"
TRANSFER, TRANSFER_GAINS = "transfer", "transfer_gains"
LEARNING_RATES = "learning_rates"
# No table, but made of some: the headline numbers of the main table and of the few-shot ones.
SUMMARY = "summary"
# What the backbone answers without a prompt; made on demand, from no run.
ZERO_SHOT = "zero_shot"
# What a configuration must name to have a table that it does not have.
REMEDIES = {
    ABLATION: "name tasks in ablation.tasks",
    SIGNIFICANCE: f"name {SUBJECT} and another method in methods",
    LEARNING_RATES: "name several rates in training.learning_rates, or a rate_study",
    TRANSFER: "name methods in transfer.methods",
    TRANSFER_GAINS: "name scratch and source in few_shot.initialize_from, or pt and spot in methods",
}


@dataclass(frozen=True)
class Transfer:
    """The start of a method from scratch on a target with k or all examples, and its starts from source prompts.

    `scratch` is of the method that the source prompts are of: PT's for SPoT, ATTEMPT and MPT. With `whole` there is one
    start of every source task.
    """

    scratch: Pack
    started: tuple[Pack, ...]
    whole: bool = False

    @property
    def packs(self) -> list[Pack]:
        """All of its packs."""
        return [self.scratch, *self.started]


def few_shot_table(k: int | str) -> str:
    """The name of the table of runs with k examples."""
    return f"fewshot_k{k}"


def plan_tables(experiment: Packs) -> dict[str, list[Pack]]:
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


def headline_tables(config: Configuration) -> list[str]:
    """The tables that the summary and the significance tests speak of: full data, then few examples."""
    return [MAIN, *(few_shot_table(k) for k in config.few_shot.k)]


def measured_packs(packs: list[Pack]) -> list[Pack]:
    """The packs whose time of prediction the table `efficiency` measures.

    They are those of the first task whose answers are not generated, since generated answers have any length.
    """
    chosen = next((pack.task for pack in packs if pack.record.kind != "extraction"), packs[0].task)
    return [pack for pack in packs if pack.task == chosen]


def _packs_of(transfers: list[Transfer]) -> list[Pack]:
    """Every pack once: one start from scratch serves several methods."""
    return list({pack.hash: pack for transfer in transfers for pack in transfer.packs}.values())


def _comparison_of_methods(experiment: Packs, regime: str) -> list[Pack]:
    """For each method and each of its starts, one pack a target task."""
    return [
        experiment.pack(method, task, regime, start)
        for method in experiment.config.methods
        for start in _starts(experiment, method, regime)
        for task in experiment.config.tasks.target
    ]


def _starts(experiment: Packs, method: str, regime: str) -> list[str]:
    start = METHODS[method].start
    if start == "optional":
        return ["scratch"] if regime == FULL else [*experiment.config.few_shot.initialize_from]
    return ["scratch" if start == "never" else "source"]


def _ablation(experiment: Packs) -> list[Pack]:
    config = experiment.config
    return [
        experiment.pack(SUBJECT, task, FULL, "scratch", variant)
        for variant in variants(config.prompt, config.ept, config.ablation)
        for task in config.ablation.tasks
    ]


def _grids(experiment: Packs, main: list[Pack]) -> list[Pack]:
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


def asked_for(experiment: Packs) -> list[Transfer]:
    """What the section `transfer` of the configuration asks for: methods, their regimes, target tasks."""
    section = experiment.config.transfer
    return [
        _transfer(experiment, method, task, regime, whole)
        for method in section.methods
        for regimes, whole in ((section.every_source, True), (section.chosen_source, False))
        for regime in regimes
        for task in experiment.config.tasks.target
    ]


def _transfer(experiment: Packs, method: str, task: str, regime: str, whole: bool) -> Transfer:
    # Source tasks that are used together make one start.
    every = [other for other in experiment.config.tasks.source if other != task]
    sources = every if whole and METHODS[method].start_from == "best" else [None]
    started = tuple(experiment.pack(method, task, regime, "source", source_task=source) for source in sources)
    return Transfer(_from_scratch(experiment, started[0]), started, whole)


def found_in(experiment: Packs, packs: list[Pack]) -> list[Transfer]:
    """The starts from sources among the packs of other tables whose start from scratch is there too."""
    there = {pack.hash for pack in packs}
    pairs = [Transfer(_from_scratch(experiment, pack), (pack,)) for pack in packs if pack.candidates]
    return [pair for pair in pairs if pair.scratch.hash in there]


def _from_scratch(experiment: Packs, pack: Pack) -> Pack:
    return experiment.pack(METHODS[pack.method].source_method, pack.task, pack.regime, "scratch")
