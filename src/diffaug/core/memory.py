"""Memory that runs out: one error for all devices, which says what to do."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

#: How torch says it where it raises a mere ``RuntimeError``: on Apple's devices, on the CPU, and in CUDA's own libraries.
_RAN_OUT = re.compile(
    r"out of memory|DefaultCPUAllocator: (can't allocate|not enough) memory|_STATUS_ALLOC_FAILED|^Invalid buffer size"
)
_ASKED = re.compile(r"(?:allocate|buffer size:) ([\d.]+) ?([KMGTPE]i?B|bytes)")
_PREFIXES = "bKMGTPE"


class OutOfMemory(torch.cuda.OutOfMemoryError, MemoryError):
    """A device, or the computer itself, has too little memory for a computation; its ``__cause__`` is the original error.

    It is torch's error as well as Python's: who catches ``torch.OutOfMemoryError``, ``RuntimeError`` or ``MemoryError``
    catches it, on every device.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, numpy or Python found no memory."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _RAN_OUT.search(str(error)) is not None


def size_text(n_bytes: float) -> str:
    """A number of bytes in the unit that a reader would take: ``"12.4 GB"``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


@contextlib.contextmanager
def enough_memory(device: torch.device, what: str, advice: str = "", *, kept: Path | None = None) -> Iterator[None]:
    """Turn an error that says that memory ran out in the block into one that says what to do; others pass as they are.

    Nothing is tried again, and nothing goes to another device: both would change results.

    Parameters
    ----------
    device
        Where the block computes.
    what
        What it computes, such as ``"the training on 700 events"``.
    advice
        What would take less memory, in whole sentences; where there is nothing to say, only what helps everywhere is said.
    kept
        File with the state of the computation, from which the same call goes on.

    Raises
    ------
    OutOfMemory
        The device has no memory left, or the computer has none.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        on_computer = device.type == "cpu" or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        place = "this computer" if on_computer else _described(device)
        way_out = (
            "End other programs, or take a computer with more memory."
            if on_computer
            else "End what else uses the device, or compute with device='cpu'."
        )
        said = [f"Expected {what} to fit into the memory of {place}, {_found(error)}.", advice, way_out]
        if kept is not None and kept.exists():
            said.append(
                f"The same call goes on from {str(kept)!r} where there is more memory; other settings, or another kind of "
                "device, need a file of their own."
            )
        # Who keeps the error, as a notebook keeps the last one, must not keep the tensors of what failed with it: the next
        # and smaller try would not fit beside them.
        traceback.clear_frames(error.__traceback__)
        raise OutOfMemory(" ".join(filter(None, said))) from error


def _described(device: torch.device) -> str:
    """A device's name, and how much of its memory is free where it can tell."""
    if device.type != "cuda":
        return str(device)
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # it may be past answering
        return str(device)
    return f"{device} ({size_text(free)} of {size_text(total)} free)"


def _found(error: BaseException) -> str:
    asked = _ASKED.search(str(error))
    if asked is None:
        return "found it out of memory"
    n_bytes = float(asked[1]) * 1024 ** _PREFIXES.index(asked[2][0])
    return f"found it out of memory when asked for another {size_text(n_bytes)}"
