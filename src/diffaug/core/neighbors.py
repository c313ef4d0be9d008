"""Exact nearest neighbours by chunked matrix products."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_neighbors(x: Tensor, k: int, *, reference: Tensor | None = None, chunk: int = 2048) -> Tensor:
    """Indices of the ``k`` nearest rows, nearest first.

    In float32, distances that differ by less than about a thousandth of the data's radius are not told apart.

    Parameters
    ----------
    x
        Query vectors, shape ``(n, d)``.
    k
        Number of neighbours.
    reference
        Vectors to search, shape ``(m, d)``. By default ``x`` itself, and then a row is not its own neighbour.
    chunk
        Query rows per matrix product; the result does not depend on it.

    Returns
    -------
    int64, shape ``(n, k)``.
    """
    own = reference is None
    ref = x if reference is None else reference
    available = ref.shape[0] - own
    if not 1 <= k <= available:
        raise ValueError(f"Expected between 1 and {available} neighbours among {ref.shape[0]} points, found k={k}.")
    center = ref.mean(dim=0)  # the expansion |a|^2 - 2ab + |b|^2 loses digits far from the origin
    ref = ref - center
    half_norm = 0.5 * ref.square().sum(dim=1)
    found = []
    for begin in range(0, x.shape[0], chunk):
        score = (x[begin : begin + chunk] - center) @ ref.T - half_norm
        if own:
            rows = torch.arange(score.shape[0], device=x.device)
            score[rows, begin + rows] = -torch.inf
        found.append(score.topk(k, dim=1).indices)
    return torch.cat(found)
