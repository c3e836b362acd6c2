"""How prompt and text join at the backbone's input."""

import torch
from torch import Tensor

from ept.errors import InputError
from ept.methods.prompt import PromptOutput


def combine(output: PromptOutput, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return [P; E + offsets] of all rows of all runs as one batch for the backbone.

    `embeddings` [runs, batch, length, hidden] of the text, `mask` [runs, batch, length] with 1 at pieces and
    0 at padding. Returns embeddings [runs * batch, prompt_length + length, hidden] in the text's dtype and
    mask [runs * batch, prompt_length + length] in the mask's, run by run. Raises InputError where runs,
    hidden size or text length do not fit the prompts.
    """
    _check(output, embeddings)
    prompt = output.row_prompts(embeddings, mask).to(embeddings.dtype)
    offsets = output.row_offsets(embeddings)
    if offsets is not None:
        # Summed in float32 and rounded once: rounding the offset first would add a second error.
        embeddings = (embeddings + offsets).to(embeddings.dtype)
    joined = torch.cat([prompt, embeddings], dim=2)
    joined_mask = torch.cat([mask.new_ones(prompt.shape[:3]), mask], dim=2)
    return joined.flatten(0, 1), joined_mask.flatten(0, 1)


def _check(output: PromptOutput, embeddings: Tensor) -> None:
    runs, _, _, hidden = embeddings.shape
    for name, part in (("prompt", output.prompt), ("offset", output.offset)):
        if part is not None and (part.shape[0], part.shape[-1]) != (runs, hidden):
            raise InputError(
                f"the {name} has shape {list(part.shape)}, the text {list(embeddings.shape)}: runs (first) "
                "and hidden size (last) must agree"
            )
