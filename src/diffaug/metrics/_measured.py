"""All measures of the synthetic cells, of the floor and of the nulls: of all cells, and within each type."""

from __future__ import annotations

import numpy as np

from diffaug.metrics import expression, markers
from diffaug.metrics._cell_measures import (
    cloud_measures,
    composition_values,
    correlation_in,
    for_all,
    gene_measures,
    marker_values,
    transfer_values,
)
from diffaug.metrics._cells import Cells, Values
from diffaug.metrics._resample import FEWEST_GROUPS, resamples_groups

MIN_CELLS = 20
_TYPE_CELLS = 500
_N_GENES = 200

#: Measure, group, cells on each side, values of each candidate for each line of weights.
Raw = tuple[str, str | None, int, dict[str, Values]]


def pooled_values(
    real: Cells,
    candidates: dict[str, Cells],
    n: int,
    predicted: bool,
    seed: int,
    n_trees: int,
) -> tuple[list[Raw], list[str]]:
    """Measures over all types, markers and log-fold slopes also within each, and notes; clouds are of ``n`` cells."""
    raw: list[Raw] = []
    notes: list[str] = []
    heads = {k: c.head(n, seed) for k, c in candidates.items()}
    for name, measure in {**cloud_measures(seed, n_trees, genes=True), **gene_measures()}.items():
        raw.append((name, None, n, for_all(measure, real.head(n, seed), heads)))
    if real.labels is None:
        genes = expression.top_variance(real.x, _N_GENES)
        raw.append(("correlation", None, n, for_all(correlation_in(genes), real.head(n, seed), heads)))
        return raw, notes
    kinds = sorted(set(real.labels.tolist()))
    raw.append(("composition", None, n, for_all(lambda a, b: composition_values(a, b, kinds), real, candidates)))
    common = sorted(
        set.intersection(*(set(c.labels.tolist()) for c in (real, candidates["train"]) if c.labels is not None))
    )
    if len(common) > 1:
        first, apart = markers.random_half(real.types, real.donors, common, np.random.default_rng(seed))
        if real.donors is not None and not apart:
            notes.append(
                "The held-out cells of every donor were halved for the log-fold slope, as no halves of the donors have all "
                "types: what is peculiar to these donors draws it below 1, for real cells too."
            )
        found = {k: marker_values(real, c, common, first) for k, c in candidates.items()}
        for i, name in enumerate(("marker_recall", "lfc_slope")):
            raw.append((name, None, n, {k: _mean(v[i]) for k, v in found.items()}))
            for j, kind in enumerate(common):
                size = int((real.labels == kind).sum())
                values = {k: v[i][:, j].copy() for k, v in found.items()}
                if real.donors is not None and not resamples_groups(real.donors[real.labels == kind]):
                    for line in values.values():
                        line[1:] = np.nan  # what remains of the resamples has the same donors over and over
                raw.append((name, kind, size, values))
    if len(kinds) > 1:
        learnt = {k: c for k, c in candidates.items() if not (predicted and k == "synthetic")}
        if "synthetic" in learnt:
            raw.append(("transfer", None, len(real.x), for_all(lambda a, b: transfer_values(a, b, seed), real, learnt)))
    return raw, notes


def values_per_type(
    real: Cells, candidates: dict[str, Cells], raw: list[Raw], seed: int, n_trees: int
) -> tuple[list[Raw], list[str]]:
    """Measures within each type, and notes; gene-gene agreement gets its pooled value, the mean over types, in ``raw``."""
    found: list[Raw] = []
    skipped: list[str] = []
    few_donors: list[str] = []
    rng = np.random.default_rng(seed)
    genes = expression.top_variance(real.x, _N_GENES)
    agreement: list[tuple[int, dict[str, Values]]] = []
    for kind in sorted(set(real.types.tolist())):
        rows = {k: np.flatnonzero(c.types == kind) for k, c in {**candidates, "real": real}.items()}
        n = min(_TYPE_CELLS, *(len(r) for r in rows.values()))
        if n < MIN_CELLS:
            skipped.append(kind)
            continue
        a = real.of(rows["real"]).head(n, seed)
        if a.donors is not None and not resamples_groups(a.donors):
            few_donors.append(kind)
            a = a.by_cells(rng)
        here = {k: c.of(rows[k]).head(n, seed) for k, c in candidates.items()}
        for name, measure in {**cloud_measures(seed, n_trees, genes=False), **gene_measures()}.items():
            found.append((name, kind, n, for_all(measure, a, here)))
        values = for_all(correlation_in(genes), a, here)
        found.append(("correlation", kind, n, values))
        agreement.append((n, values))
    if agreement:
        size = [n for n, _ in agreement]
        raw.append(
            (
                "correlation",
                None,
                sum(size),
                {k: _weighted_mean(np.stack([v[k] for _, v in agreement]), size) for k in candidates},
            )
        )
    notes = []
    if skipped:
        notes.append(
            f"Types with fewer than {MIN_CELLS} cells in one of the sets were not judged alone: {', '.join(skipped)}."
        )
    if few_donors:
        notes.append(
            f"Types of fewer than {FEWEST_GROUPS} held-out donors: {', '.join(few_donors)}. Within these, cells were resampled, "
            "and the intervals do not hold for new donors; markers and log-fold slopes have none."
        )
    return found, notes


def _weighted_mean(values: Values, size: list[int]) -> Values:
    """Mean over the first axis of what there is, weighted; NaN where there is nothing."""
    weights = np.isfinite(values) * np.array(size, dtype=float)[:, None]
    total = weights.sum(axis=0)
    return np.divide(
        (np.nan_to_num(values) * weights).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0
    )


def _mean(values: Values) -> Values:
    """Mean over types that a line has; NaN for a line with none."""
    there = np.isfinite(values)
    return np.where(there, values, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)
