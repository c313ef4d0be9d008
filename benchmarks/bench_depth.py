"""Does the loop gain more where cells have few counts? The same cells at their own depth and thinned.

Run after bench_embeddings.py --methods diffaug on these sets, whose rows are those of the own depth:
    DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_depth.py [--sets kang_pbmc ...] [--seeds 1] [--render]
It goes on where it stopped; writes docs/benchmarks/results/depth.csv and docs/benchmarks/depth.md.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from _common import RESULTS, Results, drawn, machine, markdown_table, settings_text, with_top_genes, write_page
from anndata import AnnData
from harness.protocols import crossval_scores, kmeans_means
from harness.store import settings_hash
from harness.summary import NATIVE, OURS, RATE, TWIN, shown_rows, values
from peers import PEERS
from peers.ours import diffaug_and_twin
from scipy import sparse

import diffaug
from diffaug import metrics

#: Sets whose cells have more counts on the chosen genes than they are thinned to, other than panels.
SETS = (
    "kang_pbmc", "baron_pancreas", "paul15", "pbmc_purified", "cellmix_5lines", "segerstolpe_pancreas", "tm_kidney_facs",
)  # fmt: skip
MAX_OBS, N_TOP_GENES = 2000, 500
#: Median of the counts that a cell has on the chosen genes, after thinning. As of mca_bladder (74) and zeisel_200genes (91).
COUNTS = 75
#: What the rows depend on beside their key.
THINNING = {"counts": COUNTS, "max_obs": MAX_OBS, "n_top_genes": N_TOP_GENES}


def depth(cells: AnnData) -> float:
    """Median over cells of their counts on the genes that were chosen."""
    return float(np.median(np.asarray(cells.layers["counts"].sum(axis=1))))


def thinned(name: str, counts: int) -> tuple[AnnData, float]:
    """The cells of a set as if less of them had been counted (of read counts, reads and not molecules).

    Parameters
    ----------
    name
        A set of counts.
    counts
        About the median of the counts that a cell has left on the ``N_TOP_GENES`` genes of the set. Each count of the whole
        matrix is kept with one probability, and genes are chosen anew.

    Returns
    -------
    The cells as of :func:`_common.prepared`, without those that have no count left; and the median of before.

    Raises
    ------
    ValueError
        The set has no more counts than that.
    """
    adata = drawn(name, MAX_OBS)
    sc.pp.filter_cells(adata, min_counts=1)
    whole = sparse.csr_matrix(adata.X)
    own = depth(with_top_genes(adata.copy(), "counts", N_TOP_GENES))
    if own <= counts:
        raise ValueError(
            f"Expected a set with more than {counts} counts a cell, found {own:g} in {name}. Leave it out."
        )
    kept = np.random.default_rng(0).binomial(whole.data.astype(np.int64), counts / own)
    adata.X = sparse.csr_matrix((kept.astype(np.float32), whole.indices, whole.indptr), shape=whole.shape)
    adata.X.eliminate_zeros()
    sc.pp.filter_cells(adata, min_counts=1)
    return with_top_genes(adata, "counts", N_TOP_GENES), own


def measure(name: str, seed: int, max_epochs: int | None = None) -> dict[str, Any]:
    """Model and twin on the thinned cells, judged as in bench_embeddings.py."""
    cells, own = thinned(name, COUNTS)
    labels = cells.obs[diffaug.datasets.manifest(name).label_key].astype(str).to_numpy()
    made = diffaug_and_twin(AnnData(cells.X), seed, max_epochs=max_epochs)  # without labels: it would see them
    found: dict[str, Any] = {"own_counts": own, "counts": depth(cells), "n_obs": cells.n_obs, **made["model"].readings}
    for line, what in made.items():
        scores = {**crossval_scores(what.x, labels), "kmeans": kmeans_means(what.x, labels)["accuracy"]}
        found |= {f"{line}_{score}": value for score, value in scores.items()}
    return found


# --- the page ---------------------------------------------------------------------------------------------------------

#: Columns of the rows here for the scores of bench_embeddings.py.
_NAMES = dict(zip(NATIVE, ("linear", "knn", "kmeans"), strict=True))
#: Of the twin's own scores the page has this one.
_VOTE = "knn"


def table(rows: Results, settings: str) -> pd.DataFrame:
    """For each set and seed that has both lambda, the twin's vote and the gains in points, of cells at their own depth and thinned."""
    own = rows.table[(rows.table["settings_hash"] == settings) & (rows.table["settings"] == settings_text(THINNING))]
    scores = pd.read_parquet(RESULTS / "embeddings.parquet")
    scores = shown_rows(scores, MAX_OBS, N_TOP_GENES, {OURS: settings, TWIN: settings})
    whole = {
        (score, method): part.set_index(["set", "seed"])["value"]
        for score in (*NATIVE, RATE)
        for method, part in values(scores, score).groupby("method")
    }
    found = []
    for row in own.to_dict("records"):
        key = (row["set"], int(row["seed"]))
        line = {"set": row["set"], "seed": key[1], "rate_thinned": row["view_rate"], "own_counts": row["own_counts"]}
        line |= {"counts": row["counts"], "rate": whole[RATE, OURS].get(key, np.nan)}
        for score, name in _NAMES.items():
            twin = whole[score, TWIN].get(key, np.nan)
            if name == _VOTE:
                line |= {"vote": twin, "vote_thinned": row[f"twin_{name}"]}
            line[name] = 100 * (whole[score, OURS].get(key, np.nan) - twin)
            line[f"{name}_thinned"] = 100 * (row[f"model_{name}"] - row[f"twin_{name}"])
        found.append(line)
    if not found:
        return pd.DataFrame()
    return pd.DataFrame(found).dropna(subset=list(_NAMES.values()))


def render(found: pd.DataFrame) -> None:
    names = list(_NAMES.values())
    columns = ["rate", "vote", *names]
    by_set = found.groupby("set", sort=False)[[f"{c}{end}" for c in columns for end in ("", "_thinned")]].mean()
    by_set = by_set.join(found.groupby("set")[["own_counts", "counts"]].mean()).sort_values("own_counts")
    shown = [score.shown for score in _NAMES]
    head = ["set", "counts", "lambda", "twin's k-NN", *(f"gain, {name}" for name in shown)]
    lines = []
    for name, row in by_set.iterrows():
        pairs = [f"{row[n]:+.2f} → {row[f'{n}_thinned']:+.2f}" for n in names]
        lines.append(
            [
                name,
                f"{row['own_counts']:,.0f} → {row['counts']:.0f}",
                f"{row['rate']:.2f} → {row['rate_thinned']:.2f}",
                f"{row['vote']:.3f} → {row['vote_thinned']:.3f}",
                *pairs,
            ]
        )
    kinds = {
        "own depth": by_set[names],
        "thinned": by_set[[f"{n}_thinned" for n in names]].set_axis(names, axis=1),
    }
    kinds["thinned less own depth"] = kinds["thinned"] - kinds["own depth"]
    means = [[said, *(_said(part[n]) for n in names)] for said, part in kinds.items()]
    write_page(
        "depth",
        f"""
# Does the loop gain more where cells have few counts?

The gain of DiffAug over its twin (points; default settings, {found["seed"].nunique()} seed(s)) on the same cells at their own depth and thinned: each count is
kept with one probability, so that a cell has about {COUNTS} counts on the {N_TOP_GENES} chosen genes in the median, and genes are chosen anew. At most {MAX_OBS:,} cells.
In the order of their own depth. *Counts* are the median of a cell's on the chosen genes, *lambda* is that in force.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_depth.py` ({machine()}).

{markdown_table(head, *lines)}

Mean over these sets with a 95 % interval (Student's t):

{markdown_table(["gain", *shown], *means)}
""",
    )


def _said(points: pd.Series) -> str:
    found = metrics.mean_interval(points)
    return f"{found.mean:+.2f} [{found.low:.2f}, {found.high:.2f}]" if len(points) > 1 else f"{found.mean:+.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = parser.parse_args()
    rows = Results("depth", ("set", "seed", "settings_hash"))
    settings = settings_hash(PEERS[OURS].settings)
    for seed in range(0 if args.render else args.seeds):
        for name in args.sets:
            rows.once(
                lambda n=name, s=seed: measure(n, s), settings=THINNING, set=name, seed=seed, settings_hash=settings
            )
    found = pd.DataFrame() if rows.table.empty else table(rows, settings)
    if found.empty:
        print(
            "Expected rows of thinned cells, and rows of the same sets and seeds at their own depth, found none. Run this without "
            "--render, and bench_embeddings.py --methods diffaug.",
            file=sys.stderr,
        )
        return 2
    render(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
