from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from diffaug._matrix import MAX_LOG, describe_matrix, merged

FORMATS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
}
COUNTS = np.array([[0, 3, 1], [2, 0, 0]])


def naive(x: np.ndarray) -> dict[str, object]:
    """The documented rules, value by value."""
    finite = [v for v in x.ravel().tolist() if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (math.nan, math.nan)
    whole = bool(finite) and all(v == int(v) for v in finite)
    if low < 0:
        kind = "scaled"
    elif whole and high >= 1:
        kind = "counts"
    elif finite and not whole and high <= MAX_LOG:
        kind = "log"
    else:
        kind = "other"
    return {
        "kind": kind,
        "min": low,
        "max": high,
        "n_nonfinite": x.size - len(finite),
        "n_nonfinite_rows": sum(not all(map(math.isfinite, row)) for row in x.tolist()),
        "is_integer": whole,
        "zero_fraction": sum(v == 0 for v in x.ravel().tolist()) / x.size,
    }


@given(
    x=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.one_of(
            st.just(0.0), st.integers(-3, 40).map(float), st.floats(-2, 30, width=32), st.sampled_from([np.nan, np.inf])
        ),
    ),
    kind=st.sampled_from(sorted(FORMATS)),
)
@settings(max_examples=300, deadline=None)
def test_agrees_with_a_loop_over_the_values(x: np.ndarray, kind: str) -> None:
    found = describe_matrix(FORMATS[kind](x))
    for field, expected in naive(x).items():
        if isinstance(expected, float):
            assert getattr(found, field) == pytest.approx(expected, nan_ok=True), field
        else:
            assert getattr(found, field) == expected, field
    assert found.is_sparse == (kind not in ("dense", "fortran"))


@pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (COUNTS.astype(np.float32), "counts"),
        (COUNTS.astype(np.int32), "counts"),
        (COUNTS.astype(np.uint8), "counts"),
        (COUNTS > 0, "counts"),
        (np.log1p(COUNTS), "log"),
        (np.log1p(COUNTS).astype(np.float32), "log"),
        (COUNTS - COUNTS.mean(axis=0), "scaled"),
        (-COUNTS, "scaled"),
        (COUNTS * 17.3, "other"),
        (np.zeros((3, 2)), "other"),
    ],
)
def test_kinds(x: np.ndarray, kind: str, make: object) -> None:
    assert describe_matrix(make(x)).kind == kind


def test_one_fraction_among_many_counts_is_found() -> None:
    """Beyond the part that is looked at first."""
    x = np.ones((100, 200), dtype=np.float32)
    assert describe_matrix(x).is_integer
    x[-1, -1] = 0.5
    assert not describe_matrix(x).is_integer
    assert not describe_matrix(sparse.csr_matrix(x)).is_integer


@pytest.mark.parametrize("format", ["csr", "csc"])
def test_doubled_entries_are_summed(format: str) -> None:
    """0.5 + 0.5 is the count 1; what is stored does not look like it."""
    x = sparse.coo_matrix(([0.5, 0.5, 2.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    doubled = sparse.csr_matrix(([0.5, 0.5, 2.0], [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    assert doubled.nnz == 3
    doubled = doubled if format == "csr" else sparse.csc_matrix(([2.0, 0.5, 0.5], [1, 0, 0], [0, 1, 3]), shape=(2, 2))
    for matrix in (x, doubled):
        found = describe_matrix(matrix)
        assert (found.kind, found.zero_fraction) == ("counts", 0.5)
    assert doubled.nnz == 3, "the input was modified"


def test_stored_zeros_are_zeros() -> None:
    x = sparse.csr_matrix(([0.0, 4.0], [0, 1], [0, 2, 2]), shape=(2, 2))
    assert x.nnz == 2
    assert describe_matrix(x).zero_fraction == 0.75


def test_infinities_that_cancel_in_a_sum_are_found() -> None:
    x = np.array([[np.inf, -np.inf], [1.0, 2.0]])
    found = describe_matrix(x)
    assert (found.n_nonfinite, found.n_nonfinite_rows, found.min, found.max) == (2, 1, 1.0, 2.0)


def test_empty_matrix() -> None:
    found = describe_matrix(np.empty((0, 3)))
    assert found.kind == "other"
    assert math.isnan(found.max) and math.isnan(found.zero_fraction)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[1, 2]], TypeError, "Expected a numpy array or a scipy sparse matrix, found list"),
        (np.ma.masked_equal([[1, 2]], 2), TypeError, "scipy sparse matrix, found MaskedArray"),
        (np.array([["a"]]), TypeError, "matrix of real numbers, found dtype <U1"),
        (np.array([[1j]]), TypeError, "matrix of real numbers, found dtype complex128"),
        (np.arange(3), ValueError, r"two dimensions, found shape \(3,\)"),
    ],
)
def test_refuses(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        describe_matrix(x)


@given(
    x=hnp.arrays(
        np.float64,
        st.tuples(st.integers(2, 6), st.integers(1, 3)),
        elements=st.sampled_from([0.0, 0.0, 1.0, 3.0, 0.5, -1.0, 30.0, 30.5, np.nan, np.inf]),
    ),
    cut=st.integers(1, 5),
    make=st.sampled_from([np.asarray, sparse.csr_matrix]),
)
@settings(max_examples=200, deadline=None)
def test_parts_tell_what_the_whole_tells(x: np.ndarray, cut: int, make: Any) -> None:
    whole, parts = describe_matrix(make(x)), [part for part in (x[:cut], x[cut:]) if len(part)]
    found = merged([(describe_matrix(make(part)), part.size) for part in parts])
    for field in dataclasses.fields(whole):
        one, other = getattr(found, field.name), getattr(whole, field.name)
        if field.name == "zero_fraction":  # the mean of the parts' shares is rounded
            one, other = round(one, 12), round(other, 12)
        np.testing.assert_equal(one, other, err_msg=field.name)
