"""Devices, threads' number formats and random streams of a run; lightning-fabric does the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Precision = Literal["32-true", "bf16-mixed"]


def make_fabric(device: str = "auto", precision: Precision = "32-true") -> Fabric:
    """Fabric on one device.

    Parameters
    ----------
    device
        ``"auto"`` (an accelerator when there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``. The name of a fabric's
        own device gives that device again; Apple's is ``"mps:0"``.
    precision
        Number format of the networks in training; weights stay float32.

    Raises
    ------
    ValueError
        The device is unknown or not on this machine, or the CPU has no fast bfloat16 products (they would be hundreds of
        times slower than float32).
    """
    import warnings

    with warnings.catch_warnings():  # fabric's import touches deprecated corners of its own dependencies
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric

    known = "'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'"
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    is_numbered = kind == "cuda" and number.isdigit()
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not is_numbered and device != "mps:0"):
        raise ValueError(f"Expected `device` {known}, found {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"Expected a CUDA device for device={device!r}, found none on this machine. Use 'auto' or 'cpu'."
        )
    if is_numbered and int(number) >= torch.cuda.device_count():
        raise ValueError(f"Expected `device` below cuda:{torch.cuda.device_count()}, found {device!r}.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"Expected an MPS device for device={device!r}, found none on this machine. Use 'auto' or 'cpu'."
        )
    fabric = Fabric(accelerator=kind, devices=[int(number)] if number else 1, precision=precision)
    if precision == "bf16-mixed" and fabric.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ValueError(
            "Expected a device with fast bfloat16 products for precision='bf16-mixed', found a CPU without them. "
            "Use '32-true', or a GPU."
        )
    return fabric


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat denormal floats as zero: kernel tails underflow, and a CPU step on denormals is several times slower.

    What the caller had set is restored.
    """
    before = _denormals_are_flushed()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def respected_threads() -> Iterator[None]:
    """Use as many threads as ``OMP_NUM_THREADS`` says, where it says something.

    Torch reads that variable once, at its start. Any parallel numba function, which a library may well call, then
    sets the OpenMP threads of the whole process to the number of cores: with two threads on two busy cores a training
    step took eight times longer than with the one that was asked for.
    """
    asked, before = os.environ.get("OMP_NUM_THREADS", ""), torch.get_num_threads()
    if asked.isdigit() and int(asked) > 0:
        torch.set_num_threads(int(asked))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def tuned_cpu() -> Iterator[None]:
    """Settings of the process for the time of a computation; what the caller had set is restored."""
    with respected_threads(), flushed_denormals():
        yield


def device_name(device: torch.device) -> str:
    """What computed: the card's own name on CUDA, else ``"cpu"`` or ``"mps"``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _denormals_are_flushed() -> bool:
    """Torch has no getter: the smallest normal number halved is a denormal, and zero where those are flushed."""
    return bool((torch.full((1,), torch.finfo(torch.float32).tiny) / 2).item() == 0)


def random_streams(seed: int, names: tuple[str, ...], device: torch.device) -> dict[str, torch.Generator]:
    """Independent generators by name; adding one does not change the others' numbers as long as it comes last."""
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {
        name: torch.Generator(device).manual_seed(int(child.generate_state(1, np.uint64)[0] >> 1))
        for name, child in zip(names, children, strict=True)
    }


@contextmanager
def seeded_init(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """What torch's own generator draws inside (first weights, dropout) is the same for equal seeds; its state is brought back.

    Only the CPU's generator is seeded (``torch.manual_seed`` would reseed every accelerator too), and that of ``device``
    where it is a CUDA one; on Apple's devices dropout draws from their own, which is not seeded here.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed % 2**63)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed % 2**63)
        yield
