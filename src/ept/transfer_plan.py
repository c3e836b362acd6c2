"""Which starts the tables of transfer compare: one from scratch with those from source prompts. No torch, no data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ept.methods import METHODS
from ept.pack import Pack

if TYPE_CHECKING:
    from ept.experiment import Experiment


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


def asked_for(experiment: "Experiment") -> list[Transfer]:
    """What the section `transfer` of the configuration asks for: methods, their regimes, target tasks."""
    section = experiment.config.transfer
    return [
        _transfer(experiment, method, task, regime, whole)
        for method in section.methods
        for regimes, whole in ((section.every_source, True), (section.chosen_source, False))
        for regime in regimes
        for task in experiment.config.tasks.target
    ]


def _transfer(experiment: "Experiment", method: str, task: str, regime: str, whole: bool) -> Transfer:
    # Source tasks that are used together make one start.
    every = [other for other in experiment.config.tasks.source if other != task]
    sources = every if whole and METHODS[method].sources == "best" else [None]
    started = tuple(experiment.pack(method, task, regime, "source", source=source) for source in sources)
    return Transfer(_from_scratch(experiment, started[0]), started, whole)


def found_in(experiment: "Experiment", packs: list[Pack]) -> list[Transfer]:
    """The starts from sources among the packs of other tables whose start from scratch is there too."""
    there = {pack.hash for pack in packs}
    pairs = [Transfer(_from_scratch(experiment, pack), (pack,)) for pack in packs if pack.candidates]
    return [pair for pair in pairs if pair.scratch.hash in there]


def _from_scratch(experiment: "Experiment", pack: Pack) -> Pack:
    return experiment.pack(METHODS[pack.method].source_method, pack.task, pack.regime, "scratch")
