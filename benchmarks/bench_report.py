"""Seconds of the report on synthetic cells, whole: normalisation, scores, audit, page.

Run on a quiet machine: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_report.py [--threads 1] [--repeats 3] [--render]
Writes docs/benchmarks/results/report.csv and docs/benchmarks/report.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _common import Results, machine, markdown, write_page
from anndata import AnnData
from threadpoolctl import threadpool_limits

import diffaug

SET, TYPE, DONOR = "baron_pancreas", "cell_type", "donor"
GOAL = 120
#: What is judged -> what it is called on the page.
SETTINGS = {
    "cells": "types, no donors",
    "donors": "types, ten donors a side, unseen cells",
}
_N_DONORS = 10


def real_cells(n_genes: int) -> AnnData:
    """Raw counts of the most variable genes, with types."""
    full = diffaug.datasets.load(SET)
    label = diffaug.datasets.manifest(SET).label_key
    counts = AnnData(sp.csr_matrix(full.X, dtype=np.float32), obs=full.obs[[label]].rename(columns={label: TYPE}))
    counts.var_names = full.var_names
    if n_genes > counts.n_vars:
        raise ValueError(f"Expected at most {counts.n_vars} genes of {SET}, found {n_genes}.")
    marked = diffaug.pp.recipe(counts, n_top_genes=n_genes, copy=True)
    return counts[:, marked.var["highly_variable"].to_numpy()].copy()


def drawn(cells: AnnData, n_obs: int, side: str, seed: int) -> AnnData:
    """Cells drawn with replacement, each with a binomial half of its counts: of real sparsity and in any number."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(cells.n_obs, size=n_obs)
    counts = sp.csr_matrix(cells.X)[rows]
    counts.data = rng.binomial(counts.data.astype(int), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    donors = [f"{side}-{i}" for i in rng.integers(_N_DONORS, size=n_obs)]
    obs = pd.DataFrame({TYPE: cells.obs[TYPE].astype(str).to_numpy()[rows], DONOR: donors})
    made = AnnData(counts, obs=obs.set_axis([f"{side}-{seed}-{i}" for i in range(n_obs)]), var=cells.var[[]].copy())
    return made[np.asarray(counts.sum(axis=1)).ravel() > 0].copy()


def measure(cells: AnnData, n_obs: int, setting: str, repeats: int) -> dict[str, float]:
    """Median seconds of ``tl.report``, of its page, and the highest memory of the process so far."""
    train, synthetic = drawn(cells, n_obs, "train", 0), drawn(cells, n_obs, "train", 1)
    held_out, unseen = drawn(cells, n_obs // 4, "held", 2), drawn(cells, n_obs // 4, "train", 3)
    more = {"donor_key": DONOR, "unseen": unseen} if setting == "donors" else {}
    seconds, page_seconds = [], []
    for seed in range(repeats):
        begin = time.perf_counter()
        found = diffaug.tl.report(synthetic, train=train, held_out=held_out, groupby=TYPE, random_state=seed, **more)
        middle = time.perf_counter()
        found.to_html()
        seconds.append(middle - begin)
        page_seconds.append(time.perf_counter() - middle)
    return {
        "seconds": statistics.median(seconds),
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "page_seconds": statistics.median(page_seconds),
        "repeats": repeats,
        "types": len(set(cells.obs[TYPE])),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def limited(threads: int, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Work with so many threads of BLAS and OpenMP, which the environment cannot limit once NumPy is imported."""
    with threadpool_limits(threads):
        return work()


def render(results: Results) -> None:
    table = results.table.copy()
    table["setting"] = table["setting"].map(SETTINGS)
    shown = table.set_index(["setting", "n_obs", "n_genes", "threads"]).round(1)
    full = table[(table["n_obs"] == "20000") & (table["n_genes"] == "2000")]
    said = (
        f"The goal for 20,000 cells of 2,000 genes is {GOAL} s; the slowest run here took {full['most_seconds'].max():.0f} s."
        if len(full)
        else "20,000 cells of 2,000 genes, for which there is a goal, were not timed."
    )
    write_page(
        "report",
        f"""
# Time of the report

Seconds of `tl.report` with its defaults, and of its page, medians over the repeats ({machine()}; threads as in the table).
`n_obs` synthetic and as many training cells, a quarter as many held-out and, in the second setting, unseen ones: cells of
{SET} drawn with replacement, each with a binomial half of its counts, and donors by lot. This times the report, and says
nothing of any generator. `peak_gb` is the process's highest memory so far, rows in the order of running.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_report.py`

{markdown(shown)}

{said}
""",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n-obs", type=int, default=20_000, help="training cells, and as many synthetic ones")
    parser.add_argument("--n-genes", type=int, default=2000)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = parser.parse_args(arguments)
    if min(args.threads, args.repeats) < 1:
        parser.error("Expected --threads and --repeats of at least 1.")
    torch.set_num_threads(args.threads)
    results = Results("report", ("setting", "n_obs", "n_genes", "threads"))
    if not args.render:
        cells = real_cells(args.n_genes)
        for setting in args.settings:
            results.once(
                lambda s=setting: limited(args.threads, lambda: measure(cells, args.n_obs, s, args.repeats)),
                setting=setting,
                n_obs=args.n_obs,
                n_genes=args.n_genes,
                threads=args.threads,
            )
    if results.table.empty:
        sys.exit("Expected rows to write a page from, found none. Run without --render.")
    render(results)


if __name__ == "__main__":
    main()
