"""Cells for the report: genes aligned by name, one scale on all sides, types and donors as text."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from diffaug._anndata import (
    check_adata,
    checked_matrix,
    matrix_slot,
    n_empty_cells,
    normalized_counts,
    obs_column,
    recorded_total,
    require_unique_genes,
)
from diffaug._matrix import MAX_LOG, MatrixKind, describe_matrix
from diffaug._totals import TARGET_SUM, target_sum_of
from diffaug.metrics.memorization import row_fingerprints

logger = logging.getLogger(__name__)

MIN_CELLS = 40  # 20 on each half of the training cells
_MOST_SHARED = 0.01  # cells of a few counts may be equal by chance


@dataclass(frozen=True)
class Sets:
    """Cells on one scale, with the genes of the synthetic ones.

    Attributes
    ----------
    x
        Matrix of each set: "synthetic", "train", "held_out" and, where given, "projection" and "unseen".
    types, donors
        Text for each cell, where there is any.
    totals
        Logarithm of each cell's counts, where all sets hold counts.
    genes
        Their names.
    scale
        One sentence on what was found and done.
    normalized
        Sets that were normalised here.
    notes
        Sentences on what was found odd.
    """

    x: dict[str, Any]
    types: dict[str, np.ndarray]
    donors: dict[str, np.ndarray]
    totals: dict[str, np.ndarray] | None
    genes: list[str]
    scale: str
    normalized: list[str]
    notes: list[str]

    @property
    def donor_numbers(self) -> dict[str, int]:
        """Donors of each set, and how many of the held-out ones were trained on too."""
        names = {n: set(d.tolist()) for n, d in self.donors.items()}
        return {n: len(d) for n, d in names.items()} | (
            {"shared": len(names["train"] & names["held_out"])} if names else {}
        )


def aligned(
    synthetic: AnnData, real: dict[str, AnnData], *, layer: str | None, groupby: str | None, donor_key: str | None
) -> Sets:
    """Bring real cells to the genes and the scale of the synthetic ones.

    Raises
    ------
    KeyError, ValueError
        Genes, a column or the layer are missing, the scales do not fit, or there are too few cells.
    """
    _check_number(synthetic, "synthetic", MIN_CELLS // 2)
    made = matrix_of(synthetic, "synthetic", None)
    target = describe_matrix(made)
    values, places, kinds = {}, {}, {}
    for name, adata in real.items():
        _check_number(adata, name, MIN_CELLS if name == "train" and "projection" not in real else MIN_CELLS // 2)
        values[name] = matrix_of(adata, name, layer)
        kinds[name] = describe_matrix(values[name])
        places[name] = _columns(synthetic, adata, name)
    normalized: list[str] = []
    totals = None
    if target.kind == "counts" and all(k.kind == "counts" for k in kinds.values()):
        x = {"synthetic": made, **{n: v[:, places[n]] for n, v in values.items()}}
        for name, v in x.items():
            _refuse_empty(name, v)
        totals = {n: np.log1p(np.asarray(v.sum(axis=1), dtype=np.float64).ravel()) for n, v in x.items()}
        total = target_sum_of(x["train"])
        x = {n: normalized_counts(v, f"{n}.X", total) for n, v in x.items()}
        normalized, scale = list(x), "All sets hold raw counts; they were normalised to equal totals and logged here."
    elif target.kind == "counts" and all(k.kind == "log" for k in kinds.values()):
        x = {n: v[:, places[n]] for n, v in values.items()}
        level = _level(x["train"])
        x = {"synthetic": _logged_to(made, level), **x}
        normalized = ["synthetic"]
        scale = f"The synthetic cells hold counts, the real ones logarithms: counts were scaled to {level:.0f} and logged here."
    else:
        x = {"synthetic": made}
        total = _total_of(synthetic, made, values["train"], kinds["train"].kind, places["train"])
        for name, v in values.items():
            fitted = on_scale_of(target, v, name, layer, total)
            if fitted is not v:
                normalized.append(name)
            x[name] = fitted[:, places[name]]
        scale = f"The synthetic cells hold {_WORDS[target.kind]}." + (
            f" Raw counts were normalised and logged here: {', '.join(normalized)}." if normalized else ""
        )
    _refuse_trained_on(x["held_out"], x["train"], "held-out")
    if "unseen" in x:
        _refuse_trained_on(x["unseen"], x["train"], "unseen")
    everything = {"synthetic": synthetic, **real}
    with_donors = [n for n in real if n != "projection"]
    donors = {n: _texts(real[n], donor_key, "donor_key") for n in with_donors} if donor_key else {}
    logger.info(scale)
    types, notes = _types(everything, groupby)
    for note in notes:
        logger.warning(note)
    return Sets(x, types, donors, totals, synthetic.var_names.tolist(), scale, normalized, notes)


_WORDS = {
    "counts": "raw counts",
    "log": "log-normalised values",
    "scaled": "scaled values",
    "other": "values that are neither counts nor logarithms",
}


def _types(sets: dict[str, AnnData], groupby: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Types of the synthetic, training and held-out cells, and what is odd about the synthetic ones' names."""
    if groupby is None:
        return {}, []
    found = {
        n: _texts(sets[n], groupby, "groupby")
        for n in ("synthetic", "train", "held_out")
        if n != "synthetic" or groupby in sets[n].obs
    }
    known = set(found["train"].tolist())
    if "synthetic" not in found:
        return found, []
    if not known & set(found["synthetic"].tolist()):
        name = str(found["synthetic"][0])
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Expected types of `train.obs[{groupby!r}]` among the synthetic cells, found none, but e.g. {name!r}. "
            f"Available: {sorted(known)[:10]}.{hint}"
        )
    return found, _foreign(found["synthetic"], known)


def _foreign(made: np.ndarray, known: set[str]) -> list[str]:
    """A sentence if some synthetic cells have names that no training cell has: they are judged as a type of their own."""
    names, counts = np.unique(made[~np.isin(made, sorted(known))], return_counts=True)
    if not len(names):
        return []
    said = []
    for name in names[:10].tolist():
        near = _nearest_name(name, known)
        said.append(repr(name) + (f" (nearest known: {near!r})" if near else ""))
    more = f" and {len(names) - 10} others" if len(names) > 10 else ""
    return [
        f"{counts.sum() / len(made):.1%} of the synthetic cells have types that no training cell has: "
        f"{', '.join(said)}{more}. They count as wrong in the composition, and cannot be judged as a type."
    ]


def _nearest_name(name: str, known: set[str]) -> str | None:
    """A name that is written alike, or one that is a part of the other, as 'NK' of 'nk cell'."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    parts = [
        k
        for k in sorted(known, key=len, reverse=True)
        if k and (k.lower() in name.lower() or name.lower() in k.lower())
    ]
    return near[0] if near else parts[0] if parts else None


def _refuse_empty(name: str, counts: Any) -> None:
    n_empty = n_empty_cells(counts)
    if n_empty:
        raise ValueError(
            f"Expected counts on the {counts.shape[1]} genes of the synthetic cells in every cell of `{name}`, found {n_empty} "
            f"empty there: `{name}[:, synthetic.var_names]` has no count of theirs. Leave these cells out."
        )


def _refuse_trained_on(cells: Any, train: Any, what: str) -> None:
    shared = float(np.isin(row_fingerprints(cells), row_fingerprints(train)).mean())
    if shared > _MOST_SHARED:
        raise ValueError(
            f"Expected {what} cells that the model was not trained on, found {shared:.0%} of them among the training "
            "cells. Pass others."
        )


def _texts(adata: AnnData, key: str, argument: str) -> np.ndarray:
    return np.asarray(obs_column(adata, key, argument)).astype(str)


def _check_number(adata: AnnData, name: str, least: int) -> None:
    check_adata(adata, name)
    if adata.n_obs < least:
        raise ValueError(f"Expected at least {least} cells in `{name}`, found {adata.n_obs}.")


def _columns(synthetic: AnnData, adata: AnnData, name: str) -> np.ndarray:
    found = adata.var_names.get_indexer(synthetic.var_names)
    absent = synthetic.var_names[found < 0].tolist()
    if absent:
        raise ValueError(
            f"Expected all {synthetic.n_vars} genes of the synthetic cells in `{name}`, found {len(found) - len(absent)}; "
            f"missing e.g. {', '.join(map(repr, absent[:3]))}."
        )
    return np.asarray(found)


def matrix_of(adata: AnnData, name: str, layer: str | None) -> Any:
    """Checked values of ``.X`` or a layer, in float32."""
    check_adata(adata, name)
    require_unique_genes(adata)
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"Did not find `{name}.layers[{layer!r}]`. Available layers: {[k for k in adata.layers if k]}.")
    raw, address = matrix_slot(adata, layer, None)
    x: Any = checked_matrix(raw, address.replace("adata", name, 1))
    return x.astype(np.float32)


def beside(real: AnnData, synthetic: AnnData, *, layer: str | None) -> AnnData:
    """Real cells with all their genes, on the scale of the synthetic ones."""
    made, values = matrix_of(synthetic, "synthetic", None), matrix_of(real, "real", layer)
    shared = synthetic.var_names.isin(real.var_names)
    places = real.var_names.get_indexer(synthetic.var_names[shared])
    total = _total_of(synthetic, made[:, shared], values, describe_matrix(values).kind, places)
    x = on_scale_of(describe_matrix(made), values, "real", layer, total)
    return AnnData(x, obs=real.obs, var=real.var[[]])


def _total_of(synthetic: AnnData, made: Any, real: Any, kind: str, places: np.ndarray) -> float:
    """To what total real counts are scaled beside logarithms of made cells.

    To that of the cells of their model, where they say it; otherwise, of 10,000 and the median of a panel, to the one that is
    nearer to their own level. ``kind`` is that of the real values, ``places`` are the made genes among theirs.
    """
    known = recorded_total(synthetic, None)
    if known is not None:
        return known
    if kind != "counts" or (median := target_sum_of(real)) == TARGET_SUM:
        return TARGET_SUM
    some, whole = (np.asarray(x.sum(axis=1, dtype=np.float64)).ravel() for x in (real[:, places], real))
    level = _level(made) / max(float(np.median(some / np.maximum(whole, 1))), 1e-12)
    return min((TARGET_SUM, median), key=lambda total: abs(np.log(total / max(level, 1e-12))))


def on_scale_of(target: MatrixKind, x: Any, name: str, layer: str | None, total: float) -> Any:
    """Real values as they are, or counts scaled to a total and logged where the synthetic cells are logarithms.

    Raises
    ------
    ValueError
        The scales do not fit.
    """
    found = describe_matrix(x)
    if found.kind == "counts" and target.kind == "log":
        logger.info(
            "`%s` holds raw counts: comparing a copy normalised to %g per cell and log-transformed", name, total
        )
        return normalized_counts(x, f"{name}.X" if layer is None else f"{name}.layers[{layer!r}]", total)
    check_scale(target, found, name)
    return x


def check_scale(target: MatrixKind, found: MatrixKind, name: str) -> None:
    """Refuse real values on another scale than the synthetic cells', where kinds alone do not say how to bring them there.

    Raises
    ------
    ValueError
        The scales do not fit.
    """
    if (found.kind == "scaled") != (target.kind == "scaled") or (found.kind, target.kind) == ("log", "counts"):
        raise ValueError(
            f"Expected `{name}` on the scale of the synthetic cells ({target.kind}), found {found.kind} values. "
            "Pass the layer that the model was trained on (`layer`, --layer)."
        )
    if {found.kind, target.kind} == {"log", "other"}:
        # Twice, because two sets of one scale may lie on both sides of the border.
        low, high = sorted((found.max, target.max))
        if high > MAX_LOG and high > 2 * low:
            raise ValueError(
                f"Expected `{name}` on the scale of the synthetic cells (up to {target.max:.3g}), found values up to "
                f"{found.max:.3g}: one of them is not logged. Pass the layer that the model was trained on "
                "(`layer`, --layer)."
            )


def _level(x: Any) -> float:
    """Median total of cells of logarithms, before the logarithm."""
    return float(np.median(np.asarray((x.expm1() if sp.issparse(x) else np.expm1(x)).sum(axis=1))))


def _logged_to(counts: Any, level: float) -> Any:
    """Counts scaled to equal totals and logged."""
    _refuse_empty("synthetic", counts)
    total = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    factor = (level / total).astype(np.float32)
    if sp.issparse(counts):
        return sp.csr_matrix(sp.diags(factor) @ counts).log1p()
    return np.log1p(counts * factor[:, None])


def split(real: AnnData, *, groupby: str | None, donor_key: str | None, random_state: int) -> tuple[AnnData, AnnData]:
    """Two halves of real cells: by donors where there are any, else within types, else at random."""
    check_adata(real, "real")
    rng = np.random.default_rng(random_state)
    if donor_key is not None:
        who = _texts(real, donor_key, "donor_key")
        names = rng.permutation(np.unique(who))
        if len(names) < 2:
            raise ValueError(f"Expected at least two donors in `real.obs[{donor_key!r}]`, found {len(names)}.")
        held = np.isin(who, names[: len(names) // 2])
    else:
        kinds = np.zeros(real.n_obs) if groupby is None else _texts(real, groupby, "groupby")
        held = np.zeros(real.n_obs, dtype=bool)
        for kind in np.unique(kinds):
            rows = rng.permutation(np.flatnonzero(kinds == kind))
            held[rows[: len(rows) // 2]] = True
    return real[~held], real[held]
