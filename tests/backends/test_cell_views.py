"""Views of cells by masking, noise and binomial thinning: moments against the binomial's, and what is no count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from scipy import stats

from diffaug import DiffAug
from diffaug.backends._cell_views import count_units, thin_counts
from diffaug.backends.cells import CellsBackend, CellsConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_normalised(counts: np.ndarray, total: float = 1e4) -> np.ndarray:
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * total).astype(np.float32)


def some_counts(n: int = 80, width: int = 40, seed: int = 0) -> np.ndarray:
    """Negative-binomial counts with a spread of depths over a factor of 30, and a one in every cell."""
    rng = np.random.default_rng(seed)
    mean = rng.gamma(0.5, 4.0, size=width) * np.exp(rng.uniform(0, 3.4, size=(n, 1)))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean))
    counts[np.arange(n), rng.integers(width, size=n)] = 1
    return counts


def prepared(x: np.ndarray, **settings: Any) -> tuple[CellsBackend, torch.Tensor]:
    backend = CellsBackend(CellsConfig(**settings), CellsBackend.event_shape_of(x))
    backend.prepare(x)
    return backend, backend.to_model(x)


# --- masking and noise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "is_panel"), [(99, True), (100, False)])
def test_panels_have_a_linear_path_and_masks_unless_told_otherwise(width: int, is_panel: bool) -> None:
    x = np.random.default_rng(0).normal(size=(40, width)).astype(np.float32)
    index, batch = torch.arange(40), np.arange(40) % 2

    def kept(settings: dict[str, Any], batch: np.ndarray | None = None) -> float:
        """Share of values that a view leaves as they are: masks do so for most, a mixture for none."""
        backend, data = prepared(x, **settings)
        return float((backend.hand_views(data, batch=batch)(index, generator()) == data).float().mean())

    assert (kept({}) > 0.7) == is_panel and (kept({}) < 0.01) != is_panel
    assert kept({"views": "mask"}) > 0.7 and kept({"views": "mixup"}) < 0.01
    assert kept({}, batch) < 0.01  # a mask would not lead from batch to batch
    for asked, found in ((None, is_panel), (True, True), (False, False)):
        encoder: Any = prepared(x, linear_path=asked)[0].make_encoder()
        assert (encoder.path is not None) == found


def test_what_panels_have_and_the_scaling_are_saved_with_the_model_and_older_models_have_none_of_it(
    tmp_path: Path,
) -> None:
    x = np.random.default_rng(0).gamma(1.0, size=(60, 12)).astype(np.float32)
    small = {"encoder_hidden": [8], "n_semantic": 5, "n_latent": 4, "generator_width": 8, "generator_depth": 1}
    model = DiffAug({"domain": small}, device="cpu").fit(x, max_epochs=1, progress=False)
    assert (model.config.domain.linear_path, model.config.domain.views) == (True, "mask")
    model.save(tmp_path / "now")
    batched = DiffAug({"domain": small}, device="cpu").fit(x, max_epochs=1, batch=np.arange(60) % 2, progress=False)
    assert (batched.config.domain.linear_path, batched.config.domain.views) == (True, "mixup")

    plain = {**small, "linear_path": False, "views": "mixup", "scaling": "standard"}
    older = DiffAug({"domain": plain}, device="cpu").fit(x, max_epochs=1, progress=False)
    older.save(tmp_path / "older")
    file = tmp_path / "older" / "config.json"
    document = json.loads(file.read_text())
    for name in ("linear_path", "views", "scaling"):
        del document["config"]["domain"][name]
    del document["asked"]["domain"]["scaling"]  # these were asked for before there was another scaling
    file.write_text(json.dumps(document))
    for path, same in (("now", model), ("older", older)):
        loaded = DiffAug.load(tmp_path / path, device="cpu")
        np.testing.assert_array_equal(loaded.embed(x).semantic, same.embed(x).semantic)
        assert loaded.config == same.config and loaded.asked == same.asked


def test_a_mask_is_zero_only_where_the_feature_has_zeros() -> None:
    """Without negative values, too: a protein that is nowhere near zero would be an outlier there."""
    x = np.random.default_rng(0).gamma(4.0, size=(80, 10)).astype(np.float32) + 5
    x[:40, :3] = 0
    backend, data = prepared(x, views="mask", mask_rate=0.5)
    back = backend.from_model(backend.hand_views(data)(torch.arange(80), generator()))
    moved = np.abs(back - x) > 1e-3
    assert (back[:, :3][moved[:, :3]] == 0).all() and moved[:, 3:].mean() > 0.4
    np.testing.assert_allclose(
        back[:, 3:][moved[:, 3:]], np.broadcast_to(x.mean(axis=0), x.shape)[:, 3:][moved[:, 3:]], rtol=1e-5
    )


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_masked_genes_are_not_expressed(rate: float) -> None:
    x = log_normalised(some_counts())
    x = x[:, (x == 0).any(axis=0)]  # of a gene that all cells express no zero is known
    backend, data = prepared(x, views="mask", mask_rate=rate)
    index = torch.arange(80).repeat(50)
    views = backend.hand_views(data)(index, generator())
    back = backend.from_model(views)
    expressed = x[index] > 0
    hidden = (back == 0) & expressed
    assert stats.binomtest(int(hidden.sum()), int(expressed.sum()), rate).pvalue > 1e-3
    np.testing.assert_allclose(back[~hidden], x[index][~hidden], atol=1e-5)
    assert 0.5 < (hidden.any(axis=0)).mean() <= 1  # every gene can be hidden


def test_masked_features_with_negative_values_are_at_their_mean() -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(80, 10)).astype(np.float32)
    backend, data = prepared(x, mask_rate=0.5)
    views = backend.hand_views(data, kind="mask")(torch.arange(80), generator())
    hidden = views == 0
    assert stats.binomtest(int(hidden.sum()), 800, 0.5).pvalue > 1e-3
    assert torch.equal(views[~hidden], data[~hidden])
    mean = np.broadcast_to(x.mean(axis=0), x.shape)[hidden.numpy()]
    np.testing.assert_allclose(backend.from_model(views)[hidden.numpy()], mean, atol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_noise_has_its_scale(scale: float) -> None:
    x = log_normalised(some_counts())
    backend, data = prepared(x, views="noise", noise_scale=scale)
    index = torch.arange(80).repeat(20)
    noise = (backend.hand_views(data)(index, generator()) - data[index]).numpy()
    assert noise.std() == pytest.approx(scale, rel=0.02)
    assert stats.kstest(noise[:, 0] / scale, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(40)).max() < 0.15


# --- thinning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1e4, 50.0, 1e6])
def test_units_are_found(total: float) -> None:
    counts = some_counts()
    units = count_units(torch.as_tensor(log_normalised(counts, total)).expm1())
    np.testing.assert_allclose(units, total / counts.sum(axis=1), rtol=1e-4)


def test_units_of_raw_counts_are_one() -> None:
    np.testing.assert_allclose(count_units(torch.as_tensor(some_counts(), dtype=torch.float32)), 1, rtol=1e-6)


@pytest.mark.parametrize("smallest", [2, 3, 5])
def test_units_where_no_gene_has_a_single_count(smallest: int) -> None:
    """The smallest value is then several counts, which the others tell, unless all share a divisor."""
    counts = np.random.default_rng(0).integers(smallest, 60, size=(30, 40))
    counts[:, 0], counts[:, 1] = smallest, smallest + 1
    units = count_units(torch.as_tensor(counts / 7.3, dtype=torch.float32))
    np.testing.assert_allclose(units, 1 / 7.3, rtol=1e-5)


def test_units_of_large_counts_and_empty_cells() -> None:
    """Rounding of values of 100,000 counts is no sign against them."""
    counts = some_counts()
    counts[:, 3] = 100_003
    counts[5] = 0
    values = np.expm1(np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4).astype(np.float32))
    units = count_units(torch.as_tensor(values))
    expected = 1e4 / np.maximum(counts.sum(axis=1), 1)
    expected[5] = 1
    np.testing.assert_allclose(units, expected, rtol=1e-3)


def test_three_digits_are_enough() -> None:
    """As in the files of some public sets."""
    counts = some_counts()
    values = np.expm1(log_normalised(counts)) * np.random.default_rng(0).uniform(0.999, 1.001, size=counts.shape)
    units = count_units(torch.as_tensor(values, dtype=torch.float32))
    np.testing.assert_allclose(units, 1e4 / counts.sum(axis=1), rtol=2e-3)


@pytest.mark.parametrize("kind", ["gamma", "scaled_genes", "one_tiny_value", "log2"])
def test_what_is_no_count_has_no_unit(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = np.expm1(log_normalised(some_counts()))
    if kind == "gamma":
        values = rng.gamma(1.0, 5.0, size=(80, 40))
    if kind == "scaled_genes":
        values = values * rng.uniform(0.5, 2, size=40)
    if kind == "one_tiny_value":  # a speck under which everything would look like many counts
        values = rng.gamma(5.0, 5.0, size=(80, 40))
        values[:, 0] = 1e-4
    if kind == "log2":
        values = np.expm1(np.log2(values + 1))
    assert (
        count_units(torch.as_tensor(values, dtype=torch.float32)).isnan().float().mean() > 0.6
    )  # one is enough to refuse a set


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_thinned_counts_are_binomial(keep: float) -> None:
    """Mean, variance and whole distribution of the drawn counts."""
    counts = np.array([[0, 1, 4, 20, 100]])
    unit = 0.37
    values = torch.as_tensor(counts * unit, dtype=torch.float64).repeat(4000, 1)
    thinned = thin_counts(values, torch.full((4000,), unit, dtype=torch.float64), keep, generator()).numpy()
    drawn = thinned * keep / unit
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-9)
    assert (drawn <= counts).all()
    for j, n in enumerate(counts[0]):
        se = np.sqrt(max(n, 1) * keep * (1 - keep) / 4000)
        assert thinned[:, j].mean() * keep / unit == pytest.approx(n * keep, abs=5 * se)
        assert thinned[:, j].mean() == pytest.approx(n * unit, abs=5 * se * unit / keep)  # renormalised: as before
        assert drawn[:, j].var() == pytest.approx(n * keep * (1 - keep), rel=0.15)
    found = np.bincount(np.rint(drawn[:, 2]).astype(int), minlength=5)
    assert stats.chisquare(found, stats.binom.pmf(np.arange(5), 4, keep) * 4000).pvalue > 1e-3


def test_thinned_views_of_scaled_cells() -> None:
    """Through the whole way: the cell's normalised values keep their mean and get the binomial's variance."""
    counts = some_counts()
    x = log_normalised(counts)
    backend, data = prepared(x, views="thinning", thinning_keep=0.5)
    index = torch.arange(80).repeat(300)
    views = backend.hand_views(data)(index, generator())
    assert views.dtype == torch.float32
    values = np.expm1(backend.from_model(views)).reshape(300, 80, 40)
    unit = 1e4 / counts.sum(axis=1, keepdims=True)
    expected_variance = counts * unit**2  # n (1 - p) / p counts, at p = 1/2
    mean, variance = values.mean(axis=0), values.var(axis=0)
    se = np.sqrt(expected_variance / 300)
    assert (np.abs(mean - counts * unit) <= 5 * se + 1e-2).all()
    assert variance.sum() == pytest.approx(expected_variance.sum(), rel=0.05)
    assert (values[:, counts == 0] == 0).all()
    drawn = values / (2 * unit)
    np.testing.assert_allclose(drawn, drawn.round(), atol=0.02)
    assert stats.binomtest(int((drawn[:, counts == 1] == 0).sum()), 300 * int((counts == 1).sum()), 0.5).pvalue > 1e-3


def test_thinning_that_keeps_all_changes_nothing() -> None:
    x = log_normalised(some_counts())
    backend, data = prepared(x, thinning_keep=1.0)
    torch.testing.assert_close(
        backend.hand_views(data, kind="thinning")(torch.arange(80), generator()), data, atol=1e-3, rtol=1e-3
    )


def test_thinning_needs_counts() -> None:
    rng = np.random.default_rng(0)
    x = log_normalised(some_counts())
    x[7] = rng.gamma(1.0, size=40)
    backend, data = prepared(x)
    with pytest.raises(ValueError, match="no multiples of one count in 1 of 80 cells, e.g. row 7. Use other views"):
        backend.hand_views(data, kind="thinning")
    backend, data = prepared(rng.normal(size=(20, 5)).astype(np.float32))
    with pytest.raises(ValueError, match="Expected log1p of normalised counts .*, found values below 0"):
        backend.hand_views(data, kind="thinning")


def test_real_counts(data_dir: Path) -> None:
    """Log-normalised counts of a real set are recovered, and a matrix that was scaled by gene is refused."""
    adata = anndata.read_h5ad(data_dir / "bio" / "paul15.h5ad")[:300, :500]
    counts = np.asarray(adata.layers["counts"].todense() if "counts" in adata.layers else adata.X.toarray())
    assert (counts == counts.round()).all()
    counts = counts[counts.sum(axis=1) > 0]
    x = log_normalised(counts)
    units = count_units(torch.as_tensor(x).expm1())
    found = np.expm1(x) / units.numpy()[:, None]
    shares = found / counts.clip(1) * (counts > 0)
    # A cell whose counts share a divisor shows a larger unit: rare, and no other error occurs.
    exact = np.isclose(found, counts, atol=0.05).all(axis=1)
    assert exact.mean() > 0.97
    assert not np.isnan(units.numpy()).any()
    assert all(len(np.unique(s[s > 0].round(3))) == 1 for s in shares[~exact])


def test_views_of_every_kind_through_the_model(counts: anndata.AnnData) -> None:
    """Not negative, on the scale of the input, and with the zeros of the cell in mask and thinning."""
    x = log_normalised(counts.X.toarray())
    training = {"warmup_epochs": 1, "mixed_epochs": 0, "n_cycles": 0}
    model = DiffAug({"training": training, "domain": {"encoder_hidden": [8]}}, device="cpu").fit(x, progress=False)
    for kind in ("mask", "noise", "thinning"):
        made = model.augment(x, 3, kind=kind)
        assert made.shape == (150, 3, 60) and made.min() == 0
        if kind != "noise":
            assert (made.transpose(1, 0, 2)[:, x == 0] == 0).all()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mask_rate", 0.0, r"`mask_rate` in \(0, 1\]"),
        ("mask_rate", 1.1, r"`mask_rate` in \(0, 1\]"),
        ("thinning_keep", 0.0, r"`thinning_keep` in \(0, 1\]"),
        ("thinning_keep", 2.0, r"`thinning_keep` in \(0, 1\]"),
        ("noise_scale", 0.0, "`noise_scale` above 0"),
        ("views", "cutout", r"`views` in \[None, 'mixup', 'feature_swap', 'mask', 'noise', 'thinning'\]"),
    ],
)
def test_bad_settings(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"Expected {expected}, found {value!r}"):
        CellsConfig(**{name: value})
