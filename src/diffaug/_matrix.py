"""What scale is an expression matrix on? Raw counts, logarithms, centred values, or none of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse

Kind = Literal["counts", "log", "scaled", "other"]

# log1p of counts per 10,000 stays below 9.3 and log2 of counts per million below 20; counts and rates soon exceed this.
MAX_LOG = 25.0

# Values looked at before all of them: nearly every matrix that is not whole numbers shows it here.
_PEEK = 4096


@dataclass(frozen=True)
class MatrixKind:
    """Summary of a matrix by its values alone.

    Parameters
    ----------
    kind
        By the first rule that holds, over the finite values: ``"scaled"`` has negative values; ``"counts"`` has whole
        numbers only, with a maximum of at least 1; ``"log"`` has a maximum of at most 25; ``"other"`` is the rest: rates
        or fractional counts that were not logged, all zeros, nothing finite. It is a reading of the values and not a
        proof: intensities in [0, 1] read as ``"log"``, and whole grey levels as ``"counts"``.
    min, max
        Over the finite values, the zeros that a sparse matrix does not store included; NaN if there are none.
    n_nonfinite, n_nonfinite_rows
        Values that are NaN or infinite, and rows with at least one of them.
    is_integer
        Whether all finite values are whole numbers exactly, in any dtype.
    zero_fraction
        Share of zeros among all values, stored or not; NaN for a matrix without values.
    is_sparse
        Whether the matrix is a scipy sparse one.
    """

    kind: Kind
    min: float
    max: float
    n_nonfinite: int
    n_nonfinite_rows: int
    is_integer: bool
    zero_fraction: float
    is_sparse: bool


def describe_matrix(x: Any) -> MatrixKind:
    """Find out what kind of values a matrix holds.

    Parameters
    ----------
    x
        NumPy array, or any scipy sparse array or matrix, of numbers or booleans, shape ``(n, d)``. It is not modified,
        and sparse ones are not made dense.

    Returns
    -------
    The summary, a :class:`MatrixKind`.

    Raises
    ------
    TypeError
        If ``x`` is not a matrix of real numbers.
    ValueError
        If ``x`` does not have two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from diffaug._matrix import describe_matrix
    >>> counts = np.array([[0, 3, 1], [2, 0, 0]])
    >>> describe_matrix(counts).kind
    'counts'
    >>> describe_matrix(np.log1p(counts)).kind
    'log'
    >>> describe_matrix(counts - counts.mean(axis=0)).kind
    'scaled'
    """
    is_sparse = sparse.issparse(x)
    if not is_sparse and (not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray)):
        raise TypeError(f"Expected a numpy array or a scipy sparse matrix, found {type(x).__name__}.")
    if x.dtype.kind not in "buif":
        raise TypeError(f"Expected a matrix of real numbers, found dtype {x.dtype}.")
    if x.ndim != 2:
        raise ValueError(f"Expected a matrix with two dimensions, found shape {x.shape}.")

    if is_sparse:
        x = _canonical(x)
    values = x.data if is_sparse else np.asarray(x)
    size = math.prod(x.shape)
    has_hidden_zeros = values.size < size
    finite, n_nonfinite, n_nonfinite_rows = _split_finite(x, values)

    ends = [float(finite.min()), float(finite.max())] if finite.size else []
    ends += [0.0] * has_hidden_zeros
    low, high = (min(ends), max(ends)) if ends else (math.nan, math.nan)
    is_integer = bool(ends) and _all_whole(finite)
    return MatrixKind(
        kind=_kind(low, high, is_integer),
        min=low,
        max=high,
        n_nonfinite=n_nonfinite,
        n_nonfinite_rows=n_nonfinite_rows,
        is_integer=is_integer,
        zero_fraction=1 - np.count_nonzero(values) / size if size else math.nan,
        is_sparse=is_sparse,
    )


def merged(parts: Sequence[tuple[MatrixKind, int]]) -> MatrixKind:
    """The summary of a matrix from those of its parts, each with the number of its values; there is at least one part."""
    kinds, sizes = [kind for kind, _ in parts], [size for _, size in parts]
    seen = [kind for kind in kinds if not math.isnan(kind.min)]
    low, high = (min(k.min for k in seen), max(k.max for k in seen)) if seen else (math.nan, math.nan)
    is_integer = bool(seen) and all(kind.is_integer for kind in seen)
    zeros = sum(kind.zero_fraction * size for kind, size in parts if size)
    return MatrixKind(
        kind=_kind(low, high, is_integer),
        min=low,
        max=high,
        n_nonfinite=sum(kind.n_nonfinite for kind in kinds),
        n_nonfinite_rows=sum(kind.n_nonfinite_rows for kind in kinds),
        is_integer=is_integer,
        zero_fraction=zeros / sum(sizes) if sum(sizes) else math.nan,
        is_sparse=kinds[0].is_sparse,
    )


def _kind(low: float, high: float, is_integer: bool) -> Kind:
    if low < 0:
        return "scaled"
    if is_integer and high >= 1:
        return "counts"
    if not is_integer and high <= MAX_LOG:
        return "log"
    return "other"


def _canonical(x: Any) -> Any:
    """Csr or csc without doubled entries, whose stored values are then those of the matrix; ``x`` itself if it is so."""
    if x.format not in ("csr", "csc"):
        x = x.tocsr()
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x


def _split_finite(x: Any, values: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Finite values, the number of others, and of rows with others; ``values`` itself where all are finite."""
    # The two ends are finite only if all values are, so the usual case needs no mask.
    if values.size == 0 or values.dtype.kind != "f" or _finite_ends(values):
        return values, 0, 0
    bad = ~np.isfinite(values)
    if values.ndim == 2:  # dense
        rows = np.flatnonzero(bad.any(axis=1))
    elif x.format == "csr":
        rows = np.unique(np.searchsorted(x.indptr, np.flatnonzero(bad), side="right") - 1)
    else:
        rows = np.unique(x.indices[bad])
    return values[~bad], int(bad.sum()), len(rows)


def _finite_ends(values: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _all_whole(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    head = values[: max(1, _PEEK // max(1, values.shape[-1]))] if values.ndim == 2 else values[:_PEEK]
    return all(bool((np.rint(part) == part).all()) for part in (head, values))
