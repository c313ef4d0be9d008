"""Contrastive losses: the soft loss of the paper (Eq. 2) and InfoNCE (ablation B3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diffaug.core.similarity import Kernel, log_similarity, squared_distances

Target = Literal["literal", "scale_free"]
TARGETS: tuple[Target, ...] = ("literal", "scale_free")


def soft_targets(
    semantic: Tensor,
    semantic_views: Tensor,
    *,
    beta: float,
    dof_semantic: float,
    kernel: Kernel,
    target: Target,
) -> Tensor:
    r"""Targets :math:`P_{cj} = (1 + H_{cj}(e^\beta - 1))\,\kappa_{\nu_y}(y_c, y_j)` of Eq. 2.

    ``H`` is the identity: the view ``j`` of centre ``c`` is its positive when ``j == c``. ``P`` is clamped to
    [0, 1], because Eq. 9 times :math:`e^\beta` exceeds 1 from four degrees of freedom up.

    With ``target="literal"`` the distances are those of the centres to the views, as Eq. 2 says. With
    ``"scale_free"`` they are the distances among the centres (so the positive is at distance 0, as in the authors'
    code), divided by their mean: the target then does not depend on the scale of ``semantic``. ``docs/method.md``
    says why the literal form does not train.
    """
    if target not in TARGETS:
        raise ValueError(f"Expected `target` in {list(TARGETS)}, found {target!r}.")
    if target == "literal":
        sq_dist = squared_distances(semantic, semantic_views)
    else:
        sq_dist = squared_distances(semantic, semantic)
        n = sq_dist.shape[0]
        mean = sq_dist.sum() / max(n * (n - 1), 1)
        sq_dist = sq_dist / mean.clamp_min(torch.finfo(sq_dist.dtype).tiny)
    log_p = log_similarity(sq_dist, dof_semantic, kernel)
    log_p = log_p + beta * torch.eye(log_p.shape[0], dtype=log_p.dtype, device=log_p.device)
    return log_p.clamp_max(0.0).exp()


def similarity_cross_entropy(p: Tensor, log_q: Tensor) -> Tensor:
    r"""Pairwise cross-entropy :math:`-P \log Q - (1 - P) \log(1 - Q)` of targets and similarities, any shape."""
    # A similarity of exactly 1 (coincident points under the unit peak) has no finite log(1 - Q).
    log_q = log_q.clamp_max(math.log1p(-1e-6))
    return -(p * log_q + (1 - p) * torch.log(-torch.expm1(log_q)))


def soft_contrastive_loss(
    semantic: Tensor,
    latent: Tensor,
    semantic_views: Tensor,
    latent_views: Tensor,
    *,
    beta: float = 1.0,
    dof_semantic: float = 1.0,
    dof_latent: float = 1.0,
    kernel: Kernel = "unit_peak",
    target: Target = "scale_free",
    detach_target: bool = True,
) -> Tensor:
    r"""Soft contrastive loss (paper, Eq. 2).

    .. math::
        L = -\frac1B \sum_c \sum_j P_{cj}\log Q_{cj} + (1 - P_{cj})\log(1 - Q_{cj}),
        \qquad Q_{cj} = \kappa_{\nu_z}(z_c, z_j)

    The background set of a centre is the batch's views, one of which is its own.

    Parameters
    ----------
    semantic, semantic_views
        Semantic vectors y of the centres and of their views, shape ``(batch, n_semantic)``.
    latent, latent_views
        Latent vectors z, shape ``(batch, n_latent)``.
    beta
        Extra trust in the positive, in [0, 1]. Without effect where its target is 1 already, as with the unit-peak kernel
        and scale-free targets.
    dof_semantic, dof_latent
        Degrees of freedom of the two kernels.
    kernel
        See :func:`diffaug.core.similarity.log_similarity`.
    target
        See :func:`soft_targets`.
    detach_target
        Whether the targets are constants for the gradient.

    Returns
    -------
    Scalar, mean over the centres of the sum over their background set.
    """
    p = soft_targets(semantic, semantic_views, beta=beta, dof_semantic=dof_semantic, kernel=kernel, target=target)
    if detach_target:
        p = p.detach()
    log_q = log_similarity(squared_distances(latent, latent_views), dof_latent, kernel)
    return similarity_cross_entropy(p, log_q).sum(dim=1).mean()


def info_nce_loss(latent: Tensor, latent_views: Tensor, *, temperature: float = 0.2) -> Tensor:
    """InfoNCE / NT-Xent on unit-length latent vectors, over centres and views (Chen et al. 2020, Eq. 1).

    Parameters
    ----------
    latent, latent_views
        Shape ``(batch, n_latent)``; row i of one is the positive of row i of the other.
    temperature
        Divides the cosine similarities.

    Returns
    -------
    Scalar, mean over the ``2 * batch`` anchors.
    """
    n = latent.shape[0]
    z = F.normalize(torch.cat([latent, latent_views]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
    positive = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(logits, positive)
