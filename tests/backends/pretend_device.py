"""A device that is not there: its tensors say ``cuda`` (or ``mps``), and the CPU computes for them.

Torch's own fake tensors hold no values, and stop where a program asks for one. These hold real values on the CPU behind a
face that tells another device, so whole trainings run, and give the bits that the CPU gives. What a real device refuses is
refused here:

- an operation on tensors of two devices (a single number on the CPU may stand beside the device's tensors, as in torch);
- a random generator of another device than the tensor;
- on ``mps`` any float64, and binomial draws, for which torch has no kernel there.

And it counts what makes the host wait for the device (:attr:`PretendDevice.waits`).

What it cannot see: how a real device rounds, what it has no kernel for, and how much memory it has. All that it needs of
torch's private parts is in this file.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_Generator = torch.Generator
#: Operations that go from one device to another, or take indices of the CPU.
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_CROSSING = {"_to_copy", "copy_", *_INDEXING}
#: Operations whose result has as many entries as the values say, or is a value: the host waits for them.
_WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "equal",
    "bincount",
    "repeat_interleave",
}


class OnDevice(Tensor):
    """A tensor that says it is on another device than the CPU, which holds its values in ``held``."""

    held: Tensor
    told: torch.device
    is_meta = False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> OnDevice:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # a torch without CUDA ends the process at the first gradient of a tensor of CUDA's
        )
        made.held, made.told = held, device
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.told

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"Expected tensors of a pretended device within its block only, found {func} outside.")

    def __reduce_ex__(self, protocol: Any) -> Any:  # a file holds values; where they lay is the reader's choice
        return self.held.detach().__reduce_ex__(protocol)

    # With these two, ``Module.to`` moves parameters in place, as it does on a real device.
    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        return ["held"], self.told

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], device: torch.device, size: Any, stride: Any) -> OnDevice:
        raise AssertionError("Expected no compilation on a pretended device.")


class OnDeviceGenerator(_Generator):
    """A generator of the CPU that says it is another device's."""

    told: torch.device
    #: Torch hands the same generator as another object to an operation; what it points to is the same.
    known: dict[int, OnDeviceGenerator] = {}

    def __new__(cls, device: Any = "cpu") -> OnDeviceGenerator:
        made = super().__new__(cls)
        made.told = torch.device(device)
        cls.known[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.told


class PretendDevice(TorchDispatchMode):
    """Inside the block tensors may be made on, and moved to, ``device``.

    Attributes
    ----------
    waits
        How often the host waited for the device, by what made it wait.
    seen
        Dtypes on the device, by operation.
    """

    def __init__(self, device: str = "cuda:0") -> None:
        super().__init__()
        self.device = torch.device(device)
        self.waits: Counter[str] = Counter()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[1]
        flat = list(_leaves((*args, *kwargs.values())))
        mine = [x for x in flat if isinstance(x, OnDevice)]
        others = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
        to = kwargs.get("device")
        if to is not None:
            target = self.device if torch.device(to).type in (self.device.type, "meta") else torch.device("cpu")
            kwargs["device"] = torch.device("cpu")
        elif name == "copy_":
            target = args[0].device
        else:
            target = self.device if mine else torch.device("cpu")
        on_device = target == self.device
        if name == "binomial" and mine and self.device.type == "mps":
            raise NotImplementedError("The operator 'aten::binomial' is not currently implemented for the MPS device.")
        self._check(name, args, mine, others, [x for x in flat if isinstance(x, _Generator)], on_device)
        self._count(name, args, mine, on_device)
        if name == "_fused_sdp_choice" and mine:
            return 0  # the plain formula: which of the fused kernels there are is the real device's
        out = func(*_changed(args, _held), **{key: _changed(value, _held) for key, value in kwargs.items()})
        known = {id(x.held): x for x in mine}

        def told(x: Any) -> Any:
            if not on_device or not isinstance(x, Tensor):
                return x
            return known[id(x)] if id(x) in known else OnDevice(x, self.device)

        out = _changed(out, told)
        if on_device:
            found = {x.dtype for x in (*_leaves(out), *mine) if isinstance(x, Tensor)}
            self.seen.setdefault(name, set()).update(found)
            if self.device.type == "mps" and torch.float64 in found:
                raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype as MPS doesn't support float64 ({name})")
        return out

    def _check(
        self,
        name: str,
        args: Any,
        mine: list[OnDevice],
        others: list[Tensor],
        generators: list[torch.Generator],
        on_device: bool,
    ) -> None:
        if name in _INDEXING and mine and not isinstance(args[0], OnDevice):
            raise RuntimeError(
                f"indices should be either on cpu or on the same device as the indexed tensor (cpu) ({name})"
            )
        if name in _INDEXING and len(args) > 2 and isinstance(args[0], OnDevice) != isinstance(args[2], OnDevice):
            if args[2].ndim:
                raise RuntimeError(f"Expected the values on the same device as the indexed tensor ({name})")
        if mine and name not in _CROSSING and any(x.ndim for x in others):
            shapes = [tuple(x.shape) for x in others if x.ndim]
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {self.device} and cpu! "
                f"({name}, on the CPU: {shapes})"
            )
        for generator in generators:
            generator = OnDeviceGenerator.known.get(generator._cdata, generator)
            if (generator.device.type != "cpu") != on_device:
                kind = self.device.type if on_device else "cpu"
                raise RuntimeError(
                    f"Expected a '{kind}' device type for generator but found '{generator.device.type}' ({name})"
                )

    def _count(self, name: str, args: Any, mine: list[OnDevice], on_device: bool) -> None:
        if mine and name in _WAITING:
            self.waits[name] += 1
        elif name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            if isinstance(source, OnDevice) != on_device:
                self.waits["to the device" if on_device else "from the device"] += 1
        elif mine and name in _INDEXING:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.waits["a mask as an index"] += 1
                elif index is not None and not isinstance(index, OnDevice):
                    self.waits["an index to the device"] += 1


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnDevice) else x


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, list | tuple):
        for each in x:
            yield from _leaves(each)
    else:
        yield x


def _changed(x: Any, change: Callable[[Any], Any]) -> Any:
    """Lists and tuples of what ``change`` makes of the entries; torch's own function for this takes ten times as long."""
    return type(x)(_changed(each, change) for each in x) if isinstance(x, list | tuple) else change(x)


@contextlib.contextmanager
def pretended(device: str = "cuda:0") -> Iterator[PretendDevice]:
    """A block with a :class:`PretendDevice`, also for those who ask diffaug for ``device="cuda"``."""
    if torch.cuda.is_available():
        pytest.skip("pretends a GPU, and this machine has one")
    if not (hasattr(Tensor, "_make_wrapper_subclass") and hasattr(_Generator, "_cdata")):
        pytest.skip("needs a torch whose tensors can say that they are elsewhere")
    import_module("torch._dynamo")  # torch would do it within the block, where it does not bear what is patched
    mode = PretendDevice(device)

    def fabric(device: str = "auto", precision: Any = "32-true") -> Any:
        assert torch.device(device).type == mode.device.type, f"Expected {mode.device} in its block, found {device!r}."
        assert precision == "32-true", "torch casts by what its inner parts take a tensor for"
        from diffaug.core.devices import make_fabric

        made = make_fabric("cpu")
        made._strategy._root_device = mode.device
        made._accelerator.setup_device = lambda device: None
        return made

    with pytest.MonkeyPatch.context() as patch, torch.autograd.set_multithreading_enabled(False):
        patch.setattr(torch, "Generator", OnDeviceGenerator)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        # The CPU draws for the device, and its own generator is kept and seeded beside.
        patch.setattr(torch.cuda, "get_rng_state", lambda device: None)
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
        patch.setattr(torch.cuda, "manual_seed", lambda seed: None)
        patch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        patch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
        for module in ("diffaug._model", "diffaug.baselines._baseline", "diffaug.baselines._view_generator"):
            patch.setattr(f"{module}.make_fabric", fabric)
        try:
            with mode:
                yield mode
        finally:
            OnDeviceGenerator.known.clear()
