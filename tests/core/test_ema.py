"""The average of a network's weights against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffaug.core.ema import EMA


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)  # layers take no generator
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def parameters(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def perturb(module: nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=g))


def test_starts_as_a_frozen_copy() -> None:
    module = network()
    ema = EMA(module)
    assert torch.equal(parameters(ema.module), parameters(module))
    assert not ema.module.training and module.training
    assert not any(p.requires_grad for p in ema.module.parameters()) and all(
        p.requires_grad for p in module.parameters()
    )
    before = parameters(ema.module)
    perturb(module, 1)
    assert torch.equal(parameters(ema.module), before)  # a copy, not a view


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_is_the_recursion_with_a_warmed_up_decay(decay: float) -> None:
    module = network()
    ema = EMA(module, decay)
    expected = parameters(module).double()
    for n in range(1, 31):
        perturb(module, n)
        ema.update(module)
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * parameters(module).double()
        torch.testing.assert_close(parameters(ema.module).double(), expected, rtol=1e-5, atol=1e-5)
    assert ema.n_updates == 30


def test_decay_zero_is_the_network() -> None:
    module = network()
    ema = EMA(module, 0.0)
    perturb(module, 1)
    ema.update(module)
    assert torch.equal(parameters(ema.module), parameters(module))


def test_short_run_forgets_its_initialisation() -> None:
    """After 100 updates the released code, a constant 0.9999 from another random start, is 99 % initialisation."""
    module = network()
    start = parameters(module)
    ema = EMA(module, 0.9999)
    perturb(module, 1)
    end = parameters(module)
    for _ in range(100):
        ema.update(module)
    weight = ((parameters(ema.module) - start) @ (end - start) / (end - start).square().sum()).item()
    assert weight > 0.99
    assert 1 - 0.9999**100 < 0.01  # the control: what a constant decay would have learnt


def test_long_run_averages_over_the_decays_horizon() -> None:
    """The warm-up ends at ``decay``: a step change fades at that rate."""
    module = network()
    ema = EMA(module, 0.9)
    for _ in range(200):
        ema.update(module)
    start = parameters(module)
    perturb(module, 1)
    for _ in range(10):
        ema.update(module)
    kept = ((parameters(module) - parameters(ema.module)) / (parameters(module) - start)).median().item()
    assert kept == pytest.approx(0.9**10, rel=1e-3)


def test_buffers_are_copied() -> None:
    module = network()
    ema = EMA(module, 0.999)
    module(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update(module)
    for name, buffer in module.named_buffers():
        assert torch.equal(ema.module.get_buffer(name), buffer)
    assert ema.module.get_buffer("1.num_batches_tracked").item() == 1


def test_no_gradient_and_no_change_of_the_network() -> None:
    module = network()
    ema = EMA(module)
    before = parameters(module)
    ema.update(module)
    assert torch.equal(parameters(module), before)
    loss = module(torch.ones(4, 3)).sum() + ema.module(torch.ones(4, 3)).sum()
    loss.backward()
    assert all(p.grad is None for p in ema.module.parameters())
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_outside_its_range(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"Expected `ema_decay` in \[0, 1\), found {decay}"):
        EMA(network(), decay)
