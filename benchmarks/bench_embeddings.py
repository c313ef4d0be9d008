"""Embeddings of every method on every set with every seed, judged by every protocol: labels only judge.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_embeddings.py [--sets largest] [--methods ...] [--seeds 5] [--render]
It goes on where it stopped. The page shows the sets and methods of the call, and lists what was not run. Writes
docs/benchmarks/results/embeddings.parquet, docs/benchmarks/embeddings.md and its figures; embeddings and scores on the way
are kept in .bench_cache (--cache, or the variable DIFFAUG_BENCH_CACHE).

Ablations: --variants benchmarks/ablations.toml --methods A2 A3 B4 fig6 runs those of the paper and our own (--list shows
all) beside the recipe they change, A3, and writes ablations.md instead; the file says what each is. Those that `diffaug-cells
reproduce` has too have its names and settings. A3 and B3 are one.
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
NOTES = ROOT / "benchmarks" / "notes"
CACHE_VARIABLE = "DIFFAUG_BENCH_CACHE"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sets", nargs="+", default=["largest"], help="names, `largest` (the twelve largest) or `all`")
    p.add_argument("--methods", nargs="+", help="names (--list shows them); all by default")
    p.add_argument("--protocols", nargs="+", help="names (--list shows them); all but scib by default")
    p.add_argument("--seeds", type=int, default=5, help="number of seeds")
    p.add_argument("--max-obs", type=int, default=2000, help="cells of a set at most, 0 for all")
    p.add_argument("--n-top-genes", type=int, default=500, help="highly variable genes where there are more")
    p.add_argument(
        "--jobs", type=int, default=1, help="methods that run at once; their times are then those of a shared machine"
    )
    p.add_argument("--threads", type=int, default=1, help="threads of each")
    p.add_argument("--timeout", type=float, help="seconds after which one run is stopped and counts as failed")
    p.add_argument(
        "--variants",
        type=Path,
        help="TOML file of methods with other settings, such as benchmarks/ablations.toml; the page gets its name",
    )
    p.add_argument("--cache", type=Path, default=os.environ.get(CACHE_VARIABLE, ROOT / ".bench_cache"))
    p.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of page, figures and results/"
    )
    p.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    p.add_argument("--retry", action="store_true", help="do failures anew")
    p.add_argument("--redo", nargs="+", default=[], metavar="METHOD", help="do these methods anew")
    p.add_argument(
        "--any-settings", action="store_true", help="rows that other settings gave count as done, and are shown"
    )
    p.add_argument("--list", action="store_true", help="show methods and protocols, and end")
    return p


def main() -> int:
    args = parser().parse_args()
    # Before numpy, numba and torch are imported, here and in the processes that inherit it.
    limit_threads(args.threads)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)

    from harness.compute import peers_with
    from harness.page import Page
    from harness.protocols import DEFAULT, PROTOCOLS
    from harness.run import Plan, Runner
    from harness.sets import Slice, check_sets, chosen_sets

    variants = None if args.variants is None else args.variants.resolve()
    peers = peers_with(variants)
    if args.list:
        print("methods:", *(f"  {name:18}{peer.shown}" for name, peer in peers.items()), sep="\n")
        print("protocols:", *(f"  {name:18}{protocol.said}" for name, protocol in PROTOCOLS.items()), sep="\n")
        return 0
    methods = args.methods or list(peers)
    protocols = args.protocols or list(DEFAULT)
    for what, names, known in (("methods", [*methods, *args.redo], peers), ("protocols", protocols, PROTOCOLS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            print(f"Expected {what} among {list(known)}, found {unknown[0]!r}.", file=sys.stderr)
            return 2
    if args.seeds < 1 or args.jobs < 1 or args.threads < 1 or args.max_obs < 0:
        print("Expected --seeds, --jobs and --threads of at least 1, and --max-obs of at least 0.", file=sys.stderr)
        return 2
    names = chosen_sets(args.sets)
    if not names:
        print("Expected data sets, found none. Set DIFFAUG_DATA_DIR to the folder that holds them.", file=sys.stderr)
        return 2
    if not args.render:
        try:
            check_sets(names)
        except (KeyError, OSError, ValueError) as error:
            print(error.args[0], file=sys.stderr)
            return 2
    out = args.out.resolve()
    plan = Plan(
        slices=tuple(Slice(name, args.max_obs or None, args.n_top_genes) for name in names),
        peers=tuple(name for name in peers if name in methods),
        n_seeds=args.seeds,
        protocols=tuple(name for name in PROTOCOLS if name in protocols),
        cache=Path(args.cache).resolve(),
        parquet=out / "results" / "embeddings.parquet",
        threads=args.threads,
        jobs=args.jobs,
        timeout=args.timeout,
        variants=variants,
        any_settings=args.any_settings,
    )
    runner = Runner(plan)
    if not args.render:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends as Ctrl-C does, rows written
        if args.retry or args.redo:
            logging.getLogger("bench").info("%d rows are done anew", runner.forget(failed=args.retry, peers=args.redo))
        runner.run()
    page = Page(runner.rows.table(), plan, peers, runner.settings, out, command(args))
    told = NOTES / f"{page.stem}.md"
    notes = told.read_text(encoding="utf-8") if told.exists() else ""
    print(f"wrote {page.write(notes).relative_to(out.parent)}")
    return 0


def command(args: argparse.Namespace) -> str:
    """The call that gives the page, without what belongs to this machine."""
    words = ["DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_embeddings.py"]
    defaults = vars(parser().parse_args([]))
    for name in ("sets", "methods", "protocols", "seeds", "max_obs", "n_top_genes", "threads"):
        value = getattr(args, name)
        if value != defaults[name]:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')} {' '.join(map(str, values))}")
    if args.variants is not None:
        file = args.variants.resolve()
        words.append(f"--variants {file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name}")
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
