"""Synthetic cells of several generators, judged by the library's own report on held-out donors or cells.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_synthetic.py [--sets ...] [--tools ...] [--seeds 3] [--render]
     DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_synthetic.py --rare [--seeds 1]
It goes on where it stopped: a set, tool and seed is kept as soon as it is judged. Writes
docs/benchmarks/results/synthetic.parquet, docs/benchmarks/synthetic.md and its figures.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from _threads import limit_threads

ROOT = Path(__file__).resolve().parents[1]
SETS = ("kang_pbmc", "mca_bladder", "baron_pancreas", "paul15", "worm_l2_neurons")
QUICK_EPOCHS = 3


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", nargs="+", default=list(SETS))
    p.add_argument("--tools", nargs="+", help="families (--list shows them); all by default")
    p.add_argument("--seeds", type=int, default=3, help="number of seeds; each has another split")
    p.add_argument("--max-obs", type=int, default=2500, help="cells of a set at most, in all parts; 0 for all")
    p.add_argument("--n-top-genes", type=int, default=1000, help="highly variable genes of the training cells")
    p.add_argument("--resamples", type=int, default=40, help="of the report's bootstrap")
    p.add_argument("--trees", type=int, default=100, help="of each of the report's forests")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rare", action="store_true", help="rare types on held-out donors, in place of the tools")
    p.add_argument("--rare-cells", type=int, default=10, help="with --rare: training cells left of each rare type")
    p.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs: to try the script, not to judge by")
    p.add_argument("--cache", type=Path, default=os.environ.get("DIFFAUG_BENCH_CACHE", ROOT / ".bench_cache"))
    p.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of page, figures and results/"
    )
    p.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    p.add_argument("--retry", action="store_true", help="do failures anew")
    p.add_argument("--list", action="store_true", help="show tools, and end")
    return p


def main() -> int:
    args = parser().parse_args()
    # Before numpy, numba and torch are imported.
    limit_threads(args.threads)
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)

    import torch
    from generators import FAMILIES
    from generators.page import write_page
    from generators.rare import run_rare
    from generators.run import Plan, Runner
    from generators.summary import seeds_in

    torch.set_num_threads(args.threads)
    if args.list:
        for family in FAMILIES.values():
            print(f"{family.name:12}{'; '.join(t.shown for t in family.tools)}")
        return 0
    tools = args.tools or list(FAMILIES)
    unknown = [name for name in tools if name not in FAMILIES]
    if unknown:
        print(f"Expected tools among {list(FAMILIES)}, found {unknown[0]!r}.", file=sys.stderr)
        return 2
    if min(args.seeds, args.threads, args.n_top_genes) < 1 or args.max_obs < 0:
        print(
            "Expected --seeds, --threads and --n-top-genes of at least 1, and --max-obs of at least 0.", file=sys.stderr
        )
        return 2
    out = args.out.resolve()
    plan = Plan(
        sets=tuple(args.sets),
        families=tuple(name for name in FAMILIES if name in tools),
        n_seeds=args.seeds,
        max_obs=args.max_obs,
        n_top_genes=args.n_top_genes,
        n_resamples=args.resamples,
        n_estimators=args.trees,
        max_epochs=QUICK_EPOCHS if args.quick else None,
        threads=args.threads,
        cache=Path(args.cache).resolve() / "synthetic",
        parquet=out / "results" / "synthetic.parquet",
    )
    runner = Runner(plan)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # rows are written on the way out
    if not args.render:
        try:
            run_rare(runner, args.rare_cells) if args.rare else runner.run(retry=args.retry)
        finally:
            runner.rows.write()
    if seeds := seeds_in(runner.rows.table(), plan):
        args.seeds = seeds  # the page shows all seeds that there are, also after a call for fewer
    print(f"wrote {write_page(runner, out, args.rare_cells, command(args)).relative_to(out.parent)}")
    return 0


def command(args: argparse.Namespace) -> str:
    """The call that gives the page, without what belongs to this machine."""
    words = ["DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_synthetic.py"]
    defaults = vars(parser().parse_args([]))
    for name in ("sets", "tools", "seeds", "max_obs", "n_top_genes", "resamples", "trees", "threads", "rare_cells"):
        value = getattr(args, name)
        if value != defaults[name]:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')} {' '.join(map(str, values))}")
    return " ".join([*words, *(["--quick"] if args.quick else [])])


if __name__ == "__main__":
    sys.exit(main())
