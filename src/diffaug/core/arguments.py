"""What a single argument of a public function may be: numbers in their ranges, arrays of numbers, one value of each event."""

from __future__ import annotations

from typing import Any

import numpy as np


def whole_number(name: str, value: object, least: int = 0) -> int:
    """Check an integer argument."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Expected `{name}` to be a whole number, found {value!r}.")
    if value < least:
        raise ValueError(f"Expected `{name}` of at least {least}, found {value}.")
    return int(value)


def any_number(name: str, value: object) -> float:
    """Check an argument that is any number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"Expected `{name}` to be a number, found {value!r}.")
    return float(value)


def share(name: str, value: object) -> float:
    """Check an argument in (0, 1]."""
    found = any_number(name, value)
    if not 0 < found <= 1:
        raise ValueError(f"Expected `{name}` in (0, 1], found {value}.")
    return found


def rate(name: str, value: object) -> float:
    """Check an argument in [0, 1]."""
    found = any_number(name, value)
    if not 0 <= found <= 1:
        raise ValueError(f"Expected `{name}` in [0, 1], found {value}.")
    return found


def check_length(name: str, values: Any, n_obs: int) -> None:
    """Check that there is one value of each event."""
    if values is not None and np.shape(values) != (n_obs,):
        raise ValueError(f"Expected `{name}` of shape ({n_obs},), one of each event, found {np.shape(values)}.")


def check_names(name: str, values: Any, n_obs: int) -> None:
    """Check that there is a name of each event, none missing: text would make a class or batch ``'nan'`` of those."""
    check_length(name, values, n_obs)
    missing = sum(map(_is_missing, [] if values is None else np.asarray(values, dtype=object).tolist()))
    if missing:
        raise ValueError(
            f"Expected `{name}` with a name of each event, found {missing} missing (None or NaN). Fill them or leave these events "
            "out."
        )


def _is_missing(value: Any) -> bool:
    """``None``, a NaN, NaT, or the NA of pandas, which equals nothing and is no truth value either."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def check_real_array(events: str, values: str, x: object) -> None:
    """Check an array of real numbers; ``events`` and ``values`` are what the domain calls it and them."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"Expected a numpy array of {events}, found {type(x).__name__}.")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"Expected {values} that are real numbers, found dtype {x.dtype}.")
