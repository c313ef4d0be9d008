"""Whether types keep their markers and how strongly these stand out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffaug.metrics._checks import as_codes, as_dense, check_count, check_same_columns
from diffaug.metrics._resample import ones

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MarkerAgreement:
    """How the markers of each type, against the rest, agree.

    Attributes
    ----------
    types
        Types that both sides have.
    recall
        Share of a type's real markers that are markers of it among synthetic cells, per type.
    slope
        Least-squares slope of the synthetic log-fold changes on the real ones over the type's markers, per type;
        under 1: attenuated.
    """

    types: tuple[str, ...]
    recall: Array
    slope: Array


def marker_agreement(
    real: ArrayLike,
    synthetic: ArrayLike,
    real_labels: ArrayLike,
    synthetic_labels: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    n_markers: int = 20,
    n_slope: int = 50,
) -> MarkerAgreement:
    """Compare marker recall and log-fold changes, every type against the rest.

    A log-fold change is the difference of the mean log expression of a type and of the rest. The rest is the mean of the
    other types' means, so that another composition of the synthetic cells changes nothing.

    Parameters
    ----------
    real, synthetic
        Log-normalised expression, shapes ``(n, g)`` and ``(m, g)``, dense.
    real_labels, synthetic_labels
        Types of the cells.
    reference, reference_labels
        Other real cells that choose the genes of the slope. Chosen on ``real``, the largest changes are partly luck, and
        the slope falls below 1 for any other cells. By default ``real``.
    n_markers
        Genes of the recall: those of the greatest effect (log-fold change in standard deviations).
    n_slope
        Genes of the slope: those of the greatest effect in either direction.

    Returns
    -------
    :class:`MarkerAgreement`.

    Raises
    ------
    TypeError, ValueError
        If arrays and labels do not fit, or the sides share fewer than two types.

    Examples
    --------
    >>> import numpy as np
    >>> rng, types = np.random.default_rng(0), np.repeat([0, 1], 50)
    >>> x = rng.normal(size=(100, 30)) + 3 * types[:, None] * (np.arange(30) < 9)
    >>> found = marker_agreement(x, x, types, types, n_markers=5)
    >>> found.recall.tolist()
    [1.0, 1.0]
    """
    a, b = as_dense(real, "real").astype(np.float64), as_dense(synthetic, "synthetic").astype(np.float64)
    check_same_columns(a, b, ("real", "synthetic"))
    check_count(n_markers, "n_markers")
    check_count(n_slope, "n_slope", least=2)
    if (reference is None) != (reference_labels is None):
        raise ValueError("Expected `reference` and `reference_labels` together, found one of them.")
    r = a if reference is None else as_dense(reference, "reference").astype(np.float64)
    labels = []
    for name, values, x in (
        ("real_labels", real_labels, a),
        ("synthetic_labels", synthetic_labels, b),
        ("reference_labels", real_labels if reference_labels is None else reference_labels, r),
    ):
        codes, names = as_codes(values, name, len(x))
        labels.append(names[codes].astype(str))
    types = sorted(set(labels[0]) & set(labels[1]) & set(labels[2]))
    if len(types) < 2:
        raise ValueError(f"Expected at least two types on both sides, found {len(types)}: {types}.")
    genes = slope_genes(r, labels[2], types, n_slope)
    recall, slope = marker_values(
        a, b, labels[0], labels[1], ones(len(a)), ones(len(b)), types, genes, n_markers=n_markers
    )
    return MarkerAgreement(tuple(types), recall[0], slope[0])


def slope_genes(x: Array, labels: NDArray, types: list[str], n: int) -> NDArray[np.intp]:
    """Genes of the greatest effect for each type, shape ``(n_types, n)``."""
    change, sd = _changes(x, labels, ones(len(x))[0], types)
    return np.argsort(-np.abs(change / sd), axis=1, kind="stable")[:, :n]


def marker_values(
    a: Array,
    b: Array,
    labels_a: NDArray,
    labels_b: NDArray,
    weights_a: Array,
    weights_b: Array,
    types: list[str],
    genes: NDArray[np.intp],
    *,
    n_markers: int = 20,
) -> tuple[Array, Array]:
    """Recall and slope for each line of weights and each type, two arrays of shape ``(lines, n_types)``."""
    recall, slope = (np.full((len(weights_a), len(types)), np.nan) for _ in range(2))
    for line, (wa, wb) in enumerate(zip(weights_a, weights_b, strict=True)):
        (real, sd_a), (made, sd_b) = (_changes(a, labels_a, wa, types), _changes(b, labels_b, wb, types))
        for i in range(len(types)):
            if not (np.isfinite(real[i]).all() and np.isfinite(made[i]).all()):
                continue  # a resample without this type
            top = [set(np.argsort(-v, kind="stable")[:n_markers]) for v in (real[i] / sd_a, made[i] / sd_b)]
            recall[line, i] = len(top[0] & top[1]) / len(top[0])
            x, y = real[i, genes[i]], made[i, genes[i]]
            slope[line, i] = x @ y / max(float(x @ x), 1e-12)
    return recall, slope


def _changes(x: Array, labels: NDArray, weights: Array, types: list[str]) -> tuple[Array, Array]:
    """Log-fold changes, shape ``(n_types, g)``, and the genes' standard deviations within types."""
    means = np.full((len(types), x.shape[1]), np.nan)
    within, total = np.zeros(x.shape[1]), 0.0
    for i, name in enumerate(types):
        rows = labels == name
        w = weights[rows]
        if w.sum() == 0:
            continue
        part = x[rows]
        means[i] = w @ part / w.sum()
        within += w @ np.square(part - means[i])
        total += w.sum()
    sd = np.sqrt(within / max(total, 1.0))
    rest = (np.nansum(means, axis=0) - means) / max(np.isfinite(means[:, 0]).sum() - 1, 1)
    # Genes of hardly any variance would have boundless effects by rounding alone.
    return means - rest, sd + 0.1 * float(np.median(sd)) + 1e-9
