"""Whether synthetic rows pass for real ones, gene by gene and cell by cell, and whether views keep their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from diffaug.core.arguments import whole_number
from diffaug.core.neighbors import nearest_neighbors
from diffaug.metrics._checks import (
    Matrix,
    as_codes,
    as_dense,
    as_matrix,
    check_choice,
    check_same_columns,
    check_same_rows,
)
from diffaug.metrics.memorization import row_fingerprints

_FOLDS = 5
_CHANCE_SHARE = 0.01  # rows that two honest samples may share: empty cells, cells of a few counts


@dataclass(frozen=True)
class DiscriminatorResult:
    """How well a random forest tells synthetic from real rows.

    Attributes
    ----------
    auc
        Area under the ROC curve of out-of-fold probabilities; 0.5 when the two cannot be told apart.
    floor
        The same for two sets of real rows, or ``None`` without a ``floor_reference``.
    n_per_class
        Rows on each side, in both comparisons.
    n_features
        Features that the forest saw.
    space
        "pca" or "features".
    """

    auc: float
    floor: float | None
    n_per_class: int
    n_features: int
    space: str

    @property
    def excess(self) -> float:
        """``auc - floor``: what is left to explain when real rows differ among themselves."""
        if self.floor is None:
            raise ValueError("Expected a floor, found none. Give `floor_reference` to `discriminator_auc`.")
        return self.auc - self.floor


def discriminator_auc(
    real: Matrix,
    synthetic: Matrix,
    *,
    floor_reference: Matrix | None = None,
    projection: Matrix | None = None,
    space: Literal["pca", "features"] = "pca",
    n_components: int = 30,
    n_estimators: int = 100,
    max_depth: int | None = None,
    max_obs: int | None = None,
    random_state: int = 0,
) -> DiscriminatorResult:
    """Train a random forest to tell synthetic rows from real ones; report the AUC beside its floor.

    The probabilities are out of fold (5 stratified folds, pooled). Both sides have equally many rows, and the floor
    as many as the value it stands under. The real rows should be held out from the training of the generator, and
    the synthetic ones must not be made from them: a near copy on the other side pushes the AUC under 0.5.

    Parameters
    ----------
    real
        Held-out real rows H, shape ``(n, d)``; dense or ``scipy.sparse``.
    synthetic
        Generated rows, shape ``(m, d)``, on the same scale.
    floor_reference
        Real rows that the generator was trained on (T). The floor is the AUC of ``real`` against them.
    projection
        Real rows P on which the principal components are fitted, for ``space="pca"`` only. They must be none of the
        other real rows: components fitted on the rows under test fit these better than any others, and make real
        rows look fake. Synthetic rows that copy them are judged like any others.
    space
        Features of the forest: "pca", principal components (mean and axes of ``projection``), or "features", the
        columns as they are.
    n_components
        Number of principal components.
    n_estimators, max_depth
        Trees of the forest, and their greatest depth (``None``: unrestricted).
    max_obs
        Greatest number of rows on each side; by default all of the smallest set.
    random_state
        Seed of the subsampling, the folds and the forest.

    Returns
    -------
    The AUC, its floor, and the number of rows and features behind them.

    Raises
    ------
    TypeError
        If a matrix is not numeric.
    ValueError
        If the columns differ, values are not finite, a set has fewer than ten rows, ``projection`` is missing with
        "pca" or given with "features", or ``projection`` shares more than 1 % of its own or another real set's rows
        with that set.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> held_out, train, other = rng.normal(size=(3, 100, 5))
    >>> result = discriminator_auc(
    ...     held_out, train + 5, floor_reference=train, projection=other, n_components=2, n_estimators=20
    ... )
    >>> result.auc > 0.95 and 0.3 < result.floor < 0.7
    True
    """
    check_choice(space, "space", ("pca", "features"))
    whole_number("n_estimators", n_estimators, 1)
    if max_depth is not None:
        whole_number("max_depth", max_depth, 1)
    if (space == "pca") != (projection is not None):
        raise ValueError(
            "Expected `projection`, real rows apart from the evaluated ones to fit the PCA on, found none."
            if space == "pca"
            else "Expected no `projection` with space='features', found one. Leave it out, or use space='pca'."
        )
    sets = {"real": real, "synthetic": synthetic}
    if floor_reference is not None:
        sets["floor_reference"] = floor_reference
    sets = {name: as_matrix(values, name, min_rows=2 * _FOLDS) for name, values in sets.items()}
    for name in sets:
        check_same_columns(sets["real"], sets[name], ("real", name))

    n_per_class = min(values.shape[0] for values in sets.values())
    if max_obs is not None:
        whole_number("max_obs", max_obs, 2 * _FOLDS)
        n_per_class = min(n_per_class, max_obs)
    pca = None if projection is None else _fit_projection(projection, sets, n_components, random_state)

    rng = np.random.default_rng(random_state)
    features = {}
    for name, values in sets.items():
        drawn = values[np.sort(rng.permutation(values.shape[0])[:n_per_class])]
        features[name] = drawn if pca is None else pca.transform(drawn)
    forest = RandomForestClassifier(n_estimators, max_depth=max_depth, random_state=random_state)
    return DiscriminatorResult(
        auc=_out_of_fold_auc(forest, features["real"], features["synthetic"], random_state),
        floor=(
            _out_of_fold_auc(forest, features["real"], features["floor_reference"], random_state)
            if floor_reference is not None
            else None
        ),
        n_per_class=n_per_class,
        n_features=features["real"].shape[1],
        space=space,
    )


def _fit_projection(projection: Matrix, sets: dict[str, Matrix], n_components: int, random_state: int) -> PCA:
    """Principal components of ``projection``, which must be apart from the rows under test."""
    whole_number("n_components", n_components, 1)
    projection = as_matrix(projection, "projection")
    check_same_columns(sets["real"], projection, ("real", "projection"))
    if n_components >= min(projection.shape):
        raise ValueError(
            f"Expected `n_components` under {min(projection.shape)}, the lesser side of `projection` "
            f"{projection.shape}, found {n_components}."
        )
    prints = row_fingerprints(projection)
    for name, values in sets.items():
        if name == "synthetic":
            continue  # a generator that copies rows has to be judged, not to stop the judge
        other = row_fingerprints(values)
        share = max(np.isin(other, prints).mean(), np.isin(prints, other).mean())
        if share > _CHANCE_SHARE:
            raise ValueError(
                f"Expected `projection` to be apart from `{name}`, found {share:.0%} of the rows of one in the other. "
                "A PCA fitted on the evaluated rows makes real ones look fake. Set other real rows aside for it."
            )
    solver = "arpack" if sparse.issparse(projection) else "auto"
    return PCA(n_components, svd_solver=solver, random_state=random_state).fit(projection)


def _out_of_fold_auc(forest: RandomForestClassifier, a: Matrix, b: Matrix, random_state: int) -> float:
    """AUC for telling the rows of ``b`` from those of ``a``."""
    if sparse.issparse(a) and sparse.issparse(b):
        rows = sparse.vstack([a, b], format="csr")
    else:
        rows = np.vstack([m.toarray() if sparse.issparse(m) else m for m in (a, b)])
    truth = np.repeat([0, 1], [a.shape[0], b.shape[0]])
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=random_state)
    probability = cross_val_predict(forest, rows, truth, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(truth, probability))


@dataclass(frozen=True, eq=False)
class GeneAgreement:
    """Per-gene statistics of real and synthetic rows, and how they agree.

    Attributes
    ----------
    real_mean, synthetic_mean, real_variance, synthetic_variance, real_zero_fraction, synthetic_zero_fraction
        Shape ``(n_genes,)``. Variances divide by the number of rows; a zero is a value of exactly 0.
    mean_r, variance_r
        Pearson correlation over genes of the log means and log variances, with ``log`` is ``sign(v) * log(1 + |v|)``, so that
        standardised data has one too. NaN when one side is the same for all genes.
    mean_slope
        Least-squares slope of the synthetic log means on the real ones; under 1: differences between genes are
        attenuated. NaN when the real means are the same for all genes.
    variance_ratio
        Median of synthetic / real variance over the genes that vary in the real rows; under 1: variance was lost.
        NaN when no gene varies.
    zero_fraction_error
        Mean absolute difference of the zero fractions.
    """

    real_mean: NDArray[np.float64]
    synthetic_mean: NDArray[np.float64]
    real_variance: NDArray[np.float64]
    synthetic_variance: NDArray[np.float64]
    real_zero_fraction: NDArray[np.float64]
    synthetic_zero_fraction: NDArray[np.float64]
    mean_r: float
    variance_r: float
    mean_slope: float
    variance_ratio: float
    zero_fraction_error: float


def gene_agreement(real: Matrix, synthetic: Matrix) -> GeneAgreement:
    """Compare mean, variance and zero fraction of every gene.

    These are marginals: shuffling every gene over the cells leaves them as they are. Read them beside
    :func:`discriminator_auc`.

    Parameters
    ----------
    real, synthetic
        Shapes ``(n, n_genes)`` and ``(m, n_genes)``, on the same scale; dense or ``scipy.sparse``, which stays sparse.

    Returns
    -------
    The statistics of both sides and the summaries.

    Raises
    ------
    TypeError
        If a matrix is not numeric.
    ValueError
        If the columns differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).poisson(2.0, size=(100, 5))
    >>> gene_agreement(x, x).zero_fraction_error
    0.0
    """
    real, synthetic = as_matrix(real, "real"), as_matrix(synthetic, "synthetic")
    check_same_columns(real, synthetic, ("real", "synthetic"))
    mean_a, var_a, zero_a = _gene_statistics(real)
    mean_b, var_b, zero_b = _gene_statistics(synthetic)
    varies = var_a > 0
    return GeneAgreement(
        real_mean=mean_a,
        synthetic_mean=mean_b,
        real_variance=var_a,
        synthetic_variance=var_b,
        real_zero_fraction=zero_a,
        synthetic_zero_fraction=zero_b,
        mean_r=_pearson_and_slope(_signed_log(mean_a), _signed_log(mean_b))[0],
        variance_r=_pearson_and_slope(_signed_log(var_a), _signed_log(var_b))[0],
        mean_slope=_pearson_and_slope(_signed_log(mean_a), _signed_log(mean_b))[1],
        variance_ratio=float(np.median(var_b[varies] / var_a[varies])) if varies.any() else float("nan"),
        zero_fraction_error=float(np.abs(zero_a - zero_b).mean()),
    )


def _gene_statistics(x: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, variance and zero fraction of the columns, in float64."""
    n, n_genes = x.shape
    # Deviations from the first row, then from the mean, then squares: a constant gene has a variance of exactly 0 (its
    # rounding would ruin the ratio), and nothing cancels for genes of high mean and small spread.
    if not sparse.issparse(x):
        first = x[0].astype(np.float64)
        deviation = np.subtract(x, first, dtype=np.float64)
        mean = deviation.mean(axis=0)
        deviation -= mean
        variance = np.einsum("ij,ij->j", deviation, deviation) / n
        return first + mean, variance, 1.0 - np.count_nonzero(x, axis=0) / n
    gene, values = x.indices, x.data.astype(np.float64)
    n_zero = n - np.bincount(gene, minlength=n_genes)
    first = np.zeros(n_genes)
    first[gene[: x.indptr[1]]] = values[: x.indptr[1]]
    deviation = values - first[gene]
    mean = (np.bincount(gene, weights=deviation, minlength=n_genes) - n_zero * first) / n
    squares = np.bincount(gene, weights=(deviation - mean[gene]) ** 2, minlength=n_genes)
    return first + mean, (squares + n_zero * (first + mean) ** 2) / n, n_zero / n


def _signed_log(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(v) * np.log1p(np.abs(v))


def _pearson_and_slope(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of ``a`` and ``b``, and the least-squares slope of ``b`` on ``a``."""
    constant_a, constant_b = np.ptp(a) == 0, np.ptp(b) == 0  # exact; a centred constant may leave rounding behind
    a, b = a - a.mean(), b - b.mean()
    slope = float("nan") if constant_a else float((a @ b) / (a @ a))
    r = float("nan") if constant_a or constant_b else float((a @ b) / np.sqrt((a @ a) * (b @ b)))
    return r, slope


def class_kept_share(
    views: ArrayLike,
    source_labels: ArrayLike,
    reference: ArrayLike,
    reference_labels: ArrayLike,
    *,
    k: int = 1,
    source_index: ArrayLike | None = None,
) -> float:
    """Share of the real neighbours of views that have the class of the view's source.

    Neighbours are Euclidean, in the space that the arrays are given in: hand over the same projection of both, for
    example principal components fitted on training cells. The ceiling, what real rows reach, is
    ``class_kept_share(reference, reference_labels, reference, reference_labels, source_index=np.arange(n))``.

    Parameters
    ----------
    views
        Generated views, shape ``(n_views, d)``, dense.
    source_labels
        Class of the row that each view was made from, shape ``(n_views,)``.
    reference
        Real rows, shape ``(n, d)``, dense.
    reference_labels
        Their classes, shape ``(n,)``.
    k
        Neighbours of each view; with 1, the result is the share of views whose nearest real row has their class.
    source_index
        Row of ``reference`` that each view was made from, shape ``(n_views,)``. It is then not a neighbour of its own
        view, which would flatter views that hardly moved.

    Returns
    -------
    In [0, 1].

    Raises
    ------
    TypeError
        If an array is sparse or not numeric, the labels are of mixed kinds, or ``source_index`` is not of integers.
    ValueError
        If shapes do not fit, values are missing or not finite, ``source_index`` points outside of ``reference``, or
        there are not ``k`` neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> class_kept_share([[0.2], [9.0]], ["a", "a"], reference, ["a", "a", "b", "b"])
    0.5
    """
    views, reference = as_dense(views, "views", min_rows=1), as_dense(reference, "reference", min_rows=1)
    check_same_columns(views, reference, ("views", "reference"))
    as_codes(source_labels, "source_labels", len(views))
    as_codes(reference_labels, "reference_labels", len(reference))
    # Coded together, so that equal labels have equal codes.
    codes, _ = as_codes(
        np.concatenate([np.asarray(source_labels), np.asarray(reference_labels)]),
        "source_labels and reference_labels",
        len(views) + len(reference),
    )
    own, others = codes[: len(views)], codes[len(views) :]
    whole_number("k", k, 1)
    dtype = np.promote_types(views.dtype, reference.dtype)
    query, ref = (torch.from_numpy(np.ascontiguousarray(m, dtype=dtype)) for m in (views, reference))
    if source_index is None:
        found = nearest_neighbors(query, k, reference=ref).numpy()
    else:
        source = _as_source_index(source_index, len(views), len(reference))
        found = nearest_neighbors(query, k + 1, reference=ref).numpy()
        is_source = found == source[:, None]
        order = np.argsort(is_source, axis=1, kind="stable")[:, :k]  # the source goes last, the rest stays in order
        found = np.take_along_axis(found, order, axis=1)
    return float((others[found] == own[:, None]).mean())


def _as_source_index(source_index: ArrayLike, n_views: int, n_reference: int) -> NDArray[Any]:
    source = np.asarray(source_index)
    if source.dtype.kind not in "iu":
        raise TypeError(f"Expected integers in `source_index`, found dtype {source.dtype}.")
    if source.shape != (n_views,):
        raise ValueError(f"Expected shape ({n_views},) in `source_index`, one per view, found {source.shape}.")
    if source.min() < 0 or source.max() >= n_reference:
        raise ValueError(
            f"Expected `source_index` between 0 and {n_reference - 1}, found {source.min()} to {source.max()}."
        )
    return source


def semantic_cosine(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Cosine similarity of corresponding rows, such as the semantic vectors of cells and of their views (Fig. 5).

    Parameters
    ----------
    a, b
        Shape ``(n, d)``, dense.

    Returns
    -------
    Shape ``(n,)``, in [-1, 1].

    Raises
    ------
    TypeError
        If an array is sparse or not numeric.
    ValueError
        If the shapes differ, values are not finite, or a row is all zeros.

    Examples
    --------
    >>> semantic_cosine([[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]])
    array([1., 0.])
    """
    a, b = as_dense(a, "a", min_rows=1), as_dense(b, "b", min_rows=1)
    check_same_rows(a, b, ("a", "b"))
    check_same_columns(a, b, ("a", "b"))
    return np.clip((_unit_rows(a, "a") * _unit_rows(b, "b")).sum(axis=1), -1.0, 1.0)


def _unit_rows(x: NDArray[Any], name: str) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    largest = np.abs(x).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError(f"Expected no zero vectors in `{name}`, found {int((largest == 0).sum())}: no direction.")
    x = x / largest  # squares of very small or very large entries leave the range of float64
    return x / np.linalg.norm(x, axis=1, keepdims=True)
