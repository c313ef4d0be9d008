"""Views of images: judged by an oracle that knows the labels, and drawn beside their images."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import _common
import numpy as np
import torch
from _budget import one_setting
from _common import Results, machine
from _vision_plan import SETS, Task, fitted, given, images, settings, told_nothing, view_generator
from harness.store import settings_hash
from sklearn.svm import SVC
from torch import nn

from diffaug import metrics, vision
from diffaug.backends import get_backend
from diffaug.baselines import VIEW_GENERATORS
from diffaug.core.devices import make_fabric, seeded_init, tuned_cpu
from diffaug.core.inference import encode
from diffaug.core.networks import Encoding

KINDS = ("real", "diffaug", "vae", "gan", "standard", "crop", "mixup", "random_condition")


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
        data, labels = backend.to_model(train.images).to(device), torch.as_tensor(train.labels).long().to(device)
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


@lru_cache(maxsize=1)
def judged_images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Up to 500 images of the test part, and their labels."""
    test = images(name).part("test")
    rows = np.random.default_rng(0).permutation(len(test))[:500]
    return test.images[rows], test.labels[rows]


def pixel_distance(views: np.ndarray, x: np.ndarray) -> float:
    """Mean change of a pixel as a share of the range; views of shape ``(n, n_views, *image)``."""
    return float(np.abs(views.astype(np.float64) - x[:, None]).mean() / (float(x.max()) - float(x.min())))


def measure_views(name: str, kind: str, seed: int, n_views: int = 4) -> dict[str, Any]:
    """Share of views that the oracle puts into the class of their image; images of the test part."""
    (x, y), judge = judged_images(name), oracle(name)
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
    cosine = metrics.semantic_cosine(np.repeat(model.embed(x).semantic, n_views, axis=0), model.embed(flat).semantic)
    return {
        "class_kept": float((judge(flat) == np.repeat(y, n_views)).mean()),
        "cosine": float(np.median(cosine)),
        "pixel_distance": pixel_distance(views, x),
        "n": len(flat),
        **given(name),
        "machine": machine(),
    }


# --- pictures ---------------------------------------------------------------------------------------------------------

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


def picture(name: str, results: dict[str, Results]) -> str:
    """The picture of the settings that the table of views has, or else that of embeddings."""
    for part in ("views", "embed"):
        rows = one_setting(results[part].table)
        rows = rows[rows["set"] == name] if len(rows) else rows
        if len(rows) and (file := grid_file(name, json.loads(rows["settings"].iloc[0]))).exists():
            kinds = "originals, generated views, views under a random condition, hand-made views"
            return f"![{name}: {kinds}](../_static/{file.name})"
    return ""
