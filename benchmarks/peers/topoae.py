"""Topological autoencoder (Moor et al., ICML 2020), written from the paper for this benchmark: it has no package.

Persistent homology of degree 0 only, as in the paper's experiments: the pairs of the Vietoris-Rips complex are then the
edges of the minimum spanning tree, and what is compared are their lengths in the data and in the latent space.
"""

from __future__ import annotations

import numpy as np
import torch
from _common import z_scored
from anndata import AnnData
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor, nn

from diffaug.core.devices import flushed_denormals
from peers._registry import register


def tree_edges(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of the edges of the minimum spanning tree of a distance matrix, each of shape ``(n - 1,)``."""
    dense = distances.detach().cpu().numpy().astype(np.float64)
    # SciPy reads distances near zero as "no edge", and equal cells would fall apart; a constant changes no tree.
    tree = minimum_spanning_tree(dense + 1.0).tocoo()
    return torch.as_tensor(tree.row.astype(np.int64)), torch.as_tensor(tree.col.astype(np.int64))


def topological_loss(data: Tensor, latent: Tensor) -> Tensor:
    """Eqs. 3 and 4 of the paper: both trees' edges, compared in both spaces, for distance matrices ``(n, n)``."""
    loss = data.new_zeros(())
    for tree in (data, latent):
        ends = tree_edges(tree)
        loss = loss + (data[ends] - latent[ends]).square().sum() / 2
    return loss


class TopologicalAutoencoder(nn.Module):
    """An autoencoder with batch normalisation, and a learnt scale of the latent distances."""

    def __init__(self, n_features: int, hidden: tuple[int, ...], n_latent: int) -> None:
        super().__init__()
        self.encoder = _mlp((n_features, *hidden, n_latent))
        self.decoder = _mlp((n_latent, *hidden[::-1], n_features))
        self.latent_scale = nn.Parameter(torch.ones(()))

    def loss(self, x: Tensor, weight: float) -> Tensor:
        z = self.encoder(x)
        data, latent = torch.cdist(x, x), _distances(z) / self.latent_scale
        topology = topological_loss(data / data.max().clamp_min(1e-12), latent)
        # Per cell, as the reconstruction is: else its weight would grow with the batch.
        return (self.decoder(z) - x).square().mean() + weight * topology / len(x)


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.BatchNorm1d(n_out)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def _distances(z: Tensor) -> Tensor:
    """Euclidean distances whose gradient is finite where two rows are equal."""
    square = (z[:, None] - z[None]).square().sum(dim=-1)
    return torch.where(square > 0, square.clamp_min(1e-24).sqrt(), 0.0)


@register(
    "topoae",
    "TopoAE (own)",
    flat="native",
    note="Our own small reimplementation of Moor et al. 2020, degree 0 only, with hidden layers as wide as DiffAug's.",
)
def topoae(
    adata: AnnData,
    seed: int,
    *,
    hidden: tuple[int, ...] = (500, 300),
    n_latent: int = 2,
    topology_weight: float = 0.5,
    batch_size: int = 128,
    max_epochs: int = 100,
    lr: float = 1e-3,
) -> np.ndarray:
    torch.manual_seed(seed)
    with flushed_denormals():
        x = torch.as_tensor(z_scored(adata))
        model = TopologicalAutoencoder(x.shape[1], tuple(hidden), n_latent)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=1e-5, fused=True)
        for _ in range(max_epochs):
            for rows in torch.randperm(len(x)).split(batch_size):
                if len(rows) < 3:  # a batch normalisation of one, or a tree of one edge
                    continue
                optimizer.zero_grad()
                model.loss(x[rows], topology_weight).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            return model.encoder(x).numpy()
