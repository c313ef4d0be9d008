"""Protocols are the package's metrics on the right array with the right splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from harness import protocols
from harness.protocols import DEFAULT, PROTOCOLS, Judged
from harness.store import Entry

from diffaug import metrics


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    x = (rng.normal(size=(120, 6)) + 3 * np.eye(6)[labels]).astype(np.float32)
    obs = pd.DataFrame(
        {"label": labels.astype(str), "group": (np.arange(120) // 3 % 4).astype(str)}, index=map(str, range(120))
    )
    data = AnnData(np.hstack([x, rng.normal(size=(120, 14))]).astype(np.float32), obs=obs)
    first, entry = Entry(tmp_path, 0), Entry(tmp_path, 1)
    first.write({}, x=rng.permutation(x))
    entry.write({}, x=x)
    return Judged(entry, "umap", data, first)


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for UMAP, which compiles for seconds; counts how often it is asked."""
    asked: list[int] = []

    def last_two(x: np.ndarray, seed: int) -> np.ndarray:
        asked.append(seed)
        return x[:, -2:]

    monkeypatch.setattr(protocols, "umap_of", last_two)
    return asked


@pytest.mark.parametrize("name", [n for n in PROTOCOLS if n != "scib"])
def test_every_protocol_gives_numbers(name: str, judged: Judged, maps: list[int]) -> None:
    found = PROTOCOLS[name].score(judged)
    assert found and all(np.isfinite(v) for v in found.values())
    if {"accuracy"} <= set(found) and "2d" not in name:
        assert found["accuracy"] > 0.8
    assert PROTOCOLS[name].score(judged) == found


def test_scores_are_those_of_the_package(judged: Judged, maps: list[int]) -> None:
    x, labels, groups = judged.x, judged.labels, judged.groups

    def accuracy(name: str) -> float:
        return PROTOCOLS[name].score(judged)["accuracy"]

    assert accuracy("linear") == metrics.linear_probe(x, labels, protocol="holdout").accuracy
    assert accuracy("linear5x5") == metrics.linear_probe(x, labels, protocol="repeated").accuracy
    assert accuracy("rbf") == metrics.linear_probe(x, labels, protocol="rbf").accuracy
    assert accuracy("knn") == metrics.knn_probe(x, labels, k=15).accuracy
    assert accuracy("linear2d") == metrics.linear_probe(x[:, -2:], labels, protocol="tenfold").accuracy
    grouped = metrics.linear_probe(x, labels, protocol="groups", groups=groups)
    assert accuracy("linear_grouped") == grouped.accuracy and grouped.n_folds == 4
    singles = [metrics.kmeans_scores(x, labels, n_init=5, random_state=s).nmi for s in range(5)]
    assert PROTOCOLS["kmeans"].score(judged)["nmi"] == pytest.approx(np.mean(singles))
    assert PROTOCOLS["stability"].score(judged)["neighbor_overlap"] < 0.3  # the first is shuffled


def test_leiden_finds_clusters_that_are_there_and_none_where_there_are_none(judged: Judged) -> None:
    found = PROTOCOLS["leiden"].score(judged)
    assert found["nmi"] > 0.6 and 3 <= found["n_clusters"] < 12  # resolution 1 splits small clouds
    shuffled = Judged(judged.first, "umap", judged.data)  # type: ignore[arg-type]
    assert PROTOCOLS["leiden"].score(shuffled)["ari"] < 0.1
    coarse = PROTOCOLS["leiden_coarse"].score(judged)
    assert 3 <= coarse["n_clusters_0.25"] <= coarse["n_clusters_0.5"] <= found["n_clusters"]
    assert coarse["nmi_0.25"] > found["nmi"]  # three clouds, three clusters


def test_a_map_is_made_once_and_kept(judged: Judged, maps: list[int]) -> None:
    np.testing.assert_array_equal(judged.map, judged.x[:, -2:])
    again = Judged(judged.entry, "umap", judged.data)
    np.testing.assert_array_equal(again.map, judged.map)
    assert maps == [1]  # with the seed of the run


@pytest.mark.parametrize("flat", ["native", "first"])
def test_methods_that_bring_a_map(flat: Any, judged: Judged, maps: list[int]) -> None:
    brought = Judged(judged.entry, flat, judged.data)
    np.testing.assert_array_equal(brought.map, judged.x[:, :2])
    assert maps == []


def test_the_default_is_all_but_the_slow_one() -> None:
    assert set(PROTOCOLS) - set(DEFAULT) == {"scib"}


def test_scib_metrics(judged: Judged) -> None:
    pytest.importorskip("scib_metrics", reason="needs scib-metrics, which the extra `bench` brings")
    found = PROTOCOLS["scib"].score(judged)
    assert {"iLISI", "Silhouette label"} <= set(found)
