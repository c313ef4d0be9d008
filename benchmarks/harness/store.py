"""What was computed and scored, kept so that a run that is killed at any point goes on where it was.

An *entry* is what one method made of one set with one seed: ``<seed>.npz`` (the embedding) and ``<seed>.json`` (seconds,
memory, settings, versions), written last. A *row file* holds the scores of one protocol of one entry. All rows together
are the Parquet file that is committed; it is made anew from itself and the row files, so neither can be lost alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from diffaug.core.storage import written_file


def settings_hash(settings: dict[str, Any]) -> str:
    """Short name of settings: equal settings have equal names, in whatever order they were given."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def now() -> str:
    """The present, in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Key(NamedTuple):
    """What a row is about."""

    set: str
    max_obs: int
    n_top_genes: int
    method: str
    settings_hash: str
    seed: int
    protocol: str

    @property
    def file(self) -> str:
        """Row file, below the folder of rows."""
        folder = f"{self.set}-{self.max_obs or 'all'}x{self.n_top_genes}/{self.method}/{self.settings_hash}"
        return f"{folder}/{self.seed}-{self.protocol}.json"


@dataclass(frozen=True)
class Entry:
    """Files of one method on one set with one seed."""

    folder: Path
    seed: int

    @property
    def record_file(self) -> Path:
        return self.folder / f"{self.seed}.json"

    @property
    def arrays_file(self) -> Path:
        return self.folder / f"{self.seed}.npz"

    @property
    def map_file(self) -> Path:
        """Two-dimensional map of the embedding."""
        return self.folder / f"{self.seed}-map.npz"

    @property
    def exists(self) -> bool:
        return self.record_file.exists() and self.arrays_file.exists()

    def write(self, record: dict[str, Any], **arrays: np.ndarray) -> None:
        """Keep arrays and their record; the record comes last, so what has a record is whole."""
        with written_file(self.arrays_file) as fresh:
            np.savez_compressed(fresh, **arrays)
        with written_file(self.record_file) as fresh:
            fresh.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def record(self) -> dict[str, Any]:
        return json.loads(self.record_file.read_text(encoding="utf-8"))

    def array(self, name: str) -> np.ndarray:
        with np.load(self.arrays_file) as arrays:
            return arrays[name]

    def drop(self) -> None:
        for file in (self.record_file, self.arrays_file, self.map_file):
            file.unlink(missing_ok=True)


#: Columns of the Parquet file and their types.
COLUMNS: dict[str, str] = {
    "set": "str", "method": "str", "seed": "int64", "protocol": "str", "metric": "str", "value": "float64",
    "error": "str", "shown": "str", "stochastic": "bool", "settings": "str", "settings_hash": "str",
    "max_obs": "int64", "n_top_genes": "int64", "n_obs": "int64", "n_obs_total": "int64", "n_features": "int64",
    "n_classes": "int64", "labels": "str", "kind": "str", "grouped": "bool", "n_dims": "int64",
    "versions": "str", "machine": "str", "threads": "int64", "date": "str",
}  # fmt: skip
_EMPTY = {"str": "", "int64": 0, "float64": float("nan"), "bool": False}


def unread(folder: Path, read: set[Path]) -> Iterator[Any]:
    """What the row files of a folder hold, in their order, but those in ``read``, to which they are added."""
    for file in sorted(folder.rglob("*.json")):
        if file not in read and not file.name.startswith("."):  # a dot: in writing
            read.add(file)
            yield json.loads(file.read_text(encoding="utf-8"))


class Rows:
    """All rows that are known: those of the Parquet file, and those of the row files, the newer ones first.

    Parameters
    ----------
    parquet
        The committed file.
    folder
        Row files, in the cache.
    """

    def __init__(self, parquet: Path, folder: Path) -> None:
        self.parquet, self.folder = parquet, folder
        self._known: dict[Key, list[dict[str, Any]]] = {}
        self._read: set[Path] = set()
        self._loose: set[Key] | None = None  # the keys without settings, made when asked for
        if parquet.exists():
            table = pd.read_parquet(parquet)
            for values, part in table.groupby(list(Key._fields), sort=False):
                self._take(_key(dict(zip(Key._fields, values, strict=True))), part.to_dict("records"))
        self._read_folder()

    def _read_folder(self) -> None:
        for records in unread(self.folder, self._read):
            self._take(_key(records[0]), records)

    def _take(self, key: Key, records: list[dict[str, Any]]) -> None:
        known = self._known.get(key)
        if known is None or known[0]["date"] <= records[0]["date"]:
            self._known[key] = records
            self._loose = None

    def has(self, key: Key, *, any_settings: bool = False) -> bool:
        """Whether there is such a row; with ``any_settings`` also one that other settings gave."""
        if not any_settings:
            return key in self._known
        if self._loose is None:
            self._loose = {k._replace(settings_hash="") for k in self._known}
        return key._replace(settings_hash="") in self._loose

    def error(self, key: Key) -> str:
        """Text of the failure that the row tells, or nothing."""
        return self._known[key][0]["error"] if key in self._known else ""

    def put(self, key: Key, metrics: dict[str, float], error: str = "", **columns: Any) -> None:
        """Keep the scores of one protocol, or the error that there is instead of them."""
        common = {**columns, **key._asdict(), "error": error, "date": now()}
        values = {"error": float("nan")} if error else metrics
        records = [{**common, "metric": name, "value": float(value)} for name, value in values.items()]
        unknown = set(records[0]) - set(COLUMNS)
        if unknown:
            raise KeyError(f"Expected columns among {list(COLUMNS)}, found {sorted(unknown)}.")
        file = self.folder / key.file
        with written_file(file) as fresh:
            fresh.write_text(json.dumps(records), encoding="utf-8")
        self._read.add(file)
        self._take(key, records)

    def drop(self, which: Callable[[Key, str], bool]) -> int:
        """Forget rows for which ``which(key, error)`` holds, and say how many they were."""
        gone = [key for key, records in self._known.items() if which(key, records[0]["error"])]
        for key in gone:
            del self._known[key]
            (self.folder / key.file).unlink(missing_ok=True)
        self._loose = None
        return len(gone)

    def table(self) -> pd.DataFrame:
        """All rows, tidy: one for each set, method, seed, protocol and metric."""
        records = [record for key in sorted(self._known) for record in self._known[key]]
        columns = {name: [r.get(name, _EMPTY[kind]) for r in records] for name, kind in COLUMNS.items()}
        return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in COLUMNS.items()})

    def write(self) -> None:
        """Write the Parquet file, with the rows that another run on the same cache has added meanwhile."""
        self._read_folder()
        if self._known or self.parquet.exists():
            with written_file(self.parquet) as fresh:
                self.table().to_parquet(fresh, index=False, compression="zstd")


def _key(record: dict[str, Any]) -> Key:
    return Key(*(int(record[f]) if COLUMNS[f] == "int64" else str(record[f]) for f in Key._fields))
