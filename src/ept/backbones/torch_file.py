"""Files that torch.save wrote, read as tensors alone: no code in them runs, and memory is bounded by their size."""

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ept.errors import InputError, reason_of

# Of tuples in a pickle; torch's own stand three deep.
_DEEPEST = 10
_MARK = object()


def read_torch_file(path: Path, what: str) -> dict[Any, Any]:
    """The dictionary in a file of torch.save, in the CPU's memory (files since torch 1.6 stay on disk until used).

    Args:
        path: The file. Where a large one has few bytes on disk (compressed entries), it is not read.
        what: What the file belongs to, for the remedy, such as "the adapter".

    Raises:
        InputError: For a damaged file, one that holds other Python objects than tensors (never loaded), or that is
            larger than it looks.
    """
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            _refuse_compressed(path)
        if _tuple_depth(path, archive) > _DEEPEST:
            raise ValueError("tuples in tuples in tuples")
        with warnings.catch_warnings():
            # What it suspects of a foreign pickle is said once, below.
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        # Torch's own words advise to load it all the same.
        unsafe = re.search(r"GLOBAL (\S+)", str(error))
        objects = f"the Python object {unsafe[1]}" if unsafe else "other Python objects than tensors, or is damaged"
        raise InputError(
            f"{path} holds {objects}; such a file could run code and is never loaded: fetch {what} again, or ask its "
            "author for safetensors"
        ) from error
    # A damaged pickle raises anything: each of its bytes is an instruction.
    except Exception as error:
        reason = reason_of(error).split(". ")[0]
        raise InputError(f"{path} is damaged or not a PyTorch file ({reason}); fetch {what} again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} does not hold a dictionary of tensors; use {what}'s own {path.name}")
    return found


def holds_its_numbers(tensor: Tensor) -> bool:
    """Whether a tensor has its numbers in memory: an expanded one repeats a few, one on the meta device has none."""
    return not tensor.is_meta and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _refuse_compressed(path: Path) -> None:
    """Raise ValueError for an archive whose entries are larger than the file; torch writes them as they are."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"its entries have {size:,} bytes, the file {path.stat().st_size:,}")


def _tuple_depth(path: Path, archive: bool) -> int:
    """How deep tuples stand in each other in a file of torch.save: hashing such a key takes 2^depth steps."""
    with path.open("rb") as file:
        if archive:
            with zipfile.ZipFile(file) as entries:
                (name,) = [name for name in entries.namelist() if name.endswith("data.pkl")]
                return _deepest(io.BytesIO(entries.read(name)))
        # The old format: pickles of a magic number, version, system and content; then numbers.
        end, depths = file.seek(0, 2), [0]
        file.seek(0)
        while len(depths) < 5 and file.tell() < end:
            depths.append(_deepest(file))
        return max(depths)


def _deepest(file: IO[bytes]) -> int:
    """The deepest tuple of one pickle, by its instructions alone."""
    stack: list[Any] = []
    memo: dict[Any, int] = {}
    deepest = 0
    for opcode, argument, _ in pickletools.genops(file):
        name, before = opcode.name, opcode.stack_before
        if name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
            continue
        if name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
            continue
        taken = []
        if pickletools.markobject in before:
            while (item := stack.pop()) is not _MARK:
                taken.append(item)
            before = before[: before.index(pickletools.markobject)]
        taken += [stack.pop() for _ in before]
        depth = max(taken, default=0) + 1 if name.startswith("TUPLE") else 0
        deepest = max(deepest, depth)
        stack += [_MARK if made is pickletools.markobject else depth for made in opcode.stack_after]
    return deepest
