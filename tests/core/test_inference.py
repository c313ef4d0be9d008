"""Networks outside training: in evaluation mode, and in parts that give what the whole would give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffaug.core import inference
from diffaug.core.config import Config, DiffusionConfig
from diffaug.core.devices import seeded_init
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.inference import draw, encode, events_at_once
from diffaug.core.networks import MLPEncoder
from diffaug.core.schedules import NoiseSchedule

WIDTH, N_OBS = 12, 70
N_SEMANTIC, N_LATENT = 13, 6


def data_of() -> Tensor:
    return torch.randn(N_OBS, WIDTH, generator=torch.Generator().manual_seed(5))


def make_encoder() -> MLPEncoder:
    with seeded_init(0):
        return MLPEncoder(WIDTH, (16,), N_SEMANTIC, N_LATENT)


@pytest.mark.parametrize("mode", [True, False])
def test_encode_is_in_evaluation_mode_and_restores_it(mode: bool) -> None:
    encoder = make_encoder().train(mode)
    x = data_of()
    whole, parts = encode(encoder, x), encode(encoder, x, batch_size=7)
    torch.testing.assert_close(whole.semantic, parts.semantic, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.latent, parts.latent, rtol=1e-5, atol=1e-6)
    assert encoder.training is mode
    assert not whole.semantic.requires_grad
    assert whole.semantic.shape == (N_OBS, N_SEMANTIC)
    assert whole.latent.shape == (N_OBS, N_LATENT)


def test_large_events_go_through_the_networks_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In encoding and in drawing; each part keeps its own conditions and its own start."""
    assert events_at_once((2048,)) == 2048  # as the vectors of all defaults
    assert events_at_once((64, 64, 3)) == 341
    assert events_at_once((1 << 23,)) == 1
    encoder, config = make_encoder(), Config(diffusion=DiffusionConfig(n_steps=3, clip_x0=0.5))
    x, cond = data_of(), torch.randn(N_OBS, N_SEMANTIC, generator=torch.Generator().manual_seed(1))
    whole, sizes = encode(encoder, x), list[int]()
    monkeypatch.setattr(inference, "_NUMBERS_AT_ONCE", 9 * WIDTH)

    class Echo(nn.Module):
        """Predicts the condition's first numbers, and says how many events it saw."""

        def forward(self, x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
            sizes.append(len(x_t))
            return c[:, :WIDTH]

    torch.testing.assert_close(encode(encoder, x).semantic, whole.semantic, rtol=1e-5, atol=1e-6)
    diffusion = GaussianDiffusion(NoiseSchedule(), "x0")
    for start, strength in ((None, 1.0), (x, 0.5)):
        sizes.clear()
        found = draw(diffusion, Echo(), cond, (WIDTH,), config, torch.Generator(), start=start, strength=strength)
        assert set(sizes) == {9, N_OBS % 9} and sum(sizes) == 3 * N_OBS
        # The last step returns the prediction itself, within the bounds of the settings.
        assert torch.equal(found, cond[:, :WIDTH].clamp(-0.5, 0.5))
