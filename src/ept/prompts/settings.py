"""Settings of the prompt methods. Plain dataclasses: the configuration checks them with pydantic."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Shape and start of the prompts of all methods."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    length: int = 100
    """Tokens of PT's prompt; length times hidden size is the parameter budget of DePT and EPT."""
    short_length: int = 60
    """Tokens of the short prompt of DePT and EPT; below `length`. The rest of the budget goes to the low-rank
    pair."""
    rank: int | Literal["auto"] = "auto"
    """Rank of the pair A, B of DePT and EPT; `auto` uses up the budget (60 short tokens of hidden size 768:
    30), and a larger number is refused. With `ept.budget: matched` EPT's rank is lowered further until its
    budget holds."""
    reference_length: int = 256
    """Source length in pieces with which the budget is reckoned, whatever a task's own is: one rank for all
    tasks."""
    init: Literal["vocabulary", "text", "labels", "uniform"] = "vocabulary"
    """Start of the prompt: embeddings of random pieces of the vocabulary; of the pieces of `init_text`,
    repeated; of the task's class labels, filled up from the vocabulary; or uniform noise as large as the
    embeddings."""
    init_text: str = ""
    """The text of `init: text`; allowed only there."""


@dataclass(frozen=True, kw_only=True)
class EptSettings:
    """EPT's prompt fusion and multi-space projection; what the options mean is our reading of the paper."""

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    fusion: Literal["dot", "projected", "none"] = "dot"
    """Attention of the short prompt to the low-rank product: without weights of its own except a gain
    (`dot`), with low-rank query, key and value maps (`projected`), or left out (`none`)."""
    fusion_rank: int = 4
    """Rank of the query, key and value maps of `fusion: projected`."""
    projection: Literal["low_rank", "elementwise", "full", "none"] = "low_rank"
    """Map of the short prompt into each further space: of rank `space_rank`, one factor per hidden unit
    (`elementwise`), of full rank, or left out (`none`)."""
    spaces: int = 4
    """Number of spaces; the first is the short prompt itself, so 1 means no projection and no gate."""
    space_rank: int = 1
    """Rank of each map of `projection: low_rank`."""
    gate: Literal["token", "prompt"] = "token"
    """Whether each token of the short prompt weighs the spaces for itself or all tokens share the weights."""
    budget: Literal["decomposition", "matched"] = "decomposition"
    """What stays within length times hidden size: short prompt, A and B, which is all that use needs
    (`decomposition`), or everything that is trained (`matched`, which lowers the rank)."""

    @property
    def has_projection(self) -> bool:
        """Whether there is a second space and so a gate."""
        return self.projection != "none" and self.spaces > 1
