"""What every metric asks of its arrays; the messages say what was found and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Matrix = Any  # a 2-D numpy array or a scipy.sparse matrix or array


def as_dense(x: ArrayLike, name: str, *, min_rows: int = 2) -> NDArray[Any]:
    """``x`` as a finite 2-D float array; float32 stays float32, everything else becomes float64."""
    if sparse.issparse(x):
        raise TypeError(
            f"Expected a dense array in `{name}`, found {type(x).__name__}. "
            "Densify it with `.toarray()`, or reduce it first."
        )
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Expected real numbers in `{name}`, found dtype {array.dtype}.")
    _check_shape(array.shape, name, min_rows)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    _check_finite(array, name)
    return array


def as_matrix(x: Matrix, name: str, *, min_rows: int = 2) -> Matrix:
    """``x`` as a finite 2-D float array, or, where it is sparse, as a canonical CSR array that owns its values."""
    if not sparse.issparse(x):
        return as_dense(x, name, min_rows=min_rows)
    _check_shape(x.shape, name, min_rows)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"Expected real numbers in `{name}`, found dtype {x.dtype}.")
    dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float64
    array = sparse.csr_array(x, dtype=dtype, copy=True)  # a copy: the next two lines would change the caller's
    array.sum_duplicates()
    array.eliminate_zeros()
    _check_finite(array.data, name)
    return array


def as_codes(labels: ArrayLike, name: str, n_rows: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """One code per row, and the sorted distinct labels that the codes index."""
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"Expected a 1-D array in `{name}`, found shape {array.shape}.")
    if len(array) != n_rows:
        raise ValueError(f"Expected {n_rows} labels in `{name}`, one per row, found {len(array)}.")
    try:
        n_missing = int(np.sum(array != array))  # NaN is the value that differs from itself
        if array.dtype.kind == "O":
            n_missing += int(np.sum(array == np.array(None, dtype=object)))
        if n_missing == 0:
            values, codes = np.unique(array, return_inverse=True)
            return codes, values
    except TypeError as error:
        raise TypeError(f"Expected labels of one kind in `{name}` (all text or all numbers): {error}.") from error
    raise ValueError(f"Expected a label for every row in `{name}`, found {n_missing} missing. Drop those rows first.")


def check_same_rows(a: Matrix, b: Matrix, names: tuple[str, str]) -> None:
    """Refuse two matrices whose rows cannot correspond."""
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"Expected `{names[0]}` and `{names[1]}` to have the same rows, found {a.shape[0]} and {b.shape[0]}."
        )


def check_same_columns(a: Matrix, b: Matrix, names: tuple[str, str]) -> None:
    """Refuse two matrices whose columns cannot correspond."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"Expected `{names[0]}` and `{names[1]}` to have the same columns, found {a.shape[1]} and {b.shape[1]}."
        )


def check_choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of ``choices``."""
    if value not in choices:
        raise ValueError(f"Expected `{name}` in {list(choices)}, found {value!r}.")


def _check_shape(shape: tuple[int, ...], name: str, min_rows: int) -> None:
    if len(shape) != 2:
        raise ValueError(f"Expected a 2-D array (rows x columns) in `{name}`, found shape {shape}.")
    if shape[0] < min_rows or shape[1] < 1:
        raise ValueError(f"Expected at least {min_rows} rows and 1 column in `{name}`, found shape {shape}.")


def _check_finite(values: NDArray[Any], name: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        n_nan = int(np.isnan(values).sum())
        n_inf = int((~finite).sum()) - n_nan
        raise ValueError(
            f"Expected finite values in `{name}`, found {n_nan} NaN and {n_inf} infinite. Filter or impute them first."
        )
