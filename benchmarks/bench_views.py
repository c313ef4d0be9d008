"""What the generated views of each set are like, beside what the loop gains by them: class kept, told from cells, lambda, gain.

Run after bench_embeddings.py, with its --cache, which keeps the views:
    DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_views.py [--sets largest] [--seeds 1] [--cache .bench_cache] [--render]
Writes docs/benchmarks/results/views.csv and docs/benchmarks/views.md. Nothing is trained. The gains are those of
results/embeddings.parquet: DiffAug less its twin.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from _common import RESULTS, Results, components, markdown_table, write_page
from bench_embeddings import CACHE_VARIABLE, ROOT
from harness.sets import Slice, chosen_sets, prepared_file, read_prepared
from harness.store import settings_hash
from harness.summary import NATIVE, OURS, RATE, TWIN, per_set, shown_rows
from peers import PEERS
from scipy.stats import spearmanr

from diffaug import metrics

MAX_OBS, N_TOP_GENES = 2000, 500
#: Principal components in which the nearest cell of a view is looked for.
N_COMPONENTS = 50
READINGS = {
    "kept": "class kept, views",
    "kept_real": "class kept, cells",
    "auc": "AUC, views against cells",
    "floor": "AUC, cells against cells",
}


def readings(x: np.ndarray, views: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """What views of cells are like.

    Parameters
    ----------
    x
        Cells, shape ``(n, n_features)``.
    views
        Views of each, shape ``(n, n_views, n_features)``; the first of each is read.
    labels
        Class of each cell, shape ``(n,)``.
    seed
        Seed of the halves and of the forest.

    Returns
    -------
    ``kept``: share of views whose nearest cell other than their own has their cell's class, among 50 principal components of
    z-scored features; ``kept_real``: the same of the cells themselves. ``auc``: of a random forest that tells views of half of
    the cells from the other half, on z-scored features; ``floor``: of one that tells these cells in place of their views.
    """
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1
    cells, drawn = (np.clip((m - mean) / std, -10, 10) for m in (x, views[:, 0]))
    both = components(np.concatenate([cells, drawn]), N_COMPONENTS)
    near, far = both[: len(cells)], both[len(cells) :]
    rows = np.arange(len(cells))
    half = np.random.default_rng(seed).permutation(rows)[: len(rows) // 2]
    other = np.setdiff1d(rows, half)
    told = metrics.discriminator_auc(
        cells[other], drawn[half], floor_reference=cells[half], space="features", random_state=seed
    )
    return {
        "kept": metrics.class_kept_share(far, labels, near, labels, source_index=rows),
        "kept_real": metrics.class_kept_share(near, labels, near, labels, source_index=rows),
        "auc": told.auc,
        "floor": told.floor,
    }


def run(args: argparse.Namespace, rows: Results, settings: str) -> None:
    for seed in range(args.seeds):
        for one in slices(args.sets):
            file = args.cache / "made" / one.key / OURS / settings / f"{seed}.npz"
            if rows.has(set=one.name, seed=seed, settings_hash=settings) or not file.exists():
                continue
            cells = read_prepared(prepared_file(one, args.cache))
            with np.load(file) as arrays:
                views = arrays["views"]
            x = np.asarray(cells.X.toarray() if hasattr(cells.X, "toarray") else cells.X, dtype=np.float32)
            found = readings(x, views, cells.obs["label"].astype(str).to_numpy(), seed)
            rows.once(lambda found=found: found, set=one.name, seed=seed, settings_hash=settings)


def slices(names: list[str]) -> list[Slice]:
    return [Slice(name, MAX_OBS, N_TOP_GENES) for name in chosen_sets(names)]


# --- the page ---------------------------------------------------------------------------------------------------------


def table(rows: Results, settings: str) -> pd.DataFrame:
    """Readings of each set beside its lambda in force and the gains of the same seeds."""
    own = rows.table[rows.table["settings_hash"] == settings]
    scores = pd.read_parquet(RESULTS / "embeddings.parquet")
    scores = shown_rows(scores, MAX_OBS, N_TOP_GENES, {OURS: settings, TWIN: settings})
    scores = scores[scores["method"].isin([OURS, TWIN]) & scores["seed"].isin(own["seed"].astype(int))]
    found = own.groupby("set")[list(READINGS)].mean()
    sets = list(found.index)
    found["lambda"] = per_set(scores, RATE, [OURS], sets).loc[OURS]
    for score in NATIVE:
        pair = per_set(scores, score, [OURS, TWIN], sets)
        found[score.shown] = 100 * (pair.loc[OURS] - pair.loc[TWIN])
    return found.dropna().sort_values("lambda")


def render(rows: Results, settings: str) -> None:
    found = table(rows, settings)
    gains = [score.shown for score in NATIVE]
    head = ["set", *READINGS.values(), "lambda in force", *(f"gain, {g}" for g in gains)]
    lines = [
        [name, *(f"{row[r]:.3f}" for r in READINGS), f"{row['lambda']:.2f}", *(f"{row[g]:+.2f}" for g in gains)]
        for name, row in found.iterrows()
    ]
    causes = {
        "class kept by views, less by cells": found["kept"] - found["kept_real"],
        "AUC above its floor": found["auc"] - found["floor"],
        "class kept by cells": found["kept_real"],
        "lambda in force": found["lambda"],
    }
    ranks = [
        [said, *(_rank(cause, found[g]) for g in gains), _rank(cause, found["lambda"])]
        for said, cause in causes.items()
    ]
    n_seeds = rows.table.loc[rows.table["settings_hash"] == settings, "seed"].nunique()
    write_page(
        "views",
        "# Generated views and the loop's gain\n\n"
        "What the generated views of DiffAug's default fit are like on each set, beside what the loop gains there (points over its"
        f" twin), on the same cells and {n_seeds} seed(s). *Class kept*: share whose nearest cell other than their own has their cell's"
        " class, on 50 principal components; that of the cells themselves is the ceiling. *AUC*: of a random forest that tells views of"
        " half of the cells from the other half of the cells, gene by gene; beside it that half of the cells in the place of their"
        " views. Labels judge here, and no fit reads one. In the order of the lambda in force, which is what the fit makes of its views"
        " without labels.\n\n"
        "Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_views.py`, after `bench_embeddings.py`, whose cache has the"
        " views.\n\n" + markdown_table(head, *lines) + "\n\n"
        "Rank correlations (Spearman) over the sets, with their p values:\n\n"
        + markdown_table(["of", *(f"with gain, {g}" for g in gains), "with lambda"], *ranks)
        + "\n",
    )


def _rank(a: pd.Series, b: pd.Series) -> str:
    if a is b or a.equals(b):
        return "–"
    found = spearmanr(a, b)
    return f"{found.statistic:+.2f} (p = {found.pvalue:.2f})"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", nargs="+", default=["largest"], help="names, `largest` (the twelve largest) or `all`")
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--cache", type=Path, default=os.environ.get(CACHE_VARIABLE, ROOT / ".bench_cache"))
    p.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = p.parse_args()
    args.cache = Path(args.cache).resolve()
    rows = Results("views", ["set", "seed", "settings_hash"])
    settings = settings_hash(PEERS[OURS].settings)
    if not args.render:
        run(args, rows, settings)
    if rows.table.empty:
        print(
            "Expected rows or views in the cache, found none. Run bench_embeddings.py --methods diffaug first.",
            file=sys.stderr,
        )
        return 2
    render(rows, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
