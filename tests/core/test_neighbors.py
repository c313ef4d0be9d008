"""Exact neighbours against scikit-learn, and where float32 stops resolving them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from diffaug.core.neighbors import nearest_neighbors


def points(n: int = 300, dim: int = 10, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def sklearn_neighbors(x: Tensor, k: int, reference: Tensor | None = None) -> np.ndarray:
    """In float64, without the expansion of the square."""
    search = NearestNeighbors(n_neighbors=k, algorithm="kd_tree")
    if reference is None:
        return search.fit(x.double().numpy()).kneighbors(return_distance=False)  # a point is not its own neighbour
    return search.fit(reference.double().numpy()).kneighbors(x.double().numpy(), return_distance=False)


@pytest.mark.parametrize("k", [1, 5, 15])
@pytest.mark.parametrize("dim", [4, 10, 50])
def test_neighbors_are_sklearns(k: int, dim: int) -> None:
    x = points(dim=dim)
    found = nearest_neighbors(x, k)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), sklearn_neighbors(x, k))


def test_near_ties_on_a_line_cost_less_than_the_resolution() -> None:
    """In one dimension many pairs are almost equally far: a rank may differ, the distance hardly."""
    x = points(dim=1)
    distance = (x - x.T).abs().double()
    found, best = nearest_neighbors(x, 5), torch.from_numpy(sklearn_neighbors(x, 5))
    excess = distance.gather(1, found).sort(dim=1).values - distance.gather(1, best)
    assert excess.abs().max() < 1e-3 * x.abs().max()
    assert (found != best).float().mean() < 0.01


def test_neighbors_in_a_reference_are_sklearns() -> None:
    x, reference = points(100), points(250, seed=1)
    np.testing.assert_array_equal(
        nearest_neighbors(x, 7, reference=reference).numpy(), sklearn_neighbors(x, 7, reference)
    )


def test_a_point_is_its_own_neighbour_only_in_a_reference() -> None:
    x = points()
    assert not (nearest_neighbors(x, 5) == torch.arange(300)[:, None]).any()
    assert torch.equal(nearest_neighbors(x, 5, reference=x)[:, 0], torch.arange(300))


@pytest.mark.parametrize("chunk", [1, 7, 64, 300, 5000])
def test_the_chunk_does_not_matter(chunk: int) -> None:
    x = points()
    whole = nearest_neighbors(x, 10)
    assert torch.equal(nearest_neighbors(x, 10, chunk=chunk), whole)
    other = points(250, seed=1)
    assert torch.equal(
        nearest_neighbors(x, 10, reference=other, chunk=chunk), nearest_neighbors(x, 10, reference=other)
    )


def test_duplicates_are_each_others_neighbours() -> None:
    x = points(50).repeat(2, 1)
    found = nearest_neighbors(x, 1)[:, 0]
    assert torch.equal(found, (torch.arange(100) + 50) % 100)


def test_data_far_from_the_origin() -> None:
    """The expansion |a|^2 - 2ab + |b|^2 alone, without the centring, gets these wrong."""
    x = (points() + 1000.0).contiguous()
    expected = sklearn_neighbors(x, 5)
    np.testing.assert_array_equal(nearest_neighbors(x, 5).numpy(), expected)
    norms = x.square().sum(dim=1)
    naive = norms[:, None] - 2 * x @ x.T + norms
    naive.fill_diagonal_(torch.inf)
    wrong = naive.topk(5, largest=False).indices.numpy() != expected
    assert wrong.mean() > 0.1


def test_two_groups_far_from_each_other() -> None:
    """Distances of a thousandth of the data's radius are resolved: what is found is at most 1 % further away."""
    g = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(600, 50, generator=g)
    x[300:] += 240 / 50**0.5
    found = nearest_neighbors(x, 15)
    assert ((found < 300) == (torch.arange(600) < 300)[:, None]).all()
    distance = torch.cdist(x.double(), x.double())
    best = torch.from_numpy(sklearn_neighbors(x, 15))
    excess = distance.gather(1, found).sum(dim=1) / distance.gather(1, best).sum(dim=1) - 1
    assert 0 <= excess.max() < 0.01


@pytest.mark.parametrize("k", [0, -1, 10, 11])
def test_k_among_the_points(k: int) -> None:
    with pytest.raises(ValueError, match=f"Expected between 1 and 9 neighbours among 10 points, found k={k}"):
        nearest_neighbors(points(10), k)


def test_k_among_a_reference() -> None:
    x, reference = points(10), points(4, seed=1)
    assert nearest_neighbors(x, 4, reference=reference).shape == (10, 4)  # all of them: none is the query itself
    with pytest.raises(ValueError, match="Expected between 1 and 4 neighbours among 4 points, found k=5"):
        nearest_neighbors(x, 5, reference=reference)
