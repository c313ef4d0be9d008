"""``pl.history``: curves, phases and fills against the records of the fit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import diffaug
from diffaug.core.plan import EpochRecord
from diffaug.pl import history

KEYS = ["encoder_loss", "generator_loss", "semantic_cosine", "effective_rank", "generated_share"]


def with_history(records: list[EpochRecord]) -> AnnData:
    """Cells with a history as ``tl.fit`` writes it."""
    adata = AnnData(np.zeros((3, 2), dtype=np.float32))
    names = [f.name for f in dataclasses.fields(EpochRecord)]
    adata.uns["diffaug"] = {"history": {n: np.array([getattr(r, n) for r in records]) for n in names}}
    return adata


def records(blocks: list[tuple[str, int, int]]) -> list[EpochRecord]:
    """Records of ``(phase, cycle, n_epochs)``; a fill has no epoch of its own."""
    made, epoch = [], 0
    for phase, cycle, n in blocks:
        for _ in range(n):
            epoch += phase != "fill"
            encoder = {"encoder_loss": 5 / epoch, "n_positives": 10, "semantic_cosine": 0.5, "effective_rank": 9.0}
            values = encoder if phase in ("A", "joint") else {}
            if phase in ("B", "joint"):
                values = {**values, "generator_loss": 1 / epoch}
            if phase == "A" and cycle > 0:
                values["n_generated"] = 3
            made.append(EpochRecord(phase, cycle, epoch, **values))
    return made


def spans(ax: Axes) -> list[tuple[str, float, float]]:
    """Name and ends of each shaded span."""
    found = [p for p in ax.patches if isinstance(p, Rectangle) and (p.get_gid() or "").startswith("phase")]
    return [(p.get_gid().removeprefix("phase "), p.get_x(), p.get_x() + p.get_width()) for p in found]


def fills(ax: Axes) -> list[float]:
    return [line.get_xdata()[0] for line in ax.lines if line.get_gid() == "fill"]


def phase_texts(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.texts]


# --- a real history --------------------------------------------------------------------------------------------------


def test_curves_are_the_records(adata: AnnData, model: diffaug.DiffAug) -> None:
    epochs = [r for r in model.history if r.phase != "fill"]
    for name, ax in zip(KEYS, history(adata, show=False), strict=True):
        x, y = ax.lines[-2].get_data()
        np.testing.assert_array_equal(x, [r.epoch for r in epochs])
        if name == "generated_share":
            expected = [100 * r.n_generated / r.n_positives if r.n_positives else math.nan for r in epochs]
        else:
            expected = [getattr(r, name) for r in epochs]
        np.testing.assert_array_equal(y, expected)


def test_generated_positives_appear_after_the_fill(adata: AnnData) -> None:
    ax = history(adata, keys="generated_share", show=False)
    (fill,), (x, y) = fills(ax), ax.lines[-2].get_data()
    assert (y[(x < fill) & np.isfinite(y)] == 0).all() and (y[x > fill] > 0).all()


def test_shades_are_the_phases_of_the_fit(adata: AnnData, model: diffaug.DiffAug) -> None:
    expected = {}
    for r in model.history:
        if r.phase != "fill":
            expected.setdefault(f"{r.phase} {r.cycle}", []).append(r.epoch)
    ends = [(name, min(e) - 0.5, max(e) + 0.5) for name, e in expected.items()]
    assert [name for name, *_ in ends] == ["A 0", "B 1", "A 1"]
    for ax in history(adata, show=False):
        assert spans(ax) == ends
        assert fills(ax) == [ends[1][2]]  # between the generator's phase and the next


def test_model_and_anndata_give_the_same_picture(adata: AnnData, model: diffaug.DiffAug, tmp_path: Path) -> None:
    adata.write_h5ad(tmp_path / "a.h5ad")
    model.save(tmp_path / "model")
    pictures = [adata, model, anndata.read_h5ad(tmp_path / "a.h5ad"), diffaug.DiffAug.load(tmp_path / "model")]
    drawn = []
    for source in pictures:
        axes = history(source, show=False)
        drawn.append((spans(axes[0]), fills(axes[0]), [ax.lines[-2].get_ydata() for ax in axes]))
    for other in drawn[1:]:
        assert other[:2] == drawn[0][:2]
        for a, b in zip(other[2], drawn[0][2], strict=True):
            np.testing.assert_array_equal(a, b)


# --- histories of other plans ----------------------------------------------------------------------------------------


def test_two_cycles() -> None:
    plan = [("A", 0, 4), ("B", 1, 3), ("fill", 1, 1), ("A", 1, 2), ("B", 2, 3), ("fill", 2, 1), ("A", 2, 2)]
    ax = history(with_history(records(plan)), keys="encoder_loss", show=False)
    assert spans(ax) == [
        ("A 0", 0.5, 4.5),
        ("B 1", 4.5, 7.5),
        ("A 1", 7.5, 9.5),
        ("B 2", 9.5, 12.5),
        ("A 2", 12.5, 14.5),
    ]
    assert fills(ax) == [7.5, 12.5]


def test_of_an_ensemble_the_first_encoder_is_shown_with_its_epochs_counted() -> None:
    alone = records([("A", 0, 2), ("B", 1, 3), ("fill", 1, 1), ("A", 1, 2)])
    blocks = [("A", 0, 2), ("A", 0, 2), ("B", 1, 3), ("fill", 1, 1), ("A", 1, 2), ("fill", 1, 1), ("A", 1, 2)]
    of = np.repeat([0, 1, 0, 0, 0, 1, 1], [2, 2, 3, 1, 2, 1, 2])
    several = [dataclasses.replace(r, member=int(m)) for r, m in zip(records(blocks), of, strict=True)]
    expected, found = (history(with_history(each), keys="encoder_loss", show=False) for each in (alone, several))
    assert isinstance(expected, Axes) and isinstance(found, Axes)
    assert spans(found) == spans(expected) and fills(found) == fills(expected) == [5.5]
    np.testing.assert_array_equal(found.lines[0].get_xdata(), expected.lines[0].get_xdata())


def test_joint_schedule() -> None:
    plan = [("joint", 0, 4), ("fill", 1, 1), ("joint", 1, 4)]
    axes = history(with_history(records(plan)), show=False)
    assert spans(axes[0]) == [("joint 0", 0.5, 4.5), ("joint 1", 4.5, 8.5)] and fills(axes[0]) == [4.5]
    assert len(axes) == 5 and np.isfinite(axes[1].lines[-2].get_ydata()).all()


def test_encoder_alone_has_no_generator_panel() -> None:
    axes = history(with_history(records([("A", 0, 5), ("A", 1, 3)])), show=False)
    assert [ax.get_ylabel().split("\n")[0] for ax in axes] == [
        "encoder loss",
        "cosine of cell",
        "effective rank",
        "generated",
    ]
    assert fills(axes[0]) == []


def test_a_single_epoch_is_a_visible_point() -> None:
    adata = with_history(records([("A", 0, 1), ("B", 1, 1), ("fill", 1, 1), ("A", 1, 3)]))
    points = history(adata, keys="encoder_loss", show=False).lines[-1]
    assert points.get_marker() == "o" and points.get_xdata().tolist() == [1]


@pytest.mark.parametrize("n_cycles", [1, 3, 8, 40])
def test_phase_names_do_not_overlap(n_cycles: int) -> None:
    plan = [("A", 0, 10)]
    for cycle in range(1, n_cycles + 1):
        plan += [("B", cycle, 9), ("fill", cycle, 1), ("A", cycle, 5)]
    ax = history(with_history(records(plan)), title="A fit", show=False)[0]
    ax.figure.canvas.draw()
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda box: box.x0)
    assert all(a.x1 <= b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
    assert (len(boxes) == 2 * n_cycles + 1) == (n_cycles <= 8)
    legend = ax.get_legend().get_window_extent()
    assert not any(legend.overlaps(box) for box in boxes)
    check_title_is_above(ax)
    assert legend.x1 <= ax.figure.bbox.x1 and legend.y1 <= ax.figure.bbox.y1


def check_title_is_above(ax: Axes) -> None:
    legend = ax.get_legend().get_window_extent()
    assert ax._left_title.get_window_extent().y0 >= legend.y1


def test_a_narrow_panel_stacks_its_legend() -> None:
    """And neither the names of the phases nor the title run into it."""
    ax = plt.subplots(figsize=(4, 4), layout="constrained")[1]
    plan = [("A", 0, 10), ("B", 1, 10), ("fill", 1, 1), ("A", 1, 10)]
    history(with_history(records(plan)), keys="encoder_loss", ax=ax, title="A fit", show=False)
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert legend.x1 <= ax.figure.bbox.x1
    assert len(ax.texts) == 3 and not any(legend.overlaps(t.get_window_extent()) for t in ax.texts)
    check_title_is_above(ax)


# --- what comes back -------------------------------------------------------------------------------------------------


def test_returns(adata: AnnData) -> None:
    assert history(adata) is None
    assert isinstance(history(adata, keys="encoder_loss", show=False), Axes)
    several = history(adata, keys=["effective_rank", "encoder_loss"], show=False)
    assert [ax.get_ylabel().split("\n")[0] for ax in several] == ["effective rank", "encoder loss"]
    assert len(history(adata, show=False)) == 5
    assert isinstance(history(adata, return_fig=True), Figure)


def test_ax_and_title(adata: AnnData) -> None:
    ax = plt.subplots()[1]
    assert history(adata, keys="encoder_loss", ax=ax, title="A fit", show=False) is ax
    assert ax.get_title(loc="left") == "A fit" and spans(ax)
    with pytest.raises(ValueError, match="Expected one panel for `ax`, found 5"):
        history(adata, ax=ax)


def test_save(adata: AnnData, tmp_path: Path) -> None:
    history(adata, show=False, save=tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_key_added(adata: AnnData) -> None:
    adata.uns["k"] = adata.uns.pop("diffaug")
    assert len(history(adata, key_added="k", show=False)) == 5


# --- errors ----------------------------------------------------------------------------------------------------------


def test_no_history(pbmc: AnnData, model: diffaug.DiffAug) -> None:
    with pytest.raises(KeyError, match=r"Did not find `adata.uns\['diffaug'\]`.*Run diffaug.tl.fit first"):
        history(pbmc)
    embedded = pbmc.copy()
    diffaug.tl.embed(embedded, model)
    assert history(embedded, show=False) is not None  # the model's own history comes with the embedding
    plt.close("all")
    del embedded.uns["diffaug"]["history"]
    with pytest.raises(KeyError, match="fitted elsewhere. Pass the model"):
        history(embedded)
    with pytest.raises(KeyError, match="Did not find a history in the model"):
        history(diffaug.DiffAug(device="cpu"))


def test_wrong_arguments(adata: AnnData, model: diffaug.DiffAug) -> None:
    with pytest.raises(ValueError, match="`keys` among .*, found 'loss'"):
        history(adata, keys="loss")
    with pytest.raises(ValueError, match="Expected values of 'generator_loss' in the history, found none"):
        history(with_history(records([("A", 0, 2)])), keys="generator_loss")
    with pytest.raises(ValueError, match="no `key_added` for a model"):
        history(model, key_added="k")
    with pytest.raises(TypeError, match="Expected an AnnData or a DiffAug, found dict"):
        history({})
    assert plt.get_fignums() == []
