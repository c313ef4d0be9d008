"""The cells domain: scaling, zeros, neighbours, views."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from diffaug import DiffAug
from diffaug.backends import cells
from diffaug.backends.cells import CellsBackend, CellsConfig, cell_neighbors
from diffaug.core.networks import AdaptiveResidualMLP, BottleneckMLP, Listing2

SMALL = {
    "training": {"n_encoders": 1, "warmup_epochs": 4, "generator_epochs": 60, "mixed_epochs": 4, "batch_size": 50},
    "diffusion": {"n_steps": 8},
    "domain": {"encoder_hidden": [32], "n_semantic": 8, "n_latent": 8, "generator_width": 32, "generator_depth": 1},
}


def prepared(x: Any, **settings: Any) -> CellsBackend:
    backend = CellsBackend(CellsConfig(**settings), CellsBackend.event_shape_of(x))
    backend.prepare(x)
    return backend


def log_normalised(counts: anndata.AnnData) -> np.ndarray:
    x = counts.X.toarray()
    return np.log1p(x / x.sum(axis=1, keepdims=True) * 1e4)


# --- scaling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_sparse_is_scaled_as_dense(counts: anndata.AnnData, form: Any, dtype: str) -> None:
    x = counts.X.toarray().astype(dtype)
    dense, sparse = prepared(x), prepared(form(x))
    reference = x.astype(np.float64)
    for backend in (dense, sparse):
        np.testing.assert_allclose(backend.mean, reference.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(backend.std, reference.std(axis=0), rtol=1e-6)
        np.testing.assert_allclose(backend.marginals.whole.zero_share, (reference == 0).mean(axis=0), rtol=1e-6)
        assert bool(backend.non_negative)
    for name, value in dense.state_dict().items():
        torch.testing.assert_close(sparse.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    scaled = sparse.to_model(form(x))
    torch.testing.assert_close(scaled, dense.to_model(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(dim=0, unbiased=False), 1, atol=1e-4)


@pytest.mark.parametrize("scaling", ["pareto", "standard"])
def test_the_encoder_sees_features_of_the_settings_scaling(scaling: Any) -> None:
    """Pareto scaling divides by the root of the standard deviation: of two features, the nine times wider one is three times wider."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 4)) * [1, 9, 1, 9]).astype(np.float32)
    backend = prepared(x, scaling=scaling, encoder_hidden=(6,))
    encoder, seen = backend.make_encoder(), list[torch.Tensor]()
    encoder.body.register_forward_pre_hook(lambda net, given: seen.append(given[0]))
    encoder(backend.to_model(x))
    spread = seen[0].std(dim=0)
    assert float(seen[0].square().mean()) == pytest.approx(1, abs=0.05)  # rare values are clipped
    ratio = 3 if scaling == "pareto" else 1
    torch.testing.assert_close(spread[[1, 3]] / spread[[0, 2]], torch.full((2,), float(ratio)), rtol=0.1, atol=0)
    assert ("weights" in dict(encoder.named_buffers())) == (scaling == "pareto")


def test_constant_and_very_wide_features_do_not_rule_the_scaling() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [0.01 * rng.normal(size=(300, 90)), np.zeros((300, 40)), 1e4 * rng.normal(size=(300, 1))], axis=1
    )
    narrow = prepared(x[:, :130].astype(np.float32)).make_encoder().weights
    torch.testing.assert_close(narrow[:90].square().mean(), torch.tensor(1.0))  # the constant ones do not count
    assert prepared(x.astype(np.float32)).make_encoder().weights.max() == 3


def test_neighbors_are_those_of_the_settings_scaling() -> None:
    """A narrow feature tells the groups apart, a wide one is noise: standardised, the groups are nearer than in Pareto scaling."""
    rng = np.random.default_rng(0)
    group = np.arange(200) % 2
    x = np.stack([0.1 * group + 0.01 * rng.normal(size=200), 1000 * rng.normal(size=200)], axis=1).astype(np.float32)
    shares = {}
    for scaling in ("standard", "pareto"):
        backend = prepared(x, scaling=scaling, views="mixup", n_neighbors=5)
        data, index = backend.to_model(x), torch.arange(200)
        views = backend.hand_views(data)(index, torch.Generator().manual_seed(0))
        kept = (views[:, 0] > 0).numpy() == (group == 1)
        shares[scaling] = kept.mean()
    assert shares["standard"] > 0.98 > shares["pareto"] + 0.1


@pytest.mark.parametrize("sparse", [False, True])
def test_constant_feature_is_not_blown_up(sparse: bool) -> None:
    """Rounding errors of the moments must not pass for spread: division by them would make noise of unit size."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 1, size=(5000, 4)).astype(np.float32)
    x[:, 1], x[:, 2] = 7.3, 0.0
    data = sp.csr_matrix(x) if sparse else x
    backend = prepared(data)
    assert backend.std[[1, 2]].tolist() == [1.0, 1.0]
    scaled = backend.to_model(data)
    assert scaled[:, [1, 2]].abs().max() < 1e-5
    np.testing.assert_allclose(backend.from_model(scaled)[:, 1:3], x[:, 1:3], rtol=1e-6)


def test_small_spread_around_a_large_mean() -> None:
    rng = np.random.default_rng(0)
    x = (1000 + 0.1 * rng.normal(size=(5000, 3))).astype(np.float32)
    for data in (x, sp.csr_matrix(x)):
        np.testing.assert_allclose(prepared(data).std, x.astype(np.float64).std(axis=0), rtol=1e-5)


def test_doubled_entries_are_summed(counts: anndata.AnnData) -> None:
    x = counts.X
    data, indices = np.repeat(x.data / 2, 2), np.repeat(x.indices, 2)
    doubled = sp.csr_matrix((data, indices, x.indptr * 2), shape=x.shape)
    assert not doubled.has_canonical_format
    once, twice = prepared(x), prepared(doubled)
    for name, value in once.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(twice.to_model(doubled), once.to_model(x))
    assert len(doubled.data) == len(data)  # the caller's matrix is as it was


def test_input_is_not_written_to(counts: anndata.AnnData) -> None:
    for x in (counts.X.toarray(), counts.X.copy()):
        x_values = x.data if sp.issparse(x) else x
        kept = np.array(x_values)
        x_values.flags.writeable = False
        backend = prepared(x)
        backend.to_model(x).fill_(3)
        np.testing.assert_array_equal(x_values, kept)


def test_extreme_values_are_clipped_for_the_encoder_and_the_generator(counts: anndata.AnnData) -> None:
    x = log_normalised(counts)
    model = DiffAug({**SMALL, "training": {"n_cycles": 0, "warmup_epochs": 2, "mixed_epochs": 0}}, device="cpu")
    model.fit(x, progress=False)
    at, beyond = x[:1].copy(), x[:1].copy()
    limit = 10 * model.backend.std[3] + model.backend.mean[3]
    at[0, 3], beyond[0, 3] = limit, 1e4
    np.testing.assert_allclose(model.embed(at).semantic, model.embed(beyond).semantic, rtol=1e-5, atol=1e-6)
    assert np.abs(model.embed(at).semantic - model.embed(x[:1]).semantic).max() > 1e-3
    clipped = model.backend.to_generator(model.backend.to_model(beyond), torch.Generator())
    assert float(clipped.max()) == 10
    # The way back knows no limit, so that a hand-made view of such a cell keeps its value.
    np.testing.assert_allclose(model.backend.from_model(model.backend.to_model(beyond))[0, 3], 1e4, rtol=1e-5)


def test_zero_stays_exactly_zero(counts: anndata.AnnData) -> None:
    """Not 1e-8: a sparse matrix would store it."""
    x = log_normalised(counts)
    backend = prepared(x)
    back = backend.from_model(backend.to_model(x))
    np.testing.assert_array_equal(back == 0, x == 0)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)


# --- the generated distribution --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[DiffAug, np.ndarray]:
    """A model of 400 log-normalised cells of which 60 % of the values are zero."""
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, 1.0, size=30) + 3 * (np.arange(400)[:, None] % 3 == np.arange(30) % 3)
    x = rng.poisson(mean * rng.gamma(2, 0.5, size=(400, 1)))
    x = np.log1p(x / np.maximum(x.sum(axis=1, keepdims=True), 1) * 1e3).astype(np.float32)
    assert 0.3 < (x == 0).mean() < 0.8
    return DiffAug(SMALL, device="cpu").fit(x, progress=False), x


def test_generated_cells_have_the_zeros_of_the_training_cells(fitted: tuple[DiffAug, np.ndarray]) -> None:
    model, x = fitted
    made = model.generate(2000, random_state=1).values
    error = np.abs((made == 0).mean(axis=0) - (x == 0).mean(axis=0))
    assert error.mean() < 0.02
    assert error.max() < 0.08
    # Below the smallest value of its gene there is only zero itself: no specks.
    smallest = np.where(x > 0, x, np.inf).min(axis=0)
    assert ((made == 0) | (made > 0.5 * smallest)).all()


def test_generated_cells_have_the_marginals_of_the_training_cells(fitted: tuple[DiffAug, np.ndarray]) -> None:
    model, x = fitted
    made = model.generate(2000, random_state=1).values
    for q in (0.25, 0.5, 0.75, 0.95):
        error = np.abs(np.quantile(made, q, axis=0) - np.quantile(x, q, axis=0)) / x.std(axis=0)
        assert np.median(error) < 0.1
    assert (made.max(axis=0) <= x.max(axis=0) * 1.0001).all()


def test_without_calibration_the_zeros_are_wrong(
    fitted: tuple[DiffAug, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the two tests above: the bare network's draws, cut at zero, do not have them."""
    model, x = fitted
    monkeypatch.setattr(CellsBackend, "from_generator", lambda self, g, strata=None: g)
    made = model.generate(2000, random_state=1).values
    assert np.abs((made == 0).mean(axis=0) - (x == 0).mean(axis=0)).mean() > 0.1


def test_condition_matters(fitted: tuple[DiffAug, np.ndarray]) -> None:
    """Cells generated under a type's cells are nearer to that type's mean than to the others'."""
    model, x = fitted
    made = model.generate(source=np.arange(400)).values
    means = np.stack([x[k::3].mean(axis=0) for k in range(3)])
    nearest = ((made[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(400) % 3).mean() > 0.6  # a third by chance


@pytest.mark.parametrize("kind", ["diffaug", "mixup", "feature_swap"])
def test_no_view_is_negative(fitted: tuple[DiffAug, np.ndarray], kind: str) -> None:
    model, x = fitted
    for strength in (0.3, 1.0) if kind == "diffaug" else (1.0,):
        assert model.augment(x[:50], 4, kind=kind, strength=strength).min() == 0
    assert model.generate(500).values.min() == 0


def test_negative_values_are_kept_where_the_training_cells_had_them() -> None:
    x = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
    x[:, 3] = 0.0
    model = DiffAug(SMALL, device="cpu").fit(x, progress=False)
    assert not bool(model.backend.non_negative)
    made = model.generate(500).values
    assert 0.3 < (made[:, :3] < 0).mean() < 0.7
    assert (made[:, 3] == 0).all()
    np.testing.assert_allclose(model.backend.from_model(model.backend.to_model(x)), x, atol=1e-5)
    assert (model.backend.marginals.whole.zero_share == 0).all()


@pytest.mark.parametrize("kind", ["all_zero", "constant", "one_value", "huge_outlier"])
def test_odd_features_are_generated_within_their_range(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(2, size=(120, 6))).astype(np.float32)
    x[:, 2] = {"all_zero": 0.0, "constant": 1.5, "one_value": 0.0, "huge_outlier": x[:, 2]}[kind]
    if kind == "one_value":
        x[7, 2] = 3.0
    if kind == "huge_outlier":
        x[7, 2] = 1e5
    model = DiffAug(SMALL, device="cpu").fit(x, progress=False)
    made = model.generate(300).values
    assert np.isfinite(made).all()
    assert made[:, 2].min() >= x[:, 2].min() - 1e-4
    assert made[:, 2].max() <= x[:, 2].max() * 1.0001
    if kind in ("all_zero", "constant"):
        np.testing.assert_allclose(made[:, 2], x[0, 2], rtol=1e-6)


def test_levels_of_large_sets_are_read_from_some_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(5000, 3)).astype(np.float32)
    every = prepared(x).marginals.whole.levels
    monkeypatch.setattr(cells, "_CELLS_FOR_LEVELS", 1000)
    some = prepared(x)
    np.testing.assert_allclose(some.mean, x.mean(axis=0), rtol=1e-5)  # the scaling still knows all
    inner = slice(5, -5)
    assert not torch.equal(some.marginals.whole.levels, every)
    np.testing.assert_allclose(some.marginals.whole.levels[:, inner], every[:, inner], rtol=0.15, atol=0.05)


# --- strata of depth -------------------------------------------------------------------------------------------------


def sequenced(n: int = 2000, n_genes: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts of cells of one kind and very different depths, and log1p of their shares times 1,000."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(n_genes, 0.3), size=n)
    counts = rng.poisson(share * rng.uniform(30, 600, size=n)[:, None])
    counts[:, 0] += 1  # no empty cell
    return counts, np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1000).astype(np.float32)


def fano(counts: np.ndarray) -> np.ndarray:
    return counts.var(axis=0) / counts.mean(axis=0)


def test_hand_views_leave_their_data_alone() -> None:
    """Neighbours are looked for in a copy of the features that is centred in place."""
    data = torch.randn(80, 60, generator=torch.Generator().manual_seed(0))
    backend, before = prepared(data.numpy()), data.clone()
    backend.hand_views(data, kind="mixup")
    assert torch.equal(data, before)
    torch.testing.assert_close(
        cell_neighbors(data.clone(), 5, 20, overwrite=True), cell_neighbors(data, 5, 20), rtol=0, atol=0
    )


def test_strata_are_of_depth() -> None:
    counts, x = sequenced()
    backend = prepared(x)
    strata = backend.strata(backend.to_model(x))
    assert strata is not None
    depth = counts.sum(axis=1)
    for low, high in zip(range(4), range(1, 5), strict=True):
        assert depth[strata == low].max() <= depth[strata == high].min()
    assert torch.bincount(strata).numpy() == pytest.approx(400, abs=5)  # but for cells of equal depth
    torch.testing.assert_close(prepared(sp.csr_matrix(x)).marginals.edges, backend.marginals.edges)


def test_a_drawn_cell_has_values_that_its_depth_can_have() -> None:
    """Whatever the generator draws: at random the whole set's marginals give deep cells the values of shallow ones."""
    counts, x = sequenced()
    drawn = torch.randn(len(x), x.shape[1], generator=torch.Generator().manual_seed(0))
    depth = counts.sum(axis=1, keepdims=True)

    def error(n_depth_strata: int) -> float:
        backend = prepared(x, n_depth_strata=n_depth_strata)
        strata = backend.strata(backend.to_model(x))
        backend.calibrate(drawn, strata)
        made = backend.from_model(backend.from_generator(drawn, strata))
        assert abs((made == 0).mean() - (x == 0).mean()) < 0.005
        return float(np.median(fano(np.expm1(made) * depth / 1000) / fano(counts)))

    assert error(1) > 1.08
    assert error(5) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kind", ["measurements", "negative", "few cells", "one depth", "huge", "one feature", "empty"])
def test_without_counts_of_several_depths_there_are_no_strata(kind: str) -> None:
    rng = np.random.default_rng(0)
    counts, x = sequenced(300 if kind == "few cells" else 2000)
    if kind == "measurements":
        x = rng.gamma(2.0, size=x.shape).astype(np.float32)
    elif kind == "negative":
        x = x - 1
    elif kind == "one depth":
        x = np.log1p(counts).astype(np.float32)
    elif kind == "huge":
        x = x * 1e4
    elif kind == "one feature":
        x = x[:, :1]
    elif kind == "empty":
        x[:1700] = 0
    backend = prepared(x)
    assert backend.strata(backend.to_model(x)) is None
    backend.calibrate(torch.randn(500, x.shape[1]), None)
    assert torch.isfinite(backend.from_generator(torch.randn(20, x.shape[1]))).all()


def test_a_shallow_cell_has_one_stratum_whoever_stands_beside_it(caplog: pytest.LogCaptureFixture) -> None:
    """Cells with a count or two tell of no scale themselves; among others they have a stratum, and so they do alone."""
    counts, _ = sequenced()
    counts[:3] = 0
    counts[:3, :2] = [1, 2]
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1000).astype(np.float32)
    backend = prepared(x)
    among, alone = backend.strata(backend.to_model(x)), backend.strata(backend.to_model(x[:3]))
    assert among is not None and alone is not None and alone.tolist() == among[:3].tolist() == [0, 0, 0]
    assert not caplog.records
    assert backend.strata(backend.to_model(x[3:30] * 1.1)) is None  # what can be told is
    assert "no log1p of scaled counts" in caplog.text


@pytest.mark.parametrize("kind", ["odd cells", "read counts", "empty cells"])
def test_depths_of_real_data(kind: str) -> None:
    """A cell whose least count is 11, read counts in the millions (float32 leaves few digits), and cells without any count."""
    counts, x = sequenced()
    if kind == "odd cells":
        counts[:20] = 11 * (counts[:20] > 0) + 6 * (counts[:20] > 2)
    elif kind == "read counts":
        counts = counts * np.random.default_rng(0).choice([1, 1, 1, 50, 20_000], size=counts.shape)
        counts[:, 1] = 1
    else:
        counts[:20] = 0
    x = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4).astype(np.float32)
    backend = prepared(x)
    strata = backend.strata(backend.to_model(x))
    assert strata is not None
    assert backend.marginals.n_used == 5
    drawn = torch.randn(len(x), x.shape[1], generator=torch.Generator().manual_seed(0))
    backend.calibrate(drawn, strata)
    assert torch.isfinite(backend.from_generator(drawn, strata)).all()


def test_rare_genes_are_drawn_as_often_and_as_high_as_in_all_cells() -> None:
    _, x = sequenced(4000)
    rng = np.random.default_rng(1)
    x[:, 5] = 0
    x[rng.choice(4000, 60, replace=False), 5] = rng.choice(x[:, 6][x[:, 6] > 0], 60)  # 6 in a stratum of 410
    backend = prepared(x)
    strata = backend.strata(backend.to_model(x))
    assert strata is not None
    noise = torch.Generator().manual_seed(0)
    backend.calibrate(torch.randn(2048, x.shape[1], generator=noise), strata[:2048])
    drawn = torch.randn(40_000, x.shape[1], generator=noise)
    made = backend.from_model(backend.from_generator(drawn, strata.repeat(10)))[:, 5]
    assert 0.008 < (made > 0).mean() < 0.025
    assert np.median(made[made > 0]) == pytest.approx(np.median(x[:, 5][x[:, 5] > 0]), rel=0.3)


def test_depths_of_other_values_are_not_guessed(caplog: pytest.LogCaptureFixture) -> None:
    """Imputed cells are not all of the deepest stratum."""
    _, x = sequenced()
    backend = prepared(x)
    imputed = np.where(x == 0, 0.01 + 0.1 * np.random.default_rng(0).random(x.shape), x).astype(np.float32)
    with caplog.at_level("WARNING", logger="diffaug"):
        assert backend.strata(backend.to_model(imputed)) is None
    assert "the depths of these cells cannot be read" in caplog.text


def test_strata_of_the_conditioning_cells_are_used_and_kept(tmp_path: Any) -> None:
    counts, x = sequenced(800)
    training = {"warmup_epochs": 1, "generator_epochs": 2, "mixed_epochs": 1, "batch_size": 200}
    model = DiffAug({**SMALL, "training": training}, device="cpu").fit(x, progress=False)
    order = np.argsort(counts.sum(axis=1))
    least = [
        np.median([row[row > 0].min() for row in model.generate(source=rows).values])
        for rows in (order[:200], order[-200:])
    ]
    assert least[0] > 1.5 * least[1]  # what one count is in shallow and in deep cells
    views = model.augment(x[order[-200:]], 1)[:, 0]
    assert np.median([row[row > 0].min() for row in views]) == pytest.approx(least[1], rel=0.3)
    loaded = DiffAug.load(model.save(tmp_path / "model"), device="cpu")
    rows = np.arange(50)
    assert np.array_equal(loaded.generate(source=rows).values, model.generate(source=rows).values)
    assert loaded.fingerprint == model.fingerprint


# --- neighbours ------------------------------------------------------------------------------------------------------


def exact(x: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` nearest rows of ``x`` among the given ones, without the row itself, by brute force in float64."""
    distance = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return among[np.argsort(distance[:, among], axis=1)[:, :k]]


def test_neighbors_are_the_nearest_cells() -> None:
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    found = cell_neighbors(torch.as_tensor(x), 7, 50)
    np.testing.assert_array_equal(found, exact(x, np.arange(60), 7))
    assert cell_neighbors(torch.as_tensor(x[:5]), 15, 50).shape == (5, 4)  # all others, where there are fewer


def test_neighbors_are_found_on_principal_components() -> None:
    """Two informative directions among 200 noisy features: the search sees the first, not the noise."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(120, 2)) * 20
    x = (score @ rng.normal(size=(2, 200)) + rng.normal(size=(120, 200))).astype(np.float32)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = cell_neighbors(torch.as_tensor(x), 10, 2).numpy()
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(found, cell_neighbors(torch.as_tensor(x), 10, 2))
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    expected = exact(u[:, :2] * s[:2], np.arange(120), 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)])
    assert recall > 0.98


def test_balanced_neighbors_are_the_nearest_of_each_batch() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    batch = np.repeat([0, 1, 2], [40, 30, 20])
    x[batch == 1] += 10  # a batch effect that an ordinary search would never cross
    found = cell_neighbors(torch.as_tensor(x), 9, 50, batch).numpy()
    assert found.shape == (90, 9)
    for b in range(3):
        members = np.flatnonzero(batch == b)
        assert ((batch[found] == b).sum(axis=1) == 3).all()  # each batch equally represented
        np.testing.assert_array_equal(found[:, 3 * b : 3 * b + 3], exact(x, members, 3))
    assert (found != np.arange(90)[:, None]).all()
    plain = cell_neighbors(torch.as_tensor(x), 9, 50).numpy()
    assert ((batch[plain] == 1) == (batch == 1)[:, None]).all()  # the control


@pytest.mark.parametrize("sizes", [[50, 3], [50, 2], [50, 1], [50, 1, 1], [3, 3, 3], [2, 1]])
def test_small_batches_repeat_and_no_cell_is_its_own_neighbor(sizes: list[int]) -> None:
    n = sum(sizes)
    batch = np.repeat(np.arange(len(sizes)), sizes)
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    x[-1] = x[-2]  # a twin must not help a cell to itself
    found = cell_neighbors(torch.as_tensor(x), 15, 50, batch).numpy()
    assert found.shape == (n, round(15 / len(sizes)) * len(sizes))
    assert (found != np.arange(n)[:, None]).all()
    for b, size in enumerate(sizes):
        share = (batch[found] == b).mean(axis=1)
        # A cell alone in its batch has no neighbour there; all others have their equal share.
        assert np.allclose(share[(batch != b) | (size > 1)], 1 / len(sizes)) or 1 in sizes
        members = np.flatnonzero(batch == b)
        if 1 < size <= 3:
            own = found[members]
            assert all(set(members) - {i} <= set(row) for i, row in zip(members, own, strict=True))


def test_more_batches_than_neighbors() -> None:
    batch = np.repeat(np.arange(20), 3)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    found = cell_neighbors(torch.as_tensor(x), 15, 50, batch).numpy()
    assert found.shape == (60, 20)
    assert (np.sort(batch[found], axis=1) == np.arange(20)).all()


@pytest.mark.slow  # numba compiles for half a minute
def test_approximate_search_on_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 10)).astype(np.float32)
    x[-20:] = x[:20]  # twins: the cell itself is not always the first found
    batch = np.arange(1500) % 2
    data = torch.as_tensor(x)
    expected = {"plain": cell_neighbors(data, 15, 50), "batch": cell_neighbors(data, 15, 50, batch)}
    monkeypatch.setattr(cells, "EXACT_NEIGHBORS_UP_TO", 100)
    for name, codes in (("plain", None), ("batch", batch)):
        found = cell_neighbors(data, 15, 50, codes)
        assert found.shape == expected[name].shape
        assert found.dtype == torch.int64
        assert 0 <= int(found.min()) <= int(found.max()) < 1500
        assert (found != torch.arange(1500)[:, None]).all()
        both = zip(found.tolist(), expected[name].tolist(), strict=True)
        recall = np.mean([len(set(a) & set(b)) / len(set(b)) for a, b in both])
        assert recall > 0.9
        assert torch.equal(found, cell_neighbors(data, 15, 50, codes))


# --- views -----------------------------------------------------------------------------------------------------------


def test_mixup_lies_between_a_cell_and_one_of_its_neighbors(counts: anndata.AnnData) -> None:
    x = log_normalised(counts)
    backend = prepared(x, n_neighbors=5)
    data = backend.to_model(x)
    views = backend.hand_views(data, kind="mixup")(torch.arange(150), torch.Generator().manual_seed(0))
    root = backend.std.sqrt()
    pareto = (data * root / root.square().mean().sqrt()).clamp(-10, 10)
    near = data[cell_neighbors(pareto, 5, 50)]  # 150 x 5 x genes
    a, b = views - data, near - data[:, None]
    share = (a[:, None] * b).sum(-1) / b.square().sum(-1)
    residual = (a[:, None] - share[..., None] * b).norm(dim=-1)
    best = residual.argmin(1)
    assert residual.min(1).values.max() < 1e-3
    t = share.gather(1, best[:, None])
    assert t.min() >= -1e-4
    assert t.max() <= 1 + 1e-4
    assert t.std() > 0.2  # uniform on the segment: 0.29
    assert len(best.unique()) == 5


def test_mixup_mode_reaches_the_views(counts: anndata.AnnData) -> None:
    x = log_normalised(counts)
    made = {}
    for mode in ("line", "feature"):
        backend = prepared(x, views="mixup", mixup_mode=mode)
        made[mode] = backend.hand_views(backend.to_model(x))(torch.arange(150), torch.Generator().manual_seed(0))
    assert not torch.equal(made["line"], made["feature"])


@pytest.mark.parametrize("rate", [0.1, 0.6, 1.0])
def test_feature_swap_takes_that_share_from_other_cells(rate: float) -> None:
    x = np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    backend = prepared(x, views="feature_swap", swap_rate=rate)
    data = backend.to_model(x)
    views = backend.hand_views(data)(torch.arange(200), torch.Generator().manual_seed(0))
    assert float((views != data).float().mean()) == pytest.approx(rate, abs=0.03)
    assert all(torch.isin(views[:, j], data[:, j]).all() for j in range(50))


def test_unknown_views_and_too_few_cells() -> None:
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    backend = prepared(x, views="mixup")
    with pytest.raises(ValueError, match=r"Expected views of a kind in \['mixup', .*'thinning'\], found 'cutout'"):
        backend.hand_views(backend.to_model(x), kind="cutout")
    with pytest.raises(ValueError, match="Expected at least 2 cells for mixup views, found 1"):
        backend.hand_views(backend.to_model(x[:1]))


def other_batch_share(points: np.ndarray, batch: np.ndarray, among: np.ndarray, k: int = 15) -> float:
    """Share of the ``k`` nearest real cells that are of the other batch; the cell itself does not count."""
    distance = ((points[:, None] - among[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :k]
    return float((batch[near] != batch[:, None]).mean())


@pytest.fixture
def shifted(counts: anndata.AnnData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-normalised cells, the second batch shifted in 20 genes; batch and type codes."""
    x = log_normalised(counts)
    batch, kind = counts.obs["batch"].cat.codes.to_numpy(), counts.obs["cell_type"].cat.codes.to_numpy()
    x[batch == 1, 30:50] += 4
    return x, batch, kind


def test_views_lead_from_batch_to_batch(shifted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, batch, kind = shifted
    backend = prepared(x, views="mixup")
    data = backend.to_model(x)
    mixed, same_type = {}, {}
    for name, codes in (("without", None), ("with", batch)):
        views = backend.hand_views(data, batch=codes)
        made = torch.stack([views(torch.arange(150), torch.Generator().manual_seed(s)) for s in range(5)]).numpy()
        mixed[name] = np.mean([other_batch_share(m, batch, data.numpy()) for m in made])
        neighbors = cell_neighbors(data, 15, 50, codes).numpy()
        same_type[name] = float((kind[neighbors] == kind[:, None]).mean())
    assert mixed["without"] < 0.12
    assert mixed["with"] > 2 * mixed["without"]
    assert same_type["with"] > 0.8  # across batches, but to the same type of cell


def test_batch_key_mixes_the_embedding(shifted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """End to end, on the encoder alone: cells of the two batches become neighbours, cells of two types do not."""
    x, batch, kind = shifted
    config = {**SMALL, "training": {"n_cycles": 0, "warmup_epochs": 80, "mixed_epochs": 0, "batch_size": 50}}
    mixed, types = {}, {}
    for name, codes in (("without", None), ("with", batch)):
        model = DiffAug(config, device="cpu").fit(x, batch=codes, progress=False)
        z = model.embed(x).semantic
        mixed[name] = other_batch_share(z, batch, z)
        types[name] = 1 - other_batch_share(z, kind, z)
    assert mixed["without"] < 0.05
    assert mixed["with"] > 0.1
    assert types["with"] > 0.8


# --- settings --------------------------------------------------------------------------------------------------------


def test_paper_preset_is_table_11() -> None:
    config = CellsBackend.preset("paper")
    t = config.training
    assert (t.warmup_epochs, t.generator_epochs, t.mixed_epochs, t.n_cycles) == (330, 330, 340, 1)
    assert (t.batch_size, t.encoder_lr, t.generator_lr, t.weight_decay, t.view_rate) == (300, 1e-4, 1e-4, 1e-6, 0.1)
    assert (config.loss.name, config.loss.dof_semantic, config.loss.dof_latent) == ("soft", 1.0, 1.0)
    assert (config.diffusion.prediction_type, config.diffusion.n_timesteps) == ("epsilon", 1000)
    d = config.domain
    assert (d.encoder_hidden, d.n_semantic, d.generator, d.generator_width) == ((500, 300), 80, "listing2", 2000)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_presets_make_a_model(name: str) -> None:
    assert DiffAug(name, device="cpu").config == CellsBackend.preset(name)


@pytest.mark.parametrize(
    ("generator", "network"), [("residual", AdaptiveResidualMLP), ("listing2", Listing2), ("bottleneck", BottleneckMLP)]
)
def test_generators(generator: str, network: type) -> None:
    x = np.random.default_rng(0).gamma(1.0, size=(60, 6)).astype(np.float32)
    training = {"warmup_epochs": 1, "generator_epochs": 2, "mixed_epochs": 1}
    config = {**SMALL, "training": training, "domain": {**SMALL["domain"], "generator": generator}}
    model = DiffAug(config, device="cpu").fit(x, progress=False)
    assert type(model._denoiser) is network
    assert not model._denoiser.training  # or its dropout would go on
    assert np.isfinite(model.generate(5).values).all()


@pytest.mark.parametrize("condition", ["semantic", "latent", "noise"])
@pytest.mark.parametrize("loss", ["soft", "info_nce"])
def test_conditions_and_losses(condition: str, loss: str) -> None:
    x = np.random.default_rng(0).gamma(1.0, size=(60, 6)).astype(np.float32)
    config = {
        **SMALL,
        "training": {"warmup_epochs": 1, "generator_epochs": 2, "mixed_epochs": 1},
        "diffusion": {"condition": condition, "n_steps": 3},
        "loss": {"name": loss},
    }
    model = DiffAug(config, device="cpu").fit(x, progress=False)
    assert np.isfinite(model.generate(5).values).all()
    assert np.isfinite(model.augment(x[:4]).astype(float)).all()


def test_label_condition() -> None:
    """Ablation A1: cells generated under a label are those of that label, and views need the labels."""
    rng = np.random.default_rng(0)
    y = np.array(["x", "y"])[np.arange(200) % 2]
    x = rng.normal(size=(200, 8)).astype(np.float32)
    x[y == "y"] += 3
    config = {**SMALL, "diffusion": {"condition": "label", "n_steps": 8}}
    model = DiffAug(config, device="cpu").fit(x, labels=y, progress=False)
    made = model.generate(source=np.arange(200)).values
    assert ((made.mean(axis=1) > 1.5) == (y == "y")).mean() > 0.9
    views = model.augment(x[:20], labels=y[::-1][:20])[:, 0]  # the other label: views follow it, not the cell
    assert ((views.mean(axis=1) > 1.5) == (y[::-1][:20] == "y")).mean() > 0.9
    with pytest.raises(ValueError, match=r"conditioned on labels \(\['x', 'y'\]\). Expected `labels`, found none"):
        model.augment(x[:3])
    with pytest.raises(ValueError, match=r"Expected labels among \['x', 'y'\], found 'w'"):
        model.augment(x[:3], labels=np.array(["x", "w", "y"]))
    with pytest.raises(ValueError, match="Expected labels for condition='label'"):
        DiffAug(config, device="cpu").fit(x, progress=False)
