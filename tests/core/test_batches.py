"""Batches in training: which events, what the encoder is given at once, and the loss that was asked for."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from diffaug.core.batches import contrastive_loss, encode_pair, shuffled_batches
from diffaug.core.config import LossConfig
from diffaug.core.devices import seeded_init
from diffaug.core.networks import Encoding, MLPEncoder


@pytest.mark.parametrize(
    ("n_obs", "batch", "n_steps"), [(70, 16, 4), (70, 35, 2), (70, 70, 1), (70, 256, 1), (5, 2, 2)]
)
def test_batches_are_full_and_each_epoch_leaves_out_others(n_obs: int, batch: int, n_steps: int) -> None:
    random, size = torch.Generator().manual_seed(0), min(batch, n_obs)
    epochs = [list(shuffled_batches(n_obs, size, random)) for _ in range(3)]
    for epoch in epochs:
        assert [len(b) for b in epoch] == [size] * n_steps
        assert len(set(torch.cat(epoch).tolist())) == size * n_steps  # no event twice
    orders = [torch.cat(e).tolist() for e in epochs]
    assert orders[0] != orders[1] != orders[2]
    if size * n_steps < n_obs:
        assert len({frozenset(o) for o in orders}) > 1


def test_originals_and_views_share_one_batch_normalisation() -> None:
    with seeded_init(0):
        encoder = MLPEncoder(12, (16,), 7, 6).train()
    x, views = torch.randn(10, 12, generator=torch.Generator().manual_seed(5)), torch.full((10, 12), 5.0)
    twin = copy.deepcopy(encoder)
    ours, theirs = encode_pair(encoder, x, views)
    both = twin(torch.cat([x, views]))
    assert torch.equal(torch.cat([ours.semantic, theirs.semantic]), both.semantic)
    assert torch.equal(torch.cat([ours.latent, theirs.latent]), both.latent)
    assert int(encoder.body[1].num_batches_tracked) == 1
    alone = copy.deepcopy(twin)(x)
    assert (alone.semantic - ours.semantic).abs().max() > 1e-2  # separate batches would be something else


def test_configured_loss_is_used() -> None:
    with seeded_init(1):
        x = Encoding(torch.randn(8, 4), torch.randn(8, 3))
        v = Encoding(torch.randn(8, 4), torch.randn(8, 3))
    configs = [
        LossConfig(temperature=0.2),
        LossConfig(temperature=0.7),
        LossConfig(name="soft"),
        LossConfig(name="soft", beta=0.1, kernel="student_t"),  # under the unit peak a positive's target is 1 already
        LossConfig(name="soft", dof_latent=0.1),
        LossConfig(name="soft", dof_semantic=10.0),
        LossConfig(name="soft", kernel="student_t"),
        LossConfig(name="soft", target="literal"),
    ]
    values = [float(contrastive_loss(x, v, c)) for c in configs]
    assert len({round(value, 6) for value in values}) == len(values)
    assert all(math.isfinite(value) for value in values)
