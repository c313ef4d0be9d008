"""The loop over sets, seeds and tools; what is judged is kept at once, so that a run may be killed and called again."""

from __future__ import annotations

import gc
import json
import logging
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.store import Key, Rows, settings_hash

import diffaug
from generators.base import FAMILIES, Family, Made
from generators.judge import judged
from generators.split import Split, split_cells

logger = logging.getLogger("bench")

#: Written last: a tool that has it is whole. A failure has it too, with its text.
DONE = "done"
_VERSIONS = ("diffaug", "torch", "scvi-tools", "scanpy", "anndata", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True)
class Plan:
    """What to run, and where it is kept."""

    sets: tuple[str, ...]
    families: tuple[str, ...]
    n_seeds: int
    max_obs: int
    n_top_genes: int
    n_resamples: int
    n_estimators: int
    max_epochs: int | None
    threads: int
    cache: Path
    parquet: Path

    def settings(self, family: Family) -> dict[str, Any]:
        """Arguments of the family: its defaults but for a cap on the epochs."""
        cap = {"max_epochs": self.max_epochs} if "max_epochs" in family.settings else {}
        return family.settings | cap

    def known(self, family: Family) -> dict[str, Any]:
        """The arguments, and the defaults beside them."""
        return self.settings(family) | family.defaults()

    def hash(self, family: Family) -> str:
        judge = {"n_resamples": self.n_resamples, "n_estimators": self.n_estimators}
        return settings_hash({"family": self.known(family), "report": judge})


class Runner:
    """Runs a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = Rows(plan.parquet, plan.cache / "rows")

    def key(self, name: str, tool: str, hash_: str, seed: int, protocol: str) -> Key:
        return Key(name, self.plan.max_obs, self.plan.n_top_genes, tool, hash_, seed, protocol)

    def open(self, name: str, family: Family, seed: int) -> bool:
        keys = [self.key(name, t.name, self.plan.hash(family), seed, DONE) for t in family.tools]
        return not all(self.rows.has(key) for key in keys)

    def run(self, *, retry: bool = False) -> None:
        """Do all that is open, seeds outermost: a run that is stopped early has every tool with fewer seeds."""
        plan = self.plan
        families = [FAMILIES[name] for name in plan.families]
        for family in [f for f in families if f.missing]:
            logger.warning("%s is left out: cannot import %s", family.name, ", ".join(family.missing))
        families = [f for f in families if not f.missing]
        if retry:
            logger.info("%d failures are done anew", self.rows.drop(lambda key, error: bool(error)))
        for seed in range(plan.n_seeds):
            for name in plan.sets:
                todo = [f for f in families if self.open(name, f, seed)]
                if not todo:
                    continue
                split = split_cells(name, seed, plan.max_obs or None, plan.n_top_genes)
                logger.info("%s, seed %d: %s", name, seed, described(split))
                for family in todo:
                    self.one(name, split, family, seed)
                    gc.collect()
                self.rows.write()

    def one(self, name: str, split: Split, family: Family, seed: int) -> None:
        """Make and judge the tools of a family; a failure becomes a row."""
        hash_, settings = self.plan.hash(family), self.plan.settings(family)
        begin = time.perf_counter()
        made: dict[str, Made] = {}
        error = ""
        try:
            made = family.make(split, seed, **settings)
        except Exception as failure:  # noqa: BLE001 - whatever a tool raises becomes a row
            error = f"{type(failure).__name__}: {failure}"
        for tool in family.tools:
            columns = self.columns(split, self.plan.known(family), tool.shown)
            put = lambda protocol, found, text="", t=tool, c=columns: self.rows.put(
                self.key(name, t.name, hash_, seed, protocol), found, text, **c
            )
            failed = error or ("" if tool.name in made else f"KeyError: the family made no cells of {tool.name!r}")
            if tool.name in made:
                try:
                    found = judged(
                        split,
                        made[tool.name],
                        is_fresh=tool.name == "fresh",
                        seed=seed,
                        n_resamples=self.plan.n_resamples,
                        n_estimators=self.plan.n_estimators,
                    )
                    for protocol, numbers in found.items():
                        put(protocol, numbers)
                    score, auc = found["value"]["mean_score"], found["value"]["auc_pcs"]
                    logger.info("  %-14s score %.3f, AUC %.3f", tool.name, score, auc)
                except Exception as failure:  # noqa: BLE001
                    failed = f"{type(failure).__name__}: {failure}"
            if failed:
                logger.warning("  %-14s failed: %s", tool.name, failed.partition("\n")[0])
            put(DONE, {"seconds": time.perf_counter() - begin}, failed)

    def columns(self, split: Split, settings: dict[str, Any], shown: str) -> dict[str, Any]:
        """What every row of a tool says about itself."""
        report = {"n_resamples": self.plan.n_resamples, "n_estimators": self.plan.n_estimators}
        return {
            "shown": shown,
            "stochastic": True,
            "settings": json.dumps({**settings, "report": report, "split": split.by}, sort_keys=True),
            "n_obs": split.train.n_obs,
            "n_obs_total": sum(p.n_obs for p in (split.train, split.held_out, split.projection, split.fresh)),
            "n_features": split.train.n_vars,
            "n_classes": split.train.obs["cell_type"].nunique(),
            "kind": "counts",
            "grouped": split.by == "donor",
            "versions": json.dumps(versions(), sort_keys=True),
            "machine": f"{platform.machine()} CPU",
            "threads": self.plan.threads,
        }


def versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"diffaug": diffaug.__version__}


def described(split: Split) -> str:
    parts = {p: getattr(split, p).n_obs for p in ("train", "held_out", "projection", "fresh")}
    sizes = ", ".join(f"{n} {p}" for p, n in parts.items())
    return f"{sizes}; {split.train.n_vars} genes, {split.train.obs['cell_type'].nunique()} types, split by {split.by}"
