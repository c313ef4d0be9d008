"""Label-free readings of an embedding, cheap enough for every epoch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffaug.core.neighbors import nearest_neighbors

#: Of the discriminator, as a share of its rows: a tenth or ten times as much gave the same readings to .03.
_RIDGE = 1e-3
#: Fewer rows than that of each kind are not told apart.
LEAST_TOLD = 4


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


@torch.no_grad()
def split_half_overlap(
    embed: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator, *, k: int = 15, n_splits: int = 4
) -> Tensor:
    r"""How far two halves of an event's features agree on its neighbours: a reading without labels.

    A random half of the features is hidden, as in training (zero, the rest doubled), then the other half. Where the
    noise of the two halves is independent, neighbours that both embeddings find were found by what the features share, the
    state of the event. An embedding that follows noise, or that collapsed, finds few of them.

    Parameters
    ----------
    embed
        ``(n, *event) -> (n, d)``, in evaluation mode.
    x
        Standardised events, shape ``(n, *event)``.
    generator
        Source of randomness, on the device of ``x``.
    k
        Neighbours of each event (cosine of the centred embedding).
    n_splits
        Random splits to average over.

    Returns
    -------
    Shape ``(n,)``: for each event the mean share of the ``k`` neighbours of one half that the other half finds too; about
    ``k / (n - 1)`` by chance.

    Raises
    ------
    ValueError
        ``k`` is not below the number of events, or an event has fewer than two features.
    """
    n, size = len(x), x[0].numel() if len(x) else 0
    if not 1 <= k < n:
        raise ValueError(f"Expected `k` in 1 .. {n - 1} for {n} events, found {k}.")
    if size < 2:
        raise ValueError(f"Expected at least 2 features to split, found {size}.")
    shared = torch.zeros(n, device=x.device)
    for _ in range(n_splits):
        first = torch.zeros(size, dtype=torch.bool, device=x.device)
        first[torch.randperm(size, generator=generator, device=x.device)[: size // 2]] = True
        found = []
        for half in (first, ~first):
            y = embed(x * (2.0 * half).reshape(x.shape[1:]))
            found.append(nearest_neighbors(torch.nn.functional.normalize(y - y.mean(dim=0), dim=1), k))
        shared += (found[0][:, :, None] == found[1][:, None, :]).any(dim=2).float().mean(dim=1)
    return shared / n_splits


@torch.no_grad()
def nearest_own(views: Tensor, reference: Tensor, own: Tensor, k: int = 15) -> tuple[float, float]:
    """How near views stay to the events that they were made of, among all events.

    Parameters
    ----------
    views
        Embedded views, shape ``(n, d)``.
    reference
        Embedded events, shape ``(m, d)``.
    own
        Row of ``reference`` that each view was made of, shape ``(n,)``.
    k
        Size of the neighbourhood.

    Returns
    -------
    Share of views whose own event is the nearest of all (cosine of the centred embedding), and share of those whose own
    event is among the ``k`` nearest. Both 1: the views are copies; both near 0: they have nothing to do with their events.
    """
    center = reference.mean(dim=0)
    unit = torch.nn.functional.normalize(reference - center, dim=1)
    first = among = 0
    for rows, source in zip(views.split(2048), own.split(2048), strict=True):
        cosine = torch.nn.functional.normalize(rows - center, dim=1) @ unit.T
        nearer = (cosine > cosine.gather(1, source[:, None])).sum(dim=1)
        first += int((nearer == 0).sum())
        among += int((nearer < k).sum())
    return first / len(views), among / len(views)


@torch.no_grad()
def told_apart(views: Tensor, events: Tensor) -> float:
    """How well a discriminator tells views from events: the area under its ROC curve, on halves that it was not fitted to.

    Kernel ridge regression on both in their standardised space, with a Gaussian kernel as wide as the median distance
    (Lopez-Paz & Oquab 2017 test with any classifier; this one has no steps and no random part). The rows of one half
    are judged by a fit to the other.

    Parameters
    ----------
    views, events
        Embedded, shapes ``(n, d)`` and ``(m, d)``, of at least four rows each. Views of other events than these: a view
        beside its own event would be told by its place. The longer of the two is cut.

    Returns
    -------
    In [0, 1]; about 0.5 for views that are distributed as events, 1 for those that never look like one.
    """
    n = min(len(views), len(events))
    if n < LEAST_TOLD:
        raise ValueError(f"Expected at least {LEAST_TOLD} views and events, found {n}.")
    x = torch.cat([views[:n], events[:n]]).to("cpu", torch.float64)  # not every accelerator has float64
    spread = x.std(dim=0)
    x = (x - x.mean(dim=0))[:, spread > 0] / spread[spread > 0]
    distance = torch.cdist(x, x)
    width = distance[distance > 0].median() if (distance > 0).any() else torch.ones((), dtype=x.dtype)
    kernel = torch.exp(-((distance / width) ** 2))
    target = torch.ones(2 * n, dtype=x.dtype)
    target[n:] = -1
    is_first = torch.arange(n).repeat(2) % 2 == 0
    areas = []
    for fit, judged in ((is_first, ~is_first), (~is_first, is_first)):
        ridge = _RIDGE * int(fit.sum()) * torch.eye(int(fit.sum()), dtype=x.dtype)
        weights = torch.linalg.solve(kernel[fit][:, fit] + ridge, target[fit])
        score = kernel[judged][:, fit] @ weights
        of_views, of_events = score[target[judged] > 0], score[target[judged] < 0].sort().values
        below, up_to = (torch.searchsorted(of_events, of_views, right=right).double() for right in (False, True))
        areas.append(float((below + up_to).mean() / (2 * len(of_events))))
    return sum(areas) / 2
