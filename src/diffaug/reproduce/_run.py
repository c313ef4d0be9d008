"""Arms x sets x seeds: run what is not in the folder yet, keep every row at once."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch

from diffaug._model import versions
from diffaug.core.config import Config
from diffaug.core.devices import make_fabric
from diffaug.reproduce import _measure
from diffaug.reproduce._arms import DIFFAUG, Arm, Artefact, resolve, run_id
from diffaug.reproduce._rows import Rows, Settings
from diffaug.reproduce._sets import Data, prepare

logger = logging.getLogger(__name__)

#: What says the same in every run: its warnings are heard in the first run on a set, and then no more.
_TALKATIVE = ("_anndata", "_model", "pp", "tl")


def resolved(artefact: Artefact, settings: Settings, *, device: str = "auto") -> list[tuple[Arm, Config, str]]:
    """Arms with their settings and the name of their run. What is wrong with one is said before anything is run."""
    found = []
    for arm in artefact.arms:
        config = resolve(arm, settings.base)
        if arm.method != DIFFAUG:
            from diffaug.baselines import Baseline

            Baseline(arm.method, config, device=device)
        found.append((arm, config, run_id(arm.method, config)))
    return found


def run(
    artefact: Artefact,
    rows: Rows,
    settings: Settings,
    *,
    sets: Sequence[str],
    seeds: int,
    device: str = "auto",
) -> pd.DataFrame:
    """Fill the folder with what a table or figure needs.

    Parameters
    ----------
    artefact
        The table or figure.
    rows
        The folder. Runs that are there, also of other tables with equal settings, are not run again.
    settings
        Those of the folder.
    sets
        Names of sets at hand.
    seeds
        Number of seeds: 0, 1, ...
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Returns
    -------
    One row for each arm, set and seed; two arms of equal settings share the scores.

    Raises
    ------
    ValueError
        A set cannot be judged, or the settings do not fit. Rows that were made before stay.
    """
    arms = resolved(artefact, settings, device=device)
    device = str(make_fabric(device).device)  # which one `auto' was, for the rows
    # The seeds come last: a stopped run has some seeds on all sets, and not all seeds on some sets.
    cells = [(seed, name) for seed in range(seeds) for name in sets]
    n_left = sum(
        not _is_done(rows, artefact, name, seed, digest) for seed, name in cells for digest in {d for _, _, d in arms}
    )
    logger.info("%s: runs to go: %d, in '%s'", artefact.name, n_left, rows.folder)
    found, heard, begin, n_done = [], set(), time.perf_counter(), 0
    for seed, name in cells:
        data: Data | None = None
        for arm, config, digest in arms:
            if not _is_done(rows, artefact, name, seed, digest):
                with _quiet(name in heard):
                    data = data or prepare(name, n_top_genes=settings.n_top_genes, max_obs=settings.max_obs)
                    row = _row(arm, config, digest, artefact, rows, data, seed, device, settings.max_epochs)
                heard.add(name)
                rows.put(row)
                n_done += 1
                left = (n_left - n_done) * (time.perf_counter() - begin) / n_done
                logger.info(
                    "%d of %d: %s, %s, seed %d: linear %.3f in %.0f s; about %.0f min left",
                    *(n_done, n_left, name, arm.key, seed, row["linear"], row["seconds"], left / 60),
                )
            kept = rows.find(run=digest, set=name, seed=seed)
            assert kept is not None
            found.append({**kept, "arm": arm.key})
    return pd.DataFrame(found)


def _is_done(rows: Rows, artefact: Artefact, name: str, seed: int, digest: str) -> bool:
    """Whether a run is there with every group of scores that is asked for."""
    kept = rows.find(run=digest, set=name, seed=seed)
    return kept is not None and set(artefact.groups) <= set(kept["measured"].split())


def _row(
    arm: Arm,
    config: Config,
    digest: str,
    artefact: Artefact,
    rows: Rows,
    data: Data,
    seed: int,
    device: str,
    max_epochs: int | None,
) -> dict[str, object]:
    kept = rows.find(run=digest, set=data.name, seed=seed)
    # A run that another table left with other scores is run again for all of them: its row must not lose any.
    groups = [*artefact.groups, *(g for g in (kept["measured"].split() if kept else ()) if g not in artefact.groups)]
    scores = _measure.measure(arm.method, config, data, groups=groups, seed=seed, device=device, max_epochs=max_epochs)
    return {
        "set": data.name,
        "seed": seed,
        "run": digest,
        "arm": f"{artefact.name}: {arm.key}",
        "method": arm.method,
        "settings": json.dumps(config.to_dict(), sort_keys=True),
        "measured": " ".join(groups),
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": " ".join(f"{k}={v}" for k, v in versions().items()),
        "n_obs": data.adata.n_obs,
        "n_features": data.adata.n_vars,
        **scores,
    }


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Warnings at most of the parts that log each fit. What the metrics leave out is in the rows, and in the report."""
    loggers = [logging.getLogger(f"diffaug.{name}") for name in (*_TALKATIVE, "metrics")]
    before = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR if quiet or log.name == "diffaug.metrics" else logging.WARNING)
    try:
        yield
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)
