"""Label-free readings of an embedding, cheap enough for every epoch."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(x: Tensor) -> float:
    r"""Effective rank: the exponential of the entropy of the normalised singular values (Roy & Vetterli 2007).

    .. math::
        \operatorname{erank}(X) = \exp\Big(-\sum_i p_i \log p_i\Big), \qquad p_i = \sigma_i / \textstyle\sum_j \sigma_j

    The columns are centred first, which Roy & Vetterli do not do: an encoder that sends every input to the same
    far-off point has then no rank instead of rank one. The reading does not depend on scale, shift or rotation.

    Parameters
    ----------
    x
        One vector per row, shape ``(n, d)``, floating.

    Returns
    -------
    Between 1 and ``min(n - 1, d)``; 0.0 when all rows are equal (to rounding), that is, when the embedding collapsed
    to a point.

    Raises
    ------
    TypeError
        If ``x`` is not floating.
    ValueError
        If ``x`` is not a matrix of at least two rows and one column, or not finite.
    """
    if not x.is_floating_point():
        raise TypeError(f"Expected a floating tensor, found {x.dtype}. Convert it with `.float()`.")
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise ValueError(f"Expected shape (n, d) with n >= 2 and d >= 1, found {tuple(x.shape)}.")
    values = x.to("cpu", torch.float64)  # not every accelerator has float64; an embedding is small
    if not torch.isfinite(values).all():
        raise ValueError("Expected finite values, found NaN or infinite ones. Has the training diverged?")
    # The mean is itself rounded, and rows of a collapsed encoder differ by rounding only: that is not rank.
    rounding = max(torch.finfo(x.dtype).eps, 1e-12) * torch.linalg.matrix_norm(values)
    values = values - values.mean(dim=0)
    # Eigenvalues of the smaller Gram matrix: a product and a small eigenproblem instead of an SVD of all rows.
    gram = values.T @ values if values.shape[0] >= values.shape[1] else values @ values.T
    energy = torch.linalg.eigvalsh(gram)
    # Squaring halves the digits: eigenvalues under this are zeros of the decomposition, not of the data.
    noise = torch.finfo(torch.float64).eps * len(energy) * energy[-1].clamp_min(0.0)
    sigma = energy[energy > noise].sqrt()
    sigma = sigma[sigma > rounding]
    if sigma.numel() == 0:
        return 0.0
    p = sigma / sigma.sum()
    return float(torch.exp(-(p * p.log()).sum()))
