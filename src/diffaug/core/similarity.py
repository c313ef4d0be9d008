"""Student-t similarity between vectors (paper, Eq. 9), in log space."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Kernel = Literal["student_t", "released", "unit_peak"]
KERNELS: tuple[Kernel, ...] = ("student_t", "released", "unit_peak")


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of every row of ``a`` to every row of ``b``.

    Parameters
    ----------
    a
        Vectors, shape ``(n, d)``.
    b
        Vectors, shape ``(m, d)``.

    Returns
    -------
    Shape ``(n, m)``. Exactly zero for equal rows, with a zero (not NaN) gradient there:
    the matrix-multiply shortcut is off because it is wrong near zero.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def log_similarity(sq_dist: Tensor, dof: float, kernel: Kernel = "student_t") -> Tensor:
    r"""Logarithm of the Student-t kernel of a squared distance.

    Parameters
    ----------
    sq_dist
        Squared distances, any shape.
    dof
        Degrees of freedom :math:`\nu > 0`; small values have heavy tails.
    kernel
        ``"student_t"`` is Eq. 9, the density
        :math:`C_\nu (1 + d^2/\nu)^{-(\nu+1)/2}` with
        :math:`C_\nu = \Gamma((\nu+1)/2) / (\sqrt{\nu\pi}\,\Gamma(\nu/2))`;
        ``"released"`` is what the authors' code computes,
        :math:`2\pi C_\nu^2 (1 + d^2/\nu)^{-(\nu+1)}`;
        ``"unit_peak"`` is Eq. 9 divided by its peak, so that a point is exactly 1 similar to itself.

    Returns
    -------
    :math:`\log \kappa_\nu`, shape of ``sq_dist``.
    """
    if kernel not in KERNELS:
        raise ValueError(f"Expected `kernel` in {list(KERNELS)}, found {kernel!r}.")
    log_tail = -0.5 * (dof + 1) * torch.log1p(sq_dist / dof)
    if kernel == "unit_peak":
        return log_tail
    log_peak = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)
    if kernel == "student_t":
        return log_peak + log_tail
    return math.log(2 * math.pi) + 2 * (log_peak + log_tail)
