"""The losses by hand, and that a critic of spectral norm 1 reads event and condition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from diffaug.baselines import GANSettings, critic_loss, generator_loss
from diffaug.baselines._event_networks import LAYOUTS, VectorLayout, layout_of
from diffaug.baselines._gan import Critic, GANGenerator

SHAPES = {"cells": (7,), "vision": (9, 11, 3), "dna": (4, 21)}


def test_losses_are_the_loop() -> None:
    real, made, wrong = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).double() * 2
    expected = 0.0
    for r, g, w in zip(real.tolist(), made.tolist(), wrong.tolist(), strict=True):
        expected += max(0.0, 1 - r) + 0.5 * max(0.0, 1 + g) + 0.5 * max(0.0, 1 + w)
    assert critic_loss(real, made, wrong).item() == pytest.approx(expected / 8)
    assert critic_loss(torch.ones(3), -torch.ones(3), -torch.ones(3)).item() == 0
    assert generator_loss(made).item() == pytest.approx(-np.mean(made.tolist()))


@pytest.mark.parametrize("backend", SHAPES)
def test_networks_fit_their_events(backend: str) -> None:
    """Odd sizes too; a grey image has no axis for its channel."""
    for shape in (SHAPES[backend], (9, 11)) if backend == "vision" else (SHAPES[backend],):
        layout = layout_of(backend, shape, 4)
        out = layout.decoder(3)(torch.randn(5, 3))
        events = layout.Values().drawn(out, torch.Generator().manual_seed(0))
        assert events.shape == (5, *shape)
        for normalised in (False, True):
            body, n = layout.body(normalised=normalised)
            assert body(events).shape == (5, n)
        if backend != "cells":
            assert events.abs().max() <= 1 + 1e-6


def test_other_domains_have_vectors() -> None:
    assert set(LAYOUTS) == {"vision", "dna"}
    assert type(layout_of("toy", (3, 2), 4)) is VectorLayout
    assert layout_of("toy", (3, 2), 4).decoder(2)(torch.zeros(5, 2)).shape == (5, 3, 2)


@pytest.mark.parametrize("backend", SHAPES)
def test_every_layer_of_the_critic_has_spectral_norm_1(backend: str) -> None:
    torch.manual_seed(0)
    critic = Critic(layout_of(backend, SHAPES[backend], 4), 6)
    x, cond = torch.randn(5, *SHAPES[backend]), torch.randn(5, 6)
    for _ in range(50):  # the norm is followed step by step
        critic(x, cond)
    critic.eval()
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert len(layers) >= 4
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
    one, other = critic(x, cond), critic(x, cond.roll(1, dims=0))
    assert one.shape == (5,) and not torch.allclose(one, other, atol=1e-3)


def test_generator_reads_condition_and_noise() -> None:
    torch.manual_seed(0)
    network = GANGenerator(layout_of("cells", (7,), 4), 9, 3)
    cond, noise = torch.randn(5, 9), torch.randn(5, 3)
    out = network(cond, noise)
    torch.testing.assert_close(network(7 * cond, noise), out, atol=1e-4, rtol=1e-3)  # its scale does not matter
    for other in (network(cond.roll(1, dims=0), noise), network(cond, noise.roll(1, dims=0))):
        assert not torch.allclose(other, out, atol=1e-2)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_noise", 0, "Expected `n_noise` of at least 1, found 0"),
        ("width", 0, "Expected `width` of at least 1, found 0"),
        ("ema_decay", 1.0, r"Expected `ema_decay` in \[0, 1\), found 1.0"),
    ],
)
def test_bad_settings(setting: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANSettings(**{setting: value})
