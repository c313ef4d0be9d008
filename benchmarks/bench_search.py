"""Arms of the search for a loop that helps: other ways to use the generator, and other encoders, each beside its twin.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_search.py [--arms mixed encoder] [--sets largest] [--seeds 1] [--render]
It goes on where it stopped. Writes docs/benchmarks/results/search.parquet and docs/benchmarks/search.md; prepared sets and
rows on the way are kept in .bench_cache (--cache, or the variable DIFFAUG_BENCH_CACHE).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path

from _threads import limit_threads

ROOT = Path(__file__).resolve().parents[1]
CACHE_VARIABLE = "DIFFAUG_BENCH_CACHE"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--arms",
        nargs="+",
        default=["mixed", "encoder"],
        help="short names or names (--list), `mixed`, `encoder`; with their twins",
    )
    p.add_argument("--sets", nargs="+", default=["largest"], help="names, `largest` (the twelve largest) or `all`")
    p.add_argument("--seeds", type=int, default=1, help="number of seeds")
    p.add_argument("--first-seed", type=int, default=0, help="number of the first of them")
    p.add_argument("--n-train", type=int, default=0, help="cells to train on, the others judge; 0: all are both")
    p.add_argument("--panel", type=int, default=0, help="only so many features, of the greatest variance; 0: all")
    p.add_argument("--max-obs", type=int, default=2000, help="cells of a set at most, 0 for all")
    p.add_argument("--n-top-genes", type=int, default=500, help="highly variable genes where there are more")
    p.add_argument("--settings", type=json.loads, default={}, help="JSON of settings on top of the default preset")
    p.add_argument("--kmeans-seeds", type=int, default=4, help="starts of k-means, of each the best of three")
    p.add_argument("--study", default="15", help="entry of docs/experiments.md that new rows belong to")
    p.add_argument("--threads", type=int, default=1, help="threads")
    p.add_argument("--cache", type=Path, default=os.environ.get(CACHE_VARIABLE, ROOT / ".bench_cache"))
    p.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of page and results/")
    p.add_argument("--render", action="store_true", help="only print the tables and write the page")
    p.add_argument("--list", action="store_true", help="show the arms and their twins, and end")
    return p


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    # Before numpy, numba and torch are imported.
    limit_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)

    from harness.sets import Slice, check_sets, chosen_sets
    from search.arms import ARMS, chosen_arms, kind_of
    from search.page import page, render
    from search.rows import SearchRows
    from search.run import Runner, Task

    if args.list:
        for arm in ARMS.values():
            print(f"  {kind_of(arm):8}{arm.code:8}{arm.name}" + (f"  (less: {arm.twin})" if arm.twin else ""))
        return 0
    out, cache = args.out.resolve(), Path(args.cache).resolve()
    rows = SearchRows(out / "results" / "search.parquet", cache / "search")
    if not args.render:
        if (
            min(args.seeds, args.threads, args.kmeans_seeds) < 1
            or min(args.first_seed, args.n_train, args.panel, args.max_obs) < 0
        ):
            said = "Expected --seeds, --threads and --kmeans-seeds of at least 1, and the other numbers of at least 0."
            print(said, file=sys.stderr)
            return 2
        names = chosen_sets(args.sets)
        if not names:
            print("Expected data sets, found none. Set DIFFAUG_DATA_DIR to the folder that has them.", file=sys.stderr)
            return 2
        try:
            check_sets(names)
            arms = chosen_arms(args.arms)
            runner = Runner(rows, cache, args.study, args.settings, args.kmeans_seeds)
        except (KeyError, OSError, TypeError, ValueError) as error:
            print(error.args[0], file=sys.stderr)
            return 2
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        slices = [Slice(name, args.max_obs or None, args.n_top_genes) for name in names]
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends as Ctrl-C does, rows written
        logging.getLogger("diffaug").setLevel(logging.ERROR)  # classes too small to judge are the same for every arm
        runner.run([Task(one, seed, args.n_train, args.panel) for seed in seeds for one in slices], arms)
    rows.write()
    table = rows.table()
    print(render(table))
    target = out / "search.md"
    target.write_text(page(table), encoding="utf-8")
    print(f"wrote {target.relative_to(out.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
