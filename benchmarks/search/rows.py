"""Rows of the search: one for each set, seed and arm, with its scores; each is kept as soon as it is known.

A row is a small file in the cache first. The Parquet file that is committed is made from itself and those files, so that
two runs on one cache do not lose each other's rows, and a killed run loses none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from harness.store import settings_hash, unread

from diffaug.core.storage import written_file


class Key(NamedTuple):
    """What a row is about. ``n_train`` cells are trained on and the others judged, 0: all are both; ``panel`` is the
    number of features kept, those of the greatest variance, 0: all.
    """

    kind: str
    set: str
    max_obs: int
    n_top_genes: int
    panel: int
    n_train: int
    seed: int
    arm: str
    settings_hash: str

    @property
    def file(self) -> str:
        """Row file, below the folder of rows."""
        return f"{self.set}/{self.seed}-{settings_hash(self._asdict())}.json"


SCORES = ("linear", "knn", "kmeans", "nmi")
#: Columns of the Parquet file and their types. ``study`` is the number of the notebook's entry, ``readings`` whatever else
#: was measured, as JSON.
COLUMNS: dict[str, str] = {
    "study": "str", "kind": "str", "set": "str", "seed": "int64", "arm": "str", "code": "str", "twin": "str",
    "n_train": "int64", "panel": "int64", "max_obs": "int64", "n_top_genes": "int64", "n_obs": "int64",
    "n_features": "int64", "trust": "float64", "rate": "float64", "linear": "float64", "knn": "float64",
    "kmeans": "float64", "nmi": "float64", "ari": "float64", "seconds_before": "float64", "seconds": "float64",
    "readings": "str", "settings": "str", "settings_hash": "str", "versions": "str", "threads": "int64", "date": "str",
}  # fmt: skip
_EMPTY = {"str": "", "int64": 0, "float64": float("nan")}


class SearchRows:
    """All rows that are known: those of the Parquet file and those of the row files, of equal ones the newer.

    Parameters
    ----------
    parquet
        The committed file.
    folder
        Row files, in the cache.
    """

    def __init__(self, parquet: Path, folder: Path) -> None:
        self.parquet, self.folder = parquet, folder
        self._known: dict[Key, dict[str, Any]] = {}
        self._read: set[Path] = set()
        self._read_files()

    def _read_files(self) -> None:
        if self.parquet.exists():
            for record in pd.read_parquet(self.parquet).to_dict("records"):
                self._take(record)
        for record in unread(self.folder, self._read):
            self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        unknown = set(record) - set(COLUMNS)
        if unknown:
            raise KeyError(f"Expected columns among {list(COLUMNS)}, found {sorted(unknown)}.")
        record = {name: record.get(name, _EMPTY[kind]) for name, kind in COLUMNS.items()}
        key = Key(*(record[name] for name in Key._fields))
        if key not in self._known or self._known[key]["date"] <= record["date"]:
            self._known[key] = record

    def has(self, key: Key) -> bool:
        return key in self._known

    def put(self, key: Key, **columns: Any) -> None:
        """Keep a row."""
        record = {**columns, **key._asdict()}
        self._take(record)
        file = self.folder / key.file
        with written_file(file) as fresh:
            fresh.write_text(json.dumps(record), encoding="utf-8")
        self._read.add(file)

    def table(self) -> pd.DataFrame:
        """All rows, those of a study together, in the order in which they were measured."""
        records = sorted(self._known.values(), key=lambda r: (_number(r["study"]), r["date"]))
        return pd.DataFrame({name: pd.Series([r[name] for r in records], dtype=kind) for name, kind in COLUMNS.items()})

    def write(self) -> None:
        """Write the Parquet file, with the rows that others have added meanwhile, here or in the cache."""
        self._read_files()
        if self._known:
            with written_file(self.parquet) as fresh:
                self.table().to_parquet(fresh, index=False, compression="zstd")


def _number(study: str) -> tuple[int, str]:
    return (int(study), study) if study.isdigit() else (10**6, study)
