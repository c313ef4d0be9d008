"""Whether types keep their markers and how strongly these stand out.

The slope of log-fold changes is biased in two ways if one set of real cells does everything. Genes whose changes are largest
in it owe that partly to luck, which no other cells share; and its noise adds to the squares that the slope is divided by.
Both draw the slope of any other cells, real ones too, below 1. So the real cells are halved: with the changes ``x1`` and
``x2`` of the halves and ``y`` of the synthetic cells, at genes that the first half chooses, the slope is
``x1 @ y / x1 @ x2``. Whatever the luck of ``x1``, it stands above and below alike, and the noise of ``x2`` and ``y`` has no
part in it. The sums over both orders of the halves are divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffaug.core.arguments import whole_number
from diffaug.metrics._checks import as_codes, as_dense, check_same_columns
from diffaug.metrics._resample import ones

Array = NDArray[np.float64]

LEAST_OF_HALF = 5
_ARRANGEMENTS = 20
_LEAST_AGREEMENT = 0.25  # of the halves' changes, as a cosine


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
        Slope of the synthetic log-fold changes on the real ones over the type's markers, per type; under 1: attenuated. NaN
        for types with fewer than ten real cells, or whose halves do not agree on any change.
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
    random_state: int = 0,
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
        Other real cells that choose the genes of the slope, which is then the least-squares one; the noise of few ``real``
        cells draws it below 1. By default halves of ``real`` choose for each other, which avoids that.
    n_markers
        Genes of the recall: those of the greatest effect (log-fold change in standard deviations).
    n_slope
        Genes of the slope: those of the greatest effect in either direction.
    random_state
        Seed of the halves.

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
    whole_number("n_markers", n_markers, 1)
    whole_number("n_slope", n_slope, 2)
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
    lines = ones(len(a)), ones(len(b))
    recall = recall_values(a, b, labels[0], labels[1], *lines, types, n_markers=n_markers)[0]
    made = type_means(b, labels[1], lines[1], types)
    if reference is None:
        first = random_half(labels[0], None, types, np.random.default_rng(random_state))[0]
        slope = slope_values(RealHalves.of(a, labels[0], lines[0], types, first, n_slope), made)[0]
    else:
        genes = slope_genes(r, labels[2], types, n_slope)
        x, y = (_changes(m)[0] for m in (type_means(a, labels[0], lines[0], types), made))
        x, y = (np.take_along_axis(v, genes, axis=1) for v in (x, y))
        slope = (x * y).sum(axis=1) / np.maximum((x * x).sum(axis=1), 1e-12)
    return MarkerAgreement(tuple(types), recall, slope)


def random_half(
    labels: NDArray, donors: NDArray | None, types: list[str], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], bool]:
    """Rows of the first half, and whether the halves are of different donors.

    They are where some arrangement of the donors leaves :data:`LEAST_OF_HALF` rows of every type (that has twice as many)
    on both sides; else each type is halved.
    """
    if donors is not None:
        names = np.unique(donors)
        large = [t for t in types if (labels == t).sum() >= 2 * LEAST_OF_HALF]
        for _ in range(_ARRANGEMENTS if len(names) > 1 else 0):
            first = np.isin(donors, rng.permutation(names)[: len(names) // 2])
            sizes = [int(((labels == t) & side).sum()) for t in large for side in (first, ~first)]
            if min(sizes, default=0) >= LEAST_OF_HALF:
                return first, True
    first = np.zeros(len(labels), dtype=bool)
    for name in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == name))
        first[rows[: len(rows) // 2]] = True
    return first, False


@dataclass(frozen=True, eq=False)
class RealHalves:
    """Two halves of the real cells: means of the types, shape ``(lines, n_types, g)``, and the genes that each chooses."""

    means: tuple[Array, Array]
    genes: tuple[NDArray[np.intp], NDArray[np.intp]]
    enough: NDArray[np.bool_]

    @classmethod
    def of(
        cls, x: Array, labels: NDArray, weights: Array, types: list[str], first: NDArray[np.bool_], n_genes: int
    ) -> RealHalves:
        """Halves of ``x`` for each line of weights; the genes are chosen once, on the rows as they are."""
        sides = (first, ~first)
        sizes = np.array([[int((labels[side] == t).sum()) for t in types] for side in sides])
        return cls(
            (
                type_means(x[sides[0]], labels[sides[0]], weights[:, sides[0]], types),
                type_means(x[sides[1]], labels[sides[1]], weights[:, sides[1]], types),
            ),
            (
                slope_genes(x[sides[0]], labels[sides[0]], types, n_genes),
                slope_genes(x[sides[1]], labels[sides[1]], types, n_genes),
            ),
            sizes.min(axis=0) >= LEAST_OF_HALF,
        )


def slope_values(real: RealHalves, made: Array) -> Array:
    """Slope for each line and type, shape ``(lines, n_types)``, from the :func:`type_means` of the synthetic rows."""
    lines = min(len(made), len(real.means[0]))
    means = [m[:lines].copy() for m in (*real.means, made)]
    # A type that is missing on one side has no part in the others' rest on any.
    absent = ~np.logical_and.reduce([np.isfinite(m[:, :, 0]) for m in means])
    for m in means:
        m[absent] = np.nan
    x1, x2, y = (_changes(m) for m in means)
    above, below, scale = np.zeros(absent.shape), np.zeros(absent.shape), np.zeros(absent.shape)
    for genes, (a, b) in zip(real.genes, ((x1, x2), (x2, x1)), strict=True):
        a, b, c = (np.take_along_axis(v, genes[None], axis=2) for v in (a, b, y))
        above += (a * c).sum(axis=2)
        below += (a * b).sum(axis=2)
        scale += np.sqrt((a * a).sum(axis=2) * (b * b).sum(axis=2))
    # The quotient of two numbers near 0 says nothing: of such a type the halves know no common change.
    known = (below > _LEAST_AGREEMENT * scale) & real.enough[None] & ~absent
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=known)


def type_means(x: Array, labels: NDArray, weights: Array, types: list[str]) -> Array:
    """Mean of each type for each line of weights, shape ``(lines, n_types, g)``; NaN for a line without the type."""
    means = np.full((len(weights), len(types), x.shape[1]), np.nan)
    for i, name in enumerate(types):
        rows = labels == name
        w = weights[:, rows]
        total = w.sum(axis=1)
        there = total > 0
        means[there, i] = w[there] @ x[rows] / total[there, None]
    return means


def _changes(means: Array) -> Array:
    """Log-fold changes of types against the mean of the other types' means."""
    n_others = np.isfinite(means[:, :, :1]).sum(axis=1, keepdims=True) - 1
    return means - (np.nansum(means, axis=1, keepdims=True) - means) / np.maximum(n_others, 1)


def slope_genes(x: Array, labels: NDArray, types: list[str], n: int) -> NDArray[np.intp]:
    """Genes of the greatest effect for each type, shape ``(n_types, n)``."""
    effect = _effects(x, labels, ones(len(x))[0], types)
    return np.argsort(-np.abs(effect), axis=1, kind="stable")[:, :n]


def recall_values(
    a: Array,
    b: Array,
    labels_a: NDArray,
    labels_b: NDArray,
    weights_a: Array,
    weights_b: Array,
    types: list[str],
    *,
    n_markers: int = 20,
) -> Array:
    """Recall of the markers for each line of weights and each type, shape ``(lines, n_types)``."""
    recall = np.full((len(weights_a), len(types)), np.nan)
    for line, (wa, wb) in enumerate(zip(weights_a, weights_b, strict=True)):
        real, made = _effects(a, labels_a, wa, types), _effects(b, labels_b, wb, types)
        for i in range(len(types)):
            if not (np.isfinite(real[i]).all() and np.isfinite(made[i]).all()):
                continue  # a resample without this type
            top = [set(np.argsort(-v[i], kind="stable")[:n_markers]) for v in (real, made)]
            recall[line, i] = len(top[0] & top[1]) / len(top[0])
    return recall


def _effects(x: Array, labels: NDArray, weights: Array, types: list[str]) -> Array:
    """Log-fold changes in standard deviations within types, shape ``(n_types, g)``."""
    means = type_means(x, labels, weights[None], types)
    within, total = np.zeros(x.shape[1]), 0.0
    for i, name in enumerate(types):
        rows = labels == name
        w = weights[rows]
        if w.sum() > 0:
            within += w @ np.square(x[rows] - means[0, i])
            total += w.sum()
    sd = np.sqrt(within / max(total, 1.0))
    # Genes of hardly any variance would have boundless effects by rounding alone.
    return _changes(means)[0] / (sd + 0.1 * float(np.median(sd)) + 1e-9)
