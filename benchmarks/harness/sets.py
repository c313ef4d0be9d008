"""Data sets as every method gets them: the same cells, the same genes, kept as one small file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import pandas as pd
from _common import prepared
from anndata import AnnData

import diffaug
from diffaug.core.storage import written_file

#: To be raised where sets are prepared in another way: files of before in a cache are then made anew.
_PREPARATION = 2


@dataclass(frozen=True)
class Slice:
    """A data set, how many cells of it at most, and how many genes."""

    name: str
    max_obs: int | None
    n_top_genes: int

    @property
    def key(self) -> str:
        """Name of its folder in the cache."""
        return f"{self.name}-{self.max_obs or 'all'}x{self.n_top_genes}"


def local_sets() -> pd.DataFrame:
    """Labelled vector sets that have a file here, the largest first."""
    table = diffaug.datasets.list_datasets("bio")
    return table[(table["status"] == "local") & table["present"]].sort_values("n_obs", ascending=False)


def chosen_sets(names: list[str]) -> list[str]:
    """``["largest"]`` is the twelve largest, ``["all"]`` all of them; other names stay as they are."""
    if names == ["largest"]:
        return local_sets().index[:12].tolist()
    if names == ["all"]:
        return local_sets().index.tolist()
    return names


def check_sets(names: list[str]) -> None:
    """Look for every file, so that a missing one ends the run before any work; raises what ``datasets.path`` raises."""
    for name in names:
        if diffaug.datasets.manifest(name).status != "embedded":
            diffaug.datasets.path(name)


def facts(one: Slice) -> dict[str, Any]:
    """Columns that every row of a set has."""
    m = diffaug.datasets.manifest(one.name)
    return {
        "set": one.name,
        "max_obs": one.max_obs or 0,
        "n_top_genes": one.n_top_genes,
        "n_obs_total": int(m.shape[0]) if m.shape else 0,
        "n_classes": m.n_classes or 0,
        "labels": m.labels,
        "kind": m.kind or "other",
        "grouped": m.batch_key is not None,
    }


def is_counts(one: Slice) -> bool:
    """Whether there are raw counts for methods that need them."""
    return diffaug.datasets.manifest(one.name).kind == "counts"


def is_grouped(one: Slice) -> bool:
    """Whether cells have a donor, batch or subject."""
    return diffaug.datasets.manifest(one.name).batch_key is not None


def prepared_file(one: Slice, cache: Path) -> Path:
    """The prepared set as a file, made at the first call.

    ``.X`` is what the methods see, ``.layers["counts"]`` the counts of the same genes where there are counts,
    ``.obs["label"]`` and ``.obs["group"]`` what they are judged by.
    """
    m = diffaug.datasets.manifest(one.name)
    version = hashlib.sha256(f"{m.sha256} {diffaug.__version__} {_PREPARATION}".encode()).hexdigest()[:8]
    file = cache / "prepared" / f"{one.key}-{version}.h5ad"
    if not file.exists():
        full = prepared(one.name, one.max_obs, one.n_top_genes)
        kept = AnnData(full.X, obs=pd.DataFrame(index=full.obs_names), var=full.var[[]])
        if "counts" in full.layers:
            kept.layers["counts"] = full.layers["counts"]
        kept.obs["label"] = full.obs[m.label_key].astype(str).astype("category")
        if m.batch_key is not None:
            kept.obs["group"] = full.obs[m.batch_key].astype(str).astype("category")
        with written_file(file) as fresh:
            kept.write_h5ad(fresh)
    return file


def read_prepared(file: Path) -> AnnData:
    """The set that :func:`prepared_file` wrote."""
    return anndata.read_h5ad(file)
