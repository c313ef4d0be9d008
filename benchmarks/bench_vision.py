"""Images: embeddings beside peers, views judged by an oracle, lambda, and what each preset costs. Labels only judge.

Run: DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_vision.py [--parts embed views rate cost grids]
     [--sets digits cifar10_12k] [--seeds 3] [--methods raw random ...] [--kinds real ...] [--max-obs N] [--steps A B A]
Resumes where it stopped; writes docs/benchmarks/results/vision_*.csv and docs/benchmarks/vision.md. Rows of other caps stand
beside each other, and the page has those of one for each set and says which. --smoke runs everything once, tiny, on digits,
into a scratch folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import _common
import numpy as np
import pandas as pd
import torch
from _budget import budget, one_setting, said, with_steps, without_conditions
from _common import DIFFERENCES_SAID, Results, differences, machine, markdown, write_page
from harness.store import settings_hash
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import nn

import diffaug
from diffaug import metrics, vision
from diffaug.backends import get_backend
from diffaug.baselines import VIEW_GENERATORS, ViewGenerator
from diffaug.core.config import Config, config_from_dict
from diffaug.core.devices import make_fabric, seeded_init, tuned_cpu
from diffaug.core.diffusion import GaussianDiffusion
from diffaug.core.networks import Encoding
from diffaug.core.schedules import NoiseSchedule
from diffaug.core.training import draw, encode
from diffaug.reproduce._rivals import N_VIEWS, VIEW_RATE, embedded, of_fit, rival

SETS = ("digits", "cifar10_12k")
LEARNERS = ("simclr", "moco", "byol", "simsiam", "dino")
#: One learner with views of each source, and DiffAug's views under three.
WITH_VIEWS = ("simclr + mixup", "simclr + vae", "simclr + gan", "simclr+", "byol+", "simsiam+")
METHODS = ("raw", "random", *LEARNERS, *WITH_VIEWS, "loop_off", "diffaug")
KINDS = ("real", "diffaug", "vae", "gan", "standard", "crop", "mixup", "random_condition")
RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
#: What is known of a set without its labels: a mirrored digit is another sign, and of eight pixels little can be taken.
DOMAIN: dict[str, dict[str, Any]] = {
    "digits": {"flip_rate": 0.0, "crop_scale": 0.5, "blur_rate": 0.0, "solarize_rate": 0.0}
}


class Task:
    """Sizes of the run, from the command line."""

    max_obs: int | None = None
    max_epochs: int | None = None
    steps: tuple[int, int, int] | None = None
    device = "auto"

    @classmethod
    def about(cls, name: str) -> dict[str, Any]:
        """What a row depends on beside its key: the changes of the preset, and sizes; steps where they are given."""
        steps = {} if cls.steps is None else {"steps": list(cls.steps)}
        return {
            "preset": "default", "domain": DOMAIN.get(name, {}), "max_obs": cls.max_obs, "max_epochs": cls.max_epochs, **steps
        }  # fmt: skip


@lru_cache(maxsize=1)
def whole(name: str) -> vision.ImageSet:
    """A set with the parts train and test."""
    if name == "digits":
        x, y = load_digits().images, load_digits().target
        test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)[1]
        split = np.where(np.isin(np.arange(len(y)), test), "test", "train")
        return vision.ImageSet(x, y, tuple(map(str, range(10))), split)
    return vision.load(name)


@lru_cache(maxsize=1)
def images(name: str) -> vision.ImageSet:
    """A set, or the random part of it that the run asks for."""
    found = whole(name)
    if Task.max_obs is not None and len(found) > Task.max_obs:
        rows = np.sort(np.random.default_rng(0).permutation(len(found))[: Task.max_obs])
        found = vision.ImageSet(found.images[rows], found.labels[rows], found.classes, found.split[rows])
    return found


def settings(name: str, **sections: dict[str, Any]) -> Config:
    backend = get_backend("vision")
    domain = {**DOMAIN.get(name, {}), **sections.pop("domain", {})}
    base = with_steps(backend.preset("default"), Task.steps)
    return config_from_dict({"domain": domain, **sections}, backend.Settings, base)


def given(name: str) -> dict[str, Any]:
    """Columns of every row of a set: what a fit is given."""
    n, n_full = (int((part.split == "train").sum()) for part in (images(name), whole(name)))
    full = get_backend("vision").preset("default")
    return budget(settings(name), n, full=full, n_train_full=n_full, max_epochs=Task.max_epochs)


@lru_cache(maxsize=1)
def fitted(name: str, seed: int) -> diffaug.DiffAug:
    """The default fit with its loop-off twin; the last one is kept, because several rows come from it."""
    x = images(name).part("train").images
    return vision.fit(
        x, config=settings(name), twin=True, random_state=seed, max_epochs=Task.max_epochs, device=Task.device,
        progress=False,
    )  # fmt: skip


@lru_cache(maxsize=1)
def told_nothing(name: str, seed: int) -> diffaug.DiffAug:
    """The same generator under random conditions (ablation A2), the control of its views."""
    x = images(name).part("train").images
    config = without_conditions(settings(name), len(x), Task.max_epochs)
    return vision.fit(x, config=config, random_state=seed, device=Task.device, progress=False)


@lru_cache(maxsize=len(VIEW_GENERATORS))
def view_generator(kind: str, name: str, seed: int) -> tuple[ViewGenerator, float]:
    """A VAE or a GAN, and the seconds that it took: one for the learners and for its views."""
    begin = time.perf_counter()
    maker = ViewGenerator(kind, settings(name), backend="vision", random_state=seed, device=Task.device)
    maker.fit(images(name).part("train").images, max_epochs=Task.max_epochs, progress=False)
    return maker, time.perf_counter() - begin


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


# --- views -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=len(SETS))  # one for each set, and not anew for each seed
def oracle(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Classifier trained with labels on real training images; it judges views and has no part in any fit."""
    train = images(name).part("train")
    if name == "digits":
        machine_ = SVC(gamma="scale").fit(train.images.reshape(len(train), -1), train.labels)
        return lambda x: machine_.predict(x.reshape(len(x), -1))
    return supervised(train)


def supervised(train: vision.ImageSet, n_epochs: int = 30, batch: int = 128) -> Callable[[np.ndarray], np.ndarray]:
    """A residual network trained with labels and hand-made crops."""
    cls = get_backend("vision")
    n_classes = len(train.classes)
    config = settings("", domain={"n_semantic": n_classes, "views": "crop"}).domain
    backend = cls(config, cls.event_shape_of(train.images))
    backend.prepare(train.images)
    device = make_fabric(Task.device).device
    stream = torch.Generator(device).manual_seed(0)
    with tuned_cpu():
        data, labels = backend.to_model(train.images).to(device), torch.as_tensor(train.labels).to(device)
        with seeded_init(0):
            network = backend.make_encoder().backbone.to(device)
        views = backend.hand_views(data)
        n_epochs = min(n_epochs, Task.max_epochs or n_epochs)
        batch = min(batch, len(data))
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_epochs * (len(data) // batch))
        for _ in range(n_epochs):
            order = torch.randperm(len(data), generator=stream, device=device)
            for index in order[: len(data) // batch * batch].split(batch):
                loss = nn.functional.cross_entropy(network(views(index, stream).permute(0, 3, 1, 2)), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rate.step()

    class Logits(nn.Module):
        def forward(self, x: torch.Tensor) -> Encoding:
            out = network(x.permute(0, 3, 1, 2))
            return Encoding(out, out)

    network.eval()

    def predict(x: np.ndarray) -> np.ndarray:
        with tuned_cpu():
            return encode(Logits(), backend.to_model(x).to(device)).semantic.argmax(dim=1).cpu().numpy()

    return predict


def measure_views(name: str, kind: str, seed: int, n_views: int = 4) -> dict[str, Any]:
    """Share of views that the oracle puts into the class of their image; images of the test part."""
    test = images(name).part("test")
    rows = np.random.default_rng(0).permutation(len(test))[:500]
    x, y = test.images[rows], test.labels[rows]
    judge = oracle(name)
    if kind == "real":
        return {
            "class_kept": float((judge(x) == y).mean()), "cosine": 1.0, "pixel_distance": 0.0, "n": len(x),
            **given(name), "machine": machine(),
        }  # fmt: skip
    model: Any = fitted(name, seed)  # its encoder says how alike an image and its view are, whoever made the view
    if kind == "random_condition":
        views = told_nothing(name, seed).augment(x, n_views, random_state=seed)
    elif kind in VIEW_GENERATORS:
        views = view_generator(kind, name, seed)[0].augment(x, n_views, random_state=seed)
    else:
        views = model.augment(x, n_views, kind=kind, random_state=seed)
    flat = views.reshape(-1, *views.shape[2:])
    spread = float(x.max()) - float(x.min())
    distance = np.abs(views.astype(np.float64) - x[:, None]).mean() / spread
    cosine = metrics.semantic_cosine(np.repeat(model.embed(x).semantic, n_views, axis=0), model.embed(flat).semantic)
    return {
        "class_kept": float((judge(flat) == np.repeat(y, n_views)).mean()),
        "cosine": float(np.median(cosine)),
        "pixel_distance": float(distance),
        "n": len(flat),
        **given(name),
        "machine": machine(),
    }


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


# --- costs -----------------------------------------------------------------------------------------------------------

#: Name, preset, side, attention, batch: the presets as they are, and the attention limit where it matters.
COSTS = {
    "default-8": ("default", 8, None, None),
    "default-32": ("default", 32, None, None),
    "paper-32": ("paper", 32, None, None),
    "default-64": ("default", 64, None, None),
    "paper-64": ("paper", 64, None, None),
    **{f"attention-{side}-{a}": ("default", side, a, 16) for side in (32, 64) for a in ("coarse", "limited", "full")},
}


def measure_cost(case: str, repeats: int = 5) -> dict[str, Any]:
    """Seconds of a step of each network, of a drawn image, and the peak of memory: medians, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_cost, (case, repeats, Task.device))


def _cost(case: str, repeats: int, device_name: str) -> dict[str, Any]:
    preset, side, attention, batch = COSTS[case]
    cls = get_backend("vision")
    config = cls.preset(preset).updated("domain", attention=attention)
    batch = batch or config.training.batch_size
    fabric = make_fabric(device_name)
    device, stream = fabric.device, torch.Generator(fabric.device).manual_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    backend = cls(config.domain, (side, side, 3))
    backend.prepare(x)
    index = torch.arange(batch, device=device)

    def clock(step: Callable[[], object]) -> float:
        times = []
        for _ in range(repeats + 1):
            if device.type == "cuda":
                torch.cuda.synchronize()
            begin = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return float(np.median(times[1:]))  # the first one warms up

    with tuned_cpu():
        data = backend.to_model(x).to(device)
        encoder, views = backend.make_encoder().to(device), backend.hand_views(data)
        n_cond = encoder(data[:2])[0].shape[1]
        denoiser = backend.make_denoiser(n_cond).to(device)
        diffusion = GaussianDiffusion(NoiseSchedule(), config.diffusion.prediction_type)
        cond = torch.randn(batch, n_cond, device=device)

        def a_step() -> None:
            encoded = encoder(torch.cat([data, views(index, stream)]))
            loss = nn.functional.mse_loss(encoded.latent[:batch], encoded.latent[batch:])
            loss.backward()

        def b_step() -> None:
            diffusion.loss(denoiser, data, cond, stream).backward()

        def drawn(n: int) -> float:
            rows = cond[:1].expand(n, -1)
            shape = tuple(data.shape[1:])
            return clock(lambda: draw(diffusion, denoiser, rows, shape, config, stream)) / n

        row = {"batch": batch, "view_seconds": clock(lambda: views(index, stream))}
        row |= {"a_step_seconds": clock(a_step), "b_step_seconds": clock(b_step)}
        # In the loop each step would draw lambda of its batch; the bank is filled in bulk.
        few = max(1, round(config.training.view_rate * batch))
        row |= {"draw_few": few, "seconds_per_image_few": drawn(few), "seconds_per_image_bulk": drawn(4 * batch)}
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {**row, "peak_mib": memory, "machine": machine()}


# --- pictures --------------------------------------------------------------------------------------------------------


#: Rows of the pictures: kinds of views, and how many of each.
IN_GRID = {"diffaug": 3, "random_condition": 2, "standard": 2}


def grid_file(name: str, about: dict[str, Any]) -> Path:
    """The picture of a set under settings: another one for each, as a page shows that of its tables."""
    return _common.PAGES.parent / "_static" / f"vision_{name}-{settings_hash(about)[:6]}.png"


def draw_grid(name: str, seed: int = 0) -> None:
    """Test images, generated views, the same of a generator that is told nothing, hand-made ones (Figures 3 and 6)."""
    target = grid_file(name, Task.about(name))
    if target.exists():
        return
    test = images(name).part("test")
    chosen = test.images[np.random.default_rng(seed).permutation(len(test))[:12]]
    rows, labels = [chosen], ["original"]
    for kind, n_views in IN_GRID.items():
        random = kind == "random_condition"
        maker = (told_nothing if random else fitted)(name, seed)
        views = maker.augment(chosen, n_views, kind="diffaug" if random else kind, random_state=seed)
        rows += [views[:, i] for i in range(n_views)]
        labels += [kind.replace("_", " ")] * n_views
    target.parent.mkdir(exist_ok=True)
    vision.plot_images(np.concatenate(rows), n_columns=len(chosen), labels=labels, save=target, show=False)
    print(f"wrote {target.name}")


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
    order = {name: i for i, name in enumerate((*METHODS, *KINDS, *(f"{r:g}" for r in RATES)))}
    place = [*zip(table["set"], (order.get(v, len(order)) for v in table[keys[-1]]), strict=True)]
    table = table.iloc[sorted(range(len(table)), key=lambda i: place[i])]
    grouped = table.groupby(keys, sort=False)
    return markdown(grouped[scores].mean().round(4).assign(seeds=grouped["seed"].nunique()))


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


def picture(name: str, results: dict[str, Results]) -> str:
    """The picture of the settings that the table of views has, or else that of embeddings."""
    for part in ("views", "embed"):
        rows = one_setting(results[part].table)
        rows = rows[rows["set"] == name] if len(rows) else rows
        if len(rows) and (file := grid_file(name, json.loads(rows["settings"].iloc[0]))).exists():
            kinds = "originals, generated views, views under a random condition, hand-made views"
            return f"![{name}: {kinds}](../_static/{file.name})"
    return ""


def render(results: dict[str, Results]) -> None:
    def section(part: str, key: str, scores: list[str], apart: list[str]) -> str:
        everything = results[part].table
        if everything.empty:
            return "Not run yet."
        table = one_setting(everything)
        given_ = said(table, "images", everything)
        return f"{given_}\n\n{means_of(table, ['set', key], scores)}\n\n{differences_of(table, key, apart)}"

    costs = results["cost"].table
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

## Costs

Medians. `few` draws as many images at once as a step would need if views were made in the loop, `bulk` as the bank does.

{"Not run yet." if costs.empty else markdown(costs.drop(columns="machine").set_index("case").round(4))}
""",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["embed", "views", "rate", "cost", "grids"])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, metavar="KIND")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--cases", nargs="+", default=list(COSTS))
    parser.add_argument("--max-obs", type=int, help="a random part of so many images, of both parts of the set")
    parser.add_argument("--max-epochs", type=int, help="cap on the epochs of all phases, which shrink in proportion")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=3,
        metavar=("A", "B", "A"),
        help="steps of the warm-up, the generator and the mixed phases",
    )
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
        args.rates, args.cases, args.tag = [0.0, 0.5], ["default-8"], ""
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
        "cost": ("case",),
    }
    results = {part: Results(f"vision_{part}{args.tag}", k) for part, k in keys.items()}
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
    if "cost" in parts:
        for case in args.cases:
            results["cost"].once(lambda c=case: measure_cost(c), case=case)
    if not args.tag:
        render(results)


if __name__ == "__main__":
    main()
