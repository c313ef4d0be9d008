"""``pl.violin``: shapes, zeros and groups against the numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix

import diffaug
from diffaug.pl import violin
from diffaug.pl._figure import GENERATED, REAL

NAMES = [f"g{j}" for j in range(12)]


@pytest.fixture
def real() -> AnnData:
    """Cells with known zeros; ``g5`` varies most, then ``g9``, then ``g1``."""
    return cells(200, seed=0)


@pytest.fixture
def synthetic() -> AnnData:
    return cells(150, seed=1)


def cells(n: int, seed: int) -> AnnData:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 1.5, size=(n, len(NAMES)))
    for j, scale in {5: 4.0, 9: 3.0, 1: 2.0}.items():
        x[:, j] *= scale
    x[rng.random(x.shape) < 0.4] = 0
    obs = pd.DataFrame({"kind": pd.Categorical(np.array(["b", "a", "c"])[np.arange(n) % 3])}, index=map(str, range(n)))
    return AnnData(x.astype(np.float32), obs=obs, var=pd.DataFrame(index=NAMES))


def bodies(ax: Axes, name: str) -> list[PolyCollection]:
    return [c for c in ax.collections if isinstance(c, PolyCollection) and c.get_gid() == name]


def zeros(ax: Axes, color: str) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_text().endswith("%") and to_hex(t.get_color()) == color.lower()]


def genes_of(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.get_xticklabels()]


# --- content ---------------------------------------------------------------------------------------------------------


def test_the_most_variable_shared_genes_are_shown(real: AnnData, synthetic: AnnData) -> None:
    assert genes_of(violin(real, synthetic, n_genes=3, show=False)) == ["g5", "g9", "g1"]
    without = synthetic[:, [n for n in NAMES if n != "g9"]].copy()
    assert genes_of(violin(real, without, n_genes=2, show=False)) == ["g5", "g1"]
    assert len(genes_of(violin(real, synthetic, show=False))) == 8
    assert len(genes_of(violin(real, synthetic, n_genes=99, show=False))) == 12


def test_violins_span_the_values_that_are_not_zero(real: AnnData, synthetic: AnnData) -> None:
    genes = ["g0", "g5", "g2"]
    ax = violin(real, synthetic, genes=genes, show=False)
    assert genes_of(ax) == genes
    for adata, name, side in ((real, "real", -1), (synthetic, "synthetic", 1)):
        found = bodies(ax, name)
        assert len(found) == 3
        for j, (gene, body) in enumerate(zip(genes, found, strict=True)):
            values = np.asarray(adata[:, gene].X).ravel()
            x, y = body.get_paths()[0].vertices.T
            assert y.min() == pytest.approx(values[values > 0].min()) and y.max() == pytest.approx(values.max())
            assert 0 < side * (x.mean() - j) < 0.5  # beside its tick, real to the left


def test_zeros_are_printed(real: AnnData, synthetic: AnnData) -> None:
    genes = ["g0", "g5", "g2"]
    ax = violin(real, synthetic, genes=genes, show=False)
    for adata, color in ((real, REAL), (synthetic, GENERATED)):
        share = (np.asarray(adata[:, genes].X) == 0).mean(axis=0)
        assert zeros(ax, color) == [f"{100 * s:.0f}%" for s in share]


def test_medians(real: AnnData, synthetic: AnnData) -> None:
    ax = violin(real, synthetic, genes="g5", show=False)
    values = [np.asarray(a[:, "g5"].X).ravel() for a in (real, synthetic)]
    drawn = [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "median"]
    assert drawn == pytest.approx([np.median(v[v > 0]) for v in values])


def test_sparse_and_dense_give_the_same_picture(real: AnnData, synthetic: AnnData) -> None:
    dense = violin(real, synthetic, show=False)
    real.X, synthetic.X = csr_matrix(real.X), csr_matrix(synthetic.X)
    sparse = violin(real, synthetic, show=False)
    assert genes_of(dense) == genes_of(sparse) and zeros(dense, REAL) == zeros(sparse, REAL)
    for a, b in zip(bodies(dense, "real"), bodies(sparse, "real"), strict=True):
        np.testing.assert_array_equal(a.get_paths()[0].vertices, b.get_paths()[0].vertices)


def test_few_values_are_dots_and_none_is_nothing(real: AnnData, synthetic: AnnData) -> None:
    real.X[:, 0] = 0
    real.X[:4, 1] = [1, 1.5, 2, 2.5]
    real.X[4:, 1] = 0
    ax = violin(real, synthetic, genes=["g0", "g1"], show=False)
    assert bodies(ax, "real") == [] and len(bodies(ax, "synthetic")) == 2
    assert zeros(ax, REAL) == ["100%", "98%"]
    (dots,) = [line for line in ax.lines if line.get_gid() == "real"]
    assert dots.get_ydata().tolist() == [1, 1.5, 2, 2.5]


def test_centred_values_have_no_zeros_to_print(real: AnnData, synthetic: AnnData) -> None:
    real.X, synthetic.X = real.X - 1, synthetic.X - 1
    ax = violin(real, synthetic, genes=["g0"], show=False)
    assert zeros(ax, REAL) == [] and ax.get_ylabel() == "expression (scaled)"
    y = bodies(ax, "real")[0].get_paths()[0].vertices[:, 1]
    assert y.min() == pytest.approx(-1)  # all values are in the shape


def test_a_layer_of_the_real_cells(real: AnnData, synthetic: AnnData) -> None:
    real.layers["log"] = real.X.copy()
    real.X = np.round(real.X * 10)
    ax = violin(real, synthetic, layer="log", genes="g5", show=False)
    assert bodies(ax, "real")[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(real[:, "g5"].layers["log"].max())


def test_groups(real: AnnData, synthetic: AnnData) -> None:
    axes = violin(real, synthetic, groupby="kind", genes="g5", show=False)
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c"]
    for ax, kind in zip(axes, "abc", strict=True):
        for adata, color in ((real, REAL), (synthetic, GENERATED)):
            values = np.asarray(adata[adata.obs["kind"] == kind, "g5"].X)
            assert zeros(ax, color) == [f"{100 * (values == 0).mean():.0f}%"]
        counts = [int((a.obs["kind"] == kind).sum()) for a in (real, synthetic)]
        labels = [t.get_text() for t in ax.get_legend().get_texts()]
        assert labels == [f"real ({counts[0]} cells)", f"synthetic ({counts[1]} cells)"]
    some = violin(real, synthetic, groupby="kind", groups=["c", "a"], genes="g5", title="Both", show=False)
    assert [ax.get_title(loc="left") for ax in some] == ["Both\nc", "a"]


def test_groups_of_one_set_only_are_left_out(real: AnnData, synthetic: AnnData) -> None:
    axes = violin(real, synthetic[synthetic.obs["kind"] != "b"].copy(), groupby="kind", genes="g5", show=False)
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "c"]


def test_inputs_are_not_modified(real: AnnData, synthetic: AnnData) -> None:
    before = real.X.copy(), synthetic.X.copy(), real.obs.copy()
    violin(real, synthetic, groupby="kind", show=False)
    np.testing.assert_array_equal(real.X, before[0])
    np.testing.assert_array_equal(synthetic.X, before[1])
    pd.testing.assert_frame_equal(real.obs, before[2])


def test_real_and_generated_cells(adata: AnnData, model: diffaug.DiffAug) -> None:
    made = diffaug.tl.generate(model, 60)
    ax = violin(adata, made, genes=["CD79A", "NKG7"], show=False)
    assert ax.get_ylabel() == "expression (log-normalised)"
    assert zeros(ax, GENERATED) == [f"{100 * (made[:, g].X.toarray() == 0).mean():.0f}%" for g in ("CD79A", "NKG7")]


@pytest.mark.parametrize("name", ["{}", "ENSG0000010{:04d}"])
@pytest.mark.parametrize("width", [None, 4.5])
@pytest.mark.parametrize("n_genes", [2, 8, 12])
def test_texts_do_not_overlap(real: AnnData, synthetic: AnnData, n_genes: int, width: float | None, name: str) -> None:
    real.X[:], synthetic.X[:] = 0, 0  # "100%" is the widest text
    real.var_names = synthetic.var_names = [name.format(j) for j in range(12)]
    ax = None if width is None else plt.subplots(figsize=(width, 4), layout="constrained")[1]
    ax = violin(real, synthetic, n_genes=n_genes, ax=ax, show=False)
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in [*ax.texts, *ax.get_xticklabels()]]
    assert len(boxes) == 3 * n_genes + 1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


# --- what comes back -------------------------------------------------------------------------------------------------


def test_returns(real: AnnData, synthetic: AnnData) -> None:
    assert violin(real, synthetic) is None
    assert isinstance(violin(real, synthetic, show=False), Axes)
    assert isinstance(violin(real, synthetic, groupby="kind", groups="a", show=False), Axes)
    several = violin(real, synthetic, groupby="kind", groups=["a"], show=False)
    assert isinstance(several, list) and len(several) == 1
    assert isinstance(violin(real, synthetic, return_fig=True), Figure)


def test_ax(real: AnnData, synthetic: AnnData) -> None:
    ax = plt.subplots()[1]
    assert violin(real, synthetic, ax=ax, show=False) is ax and len(bodies(ax, "real")) == 8
    with pytest.raises(ValueError, match="Expected one panel for `ax`, found 3"):
        violin(real, synthetic, groupby="kind", ax=ax)


def test_save(real: AnnData, synthetic: AnnData, tmp_path: Path) -> None:
    violin(real, synthetic, show=False, save=tmp_path / "violin.svg")
    assert "<svg" in (tmp_path / "violin.svg").read_text(encoding="utf-8")
    assert plt.get_fignums() == []


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"genes": ["g1", "g55"]}, KeyError, "Did not find 1 of 2 genes in `real`, e.g. 'g55'. Did you mean 'g5'"),
        ({"genes": []}, ValueError, "at least one name in `genes`"),
        ({"n_genes": 0}, ValueError, "`n_genes` of at least 1, found 0"),
        ({"groupby": "kin"}, KeyError, r"Did not find `adata.obs\['kin'\]` \(groupby, in `real`\)"),
        (
            {"groupby": "kind", "groups": "d"},
            KeyError,
            r"cells of 'd' in `obs\['kind'\]` of both sets. Available: \['a'",
        ),
        ({"groups": "a"}, ValueError, "Expected `groupby` with `groups`"),
        ({"layer": "counts"}, KeyError, r"Did not find `adata.layers\['counts'\]`"),
    ],
)
def test_wrong_options(real: AnnData, synthetic: AnnData, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        violin(real, synthetic, show=False, **options)
    assert plt.get_fignums() == []


def test_sets_on_two_scales(real: AnnData, synthetic: AnnData) -> None:
    counts = synthetic.copy()
    counts.X = np.round(counts.X * 10)
    with pytest.raises(ValueError, match=r"`real` on the scale of the synthetic cells \(counts\), found log values"):
        violin(real, counts)
    centred = synthetic.copy()
    centred.X = centred.X - 1
    with pytest.raises(ValueError, match=r"on the scale of the synthetic cells \(scaled\), found log values"):
        violin(real, centred)


def test_wrong_sets(real: AnnData, synthetic: AnnData) -> None:
    with pytest.raises(TypeError, match="`synthetic` to be an AnnData, found ndarray"):
        violin(real, np.zeros((3, 3)))
    with pytest.raises(KeyError, match="genes in `synthetic`, e.g. 'g5'"):
        violin(real, synthetic[:, :3].copy(), genes="g5")
    other = synthetic.copy()
    other.var_names = [f"ENSG{j}" for j in range(12)]
    with pytest.raises(ValueError, match="Expected genes in both sets, found none"):
        violin(real, other)
    other = synthetic.copy()
    other.obs["kind"] = "z"
    with pytest.raises(ValueError, match="in both sets, found none in common"):
        violin(real, other, groupby="kind")
    real.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="Expected finite values in `real.X`, found 1 NaN"):
        violin(real, synthetic)


def test_raw_counts_come_to_the_scale_of_logarithms(real: AnnData, synthetic: AnnData) -> None:
    """A fit on raw counts normalises a copy, and its synthetic cells are logarithms: the cells it was given are drawn as those."""
    counts = real[np.asarray((real.X > 0).any(axis=1))].copy()
    counts.X = np.round(counts.X * 10) + (real[counts.obs_names].X > 0)
    before = counts.X.copy()
    logged = counts.copy()
    sc.pp.normalize_total(logged, target_sum=float(np.median(counts.X.sum(axis=1))))
    sc.pp.log1p(logged)
    made = logged[:100].copy()
    made.uns.clear()
    found, expected = (violin(cells, made, groupby="kind", groups="a", show=False) for cells in (counts, logged))
    for ours, theirs in zip(bodies(found, "real"), bodies(expected, "real"), strict=True):
        np.testing.assert_allclose(ours.get_paths()[0].vertices, theirs.get_paths()[0].vertices, atol=1e-4)
    assert found.get_ylabel() == "expression (log-normalised)" and np.array_equal(counts.X, before)
    more = AnnData(
        np.hstack([made.X, made.X[:, :1]]), obs=made.obs, var=pd.DataFrame(index=[*NAMES, "g_of_the_model_alone"])
    )
    assert genes_of(violin(counts, more, genes=["g1"], show=False)) == ["g1"]
