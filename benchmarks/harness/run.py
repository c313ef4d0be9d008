"""The loop over sets, methods and seeds: what is missing is computed, what was computed is scored, and all is kept."""

from __future__ import annotations

import json
import logging
import platform
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers import Peer

from harness.child import ChildFailed, Worker
from harness.compute import Request, peers_with
from harness.protocols import PROTOCOLS
from harness.sets import Slice, facts, is_counts, is_grouped, prepared_file
from harness.store import Entry, Key, Rows, settings_hash

logger = logging.getLogger("bench")

#: Rows of the computation itself (time and memory, or why it failed), and of what could not be imported.
COMPUTE, INSTALL = "compute", "install"
_COSTS = ("seconds", "peak_mb", "base_mb", "gpu_peak_mb")
_SECONDS_BETWEEN_WRITES = 300


@dataclass(frozen=True)
class Plan:
    """What to run, and where it is kept."""

    slices: tuple[Slice, ...]
    peers: tuple[str, ...]
    n_seeds: int
    protocols: tuple[str, ...]
    cache: Path
    parquet: Path
    threads: int = 1
    jobs: int = 1
    timeout: float | None = None
    variants: Path | None = None
    any_settings: bool = False


@dataclass(frozen=True)
class Unit:
    """One method on one set with one seed."""

    slice: Slice
    peer: Peer
    seed: int
    hash: str

    def key(self, row: str, protocol: str) -> Key:
        one = self.slice
        return Key(one.name, one.max_obs or 0, one.n_top_genes, row, self.hash, self.seed, protocol)

    def __str__(self) -> str:
        return f"{self.slice.name}, {self.peer.name}, seed {self.seed}"


class Runner:
    """Runs a plan; :meth:`run` may be killed at any point and called again."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = Rows(plan.parquet, plan.cache / "rows")
        self.peers = peers_with(plan.variants)
        self.settings = {name: self._settings_of(name) for name in plan.peers}
        self._lock, self._preparing = threading.Lock(), threading.Lock()
        self._written = time.monotonic()
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._stopping = False

    # --- what there is to do ------------------------------------------------------------------------------------------

    def _settings_of(self, name: str) -> dict[str, Any]:
        """Settings of a method, and of the one it builds on: a change of those changes its results too."""
        peer = self.peers[name]
        return peer.settings if peer.needs is None else {**peer.settings, "built_on": self._settings_of(peer.needs)}

    def unit(self, one: Slice, name: str, seed: int) -> Unit:
        return Unit(one, self.peers[name], seed, settings_hash(self._settings_of(name)))

    def units(self) -> list[Unit]:
        """Seeds outermost: a run that is stopped early has every method with fewer seeds."""
        order = sorted(self.plan.peers, key=lambda name: self.peers[name].needs is not None)
        hashes = {name: settings_hash(self.settings[name]) for name in order}
        return [
            Unit(one, self.peers[name], seed, hashes[name])
            for seed in range(self.plan.n_seeds)
            for one in self.plan.slices
            for name in order
            if (seed == 0 or self.peers[name].stochastic) and (is_counts(one) or not self.peers[name].needs_counts)
        ]

    def entry(self, unit: Unit, row: str) -> Entry:
        kept_as = next((r.kept_as for r in unit.peer.rows if r.name == row), "") or row
        return Entry(self.plan.cache / "made" / unit.slice.key / kept_as / unit.hash, unit.seed)

    def open(self, unit: Unit) -> dict[str, list[str]]:
        """Protocols that are not done, by row; empty where all is done or has failed before."""
        found = {}
        for row in unit.peer.rows:
            if self.rows.error(unit.key(row.name, COMPUTE)):
                continue
            wanted = [
                name
                for name in self.plan.protocols
                if (is_grouped(unit.slice) or not PROTOCOLS[name].grouped)
                and (unit.seed > 0 or not PROTOCOLS[name].against_first)
            ]
            keys = {name: unit.key(row.name, name) for name in (*wanted, COMPUTE)}
            todo = [name for name, key in keys.items() if not self.rows.has(key, any_settings=self.plan.any_settings)]
            if todo:
                found[row.name] = [name for name in todo if name != COMPUTE]
        return found

    # --- doing it -----------------------------------------------------------------------------------------------------

    def forget(self, *, failed: bool = False, peers: Sequence[str] = ()) -> int:
        """Make failures, or all of some methods, to be done anew within the sets of the plan; says how many rows."""
        redone = {row.name for peer in peers for row in self.peers[peer].rows}
        planned = {row.name for peer in self.plan.peers for row in self.peers[peer].rows}
        slices = {(s.name, s.max_obs or 0, s.n_top_genes) for s in self.plan.slices}
        for one in self.plan.slices:
            for peer in peers:
                for seed in range(self.plan.n_seeds):
                    unit = self.unit(one, peer, seed)
                    for row in unit.peer.rows:
                        self.entry(unit, row.name).drop()
        n = self.rows.drop(
            lambda key, error: (
                (key.set, key.max_obs, key.n_top_genes) in slices
                and (key.method in redone or (failed and bool(error) and key.method in planned))
            )
        )
        self._write()
        return n

    def run(self) -> None:
        """Do all that is open."""
        units = self.units()
        todo = [unit for unit in units if self.open(unit)]
        missing = self._missing(sorted({unit.peer.name for unit in todo}))
        todo = [unit for unit in todo if not missing[unit.peer.name]]
        logger.info("%d of %d runs are open", len(todo), len(units))
        try:
            with ThreadPoolExecutor(self.plan.jobs) as pool:
                try:
                    for waits in (False, True):  # methods that build on another one come after it
                        part = [(i, unit) for i, unit in enumerate(todo, 1) if (unit.peer.needs is not None) == waits]
                        list(pool.map(lambda at: self._do(at[1], f"[{at[0]}/{len(todo)}] {at[1]}"), part))
                except BaseException:
                    self._stop()  # before the pool waits for its threads
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            for worker in self._workers:
                worker.close()
            self._write()

    def _missing(self, names: list[str]) -> dict[str, str]:
        """What cannot be imported and why, and rows that say so; such a row goes when its method comes."""
        found = {}
        if names:
            with self._worker(None) as worker:
                found = worker.call("harness.compute:why_missing", names, self.plan.variants)
        for name, error in found.items():
            key = Key("", 0, 0, name, "", 0, INSTALL)
            if error:
                self.rows.put(key, {}, error, shown=self.peers[name].shown, **self._here())
                logger.warning("%s is left out: %s", name, error)
            else:
                self.rows.drop(lambda other, _, gone=key: other == gone)
        return found

    def _do(self, unit: Unit, head: str) -> None:
        with self._preparing:
            data = prepared_file(unit.slice, self.plan.cache)
        todo = self.open(unit)
        if not all(self.entry(unit, row).exists for row in todo):
            error = self._compute(unit, data)
            for row in todo:
                if not self.entry(unit, row).exists:
                    logger.warning("%s: %s failed: %s", head, row, error.partition("\n")[0])
                    self._put(unit, row, COMPUTE, {}, error)
        for row, protocols in todo.items():
            if self.entry(unit, row).exists:
                self._score(unit, row, data, protocols)
                record = self.entry(unit, row).record()
                logger.info("%s: %s, %.1f s, %.0f MB", head, row, record["seconds"], record["peak_mb"])
        with self._lock:
            if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
                self._write()
                self._written = time.monotonic()

    def _compute(self, unit: Unit, data: Path) -> str:
        """Make the entries of a unit; the text of the failure, or nothing."""
        needed = None
        if unit.peer.needs is not None:
            base = self.unit(unit.slice, unit.peer.needs, unit.seed)
            needed = self.entry(base, base.peer.name)  # the row of the model, whatever others there are
            error = "" if needed.exists else self._compute(base, data)
            if error:
                return f"{base.peer.name}, which it builds on, failed: {error}"
        entries = {row.role: self.entry(unit, row.name) for row in unit.peer.rows}
        request = Request(unit.peer.name, unit.seed, data, entries, needed, self.plan.variants)
        log = self.plan.cache / "logs" / unit.slice.key / f"{unit.peer.name}-{unit.seed}.log"
        try:
            with self._worker(log) as worker:
                worker.call("harness.compute:compute", request, timeout=self.plan.timeout)
        except ChildFailed as error:
            return self._unless_stopping(error)
        return ""

    def _score(self, unit: Unit, row: str, data: Path, protocols: list[str]) -> None:
        entry = self.entry(unit, row)
        record, first = entry.record(), Entry(entry.folder, 0)
        for name in protocols:
            found, error = {}, ""
            if PROTOCOLS[name].against_first and not first.exists:
                error = "the embedding of seed 0 is not there"
            else:
                try:
                    found = self._scorer().call(
                        "harness.protocols:score", name, entry, first, unit.peer.flat, data, timeout=self.plan.timeout
                    )
                except ChildFailed as failure:
                    error = self._unless_stopping(failure)
            if error:
                logger.warning("%s: %s on %s: %s", unit, name, row, error.partition("\n")[0])
            self._put(unit, row, name, found, error, record)
        measured = {name: record[name] for name in _COSTS} | record.get("readings", {})
        self._put(unit, row, COMPUTE, measured, "", record)

    def _put(
        self,
        unit: Unit,
        row: str,
        protocol: str,
        metrics: dict[str, float],
        error: str,
        record: dict[str, Any] | None = None,
    ) -> None:
        record = record or {}
        columns = {
            **facts(unit.slice),
            "shown": next(r.shown for r in unit.peer.rows if r.name == row),
            "stochastic": unit.peer.stochastic,
            "settings": json.dumps(self.settings[unit.peer.name], sort_keys=True),
            **{name: record.get(name, 0) for name in ("n_obs", "n_features", "n_dims")},
            "versions": json.dumps(record.get("versions", {}), sort_keys=True),
            **self._here(),
        }
        with self._lock:
            self.rows.put(unit.key(row, protocol), metrics, error, **columns)

    def _here(self) -> dict[str, Any]:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
        return {"machine": device, "threads": self.plan.threads}

    def _write(self) -> None:
        self.rows.write()

    # --- processes ----------------------------------------------------------------------------------------------------

    def _worker(self, log: Path | None) -> Worker:
        worker = Worker(log)
        with self._lock:
            self._workers = [w for w in self._workers if w.alive] + [worker]
        return worker

    def _scorer(self) -> Worker:
        """This thread's process for scoring; it lives on, because UMAP compiles for seconds at its first call."""
        worker = getattr(self._local, "scorer", None)
        if worker is None or not worker.alive:
            log = self.plan.cache / "logs" / f"score-{threading.get_native_id()}.log"
            worker = self._local.scorer = self._worker(log)
        return worker

    def _stop(self) -> None:
        self._stopping = True
        with self._lock:
            for worker in self._workers:
                worker.kill()

    def _unless_stopping(self, error: ChildFailed) -> str:
        """Text of a failure. A process that we ended ourselves, because the run is stopped, has not failed."""
        if self._stopping:
            raise error
        return str(error)
