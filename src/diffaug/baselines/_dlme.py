"""DLME (Zang et al. 2022, "DLME: Deep Local-flatness Manifold Embedding", ECCV; arXiv 2207.03160)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffaug.baselines._method import Method, Pass
from diffaug.core.config import check_fields
from diffaug.core.losses import similarity_cross_entropy
from diffaug.core.similarity import Kernel, log_similarity, squared_distances


def dlme_loss(
    semantic: Tensor,
    latent: Tensor,
    latent_views: Tensor,
    *,
    dof_semantic: float = 100.0,
    dof_latent: float = 1.0,
    kernel: Kernel = "unit_peak",
) -> Tensor:
    r"""Cross-entropy between similarities in the structure space y and in the embedding z, over all pairs.

    .. math::
        L = \frac{1}{|\{i \ne j\}|} \sum_{i \ne j} -P_{ij} \log Q_{ij} - (1 - P_{ij}) \log(1 - Q_{ij}),
        \qquad P_{ij} = \kappa_{\nu_y}(\bar y_i, \bar y_j), \quad Q_{ij} = \kappa_{\nu_z}(z_i, z_j)

    The sum runs over events *and* views, :math:`\bar y` is the vector of a point's event standardised over the batch, and
    :math:`\kappa_\nu` is Student's t kernel. So a view belongs where its event is, however far the augmentation moved it.

    The formula follows what the authors' released training computes; no code is taken from it. It ends the structure
    network in batch normalisation, and :math:`\bar y` stands for that: an unrelated pair then has a squared distance of
    about twice the dimension, and :math:`\nu_y = 100` leaves it a target of about 0. Simplified here: a view has exactly
    its event's place in P (there: a hundred-thousandth of the distance to the nearest neighbour off it); P is not
    symmetrised by the fuzzy union, because without that offset it is symmetric; the degrees of freedom of z are constant
    (there: they follow a schedule); the diagonal, a constant, is left out; the kernel has its peak at 1, see
    :func:`diffaug.core.similarity.log_similarity`.

    Parameters
    ----------
    semantic
        Semantic vectors y of the events, shape ``(batch, n_semantic)``. The gradient flows through them, too.
    latent, latent_views
        Latent vectors z of events and views, shape ``(batch, n_latent)``.
    dof_semantic, dof_latent
        Degrees of freedom of the two kernels; those of z are the fewer, so that its tails are heavier.
    kernel
        See :func:`diffaug.core.similarity.log_similarity`.

    Returns
    -------
    Scalar, mean over the ordered pairs of different points.
    """
    y = F.batch_norm(semantic, None, None, training=True)
    p = log_similarity(squared_distances(y, y), dof_semantic, kernel).exp().repeat(2, 2)
    z = torch.cat([latent, latent_views])
    loss = similarity_cross_entropy(p, log_similarity(squared_distances(z, z), dof_latent, kernel))
    # All but the diagonal: of the flat matrix every (n + 1)-th entry. A mask would make the host wait for a GPU in every step.
    n = len(z)
    return loss.flatten()[:-1].reshape(n - 1, n + 1)[:, 1:].flatten().mean()


@dataclass(frozen=True)
class DLMESettings:
    """Settings of DLME.

    Parameters
    ----------
    dof_semantic, dof_latent
        See :func:`dlme_loss`.
    """

    dof_semantic: float = 100.0
    dof_latent: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("dof_semantic", "dof_latent"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Expected `{name}` above 0, found {getattr(self, name)}.")


class DLME(Method):
    """The latent vectors of events and views get the similarities that the events' semantic vectors have."""

    name = "dlme"
    Settings = DLMESettings
    settings: DLMESettings

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        """The paper's loss, as :func:`dlme_loss` has it."""
        return dlme_loss(
            made.x.semantic,
            made.x.latent,
            made.views.latent,
            dof_semantic=self.settings.dof_semantic,
            dof_latent=self.settings.dof_latent,
        )
