"""Whether real and synthetic rows are each other's neighbours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from diffaug.core.arguments import whole_number
from diffaug.core.neighbors import nearest_neighbors
from diffaug.metrics._checks import as_dense, check_same_columns
from diffaug.metrics._resample import ones

Array = NDArray[np.float64]


def mixing_score(real: ArrayLike, synthetic: ArrayLike, *, k: int = 30) -> float:
    """How well two sets of equal size mix: inverse Simpson index of the neighbourhoods, as in iLISI, minus 1.

    A neighbourhood with shares ``p`` real and ``q`` synthetic scores ``1 / (p^2 + q^2) - 1``. Neighbours weigh alike,
    where iLISI weighs them by a kernel.

    Parameters
    ----------
    real, synthetic
        Rows, shapes ``(n, d)`` and ``(m, d)``, dense; give equally many, or the larger set fills the neighbourhoods.
    k
        Neighbours of a row.

    Returns
    -------
    From 0, apart, to nearly 1, mixed: with ``k`` neighbours, chance alone takes about ``1 / k`` from it.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit or there are not more than ``k`` rows.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.random.default_rng(0).normal(size=(2, 100, 2))
    >>> mixing_score(a, b) > 0.9 and mixing_score(a, b + 50) == 0
    True
    """
    a, b = as_dense(real, "real"), as_dense(synthetic, "synthetic")
    check_same_columns(a, b, ("real", "synthetic"))
    whole_number("k", k, 1)
    if k >= len(a) + len(b):
        raise ValueError(f"Expected `k` under {len(a) + len(b)}, the number of rows, found {k}.")
    return float(mixing_values(a, b, ones(len(a)), ones(len(b)), k)[0])


def mixing_values(a: NDArray, b: NDArray, weights_a: Array, weights_b: Array, k: int = 30) -> Array:
    """:func:`mixing_score` for each line of weights, which say how much a row's neighbourhood counts."""
    rows = torch.from_numpy(np.vstack([a, b]).astype(np.float32))
    share = (nearest_neighbors(rows, k) < len(a)).double().mean(dim=1).numpy()
    scores = 1 / (share**2 + (1 - share) ** 2) - 1
    weights = np.hstack([weights_a, weights_b])
    return weights @ scores / weights.sum(axis=1)
