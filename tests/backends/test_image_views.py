"""Hand-made views of images: what each step does, on which images, and with whose random numbers."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffaug import DiffAug
from diffaug.backends._images import from_planes, to_planes
from diffaug.backends.vision import VisionBackend, VisionConfig
from diffaug.core import inference

#: Only the whole image, as it is.
NOTHING = {
    "crop_scale": 1.0,
    "flip_rate": 0.0,
    "jitter_rate": 0.0,
    "gray_rate": 0.0,
    "blur_rate": 0.0,
    "solarize_rate": 0.0,
}


def pixels(n: int = 12, *shape: int) -> Tensor:
    """Random images in model space; by default 12 x 10 pixels in three colours."""
    return torch.rand(n, *(shape or (12, 10, 3)), generator=torch.Generator().manual_seed(4)) * 2 - 1


def views_of(
    data: Tensor, seed: int = 0, kind: str | None = None, index: Tensor | None = None, **settings: Any
) -> Tensor:
    backend = VisionBackend(VisionConfig(**settings), tuple(data.shape[1:]))
    index = torch.arange(len(data)) if index is None else index
    return backend.hand_views(data, kind=kind)(index, torch.Generator().manual_seed(seed))


def test_layout_there_and_back() -> None:
    for x in (pixels(3, 5, 7), pixels(3, 5, 7, 1), pixels(3, 5, 7, 4)):
        planes = to_planes(x)
        assert planes.shape == (3, x.shape[3] if x.ndim == 4 else 1, 5, 7)
        assert torch.equal(from_planes(planes, x.ndim), x)


# --- random numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standard", "crop", "mixup"])
def test_equal_streams_give_equal_views_whatever_the_global_state(kind: str) -> None:
    data = pixels()
    torch.manual_seed(1)
    first = views_of(data, 3, kind)
    torch.manual_seed(2)
    assert torch.equal(views_of(data, 3, kind), first)
    assert not torch.equal(views_of(data, 4, kind), first)


@pytest.mark.parametrize("kind", ["standard", "crop", "mixup"])
def test_global_random_state_is_left_alone(kind: str) -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    views_of(pixels(), 3, kind)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def test_a_stream_goes_on() -> None:
    """Two batches from one stream are not the same views."""
    data, stream = pixels(), torch.Generator().manual_seed(0)
    views = VisionBackend(VisionConfig(), (12, 10, 3)).hand_views(data)
    index = torch.arange(12)
    assert not torch.equal(views(index, stream), views(index, stream))


def test_originals_are_not_written_to() -> None:
    data = pixels()
    kept = data.clone()
    for kind in ("standard", "crop", "mixup"):
        views_of(data, 0, kind).fill_(9)
    assert torch.equal(data, kept)


# --- which image -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1 << 22, 5 * 360])
def test_each_view_is_of_its_own_image(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Images of one value each keep it under crops, in large batches and in small parts."""
    monkeypatch.setattr(inference, "_NUMBERS_AT_ONCE", at_once)
    value = torch.linspace(-1, 1, 12)
    data = value[:, None, None, None].expand(12, 12, 10, 3).contiguous()
    index = torch.randint(12, (23,), generator=torch.Generator().manual_seed(0))
    made = views_of(data, kind="crop", index=index)
    torch.testing.assert_close(made, data[index], rtol=0, atol=1e-5)


# --- the steps -------------------------------------------------------------------------------------------------------


def test_without_any_step_the_view_is_the_image() -> None:
    """The control of what follows. A square, whose whole area is a crop."""
    data = pixels(6, 12, 12, 3)
    found = views_of(data, **NOTHING)
    share = (found - data).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert share.all()


def test_flip_mirrors_left_and_right() -> None:
    data = pixels(6, 12, 12, 3)
    found = views_of(data, **{**NOTHING, "flip_rate": 1.0})
    torch.testing.assert_close(found, data.flip(2), rtol=0, atol=1e-4)


def test_crop_enlarges_a_part() -> None:
    """Values stay within those of the image, and a slope becomes less steep."""
    data = torch.linspace(-1, 1, 12)[None, None, :, None].expand(8, 12, 12, 3).contiguous()
    found = views_of(data, kind="crop", crop_scale=0.2, flip_rate=0.0)
    assert found.min() >= -1 - 1e-5 and found.max() <= 1 + 1e-5
    slope = found[:, :, -1] - found[:, :, 0]
    assert (slope > 0).all() and (slope < 2).any() and slope.std() > 0.05


@pytest.mark.parametrize("side", [12, 40])
def test_blur_smooths(side: int) -> None:
    data = pixels(6, side, side, 3)
    found = views_of(data, **{**NOTHING, "blur_rate": 1.0})
    assert (found.std(dim=(1, 2)) < data.std(dim=(1, 2)) + 1e-6).all()
    assert found.std() < 0.95 * data.std()
    torch.testing.assert_close(found.mean(dim=(1, 2)), data.mean(dim=(1, 2)), rtol=0, atol=0.1)


@pytest.mark.parametrize("shape", [(12, 12, 3), (12, 12), (12, 12, 1), (12, 12, 5)])
def test_solarisation_turns_the_bright_half(shape: tuple[int, ...]) -> None:
    data = pixels(6, *shape)
    found = views_of(data, **{**NOTHING, "solarize_rate": 1.0})
    torch.testing.assert_close(found, torch.where(data >= 0, -data, data), rtol=0, atol=1e-4)


def test_jitter_of_colour_images_changes_hue() -> None:
    data = pixels(6, 12, 12, 3)
    found = views_of(data, **{**NOTHING, "jitter_rate": 1.0})
    assert not torch.allclose(found, data, atol=0.05)
    assert found.min() >= -1 and found.max() <= 1
    weak = views_of(data, **{**NOTHING, "jitter_rate": 1.0, "jitter_strength": 0.05})
    assert (weak - data).abs().mean() < 0.3 * (found - data).abs().mean()


def test_grey_has_equal_colours() -> None:
    found = views_of(pixels(6, 12, 12, 3), **{**NOTHING, "gray_rate": 1.0})
    torch.testing.assert_close(found[..., 0], found[..., 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[..., 0], found[..., 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 1), (12, 12, 2), (12, 12, 4)])
def test_other_than_rgb_skips_what_needs_colours(shape: tuple[int, ...]) -> None:
    """Brightness and contrast change an image as a whole: the order of its pixels stays, but where they reach an end."""
    data = pixels(6, *shape) / 2
    assert torch.allclose(views_of(data, **{**NOTHING, "gray_rate": 1.0}), data, atol=1e-4)
    found = views_of(data, **{**NOTHING, "jitter_rate": 1.0})
    assert found.shape == data.shape
    assert not torch.allclose(found, data, atol=0.05)
    for image, view in zip(data, found, strict=True):
        order = image.flatten().argsort()
        assert (view.flatten()[order].diff() > -1e-4).all()


def test_rates_are_of_single_images() -> None:
    data = pixels(60, 12, 12, 3)
    found = views_of(data, **{**NOTHING, "solarize_rate": 0.5})
    n_changed = int(((found - data).abs().amax(dim=(1, 2, 3)) > 0.1).sum())
    assert 18 < n_changed < 42


def test_mixup_keeps_more_of_the_image_itself() -> None:
    data = torch.eye(40).reshape(40, 1, 40).expand(40, 12, 40).contiguous()
    found = views_of(data, kind="mixup", index=torch.arange(40).repeat(5))
    weight = found[:, 0]  # of each image in the view
    own = weight[torch.arange(200), torch.arange(40).repeat(5)]
    assert ((own > 0.5) & (own <= 1)).all() and own.std() > 0.1
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(200))
    assert ((weight > 0).sum(dim=1) == 2).float().mean() > 0.95


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["standard", "crop"])
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Said before any training; mixup does not need it."""
    for name in [m for m in sys.modules if m == "kornia" or m.startswith("kornia.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(ImportError, match=r'Expected kornia for .* Do: pip install "diffaug\[vision\]"'):
        views_of(pixels(), kind=kind)
    x = np.random.default_rng(0).random((5, 8, 8))
    model = DiffAug({"domain": {"views": kind}}, backend="vision", device="cpu")
    with pytest.raises(ImportError, match=r'pip install "diffaug\[vision\]"'):
        model.fit(x, progress=False)
    assert model.history == []
    assert views_of(pixels(), kind="mixup").shape == (12, 12, 10, 3)


def test_unknown_kind_and_lonely_image() -> None:
    with pytest.raises(
        ValueError, match=r"Expected views of a kind in \['standard', 'crop', 'mixup'\], found 'cutout'"
    ):
        views_of(pixels(), kind="cutout")
    with pytest.raises(ValueError, match="Expected at least 2 images for mixup views, found 1"):
        views_of(pixels(1), kind="mixup")
    assert views_of(pixels(1), kind="standard").shape == (1, 12, 10, 3)
