"""Out of memory, whichever device says so."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: torch's own error on a GPU, a RuntimeError of its allocator on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )
