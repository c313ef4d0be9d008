"""``tl.view_similarity`` and its picture, ``pl.cosine_similarity``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

import diffaug
from diffaug.pl import cosine_similarity
from diffaug.tl import view_similarity

KINDS = ["diffaug", "mixup", "feature_swap", "random_pair"]


def kind(pairs: pd.DataFrame, name: str) -> np.ndarray:
    return pairs.loc[pairs["kind"] == name, "cosine"].to_numpy()


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_long_form(adata: AnnData, model: diffaug.DiffAug) -> None:
    pairs = view_similarity(adata, model, n_cells=40, n_views=3)
    assert list(pairs.columns) == ["cell", "kind", "cosine"]
    assert list(pairs["kind"].cat.categories) == KINDS
    assert (pairs["kind"].value_counts() == 120).all()
    assert pairs["cosine"].between(-1, 1).all()
    for name in KINDS:
        cells = pairs.loc[pairs["kind"] == name, "cell"]
        assert cells.isin(adata.obs_names).all() and (cells.value_counts() == 3).all() and cells.nunique() == 40


def test_generated_views_against_the_public_functions(adata: AnnData, model: diffaug.DiffAug) -> None:
    """With all cells asked for, the same numbers come from `tl.augment` and `tl.embed` on the drawn order."""
    few = adata[:30].copy()
    pairs = view_similarity(few, model, kinds="diffaug", n_cells=30, n_views=2, random_state=4)
    drawn = few[pairs.loc[pairs["kind"] == "diffaug", "cell"].iloc[::2].tolist()].copy()
    views = diffaug.tl.augment(drawn, model, n_views=2, random_state=4)
    diffaug.tl.embed(views, model)
    source = drawn.obs_names.get_indexer(views.obs["source_cell"])
    a, b = drawn.obsm["X_diffaug"][source], views.obsm["X_diffaug"]
    expected = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(kind(pairs, "diffaug"), expected, atol=1e-5)


def test_a_view_equal_to_its_cell_has_cosine_one(
    adata: AnnData, model: diffaug.DiffAug, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells and views stay in step, whatever is drawn; shifted by one cell they do not."""
    values = adata.X.toarray()
    rows: list[np.ndarray] = []

    def same(x, n_views, **options):
        rows.append(x.toarray())
        return np.repeat(x.toarray()[:, None], n_views, axis=1)

    monkeypatch.setattr(model, "augment", same)
    pairs = view_similarity(adata, model, n_cells=50, n_views=2)
    for name in KINDS[:3]:
        np.testing.assert_allclose(kind(pairs, name), 1, atol=1e-5)
    # Hand-made views find their partners among all cells, and generated ones are made of the drawn cells only.
    assert [len(r) for r in rows] == [50, 700, 700]
    assert {r.tobytes() for r in rows[1]} == {r.tobytes() for r in values}

    monkeypatch.setattr(model, "augment", lambda x, n, **options: np.roll(same(x, n), 1, axis=0))
    assert kind(view_similarity(adata, model, n_cells=50), "diffaug").mean() < 0.9


def test_views_are_nearer_than_random_pairs(adata: AnnData, model: diffaug.DiffAug) -> None:
    pairs = view_similarity(adata, model, n_cells=100)
    assert kind(pairs, "mixup").mean() > kind(pairs, "random_pair").mean() + 0.2
    assert kind(pairs, "random_pair").max() < 1 - 1e-6  # a cell is never paired with itself


def test_random_pairs_are_among_the_drawn_cells(adata: AnnData, model: diffaug.DiffAug) -> None:
    """Of two cells, each one's only possible partner is the other."""
    pairs = view_similarity(adata, model, kinds="mixup", n_cells=2, n_views=4)
    a, b = adata[pairs["cell"].unique().tolist()].obsm["X_diffaug"].astype(float)
    np.testing.assert_allclose(kind(pairs, "random_pair"), a @ b / np.linalg.norm(a) / np.linalg.norm(b), atol=1e-6)


def test_equal_seeds_give_equal_numbers(adata: AnnData, model: diffaug.DiffAug) -> None:
    one, two = (view_similarity(adata, model, n_cells=20, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    other = view_similarity(adata, model, n_cells=20, random_state=4)
    assert set(other["cell"]) != set(one["cell"])


def test_more_cells_than_there_are(adata: AnnData, model: diffaug.DiffAug) -> None:
    pairs = view_similarity(adata[:15].copy(), model, kinds=["mixup", "mixup"], n_cells=500)
    assert pairs["kind"].value_counts().to_dict() == {"mixup": 15, "random_pair": 15}


def test_inputs_are_not_modified(adata: AnnData, model: diffaug.DiffAug) -> None:
    before = adata.copy()
    view_similarity(adata, model, n_cells=10)
    assert (adata.X != before.X).nnz == 0 and set(adata.obsm) == set(before.obsm) and set(adata.uns) == set(before.uns)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"kinds": "crop"},
            ValueError,
            r"`kinds` among \['diffaug', 'mixup', 'feature_swap', 'mask', 'noise', 'thinning'\], found 'crop'",
        ),
        ({"kinds": ()}, ValueError, "`kinds` among .*, found none"),
        ({"n_cells": 1}, ValueError, "`n_cells` of at least 2, found 1"),
        ({"n_cells": 10.0}, TypeError, "`n_cells` to be a whole number, found 10.0"),
        ({"n_views": 0}, ValueError, "`n_views` of at least 1, found 0"),
    ],
)
def test_wrong_options(adata: AnnData, model: diffaug.DiffAug, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        view_similarity(adata, model, **options)


def test_wrong_inputs(adata: AnnData, model: diffaug.DiffAug) -> None:
    with pytest.raises(ValueError, match="at least 2 cells in `adata` to compare, found 1"):
        view_similarity(adata[:1].copy(), model)
    with pytest.raises(TypeError, match="`model` to be a DiffAug, found str"):
        view_similarity(adata, "model")
    with pytest.raises(ValueError, match="This model was fitted on 765 genes, found 300"):
        view_similarity(adata[:, :300].copy(), model)


def test_no_generator(pbmc: AnnData) -> None:
    model = diffaug.tl.fit(
        pbmc[::5].copy(),
        n_cycles=0,
        config={"training": {"warmup_epochs": 1, "mixed_epochs": 0, "n_encoders": 1}},
        device="cpu",
        progress=False,
    )
    with pytest.raises(RuntimeError, match="Expected a trained generator"):
        view_similarity(pbmc, model, n_cells=10)
    assert len(view_similarity(pbmc, model, kinds="mixup", n_cells=10)) == 20


# --- the picture -----------------------------------------------------------------------------------------------------


def histograms(ax: Axes) -> dict[str, np.ndarray]:
    """Corners of each histogram's outline, by its label."""
    return {p.get_label().split(" (")[0]: p.get_xy() for p in ax.patches if isinstance(p, Polygon)}


def test_histograms_are_those_of_the_numbers(adata: AnnData, model: diffaug.DiffAug) -> None:
    pairs = view_similarity(adata, model, n_cells=80, n_views=2, random_state=5)
    ax = cosine_similarity(adata, model, n_cells=80, n_views=2, random_state=5, show=False)
    drawn = histograms(ax)
    assert list(drawn) == ["random pairs", "DiffAug", "mixup", "feature swap"]
    edges = np.unique(drawn["DiffAug"][:, 0])
    assert edges[-1] == pytest.approx(1) and edges[0] <= pairs["cosine"].min()
    for name, label in zip(KINDS, ["DiffAug", "mixup", "feature swap", "random pairs"], strict=True):
        counts, _ = np.histogram(kind(pairs, name), edges)
        assert counts.sum() == 160  # none lies outside
        top = drawn[label][1 : 2 * len(counts) : 2, 1]
        np.testing.assert_allclose(top, 100 * counts / 160, atol=1e-9)


def test_every_kind_has_a_colour_of_its_own(adata: AnnData, model: diffaug.DiffAug) -> None:
    kinds = ["diffaug", *model.backend.view_kinds]
    ax = cosine_similarity(adata, model, kinds=kinds, n_cells=20, show=False)
    outlines = [p for p in ax.patches if isinstance(p, Polygon)]
    assert len({p.get_edgecolor() for p in outlines}) == len(histograms(ax)) == len(kinds) + 1


def test_medians_are_in_the_legend(adata: AnnData, model: diffaug.DiffAug) -> None:
    pairs = view_similarity(adata, model, kinds=["mixup"], n_cells=80)
    ax = cosine_similarity(adata, model, kinds=["mixup"], n_cells=80, show=False)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == [
        f"mixup (median {np.median(kind(pairs, 'mixup')):.2f})",
        f"random pairs (median {np.median(kind(pairs, 'random_pair')):.2f})",
    ]


def test_returns(adata: AnnData, model: diffaug.DiffAug, tmp_path: Path) -> None:
    options = {"kinds": "mixup", "n_cells": 20}
    assert cosine_similarity(adata, model, **options) is None
    assert isinstance(cosine_similarity(adata, model, **options, return_fig=True), Figure)
    ax = plt.subplots()[1]
    assert cosine_similarity(adata, model, **options, ax=ax, title="Views", show=False) is ax
    assert ax.get_title() == "Views" and len(histograms(ax)) == 2
    plt.close("all")
    assert isinstance(cosine_similarity(adata, model, **options, show=False, save=tmp_path / "cosine.png"), Axes)
    assert (tmp_path / "cosine.png").read_bytes().startswith(b"\x89PNG") and plt.get_fignums() == []


def test_wrong_arguments_open_no_figure(adata: AnnData, model: diffaug.DiffAug) -> None:
    with pytest.raises(ValueError, match="`kinds` among"):
        cosine_similarity(adata, model, kinds="crop")
    assert plt.get_fignums() == []
