"""One run, judged: against the functions that it stands on, and with what must tell embeddings apart."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import diffaug
from diffaug import metrics
from diffaug._model import Embedding
from diffaug.core.config import Config
from diffaug.core.plan import rate_in_force
from diffaug.reproduce import _measure
from diffaug.reproduce._arms import ARTEFACTS, resolve
from diffaug.reproduce._rows import Settings
from diffaug.reproduce._sets import Data, prepare

ARMS = {arm.key: arm for arm in ARTEFACTS["table4"].arms}


@pytest.fixture(scope="module")
def data() -> Data:
    return prepare("pbmc68k_reduced_scanpy", n_top_genes=1000, max_obs=150)


def fake(data: Data, x: np.ndarray, groups: np.ndarray | None = None) -> Data:
    return Data(data.name, data.adata, data.label_key, data.labels, groups)


def test_scores_are_those_of_the_same_fit_by_hand(data: Data, tiny: Settings) -> None:
    found = _measure.measure("diffaug", tiny.base, data, groups=["probes"], seed=3)
    adata = data.adata.copy()
    diffaug.tl.fit(adata, config=tiny.base, random_state=3, progress=False)
    x = adata.obsm["X_diffaug"]
    assert found["linear"] == metrics.linear_probe(x, data.labels).accuracy
    assert found["linear_balanced"] == metrics.linear_probe(x, data.labels).balanced_accuracy
    assert found["knn"] == metrics.knn_probe(x, data.labels).accuracy
    clusters = metrics.kmeans_scores(x, data.labels, n_init=5)
    assert found["n_left_out"] == sum(metrics.linear_probe(x, data.labels).dropped.values()) > 0
    assert isinstance(found["kmeans"], float) and 0 < clusters.accuracy < 1
    assert found["rank"] == pytest.approx(metrics.effective_rank(x), rel=1e-5)
    assert not [k for k in found if k.startswith("cosine") or k in ("kept", "map", "linear_2d", "linear_grouped")]


def test_the_seed_is_that_of_the_training(data: Data, tiny: Settings) -> None:
    first, again, other = (
        _measure.measure("diffaug", tiny.base, data, groups=["probes"], seed=s)["rank"] for s in (0, 0, 1)
    )
    assert first == again != other


def test_max_epochs_is_passed_on(data: Data, tiny: Settings) -> None:
    short = _measure.measure("diffaug", tiny.base, data, groups=["probes"], seed=0, max_epochs=3)
    assert short["rank"] != _measure.measure("diffaug", tiny.base, data, groups=["probes"], seed=0)["rank"]


def test_an_embedding_of_the_labels_is_perfect_and_noise_is_not(data: Data) -> None:
    rng = np.random.default_rng(0)
    codes = np.unique(data.labels, return_inverse=True)[1]
    good = np.eye(codes.max() + 1)[codes] + rng.normal(scale=0.01, size=(150, codes.max() + 1))
    noise = rng.normal(size=good.shape)
    assert _measure.probes(good, data)["linear"] == 1 and _measure.probes(good, data)["knn"] > 0.9
    assert _measure.probes(noise, data)["linear"] < 0.5
    assert _measure.probes_2d(good[:, :2], data.labels)["linear_2d"] < 1
    flat = _measure.probes_2d(np.stack([codes, codes**2], axis=1) + rng.normal(scale=0.01, size=(150, 2)), data.labels)
    assert flat["knn_2d"] > 0.9


def test_groups_keep_a_subject_on_one_side(data: Data) -> None:
    """An embedding that holds the subject alone is good where subjects leak, and worthless where they do not."""
    rng = np.random.default_rng(0)
    subject = np.arange(150) // 5
    labels = np.where(rng.permutation(30) % 2 == 0, "a", "b")[subject]
    x = np.eye(30)[subject] + rng.normal(scale=0.01, size=(150, 30))
    grouped = Data("x", data.adata, data.label_key, labels, subject.astype(str))
    found = _measure.probes(x, grouped)
    assert found["linear"] == 1 and float(found["linear_grouped"]) < 0.8
    assert "linear_grouped" not in _measure.probes(x, Data("x", data.adata, data.label_key, labels, None))
    assert "linear_grouped" not in _measure.probes(
        x, Data("x", data.adata, data.label_key, labels, np.full(150, "one"))
    )


def test_groups_that_hold_a_class_each_are_told(data: Data, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(150) % 2
    grouped = Data("x", data.adata, data.label_key, labels, labels.astype(str))
    with caplog.at_level("WARNING", "diffaug.reproduce"):
        assert "linear_grouped" not in _measure.probes(np.random.default_rng(0).normal(size=(150, 3)), grouped)
    assert "x: no score by group: Expected at least two classes" in caplog.text


def test_a_sweep_is_fits_of_their_own(data: Data, tiny: Settings) -> None:
    """Every score, those of the views among them; its seconds are the run's own."""
    base = tiny.base.updated("training", view_rate=0.9, adapt_view_rate=True)
    configs = [base.updated("training", view_rate=rate) for rate in (0.9, 0.2)]
    swept = list(_measure.measure_sweep(configs, data, groups=["probes", "views"], seed=1))
    for config, found in zip(configs, swept, strict=True):
        alone = _measure.measure("diffaug", config, data, groups=["probes", "views"], seed=1)
        assert set(found) == set(alone) and float(found.pop("seconds")) > 0
        assert found == pytest.approx({k: v for k, v in alone.items() if k != "seconds"})
    assert swept[0]["rank"] != pytest.approx(swept[1]["rank"])  # lambda does act (control)
    assert 0 < float(swept[0]["view_rate"]) < 0.9  # and was lowered


def test_the_lambda_in_force_is_recorded(data: Data, tiny: Settings) -> None:
    """What the history says, and 0 where no view was generated."""
    adata = data.adata.copy()
    model = diffaug.tl.fit(adata, config=tiny.base, random_state=2, progress=False)
    shown = sum(r.n_generated for r in model.history if r.phase == "A" and r.cycle > 0)
    of = sum(r.n_positives for r in model.history if r.phase == "A" and r.cycle > 0)
    found = _measure.measure("diffaug", tiny.base, data, groups=["probes"], seed=2)
    assert found["view_rate"] == rate_in_force(model.history)
    assert found["view_rate"] == pytest.approx(shown / of, abs=4 * np.sqrt(0.25 / of))
    for method, config in (("simclr", tiny.base), ("diffaug", resolve(ARMS["loop_off"], tiny.base))):
        assert _measure.measure(method, config, data, groups=["probes"], seed=2)["view_rate"] == 0


# --- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["A1", "A2", "A3"])
def test_views_of_every_condition(key: str, data: Data, tiny: Settings) -> None:
    found = _measure.measure("diffaug", resolve(ARMS[key], tiny.base), data, groups=["probes", "views"], seed=0)
    for kind in _measure.KINDS:
        quantiles = [float(found[f"cosine_{kind}_q{q:02}"]) for q in (5, 25, 50, 75, 95)]
        assert quantiles == sorted(quantiles) and -1 <= quantiles[0] and quantiles[-1] <= 1 + 1e-6
    assert 0 <= float(found["kept"]) < float(found["kept_real"]) <= 1  # a generator of four steps draws no cells


def test_cosines_are_those_of_view_similarity(data: Data, tiny: Settings) -> None:
    adata = data.adata.copy()
    model = diffaug.tl.fit(adata, config=tiny.base, progress=False)
    table = diffaug.tl.view_similarity(data.adata, model, random_state=2)
    found = _measure.views(model, data, 2)
    for kind, part in table.groupby("kind", observed=True)["cosine"]:
        assert found[f"cosine_{kind}_q50"] == pytest.approx(part.median())


def test_the_twin_has_no_views_to_judge(data: Data, tiny: Settings) -> None:
    found = _measure.measure("diffaug", resolve(ARMS["loop_off"], tiny.base), data, groups=["probes", "views"], seed=0)
    assert "linear" in found and not [k for k in found if k.startswith(("kept", "cosine"))]


def test_kept_tells_copies_from_shuffled_cells(data: Data, tiny: Settings) -> None:
    """Views that are the cells themselves reach the ceiling; views of other cells fall to chance."""
    x = np.asarray(data.adata.X.toarray(), dtype=np.float32)

    class Copies:
        config = tiny.base

        def __init__(self, shift: int) -> None:
            self.shift = shift

        def augment(self, part: np.ndarray, n_views: int, **_: Any) -> np.ndarray:
            assert n_views == 1
            return np.roll(part, self.shift, axis=0)[:, None]

    same = _measure._kept(Copies(0), data, 0)  # type: ignore[arg-type]
    other = _measure._kept(Copies(1), data, 0)  # type: ignore[arg-type]
    assert len(x) == 150
    assert same["kept"] == same["kept_real"] == other["kept_real"]
    assert float(other["kept"]) < 0.6 * float(same["kept"])


# --- maps ------------------------------------------------------------------------------------------------------------


def test_a_latent_of_two_dimensions_is_the_map(data: Data, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measure, "umap", None)  # not called
    flat = tiny.base.updated("domain", n_latent=2)
    found = _measure.measure("diffaug", flat, data, groups=["probes", "map"], seed=0)
    adata = data.adata.copy()
    diffaug.tl.fit(adata, config=flat, progress=False)
    expected = metrics.linear_probe(adata.obsm["X_diffaug_latent"], data.labels, protocol="tenfold").accuracy
    assert found["map"] == "latent" and found["linear_2d"] == expected


def test_any_other_embedding_is_mapped(data: Data, tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, ...], int]] = []

    def first_two(x: np.ndarray, seed: int) -> np.ndarray:
        seen.append((x.shape, seed))
        return x[:, :2]

    monkeypatch.setattr(_measure, "umap", first_two)
    found = _measure.measure("diffaug", tiny.base, data, groups=["probes", "map"], seed=4)
    assert found["map"] == "umap" and seen == [((150, 80), 4)] and 0 < float(found["linear_2d"]) < 1


@pytest.mark.slow  # umap compiles for half a minute
def test_the_map_is_a_umap() -> None:
    y = np.repeat([0, 1], 60)
    x = np.random.default_rng(0).normal(size=(120, 8)) + 8 * y[:, None]
    points = _measure.umap(x, 0)
    assert points.shape == (120, 2) and metrics.knn_probe(points, y).accuracy == 1
    assert (points == _measure.umap(x, 0)).all()


# --- baselines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A baseline that remembers how it was called."""
    calls: list[dict[str, Any]] = []

    class Baseline:
        def __init__(self, method: str, config: Config, *, random_state: int, device: str) -> None:
            calls.append({"method": method, "config": config, "random_state": random_state, "device": device})

        def fit(self, x: np.ndarray, *, max_epochs: int | None, progress: bool) -> Baseline:
            calls[-1] |= {"x": x, "max_epochs": max_epochs, "progress": progress}
            return self

        def embed(self, x: np.ndarray) -> Embedding:
            return Embedding(x[:, :9], x[:, :4])

    module = types.ModuleType("diffaug.baselines")
    module.Baseline = Baseline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffaug.baselines", module)
    yield calls


def test_a_baseline_gets_the_same_data_and_settings(data: Data, tiny: Settings, planted: list[dict[str, Any]]) -> None:
    found = _measure.measure("simclr", tiny.base, data, groups=["probes", "views"], seed=5, device="cpu", max_epochs=7)
    (call,) = planted
    x = call.pop("x")
    assert (x == data.adata.X.toarray()).all() and x.dtype == np.float32
    assert call == {
        "method": "simclr", "config": tiny.base, "random_state": 5, "device": "cpu", "max_epochs": 7, "progress": False
    }  # fmt: skip
    assert found["linear"] == metrics.linear_probe(x[:, :9], data.labels).accuracy
    assert "kept" not in found


@pytest.mark.parametrize("arm", [a for a in ARTEFACTS["table2"].arms if a.method != "diffaug"], ids=lambda a: a.key)
def test_the_real_baselines(arm: Any, data: Data, tiny: Settings) -> None:
    pytest.importorskip("diffaug.baselines", reason="needs diffaug.baselines, which this version lacks")
    found = _measure.measure(arm.method, resolve(arm, tiny.base), data, groups=["probes"], seed=0)
    assert 0.1 < float(found["linear"]) <= 1 and float(found["rank"]) > 1


def test_simclr_is_the_twin_under_its_loss(data: Data, tiny: Settings) -> None:
    """As the notes of Tables 2 and 5 say. The soft loss is another training (control)."""
    pytest.importorskip("diffaug.baselines", reason="needs diffaug.baselines, which this version lacks")
    twin = resolve(ARMS["loop_off"], tiny.base)
    simclr, same, soft = (
        _measure.measure(method, config, data, groups=["probes"], seed=0)["rank"]
        for method, config in (("simclr", tiny.base), ("diffaug", twin), ("diffaug", twin.updated("loss", name="soft")))
    )
    assert simclr == pytest.approx(same, rel=1e-4) and simclr != pytest.approx(soft, rel=1e-4)
