"""Fields of an AnnData that its preparation looks at as a fit does; nothing here knows a model."""

from __future__ import annotations

import pandas as pd
from anndata import AnnData

from diffaug._matrix import Kind, describe_matrix


def batches_of(adata: AnnData, batch_key: str) -> pd.Categorical:
    """Batches as scanpy takes them to choose genes: text, every one there, each of two cells or more."""
    if batch_key not in adata.obs:
        raise KeyError(f"Did not find `adata.obs[{batch_key!r}]`. Available columns: {list(adata.obs.columns)}.")
    batches = adata.obs[batch_key]
    missing = int(batches.isna().sum())
    if missing:
        raise ValueError(f"Expected a batch for every cell in `adata.obs[{batch_key!r}]`, found {missing} without one.")
    sizes = batches.astype(str).value_counts()
    if sizes.min() < 2:
        raise ValueError(
            f"Expected at least 2 cells in every batch of `adata.obs[{batch_key!r}]`, "
            f"found {sizes.min()} in {sizes.idxmin()!r}. Merge or drop small batches first."
        )
    return pd.Categorical(batches.astype(str))


def layers_of_kind(adata: AnnData, *kinds: Kind) -> list[str]:
    """Names of the layers whose values are of one of these kinds, in order."""
    found = []
    for name in sorted(name for name in adata.layers if name is not None):  # anndata 0.13 lists X there, as None
        try:
            kind = describe_matrix(adata.layers[name]).kind
        except (TypeError, ValueError):  # a layer of text, say, which nobody asked for
            continue
        if kind in kinds:
            found.append(name)
    return found
