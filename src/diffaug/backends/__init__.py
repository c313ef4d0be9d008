"""One file per domain. A backend registers itself by name; the model looks it up."""

from __future__ import annotations

from importlib import import_module

from diffaug.backends._base import Backend

_BUILT_IN = {
    "cells": "diffaug.backends.cells",
    "dna": "diffaug.backends.dna",
    "vision": "diffaug.backends.vision",
}
_REGISTRY: dict[str, type[Backend]] = {}


def register(backend: type[Backend]) -> type[Backend]:
    """Class decorator: make a backend known under its ``name``."""
    home = _BUILT_IN.get(backend.name, backend.__module__)
    if home != backend.__module__:
        raise ValueError(f"Expected a new backend name, found {backend.name!r}, which {home} has.")
    taken = _REGISTRY.get(backend.name)
    if taken is not None and taken.__qualname__ != backend.__qualname__:
        raise ValueError(f"Expected a new backend name, found {backend.name!r}, which {taken.__qualname__} has.")
    _REGISTRY[backend.name] = backend
    return backend


def get_backend(name: str) -> type[Backend]:
    """Backend class by name."""
    if name not in _REGISTRY and name in _BUILT_IN:
        import_module(_BUILT_IN[name])
    if name not in _REGISTRY:
        raise ValueError(f"Expected a backend among {available_backends()}, found {name!r}.")
    return _REGISTRY[name]


def available_backends() -> list[str]:
    """Names of all backends."""
    return sorted({*_BUILT_IN, *_REGISTRY})


__all__ = ["Backend", "available_backends", "get_backend", "register"]
