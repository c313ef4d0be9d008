"""Hand-made views: what each kind does to an event, and with whose random numbers."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from diffaug.core.views import (
    HandViews,
    drop_features,
    feature_swap,
    gaussian_noise,
    mask_features,
    neighbor_mixup,
    one_kind_each,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- neighbour mixup --------------------------------------------------------------------------------------------------


def data_and_neighbors() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(50, 8, generator=generator())
    neighbors = torch.stack([(torch.arange(50) + k) % 50 for k in (1, 5, 9)], dim=1)
    return x, neighbors, torch.randint(50, (600,), generator=generator(1))


def test_line_mixup_lies_on_a_segment_to_a_neighbour() -> None:
    x, neighbors, index = data_and_neighbors()
    views = neighbor_mixup(x, index, neighbors, generator(2))
    a = x[index][:, None]
    direction = x[neighbors[index]] - a  # (600, 3, 8)
    offset = views[:, None] - a
    weight = (offset * direction).sum(dim=2) / direction.square().sum(dim=2)
    miss = (offset - weight[:, :, None] * direction).norm(dim=2)
    nearest, picked = miss.min(dim=1)
    assert nearest.max() < 1e-4
    assert miss.max() > 0.5  # the control: it is not on the segments to the other neighbours
    weight = weight.gather(1, picked[:, None])[:, 0]
    assert weight.min() >= -1e-5 and weight.max() <= 1 + 1e-5
    assert stats.kstest(weight.numpy(), "uniform").pvalue > 1e-3
    assert stats.chisquare(torch.bincount(picked, minlength=3).numpy()).pvalue > 1e-3


def test_feature_mixup_lies_in_the_box_of_the_two_and_off_their_segment() -> None:
    x, _, index = data_and_neighbors()
    neighbors = ((torch.arange(50) + 1) % 50)[:, None]  # one neighbour each: the pair is known
    views = neighbor_mixup(x, index, neighbors, generator(2), mode="feature")
    a, b = x[index], x[neighbors[index, 0]]
    weight = (views - a) / (b - a)
    assert weight.min() >= -1e-3 and weight.max() <= 1 + 1e-3
    assert stats.kstest(weight.flatten().numpy(), "uniform").pvalue > 1e-3
    assert weight.std(dim=1).mean() > 0.2  # a line would have one weight for all features of an event
    line = neighbor_mixup(x, index, neighbors, generator(2))
    assert ((line - a) / (b - a)).std(dim=1).median() < 1e-3


@pytest.mark.parametrize("mode", ["line", "feature"])
def test_mixup_of_images(mode: str) -> None:
    x = torch.randn(10, 2, 3, 3, generator=generator())
    neighbors = ((torch.arange(10) + 1) % 10)[:, None]
    index = torch.tensor([4, 0, 9])
    views = neighbor_mixup(x, index, neighbors, generator(), mode=mode)  # type: ignore[arg-type]
    weight = (views - x[index]) / (x[neighbors[index, 0]] - x[index])
    assert views.shape == (3, 2, 3, 3)
    assert weight.min() >= -1e-2 and weight.max() <= 1 + 1e-2
    assert (weight.flatten(1).std(dim=1) < 1e-2).all() == (mode == "line")


# --- random feature swap ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.8])
def test_feature_swap_replaces_a_share_by_one_other_event(rate: float) -> None:
    n, n_features = 400, 50
    x = (torch.arange(n)[:, None] * 1000.0 + torch.arange(n_features)).float()  # a value names its row and feature
    index = torch.arange(n)
    views = feature_swap(x, index, generator(), rate=rate)
    source, feature = views.div(1000, rounding_mode="floor").long(), (views % 1000).long()
    assert torch.equal(feature, torch.arange(n_features).expand(n, -1))  # a feature is replaced by the same feature
    swapped = source != index[:, None]
    share = swapped.float().mean().item()
    # The other event is drawn from all n, so that 1 / n of the swaps find the event itself.
    assert share == pytest.approx(
        rate * (1 - 1 / n), abs=5 * math.sqrt(rate * (1 - rate) / swapped.numel()) + rate / 100
    )
    for row in range(n):
        assert len(source[row][swapped[row]].unique()) <= 1  # all from the same other event
    assert len(source[swapped].unique()) > n / 3


def test_feature_swap_at_its_ends() -> None:
    x = torch.randn(30, 5, generator=generator())
    index = torch.tensor([3, 3, 7])
    assert torch.equal(feature_swap(x, index, generator(), rate=0.0), x[index])
    whole = feature_swap(x, index, generator(), rate=1.0)
    assert all((x == row).all(dim=1).any() for row in whole)


# --- masks, noise, hidden features, several kinds ---------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.6])
@pytest.mark.parametrize("value", [0.0, "each"])
def test_mask_puts_a_value_in_a_share_of_the_features(rate: float, value: float | str) -> None:
    x = torch.randn(60, 20, generator=generator())
    put = -100.0 - torch.arange(20.0) if value == "each" else torch.zeros(20)
    index = torch.randint(60, (500,), generator=generator(1))
    views = mask_features(x, index, generator(2), rate, put if value == "each" else 0.0)
    masked = views != x[index]
    assert torch.equal(views[masked], put.expand(500, -1)[masked])
    assert stats.binomtest(int(masked.sum()), masked.numel(), rate).pvalue > 1e-3
    assert stats.chisquare(masked.sum(dim=0).numpy()).pvalue > 1e-3  # no feature is favoured
    assert torch.equal(mask_features(x, index, generator(), 0.0), x[index])


def test_noise_is_normal_and_of_images_too() -> None:
    x = torch.randn(10, 2, 8, 8, generator=generator())
    index = torch.randint(10, (200,), generator=generator(1))
    noise = (gaussian_noise(x, index, generator(2), 0.3) - x[index]).flatten()
    assert stats.kstest(noise[:5000].numpy() / 0.3, "norm").pvalue > 1e-3
    assert torch.equal(gaussian_noise(x, index, generator(), 0.0), x[index])


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_hidden_features_keep_the_mean(rate: float) -> None:
    x = torch.full((400, 50), 2.0)
    found = drop_features(x, rate, generator())
    hidden = found == 0
    assert stats.binomtest(int(hidden.sum()), hidden.numel(), rate).pvalue > 1e-3
    torch.testing.assert_close(found[~hidden], torch.full((int((~hidden).sum()),), 2 / (1 - rate)))
    assert drop_features(x, 0.0, generator()) is x


def test_one_kind_each_draws_a_kind_for_every_event() -> None:
    """The views come back in the order of the events, whichever kind made them."""

    def maker(kind: int) -> HandViews:
        return lambda index, generator: torch.stack([index.float(), torch.full((len(index),), float(kind))], dim=1)

    index = torch.randint(1000, (3000,), generator=generator(1))
    views = one_kind_each([maker(k) for k in range(3)], index, generator(2))
    assert torch.equal(views[:, 0], index.float())
    assert stats.chisquare(torch.bincount(views[:, 1].long(), minlength=3).numpy()).pvalue > 1e-3
    one = torch.tensor([7])  # two kinds have no event then
    assert one_kind_each([maker(k) for k in range(3)], one, generator(2))[0, 0] == 7
    for makers, rows in (([], index), ([maker(0)], index[:0])):
        with pytest.raises(ValueError, match="Expected kinds of views and events, found"):
            one_kind_each(makers, rows, generator())


def test_views_depend_on_the_generator_alone() -> None:
    x, neighbors, index = data_and_neighbors()

    def draw(seed: int) -> list[Tensor]:
        g = generator(seed)
        return [
            neighbor_mixup(x, index, neighbors, g),
            neighbor_mixup(x, index, neighbors, g, mode="feature"),
            feature_swap(x, index, g),
        ]

    torch.manual_seed(0)
    first = draw(3)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(draw(3), first, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(draw(4), first, strict=True))
