"""Which step turns drawn log-normalised values into counts? Four of them on one model, judged on held-out cells.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_counts.py [--n-cells 1500] [--generator-steps 400]
"""

from __future__ import annotations

import argparse

import anndata
import numpy as np
import scanpy as sc

import diffaug
from diffaug._matrix import describe_matrix
from diffaug.backends._cell_counts import drawn_counts, recovered_counts


def moments(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and zero fraction of each gene."""
    return counts.mean(axis=0), counts.var(axis=0), (counts == 0).mean(axis=0)


def judge(made: np.ndarray, held: np.ndarray, library: np.ndarray) -> list[float]:
    """Zero-fraction errors (mean, mean signed), slope of log variance and mean error of it, library size distance."""
    mean, var, zero = moments(made)
    mean_h, var_h, zero_h = moments(held)
    ok = (mean > 0.02) & (mean_h > 0.02)
    slopes = [np.polyfit(np.log(m[ok]), np.log(v[ok]), 1)[0] for m, v in ((mean, var), (mean_h, var_h))]
    # Overdispersion beyond Poisson at equal means.
    fano = np.median((var / np.maximum(mean, 1e-9))[ok] / (var_h / mean_h)[ok])
    grid = np.linspace(0.01, 0.99, 99)
    a, b = (np.quantile(np.log1p(x.sum(axis=1)), grid) for x in (made, held))
    per_cell = [np.quantile((x == 0).mean(axis=1), grid) for x in (made, held)]
    return [
        np.abs(zero - zero_h).mean(),
        (zero - zero_h).mean(),
        np.abs(per_cell[0] - per_cell[1]).mean(),
        slopes[0] - slopes[1],
        fano,
        np.abs(a - b).mean(),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mca_bladder")
    parser.add_argument("--n-cells", type=int, default=1500)
    parser.add_argument("--n-genes", type=int, default=500)
    parser.add_argument("--generator-steps", type=int, default=400)
    args = parser.parse_args()
    adata = diffaug.datasets.load(args.data)
    sc.pp.filter_cells(adata, min_counts=1)
    if "counts" not in adata.layers and describe_matrix(adata.X).kind != "counts":
        adata.X = recovered_counts(adata.X)
    raw = adata.layers["counts"] if "counts" in adata.layers else adata.X.copy()
    rng = np.random.default_rng(0)
    keep = rng.permutation(adata.n_obs)[: args.n_cells]
    adata = anndata.AnnData(raw[keep], obs=adata.obs.iloc[keep], var=adata.var[[]])
    train, held = adata[: int(0.7 * len(keep))].copy(), adata[int(0.7 * len(keep)) :].copy()
    full = train.X.toarray() if hasattr(train.X, "toarray") else np.asarray(train.X)
    library = full.sum(axis=1)
    diffaug.pp.recipe(train, n_top_genes=args.n_genes)
    genes = train.var["highly_variable"].to_numpy()
    real, other = full[:, genes], (held.X.toarray() if hasattr(held.X, "toarray") else np.asarray(held.X))[:, genes]
    config = {
        "training": {"generator_steps": args.generator_steps, "warmup_steps": 150, "mixed_steps": 1,
                     "encoder_passes": 0, "generator_passes": 0},
    }  # fmt: skip
    model = diffaug.tl.fit(train, n_encoders=1, config=config, device="cpu", progress=False)
    rows = np.arange(train.n_obs)
    values = model.generate(source=rows).values
    own = real.sum(axis=1).astype(np.int64)
    weight = np.expm1(values.astype(np.float64))
    mean_scaled = weight * (library / train.uns["diffaug_recipe"]["target_sum"])[:, None]
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    mean = share * own[:, None]
    # One dispersion per gene: what the training counts have beyond Poisson at their mean.
    m, v = real.mean(axis=0), real.var(axis=0)
    phi = np.maximum((v - m) / np.maximum(m, 1e-9) ** 2, 1e-6)
    r = np.broadcast_to(1 / phi, mean.shape)
    made = {
        "lattice (default)": drawn_counts(values, own, own, rng).toarray(),
        "rounding at random": np.floor(mean_scaled) + (rng.random(mean.shape) < mean_scaled % 1),
        "Poisson": rng.poisson(mean),
        "multinomial": np.array([rng.multinomial(n, p) if p.sum() else 0 * p for n, p in zip(own, share, strict=True)]),
        "negative binomial": rng.negative_binomial(r, r / (r + mean)),
        "training cells (floor)": real,
    }
    print(f"{args.data}: {train.n_obs} training, {held.n_obs} held-out cells, {genes.sum()} genes, "
          f"{args.generator_steps} generator steps")  # fmt: skip
    print("| step | zero error | zero bias | zero error per cell | slope bias | Fano ratio | library distance |")
    print("|---|---|---|---|---|---|---|")
    for name, counts in made.items():
        print(f"| {name} | " + " | ".join(f"{s:.3f}" for s in judge(counts, other, library)) + " |")


if __name__ == "__main__":
    main()
