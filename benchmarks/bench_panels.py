"""To what total the counts of a panel are scaled before the logarithm: neighbours and linear probe of principal components.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_panels.py [--sets osmfish_ssctx ...] [--render]
It goes on where it stopped; writes docs/benchmarks/results/panels.csv and docs/benchmarks/panels.md.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
from _common import Results, machine, markdown, pca_50, write_page
from anndata import AnnData
from harness.protocols import crossval_scores
from scipy import sparse

import diffaug
from diffaug import metrics
from diffaug._totals import PANEL_BELOW, TARGET_SUM

#: A panel as it was measured, and sets of which panels are made.
SETS = (
    "osmfish_ssctx", "zeisel_200genes", "paul15", "mca_bladder", "kang_pbmc", "worm_l2_neurons", "worm_neuron_sdc", "baron_pancreas",
    "pbmc_purified", "segerstolpe_pancreas", "tm_kidney_facs",
)  # fmt: skip
SIZES = (50, 150, 300)
MAX_OBS = 2000
#: Total -> what it is called; none leaves the counts as they are.
TOTALS = {"1e4": "10,000", "median": "median", "none": "none"}


def panel(name: str, size: int) -> tuple[AnnData, np.ndarray] | None:
    """Counts of the genes that vary most (all of a panel that has fewer), and labels; nothing where there are too few genes."""
    adata = diffaug.datasets.load(name)
    if adata.n_vars < size and (adata.n_vars >= PANEL_BELOW or size > PANEL_BELOW):
        return None
    rows = np.sort(np.random.default_rng(0).permutation(adata.n_obs)[:MAX_OBS])
    labels = adata.obs[diffaug.datasets.manifest(name).label_key].astype(str).to_numpy()[rows]
    counts = AnnData(sparse.csr_matrix(adata.X[rows], dtype=np.float32))
    whole = counts.copy()
    sc.pp.normalize_total(whole, target_sum=TARGET_SUM)
    sc.pp.log1p(whole)
    counts = counts[:, np.argsort(-whole.X.toarray().var(axis=0), kind="stable")[:size]].copy()
    kept = np.asarray(counts.X.sum(axis=1)).ravel() > 0
    return counts[kept].copy(), labels[kept]


def measure(counts: AnnData, labels: np.ndarray, total: str) -> dict[str, Any]:
    adata, totals = counts.copy(), np.asarray(counts.X.sum(axis=1)).ravel()
    if total != "none":
        sc.pp.normalize_total(adata, target_sum=float(np.median(totals)) if total == "median" else TARGET_SUM)
    sc.pp.log1p(adata)
    return {
        **crossval_scores(pca_50(adata), labels),
        "counts": float(np.median(totals)),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
    }


def gain(median: pd.Series, plain: pd.Series) -> str:
    found = metrics.paired_difference(median, plain)
    n_above = int((median > plain).sum())
    return f"{100 * found.mean:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}], {n_above} of {len(median)} sets"


def render(results: Results) -> None:
    table = results.table.astype({"size": int})
    shown, said = [], []
    for size, part in table.groupby("size"):
        wide = part.pivot(index="set", columns="total", values=["knn", "linear"]).reindex(
            s for s in SETS if s in set(part["set"])
        )
        counts = part.groupby("set")["counts"].first().reindex(wide.index)
        columns = {
            f"{protocol}, {TOTALS[total]}": wide[key][total].round(3)
            for key, protocol in (("knn", "k-NN"), ("linear", "linear"))
            for total in TOTALS
        }
        shown.append(
            f"## {size} genes\n\n{markdown(pd.DataFrame({'counts, median': counts.round().astype(int), **columns}))}"
        )
        for key, protocol in (("knn", "k-NN"), ("linear", "linear")):
            made = wide[key].drop("osmfish_ssctx", errors="ignore")
            said.append({"genes": size, "protocol": protocol, "made panels": gain(made["median"], made["1e4"])})
    gains, tables = pd.DataFrame(said).set_index("genes"), "\n\n".join(shown)
    write_page(
        "panels",
        f"""
# To what total the counts of a panel are scaled

Counts of panels, scaled to equal totals of 10,000, of the median of the cells' own totals, or not at all; then log1p, z-scores, 50
principal components; a vote of 15 neighbours and a linear SVM, each cell tested once. At most {MAX_OBS:,} cells. osmfish_ssctx is a panel
of 33 genes; panels of the other sets are the genes that vary most, as if no other had been measured. No model is fitted.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_panels.py` ({machine()}).

## The median less 10,000

Mean difference over the sets with its 95 % interval (Student's t), in points, and in how many it is above zero.

{markdown(gains)}

osmfish_ssctx by itself: see the first lines below. `pp.recipe` and `tl.fit` on counts take the median for panels of fewer than
{PANEL_BELOW} genes, and 10,000 for all else ({{doc}}`../experiments`, entry 24).

{tables}
""",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = parser.parse_args()
    results = Results("panels", ("set", "size", "total"))
    for name in () if args.render else args.sets:
        for size in SIZES:
            found = panel(name, size)
            for total in TOTALS if found is not None else ():
                results.once(lambda f=found, t=total: measure(*f, t), set=name, size=size, total=total)
    render(results)


if __name__ == "__main__":
    main()
