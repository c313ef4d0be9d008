"""Rare types on held-out donors: does a classifier learn them better with synthetic cells than with simpler ways?

Each donor is held out once. The rare types of the other donors are cut to a few cells, DiffAug is fitted on these cells,
and `tl.balance` fills one rare type after the other and measures all its arms on the held-out donor.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable

import numpy as np
import scanpy as sc
from anndata import AnnData
from harness.store import Key, settings_hash

import diffaug
from generators.diffaug_ import default_config
from generators.run import DONE, Plan, Runner, versions

logger = logging.getLogger("bench")

SET, N_RARE = "kang_pbmc", 3
PREFIX = "rare"


def run_rare(runner: Runner, rare_cells: int) -> None:
    """Do all folds that are open; a donor and a type is kept at once."""
    plan = runner.plan
    full = _cells()
    rare = rare_types(full)
    for seed in range(plan.n_seeds):
        for donor in sorted(full.obs["batch"].astype(str).unique()):
            keys = {kind: rare_key(plan, rare_cells, donor, kind, seed) for kind in rare}
            todo = [kind for kind in rare if not runner.rows.has(keys[kind](DONE))]
            if not todo:
                continue
            begin = time.perf_counter()
            cells, goal = fold(full, donor, rare, rare_cells, plan, seed)
            train = cells[cells.obs["batch"] != donor].copy()
            model = diffaug.tl.fit(
                train, n_encoders=1, max_epochs=plan.max_epochs, random_state=seed, device="cpu", progress=False
            )
            for kind in todo:
                found, error = helped(model, cells, kind, goal, seed)
                columns = {
                    "shown": "DiffAug",
                    "stochastic": True,
                    "settings": json.dumps(_settings(plan, rare_cells), sort_keys=True),
                    "n_obs": train.n_obs,
                    "n_obs_total": cells.n_obs,
                    "n_features": cells.n_vars,
                    "n_classes": cells.obs["cell_type"].nunique(),
                    "kind": "counts",
                    "grouped": True,
                    "versions": json.dumps(versions(), sort_keys=True),
                    "machine": f"{platform.machine()} CPU",
                    "threads": plan.threads,
                }
                for arm, numbers in found.items():
                    runner.rows.put(keys[kind](arm), numbers, **columns)
                runner.rows.put(keys[kind](DONE), {"seconds": time.perf_counter() - begin}, error, **columns)
                shown = ", ".join(f"{arm} {n['recall']:.2f}" for arm, n in found.items()) or error
                logger.info("%s, seed %d, %s: recall %s", donor, seed, kind, shown)
            runner.rows.write()


def _settings(plan: Plan, rare_cells: int) -> dict[str, object]:
    return {"rare_cells": rare_cells, "max_epochs": plan.max_epochs, **default_config()}


def rare_hash(plan: Plan, rare_cells: int) -> str:
    return settings_hash(_settings(plan, rare_cells))


def rare_key(plan: Plan, rare_cells: int, donor: str, kind: str, seed: int) -> Callable[[str], Key]:
    """Keys of a donor and a type, by protocol: the arm."""
    hash_ = rare_hash(plan, rare_cells)
    name = f"{SET}, {donor}"
    return lambda arm: Key(name, plan.max_obs, plan.n_top_genes, f"{PREFIX}: {kind}", hash_, seed, arm)


def _cells() -> AnnData:
    adata = diffaug.datasets.load(SET)
    sc.pp.filter_cells(adata, min_counts=1)
    return adata


def rare_types(adata: AnnData) -> list[str]:
    """The types with the fewest cells."""
    return adata.obs["cell_type"].value_counts().index[-N_RARE:].astype(str).tolist()


def fold(full: AnnData, donor: str, rare: list[str], rare_cells: int, plan: Plan, seed: int) -> tuple[AnnData, int]:
    """Cells of a donor, and of the others with few of each rare type; and the median size of the other types there."""
    rng = np.random.default_rng(seed)
    held = (full.obs["batch"].astype(str) == donor).to_numpy()
    kinds = full.obs["cell_type"].astype(str).to_numpy()
    rows = rng.permutation(np.flatnonzero(~held & ~np.isin(kinds, rare)))[: plan.max_obs or None]
    few = [rng.permutation(np.flatnonzero(~held & (kinds == kind)))[:rare_cells] for kind in rare]
    cells = full[np.sort(np.concatenate([rows, *few, np.flatnonzero(held)]))].copy()
    cells.obs["batch"] = cells.obs["batch"].astype(str)
    chosen = cells[cells.obs["batch"] != donor].copy()
    diffaug.pp.recipe(chosen, n_top_genes=plan.n_top_genes)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    cells = cells[:, chosen.var["highly_variable"].to_numpy()].copy()
    cells.var["highly_variable"] = True
    common = chosen.obs["cell_type"].astype(str).value_counts().drop(rare)
    return cells, int(common.median())


def helped(
    model: diffaug.DiffAug, cells: AnnData, kind: str, goal: int, seed: int
) -> tuple[dict[str, dict[str, float]], str]:
    """Recall of the type and balanced accuracy of every arm of ``tl.balance`` on the cells that the model has not seen."""
    share = model.n_obs / cells.n_obs  # `to` counts all cells; the training part gets its share of them
    try:  # a failure is kept, and the page tells it
        out = diffaug.tl.balance(
            cells, model, groupby="cell_type", to={kind: round(goal / share)}, random_state=seed, progress=False
        )
    except ValueError as error:
        return {}, f"{type(error).__name__}: {error}"
    found = out.uns["diffaug_balance"]
    values = zip(found["arm"], found["rare_recall"], found["balanced_accuracy"], strict=True)
    return {str(arm): {"recall": float(r), "balanced_accuracy": float(b)} for arm, r, b in values}, ""
