"""Do embeddings that are told the batches mix them, and keep the types of cells apart? DiffAug beside tools made for that.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_integration.py [--sets ...] [--methods ...] [--seeds 3] [--render]
It goes on where it stopped. Writes docs/benchmarks/results/integration.csv and docs/benchmarks/integration.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from _common import Results, machine, markdown_table, settings_text, write_page
from _integration_methods import BATCH, METHODS, made_by
from anndata import AnnData
from harness.protocols import K, crossval_scores, kmeans_means, scib_scores
from peers.ours import ONE_ENCODER

import diffaug
from diffaug import metrics
from diffaug.metrics import MeanInterval, mean_interval

NOTES = Path(__file__).parent / "notes" / "integration.md"
#: Sets with batches. Names joined by a plus are studies of the same tissue, on their common genes; the study is the batch.
SETS = (
    "baron_pancreas+segerstolpe_pancreas",
    "cellmix_5lines",
    "segerstolpe_pancreas",
    "baron_pancreas",
    "kang_pbmc",
    "tm_kidney_facs",
)
#: A type's cells of a batch count for the mixing within types if there are so many.
_LEAST = 20
#: Scores by column, and how each is shown. The first are of the types, the others of the batches.
SCORES = {
    "linear": "linear",
    "knn": "k-NN",
    "kmeans": "k-means",
    "nmi": "NMI",
    "knn_unseen": "k-NN, unseen batch",
    "mixing": "mixing within types",
    "scib_bio": "scIB, bio",
    "scib_batch": "scIB, batch",
}


def cells_of(name: str, max_obs: int, n_top_genes: int) -> AnnData:
    """Log-normalised variable genes, with ``.layers["counts"]``, ``.obs["label"]`` and ``.obs["batch"]``."""
    parts = []
    for part in name.split("+"):
        m = diffaug.datasets.manifest(part)
        cells = diffaug.datasets.load(part)
        batch = np.full(cells.n_obs, part) if "+" in name else cells.obs[m.batch_key].astype(str).to_numpy()
        labels = cells.obs[m.label_key].astype(str).to_numpy()
        obs = pd.DataFrame({"label": labels, BATCH: batch}, index=part + "-" + cells.obs_names.astype(str))
        parts.append(AnnData(cells.X, obs=obs, var=cells.var[[]]))
    joined = anndata.concat(parts)
    # The smaller of two studies keeps all of its cells where there is room for them.
    rng, kept, room = np.random.default_rng(0), [], max_obs
    for i, part in enumerate(sorted(parts, key=lambda p: p.n_obs)):
        n = min(part.n_obs, room if i == len(parts) - 1 else max_obs // len(parts))
        kept += part.obs_names[np.sort(rng.permutation(part.n_obs)[:n])].tolist()
        room -= n
    cells = joined[kept].copy()
    cells.obs = cells.obs.astype("category")
    diffaug.pp.recipe(cells, n_top_genes=n_top_genes, batch_key=BATCH)
    return cells[:, cells.var["highly_variable"]].copy()


def mixing_within(x: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> float:
    """Entropy of the batches of neighbours of the same type, mean over the cells of types that several batches have.

    Batches of different composition are not meant to mix, so only cells of one type are looked at; 1 is perfect.
    """
    total, n = 0.0, 0
    for label in np.unique(labels):
        own = labels == label
        sizes = pd.Series(batches[own]).value_counts()
        own &= np.isin(batches, sizes[sizes >= _LEAST].index.to_numpy())
        if len(np.unique(batches[own])) > 1:
            total += own.sum() * metrics.neighbor_batch_entropy(x[own], batches[own], k=K)
            n += int(own.sum())
    return total / n if n else float("nan")


def judged(x: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> dict[str, float]:
    """The scores of an embedding."""
    clusters, scib = kmeans_means(x, labels), scib_scores(x, labels, batches)
    return {
        **crossval_scores(x, labels),
        "kmeans": clusters["accuracy"],
        "nmi": clusters["nmi"],
        "knn_unseen": metrics.knn_probe(x, labels, k=K, protocol="groups", groups=batches).accuracy,
        "mixing": mixing_within(x, labels, batches),
        "scib_bio": scib["Bio conservation"],
        "scib_batch": scib["Batch correction"],
    }


def run(args: argparse.Namespace, rows: Results) -> None:
    """Seeds outermost: a run that is stopped early has every set and method with fewer of them."""
    for seed in range(args.seeds):
        for name in args.sets:
            cells = None
            for method in args.methods:
                about = METHODS[method]
                settings = settings_of(method, args)
                keys = {line: {"set": name, "method": line, "seed": seed} for line in about.lines.values()}
                if (seed and not about.stochastic) or all(rows.has(settings, **key) for key in keys.values()):
                    continue
                if cells is None:
                    cells = cells_of(name, args.max_obs, args.n_top_genes)
                labels, batches = (cells.obs[key].astype(str).to_numpy() for key in ("label", BATCH))
                shown = cells.copy()
                del shown.obs["label"]  # no method can read what it will be judged by
                for key, made in made_by(method, shown, seed).items():
                    found = {
                        "n_obs": cells.n_obs, "n_features": cells.n_vars, "n_batches": len(set(batches)),
                        **judged(made.x, labels, batches), "seconds": made.seconds, "machine": machine(),
                    }  # fmt: skip
                    rows.once(lambda found=found: found, settings=settings, **keys[about.lines[key]])


def settings_of(method: str, args: argparse.Namespace) -> dict[str, object]:
    """What a row depends on beside its key."""
    settings: dict[str, object] = {"max_obs": args.max_obs, "n_top_genes": args.n_top_genes}
    if method in ("diffaug", "diffaug_one", "mixtures"):
        config = None if method == "diffaug" else ONE_ENCODER
        settings["config"] = diffaug.DiffAug(config, device="cpu").config.to_dict()
    return settings


# --- the page --------------------------------------------------------------------------------------------------------


def render(args: argparse.Namespace, rows: Results) -> None:
    """Tables of the rows of these sets and methods."""
    table = rows.table
    lines = [line for method in args.methods for line in METHODS[method].lines.values()]
    wanted = {line: settings_text(settings_of(m, args)) for m in args.methods for line in METHODS[m].lines.values()}
    table = table[table["set"].isin(args.sets) & (table["settings"] == table["method"].map(wanted))]
    numbers = list(SCORES)
    table = table.assign(**{c: table[c].astype(float) for c in [*numbers, "seconds"]})
    by_set = table.groupby(["method", "set"])[[*numbers, "seconds"]].mean()
    sets = [name for name in args.sets if name in set(table["set"])]
    there = [line for line in lines if line in set(table["method"])]
    mean_rows = []
    for line in there:
        found = by_set.loc[line]
        mean_rows.append(
            [line, len(found), *(f"{found[s].mean():.3f}" for s in numbers), f"{found['seconds'].median():.0f}"]
        )
    one = "DiffAug, one encoder"
    pairs = [("DiffAug", line) for line in there if line != "DiffAug"]
    pairs += [(one, line) for line in there if line.startswith(f"{one},")]
    gain_rows = [
        [f"{ours} minus {line}", *(_difference(table, ours, line, s) for s in numbers)]
        for ours, line in pairs
        if ours in there
    ]
    parts = [
        "# Integration of batches\n",
        "Methods are told the batches of the cells (but where it says so), and no label; labels judge. "
        f"At most {args.max_obs:,} cells and {args.n_top_genes} genes, variable in most batches. `mixing within types` is the "
        "entropy of the batches among 15 neighbours of the same type, 1 for perfect mixing (it does not see types that are mixed); scIB's two are the aggregates of "
        "scib-metrics, not rescaled (principal component regression left out). `k-NN, unseen batch` learns from the other batches; the embedding has seen all.\n",
        f"Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_integration.py --seeds {args.seeds}`. "
        f"{'; '.join(sorted(set(table['machine'])))}.\n",
        "## Means over sets\n",
        markdown_table(["method", "sets", *SCORES.values(), "seconds, median"], *mean_rows) + "\n",
        "## Differences\n",
        "In pairs of set and seed, mean over sets with a 95 % interval over them.\n",
        markdown_table(["", *SCORES.values()], *gain_rows) + "\n",
    ]
    for score, shown in SCORES.items():
        lines_of = [
            [line, *(f"{by_set.loc[(line, s), score]:.3f}" if (line, s) in by_set.index else "–" for s in sets)]
            for line in there
        ]
        parts += [f"## By set: {shown}\n", markdown_table(["method", *sets], *lines_of) + "\n"]
    sizes = table.groupby("set")[["n_obs", "n_features", "n_batches"]].first().astype(float).astype(int)
    seeds = table.groupby("set")["seed"].nunique()
    parts += [
        "## Sets\n",
        markdown_table(
            ["set", "cells", "genes", "batches", "seeds"], *([s, *sizes.loc[s].tolist(), seeds[s]] for s in sets)
        )
        + "\n",
    ]
    if NOTES.exists():
        parts += ["## What follows\n", NOTES.read_text(encoding="utf-8").strip() + "\n"]
    write_page("integration", "\n".join(parts))


def _difference(table: pd.DataFrame, ours: str, other: str, score: str) -> str:
    """Mean over sets of the paired differences, a method without seeds standing for each of them."""
    a = table[table["method"] == ours].set_index(["set", "seed"])[score]
    b = table[table["method"] == other].set_index(["set", "seed"])[score]
    seedless = {line for method in METHODS.values() if not method.stochastic for line in method.lines.values()}
    values, groups = [], []
    for (name, seed), value in a.items():
        against = b.get((name, "0" if other in seedless else seed))  # columns of the key are texts
        if against is not None and np.isfinite(value - against):
            values.append(value - against)
            groups.append(name)
    if len(set(groups)) < 2:
        return "–"
    found: MeanInterval = mean_interval(values, groups)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", nargs="+", default=list(SETS))
    p.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--max-obs", type=int, default=2000)
    p.add_argument("--n-top-genes", type=int, default=500)
    p.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = p.parse_args()
    logging.getLogger("diffaug").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = Results("integration", ("set", "method", "seed"))
    if not args.render:
        if "DIFFAUG_DATA_DIR" not in os.environ:
            print("Expected DIFFAUG_DATA_DIR, found none. Set it to the folder with the data sets.", file=sys.stderr)
            return 2
        run(args, rows)
    render(args, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
