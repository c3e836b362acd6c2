"""EPT: efficient prompt tuning by multi-space projection and prompt fusion (Lan et al., AAAI 2025).

[known, by the paper's section titles] Four parts: prompt decomposition (DePT's), prompt fusion (fusion.py),
multi-space projection (spaces.py) and the reconstructed prompt (here). The paper's equations were not
available: those marked [ours] are this project's reading.
"""

import torch

from ept.prompts.base import PackSetup, PromptOutput
from ept.prompts.budget import ept_rank
from ept.prompts.decomposed import DecomposedPrompt
from ept.prompts.fusion import DotFusion, ProjectedFusion
from ept.prompts.spaces import ElementwiseSpaces, Spaces

_FUSIONS = {"dot": DotFusion, "projected": ProjectedFusion}
_SPACES = {"low_rank": Spaces, "full": Spaces, "elementwise": ElementwiseSpaces}


class EptPrompt(DecomposedPrompt):
    """P* = P_m + F before the text, C added to it: [P*; E + C[:L]].

    [known in words: the joint prompt replaces the original; only the prompt is prepended, the low-rank
    product updates the text's embeddings] [ours: the sum] F comes from the fusion of P_s with C, P_m from the
    spaces of P_s. With the starts of the parts EPT equals DePT at the start exactly. P* does not depend on
    the text: for use, EPT is a DePT prompt (`collapse`).
    """

    def __init__(self, setup: PackSetup):
        super().__init__(setup)
        ept = setup.ept
        self.fusion = _FUSIONS[ept.fusion](setup) if ept.fusion != "none" else None
        self.spaces = _SPACES[ept.projection](setup) if ept.has_projection else None

    @staticmethod
    def choose_rank(setup: PackSetup) -> int:
        """r, from the parameter budget that `ept.budget` names."""
        return ept_rank(setup.prompt, setup.ept, setup.hidden_size)

    def forward(self) -> PromptOutput:
        """P* [runs, short_length, hidden] and C [runs, source_length, hidden]."""
        product = self.product()
        prompt = self.prompt if self.spaces is None else self.spaces(self.prompt)
        if self.fusion is not None:
            prompt = prompt + self.fusion(self.prompt, product)
        return PromptOutput(prompt, product)

    @torch.no_grad()
    def diagnostics(self, run: int) -> dict[str, float | list[float]]:
        """Of one run: `fusion_ratio` ‖F‖ / ‖P_s‖, `gain`, and `gate_weights`, the mean over the tokens.

        An ablation without fusion means something only where the ratio is not tiny.
        """
        found: dict[str, float | list[float]] = {}
        if self.fusion is not None:
            fused = self.fusion(self.prompt, self.product())[run]
            found["fusion_ratio"] = float(fused.norm() / self.prompt[run].norm())
            found["gain"] = float(self.fusion.gain[run])
        if self.spaces is not None:
            found["gate_weights"] = self.spaces.gate(self.prompt)[run].mean(0).tolist()
        return found
