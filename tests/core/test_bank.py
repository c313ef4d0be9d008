"""The bank: its views reach the batch (the right rows, at the right rate, only when full), and how far they are trusted."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from diffaug.core import bank as module
from diffaug.core.bank import ViewBank, filled_bank, measured_trust, mix_views
from diffaug.core.networks import Encoding
from diffaug.core.trust import ViewTrust

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_bank(n_obs: int = 40, n_views: int = 4, n_features: int = 3) -> ViewBank:
    """View j of row i holds 100 i + j + 1 in every feature."""
    bank = ViewBank(n_obs, n_views, (n_features,), CPU)
    value = 100.0 * torch.arange(n_obs)[:, None] + torch.arange(n_views) + 1
    for begin in range(0, n_obs, 16):
        rows = slice(begin, min(begin + 16, n_obs))
        bank.put(rows, value[rows, :, None].expand(-1, -1, n_features))
    return bank


# --- the bank ---------------------------------------------------------------------------------------------------------


def test_bank_refuses_to_be_drawn_from_before_it_is_full() -> None:
    """The released code shows the encoder a table of zeros."""
    bank = ViewBank(10, 2, (3,), CPU)
    assert not bank.is_full
    with pytest.raises(
        RuntimeError, match="Expected a full bank of views, found 10 events without views. Fill it first"
    ):
        bank.draw(torch.tensor([0]), generator())
    bank.put(slice(0, 9), torch.zeros(9, 2, 3))
    with pytest.raises(RuntimeError, match="found 1 events without views"):
        bank.draw(torch.tensor([0]), generator())  # row 0 is there, but the bank is not full
    bank.put(slice(9, 10), torch.zeros(1, 2, 3))
    assert bank.is_full
    assert torch.equal(bank.draw(torch.tensor([9, 0]), generator()), torch.zeros(2, 3))


def test_an_unfilled_bank_holds_no_plausible_values() -> None:
    assert ViewBank(4, 2, (3,), CPU).views.isnan().all()


def test_mixing_with_an_unfilled_bank_is_an_error() -> None:
    hand_made, index = torch.zeros(4, 3), torch.arange(4)
    with pytest.raises(RuntimeError, match="Expected a full bank of views, found 10"):
        mix_views(hand_made, ViewBank(10, 2, (3,), CPU), index, 0.1, generator())


def test_bank_draws_views_of_the_right_rows_uniformly() -> None:
    bank = numbered_bank()
    index = torch.randint(40, (4000,), generator=generator(1))
    views = bank.draw(index, generator(2))
    assert views.shape == (4000, 3)
    row, view = views.div(100, rounding_mode="floor").long(), (views % 100).long() - 1
    assert torch.equal(row, index[:, None].expand(-1, 3))
    assert torch.equal(view, view[:, :1].expand(-1, 3))  # whole views, not features of several
    assert stats.chisquare(torch.bincount(view[:, 0], minlength=4).numpy()).pvalue > 1e-3


def test_bank_of_images() -> None:
    bank = ViewBank(6, 2, (1, 4, 4), CPU)
    bank.put(slice(0, 6), torch.arange(6.0)[:, None, None, None, None].expand(6, 2, 1, 4, 4))
    index = torch.tensor([5, 1])
    mixed = mix_views(torch.full((2, 1, 4, 4), -1.0), bank, index, 1.0, generator())
    assert torch.equal(mixed.views[:, 0, 0, 0], torch.tensor([5.0, 1.0]))
    assert mixed.views.shape == (2, 1, 4, 4)


# --- filling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_views", "sizes"), [(1, [40]), (3, [36, 36, 36, 12]), (50, [50] * 40)])
def test_each_event_gets_its_own_views(monkeypatch: pytest.MonkeyPatch, n_views: int, sizes: list[int]) -> None:
    """In chunks of whole events, in their order; what is made may carry a gradient, what is kept does not."""
    monkeypatch.setattr(module, "_VIEWS_AT_ONCE", 40 if n_views == 1 else 38)
    asked: list[Tensor] = []
    scale = torch.ones((), requires_grad=True)

    def make(index: Tensor) -> Tensor:
        first = sum(map(len, asked))
        asked.append(index)
        return scale * torch.stack([index, torch.arange(first, first + len(index))], dim=1)

    bank = filled_bank(40, n_views, (2,), CPU, make)
    assert [len(index) for index in asked] == sizes
    assert bank.is_full and not bank.views.requires_grad
    assert torch.equal(bank.views[:, :, 0], torch.arange(40.0)[:, None].expand(-1, n_views))
    assert torch.equal(bank.views[:, :, 1].flatten(), torch.arange(40.0 * n_views))


def test_views_of_another_shape_do_not_fill_a_bank() -> None:
    with pytest.raises(ValueError, match=r"Expected views of shape \(10, 2, 3\), found \(10, 2, 4\)"):
        filled_bank(10, 2, (3,), CPU, lambda index: torch.zeros(len(index), 4))


# --- mixing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view_rate", [0.05, 0.1, 0.5])
def test_generated_views_replace_a_binomial_share(view_rate: float) -> None:
    bank, g, n = numbered_bank(), generator(3), 0
    for _ in range(100):
        index = torch.randint(40, (64,), generator=g)
        mixed = mix_views(torch.full((64, 3), -1.0), bank, index, view_rate, g)
        generated = (mixed.views != -1).all(dim=1)
        assert int(generated.sum()) == mixed.n_generated == int((mixed.views != -1).any(dim=1).sum())
        row = mixed.views[generated, 0].div(100, rounding_mode="floor").long()
        assert torch.equal(row, index[generated])  # each event's own views
        n += mixed.n_generated
    assert stats.binomtest(n, 6400, view_rate).pvalue > 1e-3
    # The control: the released code's test, randn > 0.9, would be noticed.
    assert stats.binomtest(round(6400 * stats.norm.sf(0.9)), 6400, view_rate).pvalue < 1e-6


def test_without_a_bank_no_view_is_generated() -> None:
    hand_made = torch.randn(64, 3, generator=generator())
    mixed = mix_views(hand_made, None, torch.arange(64), 1.0, generator())
    assert mixed.n_generated == 0
    assert torch.equal(mixed.views, hand_made)


def test_rate_zero_and_rate_one() -> None:
    bank, index = numbered_bank(), torch.arange(40)
    hand_made = torch.full((40, 3), -1.0)
    none = mix_views(hand_made, bank, index, 0.0, generator())
    assert none.n_generated == 0 and torch.equal(none.views, hand_made)
    every = mix_views(hand_made, bank, index, 1.0, generator())
    assert every.n_generated == 40 and (every.views >= 1).all()


def test_mixing_depends_on_the_generator_alone() -> None:
    bank, index, hand_made = numbered_bank(), torch.arange(40), torch.full((40, 3), -1.0)
    torch.manual_seed(0)
    first = mix_views(hand_made, bank, index, 0.5, generator(3)).views
    torch.manual_seed(1)
    assert torch.equal(mix_views(hand_made, bank, index, 0.5, generator(3)).views, first)
    assert not torch.equal(mix_views(hand_made, bank, index, 0.5, generator(4)).views, first)


# --- trust ------------------------------------------------------------------------------------------------------------


class Half(nn.Module):
    """Reads the first half of the features; of the others nobody is to know."""

    def forward(self, x: Tensor) -> Encoding:
        return Encoding(x[:, : x.shape[1] // 2], x)


def trust_of(away: float, *, hand_made: float = 0.5, others: bool = False, seed: int = 0) -> ViewTrust:
    """Of 300 events whose views in the bank are noise of that scale around them, or around another event."""
    data = torch.randn(300, 12, generator=generator(1))
    noise = generator(2)
    parents = data.roll(1, dims=0) if others else data

    def make(index: Tensor) -> Tensor:
        return parents[index] + away * torch.randn(len(index), 12, generator=noise)

    def hand_views(index: Tensor, generator: torch.Generator) -> Tensor:
        return data[index] + hand_made * torch.randn(len(index), 12, generator=generator)

    return measured_trust(Half(), data, filled_bank(300, 2, (12,), CPU, make), hand_views, generator(seed))


def test_trust_is_read_from_the_bank_beside_hand_made_views() -> None:
    assert trust_of(0.0).news < 0.1  # copies
    assert trust_of(0.5, others=True).faith < 0.3  # strangers
    assert trust_of(0.5) == pytest.approx((1, 1, 1), abs=0.15)  # as the hand-made ones
    assert trust_of(0.5, hand_made=0.0).news > 10  # beside copies


def test_views_like_other_events_are_held_against_these() -> None:
    """Views of others are strangers, and none where it is said of which events they are."""
    data = torch.randn(300, 12, generator=generator(1))
    noise, like = generator(2), torch.arange(300).roll(1)[:, None]

    def make(index: Tensor) -> Tensor:
        return data[like[index, 0]] + 0.5 * torch.randn(len(index), 12, generator=noise)

    def hand_views(index: Tensor, generator: torch.Generator) -> Tensor:
        return data[index] + 0.5 * torch.randn(len(index), 12, generator=generator)

    bank = filled_bank(300, 1, (12,), CPU, make)
    assert measured_trust(Half(), data, bank, hand_views, generator()).faith < 0.3
    assert measured_trust(Half(), data, bank, hand_views, generator(), like=like) == pytest.approx((1, 1, 1), abs=0.15)


def test_trust_depends_on_its_generator_alone() -> None:
    torch.manual_seed(0)
    first = trust_of(0.5, seed=3)
    torch.manual_seed(1)
    assert trust_of(0.5, seed=3) == first
    assert trust_of(0.5, seed=4) != first


def test_trust_looks_at_some_events_among_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many views are encoded, and at most so many events."""
    seen: list[int] = []

    class Counted(Half):
        def forward(self, x: Tensor) -> Encoding:
            seen.append(len(x))
            return super().forward(x)

    monkeypatch.setattr(module, "_N_TRUST", 20)
    monkeypatch.setattr(module, "_N_TRUST_REFERENCE", 70)
    data = torch.randn(90, 12, generator=generator())
    bank = filled_bank(90, 1, (12,), CPU, lambda index: data[index])
    measured_trust(Counted(), data, bank, lambda index, stream: data[index], generator())
    assert seen == [70, 20, 20]


@pytest.mark.parametrize("n_obs", [7, 8])
def test_too_few_views_are_not_told_from_events(n_obs: int) -> None:
    """Views far from all events: with four of each kind the discriminator tells them, with fewer it is not asked."""
    data = torch.randn(n_obs, 12, generator=generator())
    bank = filled_bank(n_obs, 1, (12,), CPU, lambda index: data[index] + 50)
    trust = measured_trust(Half(), data, bank, lambda index, stream: data[index], generator())
    assert (trust.realism == 1.0) == (n_obs < 8)
