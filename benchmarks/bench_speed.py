"""Seconds per phase, rates as a share of the machine's matrix-multiply rate, and the same cells with scVI's defaults.

Run on a quiet machine: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_speed.py [--threads 1] [--repeats 5] [--render]
scVI is run when scvi-tools is installed (`pip install -c constraints.txt ".[bench]"`), on kang_pbmc alone by default;
else its row is left out.
Writes docs/benchmarks/results/speed.csv and docs/benchmarks/speed.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from _common import Results, machine, markdown, prepared, write_page
from anndata import AnnData

import diffaug
from diffaug.core.devices import respected_threads


def kang() -> AnnData:
    """12,261 cells, their counts in a layer, 1,000 genes."""
    return prepared("kang_pbmc")


def resampled() -> AnnData:
    """10,000 x 2,000: cells of baron_pancreas drawn with replacement, each with a binomial half of its counts."""
    adata = diffaug.datasets.load("baron_pancreas")
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(adata.X)[rng.integers(adata.n_obs, size=10_000)]
    counts.data = rng.binomial(counts.data.astype(int), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    made = AnnData(counts[np.asarray(counts.sum(axis=1)).ravel() > 0], var=adata.var[[]].copy())
    diffaug.pp.recipe(made, n_top_genes=2000)
    return made


SETS = {"kang_pbmc": kang, "resampled_10000x2000": resampled}


def matmul_rate() -> float:
    """Floating-point operations a second of a float32 product of a batch of cells with a layer, 2048 x 1024 x 1024."""
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    return 2 * 2048 * 1024 * 1024 / median_seconds(lambda: a @ b, 20)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def linear_flops(module: torch.nn.Module, only: str = "") -> int:
    """Multiplications and additions of one row through the linear layers."""
    return sum(
        2 * m.weight.numel() for n, m in module.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith(only)
    )


def measure_diffaug(adata: AnnData, repeats: int) -> dict[str, float]:
    begin = time.perf_counter()
    model = diffaug.tl.fit(adata, n_encoders=1, progress=False)  # the page is of one encoder
    total = time.perf_counter() - begin
    seconds = {p: sum(r.seconds for r in model.history if r.phase == p) for p in ("A", "B", "fill")}
    rows = sp.csr_matrix(adata.X[:, adata.var["highly_variable"].to_numpy()])[:4096]
    with respected_threads():
        rate = matmul_rate()
        embed = rows.shape[0] / median_seconds(lambda: model.embed(rows), repeats)
    sample = 2048 / median_seconds(lambda: model.generate(2048), repeats)
    steps = model.config.diffusion.n_steps
    return {
        "total_seconds": total,
        "a_seconds": seconds["A"],
        "b_seconds": seconds["B"],
        "fill_seconds": seconds["fill"],
        "embed_per_second": embed,
        "sample_per_second": sample,
        "matmul_gflops": rate / 1e9,
        "embed_share": embed * linear_flops(model._encoder) / rate,
        "sample_share": sample * steps * linear_flops(model._denoiser) / rate,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measure_scvi(adata: AnnData, threads: int) -> dict[str, float]:
    import scvi

    torch.set_num_threads(threads)
    adata = adata[:, adata.var["highly_variable"]].copy()
    scvi.settings.seed = 0
    begin = time.perf_counter()
    scvi.model.SCVI.setup_anndata(adata, layer="counts")
    model = scvi.model.SCVI(adata)
    model.train(accelerator="cpu", enable_progress_bar=False)
    model.get_latent_representation()
    return {
        "total_seconds": time.perf_counter() - begin,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def render(results: Results) -> None:
    table = results.table.set_index(["set", "method"]).drop(columns="threads")
    for name in ("embed_share", "sample_share"):
        table[name] = (100 * table[name]).round().map(lambda v: "" if np.isnan(v) else f"{v:.0f} %")
    shown = table.round(1).astype(str).replace("nan", "")
    own = table["total_seconds"].xs("diffaug", level="method")
    peer = (
        table["total_seconds"].xs("scvi", level="method") if "scvi" in table.index.get_level_values(1) else own * np.nan
    )
    ratio = (own / peer).dropna().round(2).rename("diffaug / scVI, whole fit").to_frame()
    write_page(
        "speed",
        f"""
# Speed

Whole fits with one encoder (`n_encoders=1`) of kang_pbmc (12,261 cells x 1,000 genes) and of 10,000 cells x 2,000 genes resampled from baron_pancreas,
both methods in one session on one machine ({machine()}; threads as in the results file). scVI runs
with its defaults (epochs by its own rule, no early stopping) on the counts of the same genes. Rates are medians of five
runs, times of whole fits are of one; *share* is the floating-point work of the linear layers a second, as a share of the
rate of a float32 matrix product measured in the same process. `peak_gb` is the process's highest memory so far, rows in
the order of running.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_speed.py`

{markdown(shown)}

{markdown(ratio) if len(ratio) else "scVI was not installed in this run."}
""",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scvi-sets", nargs="*", default=["kang_pbmc"], help="sets to run scVI on; it takes its time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)
    results = Results("speed", ("set", "method", "threads"))
    for name, make in SETS.items() if not args.render else ():
        key = {"set": name, "threads": args.threads}
        results.once(lambda m=make: measure_diffaug(m(), args.repeats), method="diffaug", **key)
        if name in args.scvi_sets and importlib.util.find_spec("scvi") is not None:
            results.once(lambda m=make: blank(measure_scvi(m(), args.threads)), method="scvi", **key)
    render(results)


def blank(row: dict[str, float]) -> dict[str, float]:
    """A row of the peer, with the columns that only our own rows have left empty."""
    columns = (
        "total_seconds", "a_seconds", "b_seconds", "fill_seconds", "embed_per_second", "sample_per_second",
        "matmul_gflops", "embed_share", "sample_share", "peak_gb",
    )  # fmt: skip
    return {c: row.get(c, float("nan")) for c in columns}


if __name__ == "__main__":
    main()
