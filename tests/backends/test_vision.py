"""The vision domain: ranges and types of pixels, settings, networks, and views that keep their class."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Any

import numpy as np
import pytest
import torch

from diffaug import DiffAug, vision
from diffaug.backends.vision import VisionBackend, VisionConfig
from diffaug.core.config import Config

TINY = {
    "training": {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 8, "n_views": 1},
    "diffusion": {"n_steps": 2},
    "domain": {"encoder_width": 0.0625, "generator_width": 4},
}


def prepared(x: np.ndarray, **settings: Any) -> VisionBackend:
    backend = VisionBackend(VisionConfig(**settings), VisionBackend.event_shape_of(x))
    backend.prepare(x)
    return backend


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape or (9, 8, 8, 3))


# --- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "low", "high", "step"),
    [
        (np.round(noise() * 250).astype(np.uint8), 0, 255, 1),
        (np.round(noise() * 250), 0, 255, 1),  # bytes that were made floats
        (np.round(noise() * 16), 0, 16, 1),  # scikit-learn's digits
        (np.round(noise() * 16).astype(np.uint8), 0, 16, 1),
        (np.round(noise() * 4000).astype(np.uint16), 0, 4000, 1),
        (np.round(noise() * 3000 - 1000).astype(np.int32), -1000, 2000, 1),
        (np.round(noise() * 16) - 16, -16, 0, 1),
        (noise() * 0.9, 0, 1, 1 / 255),
        ((noise() * 1.9 - 0.95).astype(np.float32), -1, 1, 2 / 255),
        (noise() > 0.5, 0, 1, 1),
        ((noise() > 0.5) * 1.0, 0, 1, 1),
        (noise() * 7 - 3, -3, 4, 7 / 255),
    ],
    ids=[
        "bytes",
        "whole floats",
        "digits",
        "dark bytes",
        "uint16",
        "int32",
        "negative",
        "0-1",
        "-1-1",
        "bool",
        "binary",
        "other",
    ],
)
def test_range_of_the_input_is_found_and_kept(x: np.ndarray, low: float, high: float, step: float) -> None:
    backend = prepared(x)
    near = 0.002 * (high - low)  # where no usual range fits, it is that of the random values
    assert float(backend.low) == pytest.approx(low, abs=near)
    assert float(backend.high) == pytest.approx(high, abs=near)
    assert float(backend.step) == pytest.approx(step, rel=0.01)
    v = backend.to_model(x)
    assert v.min() >= -1 - 1e-6 and v.max() <= 1 + 1e-6
    assert v.max() - v.min() > 1.7  # the range is used
    back = backend.from_model(v)
    assert back.dtype == (np.uint8 if x.dtype == np.uint8 else np.float32)
    if step == 1:
        np.testing.assert_array_equal(back, x)
    else:
        np.testing.assert_allclose(back, x, atol=0.51 * step)


def test_output_is_quantised_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="diffaug"):
        backend = prepared(np.round(noise() * 255).astype(np.uint8))
    assert "are scaled from 0 .. 255" in caplog.text
    made = backend.from_model(torch.tensor([-7.0, -1.0, 0.0, 0.0031, 0.0118, 1.0, 7.0]))
    assert made.dtype == np.uint8
    assert made.tolist() == [0, 0, 128, 128, 129, 255, 255]
    smooth = prepared(noise()).from_model(torch.linspace(-1.2, 1.2, 5000))
    assert len(np.unique(smooth)) == 256
    np.testing.assert_allclose(smooth * 255, np.round(smooth * 255), atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (8, 9, 1), (9, 8, 3), (8, 8, 5)])
def test_shape_and_type_of_the_input_come_back(shape: tuple[int, ...]) -> None:
    """Through a whole fit."""
    x = np.round(noise(10, *shape) * 255).astype(np.uint8)
    model = DiffAug(TINY, backend="vision", device="cpu").fit(x, progress=False)
    for made in (model.generate(3).values, model.augment(x[:3])[:, 0], model.augment(x[:3], kind="standard")[:, 0]):
        assert made.shape == (3, *shape)
        assert made.dtype == np.uint8
    assert model.embed(x).semantic.shape == (10, 32)  # the pooled features of a sixteenth of the width
    x.flags.writeable = False
    model.embed(x)


def test_new_images_on_another_scale_are_refused() -> None:
    x = noise()
    backend = prepared(x)
    assert backend.to_model(x * 1.05).max() > 1  # a little beyond, as after resizing
    for wrong in (x * 255, x * 2 - 1):
        with pytest.raises(ValueError, match="Expected pixels from 0 to 1, the range of the training images, found"):
            backend.to_model(wrong)
    with pytest.raises(
        ValueError, match=r"Expected pixels from 0 to 255, .* found -29.9\d* to .* Scale them as those were"
    ):
        prepared((x * 255).astype(np.uint8)).to_model(x * 400 - 30)


@pytest.mark.parametrize("scale", [1 / 255, 2 / 255])
def test_divided_bytes_are_not_taken_for_dark_images(scale: float) -> None:
    x = np.round(noise() * 255).astype(np.uint8)
    backend = prepared(x)
    with pytest.raises(
        ValueError, match="Expected whole pixels from 0 to 255, the range of the training images, found"
    ):
        backend.to_model(x * scale - (scale > 1 / 255))
    for dark in (x // 255, np.zeros((2, 8, 8, 3))):  # the control: images that are dark
        assert backend.to_model(dark).max() < -0.99


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (noise().tolist(), TypeError, "Expected a numpy array of images, found list"),
        (torch.zeros(5, 8, 8), TypeError, "Expected a numpy array of images, found Tensor"),
        (noise().astype(str), TypeError, "Expected pixels that are real numbers, found dtype <U"),
        (noise().astype(complex), TypeError, "found dtype complex128"),
        (noise().astype(object), TypeError, "found dtype object"),
        (noise(9, 64), ValueError, r"Expected images of shape \(n, height, width\) or .*, found shape \(9, 64\)"),
        (noise(9, 8, 8, 3, 1), ValueError, r"found shape \(9, 8, 8, 3, 1\)"),
        (noise(9, 8, 8, 0), ValueError, r"found shape \(9, 8, 8, 0\)"),
        (noise(9, 3, 16, 16), ValueError, r"channels in front. Use np.moveaxis\(x, 1, -1\)"),
        (noise(9, 1, 16, 16), ValueError, "channels in front"),
        (noise(32, 32, 3), ValueError, "at least 8 x 8 pixels, found 32 x 3 .* A single colour image needs an axis"),
        (noise(9, 7, 9), ValueError, "at least 8 x 8 pixels, found 7 x 9"),
        (noise() * 0, ValueError, "Expected images of more than one brightness, found 0 in every pixel"),
        (noise() * 1e39, ValueError, "Expected pixels whose range float32 divides into 255 levels, found"),
        (np.where(noise() > 0.5, 1e308, 0.0), ValueError, "float32 divides into 255 levels, found 0.0 to 1e\\+308"),
        (1e6 + 1e-4 * noise(), ValueError, "float32 divides into 255 levels, found 1000000.0"),
        (noise(2, 8, 8), ValueError, "Expected at least 3 events to train on, found 2"),
    ],
)
def test_bad_images(x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DiffAug(TINY, backend="vision", device="cpu").fit(x, progress=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    x = noise()
    backend = prepared(x)
    x[3, 2, 1] = bad
    for use in (backend.prepare, backend.to_model):
        with pytest.raises(ValueError, match="Expected finite pixels, found 3 NaN or infinite ones"):
            use(x)


def test_images_of_another_size_are_refused() -> None:
    model = DiffAug(TINY, backend="vision", device="cpu").fit(noise(), progress=False)
    for shape in ((9, 16, 16, 3), (9, 8, 8), (9, 8, 8, 1)):
        with pytest.raises(ValueError, match=r"fitted on events of shape \(8, 8, 3\), found"):
            model.embed(noise(*shape))


@pytest.mark.parametrize(
    ("fitted", "given", "advice"), [((9, 8, 8), (9, 8, 8, 1), "x[..., 0]"), ((9, 8, 8, 1), (9, 8, 8), "x[..., None]")]
)
def test_grey_images_with_and_without_an_axis(fitted: tuple[int, ...], given: tuple[int, ...], advice: str) -> None:
    model = DiffAug(TINY, backend="vision", device="cpu").fit(noise(*fitted), progress=False)
    with pytest.raises(ValueError, match=rf"Hand over {re.escape(advice)}\.$"):
        model.embed(noise(*given))


# --- settings --------------------------------------------------------------------------------------------------------

BAD = [
    ("encoder", "resnet101", "`encoder` in ['resnet18', 'resnet34', 'resnet50']"),
    ("encoder_width", 0.0, "`encoder_width` above 0"),
    ("stem", "large", "`stem` in ['auto', 'small', 'imagenet']"),
    ("n_semantic", 0, "`n_semantic` of at least 1 or None"),
    ("n_latent", 0, "`n_latent` of at least 1"),
    ("generator_width", 6, "`generator_width` to be a multiple of 4"),
    ("attention", "none", "`attention` in ['coarse', 'limited', 'full']"),
    ("views", "cutout", "`views` in ['standard', 'crop', 'mixup']"),
    ("crop_scale", 0.0, "`crop_scale` in (0, 1]"),
    ("flip_rate", 1.5, "`flip_rate` in [0, 1]"),
    ("jitter_rate", -0.5, "`jitter_rate` in [0, 1]"),
    ("jitter_strength", -1.0, "`jitter_strength` of at least 0"),
    ("gray_rate", 2.0, "`gray_rate` in [0, 1]"),
    ("blur_rate", 2.0, "`blur_rate` in [0, 1]"),
    ("solarize_rate", 2.0, "`solarize_rate` in [0, 1]"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_bad_settings(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as error:
        VisionConfig(**{name: value})
    assert str(error.value) == f"Expected {expected}, found {value!r}."


def test_every_setting_has_a_bad_value_above() -> None:
    assert {f.name for f in dataclasses.fields(VisionConfig)} == {name for name, _, _ in BAD}


def test_paper_preset_has_the_paper_s_numbers() -> None:
    config = VisionBackend.preset("paper")
    training, domain = config.training, config.domain
    assert (training.warmup_epochs, training.generator_epochs, training.mixed_epochs) == (200, 400, 800)
    assert (training.batch_size, training.encoder_lr, training.generator_lr) == (256, 1e-3, 1e-3)
    assert training.view_rate == 0.1 and config.loss.name == "soft" and config.diffusion.prediction_type == "epsilon"
    assert (domain.encoder, domain.encoder_width, domain.generator_width) == ("resnet18", 1.0, 16)
    assert domain.attention == "limited"


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_presets_suit_images(preset: str) -> None:
    """No pixel is hidden, and sampling stays within the range of images."""
    config = VisionBackend.preset(preset)
    assert isinstance(config, Config)
    assert config.training.input_dropout == 0 and config.diffusion.clip_x0 == 1


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "stem", "kernel"), [(64, "auto", 3), (65, "auto", 7), (65, "small", 3), (16, "imagenet", 7)]
)
def test_stem(side: int, stem: str, kernel: int) -> None:
    encoder = VisionBackend(VisionConfig(encoder_width=0.0625, stem=stem), (side, side, 3)).make_encoder()  # type: ignore[arg-type]
    assert encoder.backbone.conv1.weight.shape == (4, 3, kernel, kernel)


def test_semantic_vector_is_the_backbone_s() -> None:
    x = torch.randn(4, 8, 8, 3)
    for n_semantic, width in ((None, 32), (6, 6)):
        settings = VisionConfig(encoder_width=0.0625, n_semantic=n_semantic, n_latent=5)
        encoder = VisionBackend(settings, (8, 8, 3)).make_encoder().eval()
        found = encoder(x)
        assert found.semantic.shape == (4, width) and found.latent.shape == (4, 5)
        assert torch.equal(found.semantic, encoder.backbone(x.permute(0, 3, 1, 2)))
        assert torch.equal(found.latent, encoder.head(found.semantic))


def test_denoiser_turns_images_and_turns_them_back() -> None:
    """Height, width and channels do not change places: the U-Net sees planes, the caller channels last."""
    backend = VisionBackend(VisionConfig(generator_width=4), (9, 14, 3))
    denoiser = backend.make_denoiser(5)
    x, t, cond = torch.randn(2, 9, 14, 3), torch.tensor([4, 9]), torch.randn(2, 5)
    expected = denoiser.unet(x.permute(0, 3, 1, 2), t, cond).permute(0, 2, 3, 1)
    assert torch.equal(denoiser(x, t, cond), expected)


# --- does it work ----------------------------------------------------------------------------------------------------


def corners(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three kinds, in each of which another corner is bright."""
    rng = np.random.default_rng(0)
    kind = np.arange(n) % 3
    x = rng.uniform(0, 0.25, size=(n, 8, 8))
    for i, k in enumerate(kind):
        x[i, 4 * (k // 2) :, 4 * (k % 2) :][:4, :4] += rng.uniform(0.5, 0.75)
    return x, kind


def kind_of(x: np.ndarray) -> np.ndarray:
    x = x.reshape(-1, 8, 8)
    return np.stack([x[:, 4 * (k // 2) :, 4 * (k % 2) :][:, :4, :4].mean(axis=(1, 2)) for k in range(3)]).argmax(axis=0)


def kept(condition: str) -> float:
    """Share of generated views that are of their image's kind."""
    x, kind = corners(60)
    config = {
        "diffusion": {"condition": condition, "n_steps": 6},
        "training": {
            **{"warmup_epochs": 10, "generator_epochs": 30, "mixed_epochs": 0, "view_rate": 0.0},
            **{"batch_size": 30, "generator_lr": 3e-3},
        },
        "domain": {"encoder_width": 0.0625, "generator_width": 8, "views": "crop", "crop_scale": 0.5, "flip_rate": 0.0},
    }
    model = vision.fit(x, config=config, device="cpu", progress=False)
    return float((kind_of(model.augment(x, 2)) == np.repeat(kind, 2)).mean())


def test_generated_views_keep_their_kind() -> None:
    x, kind = corners(60)
    assert (kind_of(x) == kind).all()
    assert kept("semantic") > 0.85


def test_views_under_a_random_condition_do_not() -> None:
    """The control: ablation A2."""
    assert kept("noise") < 0.6
