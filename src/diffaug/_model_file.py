"""A model's folder: what is written there, and what is read back with its checks.

``config.json`` says what the model is (:class:`Header`), ``weights.safetensors`` holds all tensors, ``history.csv`` the
records of the training. None of them can run code when it is read.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor, nn

from diffaug.backends import Backend
from diffaug.core.checkpoint import versions
from diffaug.core.config import Config, config_from_dict
from diffaug.core.plan import EpochRecord
from diffaug.core.storage import MODEL_FOLDER, written_whole

FORMAT, SCHEMA_VERSION = "diffaug", 2
#: Parts of ``config.json`` that are longer stand on one line, which takes half the room.
_LONGEST_LINE = 5000
#: Columns of the history that models saved before them lack.
_LATER_COLUMNS = {"news", "faith", "realism", "member"}


class Header(NamedTuple):
    """What ``config.json`` holds besides its format and the versions, in its order."""

    backend: str
    event_shape: list
    n_obs: int
    n_cond: int
    has_generator: bool
    random_state: int
    config: dict
    asked: dict
    batches: list
    meta: dict


_KINDS: dict[str, type] = get_type_hints(Header)


class SavedModel(NamedTuple):
    """What was read from ``folder``: of the right kinds, and yet to be put into networks."""

    folder: Path
    header: Header
    tensors: dict[str, Tensor]

    def settings(self, backend: type[Backend]) -> Config:
        """The settings of the training; raises ``ValueError`` where this version knows others."""
        with self._fitting():
            given = self.header.config
            diffusion = given["diffusion"]
            if diffusion.get("sampler") != "ddim":
                diffusion = {**diffusion, "eta": 0.0}  # models of before may have one that nothing read
            domain = backend.settings_of_older(given["domain"])
            sections = {"diffusion": diffusion, "training": _training_of_older(given["training"]), "domain": domain}
            return config_from_dict({**given, **sections}, backend.Settings)

    def asked(self, backend: type[Backend]) -> Config:
        """The settings as they were given to the model, before a fit filled in what it takes from its data."""
        if not self.header.asked:
            return self.settings(backend)
        with self._fitting():
            given = self.header.asked
            asked, open_ = given["domain"], {f.name for f in dataclasses.fields(backend.Settings) if f.default is None}
            # What was left open is not in the file, and stays open.
            older = {k: v for k, v in backend.settings_of_older(asked).items() if k in asked or k not in open_}
            training = _training_of_older(given["training"])
            return config_from_dict({**given, "training": training, "domain": older}, backend.Settings)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected settings that fit this version of diffaug in {str(self.folder)!r}, found others: {error.args[0]}"
            ) from error

    def fill(self, part: str, module: nn.Module) -> None:
        """Put the weights of a part into its network; raises ``ValueError`` where they do not fit."""
        state = {k.removeprefix(f"{part}."): t for k, t in self.tensors.items() if k.startswith(f"{part}.")}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"Expected weights of the {part} that fit config.json in {str(self.folder)!r}, found others: "
                + " ".join(str(error).split())
            ) from error

    def is_ensemble(self, part: str) -> bool:
        """Whether a part is an ensemble; what the generator is conditioned on was the first encoder alone in models of before."""
        return any(name.startswith(f"{part}.members.") for name in self.tensors)

    def conditions(self) -> Tensor:
        """Condition of each training event; raises ``ValueError`` where one of each is not there."""
        found, n_obs = self.tensors.get("conditions"), self.header.n_obs
        if found is None or found.shape != (n_obs, self.header.n_cond):
            raise ValueError(f"Expected conditions of {n_obs} training events in {str(self.folder)!r}, found others.")
        return found

    def strata(self) -> Tensor | None:
        """Stratum of each training event, where the domain has strata; raises ``ValueError`` for those of others."""
        found, n_obs = self.tensors.get("strata"), self.header.n_obs
        if found is not None and found.shape != (n_obs,):
            raise ValueError(f"Expected strata of {n_obs} training events in {str(self.folder)!r}, found others.")
        return found

    def batch_codes(self) -> Tensor | None:
        """Batch of each training event, where the generator is told it; raises ``ValueError`` for those of others."""
        found, n_obs = self.tensors.get("batches"), self.header.n_obs
        if not self.header.batches:
            return None
        if (
            found is None
            or found.shape != (n_obs,)
            or not 0 <= int(found.min()) <= int(found.max()) < len(self.header.batches)
        ):
            raise ValueError(f"Expected batches of {n_obs} training events in {str(self.folder)!r}, found others.")
        return found.long()

    def history(self) -> list[EpochRecord]:
        """Records of the training; raises ``ValueError`` where they are damaged."""
        return _read_history(self.folder / "history.csv")


def _training_of_older(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training; models of before have no ensemble."""
    return {"n_encoders": 1, **values}


def write_model(
    path: object, header: Header, tensors: Mapping[str, Tensor], history: Iterable[EpochRecord], *, overwrite: bool
) -> Path:
    """Write a folder, whole or not at all; :meth:`diffaug.DiffAug.save` says what may be raised."""
    from safetensors.torch import save_file

    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "versions": versions(), **header._asdict()}
    target = _folder(path)
    with written_whole(target, kind=MODEL_FOLDER, overwrite=overwrite) as folder:
        save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, folder / "weights.safetensors")
        (folder / "config.json").write_text(_json_text(document), encoding="utf-8")
        with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(f.name for f in dataclasses.fields(EpochRecord))
            writer.writerows(dataclasses.astuple(r) for r in history)
    return target


def read_model(path: object) -> SavedModel:
    """Read a folder; :meth:`diffaug.DiffAug.load` says what may be raised."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = _folder(path)
    for name in (MODEL_FOLDER.marker, *MODEL_FOLDER.others):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"Expected a model folder with {name!r}, found none in {str(folder)!r}.")
    header = _read_header(folder / "config.json")
    try:
        tensors = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise ValueError(
            f"Expected whole safetensors weights in {str(folder)!r}, found a damaged file ({error}). Save the model again."
        ) from error
    return SavedModel(folder, header, tensors)


def _json_text(document: Mapping[str, Any]) -> str:
    """JSON with a line for each setting, but not for each training event."""
    parts = []
    for key, value in document.items():
        text = json.dumps(value)
        if len(text) <= _LONGEST_LINE:
            text = json.dumps(value, indent=1).replace("\n", "\n ")
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _folder(path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise TypeError(f"Expected `path` to name a folder, found {path!r}.")
    return Path(path)


def _read_header(file: Path) -> Header:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected JSON in {str(file)!r}, found something else ({error}).") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"Expected a diffaug model in {str(file)!r}, found another kind of file.")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"Expected a model of schema version {SCHEMA_VERSION}, found {document.get('schema_version')} in {str(file)!r}. "
            "Use the diffaug version that wrote it, or a newer one."
        )
    document.setdefault("asked", {})  # models of before do not know
    document.setdefault("batches", [])
    for key, kind in _KINDS.items():
        if key not in document:
            raise ValueError(f"Expected {list(_KINDS)} in {str(file)!r}, found no {key!r}.")
        if type(document[key]) is not kind:
            raise ValueError(f"Expected {key!r} to be a {kind.__name__} in {str(file)!r}, found {document[key]!r}.")
    header = Header(**{key: document[key] for key in _KINDS})
    sizes = [*header.event_shape, header.n_obs, header.n_cond, 1 + header.random_state]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"Expected positive sizes in {str(file)!r}, found {sizes}.")
    return header


def _read_history(file: Path) -> list[EpochRecord]:
    fields = {f.name: f.type for f in dataclasses.fields(EpochRecord)}
    cast = {"int": int, "float": float, "Phase": str}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not fields.keys() - _LATER_COLUMNS <= set(rows[0]) <= fields.keys():
        raise ValueError(f"Expected the columns {list(fields)} in {str(file)!r}, found {list(rows[0])}.")
    try:
        return [EpochRecord(**{k: cast[str(fields[k])](v) for k, v in row.items()}) for row in rows]
    except (TypeError, ValueError) as error:  # a line cut short, or no numbers
        raise ValueError(
            f"Expected numbers in every column of {str(file)!r}, found a damaged line ({error})."
        ) from error
