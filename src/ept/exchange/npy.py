"""Prompts of google-research/prompt-tuning: one matrix in a NumPy file (100 x 768 for T5 1.1 Base, LM-adapted)."""

from pathlib import Path

import numpy as np
import torch

from ept.errors import InputError, reason_of
from ept.exchange.adapter import ForeignPrompt
from ept.methods.registry import method_of_format


def read(file: str | Path) -> ForeignPrompt:
    """The prompt [length, hidden] of an .npy file, as a prompt of PT: that code prepends it to the embedded text too.

    Raises InputError for a file that is missing, damaged, or holds anything but a finite matrix of floating-point
    numbers. Pickled objects are never loaded.
    """
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read as a NumPy array ({reason_of(error)}); fetch it again") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or 0 in found.shape or found.dtype.kind != "f":
        shape = getattr(found, "shape", type(found).__name__)
        kind = getattr(found, "dtype", "several arrays")
        raise InputError(f"{file} holds {kind} of shape {shape}; a prompt is a matrix [length, hidden] of floats")
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(found, dtype=np.float32)
    if not np.isfinite(matrix).all():
        raise InputError(f"{file} holds NaN or infinity; take a prompt whose training did not diverge")
    remark = "the file does not say which backbone it was trained on; google's are for T5 1.1, LM-adapted"
    return ForeignPrompt(
        method_of_format("peft"), {"prompt": torch.from_numpy(matrix)}, {"task_type": "SEQ_2_SEQ_LM"}, (remark,)
    )
