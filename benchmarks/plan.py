"""What is timed, and for how long."""

from dataclasses import dataclass

from benchmarks.backbones import device

VARIANTS = {
    "peft_pt": "PEFT PT + Trainer",
    "recipe_dept": "DePT recipe + Trainer",
    "pt": "PT (ours)",
    "dept": "DePT (ours)",
    "ept": "EPT (ours)",
}
RUN_BY_RUN = ("peft_pt", "recipe_dept")
OURS = ("pt", "dept", "ept")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The defaults are the comparison that is published; tests take smaller ones."""

    shape: str = "t5-base" if device() == "cuda" else "t5-15m"
    """Backbone, of benchmarks.backbones.SHAPES."""
    tasks: tuple[str, ...] = ("rte", "sst2", "mnli")
    grids: tuple[int, ...] = (1, 9, 27)
    """Numbers of runs."""
    grid_once: int = 27
    """A number of runs that takes too long for more than one round."""
    rounds: int = 3
    """Rounds in turn over all variants; medians are reported."""
    slice_seconds: float = 2.0
    """Aim for one variant, task and round; at least one step is taken."""
    rounds_seconds: float = 660.0
    """No further round is begun that would end after this."""
    batch_size: int = 16
    padding: int = 256
    """Source length in pieces: what the run-by-run variants pad to."""
    length: int = 100
    """Prompt tokens of PT."""
    short_length: int = 60
    """Prompt tokens of DePT and EPT."""
    backbones: tuple[str, ...] = ("t5-15m", "t5-small", "t5-base")
    """Shapes that `make bench-full` compares."""
    positions: int | None = None
    """Positions (prompt and text) of one pass of ours; None measures, as training does."""
    recipe_rank: int = 30
    """Rank of the DePT recipe; ours takes what fits the budget at the backbone's hidden size."""
