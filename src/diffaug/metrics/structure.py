"""The shape of an embedding, without labels: rank, neighbourhoods, mixing of batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom
from sklearn import manifold

from diffaug.core import probes
from diffaug.core.arguments import whole_number
from diffaug.core.neighbors import nearest_neighbors
from diffaug.metrics._checks import as_codes, as_dense, check_same_rows


def effective_rank(x: ArrayLike) -> float:
    """Effective rank of the centred rows: how many directions an embedding uses (Roy & Vetterli 2007).

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.

    Returns
    -------
    Between 1 and ``min(n - 1, d)``; 0.0 when all rows are equal. A fall during training is the alarm of a collapse.
    The formula stands in :func:`diffaug.core.probes.effective_rank`.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric.
    ValueError
        If ``x`` is not a finite matrix of at least two rows.

    Examples
    --------
    >>> import numpy as np
    >>> round(effective_rank(np.vstack([np.eye(3), -np.eye(3)])), 6)
    3.0
    """
    return probes.effective_rank(torch.from_numpy(np.ascontiguousarray(as_dense(x, "x"))))


def trustworthiness(
    x: ArrayLike, embedding: ArrayLike, *, k: int = 15, max_obs: int | None = 2000, random_state: int = 0
) -> float:
    """How far the neighbours in an embedding are neighbours in the data (Venna & Kaski 2001), by scikit-learn.

    Parameters
    ----------
    x
        Data, shape ``(n, d)``, dense.
    embedding
        The same rows embedded, shape ``(n, e)``.
    k
        Size of the neighbourhoods; under half of the rows used.
    max_obs
        Rows used, drawn at random, because time and memory grow with their square; ``None`` for all. Fewer rows
        lie farther apart, so compare only values with equal ``max_obs``.
    random_state
        Seed of the drawing.

    Returns
    -------
    In [0, 1]; 1 when no row gains a false neighbour, about 0.5 for a random embedding.

    Raises
    ------
    TypeError
        If an array is sparse or not numeric.
    ValueError
        If the rows differ, values are not finite, or ``k`` is not under half of the rows used.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(60, 5))
    >>> trustworthiness(x, 2 * x, k=5)
    1.0
    """
    x, embedding = as_dense(x, "x"), as_dense(embedding, "embedding")
    check_same_rows(x, embedding, ("x", "embedding"))
    whole_number("k", k, 1)
    if max_obs is not None:
        whole_number("max_obs", max_obs, 2)
        if len(x) > max_obs:
            rows = np.sort(np.random.default_rng(random_state).permutation(len(x))[:max_obs])
            x, embedding = x[rows], embedding[rows]
    if 2 * k >= len(x):
        raise ValueError(f"Expected `k` under half of the {len(x)} rows, found {k}.")
    return float(manifold.trustworthiness(x, embedding, n_neighbors=k))


def neighbor_overlap(a: ArrayLike, b: ArrayLike, *, k: int = 15) -> float:
    """Mean share of the ``k`` nearest neighbours that a row has in both spaces.

    Parameters
    ----------
    a, b
        Two descriptions of the same rows, shapes ``(n, d)`` and ``(n, e)``, dense.
    k
        Size of the neighbourhoods.

    Returns
    -------
    In [0, 1]; ``k / (n - 1)`` on average for unrelated spaces.

    Raises
    ------
    TypeError
        If an array is sparse or not numeric.
    ValueError
        If the rows differ, values are not finite, or there are not ``k`` other rows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(60, 5))
    >>> neighbor_overlap(x, 2 * x, k=5)
    1.0
    """
    a, b = as_dense(a, "a"), as_dense(b, "b")
    check_same_rows(a, b, ("a", "b"))
    whole_number("k", k, 1)
    both = np.sort(np.concatenate([_neighbors(a, k), _neighbors(b, k)], axis=1), axis=1)
    # A row's list holds no index twice, so equal values side by side are the shared ones.
    return float((both[:, 1:] == both[:, :-1]).sum() / (len(a) * k))


def neighbor_batch_entropy(x: ArrayLike, batch: ArrayLike, *, k: int = 15) -> float:
    r"""How well batches are mixed: entropy of the batches around a row, relative to perfect mixing.

    .. math::
        \operatorname{score} = \frac{\sum_i H(\hat p_i)}{\sum_i \mathbb E\,H(\hat p_i)}

    where :math:`\hat p_i` holds the shares of the batches among the ``k`` nearest neighbours of row i, and the
    expectation is over neighbours drawn at random from all other rows (multivariate hypergeometric, computed
    exactly). A few neighbours show less entropy than their population; dividing by the expectation, not by the
    entropy of the batch sizes, puts perfect mixing at 1 for every ``k``. Batches of different composition are not
    meant to mix: there, compare within a class.

    Parameters
    ----------
    x
        Embedding, shape ``(n, d)``, dense.
    batch
        Batch of each row, shape ``(n,)``; numbers or text.
    k
        Size of the neighbourhoods, at least 2.

    Returns
    -------
    In [0, 1]: 0 when all neighbours are of one batch, 1 for perfect mixing. Values that chance lifts over 1 are cut.

    Raises
    ------
    TypeError
        If ``x`` is sparse or not numeric, or the batches are of mixed kinds.
    ValueError
        If shapes do not fit, values are missing or not finite, there is one batch only, or not ``k`` other rows.

    Examples
    --------
    >>> import numpy as np
    >>> batch = np.repeat(["a", "b"], 50)
    >>> x = np.random.default_rng(0).normal(size=(100, 3)) + 100 * (batch == "a")[:, None]
    >>> neighbor_batch_entropy(x, batch)
    0.0
    """
    x = as_dense(x, "x")
    codes, batches = as_codes(batch, "batch", len(x))
    n, n_batches = len(x), len(batches)
    if n_batches < 2:
        raise ValueError(f"Expected at least two batches in `batch`, found {n_batches}.")
    whole_number("k", k, 2)
    around = codes[_neighbors(x, k)]
    cell = np.arange(n)[:, None] * n_batches + around
    share = np.bincount(cell.ravel(), minlength=n * n_batches).reshape(n, n_batches) / k
    observed = _entropy_terms(share).sum(axis=1).mean()

    sizes = np.bincount(codes)
    others = sizes[None, :] - np.eye(n_batches, dtype=sizes.dtype)  # a row is not its own neighbour
    count = np.arange(k + 1)
    probability = hypergeom.pmf(count, n - 1, others[:, :, None], k)  # batch of the row, batch, count
    expected = (probability * _entropy_terms(count / k)).sum(axis=(1, 2))
    return float(min(observed / expected[codes].mean(), 1.0))


def _entropy_terms(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-p log p, and 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))


def _neighbors(x: NDArray[Any], k: int) -> NDArray[np.int64]:
    return nearest_neighbors(torch.from_numpy(np.ascontiguousarray(x)), k).numpy()
