"""From raw counts to what the model likes best: normalised, logged, variable genes marked."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData, ImplicitModificationWarning
from scipy import sparse

from diffaug._fields import batches_of, layers_of_kind
from diffaug._keys import COUNTS_LAYER, HIGHLY_VARIABLE, RECIPE
from diffaug._matrix import MatrixKind, describe_matrix
from diffaug._totals import TARGET_SUM, target_sum_of
from diffaug.core.arguments import any_number, whole_number

logger = logging.getLogger(__name__)


def recipe(
    adata: AnnData,
    *,
    n_top_genes: int = 2000,
    target_sum: float | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Normalise and log raw counts, and mark the highly variable genes.

    The same as :func:`scanpy.pp.normalize_total`, :func:`scanpy.pp.log1p` and :func:`scanpy.pp.highly_variable_genes`
    (flavour ``"seurat"``), after the checks that these do not make. No gene is removed: ``tl.fit`` looks at
    ``.var["highly_variable"]``. If anything is wrong with the input, nothing is modified.

    Parameters
    ----------
    adata
        Annotated data with raw counts, in memory. A view becomes a copy of its own, as with scanpy; its parent stays as
        it is.
    n_top_genes
        Highly variable genes to mark; all genes are marked where there are not more.
    target_sum
        Counts per cell after normalisation. ``None`` takes 1e4, and for panels of fewer than 100 genes the median of the counts
        per cell: their cells have so few counts that 1e4 would leave little more of them than which genes they have
        (``docs/experiments.md``, entry 24). Give the number of a panel's training cells to further cells of it.
    layer
        Layer with the raw counts; ``.X`` by default.
    batch_key
        Column of ``.obs`` with batches. Variable genes are then chosen within each and merged, so that genes that vary
        between batches only are not taken.
    copy
        Return a changed copy and leave ``adata`` as it is.

    Returns
    -------
    ``None``, or the copy if ``copy=True``. The following fields are written:

    `.X`
        Normalised and logged counts, in the format they had (dense, csr, csc); integers become float32.
    `.layers["counts"]`
        The raw counts.
    `.var["highly_variable"]`
        Booleans. Where genes were chosen also ``means``, ``dispersions`` and ``dispersions_norm``, and with
        ``batch_key`` also ``highly_variable_nbatches`` and ``highly_variable_intersection``.
    `.uns["log1p"]`, `.uns["hvg"]`
        As scanpy writes them; ``hvg`` where genes were chosen.
    `.uns["diffaug_recipe"]`
        ``target_sum``, the counts per cell after normalisation.

    Raises
    ------
    TypeError
        If ``adata`` is not an AnnData, or its values are not a matrix of numbers.
    KeyError
        If ``layer`` or ``batch_key`` is missing.
    ValueError
        If the values are not finite raw counts, a cell has none, there are fewer than two cells or genes, gene names
        are not unique, a batch is too small, or ``adata`` is backed by a file.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> diffaug.pp.recipe(adata, layer="counts", n_top_genes=500)
    >>> int(adata.var["highly_variable"].sum())
    500
    """
    _check_settings(n_top_genes, TARGET_SUM if target_sum is None else target_sum)
    counts, address = _find_counts(adata, layer)
    _check_counts(counts, address, adata)
    _check_counts_layer(adata, counts, layer)
    batches = None if batch_key is None else batches_of(adata, batch_key)

    # All work is done on the side, so that an error half-way (scanpy's, or of memory) leaves the input as it was.
    work = AnnData(_as_float(counts), var=pd.DataFrame(index=adata.var_names))
    if batches is not None:
        work.obs["batch"] = batches
    if target_sum is None:
        target_sum = target_sum_of(counts)
    sc.pp.normalize_total(work, target_sum=target_sum)
    sc.pp.log1p(work)
    if adata.n_vars > n_top_genes:
        sc.pp.highly_variable_genes(work, n_top_genes=n_top_genes, batch_key=None if batches is None else "batch")
    else:
        logger.info("All %d genes are marked highly variable, as `n_top_genes` is %d.", adata.n_vars, n_top_genes)
        work.var[HIGHLY_VARIABLE] = True

    if copy:
        adata = adata.copy()
    elif adata.is_view:
        logger.info("`adata` is a view and becomes a copy of its own.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)  # said above
        # A copy, so that two layers or the caller's own array do not share memory with it.
        adata.layers[COUNTS_LAYER] = counts.copy()
    adata.X = _as_before(work.X, counts)
    for column in work.var:
        adata.var[column] = work.var[column]
    adata.uns.update(work.uns)
    adata.uns[RECIPE] = {"target_sum": float(target_sum)}
    logger.info(
        "Wrote `.X` (normalised to %g counts per cell, logged), `.layers[%r]`, `.var[%r]` (%d of %d genes) and `.uns['log1p']`.",
        target_sum,
        COUNTS_LAYER,
        HIGHLY_VARIABLE,
        int(work.var[HIGHLY_VARIABLE].sum()),
        adata.n_vars,
    )
    return adata if copy else None


def _check_settings(n_top_genes: Any, target_sum: Any) -> None:
    whole_number("n_top_genes", n_top_genes, 1)
    if not (any_number("target_sum", target_sum) > 0 and math.isfinite(target_sum)):
        raise ValueError(f"Expected a finite `target_sum` above 0, found {target_sum}.")


def _layer_names(adata: AnnData) -> list[str]:
    return sorted(name for name in adata.layers if name is not None)  # anndata 0.13 lists X there, as None


def _is_matrix(values: Any) -> bool:
    """Whether all values can be looked at; those of dask, zarr or masked arrays cannot."""
    if sparse.issparse(values):
        return values.format in ("csr", "csc")
    return isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)


def _find_counts(adata: Any, layer: str | None) -> tuple[Any, str]:
    """Matrix that should hold the counts, and its address for messages."""
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected `adata` to be an AnnData, found {type(adata).__name__}.")
    if adata.isbacked:
        raise ValueError(
            f"Expected `adata` in memory, found it backed by {str(adata.filename)!r}. "
            "Call `adata = adata.to_memory()` first."
        )
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"Did not find `adata.layers[{layer!r}]`. Available layers: {_layer_names(adata)}.")
    address = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    counts = adata.X if layer is None else adata.layers[layer]
    if counts is None:
        raise ValueError(f"Expected raw counts in `{address}`, found nothing. Available layers: {_layer_names(adata)}.")
    if not _is_matrix(counts):
        raise TypeError(
            f"Expected `{address}` to be a numpy array or a scipy csr or csc matrix, found {type(counts).__name__}."
        )
    return counts, address


def _check_counts(counts: Any, address: str, adata: AnnData) -> None:
    for count, what in zip(adata.shape, ("cells", "genes"), strict=True):
        if count < 2:
            raise ValueError(f"Expected at least 2 {what} in `adata`, found {count}.")
    if not adata.var_names.is_unique:
        doubled = adata.var_names[adata.var_names.duplicated()].unique()
        raise ValueError(
            f"Expected unique gene names in `adata.var_names`, found {len(doubled)} more than once, e.g. {doubled[0]!r}. "
            "Call `adata.var_names_make_unique()` first."
        )
    if counts.dtype.kind not in "buif":
        raise TypeError(f"Expected numbers in `{address}`, found dtype {counts.dtype}.")
    matrix = describe_matrix(counts)
    if matrix.n_nonfinite:
        raise ValueError(
            f"Expected finite values in `{address}`, found {matrix.n_nonfinite} NaN or infinite ones in "
            f"{matrix.n_nonfinite_rows} cells. Filter or impute them first."
        )
    if matrix.kind != "counts" and matrix.max != 0:
        raise ValueError(f"Expected raw counts in `{address}`, found {_found(matrix)}. {_advice(adata, address)}")
    empty = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() == 0)
    if len(empty):
        raise ValueError(
            f"Expected counts in every cell of `{address}`, found {len(empty)} cells without any, "
            f"e.g. {adata.obs_names[empty[0]]!r}. Call `scanpy.pp.filter_cells(adata, min_counts=1)` first."
        )


def _found(matrix: MatrixKind) -> str:
    if matrix.kind == "scaled":
        return f"negative values down to {matrix.min:.4g}, as of scaled or centred data"
    if matrix.kind == "log":
        return f"fractions up to {matrix.max:.4g}, as of log-normalised data"
    return f"fractions up to {matrix.max:.4g}"


def _advice(adata: AnnData, address: str) -> str:
    """Where the counts may be instead."""
    others = [name for name in layers_of_kind(adata, "counts") if address != f"adata.layers[{name!r}]"]
    if others:
        return f"`adata.layers[{others[0]!r}]` looks like counts: pass `layer={others[0]!r}`."
    return (
        f"Pass the `layer` that holds them (available layers: {_layer_names(adata)}), or leave `recipe` out: logarithms need "
        "only `scanpy.pp.highly_variable_genes(adata, n_top_genes=2000)`, counts with fractions `scanpy.pp.normalize_total` and "
        "`scanpy.pp.log1p` before it."
    )


def _check_counts_layer(adata: AnnData, counts: Any, layer: str | None) -> None:
    """Refuse to write over other values that the user keeps under the name of the counts layer."""
    if layer == COUNTS_LAYER or COUNTS_LAYER not in adata.layers:
        return
    kept = adata.layers[COUNTS_LAYER]
    if sparse.issparse(kept) != sparse.issparse(counts):
        kept, counts = sparse.csr_matrix(kept), sparse.csr_matrix(counts)
    same = (kept != counts).nnz == 0 if sparse.issparse(kept) else np.array_equal(kept, counts)
    if not same:
        source = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        raise ValueError(
            f"Expected `adata.layers[{COUNTS_LAYER!r}]` to be free or equal to `{source}`, found other values there. "
            f"Pass `layer={COUNTS_LAYER!r}` to use them, or rename that layer."
        )


def _as_float(counts: Any) -> Any:
    """Copy in floating point that scanpy can normalise in place."""
    if isinstance(counts, sparse.sparray):  # `normalize_total` of scanpy 1.11 fails on sparse arrays
        counts = (sparse.csr_matrix if counts.format == "csr" else sparse.csc_matrix)(counts)
    return counts.copy() if counts.dtype.kind == "f" else counts.astype(np.float32)


def _as_before(x: Any, counts: Any) -> Any:
    """Normalised matrix in the format of the counts; scanpy makes csr of csc, and fails on sparse arrays."""
    if not sparse.issparse(counts):
        return x
    if isinstance(counts, sparse.sparray):
        return (sparse.csr_array if counts.format == "csr" else sparse.csc_array)(x)
    return x.asformat(counts.format)
