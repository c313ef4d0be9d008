"""Images: embeddings beside peers, views judged by an oracle, lambda, what the generator is trained for, and costs.

Labels only judge.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_vision.py [--parts embed views rate generator cost grids]
     [--sets digits cifar10_12k] [--seeds 3] [--methods raw random ...] [--kinds real ...] [--max-obs N] [--steps A B A]
Resumes where it stopped; writes docs/benchmarks/results/vision_*.csv and docs/benchmarks/vision.md. Rows of other caps stand
beside each other, and the page has those of one for each set and says which. --smoke runs everything once, tiny, on digits,
into a scratch folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import _common
import numpy as np
import pandas as pd
from _budget import add_steps, one_setting, said
from _common import DIFFERENCES_SAID, Results, differences, machine, markdown, write_page
from _costs import cases_of, cost_tables, measure_costs
from _vision_generator import VARIANTS, measure_variant
from _vision_plan import SETS, Task, fitted, given, images, settings, view_generator
from _vision_views import KINDS, draw_grid, measure_views, picture

import diffaug
from diffaug import metrics, vision
from diffaug.backends import get_backend
from diffaug.core.devices import seeded_init, tuned_cpu
from diffaug.core.inference import encode
from diffaug.reproduce._rivals import N_VIEWS, VIEW_RATE, embedded, of_fit, rival

LEARNERS = ("simclr", "moco", "byol", "simsiam", "dino")
#: One learner with views of each source, and DiffAug's views under three.
WITH_VIEWS = ("simclr + mixup", "simclr + vae", "simclr + gan", "simclr+", "byol+", "simsiam+")
METHODS = ("raw", "random", *LEARNERS, *WITH_VIEWS, "loop_off", "diffaug")
RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


# --- embeddings ------------------------------------------------------------------------------------------------------


def embedding(name: str, method: str, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Vectors of all images, and the seconds that they took."""
    found = images(name)
    x, train = found.images, found.part("train").images
    if method in ("diffaug", "loop_off"):
        return of_fit(fitted(name, seed), method, x)
    begin = time.perf_counter()
    if method in ("raw", "random"):
        made = random_encoder(name, seed, x, train) if method == "random" else x.reshape(len(x), -1).astype(np.float32)
        return made, {"seconds": time.perf_counter() - begin, "view_seconds": 0.0, "view_rate": 0.0}
    row = rival(method)
    if row is None:
        raise ValueError(f"Expected a method among {list(METHODS)}, found {method!r}.")
    return embedded(
        row, train, x, settings(name), backend="vision", seed=seed, device=Task.device,
        max_epochs=Task.max_epochs, diffaug=lambda: fitted(name, seed),
        view_generator=lambda kind: view_generator(kind, name, seed),
    )  # fmt: skip


def random_encoder(name: str, seed: int, x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The encoder as it is before any training."""
    cls = get_backend("vision")
    backend = cls(settings(name).domain, cls.event_shape_of(x))
    backend.prepare(train)
    with seeded_init(seed), tuned_cpu():
        return encode(backend.make_encoder(), backend.to_model(x)).semantic.numpy()


def measure_embedding(name: str, method: str, seed: int) -> dict[str, Any]:
    found = images(name)
    x, seconds = embedding(name, method, seed)
    scores = vision.evaluate(x, found.labels, split=found.split)
    rank = metrics.effective_rank(x[np.random.default_rng(0).permutation(len(x))[:2000]])
    return {
        **scores._asdict(), "effective_rank": rank, "width": x.shape[1], **given(name), **seconds, "machine": machine()
    }  # fmt: skip


# --- lambda ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def swept(name: str, seed: int, rates: tuple[float, ...]) -> dict[float, diffaug.DiffAug]:
    """Fits at each lambda as asked, also where the views are poor: one warm-up and one generator for all of them."""
    base = max(rates) or 1.0  # a fit without views has no sweep
    config = settings(name, training={"view_rate": base, "adapt_view_rate": False})
    model = diffaug.DiffAug(config, backend="vision", random_state=seed, device=Task.device)
    others = [rate for rate in rates if 0 < rate != base]
    model.fit(
        images(name).part("train").images, twin=0.0 in rates, sweep=others, max_epochs=Task.max_epochs, progress=False
    )
    twin = {} if model.twin is None else {0.0: model.twin}
    return {**twin, **model.sweep, base: model}


def measure_rate(name: str, rate: float, seed: int, rates: tuple[float, ...]) -> dict[str, Any]:
    """One lambda of the rates that are fitted together."""
    found, model = images(name), swept(name, seed, rates)[rate]
    x = model.embed(found.images).semantic
    scores = vision.evaluate(x, found.labels, split=found.split)
    last = model.history[-1]
    return {
        **scores._asdict(),
        "effective_rank": metrics.effective_rank(x[np.random.default_rng(0).permutation(len(x))[:2000]]),
        "generated_share": last.n_generated / max(1, last.n_positives),
        **given(name),
        "machine": machine(),
    }


# --- the page --------------------------------------------------------------------------------------------------------


#: What is set against what, beside DiffAug against every other row: generators under one learner, and what views add to it.
LIKE_FOR_LIKE = (
    ("simclr+", "simclr + vae"), ("simclr+", "simclr + gan"),
    ("simclr+", "simclr"), ("byol+", "byol"), ("simsiam+", "simsiam"),
)  # fmt: skip
#: Rows without a random part have one seed, which stands for all.
FIXED = ("raw", "real")


def means_of(table: pd.DataFrame, keys: list[str], scores: list[str]) -> str:
    """Means over the seeds and how many these were; rows in the order of this file."""
    order = {name: i for i, name in enumerate((*METHODS, *KINDS, *(f"{r:g}" for r in RATES), *VARIANTS))}
    place = [*zip(table["set"], (order.get(v, len(order)) for v in table[keys[-1]]), strict=True)]
    table = table.iloc[sorted(range(len(table)), key=lambda i: place[i])]
    grouped = table.groupby(keys, sort=False)
    means = grouped[scores].mean().round(4)
    means = means.astype(object).where(means.notna(), "-")
    return markdown(means.assign(seeds=grouped["seed"].nunique()))


def differences_of(table: pd.DataFrame, key: str, scores: list[str]) -> str:
    """What the rows differ in, one table for each score."""
    if key == "rate":
        pairs = [(f"{r:g}", "0") for r in RATES if r]
    else:
        others = METHODS if key == "method" else KINDS
        pairs = [*(("diffaug", name) for name in others if name != "diffaug"), *LIKE_FOR_LIKE]
    found = {score: differences(table, key, score, pairs, fixed=FIXED) for score in scores}
    shown = [f"`{score}`, differences:\n\n{markdown(each)}" for score, each in found.items() if len(each)]
    return "\n\n".join(shown) or "No differences yet."


def render(results: dict[str, Results], failed: Mapping[str, str]) -> None:
    def section(part: str, key: str, scores: list[str], apart: list[str]) -> str:
        everything = results[part].table
        if everything.empty:
            return "Not run yet."
        table = one_setting(everything)
        given_ = said(table, "images", everything)
        means = means_of(table, ["set", key], scores)
        return "\n\n".join([given_, means, *([differences_of(table, key, apart)] if apart else [])])

    generator = ""
    if not results["generator"].table.empty:
        generator = f"""\
## The generator's target and batches

Generators of one warm-up that have seen as many images, and differ in what they predict (`prediction_type`) and in the size of
their batches (`generator_batch_size`). Roughness is the mean difference of neighbouring pixels beside that of the images: above 1
is noise, below is blur. The steps said are those of the default's batches.

{section("generator", "variant", ["class_kept", "roughness", "pixel_distance", "generator_seconds"], [])}

"""

    machines = [r.table["machine"] for r in results.values() if "machine" in r.table]
    made_on = "; ".join(pd.concat(machines).unique()) if machines else "nothing was run yet"
    pictures = "\n\n".join(picture(name, results) for name in SETS)
    write_page(
        "vision",
        f"""
# Images

Default settings of {{doc}}`/vision`, trained on the training part of each set without a label, and judged on the test part.
`linear` is a linear SVM on frozen features, `knn` the vote of 15 neighbours, `kmeans`, `nmi` and `ari` are those of k-means
on the test part. Levels are means over the seeds. `cifar10_12k` is a fifth of CIFAR-10 from re-encoded JPEGs: no
number here compares with published ones, and on the full set methods of the SimCLR kind with ResNet-18 reach about 91 to
93 % today, more than the baselines of the paper's own table.

{DIFFERENCES_SAID}

`raw` are the pixels, `random` is the untrained encoder, `loop_off` the twin of the fit that sees no generated view.
The peers have the same encoder, optimiser and number of encoder epochs, and views on both sides of a pair, where
`diffaug` and `loop_off` have one image and one view. `+ mixup` mixes images for half of the views. In `+ vae`, `+ gan` and
`+` a view is, with probability {VIEW_RATE:g}, one of {N_VIEWS} that a VAE, a conditional GAN (both defined in
{{doc}}`/method`) or DiffAug of the same seed has made of the image. `view_rate` is the lambda in force,
which a fit of DiffAug may lower by itself. `view_seconds` is the time of the VAE or GAN; that of DiffAug's generator stands
in the row `diffaug`.

Command: `DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_vision.py` ({made_on})

## Embeddings

{section("embed", "method", ["linear", "knn", "kmeans", "nmi", "ari", "effective_rank", "view_rate", "seconds", "view_seconds"], ["linear", "kmeans"])}

## Views

Share of views of test images that an oracle, trained with labels on real images, puts into the class of their image; the
same for real images is its ceiling, and views under a random condition (ablation A2) are the control. Cosine is the median
between an image and its view in the semantic space of the row `diffaug`, whoever made the view; that space was trained to
hold `standard` and `diffaug` views close, so it flatters these two. Pixel distance is the mean change of a pixel as a share
of the range.

{section("views", "kind", ["class_kept", "cosine", "pixel_distance"], ["class_kept"])}

{pictures}

## Lambda

Fits at lambda as asked (`adapt_view_rate=False`), so that harm is seen; those of a seed have one warm-up and one generator.

{section("rate", "rate", ["linear", "knn", "kmeans", "effective_rank", "generated_share"], ["linear"])}

{generator}## Costs

{cost_tables(results["cost"].table, failed)}
""",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["embed", "views", "rate", "generator", "cost", "grids"])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, metavar="KIND")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--cases", nargs="+", default=cases_of("vision"), choices=cases_of("vision"), metavar="CASE")
    parser.add_argument("--max-obs", type=int, help="a random part of so many images, of both parts of the set")
    parser.add_argument("--max-epochs", type=int, help="cap on the epochs of all phases, which shrink in proportion")
    add_steps(parser)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tag", default="", help="write to files of this name instead, and no page: for a trial run")
    parser.add_argument("--render", action="store_true", help="only write the page from the rows that are there")
    parser.add_argument("--smoke", action="store_true", help="everything once, tiny, into a scratch folder")
    args = parser.parse_args()
    if args.smoke:
        scratch = Path(tempfile.mkdtemp(prefix="bench_vision-"))
        _common.RESULTS, _common.PAGES = scratch / "results", scratch / "pages"
        _common.PAGES.mkdir()
        args.sets, args.seeds, args.max_obs, args.max_epochs = ("digits",), 1, 200, 6
        args.rates, args.cases, args.tag = [0.0, 0.5], ["images, default, 8 pixels"], ""
    for name in ("max_obs", "max_epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"Expected --{name.replace('_', '-')} of at least 1, found {getattr(args, name)}.")
    if args.steps and min(args.steps) < 1:
        parser.error(f"Expected --steps of at least 1 each, found {args.steps}.")
    Task.max_obs, Task.max_epochs, Task.device = args.max_obs, args.max_epochs, args.device
    Task.steps = tuple(args.steps) if args.steps else None
    keys = {
        "embed": ("set", "method", "seed"),
        "views": ("set", "kind", "seed"),
        "rate": ("set", "rate", "seed"),
        "generator": ("set", "variant", "seed"),
        "cost": ("case", "stage"),
    }
    results = {part: Results(f"vision_{'costs' if part == 'cost' else part}{args.tag}", k) for part, k in keys.items()}
    parts = () if args.render else args.parts
    for seed in range(args.seeds):
        for name in args.sets:
            if "embed" in parts:
                for method in args.methods:
                    if method == "raw" and seed:
                        continue
                    results["embed"].once(
                        lambda n=name, m=method, s=seed: measure_embedding(n, m, s), settings=Task.about(name),
                        set=name, method=method, seed=seed,
                    )  # fmt: skip
            if "views" in parts:
                for kind in args.kinds:
                    if kind == "real" and seed:
                        continue
                    results["views"].once(
                        lambda n=name, k=kind, s=seed: measure_views(n, k, s), settings=Task.about(name),
                        set=name, kind=kind, seed=seed,
                    )  # fmt: skip
            if "grids" in parts and seed == 0 and not args.tag:
                draw_grid(name)
            if "rate" in parts:
                about, rows = Task.about(name), results["rate"]
                wanted = tuple(r for r in args.rates if not rows.has(about, set=name, rate=f"{r:g}", seed=seed))
                for rate in wanted:
                    rows.once(
                        lambda n=name, r=rate, s=seed, w=wanted: measure_rate(n, r, s, w), settings=about,
                        set=name, rate=f"{rate:g}", seed=seed,
                    )  # fmt: skip
            if "generator" in parts:
                for variant in args.variants:
                    results["generator"].once(
                        lambda n=name, v=variant, s=seed: measure_variant(n, v, s), settings=Task.about(name),
                        set=name, variant=variant, seed=seed,
                    )  # fmt: skip
    failed: dict[str, str] = {}
    if "cost" in parts:
        failed = measure_costs(results["cost"], args.cases, Task.device)
    if not args.tag:
        render(results, failed)


if __name__ == "__main__":
    main()
