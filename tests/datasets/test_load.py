from __future__ import annotations

import dataclasses
import hashlib
import http.server
import importlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from anndata import AnnData

import diffaug
from diffaug._matrix import describe_matrix
from diffaug.datasets import _files, _load, list_datasets, load, manifest, path
from diffaug.datasets._manifest import Manifest

CONTENT = bytes(range(256)) * 5000  # more than one piece of a download


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data folder, an empty cache folder, and nothing verified yet."""
    monkeypatch.delenv("DIFFAUG_DATA_DIR", raising=False)
    monkeypatch.setenv("DIFFAUG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_files, "_verified", {})
    return tmp_path


def add(monkeypatch: pytest.MonkeyPatch, name: str = "planted", **changes: object) -> Manifest:
    """Make a data set of a small file known."""
    planted = dataclasses.replace(
        manifest("paul15"),
        **{
            "name": name,
            "file": "bio/planted.bin",
            "bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            **changes,
        },
    )
    monkeypatch.setattr(_load, "manifest", lambda wanted: planted if wanted == name else manifest(wanted))
    return planted


def put(folder: Path, content: bytes = CONTENT) -> Path:
    file = folder / "bio" / "planted.bin"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


# --- the table --------------------------------------------------------------------------------------------------------


def test_table_of_all_sets(home: Path) -> None:
    table = list_datasets()
    assert table.index.is_unique and {"bio", "dna", "vision"} == set(table["domain"])
    assert table.loc["cifar10_12k", "n_features"] == 32 * 32 * 3
    assert table.index[table["present"]].tolist() == ["pbmc68k_reduced_scanpy"]
    by_domain = [list_datasets(domain) for domain in ("bio", "dna", "vision")]
    assert sum(map(len, by_domain)) == len(table)
    assert set(by_domain[1]["domain"]) == {"dna"}


def test_table_knows_which_files_are_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "bio").mkdir()
    (home / "bio" / "paul15.h5ad").touch()
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    table = list_datasets("bio")
    assert sorted(table.index[table["present"]]) == ["paul15", "pbmc68k_reduced_scanpy"]


def test_table_of_an_unknown_domain() -> None:
    with pytest.raises(ValueError, match=r"`domain` in \['bio', 'dna', 'vision'\] or None, found 'cells'"):
        list_datasets("cells")  # type: ignore[arg-type]


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zeisel_200genes", "pollen"])
def test_load_gives_what_the_manifest_says(data_dir: Path, name: str) -> None:
    m, adata = manifest(name), load(name)
    assert isinstance(adata, AnnData)
    assert adata.shape == m.shape
    assert adata.obs[m.label_key].nunique() == m.n_classes
    assert (m.batch_key is None) == ("batch" not in adata.obs)
    assert describe_matrix(adata.X).kind == m.kind


def test_a_tampered_copy_is_refused(data_dir: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "bio").mkdir()
    copy = Path(shutil.copy(data_dir / "bio" / "zeisel_200genes.h5ad", home / "bio"))
    copy.chmod(0o644)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    assert load("zeisel_200genes").n_obs == 3005

    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    copy.write_bytes(content)
    expected = manifest("zeisel_200genes").sha256
    with pytest.raises(ValueError, match=f"Expected the sha256 checksum {expected} of '.*' .zeisel_200genes., found "):
        load("zeisel_200genes")


# --- files that the tests make ----------------------------------------------------------------------------------------


def test_a_file_is_found_and_hashed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch)
    file = put(home)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    calls = []
    original = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: calls.append(1) or original(*args))
    assert path("planted") == path("planted") == file
    assert len(calls) == 1
    os.utime(file, ns=(1, 1))
    path("planted")
    assert len(calls) == 2


def test_other_size_and_other_content(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    put(home, CONTENT[:-1])
    with pytest.raises(
        ValueError, match=f"Expected {len(CONTENT)} bytes in '.*planted.bin' .*, found {len(CONTENT) - 1}"
    ):
        path("planted")
    put(home, CONTENT[::-1])
    with pytest.raises(ValueError, match="Expected the sha256 checksum .* found .* Replace it by the original file"):
        path("planted")


def test_a_change_after_the_check_is_noticed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    file = put(home)
    path("planted")
    put(home, CONTENT[::-1])
    os.utime(file, ns=(1, 1))  # clocks of file systems are coarse
    with pytest.raises(ValueError, match="sha256"):
        path("planted")


def test_variable_unset(home: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match="environment variable DIFFAUG_DATA_DIR to name the folder with 'bio/paul15.h5ad', found it unset.*"
        r"Sets that need no file: \['pbmc68k_reduced_scanpy'\]",
    ):
        load("paul15")


def test_file_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home))
    with pytest.raises(
        FileNotFoundError,
        match="Did not find 'bio/paul15.h5ad' of data set 'paul15' in DIFFAUG_DATA_DIR .* Source: statOmics/tradeSeq",
    ):
        path("paul15")


def test_unknown_name() -> None:
    for function in (path, load):
        with pytest.raises(KeyError, match="Did not find a data set 'paul'. Did you mean 'paul15'"):
            function("paul")


@pytest.mark.parametrize("name", ["gue_splice_small", "cifar10_12k", "demo_human_or_worm"])
def test_other_domains(home: Path, name: str) -> None:
    """The message has the call that does read it."""
    domain = manifest(name).domain
    with pytest.raises(ValueError, match=f"of domain 'bio', found '{name}' of domain '{domain}'.*AnnData") as error:
        load(name)
    call = str(error.value).partition("Use `")[2].partition("`")[0]
    assert call == f"diffaug.{domain}.load({name!r})"
    assert callable(importlib.import_module(call.partition(".load")[0]).load)


def test_unavailable_sets_say_why_and_what_is_near(home: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"MC1374 \('mc1374'\) is not available: .* Nearest sets .*: \['mca_bladder'\]"
    ):
        load("mc1374")
    with pytest.raises(FileNotFoundError, match="holds coordinates only, and no file of sequences"):
        path("human_ensembl_regulatory")


def test_the_embedded_set_has_no_file(home: Path, pbmc: AnnData) -> None:
    loaded = load("pbmc68k_reduced_scanpy")
    assert (loaded.X != pbmc.X).nnz == 0
    with pytest.raises(ValueError, match=r"with a file, found 'pbmc68k_reduced_scanpy', which has none. Use `load"):
        path("pbmc68k_reduced_scanpy")


def test_every_embedded_manifest_can_be_loaded() -> None:
    embedded = list_datasets().query("status == 'embedded'").index
    assert sorted(embedded) == sorted(_load.EMBEDDED)


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A web server on this machine: its address, its files, and what it was asked for."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", files, asked
        running.shutdown()
        thread.join()


def leftovers(home: Path) -> list[Path]:
    return [p for p in (home / "cache").rglob("*") if p.is_file()]


def test_download_once_into_the_cache(home: Path, server: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    address, files, asked = server
    files["/planted.bin"] = CONTENT
    add(monkeypatch, url=f"{address}/planted.bin")
    for _ in range(2):
        file = path("planted", progress=False)
        assert file == home / "cache" / "bio" / "planted.bin" and file.read_bytes() == CONTENT
    assert asked == ["/planted.bin"]
    assert leftovers(home) == [file]


def test_the_data_folder_comes_first(home: Path, server: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    address, _, asked = server
    add(monkeypatch, url=f"{address}/planted.bin")
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(home / "data"))
    file = put(home / "data")
    assert path("planted") == file
    assert asked == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(CONTENT[::-1], "Expected the sha256 checksum"), (CONTENT[:-9], "Expected 1280000 bytes in .*, found 1279991")],
)
def test_a_wrong_download_leaves_nothing_behind(
    home: Path, server: tuple, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    address, files, _ = server
    files["/planted.bin"] = content
    add(monkeypatch, url=f"{address}/planted.bin")
    with pytest.raises(ValueError, match=message):
        path("planted", progress=False)
    assert leftovers(home) == []


def test_a_server_that_refuses(home: Path, server: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, url=f"{server[0]}/nowhere.bin")
    with pytest.raises(
        OSError, match="Could not download 'planted' from http.*nowhere.bin: .*404.* put the file at 'bio"
    ):
        path("planted", progress=False)
    assert leftovers(home) == []


def test_a_server_that_is_not_there(home: Path, server: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_TIMEOUT", 5.0)
    add(monkeypatch, url="http://127.0.0.1:1/planted.bin")  # nothing listens on port 1
    with pytest.raises(OSError, match="Could not download 'planted'"):
        path("planted", progress=False)
    assert leftovers(home) == []


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DIFFAUG_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _files.cache_folder() == tmp_path / "diffaug"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _files.cache_folder() == Path.home() / ".cache" / "diffaug"


def test_public_names() -> None:
    assert {"list_datasets", "load", "manifest", "path", "pbmc68k_reduced"} <= set(diffaug.datasets.__all__)
