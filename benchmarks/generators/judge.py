"""One tool's cells before the library's own report, and what the report does not have: counts."""

from __future__ import annotations

import time

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from bench_counts import judge as count_measures

import diffaug
from diffaug._totals import target_sum_of
from generators.base import TYPE, Made, dense
from generators.split import DONOR, Split

COUNTS = ("count_zeros", "count_zero_bias", "count_zeros_cell", "count_slope", "count_fano", "count_library")
#: Kinds of number that a measure has; each is a protocol of the stored rows.
KINDS = ("value", "low", "high", "floor", "score", "null_gaussian", "null_shuffle", "null_noise")

Found = dict[str, dict[str, float]]


def cells_of(made: Made, split: Split) -> tuple[AnnData, int]:
    """Synthetic cells as an AnnData without its empty cells, and how many those were."""
    full = np.asarray(made.counts.sum(axis=1)).ravel() > 0
    cells = AnnData(sp.csr_matrix(made.counts[full], dtype=np.float32))
    cells.var_names = split.train.var_names
    cells.obs_names = [f"made-{i}" for i in range(cells.n_obs)]
    cells.obs[TYPE] = made.labels[full]
    return cells, int((~full).sum())


def judged(split: Split, made: Made, *, is_fresh: bool, seed: int, n_resamples: int, n_estimators: int) -> Found:
    """All numbers of one tool: kind (see :data:`KINDS`) -> measure -> number."""
    begin = time.perf_counter()
    cells, n_empty = cells_of(made, split)
    report = diffaug.tl.report(
        cells,
        train=split.train,
        held_out=split.held_out,
        projection=split.projection,
        # The control of fresh cells is a part of the unseen ones, so it is compared with the rest.
        unseen=split.unseen_but_fresh if is_fresh else split.unseen,
        groupby=TYPE,
        donor_key=DONOR if split.by == "donor" else None,
        n_resamples=n_resamples,
        n_estimators=n_estimators,
        random_state=seed,
    )
    found: Found = {kind: {} for kind in KINDS}
    pooled = [s for s in report.judgement.scores if s.group is None]
    for s in pooled:
        nulls = {f"null_{k}": v for k, v in s.nulls.items()}
        numbers = {"value": s.value, "low": s.low, "high": s.high, "floor": s.floor, "score": s.score} | nulls
        for kind in KINDS:
            found[kind][s.measure] = numbers[kind]
    found["value"] |= {
        "mean_score": report.mean_score,
        "n_poor": sum(s.verdict == "poor" for s in pooled),
        "n_measures": len(pooled),
        "passed": float(report.audit.passed),
        "closer_other": report.audit.held_out_closer_share,
        "closer": report.audit.closer_share,
        "exact": report.audit.exact_share,
        "near": report.audit.near_share,
        "membership": report.audit.membership_auc,
        "donor_membership": report.audit.donor_membership_auc,
        "donor_memory": report.audit.donor_memory_auc,
    }
    mean = report.judgement.mean_score
    found["low"] |= {"closer": report.audit.closer_low, "mean_score": mean.low}
    found["high"] |= {"closer": report.audit.closer_high, "mean_score": mean.high}
    found["floor"] |= {"exact": report.audit.exact_floor, "near": report.audit.near_floor}
    real = dense(split.held_out.X)
    for kind, x in (("value", dense(cells.X)), ("floor", dense(split.train.X))):
        with np.errstate(divide="ignore", invalid="ignore"):
            found[kind] |= dict(zip(COUNTS, count_measures(x, real, real.sum(axis=1)), strict=True))
    found["value"] |= {
        "fit_seconds": made.fit_seconds,
        "make_seconds": made.make_seconds,
        "report_seconds": time.perf_counter() - begin,
        "n_synthetic": cells.n_obs,
        "empty_share": n_empty / len(made.labels),
    }
    return found


def logged(counts: AnnData) -> AnnData:
    """Log-normalised copy, as the report makes it."""
    out = AnnData(counts.X.copy())
    sc.pp.normalize_total(out, target_sum=target_sum_of(out.X))
    sc.pp.log1p(out)
    return out
