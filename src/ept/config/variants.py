"""EPT's ablations: which variants of EPT's settings the table `ablation` compares. No torch."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from ept.config.settings import PYDANTIC, EptSettings, PromptSettings, Spaces, Tokens, check_budget
from ept.errors import InputError

# The variant that is EPT as configured.
WHOLE = "EPT"
# EPT without its parts, and the settings that leave them out; whether they help is what an ablation asks first.
PARTS_LEFT_OUT: dict[str, dict[str, Any]] = {
    "without fusion": {"fusion": "none"},
    "without projection": {"spaces": 1},
    "without both": {"fusion": "none", "spaces": 1},
}


@dataclass(frozen=True, kw_only=True)
class AblationSettings:
    """The table `ablation`: EPT with parts left out and with other numbers, trained on full data from scratch."""

    __pydantic_config__ = PYDANTIC

    tasks: tuple[str, ...] = ()
    """Tasks on which the variants are trained; none: there is no such table."""
    spaces: Annotated[tuple[Spaces, ...], MaxLen(16)] = (1, 2, 4, 6, 8)
    """Values of `ept.spaces` to compare."""
    short_lengths: Annotated[tuple[Tokens, ...], MaxLen(16)] = (20, 40, 60, 80)
    """Values of `prompt.short_length` to compare, each below `prompt.length`; the rank follows from the budget."""
    budgets: tuple[Literal["decomposition", "matched"], ...] = ("decomposition", "matched")
    """Values of `ept.budget` to compare."""
    fusions: tuple[Literal["dot", "projected"], ...] = ("projected",)
    """Values of `ept.fusion` to compare (`none` is always there): our readings of the paper."""
    projections: tuple[Literal["low_rank", "elementwise", "full"], ...] = ("elementwise", "full")
    """Values of `ept.projection` to compare (`none` is always there): our readings of the paper."""
    gates: tuple[Literal["token", "prompt"], ...] = ("prompt",)
    """Values of `ept.gate` to compare: our readings of the paper."""
    fusion_contexts: tuple[Literal["reached", "all", "factors", "joint"], ...] = ("all", "factors", "joint")
    """Values of `ept.fusion_context` to compare: our readings of the paper."""
    fusion_differences: tuple[bool, ...] = (True,)
    """Values of `ept.fusion_difference` to compare: our readings of the paper."""
    decompositions: tuple[Literal["product", "svd"], ...] = ("svd",)
    """Values of `ept.decomposition` to compare: our readings of the paper."""


@dataclass(frozen=True)
class Variant:
    """Settings of the prompts of a pack. `name` is empty for those of the configuration itself."""

    name: str
    prompt: PromptSettings
    ept: EptSettings

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Lets the sentence of an InputError begin with the variant's name."""
        try:
            yield
        except InputError as error:
            if not self.name:
                raise
            raise InputError(f"the ablation variant {self.name!r} cannot be built: {error}") from error


def variants(prompt: PromptSettings, ept: EptSettings, ablation: AblationSettings) -> list[Variant]:
    """The rows of the table in their order: EPT as configured, parts left out, then one setting changed at a time.

    With one space there is no projection: "without projection" and "N = 1" are one training. Raises InputError, which
    names the variant, for settings that are impossible with any backbone.
    """

    def changed(name: str, **settings: Any) -> Variant:
        return Variant(name, prompt, replace(ept, **settings))

    def shortened(length: int) -> Variant:
        return Variant(f"s = {length}", replace(prompt, short_length=length, rank="auto"), ept)

    found = [
        changed(WHOLE),
        *(changed(name, **settings) for name, settings in PARTS_LEFT_OUT.items()),
        *(changed(f"N = {number}", spaces=number) for number in ablation.spaces),
        *(shortened(length) for length in ablation.short_lengths),
        *(changed(f"budget {budget}", budget=budget) for budget in ablation.budgets),
        *(changed(f"fusion {fusion}", fusion=fusion) for fusion in ablation.fusions),
        *(changed(f"projection {projection}", projection=projection) for projection in ablation.projections),
        *(changed(f"gate {gate}", gate=gate) for gate in ablation.gates),
        *(changed(f"fusion context {context}", fusion_context=context) for context in ablation.fusion_contexts),
        *(
            changed("fusion difference" if difference else "no fusion difference", fusion_difference=difference)
            for difference in ablation.fusion_differences
        ),
        *(changed(f"decomposition {start}", decomposition=start) for start in ablation.decompositions),
    ]
    for variant in found:
        with variant.named_in_errors():
            check_budget(variant.prompt, variant.ept)
    return found
