"""The table of generators: what each makes of training cells, and how it is shown."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from generators.split import Split

TYPE = "cell_type"


@dataclass(frozen=True)
class Made:
    """Synthetic cells: counts on the genes of the training cells, their types, and what they cost.

    ``fit_seconds`` of tools of one family that share a fit are the same; ``make_seconds`` are each tool's own.
    """

    counts: sp.csr_matrix
    labels: np.ndarray
    fit_seconds: float
    make_seconds: float


@dataclass(frozen=True)
class Tool:
    """A line of the tables. Controls are real cells: they take part in no ranks."""

    name: str
    shown: str
    note: str
    control: bool = False


@dataclass(frozen=True)
class Family:
    """A function that makes the cells of one tool, or of several that share a fit.

    ``defaults`` are what its result depends on beside its arguments: rows of other defaults are other rows.
    """

    name: str
    make: Callable[..., dict[str, Made]]
    tools: tuple[Tool, ...]
    requires: tuple[str, ...] = ()
    defaults: Callable[[], dict[str, Any]] = dict

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the function and their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def missing(self) -> list[str]:
        """Modules that cannot be found here."""
        return [name for name in self.requires if importlib.util.find_spec(name) is None]


FAMILIES: dict[str, Family] = {}
#: Name of a tool -> it and its family.
TOOLS: dict[str, tuple[Tool, Family]] = {}
#: Published generators that are not here, and why.
NOT_RUN: dict[str, str] = {
    "scDesign2, scDesign3": "R packages. scDesign3Py 1.0.0 is on PyPI, but calls the R package through rpy2 and needs an "
    "installed R. Our own implementation of scDesign2's model stands in.",
    "splatter": "R package.",
    "CFGen": "A research repository for Python 3.10 with a conda environment of its own, without a release.",
    "scDiffusion, scGAN": "No package was found.",
    "celldiff 0.1.0": "Installs torchvision, which breaks beside a CPU build of torch.",
    "CTGAN 0.12.1": "Can be installed (it adds rdt and Faker only), but is no generator of cells, and was not tried: it splits "
    "each column into up to ten modes, so that 1,000 genes become about 11,000 inputs.",
    "SERGIO": "Simulates a gene network that has to be given; it is not fitted to cells.",
}


def register(
    name: str, *tools: Tool, requires: tuple[str, ...] = (), defaults: Callable[[], dict[str, Any]] = dict
) -> Callable[[Callable[..., dict[str, Made]]], Callable[..., dict[str, Made]]]:
    """Enter a function ``(split, seed, *, settings...) -> {tool: Made}``."""

    def enter(make: Callable[..., dict[str, Made]]) -> Callable[..., dict[str, Made]]:
        clash = [t.name for t in tools if t.name in TOOLS]
        if name in FAMILIES or clash:
            raise ValueError(f"Expected new names, found {[name, *clash]} again.")
        family = FAMILIES[name] = Family(name, make, tools, requires, defaults)
        TOOLS.update({t.name: (t, family) for t in tools})
        return make

    return enter


def in_order(*names: str) -> None:
    """Sort the families as the tables shall show them; every one has to be named."""
    if set(names) != set(FAMILIES):
        raise ValueError(
            f"Expected the names of all families, found {sorted(set(names) ^ set(FAMILIES))} on one side only."
        )
    entered = dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES.update({name: entered[name] for name in names})
    TOOLS.clear()
    TOOLS.update({t.name: (t, f) for f in FAMILIES.values() for t in f.tools})


def types_of(split: Split) -> np.ndarray:
    """Type of each training cell."""
    return split.train.obs[TYPE].astype(str).to_numpy()


def dense(x: Any) -> np.ndarray:
    return np.asarray(x.toarray() if sp.issparse(x) else x)
