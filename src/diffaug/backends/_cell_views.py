"""Binomial thinning of log-normalised counts: a view is the same cell, sequenced less deeply."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffaug.core.views import HandViews

#: The rarest value of a cell is taken for up to so many counts.
_MOST_COUNTS = 5
#: Values of more counts say nothing about the unit: files may hold three digits only.
_MANY = 40
#: So many values tell a unit, also where most of a cell's values are of more counts.
_ENOUGH = 10
_CELLS_AT_ONCE = 2048


def count_units(values: Tensor) -> Tensor:
    """What one count of each cell has become by normalisation.

    The smallest positive value of a cell is one count as a rule, and a few counts in some cells. It is tried as 1, 2, ...,
    5 counts, and the first unit is taken under which all values of up to 40 counts are near whole numbers, if there are ten
    such values or they are half of the cell's positive ones.

    Parameters
    ----------
    values
        Normalised counts, not in logarithms, not negative, shape ``(n, n_features)``.

    Returns
    -------
    Shape ``(n,)``; 1 for a cell without counts, and NaN for a cell whose values are no multiples of one unit.
    """
    positive = values > 0
    smallest = torch.where(positive, values, torch.inf).amin(dim=1)
    units = torch.where(smallest.isinf(), 1.0, torch.nan).to(values)
    for n_counts in range(1, _MOST_COUNTS + 1):
        open_ = torch.nonzero(units.isnan()).flatten()
        if not len(open_):
            break
        unit, value = smallest[open_] / n_counts, values[open_]
        ratio = value / unit[:, None]
        small = positive[open_] & (ratio <= _MANY)
        counts = ratio.round()
        whole = ((ratio - counts).abs() <= 0.1 + 0.002 * ratio) | ~small
        n_small, n_positive = small.sum(dim=1), positive[open_].sum(dim=1)
        fits = whole.all(dim=1) & ((n_small >= _ENOUGH) | (2 * n_small >= n_positive))
        # Least squares over many values is more exact than the smallest one alone.
        counts = counts * small
        unit = (value * counts).sum(dim=1) / counts.square().sum(dim=1)
        units[open_[fits]] = unit[fits]
    return units


def thin_counts(values: Tensor, units: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Keep each count with probability ``keep`` and divide by ``keep``.

    The division renormalises by the expected and not by the drawn number of counts: the features may be a few genes of
    many, and the number of counts on the others is not known here. So a value keeps its mean, and has a binomial's
    variance.

    Parameters
    ----------
    values
        Normalised counts, shape ``(n, n_features)``.
    units
        See :func:`count_units`, shape ``(n,)``.
    keep
        Share of the counts to keep, in (0, 1].
    generator
        Source of randomness, on the device of ``values``.

    Returns
    -------
    Shape of ``values``.
    """
    counts = (values / units[:, None]).round()
    if counts.device.type == "mps":  # has no binomial draws
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=counts.device))
        there, stream = counts.cpu(), torch.Generator().manual_seed(seed)
        kept = torch.binomial(there, torch.full_like(there, keep), generator=stream).to(counts.device)
    else:
        kept = torch.binomial(counts, torch.full_like(counts, keep), generator=generator)
    return kept * (units / keep)[:, None]


def thinned_views(
    data: Tensor, from_scaled: Callable[[Tensor], Tensor], to_scaled: Callable[[Tensor], Tensor], keep: float
) -> HandViews:
    """Maker of thinned views of scaled, log-normalised cells.

    Parameters
    ----------
    data
        All cells, scaled, shape ``(n, n_features)``.
    from_scaled, to_scaled
        To log-normalised values and back.
    keep
        See :func:`thin_counts`.

    Raises
    ------
    ValueError
        The values are not the logarithms of normalised counts.
    """
    units = torch.cat([count_units(from_scaled(chunk).expm1()) for chunk in data.split(_CELLS_AT_ONCE)])
    bad = torch.nonzero(units.isnan()).flatten()
    if len(bad):
        raise ValueError(
            "Expected log1p of normalised counts for views of kind 'thinning', found values that are no multiples of one "
            f"count in {len(bad)} of {len(data)} cells, e.g. row {int(bad[0])}. Use other views, or log-normalised counts."
        )

    def views(index: Tensor, generator: torch.Generator) -> Tensor:
        values = from_scaled(data[index]).expm1()
        return to_scaled(thin_counts(values, units[index], keep, generator).log1p())

    return views
