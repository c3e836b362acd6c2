"""The parameter budget and the rank of the low-rank pair. No torch: the configuration imports this."""

from ept.config.settings import AdeptSettings, EptSettings, PromptSettings
from ept.errors import InputError


def decomposition_rank(prompt: PromptSettings, hidden_size: int) -> int:
    """The rank r of A and B for DePT, and for EPT with `budget: decomposition`.

    [known, DePT] length · d = short_length · d + (m + d) · r; with d = 768 and m = 256 the pairs
    (short_length, r) = (20, 60), (40, 45), (60, 30), (80, 15) give 76,800. m is `reference_length` for every
    task. `rank: auto` takes the largest r that fits. Raises InputError where the rank asked for does not fit
    or none does.
    """
    most = _fitting_rank(prompt, hidden_size, extra=0)
    if prompt.rank != "auto" and prompt.rank > most:
        raise InputError(
            f"prompt.rank is {prompt.rank}, but with prompt.short_length {prompt.short_length} and hidden "
            f"size {hidden_size} the budget of {prompt.length * hidden_size:,} parameters allows at most "
            f"{most}; lower prompt.rank or prompt.short_length, or use rank: auto"
        )
    if most < 1:
        raise InputError(
            f"prompt.short_length {prompt.short_length} leaves too little of the budget of prompt.length "
            f"{prompt.length} for a low-rank pair of rank 1 at hidden size {hidden_size}; lower "
            "prompt.short_length"
        )
    return most if prompt.rank == "auto" else prompt.rank


def ept_rank(prompt: PromptSettings, ept: EptSettings, hidden_size: int) -> int:
    """The rank r of A and B for EPT: DePT's, lowered with `budget: matched` until all that is trained fits.

    [ours] With d = 768, short_length 60 and rank-1 maps: r = 29, 26, 22, 17, 13 for 1, 2, 4, 6, 8 spaces.
    Raises InputError where fusion and projection leave no room for rank 1.
    """
    rank = decomposition_rank(prompt, hidden_size)
    if ept.budget == "decomposition":
        return rank
    extra = extra_parameters(ept, hidden_size)
    most = _fitting_rank(prompt, hidden_size, extra)
    if most < 1:
        raise InputError(
            f"ept.budget matched cannot be met: the short prompt and the {extra:,} parameters of fusion and "
            f"projection leave no room for a low-rank pair within {prompt.length * hidden_size:,}; lower "
            "prompt.short_length or ept.spaces, or use budget decomposition"
        )
    return min(rank, most)


def adept_rank(prompt: PromptSettings, adept: AdeptSettings, hidden_size: int) -> int:
    """The width r of ADePT's network: length · d = short_length · d + (2 d + 1) · r + d for `auto` (r = 19 on T5-base).

    Raises InputError where the rank asked for does not fit or none does.
    """
    budget = prompt.length * hidden_size
    most = ((prompt.length - prompt.short_length - 1) * hidden_size) // (2 * hidden_size + 1)
    if adept.rank != "auto" and adept.rank > most:
        raise InputError(
            f"adept.rank is {adept.rank}, but with prompt.short_length {prompt.short_length} and hidden size "
            f"{hidden_size} the budget of {budget:,} parameters allows at most {most}; lower adept.rank or "
            "prompt.short_length, or use rank: auto"
        )
    if most < 1:
        raise InputError(
            f"prompt.short_length {prompt.short_length} leaves too little of the budget of prompt.length "
            f"{prompt.length} for ADePT's network at hidden size {hidden_size}; lower prompt.short_length"
        )
    return most if adept.rank == "auto" else adept.rank


def codeword_length(key: str, asked: int, hidden_size: int) -> int:
    """How many hidden units a codeword of ACCEPT covers: the setting `key`, or all where that is more.

    Raises InputError where it does not divide the hidden size.
    """
    length = min(asked, hidden_size)
    if hidden_size % length:
        raise InputError(
            f"{key} is {asked}, which does not divide the hidden size {hidden_size}; choose a divisor of it"
        )
    return length


def extra_parameters(ept: EptSettings, hidden_size: int) -> int:
    """How many numbers EPT trains in addition to the short prompt, A and B (a test compares it with the tensors)."""
    fusion = {"none": 0, "dot": 1, "projected": 1 + 4 * hidden_size * ept.fusion_rank}[ept.fusion]
    if not ept.has_projection:
        return fusion
    rank = {"low_rank": ept.space_rank, "elementwise": 1, "full": hidden_size}[ept.projection]
    return fusion + 2 * hidden_size * rank * (ept.spaces - 1) + hidden_size * ept.spaces


def _fitting_rank(prompt: PromptSettings, hidden_size: int, extra: int) -> int:
    """The largest rank with which everything fits into length · d; 0 or less where none does."""
    free = (prompt.length - prompt.short_length) * hidden_size - extra
    return free // (prompt.reference_length + hidden_size)
