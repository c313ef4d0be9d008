"""Arms x sets x seeds: run what is not in the folder yet, keep every row at once."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch

from diffaug.core.checkpoint import versions
from diffaug.core.config import Config, config_from_dict
from diffaug.core.devices import device_name, make_fabric
from diffaug.core.timebox import OutOfTime
from diffaug.reproduce import _measure, _split_measure, _split_sets
from diffaug.reproduce._arms import DIFFAUG, Arm, Artefact, Domain, resolve, run_id
from diffaug.reproduce._checkpoints import Checkpoints, Deadline
from diffaug.reproduce._rows import Rows, Settings
from diffaug.reproduce._sets import Data, prepare
from diffaug.reproduce._split_sets import References, SplitData

logger = logging.getLogger(__name__)

Run = tuple[Arm, Config, str]
#: What says the same in every run: its warnings are heard in the first run on a set, and then no more.
_TALKATIVE = ("_anndata", "_model", "pp", "tl")


def resolved(artefact: Artefact, settings: Settings, *, device: str = "auto", of_set: str = "") -> list[Run]:
    """Arms with their settings and the name of their run. What is wrong with one is said before anything is run."""
    found = []
    for arm in artefact.arms:
        config = config_from_dict(
            artefact.by_set.get(of_set, {}), type(settings.base.domain), resolve(arm, settings.base)
        )
        if artefact.domain != "bio":
            _split_measure.check(arm.method, config, artefact.domain, device)
        elif arm.method != DIFFAUG:
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
    references: References | None = None,
    deadline: Deadline | None = None,
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
    references
        For coordinates of Genomic Benchmarks: the FASTA files that they are of.
    deadline
        After it no run begins, and those on sets with an official split end with their epoch, whose state is kept. Of
        lambdas that one training serves, those that are not judged by then are left for the next call.

    Returns
    -------
    One row for each arm, set and seed; two arms of equal settings share the scores.

    Raises
    ------
    ValueError
        A set cannot be judged, or the settings do not fit. Rows that were made before stay.
    OutOfTime
        The deadline came. The same call goes on.
    """
    deadline = deadline or Deadline()
    arms = {name: resolved(artefact, settings, device=device, of_set=name) for name in sets}
    device = str(make_fabric(device).device)  # which one `auto' was
    # The seeds come last: a stopped run has some seeds on all sets, and not all seeds on some sets.
    cells = [(seed, name) for seed in range(seeds) for name in sets]
    n_left = sum(
        not _is_done(rows, artefact, name, seed, digest)
        for seed, name in cells
        for digest in {d for _, _, d in arms[name]}
    )
    logger.info("%s: runs to go: %d, in '%s'", artefact.name, n_left, rows.folder)
    found, heard, begin, n_done = [], set(), time.perf_counter(), 0
    for seed, name in cells:
        data: Data | SplitData | None = None
        todo = [one for one in arms[name] if not _is_done(rows, artefact, name, seed, one[2])]
        for digest in {d for _, _, d in arms[name]} - {d for _, _, d in todo}:
            # A process that was killed between the row and the end of its checkpoints left these behind.
            Checkpoints(rows.folder, run=digest, of_set=name, seed=seed).remove()
        for together in _together(todo, artefact.domain):
            kept = Checkpoints(rows.folder, run=together[0][2], of_set=name, seed=seed, until=deadline.until)
            waiting = [arm for arm, _, _ in together]
            try:
                if n_done:  # every call gets something done
                    deadline.check()
                with _quiet(name in heard):
                    data = data or _prepared(name, artefact.domain, settings, references)
                    for arm, row in _rows_of(together, artefact, rows, data, seed, device, settings, kept):
                        rows.put(row)
                        n_done += 1
                        left = (n_left - n_done) * (time.perf_counter() - begin) / n_done
                        logger.info(
                            "%d of %d: %s, %s, seed %d: linear %.3f in %.0f s; about %.0f min left",
                            *(n_done, n_left, name, arm.key, seed, row["linear"], row["seconds"], left / 60),
                        )
                        waiting.remove(arm)
                        if waiting:
                            deadline.check()
            except OutOfTime as error:
                raise OutOfTime(
                    f"{deadline.minutes:g} minutes are over, at {name}, {waiting[0].key}, seed {seed}. New rows: {n_done}, "
                    f"runs to go: {n_left - n_done}. All that was done is kept in {str(rows.folder)!r}: the same command "
                    "goes on from there, without --overwrite."
                ) from error
            heard.add(name)
            kept.remove()
        for arm, _, digest in arms[name]:
            there = rows.find(run=digest, set=name, seed=seed)
            assert there is not None
            found.append({**there, "arm": arm.key})
    return pd.DataFrame(found)


def _together(todo: Sequence[Run], domain: Domain) -> list[list[Run]]:
    """Runs that one training serves: of cells, those that differ in lambda alone. Runs of equal settings are one.

    With patience a fit of its own might stop at another epoch than the sweep.
    """
    groups: dict[str, dict[str, Run]] = {}
    for arm, config, digest in todo:
        plan = config.training
        sweeps = (
            domain == "bio"
            and arm.method == DIFFAUG
            and plan.view_rate > 0
            and (plan.n_cycles, plan.schedule, plan.patience) == (1, "alternating", None)
        )
        key = json.dumps(config.updated("training", view_rate=1.0).to_dict(), sort_keys=True) if sweeps else digest
        groups.setdefault(key, {}).setdefault(digest, (arm, config, digest))
    return [list(group.values()) for group in groups.values()]


def _prepared(name: str, domain: Domain, settings: Settings, references: References | None) -> Data | SplitData:
    if domain == "bio":
        return prepare(name, n_top_genes=settings.n_top_genes, max_obs=settings.max_obs)
    return _split_sets.prepare(name, domain, max_obs=settings.max_obs, references=references)


def _is_done(rows: Rows, artefact: Artefact, name: str, seed: int, digest: str) -> bool:
    """Whether a run is there with every group of scores that is asked for."""
    kept = rows.find(run=digest, set=name, seed=seed)
    return kept is not None and set(artefact.groups) <= set(kept["measured"].split())


def _rows_of(
    together: Sequence[Run],
    artefact: Artefact,
    rows: Rows,
    data: Data | SplitData,
    seed: int,
    device: str,
    settings: Settings,
    checkpoints: Checkpoints,
) -> Iterator[tuple[Arm, dict[str, Any]]]:
    """Rows of runs that one training serves, each as soon as it is known."""
    before = [rows.find(run=digest, set=data.name, seed=seed) for _, _, digest in together]
    # A run that another table left with other scores is run again for all of them: its row must not lose any.
    measured = [group for kept in before if kept for group in kept["measured"].split()]
    groups: list[Any] = list(dict.fromkeys([*artefact.groups, *measured]))
    common: dict[str, Any] = {"seed": seed, "device": device, "max_epochs": settings.max_epochs}
    first = together[0][0]
    n_trained = int((data.split != "test").sum()) if isinstance(data, SplitData) else data.n_obs
    configs = [capped(config, settings, n_trained) for _, config, _ in together]
    found: Iterable[Mapping[str, Any]]
    if isinstance(data, SplitData):
        rows.begin()  # a folder of checkpoints alone would be a foreign one
        found = [
            _split_measure.measure(first.method, configs[0], data, domain=artefact.domain, kept=checkpoints, **common)
        ]
    elif len(together) > 1:
        found = _measure.measure_sweep(configs, data, groups=groups, **common)
    else:
        found = [_measure.measure(first.method, configs[0], data, groups=groups, **common)]
    for (arm, config, digest), scores in zip(together, found, strict=True):
        yield (
            arm,
            {
                "set": data.name,
                "seed": seed,
                "run": digest,
                "arm": f"{artefact.name}: {arm.key}",
                "method": arm.method,
                "settings": json.dumps(config.to_dict(), sort_keys=True),
                "measured": " ".join(groups),
                "device": device_name(torch.device(device)),
                "threads": torch.get_num_threads(),
                "versions": " ".join(f"{k}={v}" for k, v in versions().items()),
                "n_obs": data.n_obs,
                "n_features": data.n_features,
                **scores,
            },
        )


def capped(config: Config, settings: Settings, n_obs: int) -> Config:
    """Settings whose encoder has as many epochs under ``--max-epochs`` as that of the base.

    A cap shrinks a whole plan in proportion. An arm without a generator, or with a shorter one, would keep more of its encoder's
    epochs than the others have, and would be no twin.
    """
    own, base = config.training, settings.base.training
    if settings.max_epochs is None or own.generator_epochs == base.generator_epochs or own.generator_epochs is None:
        return config
    plan = base.resolve(n_obs, settings.max_epochs)
    assert plan.generator_epochs is not None
    training = dataclasses.replace(
        own,
        warmup_epochs=plan.warmup_epochs,
        generator_epochs=min(own.generator_epochs, plan.generator_epochs),
        mixed_epochs=plan.mixed_epochs,
    )
    return dataclasses.replace(config, training=training)


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
