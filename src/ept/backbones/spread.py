"""A model's blocks over several devices."""

from collections.abc import Mapping, Sequence

from torch import nn


def spread(blocks: Mapping[str, nn.Module], devices: Sequence[str]) -> dict[str, str]:
    """A device for every block by its name, in their order: each holds about as many parameters as the others."""
    sizes = {name: sum(parameter.numel() for parameter in block.parameters()) for name, block in blocks.items()}
    total, before, places = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        # Where the middle of the block falls.
        places[name] = devices[(2 * before + size) * len(devices) // (2 * total)]
        before += size
    return places
