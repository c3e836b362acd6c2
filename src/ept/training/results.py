"""What a run is and what it leaves."""

from dataclasses import dataclass, field

from torch import Tensor

FINISHED, DIVERGED, STOPPED_EARLY, HALVED = "finished", "diverged", "stopped early", "halved"


@dataclass(frozen=True)
class Run:
    """One training: its seed and the learning rate of each parameter group."""

    seed: int
    learning_rates: dict[str, float]


@dataclass
class RunResult:
    """What a run leaves: its best checkpoint and how it got there.

    `status`: finished (also while it still runs), diverged, stopped early (patience) or halved (successive halving).
    `validation_curve` holds (step, score), `diagnostics` what the method watches, from step 0 on.
    """

    best_step: int = 0
    best_score: float = float("-inf")
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    validation_curve: list[tuple[int, float]] = field(default_factory=list)
    diagnostics: list[dict] = field(default_factory=list)
    status: str = FINISHED
    steps: int = 0

    @property
    def alive(self) -> bool:
        """Whether the run still trains or has trained to its end."""
        return self.status == FINISHED
