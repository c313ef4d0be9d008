"""Grids of images: each image at its place, on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug import vision
from diffaug.vision import plot_images, plot_views


def drawn(axes: Axes) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3)])
def test_every_image_at_its_place(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random((7, *shape))
    picture = drawn(plot_images(x, n_columns=3, show=False))
    assert picture.shape[:2] == (3 * 9, 3 * 10)
    scale = x.max()
    for i in range(7):
        row, column = divmod(i, 3)
        cell = picture[9 * row : 9 * row + 8, 10 * column : 10 * column + 9]
        np.testing.assert_allclose(cell, x[i].reshape(cell.shape) / scale, rtol=1e-5)
    assert (picture[-9:, 10:] == 1).all()  # empty places are white
    plt.close("all")


@pytest.mark.parametrize(
    ("x", "low", "high"),
    [
        (np.array([0, 100, 200], np.uint8), 0, 200 / 255),
        (np.array([0, 8, 16], np.uint8), 0, 1),
        (np.array([0.0, 8.0, 16.0]), 0, 1),
        (np.array([-1.0, 0.0, 1.0]), 0, 1),
        (np.array([0.25, 0.5, 0.5]), 0.5, 1),  # black stays black
        (np.zeros(3), 0, 0),
    ],
)
def test_one_scale_for_all(x: np.ndarray, low: float, high: float) -> None:
    picture = drawn(plot_images(np.broadcast_to(x[:, None, None], (3, 8, 8)), show=False))
    cells = [picture[:8, 9 * i : 9 * i + 8] for i in range(3)]
    assert float(cells[0].max()) == pytest.approx(low) and float(cells[2].min()) == pytest.approx(high)
    plt.close("all")


def test_views_are_below_their_originals(tmp_path: Path) -> None:
    """And of the kinds asked for, as ``augment`` makes them."""
    x = np.round(np.random.default_rng(0).random((20, 8, 8)) * 255).astype(np.uint8)
    config = {
        "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 0, "view_rate": 0.0, "batch_size": 8},
        "diffusion": {"n_steps": 2},
        "domain": {"encoder_width": 0.0625, "generator_width": 4},
    }
    model = vision.fit(x, config=config, device="cpu", progress=False)
    axes = plot_views(x[:5], model, kinds=["diffaug", "mixup"], random_state=4, save=tmp_path / "v.png", show=False)
    assert isinstance(axes, Axes)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["original", "diffaug", "diffaug", "mixup", "mixup"]
    picture = drawn(axes)
    expected = [x[:5]]
    for kind in ("diffaug", "mixup"):
        views = model.augment(x[:5], 2, kind=kind, random_state=4)
        expected += [views[:, 0], views[:, 1]]
    for row, images in enumerate(expected):
        for column, image in enumerate(images):
            cell = picture[9 * row : 9 * row + 8, 9 * column : 9 * column + 8]
            np.testing.assert_allclose(cell, image / 255, atol=1e-6)
    assert (tmp_path / "v.png").stat().st_size > 1000
    with pytest.raises(TypeError, match=r"Expected a list of `kinds`, found 'crop'. Write \['crop'\]"):
        plot_views(x[:5], model, kinds="crop")


def test_ways_of_handing_over(tmp_path: Path) -> None:
    x = vision.ImageSet(np.random.default_rng(0).random((4, 8, 8)))
    figure = plot_images(x, title="four", return_fig=True)
    assert isinstance(figure, Figure) and figure.axes[0].get_title() == "four"
    _, mine = plt.subplots()
    assert plot_images(x, ax=mine, show=False) is mine
    with pytest.raises(TypeError, match="Expected `save` to be a file name, found True"):
        plot_images(x, save=True)  # type: ignore[arg-type]
    plt.close("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": np.zeros((4, 8))}, r"Expected grey or RGB images .* to draw, found \(4, 8\)"),
        ({"images": np.zeros((4, 8, 8, 2))}, r"found \(4, 8, 8, 2\)"),
        ({"images": np.zeros((0, 8, 8))}, r"found \(0, 8, 8\)"),
        ({"images": np.full((4, 8, 8), np.nan)}, "Expected finite pixels, found 256 NaN or infinite ones"),
        ({"images": np.zeros((4, 8, 8)), "n_columns": 0}, "Expected `n_columns` of at least 1, found 0"),
        ({"images": np.zeros((4, 8, 8)), "n_columns": 2, "labels": ["a"]}, "Expected 2 `labels`, .* found 1"),
    ],
)
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_images(options.pop("images"), **options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("photos", "Expected a numpy array of images, found str"),
        ([np.zeros((8, 8)), np.zeros((9, 9))], "Expected a numpy array of images, found list"),
        (np.full((2, 8, 8), "a"), "Expected pixels that are real numbers, found dtype <U1"),
    ],
)
def test_what_is_no_array_of_images(images: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        plot_images(images)


def test_views_of_a_generator_that_is_told_the_label() -> None:
    """Labels go with the images; without them the message is that of ``augment``."""
    x, y = np.round(np.random.default_rng(0).random((20, 8, 8)) * 255).astype(np.uint8), np.arange(20) % 2
    config = {
        "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 0, "view_rate": 0.0, "batch_size": 8},
        "diffusion": {"n_steps": 2, "condition": "label"},
        "domain": {"encoder_width": 0.0625, "generator_width": 4, "views": "mixup"},
    }
    model = vision.fit(x, labels=y, config=config, device="cpu", progress=False)
    some = vision.ImageSet(x[:5], y[:5])
    picture = drawn(plot_views(some, model, n_views=1, kinds=["diffaug", "mixup"], show=False))
    views = model.augment(x[:5], labels=y[:5])[:, 0]
    np.testing.assert_allclose(picture[9:17, :8], views[0] / 255, atol=1e-6)
    with pytest.raises(ValueError, match="Expected `labels`, found none"):
        plot_views(x[:5], model, show=False)
    plt.close("all")
