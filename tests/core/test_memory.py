"""Memory that runs out. Real errors of the CPU; those of other devices are raised with the words that torch has for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffaug.core.memory import OutOfMemory, enough_memory, is_out_of_memory, size_text

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps", 0)
TORCHS_OWN = torch.cuda.OutOfMemoryError
OF_CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.25 GiB is free. "
    "Including non-PyTorch memory, this process has 77.89 GiB memory in use."
)
OF_THE_DRIVER = "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call."
OF_MPS = (
    "MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.20 GB, max allowed: 18.13 GB). "
    "Tried to allocate 512.00 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit."
)
OF_WINDOWS = "[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory: you tried to allocate 911360 bytes."


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def fail_in(device: torch.device, fail: Callable[[], Any], **options: Any) -> OutOfMemory:
    """The error that a block on the device ends with."""
    with pytest.raises(OutOfMemory) as caught, enough_memory(device, "three cells", "Take two.", **options):
        fail()
    return caught.value


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of 85 GB."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_342_177_280, 84_986_757_120))


ON_CUDA = r"the memory of cuda:0 \(1\.3 GB of 85\.0 GB free\), found it out of memory"
ON_MPS = r"the memory of mps:0, found it out of memory"
ON_CPU = r"the memory of this computer, found it out of memory"


@pytest.mark.parametrize(
    ("device", "fail", "message"),
    [
        (CPU, lambda: torch.empty(10**15), ON_CPU + r" when asked for another 4,000\.0 TB\."),
        (CPU, lambda: np.empty(10**14, np.float32), ON_CPU + r" when asked for another 40\d\.\d TB\."),
        (CPU, lambda: bytearray(1 << 60), ON_CPU + r"\."),
        (CPU, raising(RuntimeError(OF_WINDOWS)), ON_CPU + r" when asked for another 911\.4 kB\."),
        (CUDA, raising(TORCHS_OWN(OF_CUDA)), ON_CUDA + r" when asked for another 21\.5 GB\."),
        (CUDA, raising(TORCHS_OWN(OF_CUDA.replace("CUDA", "HIP"))), ON_CUDA),
        (CUDA, raising(RuntimeError(OF_THE_DRIVER)), ON_CUDA + r"\."),
        (CUDA, raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")), ON_CUDA),
        (CUDA, lambda: torch.empty(10**15), ON_CPU),  # data on their way to the card
        (CUDA, raising(MemoryError()), ON_CPU),
        (MPS, raising(RuntimeError(OF_MPS)), ON_MPS + r" when asked for another 536\.9 MB\."),
        (MPS, raising(RuntimeError("Invalid buffer size: 24.00 GiB")), ON_MPS + r" when asked for another 25\.8 GB\."),
    ],
)
def test_one_error_for_all_devices(device: torch.device, fail: Callable[[], Any], message: str) -> None:
    error = fail_in(device, fail)
    assert error.__cause__ is not None and is_out_of_memory(error.__cause__)
    assert not isinstance(error.__cause__, OutOfMemory)
    with pytest.raises(OutOfMemory, match="^Expected three cells to fit into " + message):
        raise error
    on_device = "the memory of this computer" not in str(error)
    wanted = "Take two. " + (
        "End what else uses the device, or compute with device='cpu'."
        if on_device
        else "End other programs, or take a computer with more memory."
    )
    assert str(error).endswith(wanted)
    # What people catch today: torch's error on a card, its plain one elsewhere, and Python's.
    assert all(isinstance(error, kind) for kind in (TORCHS_OWN, RuntimeError, MemoryError))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        RuntimeError("Expected a finite loss of the encoder, found nan: its training diverged."),
        RuntimeError("the sizes of tensors must match: Invalid buffer size"),
        ValueError("out of memory"),
        OSError(28, "No space left on device"),
        OutOfMemory("Expected less."),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_errors_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, enough_memory(CPU, "three cells"):
        raise error
    assert caught.value is error and error.__cause__ is None and error.__context__ is None


def test_a_card_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(device: torch.device) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", silent)
    assert "the memory of cuda:0, found it out" in str(fail_in(CUDA, raising(TORCHS_OWN(OF_CUDA))))


def test_a_kept_state_is_named_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    assert "run.ckpt" not in str(fail_in(CPU, raising(MemoryError()), kept=file))
    file.touch()
    said = str(fail_in(CPU, raising(MemoryError()), kept=file))
    assert f"The same call goes on from {str(file)!r} where there is more memory; other settings" in said


def test_who_keeps_the_error_keeps_no_tensor() -> None:
    """As a notebook does: the next, smaller try needs the room."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        large = torch.zeros(100)
        kept.append(weakref.ref(large))
        raise MemoryError

    with pytest.raises(MemoryError) as plain:
        work()
    assert kept[0]() is not None  # the control: the frame in the traceback holds it
    error = fail_in(CPU, work)
    assert kept[1]() is None
    assert plain.value.__traceback__ is not None and error.__cause__ is not None
    assert error.__cause__.__traceback__ is not None  # where it happened is still told


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0.0 kB"), (4800, "4.8 kB"), (3e6, "3.0 MB"), (12.44e9, "12.4 GB"), (2e15, "2,000.0 TB")]
)
def test_sizes_are_said_in_a_unit_that_fits(n_bytes: float, text: str) -> None:
    assert size_text(n_bytes) == text
