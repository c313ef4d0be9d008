"""What every metric refuses, through every metric that takes such an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from diffaug import metrics
from diffaug.metrics._checks import as_codes, as_matrix

N = 60
X = np.random.default_rng(0).normal(size=(N, 4))
Y = np.repeat(["a", "b", "c"], N // 3)

LABELLED: dict[str, Callable[[Any, Any], Any]] = {
    "linear_probe": metrics.linear_probe,
    "knn_probe": metrics.knn_probe,
    "kmeans_scores": metrics.kmeans_scores,
    "neighbor_batch_entropy": metrics.neighbor_batch_entropy,
    "class_kept_share": lambda x, y: metrics.class_kept_share(x, y, X, Y),
}
DENSE: dict[str, Callable[[Any], Any]] = {
    **{name: lambda x, f=f: f(x, Y) for name, f in LABELLED.items()},
    "effective_rank": metrics.effective_rank,
    "trustworthiness": lambda x: metrics.trustworthiness(x, X),
    "neighbor_overlap": lambda x: metrics.neighbor_overlap(x, X),
    "semantic_cosine": lambda x: metrics.semantic_cosine(x, X),
}
EITHER: dict[str, Callable[[Any], Any]] = {
    "gene_agreement": lambda x: metrics.gene_agreement(x, X),
    "discriminator_auc": lambda x: metrics.discriminator_auc(x, X, space="features"),
}


def with_values(*values: float) -> np.ndarray:
    x = X.copy()
    x[0, : len(values)] = values
    return x


@pytest.mark.parametrize("name", [*DENSE, *EITHER])
@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (with_values(np.nan, np.inf), ValueError, "Expected finite values in .*found 1 NaN and 1 infinite"),
        (X[:, 0], ValueError, r"Expected a 2-D array \(rows x columns\) in .*found shape \(60,\)"),
        (X[None], ValueError, "Expected a 2-D array"),
        (X[:0], ValueError, "Expected at least .* rows and 1 column in"),
        (X[:, :0], ValueError, "Expected at least .* rows and 1 column in"),
        (X.astype(str), TypeError, "Expected real numbers in .*found dtype <U"),
        (X.astype(complex), TypeError, "Expected real numbers in .*found dtype complex128"),
    ],
    ids=["nan", "1d", "3d", "no rows", "no columns", "text", "complex"],
)
def test_bad_matrix(name: str, x: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        {**DENSE, **EITHER}[name](x)


@pytest.mark.parametrize("name", DENSE)
def test_sparse_is_refused_where_dense_is_needed(name: str) -> None:
    with pytest.raises(TypeError, match="Expected a dense array in .*found csr_array.*toarray"):
        DENSE[name](sparse.csr_array(X))


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_bad_values_of_a_sparse_matrix(name: str, form: Any) -> None:
    with pytest.raises(ValueError, match="Expected finite values in `real`, found 1 NaN and 0 infinite"):
        EITHER[name](form(with_values(np.nan)))
    with pytest.raises(TypeError, match="Expected real numbers in `real`, found dtype complex128"):
        EITHER[name](form(X.astype(complex)))


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        (Y[:-1], ValueError, "Expected 60 labels in .*one per row, found 59"),
        (Y[:, None], ValueError, r"Expected a 1-D array in .*found shape \(60, 1\)"),
        (np.where(Y == "a", np.nan, 1.0), ValueError, "Expected a label for every row in .*found 20 missing"),
        (np.where(Y == "a", None, Y), ValueError, "Expected a label for every row in .*found 20 missing"),
        (np.where(Y == "a", np.nan, Y.astype(object)), ValueError, "found 20 missing"),
        (np.where(Y == "a", 1, Y.astype(object)), TypeError, "Expected labels of one kind in"),
    ],
    ids=["too few", "2d", "NaN", "None", "NaN among text", "mixed"],
)
def test_bad_labels(name: str, y: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        LABELLED[name](X, y)


def test_codes_index_the_sorted_labels() -> None:
    codes, values = as_codes(["b", "a", "b"], "y", 3)
    np.testing.assert_array_equal(values, ["a", "b"])
    np.testing.assert_array_equal(codes, [1, 0, 1])


def test_the_callers_sparse_matrix_is_not_changed() -> None:
    x = sparse.csr_matrix((np.array([1.0, 2.0, 0.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    canonical = as_matrix(x, "x")
    np.testing.assert_array_equal(canonical.toarray(), [[0.0, 3.0], [0.0, 0.0]])
    assert canonical.nnz == 1
    np.testing.assert_array_equal(x.data, [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(x.indices, [1, 1, 0])


def test_all_names_exist_and_are_documented() -> None:
    for name in metrics.__all__:
        doc = getattr(metrics, name).__doc__
        assert doc, name
        wanted = ("Attributes",) if isinstance(getattr(metrics, name), type) else ("Parameters", "Returns", "Raises")
        for section in wanted:
            assert f"{section}\n    ---" in doc, f"{name} has no section {section}"
