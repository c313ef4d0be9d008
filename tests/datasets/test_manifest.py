"""The record, and reading it from a file; the manifests themselves are checked in tests/test_manifests.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import diffaug
from diffaug.datasets import Manifest, manifest
from diffaug.datasets._manifest import manifest_folder, read_manifest

LOCAL = """
name = "cells"
title = "Cells"
domain = "bio"
status = "local"
file = "bio/cells.h5ad"
bytes = 12
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
shape = [3, 4]
n_classes = 2
label_key = "cell_type"
kind = "counts"
licence = "none stated"
citation = "Nobody 2000"
"""


def parse(folder: Path, text: str) -> Manifest:
    file = folder / "cells.toml"
    file.write_text(text, encoding="utf-8")
    return read_manifest(file)


def without(field: str) -> str:
    return "".join(line for line in LOCAL.splitlines(keepends=True) if not line.startswith(f"{field} ="))


def test_reads_a_manifest(tmp_path: Path) -> None:
    m = parse(tmp_path, LOCAL)
    assert (m.name, m.shape, m.bytes, m.batch_key, m.url, m.related) == ("cells", (3, 4), 12, None, None, ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        m.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("field", ["name", "title", "domain", "status", "licence", "citation"])
def test_fields_that_every_set_needs(tmp_path: Path, field: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected \['{field}'\] in 'cells.toml', found none"):
        parse(tmp_path, without(field))


@pytest.mark.parametrize("field", ["file", "bytes", "sha256", "shape", "n_classes", "label_key", "kind"])
def test_fields_that_a_local_set_needs(tmp_path: Path, field: str) -> None:
    with pytest.raises(
        ValueError, match=f"Expected `{field}` in manifest 'cells', whose status is 'local'; found none"
    ):
        parse(tmp_path, without(field))


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('domain = "sound"', ValueError, r"`domain` of manifest 'cells' in \['bio', 'dna', 'vision'\], found 'sound'"),
        ('status = "lost"', ValueError, r"`status` of manifest 'cells' in \['local', 'embedded', 'unavailable'\]"),
        ('kind = "scaled"', ValueError, r"`kind` of manifest 'cells' in \['counts', 'log', 'other'\], found 'scaled'"),
        ("kind = 3", TypeError, "`kind` of manifest 'cells' of type .*, found 3"),
        ('labels = "good"', ValueError, r"`labels` of manifest 'cells' in \['independent', 'circular', 'unknown'\]"),
        ('bytes = "12"', TypeError, r"`bytes` of manifest 'cells' of type int \| None, found '12'"),
        ("bytes = 12.0", TypeError, "`bytes` of manifest 'cells' of type"),
        ("bytes = true", TypeError, "`bytes` of manifest 'cells' of type"),
        ("bytes = 0", ValueError, "`bytes` above 0 in manifest 'cells', found 0"),
        ('sha256 = "0123"', ValueError, "`sha256` of 64 lower-case hex digits in manifest 'cells', found '0123'"),
        (f'sha256 = "{"A" * 64}"', ValueError, "64 lower-case hex digits"),
        ("shape = [3]", ValueError, r"`shape` of two or more numbers above 0 in manifest 'cells', found \[3\]"),
        ("shape = [3, 0]", ValueError, "two or more numbers above 0"),
        ("shape = [3, 4.5]", TypeError, "`shape` of manifest 'cells' of type"),
        ("n_classes = 1", ValueError, "`n_classes` of at least 2"),
        ('related = "other"', TypeError, "`related` of manifest 'cells' of type"),
        ('file = "/data/cells.h5ad"', ValueError, "`file` relative to the data folder and inside it"),
        ('file = "bio/../../cells.h5ad"', ValueError, "`file` relative to the data folder and inside it"),
        ('file = ""', ValueError, "`file` relative to the data folder and inside it"),
        ('url = "file:///cells.h5ad"', ValueError, "`url` to start with https:// or http://"),
        ('title = " "', ValueError, "Expected a `title` in manifest 'cells'"),
        ('name = "two words"', ValueError, "a `name` of letters, digits and _"),
        ('name = "other"', ValueError, "Expected `name` 'cells' in 'cells.toml', found 'other'"),
        ('reason = "lost"', ValueError, "no `reason` in manifest 'cells', whose status is 'local'; found 'lost'"),
        ('status = "embedded"', ValueError, "no `file` in manifest 'cells', whose status is 'embedded'"),
        ('status = "unavailable"', ValueError, "Expected `reason` in manifest 'cells', whose status is 'unavailable'"),
        ('sha265 = "a"', ValueError, "among .*, found 'sha265'. Did you mean 'sha256'?"),
        ("bytes 12", ValueError, "Expected a TOML file, found 'cells.toml' that cannot be read"),
    ],
)
def test_refuses(tmp_path: Path, line: str, error: type[Exception], message: str) -> None:
    field = line.split(" ")[0]
    with pytest.raises(error, match=message):
        parse(tmp_path, without(field) + line + "\n")


def test_refuses_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "cells.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="Expected a TOML file, found 'cells.toml'"):
        read_manifest(tmp_path / "cells.toml")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("paul_15", "Did you mean 'paul15'"),
        ("GA1457", "Did you mean 'ga1457'"),
        ("kangpbmc", "Did you mean 'kang_pbmc'"),
        ("zzzz", r"See `diffaug.datasets.list_datasets\(\)`"),
        (None, "Did not find a data set None"),
    ],
)
def test_unknown_names_get_the_nearest(name: Any, hint: str) -> None:
    with pytest.raises(KeyError, match=hint):
        manifest(name)


def test_folder_in_a_checkout_and_in_an_installed_package(tmp_path: Path) -> None:
    package = tmp_path / "root" / "src" / "diffaug" / "datasets"
    package.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Did not find the data manifests, neither in .* Install diffaug again"):
        manifest_folder(package)

    checkout = tmp_path / "root" / "data_manifests"
    checkout.mkdir()
    with pytest.raises(FileNotFoundError):  # any folder of that name will not do
        manifest_folder(package)
    (tmp_path / "root" / "pyproject.toml").touch()
    assert manifest_folder(package) == checkout

    (package / "manifests").mkdir()
    assert manifest_folder(package) == package / "manifests"


def test_the_record_is_public() -> None:
    assert isinstance(diffaug.datasets.manifest("paul15"), diffaug.datasets.Manifest)
