"""Where prompts start. Numbers are drawn on the CPU, each run's from a generator of its own seed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ept.errors import InputError
from ept.methods.prompt import PromptSetup

COMMON_PIECES = 5000
"""How many of the most common pieces a start from the vocabulary draws from."""


def per_run(setup: PromptSetup, draw: Callable[[torch.Generator], Tensor]) -> nn.Parameter:
    """A parameter [runs, ...]: what `draw` gives with each run's generator."""
    return _parameter(setup, torch.stack([draw(generator) for generator in setup.generators]))


def zeros(setup: PromptSetup, *shape: int) -> nn.Parameter:
    """A parameter [runs, *shape] of zeros."""
    return _parameter(setup, torch.zeros(len(setup.seeds), *shape))


def ones(setup: PromptSetup, *shape: int) -> nn.Parameter:
    """A parameter [runs, *shape] of ones."""
    return _parameter(setup, torch.ones(len(setup.seeds), *shape))


def initial_prompt(setup: PromptSetup, length: int) -> nn.Parameter:
    """The prompt [runs, length, hidden] at its start, by `setup.prompt.init`.

    Raises InputError where the start needs pieces (of a text, of labels) and there are none.
    """
    return per_run(setup, lambda generator: draw_prompt(setup, length, generator))


def draw_prompt(setup: PromptSetup, length: int, generator: torch.Generator) -> Tensor:
    """One run's prompt [length, hidden] at its start, float32 on the CPU."""
    return _STARTS[setup.prompt.init](setup, length, generator).float().cpu()


def embedding_rms(embedding: Tensor) -> float:
    """e, the root mean square of the whole embedding matrix [vocab, hidden]."""
    return float(torch.linalg.vector_norm(embedding, dtype=torch.float64)) / embedding.numel() ** 0.5


def from_vocabulary(setup: PromptSetup, length: int, generator: torch.Generator) -> Tensor:
    """Embeddings of random frequent pieces, [length, hidden]: of `setup.vocabulary`, or of the first 5,000.

    [known: the 5,000 most common pieces, Lester et al. 2021, section 3.2] [ours: those with the lowest numbers, since
    tokenizers number pieces by frequency; none is drawn twice before all were drawn]
    """
    pieces = range(min(COMMON_PIECES, len(setup.embedding))) if setup.vocabulary is None else setup.vocabulary
    order = torch.randperm(len(pieces), generator=generator)
    return _rows(setup, torch.tensor(pieces)[order[torch.arange(length) % len(pieces)]])


def from_text(setup: PromptSetup, length: int, generator: torch.Generator) -> Tensor:
    """Embeddings of a text's pieces, repeated or cut to [length, hidden] [known: DePT's code, PEFT]."""
    pieces = [piece for text in setup.init_ids for piece in text]
    if not pieces:
        raise InputError("prompt.init is text, but prompt.init_text has no pieces for the tokenizer; write a text")
    return _rows(setup, torch.tensor(pieces)[torch.arange(length) % len(pieces)])


def from_labels(setup: PromptSetup, length: int, generator: torch.Generator) -> Tensor:
    """One token per class label, the mean of its pieces, filled up from the vocabulary: [length, hidden].

    [known: Lester et al. 2021, "class label"] Labels beyond `length` are left out.
    """
    if not setup.init_ids or not all(setup.init_ids):
        raise InputError("prompt.init is labels, but the task has no class labels; use init: vocabulary")
    labels = torch.stack([_rows(setup, torch.tensor(pieces)).float().mean(0) for pieces in setup.init_ids])
    rest = from_vocabulary(setup, length, generator).float()[len(labels) :]
    return torch.cat([labels[:length], rest])


def from_noise(setup: PromptSetup, length: int, generator: torch.Generator) -> Tensor:
    """Uniform(-0.5, 0.5), [length, hidden], scaled to the root mean square of the embeddings.

    [known: the uniform start, Lester et al. 2021] [ours: the scale, since embeddings of T5 are far larger]
    """
    noise = torch.rand(length, setup.hidden_size, generator=generator) - 0.5
    return noise * 12**0.5 * embedding_rms(setup.embedding)


_STARTS = {"vocabulary": from_vocabulary, "text": from_text, "labels": from_labels, "uniform": from_noise}


def _rows(setup: PromptSetup, pieces: Tensor) -> Tensor:
    vocabulary = len(setup.embedding)
    if int(pieces.min()) < 0 or int(pieces.max()) >= vocabulary:
        raise InputError(
            f"the start of the prompt needs piece {int(pieces.max())}, but the backbone has {vocabulary} "
            "pieces; use the tokenizer that belongs to the backbone"
        )
    return setup.embedding.detach()[pieces.to(setup.embedding.device)]


def _parameter(setup: PromptSetup, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(device=setup.embedding.device, dtype=torch.float32))
