"""Each loss against a slow NumPy loop typed from its paper's pseudocode; where gradients flow and where they must not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from diffaug.baselines import byol_loss, dino_loss, dlme_loss, moco_loss, simsiam_loss
from diffaug.baselines._byol import cosine_momentum
from diffaug.baselines._dino import warmed_temperature


def vectors(n: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(v: np.ndarray) -> np.ndarray:
    return v / math.sqrt(sum(float(a) ** 2 for a in v))


# --- MoCo ------------------------------------------------------------------------------------------------------------


def moco_loop(q: np.ndarray, k: np.ndarray, queue: np.ndarray, t: float, own: np.ndarray | None = None) -> float:
    """He et al. (2020), Algorithm 1, one query at a time; keys of the query's own event are left out."""
    total = 0.0
    for i in range(len(q)):
        l_pos = float(unit(q[i]) @ unit(k[i]))
        l_neg = [float(unit(q[i]) @ key) for j, key in enumerate(queue) if own is None or not own[i, j]]
        logits = [value / t for value in [l_pos, *l_neg]]
        total += -math.log(math.exp(logits[0]) / sum(math.exp(value) for value in logits))
    return total / len(q)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("with_own", [False, True])
def test_moco_is_algorithm_1(temperature: float, with_own: bool) -> None:
    q, k, queue = vectors(5, 4), vectors(5, 4, 1), torch.nn.functional.normalize(vectors(12, 4, 2), dim=1)
    own = torch.arange(12) % 5 == torch.arange(5)[:, None] if with_own else None
    found = moco_loss(q, k, queue, temperature=temperature, own=own).item()
    expected = moco_loop(q.numpy(), k.numpy(), queue.numpy(), temperature, None if own is None else own.numpy())
    assert found == pytest.approx(expected, rel=1e-10)
    if with_own:  # the control: it matters
        assert found != pytest.approx(moco_loss(q, k, queue, temperature=temperature).item(), rel=1e-3)


def test_moco_of_a_queue_that_holds_own_keys_only_is_zero() -> None:
    q, k = vectors(3, 4), vectors(3, 4, 1)
    own = torch.ones(3, 6, dtype=torch.bool)
    assert moco_loss(q, k, torch.nn.functional.normalize(vectors(6, 4, 2), dim=1), own=own).item() == 0


# --- BYOL and SimSiam ------------------------------------------------------------------------------------------------


def byol_loop(q: np.ndarray, z: np.ndarray) -> float:
    """Grill et al. (2020), Eq. 2: the squared distance of unit vectors, which is 2 - 2 cos."""
    total = 0.0
    for a, b in zip(q, z, strict=True):
        total += 2 - 2 * float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))
    return total / len(q)


def simsiam_loop(p: np.ndarray, z: np.ndarray) -> float:
    """Chen and He (2021), Algorithm 1: D(p, z) = -(p * z).sum(dim=1).mean() of unit vectors."""
    return -sum(float((unit(a) * unit(b)).sum()) for a, b in zip(p, z, strict=True)) / len(p)


def test_byol_is_eq_2() -> None:
    p, z = vectors(7, 5), vectors(7, 5, 1)
    assert byol_loss(p, z).item() == pytest.approx(byol_loop(p.numpy(), z.numpy()), rel=1e-12)
    assert byol_loss(p, 3 * p).item() == pytest.approx(0, abs=1e-12)
    assert byol_loss(p, -p).item() == pytest.approx(4)


def test_simsiam_is_algorithm_1() -> None:
    p, z = vectors(7, 5), vectors(7, 5, 1)
    assert simsiam_loss(p, z).item() == pytest.approx(simsiam_loop(p.numpy(), z.numpy()), rel=1e-12)
    assert simsiam_loss(p, 3 * p).item() == pytest.approx(-1)


def test_momentum_of_byol_rises_along_a_cosine() -> None:
    """Section 3.2: tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2."""
    for k in range(11):
        expected = 1 - (1 - 0.9) * (math.cos(math.pi * k / 10) + 1) / 2
        assert cosine_momentum(0.9, k / 10) == pytest.approx(expected, rel=1e-12)
    assert cosine_momentum(0.9, 0) == pytest.approx(0.9)
    assert cosine_momentum(0.9, 0.5) == pytest.approx(0.95)
    assert cosine_momentum(0.9, 1) == 1


@pytest.mark.parametrize(
    "loss",
    [
        byol_loss,
        simsiam_loss,
        lambda p, z: moco_loss(p, z, torch.nn.functional.normalize(vectors(6, 5, 2), dim=1)),
        lambda p, z: dino_loss(p, z, torch.zeros(5, dtype=torch.float64)),
    ],
    ids=["byol", "simsiam", "moco", "dino"],
)
def test_no_gradient_flows_into_the_target(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    p, z = vectors(7, 5).requires_grad_(), vectors(7, 5, 1).requires_grad_()
    loss(p, z).backward()
    assert z.grad is None
    assert p.grad is not None and p.grad.abs().max() > 0
    assert torch.autograd.gradcheck(lambda a: loss(a, z.detach()), (p,))


# --- DINO ------------------------------------------------------------------------------------------------------------


def dino_loop(s: np.ndarray, t: np.ndarray, c: np.ndarray, tps: float, tpt: float) -> float:
    """Caron et al. (2021), Algorithm 1: t = softmax((t - C) / tpt), s = softmax(s / tps), -(t * log(s)).sum().mean()."""
    total = 0.0
    for row, other in zip(s, t, strict=True):
        student = [math.exp(v / tps) for v in row]
        teacher = [math.exp((v - w) / tpt) for v, w in zip(other, c, strict=True)]
        for a, b in zip(student, teacher, strict=True):
            total -= b / sum(teacher) * math.log(a / sum(student))
    return total / len(s)


@pytest.mark.parametrize(("student", "teacher"), [(0.1, 0.04), (0.1, 0.1), (1.0, 0.5)])
def test_dino_is_algorithm_1(student: float, teacher: float) -> None:
    s, t, c = torch.tanh(vectors(6, 9)), torch.tanh(vectors(6, 9, 1)), vectors(1, 9, 2)[0] / 5
    found = dino_loss(s, t, c, student_temperature=student, teacher_temperature=teacher).item()
    assert found == pytest.approx(dino_loop(s.numpy(), t.numpy(), c.numpy(), student, teacher), rel=1e-10)
    # The control: centre and both temperatures matter.
    for other in (
        dino_loss(s, t, 0 * c, student_temperature=student, teacher_temperature=teacher),
        dino_loss(s, t, c, student_temperature=2 * student, teacher_temperature=teacher),
        dino_loss(s, t, c, student_temperature=student, teacher_temperature=2 * teacher),
    ):
        assert other.item() != pytest.approx(found, rel=1e-3)


def test_dino_is_least_where_the_student_says_what_the_teacher_does() -> None:
    """There it is the teacher's entropy (Gibbs' inequality), and at equal scores the logarithm of their number."""
    t, c = torch.tanh(vectors(6, 9)), torch.zeros(9, dtype=torch.float64)
    shares = torch.softmax(t / 0.5, dim=1)
    entropy = -(shares * shares.log()).sum(dim=1).mean().item()
    least = dino_loss(t, t, c, student_temperature=0.5, teacher_temperature=0.5).item()
    assert least == pytest.approx(entropy, rel=1e-12)
    moved = dino_loss(t + 0.1 * vectors(6, 9, 3), t, c, student_temperature=0.5, teacher_temperature=0.5)
    assert moved.item() > least
    assert dino_loss(0 * t, t, c).item() == pytest.approx(math.log(9))


def test_temperature_of_the_teacher_rises_along_a_line() -> None:
    found = [warmed_temperature(0.04, 0.07, 0.3, k / 10) for k in range(11)]
    np.testing.assert_allclose(found[:4], [0.04, 0.05, 0.06, 0.07], rtol=1e-12)
    assert found[4:] == [0.07] * 7
    assert warmed_temperature(0.04, 0.07, 0.0, 0.0) == 0.07  # no warm-up


# --- DLME ------------------------------------------------------------------------------------------------------------


def dlme_loop(y: np.ndarray, z: np.ndarray, z_views: np.ndarray, nu_y: float, nu_z: float) -> float:
    """Point by point: events come first, then views, and a view has its event's place in the structure space."""
    n = len(y)
    # Batch normalisation without weights, its epsilon included.
    y = (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-5)
    points = np.concatenate([z, z_views])

    def kappa(a: np.ndarray, b: np.ndarray, nu: float) -> float:
        return (1 + sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / nu) ** (-(nu + 1) / 2)

    total = 0.0
    for i in range(2 * n):
        for j in range(2 * n):
            if i != j:
                p = kappa(y[i % n], y[j % n], nu_y)
                q = min(kappa(points[i], points[j], nu_z), 1 - 1e-6)
                total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    return total / (2 * n * (2 * n - 1))


@pytest.mark.parametrize(("dof_semantic", "dof_latent"), [(100.0, 1.0), (1.0, 0.1), (5.0, 10.0)])
def test_dlme_is_the_loop(dof_semantic: float, dof_latent: float) -> None:
    y, z = 7 * vectors(5, 3) + 2, vectors(5, 2, 1)
    z_views = z + 0.3 * vectors(5, 2, 2)
    found = dlme_loss(y, z, z_views, dof_semantic=dof_semantic, dof_latent=dof_latent).item()
    expected = dlme_loop(y.numpy(), z.numpy(), z_views.numpy(), dof_semantic, dof_latent)
    assert found == pytest.approx(expected, rel=1e-8)


def test_dlme_gradient_reaches_both_spaces() -> None:
    y, z, z_views = (v.requires_grad_() for v in (vectors(5, 3), vectors(5, 2, 1), vectors(5, 2, 3)))
    assert torch.autograd.gradcheck(lambda *v: dlme_loss(*v, dof_semantic=2.0), (y, z, z_views))


def test_dlme_does_not_depend_on_the_scale_of_the_structure_space() -> None:
    y, z, z_views = vectors(8, 3), vectors(8, 2, 1), vectors(8, 2, 3)
    one = dlme_loss(y, z, z_views, dof_semantic=3.0).item()
    assert dlme_loss(1e3 * y + 5, z, z_views, dof_semantic=3.0).item() == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e6])
def test_dlme_is_finite_in_float32(scale: float) -> None:
    """Coincident, and very distant, vectors: loss and gradients are numbers."""
    made = [(scale * vectors(6, 4, s, torch.float32)).requires_grad_() for s in range(3)]
    loss = dlme_loss(*made)
    loss.backward()
    assert loss.isfinite()
    assert all(v.grad is not None and v.grad.isfinite().all() for v in made)


def test_dlme_falls_when_views_approach_their_events() -> None:
    y, z = 3 * vectors(16, 8), 3 * vectors(16, 4, 1)
    views = z + vectors(16, 4, 2)
    losses = [dlme_loss(y, z, torch.lerp(views, z, share)).item() for share in (-3.0, 0.0, 0.5, 0.9)]
    assert losses == sorted(losses, reverse=True)
