"""Probes against chance, against separable classes, and against groups that must not leak."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from diffaug.metrics import knn_probe, linear_probe, probes
from diffaug.metrics.probes import PROTOCOLS

FREE_PROTOCOLS = tuple(p for p in PROTOCOLS if p != "groups")  # those that need no groups
KNN_PROTOCOLS = ("holdout", "repeated", "tenfold")
N_FOLDS = {"holdout": 5, "repeated": 25, "tenfold": 10, "rbf": 5, "groups": 10}


def blobs(n_per_class: int = 60, n_classes: int = 3, d: int = 5, gap: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit Gaussians around far-apart corners."""
    y = np.tile(np.arange(n_classes), n_per_class)
    x = np.random.default_rng(0).normal(size=(len(y), d)) + gap * np.eye(n_classes, d)[y]
    return x, y


def both_probes() -> list[Any]:
    return [pytest.param(linear_probe, p, id=f"linear-{p}") for p in FREE_PROTOCOLS] + [
        pytest.param(knn_probe, p, id=f"knn-{p}") for p in KNN_PROTOCOLS
    ]


@pytest.mark.parametrize(("probe", "protocol"), both_probes())
def test_separable_classes_are_read_and_shuffled_labels_are_not(probe: Any, protocol: str) -> None:
    x, y = blobs()
    good = probe(x, y, protocol=protocol)
    assert good.accuracy == good.balanced_accuracy == 1.0
    assert good.accuracy_std == 0.0
    assert good.n_folds == len(good.folds) == N_FOLDS[protocol]
    assert (good.protocol, good.n_obs, good.n_classes, good.dropped) == (protocol, 180, 3, {})

    shuffled = probe(x, np.random.default_rng(1).permutation(y), protocol=protocol)
    assert abs(shuffled.balanced_accuracy - 1 / 3) < 0.12
    assert shuffled.accuracy == pytest.approx(shuffled.folds.mean())
    assert shuffled.accuracy_std == pytest.approx(shuffled.folds.std(ddof=1))
    assert shuffled.accuracy_std > 0


def test_only_the_rbf_protocol_reads_a_ring() -> None:
    """A class inside another: no line parts them. Which kernel a protocol uses is thus seen from outside."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 200), np.repeat([1.0, 3.0], 100)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.1, (200, 2))
    assert linear_probe(x, radius, protocol="rbf").accuracy > 0.98
    assert linear_probe(x, radius, protocol="repeated").accuracy < 0.7


def test_linear_probe_does_not_depend_on_the_scale_of_columns() -> None:
    x, y = blobs(gap=1.5)
    scaled = linear_probe(x * [1e-3, 1.0, 1e3, 1.0, 1.0] + 7.0, y)
    np.testing.assert_allclose(scaled.folds, linear_probe(x, y).folds, atol=0.03)


def test_scaling_is_fitted_on_training_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = probes.StandardScaler.fit
    monkeypatch.setattr(probes.StandardScaler, "fit", lambda self, x, y=None, **k: seen.append(len(x)) or fit(self, x))
    x, y = blobs()
    linear_probe(x, y, protocol="holdout")
    assert seen == [162] * 5


@pytest.mark.parametrize("protocol", FREE_PROTOCOLS)
def test_splits_partition_the_rows(protocol: Any) -> None:
    y = np.repeat(np.arange(4), [80, 60, 40, 20])
    splits = probes._splits(y, None, protocol, 0)
    assert len(splits) == N_FOLDS[protocol]
    n_test = 20 if protocol in ("holdout", "tenfold") else 40
    for train, test in splits:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(200))
        np.testing.assert_array_equal(np.bincount(y[test]), np.array([80, 60, 40, 20]) * n_test / 200)
    drawn = np.bincount(np.concatenate([test for _, test in splits]), minlength=200)
    if protocol != "holdout":
        assert set(drawn) == {5 if protocol == "repeated" else 1}
    different = {tuple(np.sort(test)) for _, test in splits}
    assert len(different) == len(splits)


@pytest.mark.parametrize(
    ("classifier", "reference"), [("svm", LinearSVC(dual=False)), ("logistic", LogisticRegression())]
)
def test_linear_classifiers_agree_with_scikit_learn(classifier: Any, reference: Any) -> None:
    x, y = blobs(gap=0.7)
    found = linear_probe(x, y, classifier=classifier, protocol="tenfold").folds
    wanted = [
        make_pipeline(StandardScaler(), reference).fit(x[train], y[train]).score(x[test], y[test])
        for train, test in probes._splits(y, None, "tenfold", 0)
    ]
    np.testing.assert_allclose(found, wanted)
    other = "svm" if classifier == "logistic" else "logistic"
    assert not np.array_equal(found, linear_probe(x, y, classifier=other, protocol="tenfold").folds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "forest"}, r"Expected `classifier` in \['svm', 'logistic'\], found 'forest'"),
        (
            {"classifier": "logistic", "protocol": "rbf"},
            "Expected `classifier` 'svm' with protocol 'rbf', found 'logistic'",
        ),
    ],
)
def test_bad_classifiers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_probe(*blobs(), **options)


def test_accuracies_agree_with_scikit_learn() -> None:
    x, y = blobs(gap=1.0)
    y = np.where((y == 2) & (np.arange(len(y)) % 4 > 0), 1, y)  # uneven classes: the two accuracies differ
    result = knn_probe(x, y, k=7, protocol="repeated")
    wanted = []
    for train, test in probes._splits(y, None, "repeated", 0):
        predicted = KNeighborsClassifier(7).fit(x[train], y[train]).predict(x[test])
        wanted.append((accuracy_score(y[test], predicted), balanced_accuracy_score(y[test], predicted)))
    np.testing.assert_allclose(result.folds, np.array(wanted)[:, 0])
    assert result.balanced_accuracy == pytest.approx(np.mean(wanted, axis=0)[1])
    assert abs(result.accuracy - result.balanced_accuracy) > 0.02


def test_a_constant_guess_has_a_high_accuracy_and_a_balanced_one_at_chance() -> None:
    x = np.zeros((100, 2))
    y = np.repeat([0, 1], [90, 10])
    result = linear_probe(x, y, protocol="repeated")
    assert result.accuracy == pytest.approx(0.9)
    assert result.balanced_accuracy == pytest.approx(0.5)


def donors(n_donors: int = 80, per_donor: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each donor is a point of his own and has one label, which has nothing to do with where he is."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_donors), per_donor)
    y = rng.permutation(np.arange(n_donors) % 2)[groups]
    x = rng.normal(size=(n_donors, 120))[groups] + rng.normal(0, 0.01, size=(len(groups), 120))
    return x, y, groups


@pytest.mark.parametrize(("probe", "protocol"), both_probes())
def test_groups_do_not_leak(probe: Any, protocol: str) -> None:
    x, y, groups = donors()
    options = {"k": 3} if probe is knn_probe else {}
    assert probe(x, y, protocol=protocol, **options).accuracy > 0.95  # the leak: the donor is recognised
    assert probe(x, y, protocol=protocol, groups=groups, **options).accuracy < 0.75
    names = np.array([f"donor {g}" for g in groups])
    by_name = probe(x, y, protocol=protocol, groups=names, **options)
    assert by_name.accuracy < 0.75


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_group_is_on_both_sides(protocol: Any) -> None:
    _, y, groups = donors()
    splits = probes._splits(y, groups, protocol, 0)
    assert len(splits) == N_FOLDS[protocol]
    for train, test in splits:
        assert not np.intersect1d(groups[train], groups[test]).size
        assert len(train) + len(test) == len(groups)
    if protocol == "holdout":
        assert {len(np.unique(groups[test])) for _, test in splits} == {8}


@pytest.mark.parametrize("n_groups", [2, 7, 10, 25])
def test_leaving_groups_out_tests_every_row_once(n_groups: int) -> None:
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.arange(n_groups), rng.integers(n_groups, size=200)])
    splits = probes._splits(rng.integers(3, size=len(groups)), groups, "groups", 0)
    assert len(splits) == min(n_groups, 10)
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(len(groups)))
    if n_groups <= 10:
        assert sorted(int(groups[test][0]) for _, test in splits) == list(range(n_groups))


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_leaving_groups_out_shows_the_leak(probe: Any) -> None:
    x, y, groups = donors()
    options = {"k": 3} if probe is knn_probe else {}
    assert probe(x, y, **options).accuracy > 0.95
    result = probe(x, y, protocol="groups", groups=groups, **options)
    assert result.accuracy < 0.75
    assert (result.protocol, result.n_folds) == ("groups", 10)
    other_seed = probe(x, y, protocol="groups", groups=groups, random_state=1, **options)
    np.testing.assert_array_equal(result.folds, other_seed.folds)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_a_class_missing_from_the_training_groups_counts_as_missed(probe: Any, n_classes: int) -> None:
    """The last class lives in two of twelve donors, and a seed is chosen that tests both at once."""
    x, y = blobs(n_per_class=96, n_classes=n_classes - 1)
    groups = np.arange(len(y)) * 12 // len(y)
    y[groups < 2] = n_classes - 1
    x = x + 12 * (y == n_classes - 1)[:, None] * np.eye(5)[4]

    def both_out(seed: int) -> list[bool]:
        return [np.isin([0, 1], groups[test]).all() for _, test in probes._splits(y, groups, "holdout", seed)]

    seed = next(s for s in range(500) if any(both_out(s)))
    result = probe(x, y, groups=groups, random_state=seed)
    np.testing.assert_array_equal(result.folds, np.where(both_out(seed), 0.0, 1.0))
    assert result.dropped == {}


def test_a_class_of_one_group_is_left_out() -> None:
    x, y = blobs(n_per_class=40, n_classes=2)
    groups = np.arange(80) // 2 % 2
    y = y + 2 * (np.arange(80) % 40 == 0)  # two rows, both of group 0
    assert linear_probe(x, y).dropped == {}
    assert linear_probe(x, y, groups=groups).dropped == {2: 2}


def test_small_classes_are_left_out_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    x, y = blobs()
    names = np.array(["a", "b", "c"], dtype=object)[y]
    names[:7] = "rare"
    with caplog.at_level(logging.WARNING, logger="diffaug.metrics.probes"):
        result = linear_probe(x, names, protocol="tenfold")
    assert result.dropped == {"rare": 7}
    assert (result.n_obs, result.n_classes) == (173, 3)
    assert "Left out 7 rows of classes too small for protocol 'tenfold': {'rare': 7}" in caplog.text
    without = linear_probe(x[7:], names[7:], protocol="tenfold")
    np.testing.assert_array_equal(result.folds, without.folds)
    assert linear_probe(x, names, protocol="repeated").dropped == {}
    single = np.where(np.arange(180) == 0, "single", names)
    assert linear_probe(x, single, protocol="holdout").dropped == {"single": 1}


def test_max_obs_keeps_the_proportions() -> None:
    y = np.repeat(np.arange(3), [500, 300, 7])
    rows = probes._stratified_rows(y, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(y[rows]), [62, 37, 1])
    assert len(np.unique(rows)) == 100
    assert not np.array_equal(rows, probes._stratified_rows(y, 100, np.random.default_rng(1)))
    x = np.random.default_rng(0).normal(size=(807, 2))
    result = knn_probe(x, y, max_obs=100)
    assert (result.n_obs, result.dropped) == (99, {2: 1})
    assert knn_probe(x, y, max_obs=10_000).n_obs == 807


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), max_obs=st.integers(2, 60), seed=st.integers(0, 99))
def test_stratified_rows_are_within_one_of_their_quota(sizes: list[int], max_obs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = probes._stratified_rows(y, max_obs, rng)
    n = len(y)
    assert len(np.unique(rows)) == len(rows) == min(n, max_obs)
    quota = np.array(sizes) * min(1.0, max_obs / n)
    assert np.abs(np.bincount(y[rows], minlength=len(sizes)) - quota).max() < 1


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_seeds(probe: Any) -> None:
    x, y = blobs(gap=1.0)
    first = probe(x, y, random_state=3)
    np.testing.assert_array_equal(first.folds, probe(x, y, random_state=3).folds)
    assert not np.array_equal(first.folds, probe(x, y, random_state=4).folds)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_number_formats_agree(probe: Any) -> None:
    x, y = blobs(gap=2.0)
    x = np.round(4 * x)
    wanted = probe(x, y).folds
    np.testing.assert_allclose(probe(x.astype(np.float32), y).folds, wanted, atol=0.06)
    np.testing.assert_array_equal(probe(x.astype(np.int32), y.astype(str)).folds, wanted)
    np.testing.assert_array_equal(probe(x.tolist(), list(y)).folds, wanted)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"protocol": "leave-one-out"}, ValueError, r"Expected `protocol` in \['holdout', .*found 'leave-one-out'"),
    ({"max_obs": 1}, ValueError, "Expected `max_obs` of at least 2, found 1"),
    ({"max_obs": 50.0}, TypeError, "Expected `max_obs` to be a whole number, found 50.0"),
    ({"groups": np.zeros(179)}, ValueError, "Expected 180 labels in `groups`, one per row, found 179"),
    (
        {"groups": np.arange(180) // 3 % 4, "protocol": "repeated"},
        ValueError,
        "Expected at least 5 groups for protocol 'repeated', found 4. Use protocol='holdout'",
    ),
    ({"protocol": "groups"}, ValueError, "Expected `groups` for protocol 'groups', found none"),
]


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_bad_options(probe: Any, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    x, y = blobs()
    with pytest.raises(kind, match=message):
        probe(x, y, **options)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_bad_classes(probe: Any) -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match="Expected at least two classes that are large enough .*found 1 among 1"):
        probe(x, np.zeros(180))
    with pytest.raises(ValueError, match="found 0 among 180"):
        probe(x, np.arange(180))
    with pytest.raises(ValueError, match="found 0 among 3"):
        probe(x, y, groups=np.zeros(180))
    with pytest.raises(ValueError, match="Expected a 10 % test set of at least 3 rows.*found 2 of 12"):
        probe(x[:12], y[:12])


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_groups_that_leave_a_fold_empty(probe: Any) -> None:
    """Five uneven groups of one class each: the splitter puts two of them into one of five folds."""
    groups = np.repeat(np.arange(5), [7, 1, 13, 11, 10])
    y = np.array([0, 0, 1, 1, 0])[groups]
    x = np.random.default_rng(0).normal(size=(42, 2))
    with pytest.raises(ValueError, match="Expected test rows in each of 5 folds.*5 groups are too few or too uneven"):
        probe(x, y, protocol="repeated", groups=groups)
    assert probe(x, y, protocol="holdout", groups=groups).n_folds == 5


def test_bad_k() -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match="Expected `k` of at least 1, found 0"):
        knn_probe(x, y, k=0)
    with pytest.raises(
        ValueError, match="Expected `k` of at most 162, the rows of the smallest training fold, found 163"
    ):
        knn_probe(x, y, k=163)
    with pytest.raises(ValueError, match="Expected `protocol` in .*found 'rbf'"):
        knn_probe(x, y, protocol="rbf")  # type: ignore[arg-type]


def test_probe_of_real_cells(data_dir: Any) -> None:
    """Principal components of PBMCs whose labels come from bead sorting, not from expression."""
    import anndata
    from sklearn.decomposition import PCA

    adata = anndata.read_h5ad(data_dir / "bio" / "pbmc_purified.h5ad")
    counts = adata.X.toarray().astype(np.float32)
    log = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    log = log[:, np.argsort(-log.var(axis=0))[:1000]]
    x = PCA(50, random_state=0).fit_transform(log)
    y = adata.obs["cell_type"].to_numpy()
    assert 0.75 < linear_probe(x, y, protocol="repeated").accuracy < 0.95
    assert linear_probe(x, np.random.default_rng(0).permutation(y)).balanced_accuracy < 0.2
