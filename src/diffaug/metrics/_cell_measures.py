"""Every measure of the judge as a function of real and made cells, with a value for each line of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffaug.metrics import distribution, expression, markers, transfer
from diffaug.metrics._cells import Cells, Values
from diffaug.metrics._forest import SHALLOW, forest_auc_values
from diffaug.metrics.mixing import mixing_values

_N_MARKERS, _N_SLOPE = 20, 50


def cloud_measures(seed: int, n_trees: int, *, genes: bool) -> dict[str, Callable[[Cells, Cells], Values]]:
    """Measures of two clouds of equally many cells."""

    def forest(space: str, depth: int | None) -> Callable[[Cells, Cells], Values]:
        return lambda a, b: forest_auc_values(
            *(getattr(a, space), getattr(b, space), a.weights, b.weights),
            max_depth=depth,
            n_estimators=n_trees,
            random_state=seed,
        )

    found: dict[str, Callable[[Cells, Cells], Values]] = {
        "mmd": lambda a, b: distribution.mmd_values(a.pcs, b.pcs, a.weights, b.weights),
        "energy": lambda a, b: distribution.energy_values(a.pcs, b.pcs, a.weights, b.weights),
        "sliced_wasserstein": lambda a, b: distribution.sliced_values(a.pcs, b.pcs, a.weights, b.weights),
        "mixing": lambda a, b: mixing_values(a.pcs, b.pcs, a.weights, b.weights, min(30, len(a.pcs) // 2)),
        "auc_pcs": forest("pcs", None),
    }
    if genes:
        found["auc_pcs_shallow"] = forest("pcs", SHALLOW)
        found |= {"auc_genes_shallow": forest("x", SHALLOW), "auc_genes": forest("x", None)}
    return found


def gene_measures() -> dict[str, Callable[[Cells, Cells], Values]]:
    """Measures of genes and cells one by one, for sets of any sizes."""
    return {
        "gene_mean": lambda a, b: expression.mean_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "gene_variance": lambda a, b: expression.variance_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "zero_fraction": lambda a, b: expression.zero_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "library_size": lambda a, b: (
            expression.total_values(a.totals, b.totals, a.weights, b.weights)
            if np.isfinite(b.totals).all()
            else np.full(len(a.weights), np.nan)
        ),
    }


def correlation_in(genes: NDArray[np.intp]) -> Callable[[Cells, Cells], Values]:
    """Agreement of the gene-gene correlations among some genes, as a measure."""

    def measure(a: Cells, b: Cells) -> Values:
        some = slice(0, 21)  # 20 resamples give an interval; each takes a matrix product
        return expression.correlation_values(_f64(a.x[:, genes]), _f64(b.x[:, genes]), a.weights[some], b.weights[some])

    return measure


def composition_values(a: Cells, b: Cells, kinds: list[str]) -> Values:
    """Total variation between the shares of the types."""
    kinds = sorted({*kinds, *b.types})
    shares = []
    for cells in (a, b):
        belongs = (cells.types[:, None] == np.array(kinds)).astype(float)
        shares.append(cells.weights @ belongs / cells.weights.sum(axis=1)[:, None])
    return 0.5 * np.abs(shares[0] - shares[1]).sum(axis=1)


def marker_values(real: Cells, made: Cells, kinds: list[str], first: NDArray[np.bool_]) -> tuple[Values, Values]:
    """Recall of markers and slope of log-fold changes, a column for each type; ``first`` marks a half of the real cells."""
    # Every resample sums over all cells and genes, so 20 of them have to do.
    lines = min(21, len(made.weights))
    a, b, weights = _f64(real.x), _f64(made.x), (real.weights[:lines], made.weights[:lines])
    halves = markers.RealHalves.of(a, real.types, weights[0], kinds, first, _N_SLOPE)
    recall = markers.recall_values(a, b, real.types, made.types, *weights, kinds, n_markers=_N_MARKERS)
    return recall, markers.slope_values(halves, markers.type_means(b, made.types, weights[1], kinds))


def transfer_values(real: Cells, made: Cells, seed: int) -> Values:
    """Recall on real cells of types learnt from the made ones."""
    hits = transfer.transfer_hits(made.pcs, made.types, real.pcs, real.types, seed)
    return transfer.recall_values(hits, real.types, real.weights)


def for_all(measure: Callable[[Cells, Cells], Values], real: Cells, candidates: dict[str, Cells]) -> dict[str, Values]:
    """The measure of every candidate; nulls go without resamples, and copies are the floor's own cells."""
    plain = replace(real, weights=real.weights[:1])
    found = {}
    for name, made in candidates.items():
        if name == "copies":
            continue
        values = measure(real, made) if len(made.weights) > 1 else measure(plain, made)
        if real.alive is not None or made.alive is not None:
            values = values.copy()
            for alive in (real.alive, made.alive):
                if alive is not None and len(values) > 1:
                    values[~alive[: len(values)]] = np.nan
        found[name] = values
    return {**found, "copies": found["train"][:1]}


def _f64(x: NDArray) -> Any:
    return x.astype(np.float64)
