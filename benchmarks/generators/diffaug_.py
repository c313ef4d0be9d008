"""DiffAug, as a user has it: `tl.fit` on the training cells, one synthetic cell for each of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

import diffaug
from diffaug.backends import get_backend
from generators.base import TYPE, Made, Tool, register
from generators.split import Split


def default_config() -> dict[str, Any]:
    """Whatever `tl.fit` does when it is told nothing."""
    return {"config": get_backend("cells").preset("default").to_dict()}


@register(
    "diffaug",
    Tool("diffaug", "DiffAug", "Defaults; one cell under the condition of each training cell, from pure noise."),
    Tool(
        "diffaug_half",
        "DiffAug, strength 0.5",
        "The same model; each cell starts from its training cell's own values, noised half-way.",
    ),
    defaults=default_config,
)
def diffaug_cells(split: Split, seed: int, *, max_epochs: int | None = None, strength: float = 0.5) -> dict[str, Made]:
    train = AnnData(split.train.X.copy(), obs=split.train.obs[[TYPE]].copy(), var=split.train.var[[]].copy())
    train.var["highly_variable"] = True
    begin = time.perf_counter()
    model = diffaug.tl.fit(train, max_epochs=max_epochs, random_state=seed, device="cpu", progress=False)
    fit_seconds = time.perf_counter() - begin
    found = {}
    for name, settings in (("diffaug", {}), ("diffaug_half", {"strength": strength, "train": train})):
        begin = time.perf_counter()
        made = diffaug.tl.generate(
            model, groupby=TYPE, output="counts", random_state=seed + 1, progress=False, **settings
        )
        seconds = time.perf_counter() - begin
        labels = made.obs[TYPE].astype(str).to_numpy()
        found[name] = Made(sp.csr_matrix(made[:, train.var_names].X), np.asarray(labels), fit_seconds, seconds)
    return found
