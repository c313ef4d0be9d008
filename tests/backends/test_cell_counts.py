"""Counts read back from logarithms, and made for drawn values: the lattice, sums and expectations are exact."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from diffaug.backends._cell_counts import drawn_counts, recovered_counts


@pytest.fixture
def raw() -> np.ndarray:
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, 3.0, size=(1, 80)) * rng.lognormal(0, 0.5, size=(60, 1))
    counts = rng.negative_binomial(1.0, 1 / (1 + mean))
    counts[:, 0] += 1
    counts[5, 3] = 30_000  # float32 logarithms still tell it from its neighbours
    return counts


def logged(counts: np.ndarray, target: float = 1e4) -> np.ndarray:
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * target).astype(np.float32)


@pytest.mark.parametrize("target", [1.0, 1e4, 1e6])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_real_counts_are_read_back(raw: np.ndarray, target: float, form: type) -> None:
    x = form(logged(raw, target))
    found = recovered_counts(x)
    assert found is not None
    np.testing.assert_array_equal(found.toarray(), raw)


def test_cells_without_a_single_count(raw: np.ndarray) -> None:
    """Smallest counts of 2 and 3: the step of the lattice is half the smallest value."""
    few = np.zeros((1, 80), dtype=int)
    few[0, :4] = [2, 3, 7, 9]
    found = recovered_counts(logged(np.vstack([few, np.zeros((0, 80), int)])))
    assert found is not None
    np.testing.assert_array_equal(found.toarray(), few)


def test_other_values_have_no_counts(raw: np.ndarray) -> None:
    x = logged(raw)
    smoothed = 0.5 * x + 0.5 * x[::-1]
    assert recovered_counts(smoothed) is None
    assert recovered_counts(np.random.default_rng(0).gamma(1.0, size=(5, 40))) is None
    one = x.copy()
    one[7] = smoothed[7]  # one cell is enough
    assert recovered_counts(one) is None


def test_an_empty_cell_is_read_back_as_one(raw: np.ndarray) -> None:
    x = logged(raw)
    x[2] = 0
    found = recovered_counts(x)
    assert found is not None and found[2].sum() == 0


def test_real_cells_are_returned_exactly(raw: np.ndarray) -> None:
    totals = raw.sum(axis=1)
    made = drawn_counts(logged(raw), totals, totals, np.random.default_rng(1))
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made.toarray(), raw)


def perturbed(raw: np.ndarray) -> np.ndarray:
    return logged(raw) * np.random.default_rng(2).uniform(0.6, 1.4, size=raw.shape).astype(np.float32)


def test_sums_and_zeros(raw: np.ndarray) -> None:
    x, totals = perturbed(raw), raw.sum(axis=1)
    made = drawn_counts(x, totals, totals, np.random.default_rng(0)).toarray()
    np.testing.assert_array_equal(made.sum(axis=1), totals)
    np.testing.assert_array_equal(made > 0, x > 0)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 2.5])
def test_depth(raw: np.ndarray, factor: float) -> None:
    """Sums are those asked for; thinning a real cell never exceeds it, and adding never falls below."""
    own = raw.sum(axis=1)
    wanted = np.rint(own * factor).astype(int)
    made = drawn_counts(logged(raw), own, wanted, np.random.default_rng(0)).toarray()
    np.testing.assert_array_equal(made.sum(axis=1), wanted)
    assert (made <= raw).all() if factor <= 1 else (made >= raw).all()


def test_fewer_counts_than_expressed_genes() -> None:
    """Then no gene has more than one, and the greater values have it oftener."""
    x = np.log1p(np.tile(np.arange(1.0, 11.0), (400, 1)))
    four = np.full(400, 4)
    made = drawn_counts(x, four, four, np.random.default_rng(0)).toarray()
    assert (made.sum(axis=1) == 4).all() and made.max() == 1
    assert made.mean(axis=0)[-3:].min() > made.mean(axis=0)[:3].max() + 0.2


def test_expectations_are_kept() -> None:
    """Weights 1.5 : 2.25 : 3.25 of seven counts: the mean over many cells is what the weights say."""
    expected = np.array([1.5, 2.25, 3.25])
    seven = np.full(20_000, 7)
    made = drawn_counts(np.log1p(np.tile(expected, (20_000, 1))), seven, seven, np.random.default_rng(0)).toarray()
    np.testing.assert_allclose(made.mean(axis=0), expected, atol=0.02)
    assert set(np.unique(made[:, 1])) == {2, 3}  # rounded, with no other noise


def test_nothing_expressed() -> None:
    made = drawn_counts(np.zeros((2, 5)), np.array([7, 0]), np.array([7, 0]), np.random.default_rng(0))
    assert made.nnz == 0 and made.shape == (2, 5)
