"""Labels of sequences, and which of them are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_labels(labels: ArrayLike) -> NDArray[Any]:
    """Labels as an array that still tells which are none; of a list, NumPy would turn a NaN among texts into ``'nan'``."""
    found = np.asarray(labels)
    if found.dtype.kind != "U" or isinstance(labels, np.ndarray):
        return found
    kept = np.asarray(labels, dtype=object)
    return found if all(isinstance(value, str) for value in kept.flat) else kept


def without_label(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a label is empty (in a .csv or .tsv file), ``None`` or NaN (in a .parquet file)."""
    import pandas as pd

    return np.asarray(pd.isna(labels)) | (np.char.strip(labels.astype(str)) == "")


def label_names(labels: ArrayLike, names: Sequence[str] | None = None) -> NDArray[np.str_]:
    """Labels as text, by which they are classes.

    Parameters
    ----------
    labels
        Shape ``(n,)``.
    names
        Of the sequences, for the error.

    Raises
    ------
    ValueError
        A sequence has no label: it would be of a class of all that have none.
    """
    found = as_labels(labels)
    rows = np.flatnonzero(without_label(found))
    if len(rows):
        first = f"at place {rows[0]}" if names is None else repr(names[rows[0]])
        raise ValueError(
            f"Expected a label of each of the {len(found)} sequences, found {len(rows)} without one (empty or NaN), the first "
            f"{first}. Leave these sequences out, or label them."
        )
    return found.astype(str)
