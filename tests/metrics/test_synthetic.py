"""The discriminator and its floor, per-gene statistics, and class keeping, each with a control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from diffaug.metrics import class_kept_share, discriminator_auc, gene_agreement, semantic_cosine

D = 8
MIX = np.random.default_rng(99).normal(size=(D, D))


def rows(n: int, seed: int) -> np.ndarray:
    """Rows of one correlated Gaussian."""
    return np.random.default_rng(seed).normal(size=(n, D)) @ MIX


def auc(real: Any, synthetic: Any, **options: Any) -> Any:
    return discriminator_auc(real, synthetic, **{"n_components": 4, "n_estimators": 25, **options})


@pytest.mark.parametrize("space", ["pca", "features"])
def test_halves_of_one_distribution_cannot_be_told_apart_and_a_shift_can(space: Any) -> None:
    options = {"space": space, "projection": rows(300, 9) if space == "pca" else None}
    held_out, train = rows(300, 0), rows(250, 1)
    same = auc(held_out, rows(400, 2), floor_reference=train, **options)
    assert abs(same.auc - 0.5) < 0.08
    assert abs(same.floor - 0.5) < 0.08
    assert same.excess == same.auc - same.floor
    assert (same.n_per_class, same.n_features, same.space) == (250, 4 if space == "pca" else D, space)
    shifted = auc(held_out, rows(400, 2) + 4 * MIX[0], floor_reference=train, **options)
    assert shifted.auc > 0.95
    assert shifted.floor == same.floor  # the floor is about real rows only


def test_equal_means_and_variances_do_not_deceive_it() -> None:
    """Genes shuffled one by one: every marginal is kept, the correlations are gone."""
    synthetic = np.random.default_rng(5).permuted(rows(400, 2), axis=0)
    result = auc(rows(400, 0), synthetic, floor_reference=rows(400, 1), projection=rows(300, 9), n_components=7)
    assert result.auc > 0.75
    assert result.excess > 0.2


def test_projection_on_the_evaluated_rows_lifts_the_floor_and_is_refused() -> None:
    """Many more columns than rows: components fitted on H fit H better than any other real rows.

    The wrong floor is computed by hand, as discriminator_auc will not.
    """
    from sklearn.decomposition import PCA

    held_out, train, other = np.random.default_rng(0).normal(size=(3, 60, 800))
    pca = PCA(15, random_state=0).fit(held_out)
    wrong = auc(pca.transform(held_out), pca.transform(train), space="features").auc
    right = auc(held_out, train, projection=other, n_components=15).auc
    assert wrong > 0.9
    assert abs(right - 0.5) < 0.2
    with pytest.raises(ValueError, match="Expected `projection` to be apart from `real`, found 100% of the rows"):
        auc(held_out, train, projection=held_out)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_shared_rows_are_refused_whatever_their_order_or_form(form: Any) -> None:
    held_out, synthetic, train, apart = rows(120, 0), rows(120, 1), rows(120, 2), rows(200, 3)

    def refused(projection: np.ndarray, name: str, share: str) -> None:
        with pytest.raises(ValueError, match=f"apart from `{name}`, found {share} of the rows"):
            auc(form(held_out), synthetic, floor_reference=train, projection=form(projection))

    refused(held_out.copy(), "real", "100%")
    refused(held_out[::-1], "real", "100%")
    refused(np.vstack([apart, train[:60]]), "floor_reference", "50%")
    refused(np.vstack([held_out[:6], apart[:54]]), "real", "10%")
    # Control: apart, it goes through; and so it does with one row in 120 equal by chance, as of two empty cells.
    assert 0 < auc(form(held_out), synthetic, floor_reference=train, projection=form(apart)).auc < 1
    # Rows of the generator's are no reason to refuse: one that copies the projection has to be judged.
    assert 0 < auc(form(held_out), apart[:120], floor_reference=train, projection=form(apart)).auc < 1
    held_out[0] = apart[0] = 0.0
    assert 0 < auc(form(held_out), synthetic, floor_reference=train, projection=form(apart)).auc < 1


def test_slices_of_one_array_are_apart() -> None:
    x = rows(400, 0)
    assert abs(auc(x[:100], x[100:200], floor_reference=x[200:300], projection=x[300:]).auc - 0.5) < 0.15


@pytest.mark.parametrize("space", ["pca", "features"])
def test_sparse_and_dense_agree(space: Any) -> None:
    def counts(seed: int, rate: float = 0.5) -> np.ndarray:
        return np.random.default_rng(seed).poisson(rate, size=(150, 20)).astype(np.float32)

    sets = [counts(0), counts(1, 0.8), counts(2)]
    projection = counts(3) if space == "pca" else None

    def run(form: Any, other: Any) -> Any:
        return auc(
            form(sets[0]),
            other(sets[1]),
            floor_reference=form(sets[2]),
            projection=None if projection is None else form(projection),
            space=space,
        )

    dense, mixed = run(np.asarray, np.asarray), run(sparse.csr_matrix, np.asarray)
    both = run(sparse.csc_array, sparse.coo_array)
    assert dense.auc > dense.floor + 0.1
    tolerance = 0.03 if space == "pca" else 1e-12  # the solvers of the components differ in their last digits
    for other in (mixed, both):
        assert (other.auc, other.floor) == pytest.approx((dense.auc, dense.floor), abs=tolerance)


def test_a_shallow_forest_sees_less() -> None:
    synthetic = np.random.default_rng(5).permuted(rows(300, 2), axis=0)
    deep = auc(rows(300, 0), synthetic, space="features")
    assert auc(rows(300, 0), synthetic, space="features", max_depth=1).auc < deep.auc - 0.05


def test_sizes_and_seeds() -> None:
    options = {"projection": rows(100, 9), "n_estimators": 10}
    first = auc(rows(200, 0), rows(90, 1), max_obs=50, **options)
    assert (first.n_per_class, first.floor) == (50, None)
    assert first == auc(rows(200, 0), rows(90, 1), max_obs=50, **options)
    assert first.auc != auc(rows(200, 0), rows(90, 1), max_obs=50, random_state=1, **options).auc
    with pytest.raises(ValueError, match="Expected a floor, found none. Give `floor_reference`"):
        _ = first.excess


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "genes"}, r"Expected `space` in \['pca', 'features'\], found 'genes'"),
        ({"projection": None}, "Expected `projection`, real rows apart from the evaluated ones.*found none"),
        ({"space": "features"}, "Expected no `projection` with space='features', found one"),
        ({"n_components": 0}, "Expected `n_components` of at least 1, found 0"),
        ({"n_components": D}, r"Expected `n_components` under 8, the lesser side of `projection` \(60, 8\), found 8"),
        ({"n_estimators": 0}, "Expected `n_estimators` of at least 1, found 0"),
        ({"max_depth": 0}, "Expected `max_depth` of at least 1, found 0"),
        ({"max_obs": 9}, "Expected `max_obs` of at least 10, found 9"),
        ({"synthetic": rows(9, 1)}, r"Expected at least 10 rows and 1 column in `synthetic`, found shape \(9, 8\)"),
        ({"synthetic": rows(60, 1)[:, 1:]}, "Expected `real` and `synthetic` to have the same columns, found 8 and 7"),
        ({"floor_reference": rows(60, 1)[:, 1:]}, "Expected `real` and `floor_reference` to have the same columns"),
        ({"projection": rows(60, 1)[:, 1:]}, "Expected `real` and `projection` to have the same columns"),
        ({"projection": rows(60, 9) * np.nan}, "Expected finite values in `projection`, found 480 NaN"),
    ],
)
def test_bad_discriminator_input(options: dict[str, Any], message: str) -> None:
    arguments = {"real": rows(60, 0), "synthetic": rows(60, 1), "projection": rows(60, 9), "n_components": 4, **options}
    with pytest.raises(ValueError, match=message):
        discriminator_auc(**arguments)


# --- per-gene statistics


def counts(n: int, seed: int) -> np.ndarray:
    rate = np.random.default_rng(42).gamma(0.5, 2.0, size=30)
    return np.random.default_rng(seed).poisson(rate, size=(n, 30)).astype(np.float64)


def test_identical_matrices_agree_exactly() -> None:
    x = counts(80, 0)
    same = gene_agreement(x, x)
    assert (same.mean_r, same.variance_r, same.mean_slope) == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
    assert (same.variance_ratio, same.zero_fraction_error) == (1.0, 0.0)
    np.testing.assert_allclose(same.real_mean, x.mean(axis=0))
    np.testing.assert_allclose(same.real_variance, x.var(axis=0))
    np.testing.assert_allclose(same.real_zero_fraction, (x == 0).mean(axis=0))
    np.testing.assert_array_equal(same.real_mean, same.synthetic_mean)


def test_summaries_against_numpy() -> None:
    a, b = counts(80, 0), 0.5 * counts(60, 1) ** 1.1
    got = gene_agreement(a, b)
    log_a, log_b = np.log1p(a.mean(axis=0)), np.log1p(b.mean(axis=0))
    assert got.mean_r == pytest.approx(np.corrcoef(log_a, log_b)[0, 1])
    assert got.mean_slope == pytest.approx(np.polyfit(log_a, log_b, 1)[0])
    assert got.variance_r == pytest.approx(np.corrcoef(np.log1p(a.var(axis=0)), np.log1p(b.var(axis=0)))[0, 1])
    varies = a.var(axis=0) > 0
    assert got.variance_ratio == pytest.approx(np.median(b.var(axis=0)[varies] / a.var(axis=0)[varies]))
    assert got.zero_fraction_error == pytest.approx(np.abs((a == 0).mean(axis=0) - (b == 0).mean(axis=0)).mean())


def test_each_fault_moves_its_own_number() -> None:
    x = counts(400, 0)
    rng = np.random.default_rng(7)
    shrunk = gene_agreement(x, x.mean(axis=0) + 0.5 * (x - x.mean(axis=0)))
    assert shrunk.variance_ratio == pytest.approx(0.25)
    assert shrunk.mean_r == pytest.approx(1.0)
    swapped = gene_agreement(x, x[:, rng.permutation(30)])
    assert swapped.mean_r < 0.5
    filled = gene_agreement(x, x + 1e-6)
    assert filled.zero_fraction_error == pytest.approx((x == 0).mean())
    assert filled.mean_r == pytest.approx(1.0)
    attenuated = gene_agreement(x, np.expm1(0.5 * np.log1p(x.mean(axis=0))) * np.ones_like(x))
    assert attenuated.mean_slope == pytest.approx(0.5)


FORMS = [sparse.csr_matrix, sparse.csc_array, sparse.coo_array]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_sparse_genes_are_as_dense_ones(form: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = counts(80, 0).astype(dtype), counts(60, 1).astype(dtype)
    dense = gene_agreement(a, b)
    a_sparse, b_sparse = form(a), form(b)
    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_array):
        monkeypatch.setattr(kind, "toarray", lambda self, *args, **options: pytest.fail("densified"))
    other = gene_agreement(a_sparse, b_sparse)
    for name, value in vars(dense).items():
        np.testing.assert_allclose(getattr(other, name), value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_variance_of_a_high_mean_does_not_cancel() -> None:
    x = 1e8 + np.random.default_rng(0).integers(0, 2, size=(50, 3))
    wanted = x.var(axis=0)
    for form in (np.asarray, sparse.csr_array):
        np.testing.assert_allclose(gene_agreement(form(x), form(x)).real_variance, wanted, rtol=1e-6)


def test_explicit_zeros_are_zeros() -> None:
    x = sparse.csr_array((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    np.testing.assert_array_equal(gene_agreement(x, x).real_zero_fraction, [1.0, 0.5])


def test_undefined_summaries_are_nan() -> None:
    constant = np.full((10, 3), 0.1)  # its mean rounds; the variance must be 0 all the same
    for form in (np.asarray, sparse.csr_array):
        flat = gene_agreement(form(constant), form(2 * constant))
        assert np.isnan([flat.mean_r, flat.variance_r, flat.mean_slope, flat.variance_ratio]).all()
    standardised = rows(50, 0) - 10
    assert gene_agreement(standardised, standardised).mean_r == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(2, 30), m=st.integers(2, 30), density=st.floats(0.0, 1.0))
def test_sparse_statistics_of_any_density(seed: int, n: int, m: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = (np.where(rng.random((k, 6)) < density, rng.normal(size=(k, 6)), 0.0) for k in (n, m))
    dense, other = gene_agreement(a, b), gene_agreement(sparse.csr_array(a), sparse.csc_array(b))
    for name in ("real_mean", "synthetic_mean", "real_variance", "synthetic_variance", "real_zero_fraction"):
        np.testing.assert_allclose(getattr(other, name), getattr(dense, name), rtol=1e-9, atol=1e-12)


def test_bad_genes() -> None:
    with pytest.raises(ValueError, match="Expected `real` and `synthetic` to have the same columns, found 30 and 29"):
        gene_agreement(counts(20, 0), counts(20, 1)[:, 1:])
    with pytest.raises(ValueError, match="Expected at least 2 rows and 1 column in `synthetic`"):
        gene_agreement(counts(20, 0), counts(1, 1))


# --- views


def classes(n: int = 200, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 4
    return np.random.default_rng(0).normal(size=(n, 3)) + gap * np.eye(4, 3)[y], y


@pytest.mark.parametrize("k", [1, 3])
def test_kept_share_against_loops(k: int) -> None:
    reference, labels = classes()
    rng = np.random.default_rng(1)
    source = rng.integers(0, 200, size=80)
    views = reference[source] + rng.normal(0, 0.3, size=(80, 3))

    def by_hand(own_is_out: bool) -> float:
        total = 0
        for view, i in zip(views, source, strict=True):
            distance = np.linalg.norm(reference - view, axis=1)
            if own_is_out:
                distance[i] = np.inf
            total += (labels[np.argsort(distance)[:k]] == labels[i]).sum()
        return total / (80 * k)

    with_own = class_kept_share(views, labels[source], reference, labels, k=k)
    without = class_kept_share(views, labels[source], reference, labels, k=k, source_index=source)
    assert with_own == pytest.approx(by_hand(False))
    assert without == pytest.approx(by_hand(True))
    assert without < with_own  # the source flatters


def test_kept_share_of_copies_far_classes_and_random_views() -> None:
    reference, labels = classes(gap=1.0)
    everything = np.arange(200)
    assert class_kept_share(reference, labels, reference, labels) == 1.0
    ceiling = class_kept_share(reference, labels, reference, labels, source_index=everything)
    assert 0.3 < ceiling < 0.7
    far, _ = classes(gap=50.0)
    assert class_kept_share(far, labels, far, labels, source_index=everything) == 1.0
    unrelated = np.random.default_rng(3).permutation(far)
    assert class_kept_share(unrelated, labels, far, labels) == pytest.approx(0.25, abs=0.1)


def test_kept_share_knows_labels_by_name_not_by_code() -> None:
    """The views' labels are a part of the reference's: coded apart, 'b' would be 0 on one side and 1 on the other."""
    reference = np.array([[0.0], [10.0], [20.0]])
    assert class_kept_share([[10.1], [20.1]], ["b", "c"], reference, ["a", "b", "c"]) == 1.0
    assert class_kept_share([[10.1], [20.1]], ["b", "d"], reference, ["a", "b", "c"]) == 0.5


def test_bad_views() -> None:
    x, y = classes(n=20)
    with pytest.raises(ValueError, match="Expected `views` and `reference` to have the same columns, found 2 and 3"):
        class_kept_share(x[:, 1:], y, x, y)
    with pytest.raises(ValueError, match="Expected 20 labels in `reference_labels`, one per row, found 19"):
        class_kept_share(x, y, x, y[1:])
    with pytest.raises(TypeError, match="Expected integers in `source_index`, found dtype float64"):
        class_kept_share(x, y, x, y, source_index=np.zeros(20))
    with pytest.raises(ValueError, match=r"Expected shape \(20,\) in `source_index`, one per view, found \(3,\)"):
        class_kept_share(x, y, x, y, source_index=[1, 2, 3])
    with pytest.raises(ValueError, match="Expected `source_index` between 0 and 19, found 1 to 20"):
        class_kept_share(x, y, x, y, source_index=np.arange(1, 21))
    with pytest.raises(ValueError, match="Expected between 1 and 20 neighbours among 20 points, found k=21"):
        class_kept_share(x, y, x, y, k=20, source_index=np.arange(20))
    with pytest.raises(ValueError, match="Expected `k` of at least 1, found 0"):
        class_kept_share(x, y, x, y, k=0)
    with pytest.raises((TypeError, ValueError), match="Expected labels of one kind in `source_labels and reference"):
        class_kept_share(x, y.astype(object), x, y.astype(str).astype(object))


def test_cosine() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(50, 6))
    wanted = [x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(semantic_cosine(a, b), wanted)
    np.testing.assert_allclose(semantic_cosine(a, 3 * a), 1.0)
    np.testing.assert_allclose(semantic_cosine(a, -a), -1.0)
    np.testing.assert_allclose(semantic_cosine(1e-200 * a, 1e200 * b), wanted)
    assert np.abs(semantic_cosine(a.astype(np.float32), a.astype(np.float32))).max() <= 1.0


def test_bad_cosine() -> None:
    a = np.ones((4, 3))
    zero = np.where(np.arange(4)[:, None] < 2, 0.0, a)
    with pytest.raises(ValueError, match="Expected no zero vectors in `b`, found 2"):
        semantic_cosine(a, zero)
    with pytest.raises(ValueError, match="Expected `a` and `b` to have the same rows, found 4 and 3"):
        semantic_cosine(a, a[1:])
    with pytest.raises(ValueError, match="Expected `a` and `b` to have the same columns, found 3 and 2"):
        semantic_cosine(a, a[:, 1:])
