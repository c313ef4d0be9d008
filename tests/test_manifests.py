"""Every file in data_manifests/: its schema, and the file it describes where DIFFAUG_DATA_DIR is set."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from diffaug.datasets import Manifest, path
from diffaug.datasets._manifest import all_manifests, read_manifest

FOLDER = Path(__file__).parents[1] / "data_manifests"
FILES = sorted(FOLDER.glob("*.toml"))
MANIFESTS = {file.stem: read_manifest(file) for file in FILES}
# Sets with a file of ours, and those that are their authors' own archives, found locally or downloaded.
LOCAL = [name for name, m in MANIFESTS.items() if m.status == "local" and m.url is None]
ARCHIVES = [name for name, m in MANIFESTS.items() if m.url is not None]

# The sets of the paper.
PAPER = {
    "bio": ["ga1457", "sam561", "mc1374", "hcl500", "warpariop", "prot579"],
    "vision": ["cifar10", "cifar100", "stl10", "tinyimagenet"],
    "dna": [
        "dummy_mouse_enhancers_ensembl",
        "demo_coding_vs_intergenomic_seqs",
        "demo_human_or_worm",
        "human_enhancers_cohn",
        "human_enhancers_ensembl",
        "human_ensembl_regulatory",
        "human_nontata_promoters",
        "human_ocr_ensembl",
    ],
}


def test_which_sets_there_are() -> None:
    count = {domain: sum(m.domain == domain for m in map(MANIFESTS.get, LOCAL)) for domain in PAPER}
    assert count == {"bio": 22, "vision": 1, "dna": 14}
    assert set(ARCHIVES) == set(PAPER["vision"])
    for domain in ("bio", "dna"):
        unavailable = {n for n, m in MANIFESTS.items() if m.status == "unavailable" and m.domain == domain}
        assert unavailable == set(PAPER[domain])
    assert [n for n, m in MANIFESTS.items() if m.status == "embedded"] == ["pbmc68k_reduced_scanpy"]


def test_the_package_reads_these_files() -> None:
    assert all_manifests() == MANIFESTS


@pytest.mark.parametrize("name", MANIFESTS)
def test_schema(name: str) -> None:
    """Types and ranges, looked at without the package's own checks."""
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    assert values["name"] == name
    for field in ("title", "licence", "citation", "domain", "status"):
        assert isinstance(values[field], str) and values[field].strip() == values[field] != ""
    assert values["domain"] in ("bio", "dna", "vision")
    if values["status"] == "local":
        assert re.fullmatch("[0-9a-f]{64}", values["sha256"])
        assert isinstance(values["bytes"], int) and values["bytes"] > 0
        suffix = {"bio": "h5ad", "dna": "parquet", "vision": "npz"}[values["domain"]]
        own = f"{name}.{suffix}"
        if "url" in values:  # an archive keeps its authors' name
            own = values["url"].rpartition("/")[2]
        assert values["file"] == f"{values['domain']}/{own}"
        assert values["source"] and values["prepared"] and values["notes"] and values["split"]
        assert re.search("^data: " if "url" in values else "(data: .*; )?repository: ", values["licence"])
    else:
        assert not {"file", "bytes", "sha256", "url"} & set(values)
    if values["status"] != "unavailable":
        assert all(type(size) is int for size in values["shape"]) and len(values["shape"]) >= 2
        assert values["n_classes"] >= 2 and values["label_key"]
        assert values["kind"] in ("counts", "log", "other")
        assert values["labels"] in ("independent", "circular", "unknown")
    else:
        assert values["reason"].endswith(".")


def test_checksums_and_files_are_distinct() -> None:
    for field in ("sha256", "file"):
        values = [getattr(MANIFESTS[name], field) for name in [*LOCAL, *ARCHIVES]]
        assert len(set(values)) == len(values)


def test_relations_name_sets_and_go_both_ways() -> None:
    for name, m in MANIFESTS.items():
        for other in m.related:
            assert name != other and name in MANIFESTS[other].related, (name, other)
        for other in m.stand_ins:
            assert MANIFESTS[other].status == "local" and MANIFESTS[other].domain == m.domain, (name, other)
    assert "worm_neuron_sdc" in MANIFESTS["worm_l2_neurons"].related


def test_sets_with_independent_labels_are_marked() -> None:
    cells = ["pbmc_purified", "cellmix_5lines", "har265", "mice_protein"]
    assert {MANIFESTS[name].labels for name in cells} == {"independent"}
    assert {MANIFESTS[name].labels for name in ("paul15", "mca_bladder", "kang_pbmc", "pbmc68k_reduced")} == {
        "circular"
    }


def test_no_manifest_names_a_disk_or_a_registry() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        text = re.sub('^url = "https?://[^"]*"$', "", text, flags=re.MULTILINE)  # the authors' own page
        assert not re.search(r"(?<![\w.])/(home|work|tmp|mnt|data|root)\b|https?://|[A-Z]:\\", text), file.name


# --- against the files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL)
def test_file_is_the_one_of_the_manifest(data_dir: Path, name: str) -> None:
    file = path(name)  # size and checksum
    m = MANIFESTS[name]
    assert file == data_dir / m.file
    check = {"bio": check_bio, "vision": check_vision}.get(m.domain)
    if check is not None:  # a parquet file needs a library that is no dependency yet; its checksum was compared
        check(file, m)


def check_bio(file: Path, m: Manifest) -> None:
    with h5py.File(file) as h5:
        x = h5["X"]
        shape = x.shape if isinstance(x, h5py.Dataset) else tuple(x.attrs["shape"])
        assert tuple(map(int, shape)) == m.shape
        assert len(h5["obs"][m.label_key]["categories"]) == m.n_classes
        assert (m.batch_key is None) == ("batch" not in h5["obs"])
        values = x[()] if isinstance(x, h5py.Dataset) else x["data"][()]
    whole = bool((values == np.rint(values)).all() and values.min() >= 0)
    pixels = m.name in ("warp_ar10p", "warp_pie10p")
    assert (m.kind == "counts" or pixels) == whole


def check_vision(file: Path, m: Manifest) -> None:
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["images"].shape == m.shape
        assert len(np.unique(arrays[m.label_key])) == m.n_classes


def test_the_folders_own_list_agrees(data_dir: Path) -> None:
    """Oracle: the table that was written when the files were made."""
    table = data_dir / "MANIFEST.tsv"
    if not table.is_file():
        pytest.skip("this DIFFAUG_DATA_DIR has no MANIFEST.tsv")
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert sorted(rows) == sorted(MANIFESTS[name].file for name in LOCAL)
    for name in LOCAL:
        m = MANIFESTS[name]
        row = rows[m.file]
        assert (int(row["bytes"]), row["sha256"]) == (m.bytes, m.sha256)
        features = tuple(int(size) for size in row["features"].split("x"))
        assert (int(float(row["samples"])), *features) == m.shape
        assert int(float(row["classes"])) == m.n_classes
        assert bool(float(row["batches"] or 0)) == (m.batch_key is not None)
