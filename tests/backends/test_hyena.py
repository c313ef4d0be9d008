"""The Hyena encoder: against NumPy, its parameters, and what it must not see."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from diffaug.backends import _hyena
from diffaug.backends._hyena import (
    HyenaBackbone,
    HyenaEncoder,
    ImplicitFilter,
    causal_convolution,
    occupied,
)
from diffaug.core.devices import seeded_init


@pytest.fixture(scope="module")
def oracle() -> ModuleType:
    """The NumPy implementation beside this file."""
    spec = importlib.util.spec_from_file_location("hyena_numpy", Path(__file__).with_name("hyena_numpy.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sequences(n: int, length: int, seed: int = 0) -> torch.Tensor:
    base = torch.randint(4, (n, length), generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(base, 4).transpose(1, 2).float()


def encoder(length: int = 24, width: int = 8) -> HyenaEncoder:
    with seeded_init(0):
        made = HyenaEncoder(length, n_semantic=width, n_latent=5, filter_width=4).eval()
        for name, p in made.backbone.named_parameters():  # larger, so that nothing hides in small numbers
            if "norm" not in name:
                nn.init.normal_(p, std=0.5)
    return made


# --- golden ----------------------------------------------------------------------------------------------------------


def test_the_golden_file_is_the_oracles(oracle: ModuleType) -> None:
    golden = json.loads(oracle.GOLDEN.read_text(encoding="utf-8"))
    np.testing.assert_allclose(oracle.pooled(oracle.states()), golden["pooled"], atol=2e-9)


def test_golden(oracle: ModuleType) -> None:
    """Embedding, short and long convolution, gates, norms and pooling, with an N and with padding."""
    golden = np.array(json.loads(oracle.GOLDEN.read_text(encoding="utf-8"))["pooled"])
    network = HyenaEncoder(oracle.LENGTH, oracle.WIDTH, 3, oracle.DEPTH, oracle.HIDDEN)
    given = {k: torch.as_tensor(v, dtype=torch.float32) for k, v in oracle.weights().items()}
    network.backbone.load_state_dict(given)  # strict: these are all the weights, with these shapes
    x = torch.as_tensor(oracle.one_hot(), dtype=torch.float32)
    np.testing.assert_allclose(network.pooled(x).detach().numpy(), golden, rtol=1e-4, atol=1e-5)
    states = network.backbone(x).detach().numpy()
    for i, s in enumerate(oracle.SEQUENCES):
        np.testing.assert_allclose(states[i, : len(s)], oracle.states()[i, : len(s)], rtol=1e-3, atol=1e-4)


def test_parameters_of_hyenadna_tiny() -> None:
    """436,096 in all: the table of tokens, two blocks, the last norm."""
    network = HyenaBackbone(1026)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert network.embedding.numel() == 16 * 128
    assert count == {"blocks": 2 * 216_896, "norm": 256}
    assert sum(p.numel() for p in network.parameters()) == 436_096
    assert sum(p.numel() for p in HyenaBackbone(64).parameters()) == 436_096  # whatever the length
    shapes = [tuple(layer.weight.shape) for layer in network.blocks[0].mixer.filter.layers]
    assert [*shapes, tuple(network.blocks[0].mixer.filter.out.weight.shape)] == [(64, 5), (64, 64), (64, 64), (128, 64)]


def test_initial_weights() -> None:
    with seeded_init(3):
        network = HyenaBackbone(32)
    block = network.blocks[1]
    with torch.no_grad():
        assert float(network.embedding.std()) == pytest.approx(0.02, rel=0.1)
        assert float(block.mixer.project_in.weight.std()) == pytest.approx(0.02, rel=0.1)
        assert float(block.mixer.project_out.weight.std()) == pytest.approx(0.01, rel=0.1)
        assert float(block.mlp[2].weight.std()) == pytest.approx(0.01, rel=0.1)
    assert not block.mlp[0].bias.any()


# --- the convolution -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 7, 31, 64])
def test_fft_against_direct_convolution(length: int) -> None:
    rng = np.random.default_rng(length)
    u, h = rng.normal(size=(3, 4, length)), rng.normal(size=(4, length))
    direct = np.array([[np.convolve(u[i, c], h[c])[:length] for c in range(4)] for i in range(3)])
    found = causal_convolution(torch.as_tensor(u, dtype=torch.float32), torch.as_tensor(h, dtype=torch.float32))
    np.testing.assert_allclose(found.numpy(), direct, atol=1e-5)


def test_fft_size_is_fast_and_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small prime factors; a size under twice the length would wrap the end around to the start."""
    sizes = []
    rfft = torch.fft.rfft
    monkeypatch.setattr(torch.fft, "rfft", lambda x, n: sizes.append(n) or rfft(x, n=n))
    for length in (251, 509, 101):
        causal_convolution(torch.ones(1, 1, length), torch.ones(1, length))
    assert all(size >= 2 * length - 1 for size, length in zip(sizes[::2], (251, 509, 101), strict=True))
    for size in sizes:
        for prime in (2, 3, 5, 7, 11):
            while size % prime == 0:
                size //= prime
        assert size == 1


def test_half_precision_goes_through() -> None:
    u, h = torch.randn(2, 3, 20), torch.randn(3, 20)
    half = causal_convolution(u.bfloat16(), h.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), causal_convolution(u, h), atol=0.2, rtol=0.1)


def test_window() -> None:
    """At the end of the longest sequence the slowest channel has 100^(-1/1.5) left, the fastest next to nothing."""
    made = ImplicitFilter(8, 50, 4)
    window = made.window - 0.05
    torch.testing.assert_close(window[0], torch.ones(8))
    assert float(window[-1, 0]) == pytest.approx(100 ** (-1 / 1.5), rel=1e-4)
    assert float(window[-1, -1]) == pytest.approx(100 ** (-1 / 0.3), abs=1e-6)


# --- what it sees ----------------------------------------------------------------------------------------------------


def test_causality() -> None:
    """A change at a position changes states from there on and none before; the control: it does change those."""
    network, x = encoder().backbone, sequences(2, 24)
    other = x.clone()
    other[:, :, 10] = other[:, :, 10].roll(1, dims=1)
    with torch.no_grad():
        change = (network(x) - network(other)).abs().amax(dim=(0, 2))
    assert change[:10].max() < 1e-5
    assert (change[10:] > 1e-3).all()


def test_padding_changes_nothing() -> None:
    network, x = encoder(40), sequences(3, 24)
    padded = nn.functional.pad(x, (0, 16))
    with torch.no_grad():
        a, b = network(x), network(padded)
        torch.testing.assert_close(a.semantic, b.semantic, atol=1e-5, rtol=1e-4)
        # Control: sixteen letters instead of padding do change it.
        longer = torch.cat([x, sequences(3, 16, seed=1)], dim=2)
        assert (network(longer).semantic - a.semantic).abs().max() > 1e-2


def test_a_hidden_base_is_no_end() -> None:
    x = sequences(2, 10)
    x[0, :, 3] = 0
    x[1, :, 6:] = 0
    assert occupied(x).sum(dim=1).tolist() == [10, 6]


def test_soft_letters_are_mixtures_of_embeddings() -> None:
    """The embedding is linear: half an A and half a G is embedded half way, and gradients reach the letters."""
    network = encoder().backbone
    a, g = torch.zeros(2, 1, 4, 24)
    a[:, 0], g[:, 2] = 1, 1
    table = network.embedding[list(_hyena.BASE_TOKENS)]
    torch.testing.assert_close(
        ((a + g) / 2).transpose(1, 2) @ table, (table[0] + table[2])[None, None].expand(1, 24, -1) / 2
    )
    soft = ((a + g) / 2).requires_grad_()
    network(soft).square().sum().backward()
    assert soft.grad is not None
    assert (soft.grad.abs().sum(dim=1) > 0).all()


def test_all_tokens_or_four_bases() -> None:
    network, x = encoder().backbone, sequences(2, 24)
    whole = torch.zeros(2, 16, 24)
    whole[:, 7:11] = x
    torch.testing.assert_close(network(whole), network(x))
    with pytest.raises(ValueError, match=r"Expected 4 bases or 16 tokens in dimension 1, found 5"):
        network(torch.zeros(1, 5, 24))
    with pytest.raises(ValueError, match=r"Expected sequences of at most 24 positions, found 25"):
        network(torch.zeros(1, 4, 25))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients the batch goes through in parts; with them at once."""
    network, x = encoder(), sequences(7, 24)
    whole = network(x).semantic.detach()
    seen = []
    monkeypatch.setattr(_hyena, "_POSITIONS_AT_ONCE", 50)
    pooled = network.pooled
    monkeypatch.setattr(network, "pooled", lambda part: seen.append(len(part)) or pooled(part))
    with torch.no_grad():
        torch.testing.assert_close(network(x).semantic, whole)
    assert seen == [2, 2, 2, 1]


def test_frozen_weights_give_the_same_bits() -> None:
    """A loaded model wants no gradients; a fitted one still does."""
    network, x = encoder(30), sequences(20, 30)
    with torch.no_grad():
        free = network(x).semantic
        assert torch.equal(network.requires_grad_(False)(x).semantic, free)
