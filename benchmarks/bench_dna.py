"""DNA: embeddings beside what they have to beat, generated sequences beside shuffles, and costs. Labels only judge.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_dna.py [--sets gue_splice_small ...] [--seeds 3] [--render]
     [--max-train N] [--max-length N] [--steps A B A] [--max-generated N]
Resumes where it stopped; writes docs/benchmarks/results/dna*.csv and docs/benchmarks/dna.md. Rows of other caps stand beside
each other, and the page has those of one for each set and says which. With --pretrained NAME=FOLDER published weights get
rows of their own. --smoke runs everything once, tiny, on sequences made here, into a scratch folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import _common
import numpy as np
import pandas as pd
from _budget import add_steps, one_setting, said
from _common import DIFFERENCES_SAID, OVER_SETS, Results, differences, machine, markdown, write_page
from _costs import cases_of, cost_tables, measure_costs
from _dna_generated import GENERATED, measure_generated, tables
from _dna_plan import Plan, fitted, forget, given, table_of, train_array, view_generator

from diffaug import dna
from diffaug.metrics import kmeans_scores
from diffaug.reproduce._rivals import N_VIEWS, VIEW_RATE, embedded, of_fit, rival
from diffaug.reproduce._split_sets import OTHER_DNA

SETS = OTHER_DNA
#: Peers that are trained with labels: they say what the labels are worth.
SUPERVISED = ("majority", "length", *(f"kmer{k}" for k in range(1, 7)), "onehot", "cnn")
#: Frozen features under a linear SVM and k-means.
SSL = ("translocation", "reverse_complement", "insertion", "mixup", "evoaug")
OURS = ("loop off", "diffaug")
LEARNERS = ("moco", "byol", "simsiam", "dino")
#: One learner with views of each generator, and DiffAug's views under three.
WITH_VIEWS = ("simclr + vae", "simclr + gan", "simclr+", "byol+", "simsiam+")
FROZEN = ("random", *(f"simclr + {kind}" for kind in SSL), *LEARNERS, *WITH_VIEWS, *OURS)
MAX_CLUSTERED = 3000

# --- embeddings -------------------------------------------------------------------------------------------------------


def features(
    name: str, method: str, seed: int, plan: Plan, pretrained: Mapping[str, Path]
) -> tuple[np.ndarray, dict[str, float]]:
    """Vectors of all sequences, and the seconds that they took."""
    train, everything = train_array(name, plan)
    if method in OURS:
        return of_fit(fitted(name, seed, plan), "diffaug" if method == "diffaug" else "loop_off", everything)
    row, begin = rival(method), time.perf_counter()
    if row is not None:
        return embedded(
            row,
            train,
            everything,
            plan.config(),
            backend="dna",
            seed=seed,
            device=plan.device,
            diffaug=lambda: fitted(name, seed, plan),
            view_generator=lambda kind: view_generator(kind, name, seed, plan),
        )
    if method in pretrained:
        model = dna.load_pretrained(pretrained[method], device=plan.device)
        x = model.embed(dna.crop(table_of(name, plan).sequences, model.max_length))
    elif method == "random":
        text = dna.decode(everything)
        x = dna.random_embedding(text, config=plan.config().domain, random_state=seed, device=plan.device)
    else:
        raise ValueError(f"Expected a method among {[*SUPERVISED, *FROZEN, *pretrained]}, found {method!r}.")
    return x, {"seconds": time.perf_counter() - begin, "view_seconds": 0.0, "view_rate": 0.0}


def measure(name: str, method: str, seed: int, plan: Plan, pretrained: Mapping[str, Path]) -> dict[str, Any]:
    """One row: accuracy on the test part, k-means on it, seconds with the training."""
    table = table_of(name, plan)
    assert table.labels is not None
    assert table.split is not None
    begin = time.perf_counter()
    clusters = {"kmeans": np.nan, "nmi": np.nan}
    if method in SUPERVISED:
        score = dna.peer_score(table, method, random_state=seed, device=plan.device)
        seconds = {"seconds": time.perf_counter() - begin, "view_seconds": 0.0, "view_rate": 0.0}
    else:
        x, seconds = features(name, method, seed, plan, pretrained)
        score = dna.split_probe(x, table)
        test = np.flatnonzero(table.split == "test")
        if len(test) > MAX_CLUSTERED:  # drawn: a file may be sorted by class
            test = np.sort(np.random.default_rng(0).permutation(test)[:MAX_CLUSTERED])
        found = kmeans_scores(x[test], table.labels[test].astype(str), n_init=5)
        clusters = {"kmeans": found.accuracy, "nmi": found.nmi}
    return {
        "accuracy": score.accuracy,
        "balanced": score.balanced_accuracy,
        **clusters,
        "n_test": score.n_test,
        **given(name, plan),
        **seconds,
        "machine": machine(),
    }


# --- page -------------------------------------------------------------------------------------------------------------


#: What is shown set by set: the loop, generators under one learner, and what DiffAug's views add to others.
LIKE_FOR_LIKE = (
    ("diffaug", "loop off"), ("simclr+", "simclr + vae"), ("simclr+", "simclr + gan"),
    ("byol+", "byol"), ("simsiam+", "simsiam"),
)  # fmt: skip


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods as they stand in this file; published weights come last."""
    known, methods = (*SUPERVISED, *FROZEN), list(dict.fromkeys(methods))
    return [*(m for m in known if m in methods), *(m for m in methods if m not in known)]


def scores(table: pd.DataFrame, column: str) -> str:
    """Means over the seeds and how many these were: methods as rows, sets as columns. A mean over sets is one of all of them."""
    groups = table.groupby(["method", "set"], sort=False)
    mean, seeds = groups[column].mean().unstack("set").mul(100), groups["seed"].nunique().unstack("set")
    text = mean.round(1).astype(str)
    text["mean"] = mean.mean(axis=1, skipna=False).round(1).astype(str)
    text["seeds"] = [
        f"{low:g}" if low == high else f"{low:g} to {high:g}"
        for low, high in seeds.agg(["min", "max"], axis=1).to_numpy()
    ]
    text = text[mean.notna().any(axis=1)]
    return markdown(text.reindex(in_order(text.index)).replace("nan", "-"))


def gains(table: pd.DataFrame) -> str:
    """What rows differ in: some pairs set by set, and DiffAug less every other as a mean over the sets."""
    methods = in_order(table["method"])
    fixed = [m for m in methods if m not in (*FROZEN, "cnn")]
    by_set = differences(table, "method", "accuracy", LIKE_FOR_LIKE, fixed=fixed)
    others = differences(table, "method", "accuracy", [("diffaug", m) for m in methods if m not in OURS], fixed=fixed)
    shown = [markdown(found) for found in (by_set.T.rename_axis("set"), others[[OVER_SETS]]) if found.size]
    return "\n\n".join(shown) or "No differences yet."


def render(plan: Plan, failed: Mapping[str, str] | None = None) -> None:
    scored = Results("dna", ("set", "split", "method", "seed")).table
    made = Results("dna_generated", ("set", "source", "seed")).table
    machines = [table["machine"] for table in (scored, made) if "machine" in table]
    made_on = "; ".join(pd.concat(machines).unique()) if machines else "nothing was run yet"
    parts = [
        f"""
# DNA

Frozen features under a linear SVM that is fitted on the training part and scored on the test part; supervised rows are
trained on the training part with its labels. No row's training, epoch or settings was chosen by a label of the test part,
and of the frozen ones by none at all. *random* is the same encoder, never trained. *loop off* is the twin of *diffaug*:
the same warm-up, batches and hand-made views for as many epochs, without a generated view. Rows *simclr +* a hand-made
view differ in that view alone; *moco*, *byol*, *simsiam* and *dino* have that of *diffaug*. In *+ vae*, *+ gan* and *+* a
view is, with probability {VIEW_RATE:g}, one of {N_VIEWS} that a VAE, a conditional GAN (both defined in {{doc}}`/method`) or
DiffAug of the same seed has made of the sequence. Levels are per cent, means over the seeds.

{DIFFERENCES_SAID}

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_dna.py` ({made_on}).
"""
    ]
    for split in ("official", "deduplicated"):
        everything = scored[scored["split"] == split] if len(scored) else scored
        rows = one_setting(everything)
        if len(rows):
            frozen = rows[~rows["method"].isin(SUPERVISED)]
            parts.append(f"\n## Accuracy, {split} split\n\n{said(rows, 'sequences', everything)}\n")
            parts.append(f"\n{scores(rows, 'accuracy')}\n")
            parts.append(f"\nk-means on the test part, Hungarian accuracy:\n\n{scores(frozen, 'kmeans')}\n")
            parts.append(f"\nDifferences in accuracy:\n\n{gains(rows)}\n")
    if len(made):
        parts.append(tables(made))
    parts.append(f"\n## Costs\n\n{cost_tables(Results('dna_costs', ('case', 'stage')).table, failed)}\n")
    write_page("dna", "\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--methods", nargs="*", default=[*SUPERVISED, *FROZEN])
    parser.add_argument("--sources", nargs="*", default=GENERATED, choices=GENERATED, metavar="SOURCE")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--split", choices=("official", "deduplicated"), default="official")
    parser.add_argument("--max-train", type=int, help="train on a random part of so many sequences")
    parser.add_argument("--max-length", type=int, help="keep the middle bases of each sequence, so many")
    add_steps(parser)
    parser.add_argument("--max-generated", type=int, default=2000, help="sequences of each source to judge, at most")
    parser.add_argument("--preset", choices=("default", "paper"), default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pretrained", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--costs", action="store_true", help="measure costs too")
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    parser.add_argument("--smoke", action="store_true", help="everything once, tiny, into a scratch folder")
    args = parser.parse_args()
    for name in ("max_train", "max_length", "max_generated"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"Expected --{name.replace('_', '-')} of at least 1, found {getattr(args, name)}.")
    if args.steps and min(args.steps) < 1:
        parser.error(f"Expected --steps of at least 1 each, found {args.steps}.")
    plan = Plan(
        args.split, args.max_train, args.preset, args.device, args.smoke, args.max_length,
        tuple(args.steps) if args.steps else None, args.max_generated,
    )  # fmt: skip
    if args.smoke:
        _common.RESULTS = _common.PAGES = Path(tempfile.mkdtemp(prefix="bench_dna-"))
        args.sets, args.costs = ("made_here",), True
    pretrained = {name: Path(folder) for name, _, folder in (item.partition("=") for item in args.pretrained)}
    rows = Results("dna", ("set", "split", "method", "seed"))
    made = Results("dna_generated", ("set", "source", "seed"))
    for name in args.sets if not args.render else ():
        for seed in range(args.seeds):
            for method in (*args.methods, *pretrained):
                if seed and method in (*SUPERVISED[:-1], *pretrained):
                    continue  # nothing in them is random
                key = {"set": name, "split": plan.split, "method": method, "seed": seed}
                rows.once(
                    lambda n=name, m=method, s=seed: measure(n, m, s, plan, pretrained), settings=plan.about(), **key
                )
            for source in args.sources if plan.split == "official" else ():
                made.once(
                    lambda n=name, o=source, s=seed: measure_generated(n, o, s, plan),
                    settings=plan.about(generated=True),
                    set=name,
                    source=source,
                    seed=seed,
                )
            forget()
    failed: dict[str, str] = {}
    if args.costs:
        cases = [f"FFT, {n} bases" for n in (251, 300)] if args.smoke else cases_of("dna")
        failed = measure_costs(Results("dna_costs", ("case", "stage")), cases, plan.device)
    render(plan, failed)


if __name__ == "__main__":
    main()
