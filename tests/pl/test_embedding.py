"""``pl.embedding``: the map, when it is made again, and what comes back."""

from __future__ import annotations

from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from sklearn.manifold import trustworthiness

from diffaug.pl import _embedding, embedding

KEY = "X_diffaug_tsne"


@pytest.fixture(scope="session")
def mapped_once(fitted: tuple) -> AnnData:
    """The fitted cells with a UMAP; umap-learn compiles for a quarter of a minute at its first call."""
    adata = fitted[0].copy()
    axes = embedding(adata, color="cell_type", show=False)
    assert isinstance(axes, Axes)
    plt.close("all")
    return adata


@pytest.fixture
def mapped(mapped_once: AnnData) -> AnnData:
    return mapped_once.copy()


@pytest.fixture
def few(adata: AnnData) -> AnnData:
    """Cells for maps that are made several times."""
    return adata[::7].copy()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of cells whenever a map is made."""
    calls: list[int] = []
    for name in ("_umap", "_tsne"):
        original = getattr(_embedding, name)
        monkeypatch.setattr(
            _embedding, name, lambda x, seed, original=original: calls.append(len(x)) or original(x, seed)
        )
    return calls


def dots(ax: Axes) -> np.ndarray:
    """Coordinates of the scatter plot."""
    return next(np.asarray(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection))


# --- the map ---------------------------------------------------------------------------------------------------------


def test_umap_keeps_neighbors_of_the_embedding(mapped: AnnData) -> None:
    high, low = mapped.obsm["X_diffaug"], mapped.obsm["X_diffaug_umap"]
    assert low.shape == (mapped.n_obs, 2) and low.dtype == np.float32 and np.isfinite(low).all()
    assert trustworthiness(high, low) > 0.85
    shuffled = np.random.default_rng(0).permutation(low)
    assert trustworthiness(high, shuffled) < 0.6  # the measure finds a map of other cells


def test_tsne_keeps_neighbors_of_the_embedding(few: AnnData) -> None:
    embedding(few, method="tsne", show=False)
    assert trustworthiness(few.obsm["X_diffaug"], few.obsm[KEY]) > 0.85


def test_the_map_is_what_is_drawn(mapped: AnnData) -> None:
    ax = embedding(mapped, show=False)
    np.testing.assert_array_equal(dots(ax), mapped.obsm["X_diffaug_umap"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")


def test_scanpy_draws_the_same_map(mapped: AnnData) -> None:
    ours, theirs = embedding(mapped, show=False), sc.pl.embedding(mapped, "X_diffaug_umap", show=False)
    np.testing.assert_array_equal(dots(ours), dots(theirs))


def test_a_finished_map_is_drawn_and_nothing_is_made(adata: AnnData, made: list[int]) -> None:
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    for basis in ("mine", "X_mine"):
        np.testing.assert_array_equal(dots(embedding(adata, basis=basis, show=False)), adata.obsm["X_mine"])
    assert made == [] and "X_diffaug_umap" not in adata.obsm


def test_key_added_names_the_map(few: AnnData) -> None:
    few.obsm["other"] = few.obsm.pop("X_diffaug")
    embedding(few, key_added="other", method="tsne", show=False)
    assert few.obsm["other_tsne"].shape == (few.n_obs, 2) and few.uns["other_tsne"]["params"]["method"] == "tsne"


def test_few_cells(adata: AnnData) -> None:
    """Fewer cells than the methods' usual number of neighbours."""
    small = adata[:12].copy()
    embedding(small, method="tsne", show=False)
    assert np.isfinite(small.obsm[KEY]).all()


# --- when it is made -------------------------------------------------------------------------------------------------


def test_second_call_draws_the_kept_map(mapped: AnnData, made: list[int]) -> None:
    before = mapped.obsm["X_diffaug_umap"]
    embedding(mapped, color="cell_type", show=False)
    assert made == [] and mapped.obsm["X_diffaug_umap"] is before


def test_recompute_makes_it_again_and_equal_seeds_give_equal_maps(few: AnnData, made: list[int]) -> None:
    embedding(few, method="tsne", show=False)
    before = few.obsm[KEY]
    embedding(few, method="tsne", recompute=True, show=False)
    assert made == [100, 100] and few.obsm[KEY] is not before
    np.testing.assert_array_equal(few.obsm[KEY], before)


def test_a_kept_map_survives_a_file(few: AnnData, made: list[int], tmp_path: Path) -> None:
    embedding(few, method="tsne", show=False)
    few.write_h5ad(tmp_path / "few.h5ad")
    embedding(anndata.read_h5ad(tmp_path / "few.h5ad"), method="tsne", show=False)
    assert made == [100]


@pytest.mark.parametrize("change", ["embedding", "order", "subset", "seed", "foreign", "method"])
def test_a_stale_map_is_made_again(few: AnnData, made: list[int], change: str) -> None:
    embedding(few, method="tsne", show=False)
    seed = 0
    if change == "embedding":
        few.obsm["X_diffaug"] = few.obsm["X_diffaug"] * np.float32(1.01)
    elif change == "order":
        few = few[::-1].copy()
    elif change == "subset":
        few = few[:60].copy()
    elif change == "seed":
        seed = 1
    elif change == "foreign":
        few.uns[KEY] = "a field of another origin"
    if change == "method":
        few.obsm["X_diffaug_umap"] = few.obsm[KEY]  # of unknown origin: it has no record
        embedding(few, show=False)
    else:
        embedding(few, method="tsne", random_state=seed, show=False)
    assert made == [100, 60 if change == "subset" else 100]
    assert few.uns[KEY]["params"]["random_state"] == seed


def test_a_view_is_drawn_and_its_parent_left_alone(adata: AnnData) -> None:
    part = adata[:50]
    embedding(part, color="cell_type", method="tsne", show=False)
    assert part.obsm[KEY].shape == (50, 2) and KEY not in adata.obsm and KEY not in adata.uns


# --- what comes back -------------------------------------------------------------------------------------------------


def test_returns(mapped: AnnData) -> None:
    assert embedding(mapped) is None
    assert isinstance(embedding(mapped, color="cell_type", show=False), Axes)
    assert isinstance(embedding(mapped, color=["cell_type"], show=False), Axes)
    several = embedding(mapped, color=["cell_type", "LYZ"], show=False)
    assert isinstance(several, list) and [ax.get_title() for ax in several] == ["cell_type", "LYZ"]
    assert isinstance(embedding(mapped, color="cell_type", return_fig=True), Figure)
    assert isinstance(embedding(mapped, color=["cell_type", "LYZ"], return_fig=True), Figure)


def test_show_follows_scanpy(mapped: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    embedding(mapped)
    embedding(mapped, show=True)
    assert len(shown) == 2
    embedding(mapped, show=False)
    embedding(mapped, return_fig=True)
    before, sc.settings.autoshow = sc.settings.autoshow, False  # a property without deleter, which monkeypatch needs
    try:
        assert isinstance(embedding(mapped), Axes)
    finally:
        sc.settings.autoshow = before
    assert len(shown) == 2


def test_ax(mapped: AnnData) -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert embedding(mapped, color="cell_type", ax=right, show=False) is right
    assert not left.collections and len(dots(right)) == mapped.n_obs
    assert embedding(mapped, ax=left, return_fig=True) is figure


def test_save(mapped: AnnData, tmp_path: Path) -> None:
    embedding(mapped, color="cell_type", show=False, save=tmp_path / "map.png")
    embedding(mapped, color=["cell_type", "LYZ"], show=False, save=str(tmp_path / "map.pdf"))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")
    assert plt.get_fignums() == []  # saved and not shown: pyplot does not keep it


def test_save_leaves_the_callers_figure_open(mapped: AnnData, tmp_path: Path) -> None:
    figure, ax = plt.subplots()
    embedding(mapped, ax=ax, show=False, save=tmp_path / "map.png")
    assert plt.get_fignums() == [figure.number]


def test_looks(mapped: AnnData) -> None:
    """Options reach the picture."""
    ax = embedding(
        mapped, color="cell_type", size=7, alpha=0.5, title="Blood", legend_loc=None, palette="Set3", show=False
    )
    scatter = next(c for c in ax.collections if isinstance(c, PathCollection))
    assert scatter.get_sizes().tolist() == [7] and scatter.get_alpha() == 0.5
    assert ax.get_title() == "Blood" and ax.get_legend() is None
    assert embedding(mapped, color="LYZ", cmap="magma", show=False).collections[0].get_cmap().name == "magma"
    assert not embedding(mapped, frameon=False, show=False).axison


@pytest.mark.parametrize("color", [["cell_type"], ["cell_type", "LYZ"], ["LYZ", "cell_type", "phase", "NKG7"]])
def test_legends_cover_nothing_and_panels_are_equal(mapped: AnnData, color: list[str]) -> None:
    """Also in a figure that the caller saves, without a tight box."""
    figure = embedding(mapped, color=color, ncols=2, return_fig=True)
    figure.canvas.draw()
    maps = [ax for ax in figure.axes if ax.get_xlabel()]
    boxes = [ax.get_window_extent() for ax in maps]
    for legend in (ax.get_legend() for ax in maps):
        if legend is not None:
            box = legend.get_window_extent()
            assert box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
            assert not any(box.overlaps(other) for other in boxes)
    assert len(maps) == len(color)
    assert max(b.width for b in boxes) - min(b.width for b in boxes) < 0.12 * boxes[0].width  # a colour bar's width


# --- errors ----------------------------------------------------------------------------------------------------------


def test_no_embedding(pbmc: AnnData) -> None:
    with pytest.raises(KeyError, match=r"Did not find `adata.obsm\['X_diffaug'\]`.*Run diffaug.tl.fit first"):
        embedding(pbmc.copy())
    with pytest.raises(KeyError, match=r"Did not find `adata.obsm\['k'\]`"):
        embedding(pbmc.copy(), key_added="k")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"color": "cell_typ"}, KeyError, "Did not find `color` 'cell_typ'.*Did you mean 'cell_type'"),
        ({"color": []}, ValueError, "at least one name in `color`, found none"),
        ({"color": [3]}, TypeError, "names in `color`, found"),
        ({"method": "pca"}, ValueError, r"`method` in \['umap', 'tsne'\], found 'pca'"),
        ({"basis": "nowhere"}, KeyError, r"Did not find `adata.obsm\['nowhere'\]`. Available: \['X_diffaug'"),
        ({"basis": "X_diffaug", "recompute": True}, ValueError, "`basis` alone, found it with `recompute`"),
        ({"basis": "X_diffaug", "key_added": "k"}, ValueError, "`basis` alone, found it with `key_added`"),
        ({"ncols": 0}, ValueError, "`ncols` of at least 1, found 0"),
        ({"title": ["a", "b"]}, ValueError, "a title for each of 1 panels, found 2"),
        ({"key_added": ""}, TypeError, "`key_added` to be a non-empty string"),
    ],
)
def test_wrong_options(adata: AnnData, made: list[int], options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        embedding(adata, show=False, **options)
    assert made == [] and plt.get_fignums() == []  # nothing was computed or opened before the check


def test_one_ax_for_several_colors(mapped: AnnData) -> None:
    ax = plt.subplots()[1]
    with pytest.raises(ValueError, match="Expected one panel for `ax`, found 2"):
        embedding(mapped, color=["cell_type", "LYZ"], ax=ax)


def test_too_few_cells(adata: AnnData) -> None:
    with pytest.raises(ValueError, match="at least 10 cells for a map, found 9"):
        embedding(adata[:9].copy())


def test_not_an_anndata() -> None:
    with pytest.raises(TypeError, match="`adata` to be an AnnData, found ndarray"):
        embedding(np.zeros((20, 2)))
