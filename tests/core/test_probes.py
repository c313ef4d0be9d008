"""Effective rank against closed forms, its invariances, and the collapse that it must see."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from diffaug.core.probes import effective_rank, nearest_own, split_half_overlap, told_apart


def random_matrix(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(n: int, d: int) -> torch.Tensor:
    """Columns orthonormal and each of mean zero, so that centring leaves them as they are."""
    x = random_matrix(n, d)
    return torch.linalg.qr(x - x.mean(dim=0)).Q


@pytest.mark.parametrize(("n", "d"), [(40, 5), (5, 40)])
def test_equal_singular_values_give_the_full_rank(n: int, d: int) -> None:
    rank = min(n - 1, d)
    x = orthonormal(max(n, d) + 1, rank)[:, :rank]
    if n < d:  # the wide case, through the other Gram matrix: n points of a regular simplex, turned into d dimensions
        x = torch.eye(n, dtype=torch.float64) @ torch.linalg.qr(random_matrix(d, n)).Q.T
    assert effective_rank(x) == pytest.approx(rank, rel=1e-9)


def test_known_singular_values_give_the_entropy_formula() -> None:
    sigma = [4.0, 3.0, 2.0, 1.0]
    x = orthonormal(30, 4) * torch.tensor(sigma, dtype=torch.float64)
    p = [s / 10.0 for s in sigma]
    assert effective_rank(x) == pytest.approx(math.exp(-sum(v * math.log(v) for v in p)), rel=1e-9)


def test_centring_matters() -> None:
    """Without it the far-off mean would be nearly all of the spectrum."""
    assert effective_rank(orthonormal(30, 4) + 1000.0) == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_one_and_isotropic(dtype: torch.dtype) -> None:
    line = torch.outer(random_matrix(200, 1)[:, 0], random_matrix(10, 1, seed=1)[:, 0]) + 0.1
    assert effective_rank(line.to(dtype)) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(random_matrix(20_000, 10).to(dtype)) == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rows_have_no_rank(dtype: torch.dtype) -> None:
    row = random_matrix(1, 7).to(dtype)
    assert effective_rank(row.repeat(333, 1)) == 0.0
    assert effective_rank(torch.zeros(5, 3, dtype=dtype)) == 0.0
    last_digit = torch.finfo(dtype).eps * (torch.arange(333) % 2)[:, None]
    assert effective_rank((row * (1 + 0.25 * last_digit)).to(dtype)) == 0.0


def test_gradients_and_the_input_are_left_alone() -> None:
    x = random_matrix(10, 3).requires_grad_()
    before = x.detach().clone()
    effective_rank(x)
    assert x.grad is None
    torch.testing.assert_close(x.detach(), before, rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 25),
    d=st.integers(1, 25),
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
)
def test_bounds_and_invariances(n: int, d: int, seed: int, scale: float, shift: float) -> None:
    x = random_matrix(n, d, seed)
    value = effective_rank(x)
    assert 1.0 - 1e-9 <= value <= min(n - 1, d) + 1e-9
    rotation = torch.linalg.qr(random_matrix(d, d, seed + 1)).Q
    assert effective_rank(scale * (x @ rotation) + shift) == pytest.approx(value, rel=1e-4)
    assert effective_rank(x.flip(0)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (torch.ones(3, 3, dtype=torch.int64), TypeError, "Expected a floating tensor, found torch.int64"),
        (torch.ones(3), ValueError, r"Expected shape \(n, d\) with n >= 2 and d >= 1, found \(3,\)"),
        (torch.ones(1, 3), ValueError, r"found \(1, 3\)"),
        (torch.ones(3, 0), ValueError, r"found \(3, 0\)"),
        (torch.full((3, 3), torch.nan), ValueError, "Expected finite values"),
        (torch.full((3, 3), torch.inf), ValueError, "Expected finite values"),
    ],
)
def test_bad_input(x: torch.Tensor, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        effective_rank(x)


# --- halves of the features ------------------------------------------------------------------------------------------


def cells_with_a_state(noise: float, n: int = 200, d: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """A third of the features measure a state of three numbers, with noise of their own; also the weights that read it."""
    state, weights = random_matrix(n, 3, 1).float(), random_matrix(3, d, 2).float()
    weights[:, d // 3 :] = 0
    return state @ weights + noise * random_matrix(n, d, 3).float(), weights.T


def overlap(embed: Callable, x: torch.Tensor) -> float:
    return float(split_half_overlap(embed, x, torch.Generator().manual_seed(0)).mean())


def test_halves_agree_on_what_the_features_share() -> None:
    """An embedding that reads the state finds neighbours, one that follows the noise of the same cells is at chance."""
    x, weights = cells_with_a_state(noise=1.0)
    chance = 15 / 199
    assert overlap(lambda v: v @ weights, x) > chance + 0.15
    assert abs(overlap(lambda v: v[:, 20:], x) - chance) < 0.03
    assert abs(overlap(lambda v: v @ weights, random_matrix(200, 60, 9).float()) - chance) < 0.03


def test_less_noise_more_agreement() -> None:
    found = []
    for noise in (0.1, 1.0, 4.0):
        x, weights = cells_with_a_state(noise)
        found.append(overlap(lambda v, w=weights: v @ w, x))
    assert found[0] > found[1] + 0.05 > found[2] + 0.1


def test_each_half_is_shown_once_doubled_and_in_the_events_shape() -> None:
    x, seen = torch.ones(20, 3, 4), []

    def embed(v: torch.Tensor) -> torch.Tensor:
        seen.append(v)
        return random_matrix(20, 3, len(seen))

    split_half_overlap(embed, x, torch.Generator().manual_seed(0), k=3, n_splits=2)
    assert len(seen) == 4
    for first, second in (seen[:2], seen[2:]):
        assert first.shape == x.shape
        assert torch.equal(first + second, 2 * x)
        assert set(first.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(("n", "d", "k", "message"), [(10, 4, 10, "`k` in 1 .. 9"), (10, 1, 3, "at least 2 features")])
def test_halves_that_cannot_be(n: int, d: int, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_half_overlap(lambda v: v, torch.zeros(n, d), torch.Generator(), k=k)


# --- views beside their events ---------------------------------------------------------------------------------------


def test_nearest_own_is_the_rank_of_the_own_event() -> None:
    """Against ranks counted one by one, with views in any order and in more than one chunk."""
    reference = random_matrix(90, 7, 1)
    own = torch.randint(90, (4000,), generator=torch.Generator().manual_seed(2))
    views = reference[own] + 1.5 * random_matrix(4000, 7, 3)
    first, among = nearest_own(views, reference, own, k=10)
    center = reference.mean(dim=0)
    ranks = []
    for view, source in zip(views[:300], own[:300], strict=True):
        cosine = torch.nn.functional.cosine_similarity((view - center)[None], reference - center)
        ranks.append(int((cosine > cosine[source]).sum()))
    ranks_found = [nearest_own(views[i : i + 1], reference, own[i : i + 1], k=10) for i in range(300)]
    assert ranks_found == [(float(r == 0), float(r < 10)) for r in ranks]
    assert 0.1 < first < among < 1
    assert nearest_own(reference, reference, torch.arange(90)) == (1.0, 1.0)


# --- told apart ------------------------------------------------------------------------------------------------------


def drawn(n: int, d: int = 12, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_told_apart_is_one_half_for_equals() -> None:
    found = [told_apart(drawn(300, seed=s), drawn(300, seed=100 + s)) for s in range(6)]
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("options", [{"shift": 3.0}, {"scale": 0.2}], ids=["elsewhere", "too alike"])
def test_told_apart_is_one_for_what_no_event_looks_like(options: dict[str, float]) -> None:
    """By a difference of the means, and by one of the spreads, which no linear discriminator sees."""
    assert told_apart(drawn(200, **options), drawn(200, seed=1)) > 0.97


def test_told_apart_grows_with_the_shift_and_knows_no_unit() -> None:
    found = [told_apart(drawn(300, shift=shift), drawn(300, seed=1)) for shift in (0.0, 0.2, 0.4, 0.8)]
    assert found == sorted(found)
    views, events = drawn(300, shift=0.4), drawn(300, seed=1)
    scales = torch.logspace(-3, 3, 12)
    assert told_apart(views * scales + 7, events * scales + 7) == pytest.approx(told_apart(views, events), abs=0.01)
    assert told_apart(events, views) == pytest.approx(told_apart(views, events), abs=1e-6)


def test_told_apart_agrees_with_a_forest() -> None:
    """Another discriminator, judged by the same rule, on a difference between them that is neither small nor large."""
    views, events = drawn(400, scale=0.75), drawn(400, seed=1)
    x, y = torch.cat([views, events]).numpy(), np.repeat([1, 0], 400)
    score = cross_val_predict(RandomForestClassifier(200, random_state=0), x, y, cv=5, method="predict_proba")[:, 1]
    assert told_apart(views, events) == pytest.approx(roc_auc_score(y, score), abs=0.1)


def test_told_apart_of_few_equal_and_constant_rows() -> None:
    assert told_apart(torch.zeros(8, 3), torch.zeros(8, 3)) == pytest.approx(0.5)
    one_column = torch.cat([drawn(50, 1), torch.ones(50, 1)], dim=1)
    assert 0.2 < told_apart(one_column, one_column.flip(0)) < 0.8
    assert told_apart(drawn(90, shift=3.0), drawn(40, seed=1)) > 0.97  # the longer is cut
    with pytest.raises(ValueError, match="Expected at least 4 views and events, found 3"):
        told_apart(drawn(3), drawn(50))
