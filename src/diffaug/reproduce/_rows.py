"""Rows of results in a folder of the user's: one for each run, kept as soon as it is known, never half-written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from diffaug.core.config import Config
from diffaug.core.storage import FolderKind, check_target_folder, file_written_whole, leftovers, remove_leftovers
from diffaug.reproduce._arms import artefacts
from diffaug.reproduce._checkpoints import checkpoints_in

SETTINGS, ROWS = "settings.json", "rows.csv"
FOLDER = FolderKind(
    "a folder of `reproduce`",
    SETTINGS,
    (ROWS, *(f"{name}.md" for name in artefacts()), *(f"{a.name}.png" for a in artefacts().values() if a.is_figure)),
)
FORMAT, SCHEMA_VERSION = "diffaug-reproduce", 1
KEY = ("set", "seed", "run")
_ALWAYS = (*KEY, "arm", "method", "settings", "measured", "device", "versions")


@dataclass(frozen=True)
class Settings:
    """What all rows of a folder have in common.

    Attributes
    ----------
    base
        Settings that the arms change.
    n_top_genes
        Variable genes of sets of counts; ``None`` where there are no genes.
    max_obs
        Cells of a set at most; ``None`` for all.
    max_epochs
        Cap on the epochs of a run; ``None`` for none.
    """

    base: Config
    n_top_genes: int | None = 1000
    max_obs: int | None = None
    max_epochs: int | None = None

    def flat(self) -> dict[str, Any]:
        """Every setting by its full name."""
        nested = self.base.to_dict()
        found = {f"{section}.{key}": value for section, part in nested.items() for key, value in part.items()}
        return found | {"n_top_genes": self.n_top_genes, "max_obs": self.max_obs, "max_epochs": self.max_epochs}


class Rows:
    """The rows of a folder, for one process at a time: two would share the checkpoints of a run, and lose each other's rows.

    What is on disk is read anew each time.
    Nothing is written, and with ``overwrite`` nothing is lost, before there is a first row to keep, or a first training
    whose state is to be kept.

    Parameters
    ----------
    folder
        Made if it is not there.
    settings
        Of the runs to come; those of the rows that are there must be the same.
    overwrite
        Forget what is there.

    Raises
    ------
    FileExistsError, NotADirectoryError
        The folder is a file, or holds other things.
    ValueError
        Its rows were made with other settings, or are damaged.
    """

    def __init__(self, folder: Path, settings: Settings, *, overwrite: bool = False) -> None:
        check_folder(folder, settings, overwrite=overwrite)
        self.folder, self._settings, self._anew = folder, settings, overwrite

    def read(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame() if self._anew else read_rows(self.folder / ROWS)

    def find(self, *, run: str, **key: Any) -> dict[str, Any] | None:
        """The row of a run, or ``None``."""
        table = self.read()
        if table.empty:
            return None
        same = table["run"] == run
        for name, value in key.items():
            same &= table[name] == value
        return table[same].iloc[0].to_dict() if same.any() else None

    def put(self, row: Mapping[str, Any]) -> None:
        """Keep a row; it takes the place of one with the same key."""
        others = [old for old in self.read().to_dict("records") if any(old[k] != row[k] for k in KEY)]
        self.begin()
        write_whole(self.folder / ROWS, pd.DataFrame([*others, dict(row)]).to_csv(index=False))

    def begin(self) -> None:
        """Make the folder what it shall be, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._anew:
            self._anew = False
            for path in checkpoints_in(self.folder):
                path.unlink(missing_ok=True)
            for name in (*FOLDER.others, SETTINGS):  # the mark goes last: without it the folder is a foreign one
                remove_leftovers(self.folder / name)
                (self.folder / name).unlink(missing_ok=True)
        if not (self.folder / SETTINGS).exists():
            document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "settings": self._settings.flat()}
            write_whole(self.folder / SETTINGS, json.dumps(document, indent=1) + "\n")


def read_rows(file: Path) -> pd.DataFrame:
    """Rows of a file; none if there is no file."""
    if not file.exists():
        return pd.DataFrame()
    text = dict.fromkeys(("set", "run", "arm", "method", "settings", "measured", "device", "versions", "map"), str)
    try:
        table = pd.read_csv(file, dtype=text, float_precision="round_trip")
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(f"Expected rows of `reproduce` in {str(file)!r}, found something else ({error}).") from error
    lacking = [name for name in _ALWAYS if name not in table]
    if lacking or table[list(KEY)].isna().any(axis=None):
        what = f"no column {lacking[0]!r}" if lacking else "rows without a set, seed or run"
        raise ValueError(
            f"Expected rows of `reproduce` in {str(file)!r}, found {what}. Mend it, or name another folder."
        )
    return table


def check_folder(folder: Path, settings: Settings, *, overwrite: bool) -> None:
    """Refuse a folder that must not be written to, before any work is done; see :class:`Rows`."""
    name = str(folder)
    if overwrite:
        # What a process that was killed while it wrote left behind is no foreign file.
        names = (*FOLDER.others, SETTINGS) if folder.is_dir() else ()
        left = tuple(path.name for name in names for path in leftovers(folder / name))
        left += tuple(path.name for path in checkpoints_in(folder))
        check_target_folder(folder, FOLDER._replace(others=FOLDER.others + left), overwrite=True, how="--overwrite")
        return
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected {name!r} to be a folder, found a file. Choose another name.")
    if not (folder / SETTINGS).is_file():
        if any(folder.iterdir()):
            raise FileExistsError(
                f"Expected {FOLDER.name}, a new or an empty one, found other things in {name!r}. Choose another folder."
            )
        return
    try:
        document = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        known = document["format"] == FORMAT and document["schema_version"] == SCHEMA_VERSION
        there = dict(document["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"Expected settings of `reproduce` in {str(folder / SETTINGS)!r}, found others.") from error
    if not known:
        raise ValueError(
            f"Expected settings of this version of `reproduce` in {str(folder / SETTINGS)!r}, found others."
        )
    n = len(read_rows(folder / ROWS))
    asked = json.loads(json.dumps(settings.flat()))  # lists for tuples, as in the file
    differing = [k for k in {**there, **asked} if there.get(k) != asked.get(k)]
    if differing:
        said = ", ".join(f"{k} = {there.get(k)} and not {asked.get(k)}" for k in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ValueError(
            f"Expected rows of the settings asked for in {name!r}, found {n} row{'s' * (n != 1)} with {said}{more}. "
            "Name another folder, or pass --overwrite to lose them."
        )


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that it is either the old or the new one, whenever the process is stopped."""
    with file_written_whole(file) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
