"""The topological loss against single linkage, whose merges are the persistence of degree 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData
from peers import PEERS
from peers.topoae import TopologicalAutoencoder, topological_loss, tree_edges
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from diffaug.metrics import knn_probe


def distances(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(squareform(pdist(np.random.default_rng(seed).normal(size=(n, d)))))


@pytest.mark.parametrize("n", [3, 10, 60])
def test_edges_are_the_merges_of_single_linkage(n: int) -> None:
    d = distances(n, 4)
    ends = tree_edges(d)
    assert ends[0].shape == ends[1].shape == (n - 1,)
    deaths = linkage(squareform(d.numpy()), method="single")[:, 2]
    np.testing.assert_allclose(np.sort(d[ends].numpy()), deaths)


def test_equal_cells_stay_in_one_tree() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 2, axis=0)
    d = torch.as_tensor(squareform(pdist(x)))
    ends = tree_edges(d)
    assert len(ends[0]) == 9
    assert int((d[ends] == 0).sum()) == 5


def test_loss_is_that_of_the_formula() -> None:
    data, latent = distances(12, 5), distances(12, 2, seed=1)
    wanted = 0.0
    for tree in (data, latent):
        rows, columns = tree_edges(tree)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            wanted += 0.5 * float(data[i, j] - latent[i, j]) ** 2
    assert float(topological_loss(data, latent)) == pytest.approx(wanted)
    assert float(topological_loss(data, data.clone())) == 0.0
    assert float(topological_loss(data, latent)) == pytest.approx(float(topological_loss(latent, data)))


def test_gradient_draws_the_latent_distances_to_the_data() -> None:
    torch.manual_seed(0)
    data = distances(20, 2).float()
    z = torch.randn(20, 2, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.05)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = topological_loss(data, torch.cdist(z, z))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_coincident_latent_points_have_a_finite_gradient() -> None:
    model = TopologicalAutoencoder(6, (8,), 2)
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
    model.loss(torch.randn(10, 6), 1.0).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_method_tells_types_apart_and_keeps_to_its_seed() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(90) % 3
    x = (rng.normal(size=(90, 20)) + 6 * np.eye(20)[kind]).astype(np.float32)
    quick = {"hidden": (16,), "max_epochs": 40, "batch_size": 30, "lr": 1e-2}
    found = PEERS["topoae"].embed(AnnData(x), 1, **quick)
    np.testing.assert_array_equal(found, PEERS["topoae"].embed(AnnData(x), 1, **quick))
    assert not np.array_equal(found, PEERS["topoae"].embed(AnnData(x), 2, **quick))
    assert found.shape == (90, 2)
    assert knn_probe(found, kind, k=5).accuracy > 0.8
    assert knn_probe(found, np.random.default_rng(1).permutation(kind), k=5).accuracy < 0.6
