"""The contrastive losses against slow NumPy loops typed from the papers, and their gradients and invariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import gamma
from torch import Tensor

from diffaug.core.losses import TARGETS, info_nce_loss, soft_contrastive_loss, soft_targets
from diffaug.core.similarity import KERNELS


def kappa(a: np.ndarray, b: np.ndarray, nu: float, kernel: str, scale: float = 1.0) -> float:
    """Eq. 9 and its two relatives, with plain gamma functions and no logarithms."""
    sq_dist = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / scale
    peak = gamma((nu + 1) / 2) / (math.sqrt(nu * math.pi) * gamma(nu / 2))
    eq9 = peak * (1 + sq_dist / nu) ** (-(nu + 1) / 2)
    return {"student_t": eq9, "released": 2 * math.pi * eq9**2, "unit_peak": eq9 / peak}[kernel]


def soft_loss_loop(
    y: np.ndarray,
    z: np.ndarray,
    y_views: np.ndarray,
    z_views: np.ndarray,
    *,
    beta: float,
    nu_y: float,
    nu_z: float,
    kernel: str,
    target: str,
) -> float:
    """Eq. 2, one centre and one background point at a time."""
    n = len(y)
    scale = 1.0
    if target == "scale_free":
        y_views = y
        scale = np.mean([np.sum((y[i] - y[j]) ** 2) for i in range(n) for j in range(n) if i != j])
    total = 0.0
    for c in range(n):
        for j in range(n):
            h = 1.0 if j == c else 0.0
            p = (1 + h * (math.exp(beta) - 1)) * kappa(y[c], y_views[j], nu_y, kernel, scale)
            p = min(p, 1.0)
            q = min(kappa(z[c], z_views[j], nu_z, kernel), 1 - 1e-6)
            total += p * math.log(q) + (1 - p) * math.log(1 - q)
    return -total / n


def batch(
    n: int = 6, n_semantic: int = 5, n_latent: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Semantic and latent vectors of centres, then of their views."""
    g = torch.Generator().manual_seed(seed)
    y, z = torch.randn(n, n_semantic, generator=g, dtype=dtype), torch.randn(n, n_latent, generator=g, dtype=dtype)
    y_views = y + 0.3 * torch.randn(y.shape, generator=g, dtype=dtype)
    z_views = z + 0.3 * torch.randn(z.shape, generator=g, dtype=dtype)
    return y, z, y_views, z_views


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("dof_semantic", "dof_latent"), [(1.0, 1.0), (100.0, 0.01), (5.0, 0.1), (2.0, 30.0)])
def test_soft_loss_is_eq_2(kernel: str, target: str, beta: float, dof_semantic: float, dof_latent: float) -> None:
    y, z, y_views, z_views = batch()
    settings: dict[str, Any] = {"beta": beta, "kernel": kernel, "target": target}
    found = soft_contrastive_loss(
        y, z, y_views, z_views, dof_semantic=dof_semantic, dof_latent=dof_latent, **settings
    ).item()
    expected = soft_loss_loop(
        *(v.numpy() for v in (y, z, y_views, z_views)), nu_y=dof_semantic, nu_z=dof_latent, **settings
    )
    assert found == pytest.approx(expected, rel=1e-8)


def test_soft_loss_is_eq_2_where_both_clamps_act() -> None:
    """Positives equal to their centres: Q is 1 there, and Eq. 9 times e exceeds 1."""
    y, z, _, _ = batch()
    settings: dict[str, Any] = {"beta": 1.0, "kernel": "student_t", "target": "literal"}
    targets = soft_targets(y, y, dof_semantic=5.0, **settings)
    assert torch.equal(targets.diagonal(), torch.ones(6, dtype=torch.float64))
    for kernel in ("student_t", "unit_peak"):
        settings["kernel"] = kernel
        found = soft_contrastive_loss(y, z, y, z, dof_semantic=5.0, dof_latent=1.0, **settings).item()
        expected = soft_loss_loop(y.numpy(), z.numpy(), y.numpy(), z.numpy(), nu_y=5.0, nu_z=1.0, **settings)
        assert found == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("dof", "exceeds"), [(1.0, False), (3.0, False), (4.0, True), (100.0, True)])
def test_eq_9_times_e_exceeds_one_from_four_degrees_of_freedom(dof: float, exceeds: bool) -> None:
    """Why the targets are clamped."""
    zero = np.zeros(2)
    assert (math.e * kappa(zero, zero, dof, "student_t") > 1) == exceeds
    p = soft_targets(*batch()[::2], beta=1.0, dof_semantic=dof, kernel="student_t", target="scale_free")
    assert p.min() >= 0 and p.max() <= 1
    assert bool((p.diagonal() == 1).all()) == exceeds


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("detach_target", [True, False])
def test_soft_loss_gradient(target: str, kernel: str, detach_target: bool) -> None:
    y, z, y_views, z_views = batch(n=4, n_semantic=3, n_latent=2)
    settings: dict[str, Any] = {"beta": 0.5, "dof_semantic": 2.0, "dof_latent": 0.5, "kernel": kernel, "target": target}

    def loss(*vectors: Tensor) -> Tensor:
        if detach_target:  # the targets are constants: differentiate with respect to the latent vectors only
            return soft_contrastive_loss(y, vectors[0], y_views, vectors[1], **settings)
        return soft_contrastive_loss(*vectors, **settings, detach_target=False)

    inputs = (z, z_views) if detach_target else (y, z, y_views, z_views)
    assert torch.autograd.gradcheck(loss, tuple(v.clone().requires_grad_() for v in inputs))


def test_detached_target_sends_no_gradient_to_the_semantic_vectors() -> None:
    y, z, y_views, z_views = (v.requires_grad_() for v in batch())
    soft_contrastive_loss(y, z, y_views, z_views, target="literal").backward()
    assert y.grad is None and y_views.grad is None
    assert z.grad is not None and z.grad.abs().max() > 0
    soft_contrastive_loss(y, z, y_views, z_views, target="literal", detach_target=False).backward()
    assert y.grad is not None and y.grad.abs().max() > 0
    assert y_views.grad is not None and y_views.grad.abs().max() > 0


@pytest.mark.parametrize("loss_name", ["soft-literal", "soft-scale_free", "info_nce"])
def test_losses_do_not_depend_on_the_order_of_the_batch(loss_name: str) -> None:
    vectors = batch(n=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))

    def loss(y: Tensor, z: Tensor, y_views: Tensor, z_views: Tensor) -> float:
        if loss_name == "info_nce":
            return info_nce_loss(z, z_views).item()
        return soft_contrastive_loss(y, z, y_views, z_views, target=loss_name.removeprefix("soft-")).item()  # type: ignore[arg-type]

    original = loss(*vectors)
    assert loss(*(v[order] for v in vectors)) == pytest.approx(original, rel=1e-12)
    y, z, y_views, z_views = vectors  # the control: views of other centres are another loss
    assert loss(y, z, y_views[order], z_views[order]) > original * 1.01


def test_scale_free_target_ignores_the_scale_of_the_semantic_vectors() -> None:
    y, _, y_views, _ = batch()
    settings: dict[str, Any] = {"beta": 1.0, "dof_semantic": 1.0, "kernel": "unit_peak"}
    one = soft_targets(y, y_views, target="scale_free", **settings)
    large = soft_targets(1000 * y, 1000 * y_views, target="scale_free", **settings)
    torch.testing.assert_close(large, one, rtol=1e-12, atol=0)

    literal = soft_targets(y, y_views, target="literal", **settings)
    literal_large = soft_targets(1000 * y, 1000 * y_views, target="literal", **settings)
    assert literal_large.max() < 1e-2 * literal.max()


def test_literal_target_of_unscaled_vectors_holds_no_positive() -> None:
    """The paper's Eq. 2 as printed does not train: with 80 dimensions the positives' P is about 0 as well."""
    g = torch.Generator().manual_seed(0)
    y = 3 * torch.randn(32, 80, generator=g)
    y_views = y + 1.5 * torch.randn(32, 80, generator=g)  # clearly the same cells: half the spread
    nearest = torch.cdist(y, y_views).argmin(dim=1)
    assert torch.equal(nearest, torch.arange(32))

    settings: dict[str, Any] = {"beta": 1.0, "dof_semantic": 1.0, "kernel": "student_t"}
    literal = soft_targets(y, y_views, target="literal", **settings)
    assert literal.diagonal().max() < 0.01
    settings["kernel"] = "unit_peak"
    scale_free = soft_targets(y, y_views, target="scale_free", **settings)
    assert torch.equal(scale_free.diagonal(), torch.ones(32))
    others = scale_free[~torch.eye(32, dtype=torch.bool)]
    assert 0.3 < others.mean() < 0.7  # 1 / (1 + d^2 / mean d^2) is 1/2 at the mean distance


def test_literal_loss_only_repels_unscaled_vectors() -> None:
    """What follows from it: the loss pushes views away from their own centres; the scale-free one pulls them near."""
    g = torch.Generator().manual_seed(0)
    y = 3 * torch.randn(32, 80, generator=g)
    y_views = y + 1.5 * torch.randn(32, 80, generator=g)
    z = torch.randn(32, 2, generator=g)
    offset = 0.5 * torch.randn(32, 2, generator=g)

    def pull(kernel: str, target: str) -> float:
        """Mean slope of a pair's own term in the distance between its centre and its view."""
        stretch = torch.ones(32, 1, requires_grad=True)
        for i in range(32):
            row = slice(i, i + 1)
            view = z[row] + stretch[row] * offset[row]
            soft_contrastive_loss(y[row], z[row], y_views[row], view, kernel=kernel, target=target).backward()  # type: ignore[arg-type]
        assert stretch.grad is not None
        return stretch.grad.mean().item()

    assert pull("student_t", "literal") < -0.1  # a larger distance lowers the loss
    assert pull("unit_peak", "scale_free") > 0.1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dof", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e6, 1e15])
def test_soft_loss_is_finite_in_float32(target: str, kernel: str, dof: float, scale: float) -> None:
    """Coincident, and very distant, vectors: loss and gradients are numbers."""
    y, z, y_views, z_views = ((scale * v).requires_grad_() for v in batch(dtype=torch.float32))
    loss = soft_contrastive_loss(
        y,
        z,
        y_views,
        z_views,
        dof_semantic=dof,
        dof_latent=dof,
        kernel=kernel,  # type: ignore[arg-type]
        target=target,  # type: ignore[arg-type]
        detach_target=False,
    )
    loss.backward()
    assert loss.isfinite()
    for v in (y, z, y_views, z_views):
        assert v.grad is None or v.grad.isfinite().all()


@pytest.mark.parametrize("target", TARGETS)
def test_soft_loss_falls_when_latent_views_approach_their_centres(target: str) -> None:
    y, z, y_views, z_views = batch(n=16)
    y, y_views = 0.1 * y, 0.1 * y_views  # a scale on which the literal form, too, trusts the positives

    def loss(share: float) -> float:
        """The views at this share of their way to the centres."""
        moved = torch.lerp(z_views, z, share)
        return soft_contrastive_loss(y, z, y_views, moved, target=target).item()  # type: ignore[arg-type]

    losses = [loss(share) for share in (-3.0, 0.0, 0.5, 0.9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1


def test_single_cell_batch_has_a_finite_loss() -> None:
    """Without other centres there is no mean distance to divide by."""
    y, z, y_views, z_views = batch(n=1)
    found = soft_contrastive_loss(y, z, y_views, z_views)
    assert found.item() == pytest.approx(math.log1p((z - z_views).square().sum().item()))  # P = 1, nu = 1: -log Q


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match=r"Expected `target` in \['literal', 'scale_free'\], found 'umap'"):
        soft_contrastive_loss(*batch(), target="umap")  # type: ignore[arg-type]


def nt_xent_loop(z: np.ndarray, z_views: np.ndarray, tau: float) -> float:
    """Chen et al. (2020), Eq. 1 and Algorithm 1: 2k-1 and 2k are a pair."""
    n = len(z)
    all_z = [v for pair in zip(z, z_views, strict=True) for v in pair]

    def sim(i: int, j: int) -> float:
        a, b = all_z[i], all_z[j]
        return float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))

    def ell(i: int, j: int) -> float:
        denominator = sum(math.exp(sim(i, k) / tau) for k in range(2 * n) if k != i)
        return -math.log(math.exp(sim(i, j) / tau) / denominator)

    return sum(ell(2 * k, 2 * k + 1) + ell(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_info_nce_is_chen_eq_1(temperature: float, n: int) -> None:
    _, z, _, z_views = batch(n=n)
    found = info_nce_loss(z, z_views, temperature=temperature).item()
    assert found == pytest.approx(nt_xent_loop(z.numpy(), z_views.numpy(), temperature), rel=1e-8, abs=1e-12)


def test_info_nce_gradient() -> None:
    _, z, _, z_views = (v.requires_grad_() for v in batch(n=4))
    assert torch.autograd.gradcheck(info_nce_loss, (z, z_views))


def test_info_nce_ignores_the_length_of_the_vectors() -> None:
    _, z, _, z_views = batch()
    lengths = torch.rand(6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert info_nce_loss(lengths * z, 7 * z_views).item() == pytest.approx(info_nce_loss(z, z_views).item(), rel=1e-12)


def test_info_nce_of_collapsed_vectors_is_that_of_guessing() -> None:
    z = torch.ones(8, 3)
    assert info_nce_loss(z, z).item() == pytest.approx(math.log(15), rel=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-15, 1e15])
def test_info_nce_is_finite_in_float32(scale: float) -> None:
    _, z, _, z_views = ((scale * v).requires_grad_() for v in batch(dtype=torch.float32))
    loss = info_nce_loss(z, z_views, temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None and z.grad.isfinite().all()


def test_info_nce_falls_when_views_approach_their_centres() -> None:
    _, z, _, z_views = batch(n=16)
    losses = [info_nce_loss(z, torch.lerp(z_views, z, share)).item() for share in (-3.0, 0.0, 0.5, 0.9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] + 0.1
