"""Whole fits at full size: seconds by phase, rates as a share of the machine's matrix-multiply rate, memory, and scVI beside them.

Run on a quiet machine: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_speed.py [--sets kang_pbmc ...] [--methods diffaug scvi ...]
It goes on where it stopped; each fit has a process of its own. scVI needs scvi-tools (`pip install -c constraints.txt ".[bench]"`).
The preset of the paper at the size of its gastrulation data, for a GPU:
    python benchmarks/bench_speed.py --sets resampled_10638x1457 --methods paper diffaug --device cuda
Every method of the benchmark of embeddings in one run, on one set: run it with an empty cache and a folder of its own, and keep what it cost:
    python benchmarks/bench_embeddings.py --sets mca_bladder --seeds 1 --protocols crossval --cache CACHE --out FOLDER
    python benchmarks/bench_speed.py --one-run FOLDER --render
Writes docs/benchmarks/results/speed.csv, speed_one_run.csv and docs/benchmarks/speed.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _common import Results, markdown_table, prepared, write_page
from _threads import limit_threads
from anndata import AnnData
from harness.child import ChildFailed, Worker, peak_memory_mb, reset_peak_memory
from harness.run import COMPUTE
from harness.store import settings_hash

import diffaug
from diffaug.core.devices import device_name, make_fabric, respected_threads
from diffaug.core.storage import written_file


def kang() -> AnnData:
    """12,261 cells, their counts in a layer, 1,000 genes."""
    return prepared("kang_pbmc")


def resampled(n_obs: int, n_top_genes: int) -> AnnData:
    """So many cells of baron_pancreas drawn with replacement, each with a binomial half of its counts."""
    adata = diffaug.datasets.load("baron_pancreas")
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(adata.X)[rng.integers(adata.n_obs, size=n_obs)]
    counts.data = rng.binomial(counts.data.astype(int), 0.5).astype(np.float32)
    counts.eliminate_zeros()
    made = AnnData(counts[np.asarray(counts.sum(axis=1)).ravel() > 0], var=adata.var[[]].copy())
    diffaug.pp.recipe(made, n_top_genes=n_top_genes)
    return made


SETS: dict[str, Callable[[], AnnData]] = {
    "kang_pbmc": kang,
    "resampled_10000x2000": lambda: resampled(10_000, 2000),
    "resampled_10638x1457": lambda: resampled(10_638, 1457),
}
#: The costs of one run of bench_embeddings.py, among the results.
ONE_RUN = "speed_one_run.csv"
#: Repeats of what a rate is the median of.
REPEATS = 5
#: Fits of ours: what each changes in the default ones.
FITS: dict[str, dict[str, Any]] = {
    "diffaug": {},
    "diffaug_one": {"n_encoders": 1},
    "embedding_only": {"n_cycles": 0},
    "paper": {"config": "paper"},
}
SHOWN = {
    "diffaug": "DiffAug",
    "diffaug_one": "one encoder (`n_encoders=1`)",
    "embedding_only": "no generator (`n_cycles=0`)",
    "paper": 'preset `"paper"`',
    "scvi": "scVI",
}


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def matmul_rate(device: torch.device) -> float:
    """Floating-point operations a second of a float32 product of a batch of cells with a layer, 2048 x 1024 x 1024."""
    a, b = torch.randn(2048, 1024, device=device), torch.randn(1024, 1024, device=device)

    def product() -> None:
        _ = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()

    return 2 * 2048 * 1024 * 1024 / median_seconds(product, 20)


def linear_flops(module: torch.nn.Module) -> int:
    """Multiplications and additions of one row through the linear layers."""
    return sum(2 * m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))


def measure(set_name: str, method: str, device: str, threads: int) -> dict[str, Any]:
    """A row, in the process that this is called in."""
    torch.set_num_threads(threads)
    adata, on = SETS[set_name](), torch.device(device)
    return measure_scvi(adata, on) if method == "scvi" else measure_fit(adata, FITS[method], on)


def peaks(on: torch.device) -> dict[str, float]:
    """Highest memory so far, of the process and of the card that it uses."""
    gpu = torch.cuda.max_memory_allocated(on) / 2**20 if on.type == "cuda" else np.nan
    return {"peak_mb": peak_memory_mb(), "gpu_peak_mb": gpu}


def measure_fit(adata: AnnData, changed: dict[str, Any], on: torch.device) -> dict[str, Any]:
    """Seconds of a fit of ours by phase, its memory, and the rates of its model."""
    reset_peak_memory()
    begin = time.perf_counter()
    model = diffaug.tl.fit(adata, **changed, device=str(on), progress=False)
    row: dict[str, Any] = {"total_seconds": time.perf_counter() - begin}
    row |= {f"{p.lower()}_seconds": sum(r.seconds for r in model.history if r.phase == p) for p in ("A", "B", "fill")}
    cells = sp.csr_matrix(adata.X[:, adata.var["highly_variable"].to_numpy()])[:4096]
    with respected_threads():
        rate = matmul_rate(on)
        embed = cells.shape[0] / median_seconds(lambda: model.embed(cells), REPEATS)
    row |= {
        **peaks(on),
        "matmul_gflops": rate / 1e9,
        "embed_per_second": embed,
        "embed_share": embed * linear_flops(model._encoder) / rate,
    }
    if model.config.training.n_cycles:
        sample = 2048 / median_seconds(lambda: model.generate(2048), REPEATS)
        steps = model.config.diffusion.n_steps
        row |= {"sample_per_second": sample, "sample_share": sample * steps * linear_flops(model._denoiser) / rate}
    return {**row, "versions": f"torch {torch.__version__}, diffaug {diffaug.__version__}"}


def measure_scvi(adata: AnnData, on: torch.device) -> dict[str, Any]:
    """Seconds and memory of scVI with its defaults."""
    import scvi

    adata = adata[:, adata.var["highly_variable"]].copy()
    scvi.settings.seed = 0
    where: dict[str, Any] = (
        {"accelerator": "gpu", "devices": [on.index or 0]} if on.type == "cuda" else {"accelerator": "cpu"}
    )
    reset_peak_memory()
    begin = time.perf_counter()
    scvi.model.SCVI.setup_anndata(adata, layer="counts")
    model = scvi.model.SCVI(adata)
    model.train(**where, enable_progress_bar=False)
    model.get_latent_representation()
    total = time.perf_counter() - begin
    return {"total_seconds": total, **peaks(on), "versions": f"scvi-tools {scvi.__version__}"}


def settings_of(method: str) -> str:
    """Name of the settings of a method: rows of other ones are not shown."""
    if method not in FITS:
        return "defaults"
    changed = dict(FITS[method])
    config = diffaug.DiffAug(changed.pop("config", None), device="cpu").config.updated("training", **changed)
    return settings_hash(config.to_dict())


# --- the page ---------------------------------------------------------------------------------------------------------

_COLUMNS = {
    "total_seconds": "seconds",
    "a_seconds": "encoders",
    "b_seconds": "generator",
    "fill_seconds": "views drawn",
    "peak_mb": "peak MB",
    "gpu_peak_mb": "of the GPU",
    "embed_per_second": "cells embedded a second",
    "embed_share": "of the limit",
    "sample_per_second": "cells drawn a second",
    "sample_share": "of the limit ",
}


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{100 * value:.0f} %" if name.endswith("_share") else f"{value:,.0f}"


def keep_one_run(folder: Path) -> None:
    """Keep what the methods of a run of bench_embeddings.py cost, in place of an earlier run's."""
    rows = pd.read_parquet(folder / "results" / "embeddings.parquet")
    rows = rows[(rows["protocol"] == COMPUTE) & (rows["error"] == "")]
    about = ["shown", "method", "set", "n_obs", "n_features", "settings_hash", "seed", "machine", "threads", "date"]
    costs = rows.pivot_table(index=about, columns="metric", values="value").reset_index()
    costs = costs[[*about, "seconds", "peak_mb", "base_mb"]].sort_values("seconds", kind="stable")
    with written_file(_common.RESULTS / ONE_RUN) as fresh:
        costs.to_csv(fresh, index=False, float_format="%.6g")


def one_run() -> str:
    """The section of the page on these costs; empty where none are kept."""
    file = _common.RESULTS / ONE_RUN
    if not file.exists():
        return ""
    costs = pd.read_csv(file)
    lines = [
        [row["shown"], f"{row['seconds']:,.1f}", f"{row['peak_mb']:,.0f}", f"{row['peak_mb'] - row['base_mb']:,.0f}"]
        for row in costs.to_dict("records")
    ]
    first = costs.iloc[0]
    return f"""
## Every method in one run

{first["set"]}, {first["n_obs"]:,} cells x {first["n_features"]:,} genes, {first["machine"]} with {first["threads"]} thread(s), from {costs["date"].min()} to {costs["date"].max()} (UTC). Each method has a process of its own,
as on {{doc}}`embeddings`, which has the times of twelve sets from many sessions. What else the machine did is in the seconds: compare them roughly.
DiffAug's peaks are those of it and its twin together; BYOL+ and SimSiam+ find DiffAug's views ready.

{markdown_table(["method", "seconds", "peak MB", "of it, above the start"], *lines)}
"""


def render(results: Results) -> bool:
    """Write the page of the rows that present settings gave, a table for each machine; whether there is any."""
    table = results.table
    if table.empty:
        return False
    table = table[table["settings_hash"] == table["method"].map(settings_of)]
    heads = ["set", "method", *_COLUMNS.values()]
    heads.insert(3, "of scVI")
    parts = []
    for (machine, threads), measured in table.groupby(["machine", "threads"], sort=False):
        lines = []
        for _, rows in measured.groupby("set", sort=False):
            scvi = rows.loc[rows["method"] == "scvi", "total_seconds"]
            for row in sorted(rows.to_dict("records"), key=lambda r: list(SHOWN).index(r["method"])):
                cells = [_cell(c, float(row.get(c, np.nan))) for c in _COLUMNS]
                cells.insert(1, f"{row['total_seconds'] / float(scvi.iloc[0]):.2f}" if len(scvi) else "–")
                lines.append([row["set"], SHOWN[row["method"]], *cells])
        versions = "; ".join(dict.fromkeys(measured["versions"]))
        parts.append(f"## {machine}, {threads} thread(s)\n\n{versions}.\n\n{markdown_table(heads, *lines)}")
    if not parts:
        return False
    tables = "\n\n".join(parts)
    write_page(
        "speed",
        f"""
# Speed

Whole fits, each in a process of its own: kang_pbmc (12,261 cells x 1,000 genes), and cells of baron_pancreas drawn with replacement, with half of their
counts, to the size in their name (10,638 x 1,457 is that of the paper's gastrulation data). scVI runs with its defaults (epochs by its own rule, no early stopping) on the counts of the same genes.
*Of scVI* is the seconds as a share of scVI's on the same set and machine. *Encoders*, *generator* and *views drawn* are the phases of a fit; *the limit* is the
rate of a float32 matrix product, measured in the same process. Fits were run once, with what else the machine did, so that ratios are rough; rates are medians of {REPEATS}. Peak memory is the process's, the data included.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_speed.py`

{tables}
{one_run()}
""",
    )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["kang_pbmc"])
    parser.add_argument(
        "--methods", nargs="+", choices=SHOWN, default=["diffaug", "diffaug_one", "embedding_only", "scvi"]
    )
    parser.add_argument("--device", default="cpu", help="as `tl.fit` takes it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    parser.add_argument("--one-run", type=Path, metavar="FOLDER", help="the `--out` of a run of bench_embeddings.py")
    args = parser.parse_args()
    if args.one_run is not None:
        keep_one_run(args.one_run)
    results, failed = Results("speed", ("set", "method", "settings_hash", "machine", "threads")), False
    if not args.render:
        if "scvi" in args.methods and importlib.util.find_spec("scvi") is None:
            parser.error(
                "Expected scvi-tools for --methods scvi, found none. Install the extra `bench`, or leave scvi out."
            )
        limit_threads(args.threads)  # of the processes, which inherit it
        on = make_fabric(args.device).device
        machine = device_name(on) if on.type == "cuda" else f"{platform.machine()} {on.type.upper()}"
        for name in args.sets:
            for method in args.methods:
                key = {"set": name, "method": method, "settings_hash": settings_of(method), "machine": machine}
                try:
                    results.once(
                        lambda n=name, m=method: measured_apart(n, m, str(on), args.threads),
                        **key,
                        threads=args.threads,
                    )
                except ChildFailed as error:
                    failed = True
                    print(f"{name}, {method}: {error}", file=sys.stderr, flush=True)
    if not render(results):
        print(
            "Expected rows of the present settings, found none. Run this without --render.", file=sys.stderr, flush=True
        )
        return 2
    return int(failed)


def measured_apart(name: str, method: str, device: str, threads: int) -> dict[str, Any]:
    """A row, measured in a process of its own."""
    with Worker() as worker:
        return worker.call("bench_speed:measure", name, method, device, threads)


if __name__ == "__main__":
    sys.exit(main())
