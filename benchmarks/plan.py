"""What is timed, and for how long."""

from dataclasses import dataclass

from benchmarks.backbones import device


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the comparison."""

    title: str
    method: str
    """peft_pt or recipe_dept, which run under the Trainer, or one of this project's methods."""
    dtype: str = "float32"
    """Of the backbone; prompts, their gradients and the optimizer are float32 everywhere."""
    padded: bool = False
    """Whether every text is padded to the source length, as released; else to the longest of its batch."""

    @property
    def ours(self) -> bool:
        """Whether this project trains it, all runs of a grid together."""
        return self.method not in ("peft_pt", "recipe_dept")


VARIANTS = {
    "peft_pt": Variant(title="PEFT PT, as released", method="peft_pt", padded=True),
    "recipe_dept": Variant(title="DePT recipe, as released", method="recipe_dept", padded=True),
    "peft_pt_grouped": Variant(title="PEFT PT, grouped", method="peft_pt"),
    "peft_pt_bf16": Variant(title="PEFT PT, grouped, bfloat16", method="peft_pt", dtype="bfloat16"),
    "recipe_dept_bf16": Variant(title="DePT recipe, grouped, bfloat16", method="recipe_dept", dtype="bfloat16"),
    "pt": Variant(title="PT (ours)", method="pt"),
    "ept": Variant(title="EPT (ours)", method="ept"),
    "pt_bf16": Variant(title="PT (ours), bfloat16", method="pt", dtype="bfloat16"),
    "dept_bf16": Variant(title="DePT (ours), bfloat16", method="dept", dtype="bfloat16"),
    "ept_bf16": Variant(title="EPT (ours), bfloat16", method="ept", dtype="bfloat16"),
}
RUN_BY_RUN = tuple(name for name, variant in VARIANTS.items() if not variant.ours)
OURS = tuple(name for name, variant in VARIANTS.items() if variant.ours)
PEERS = {"PT": ("peft_pt_grouped", "peft_pt_bf16"), "DePT": ("recipe_dept_bf16",)}
"""As a competent user runs them: the fastest of them on each task is what the headline compares with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The defaults are the comparison that is published; tests take smaller ones."""

    shape: str = "t5-base" if device() == "cuda" else "t5-15m"
    """Backbone, of benchmarks.backbones.SHAPES."""
    tasks: tuple[str, ...] = ("rte", "sst2", "mnli")
    grids: tuple[int, ...] = (1, 9, 27) if device() == "cuda" else (9,)
    """Numbers of runs."""
    grid_once: int | None = None
    """A number of runs that takes too long for more than one round."""
    rounds: int = 3
    """Rounds in turn over all variants; medians are reported."""
    slice_seconds: float = 2.0
    """Aim for one variant, task and round; at least one step is taken."""
    rounds_seconds: float = 540.0
    """No further round is begun that would end after this."""
    batch_size: int = 16
    padding: int = 256
    """Source length in pieces: what the variants as released pad to."""
    length: int = 100
    """Prompt tokens of PT."""
    short_length: int = 60
    """Prompt tokens of DePT and EPT."""
    backbones: tuple[str, ...] = ("t5-15m", "t5-small", "t5-base")
    """Shapes that `make bench-full` compares."""
    positions: int | None = None
    """Positions (prompt and text) of one pass of ours in float32; None measures, as training does."""
    positions_bfloat16: int | None = None
    """The same in bfloat16."""
    recipe_rank: int = 30
    """Rank of the DePT recipe; ours takes what fits the budget at the backbone's hidden size."""
