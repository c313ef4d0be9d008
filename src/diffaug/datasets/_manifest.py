"""What is known of a data set: one TOML file each, read into a checked record."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

Domain = Literal["bio", "dna", "vision"]
Status = Literal["local", "embedded", "unavailable"]
Scale = Literal["counts", "log", "other"]
LabelOrigin = Literal["independent", "circular", "unknown"]


@dataclass(frozen=True)
class Manifest:
    """Facts about one data set, as its TOML file in ``data_manifests/`` states them.

    Parameters
    ----------
    name
        Name to load it by; also that of its manifest file.
    title
        One line on what it is.
    domain
        ``"bio"``, ``"dna"`` or ``"vision"``.
    status
        ``"local"``: a file found under ``DIFFAUG_DATA_DIR`` or, where ``url`` is given, downloaded. ``"embedded"``: comes
        with an installed package. ``"unavailable"``: named in the paper, but there is no file with a known checksum.
    licence
        Of the data as far as it is stated, and of the repository the file was taken from.
    citation
        The publication.
    notes
        What to know before using it.
    prepared
        How the file was made from its source.
    source
        Repository (``owner/name``) of the source, with commit and path where they are known.
    file
        Path relative to ``DIFFAUG_DATA_DIR``.
    url
        Address the file can be downloaded from, if there is one.
    bytes, sha256
        Size and checksum of the file.
    shape
        Samples, and features of one sample (for DNA the length).
    n_classes
        Distinct labels.
    label_key, batch_key
        Column of ``.obs`` (bio), of the table (DNA) or name of the array (vision) with labels, and with batch, donor or
        subject.
    kind
        ``"counts"``, ``"log"`` or ``"other"``: what the values are.
    scaling
        The same in words.
    labels
        ``"circular"``: derived by the authors from the same features, so that agreement with them flatters methods that
        resemble theirs. ``"independent"``: from another source. ``"unknown"``.
    split
        The natural split into training and test samples, in words.
    related
        Data sets that share samples or the experiment with this one: never train on one and test on the other.
    stand_ins
        For an unavailable set, the nearest ones that can be loaded.
    reason
        Why an unavailable set is not available.
    """

    name: str
    title: str
    domain: Domain
    status: Status
    licence: str
    citation: str
    notes: str = ""
    prepared: str = ""
    source: str = ""
    file: str | None = None
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    n_classes: int | None = None
    label_key: str | None = None
    batch_key: str | None = None
    kind: Scale | None = None
    scaling: str = ""
    labels: LabelOrigin = "unknown"
    split: str = ""
    related: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    reason: str | None = None

    def __post_init__(self) -> None:
        for field, hint in typing.get_type_hints(type(self)).items():
            _check_type(self.name, field, hint, getattr(self, field))
        _check_values(self)
        _check_status(self)


# Fields that a set needs, and those it must not have, by its status.
_FILE_FIELDS = ("file", "bytes", "sha256")
_CONTENT_FIELDS = ("shape", "n_classes", "label_key", "kind")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "local": (*_FILE_FIELDS, *_CONTENT_FIELDS),
    "embedded": _CONTENT_FIELDS,
    "unavailable": ("reason",),
}
_FORBIDDEN: dict[str, tuple[str, ...]] = {
    "local": ("reason",),
    "embedded": (*_FILE_FIELDS, "url", "reason"),
    "unavailable": (*_FILE_FIELDS, "url"),
}


def _check_type(name: str, field: str, hint: Any, value: Any) -> None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    choices: list[str] = []
    for option in options:
        if typing.get_origin(option) is Literal:
            choices = list(typing.get_args(option))
            if value in choices:
                return
        elif typing.get_origin(option) is tuple:
            kind = typing.get_args(option)[0]
            if isinstance(value, tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value):
                return
        elif isinstance(value, option) and not isinstance(value, bool):
            return
    if choices and isinstance(value, str):
        raise ValueError(f"Expected `{field}` of manifest {name!r} in {choices}, found {value!r}.")
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise TypeError(f"Expected `{field}` of manifest {name!r} of type {expected}, found {value!r}.")


def _check_values(m: Manifest) -> None:
    def check(ok: bool, expected: str, found: object) -> None:
        if not ok:
            raise ValueError(f"Expected {expected} in manifest {m.name!r}, found {found!r}.")

    check(re.fullmatch(r"[A-Za-z0-9_]+", m.name) is not None, "a `name` of letters, digits and _", m.name)
    for field in ("title", "licence", "citation"):
        check(bool(getattr(m, field).strip()), f"a `{field}`", getattr(m, field))
    if m.file is not None:
        path = PurePosixPath(m.file)
        inside = not path.is_absolute() and ".." not in path.parts and "\\" not in m.file and bool(path.parts)
        check(inside, "`file` relative to the data folder and inside it", m.file)
    if m.url is not None:
        check(re.match(r"https?://", m.url) is not None, "`url` to start with https:// or http://", m.url)
    if m.bytes is not None:
        check(m.bytes > 0, "`bytes` above 0", m.bytes)
    if m.sha256 is not None:
        check(re.fullmatch(r"[0-9a-f]{64}", m.sha256) is not None, "`sha256` of 64 lower-case hex digits", m.sha256)
    if m.shape is not None:
        check(len(m.shape) >= 2 and min(m.shape) > 0, "`shape` of two or more numbers above 0", list(m.shape))
    if m.n_classes is not None:
        check(m.n_classes >= 2, "`n_classes` of at least 2", m.n_classes)


def _check_status(m: Manifest) -> None:
    for field in _REQUIRED[m.status]:
        if getattr(m, field) is None:
            raise ValueError(f"Expected `{field}` in manifest {m.name!r}, whose status is {m.status!r}; found none.")
    for field in _FORBIDDEN[m.status]:
        if getattr(m, field) is not None:
            raise ValueError(
                f"Expected no `{field}` in manifest {m.name!r}, whose status is {m.status!r}; "
                f"found {getattr(m, field)!r}."
            )


def read_manifest(path: Path) -> Manifest:
    """Read and check one TOML file.

    Parameters
    ----------
    path
        The file; its stem must be the name of the data set.

    Raises
    ------
    TypeError, ValueError
        If the file is no TOML, or a field is missing, unknown, of the wrong type or outside its range.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a TOML file, found {path.name!r} that cannot be read: {error}.") from error
    known = [f.name for f in fields(Manifest)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Expected fields of {path.name!r} among {known}, found {key!r}.{hint}")
    missing = [f.name for f in fields(Manifest) if f.default is MISSING and f.name not in values]
    if missing:
        raise ValueError(f"Expected {missing} in {path.name!r}, found none.")
    tupled: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    parsed = Manifest(**tupled)
    if parsed.name != path.stem:
        raise ValueError(f"Expected `name` {path.stem!r} in {path.name!r}, found {parsed.name!r}.")
    return parsed


def manifest_folder(package: Path | None = None) -> Path:
    """Folder with the manifests: inside the package when it is installed, at the repository's root in a checkout."""
    package = Path(__file__).resolve().parent if package is None else package
    installed = package / "manifests"
    if installed.is_dir():
        return installed
    for root in package.parents[:3]:
        if (root / "pyproject.toml").is_file() and (root / "data_manifests").is_dir():
            return root / "data_manifests"
    raise FileNotFoundError(
        f"Did not find the data manifests, neither in '{installed}' nor in a source checkout around it. "
        "Install diffaug again."
    )


@cache
def all_manifests() -> dict[str, Manifest]:
    """Every manifest by name, in the order of domain, status and name."""
    found = [read_manifest(path) for path in manifest_folder().glob("*.toml")]
    order = {s: i for i, s in enumerate(typing.get_args(Status))}
    return {m.name: m for m in sorted(found, key=lambda m: (m.domain, order[m.status], m.name.lower()))}


def manifest(name: str) -> Manifest:
    """What is known of a data set.

    Parameters
    ----------
    name
        One of the names of :func:`diffaug.datasets.list_datasets`.

    Returns
    -------
    The checked record.

    Raises
    ------
    KeyError
        If there is no such set; the message has the nearest names.

    Examples
    --------
    >>> import diffaug
    >>> diffaug.datasets.manifest("paul15").shape
    (2660, 3004)
    """
    known = all_manifests()
    if name not in known:
        lowered = {k.lower(): k for k in known}
        near = [lowered[k] for k in difflib.get_close_matches(str(name).lower(), lowered, n=3)]
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "See `diffaug.datasets.list_datasets()`."
        raise KeyError(f"Did not find a data set {name!r}. {hint}")
    return known[name]
