"""Checks of single arguments: what is taken, as what type, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from diffaug.core.arguments import any_number, check_length, check_real_array, rate, share, whole_number


@pytest.mark.parametrize(("value", "least"), [(0, 0), (5, 1), (np.int32(4), 4)])
def test_whole_number(value: Any, least: int) -> None:
    assert type(whole_number("n", value, least)) is int


@pytest.mark.parametrize("value", [2.0, "2", True, None, np.float64(2)])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(TypeError, match="Expected `n` to be a whole number, found "):
        whole_number("n", value)


@pytest.mark.parametrize(("value", "least"), [(-1, 0), (1, 2), (np.int8(-3), 0)])
def test_too_small_a_number(value: Any, least: int) -> None:
    with pytest.raises(ValueError, match=f"Expected `n` of at least {least}, found {value}"):
        whole_number("n", value, least)


@pytest.mark.parametrize("check", [any_number, share, rate])
def test_numbers_become_floats(check: Callable[[str, object], float]) -> None:
    for value in (1, 1.0, np.int64(1), np.float32(1)):
        found = check("x", value)
        assert type(found) is float
        assert found == 1
    for wrong in ("1", None, True, 1j, Fraction(1), np.ones(1)):
        with pytest.raises(TypeError, match="Expected `x` to be a number, found "):
            check("x", wrong)


@pytest.mark.parametrize(("check", "takes_zero", "ends"), [(share, False, r"\(0, 1\]"), (rate, True, r"\[0, 1\]")])
def test_ends_of_ranges(check: Callable[[str, object], float], takes_zero: bool, ends: str) -> None:
    assert check("x", 0.3) == 0.3
    for wrong in (-0.1, 1.1, float("nan"), float("inf"), *([] if takes_zero else [0])):
        with pytest.raises(ValueError, match=f"Expected `x` in {ends}, found "):
            check("x", wrong)
    if takes_zero:
        assert check("x", 0) == 0.0


def test_one_value_of_each_event() -> None:
    for fine in (None, [1, 2, 3], np.zeros(3), ("a", "b", "c")):
        check_length("labels", fine, 3)
    for wrong in ([1, 2], np.zeros((3, 1)), 3):
        with pytest.raises(ValueError, match=r"Expected `labels` of shape \(3,\), one of each event, found "):
            check_length("labels", wrong, 3)


def test_arrays_of_real_numbers() -> None:
    for kind in ("f4", "f8", "i2", "u1", "?"):
        check_real_array("images", "pixels", np.zeros((2, 3), kind))
    for wrong, found in (([[1.0]], "list"), (3, "int"), (np.float64(1), "float64")):
        with pytest.raises(TypeError, match=f"Expected a numpy array of images, found {found}"):
            check_real_array("images", "pixels", wrong)
    for wrong in (np.array(["a"]), np.array([1j]), np.array([None])):
        with pytest.raises(TypeError, match="Expected pixels that are real numbers, found dtype "):
            check_real_array("images", "pixels", wrong)
