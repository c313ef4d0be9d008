"""The Student-t kernel against SciPy, and its numerics at coincident and at distant points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from diffaug.core.similarity import KERNELS, log_similarity, squared_distances

DOFS = (0.01, 0.1, 1.0, 2.0, 5.0, 30.0, 100.0)


@pytest.fixture
def distances() -> torch.Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-6, 6, 200, dtype=torch.float64)])


@pytest.mark.parametrize("dof", DOFS)
def test_student_t_is_the_t_density(distances: torch.Tensor, dof: float) -> None:
    expected = stats.t.logpdf(distances.numpy(), df=dof)
    np.testing.assert_allclose(log_similarity(distances**2, dof).numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dof", DOFS)
def test_released_is_two_pi_times_the_square(distances: torch.Tensor, dof: float) -> None:
    expected = np.log(2 * np.pi) + 2 * stats.t.logpdf(distances.numpy(), df=dof)
    np.testing.assert_allclose(log_similarity(distances**2, dof, "released").numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dof", "peak"), [(1.0, 0.637), (100.0, 0.995), (0.01, 0.0155)])
def test_released_has_the_peaks_measured_in_the_authors_code(dof: float, peak: float) -> None:
    assert log_similarity(torch.zeros(()), dof, "released").exp().item() == pytest.approx(peak, abs=5e-4, rel=5e-3)


def test_released_never_exceeds_one() -> None:
    """Its peak grows with dof towards 1: only Eq. 9 times e^beta needs the clamp of the targets."""
    zero = torch.zeros((), dtype=torch.float64)
    peaks = [log_similarity(zero, dof, "released").item() for dof in (0.01, 1, 10, 100, 1e4, 1e6)]
    assert peaks == sorted(peaks)
    assert -1e-6 < peaks[-1] < 0


@pytest.mark.parametrize("dof", DOFS)
def test_unit_peak_is_eq_9_over_its_peak(distances: torch.Tensor, dof: float) -> None:
    found = log_similarity(distances**2, dof, "unit_peak")
    assert found[0].item() == 0.0  # a point is exactly 1 similar to itself
    expected = stats.t.logpdf(distances.numpy(), df=dof) - stats.t.logpdf(0, df=dof)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(deadline=None, max_examples=100)
@given(
    dof=st.floats(1e-2, 1e3),
    near=st.floats(1e-6, 1e6),
    factor=st.floats(1.001, 1e3),
)
def test_similarity_falls_with_distance(kernel: str, dof: float, near: float, factor: float) -> None:
    sq_dist = torch.tensor([0.0, near, near * factor], dtype=torch.float64)
    peak, close, far = log_similarity(sq_dist, dof, kernel).tolist()
    assert peak > close > far


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dof", [0.01, 1.0, 100.0])
def test_tails_are_finite_in_float32(kernel: str, dof: float) -> None:
    """The kernel itself underflows there: its logarithm and the logarithm's gradient must not."""
    sq_dist = torch.tensor([0.0, 1e-30, 1.0, 1e10, 1e30], requires_grad=True)
    found = log_similarity(sq_dist, dof, kernel)
    found.sum().backward()
    assert found.isfinite().all()
    assert sq_dist.grad is not None and sq_dist.grad.isfinite().all()
    exact = log_similarity(sq_dist.detach().double(), dof, kernel)
    torch.testing.assert_close(found.detach().double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_is_zero_at_coincident_points(kernel: str) -> None:
    a = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    b = a.detach().clone().requires_grad_()
    torch.diagonal(log_similarity(squared_distances(a, b), 1.0, kernel)).sum().backward()
    assert a.grad is not None and torch.equal(a.grad, torch.zeros_like(a))
    assert b.grad is not None and torch.equal(b.grad, torch.zeros_like(b))


def test_naive_distance_has_a_nan_gradient_there() -> None:
    """The control of the test above: what it guards against does happen."""
    a = torch.ones(1, 3, requires_grad=True)
    (a - torch.ones(1, 3)).square().sum().sqrt().square().backward()
    assert a.grad is not None and a.grad.isnan().all()


def test_unknown_kernel() -> None:
    with pytest.raises(ValueError, match=r"Expected `kernel` in \['student_t', 'released', 'unit_peak'\], found 'rbf'"):
        log_similarity(torch.zeros(1), 1.0, "rbf")  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [7, 60])  # torch.cdist switches to the matrix product above 25 rows where it may
def test_squared_distances_are_scipys(n: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, 20)), rng.normal(size=(n + 3, 20))
    found = squared_distances(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(found, cdist(a, b, "sqeuclidean"), rtol=1e-12)


def test_squared_distances_keep_near_points_of_large_norm() -> None:
    """Vectors of norm 240 that are 1e-3 apart, in float32: the matrix-multiply shortcut fails on them."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 80, generator=generator)
    a = 240 * a / a.norm(dim=1, keepdim=True)
    step = torch.randn(60, 80, generator=generator)
    b = a + 1e-3 * step / step.norm(dim=1, keepdim=True)
    exact = torch.from_numpy(cdist(a.double().numpy(), b.double().numpy(), "sqeuclidean"))
    near = exact.diagonal()
    assert near.sqrt().median() == pytest.approx(1e-3, rel=0.1)

    found = squared_distances(a, b).double()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0)
    shortcut = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").square().double()
    assert (shortcut.diagonal() - near).abs().max() > 100 * near.max()


def test_squared_distances_at_coincident_points() -> None:
    a = (240 * torch.randn(60, 80, generator=torch.Generator().manual_seed(0))).requires_grad_()
    sq_dist = squared_distances(a, a)
    assert torch.equal(sq_dist.diagonal(), torch.zeros(60))
    sq_dist.diagonal().sum().backward()
    assert a.grad is not None and torch.equal(a.grad, torch.zeros_like(a))


def test_squared_distances_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 3, generator=generator, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    assert torch.autograd.gradcheck(squared_distances, (a, b))
    squared_distances(a, b).sum().backward()
    expected = 2 * (5 * a - b.sum(dim=0))  # d/da sum_ij |a_i - b_j|^2
    torch.testing.assert_close(a.grad, expected.detach())


def test_gamma_functions_do_not_overflow() -> None:
    """Gamma(nu / 2) itself overflows float64 from nu = 343 up; the limit of Eq. 9 is the normal density."""
    found = log_similarity(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64), 1e5).tolist()
    expected = [-0.5 * math.log(2 * math.pi) - 0.5 * d for d in (0.0, 1.0, 4.0)]
    assert found == pytest.approx(expected, abs=1e-3)
