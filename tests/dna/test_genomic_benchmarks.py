"""Genomic Benchmarks from coordinates and from texts, on a genome made here."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from diffaug import dna

GENOME = {
    "1": "ACGTACGGTTNACCAGTCATGCATCGATTACGATCGG",
    "X": "TTGACCATGCAAGCTTACGT",
    "ENST00000371014.7": "GGGGGCCCCCAAAAATTTTT",
}
#: (class, part) -> rows: region, start, end, strand
COORDINATES = {
    ("positive", "train"): [("chr1", 0, 10, "+"), ("chrX", 2, 9, "-")],
    ("positive", "test"): [("chr1", 5, 15, "-")],
    ("negative", "train"): [("chrX", 0, 5, "+"), ("chr1", 20, 30, "+"), ("chr1", 1, 4, "-")],
    ("negative", "test"): [("chrX", 10, 20, "+")],
}


def expected(rows: list[tuple[str, int, int, str]]) -> list[str]:
    """By hand: cut, and for the minus strand turn around and complement."""
    found = []
    for region, start, end, strand in rows:
        s = GENOME[region.removeprefix("chr")][start:end]
        found.append(s[::-1].translate(str.maketrans("ACGT", "TGCA")) if strand == "-" else s)
    return found


def write_genome(path: Path, wrap: int = 7, lower: bool = False) -> Path:
    lines = []
    for name, s in GENOME.items():
        lines += [f">{name} dna:chromosome", *(s[i : i + wrap] for i in range(0, len(s), wrap))]
    text = "\n".join(lines) + "\n"
    text = "".join(line.lower() if lower and line[0] != ">" else line for line in text.splitlines(keepends=True))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def table_of(rows: list[Any], index: bool = False) -> bytes:
    head = ",id,region,start,end,strand" if index else "id,region,start,end,strand"
    lines = [head] + [f"{f'{i},' if index else ''}{i},{','.join(map(str, row))}" for i, row in enumerate(rows)]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The set as the benchmark's repository has it."""
    root = tmp_path / "some_set"
    for (label, part), rows in COORDINATES.items():
        (root / part).mkdir(parents=True, exist_ok=True)
        (root / part / f"{label}.csv.gz").write_bytes(gzip.compress(table_of(rows, index=label == "negative")))
    (root / "metadata.yaml").write_text("version: 0\n")
    return root


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write_genome(tmp_path / "genome.fa.gz")


def check(table: dna.SequenceTable) -> None:
    """Classes in the order of their names, training rows first, every row its sequence."""
    order = [(c, s) for s in ("train", "test") for c in ("negative", "positive")]
    assert table.sequences == [s for key in order for s in expected(COORDINATES[key])]
    assert table.labels is not None
    assert table.split is not None
    assert table.labels.tolist() == [c for c, s in order for _ in COORDINATES[c, s]]
    assert table.split.tolist() == [s for c, s in order for _ in COORDINATES[c, s]]


def test_coordinates(folder: Path, genome: Path) -> None:
    table = dna.read_genomic_benchmark(folder, reference=genome)
    check(table)
    assert table.names[0] == "train/negative/chrX:0-5(+)"
    # One that is known without any code: chr1, 5 to 15, minus: CGGTTNACCA, turned around.
    assert table.part("test").sequences[1] == "TGGTNAACCG"


def test_lower_case_and_plain_reference(folder: Path, tmp_path: Path) -> None:
    check(dna.read_genomic_benchmark(folder, reference=write_genome(tmp_path / "g.fa", wrap=100, lower=True)))


def test_endings_in_upper_case(folder: Path, texts: Path, genome: Path) -> None:
    expected = dna.read_genomic_benchmark(folder, reference=genome)
    for path in folder.rglob("*.csv.gz"):
        path.rename(path.with_name(path.name.replace(".csv.gz", ".CSV.GZ")))
    found = dna.read_genomic_benchmark(folder, reference=genome)
    assert (found.sequences, found.names) == (expected.sequences, expected.names)
    assert found.labels is not None and set(found.labels) == {"negative", "positive"}
    expected = dna.read_genomic_benchmark(texts)
    for path in texts.rglob("*.txt"):
        path.rename(path.with_suffix(".TXT"))
    assert dna.read_genomic_benchmark(texts).names == expected.names


def test_a_reference_for_each_class(folder: Path, genome: Path, tmp_path: Path) -> None:
    check(dna.read_genomic_benchmark(folder, reference={"positive": genome, "negative": genome}))
    other = tmp_path / "other.fa"
    other.write_text(">chr1\n" + "T" * 40 + "\n>chrX\n" + "T" * 40 + "\n")
    table = dna.read_genomic_benchmark(folder, reference={"positive": genome, "negative": other})
    assert table.labels is not None
    assert set("".join(np.array(table.sequences)[table.labels == "negative"])) == {"T", "A"}
    assert table.part("train").sequences[3:] == expected(COORDINATES["positive", "train"])
    with pytest.raises(KeyError, match="Expected a reference for each class, found none for 'negative'"):
        dna.read_genomic_benchmark(folder, reference={"positive": genome})


def test_transcripts_without_their_version(tmp_path: Path, genome: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for label in "ab":
            rows = [("ENST00000371014", 3, 7, "+")]
            (tmp_path / "set" / part / f"{label}.csv").write_bytes(table_of(rows))
    table = dna.read_genomic_benchmark(tmp_path / "set", reference=genome)
    assert table.sequences == ["GGCC"] * 4


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """The same set as the benchmark's archive has it: one file a sequence."""
    root = tmp_path / "archive" / "some_set"
    for (label, part), rows in COORDINATES.items():
        (root / part / label).mkdir(parents=True)
        for i, s in enumerate(expected(rows)):
            (root / part / label / f"{i + 9}.txt").write_text(s)  # 9, 10, 11: numbers, and not text, are sorted
    (root / "train" / ".DS_Store.txt").write_text("x")
    return root


def test_texts(texts: Path, genome: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(dna.read_genomic_benchmark(texts))
    assert not caplog.records
    check(dna.read_genomic_benchmark(texts, reference=genome))  # a command may name one reference for many sets
    assert "The reference is not read" in caplog.text


@pytest.mark.parametrize("kind", ["set.zip", "set.tar.gz", "set.tar"])
def test_archives(texts: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / kind
    if kind.endswith("zip"):
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(texts.rglob("*"), reverse=True):
                file.write(path, path.relative_to(texts.parent))
    else:
        with tarfile.open(archive, "w:gz" if kind.endswith("gz") else "w") as file:
            file.add(texts, "some_set")
    check(dna.read_genomic_benchmark(archive))
    archive.write_bytes(archive.read_bytes()[:-700] if kind.endswith("gz") else archive.read_bytes()[:300])
    with pytest.raises(ValueError, match="Expected a whole .zip or .tar archive, found another or a damaged file"):
        dna.read_genomic_benchmark(archive)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_cut_tar_is_never_read_in_part(texts: Path, tmp_path: Path, mode: Literal["w", "w:gz"]) -> None:
    """Wherever it is cut, also inside of a header or between two, where tarfile takes it for whole."""
    with tarfile.open(tmp_path / "whole", mode) as file:
        for path in sorted(p for p in texts.rglob("*.txt") if p.parent.parent.name == "train"):
            file.add(path, path.relative_to(texts.parent))
        for path in sorted(p for p in texts.rglob("*.txt") if p.parent.parent.name == "test"):
            file.add(path, path.relative_to(texts.parent))
        n_more = 3  # of a class that is there without them
        for i in range(n_more):
            file.add(texts / "test" / "positive" / "9.txt", f"some_set/test/positive/{20 + i}.txt")
        end = file.offset
    content = (tmp_path / "whole").read_bytes()
    assert len(dna.read_genomic_benchmark(tmp_path / "whole").part("test")) == 2 + n_more
    # The last bytes of a compressed one are of the empty blocks behind its end: nothing is lost with them.
    cuts = [end, end - 512, end - 700, end - 1024, end - 1300] if mode == "w" else range(20, len(content) - 100, 40)
    for cut in cuts:
        (tmp_path / "cut").write_bytes(content[:cut])
        with pytest.raises(ValueError, match="Expected a whole .zip or .tar archive"):
            dna.read_genomic_benchmark(tmp_path / "cut")
    if mode == "w":  # a damaged header in the middle
        (tmp_path / "cut").write_bytes(content[: end - 1000] + b"x" + content[end - 999 :])
        with pytest.raises(ValueError, match="Expected a whole .zip or .tar archive"):
            dna.read_genomic_benchmark(tmp_path / "cut")


@pytest.mark.parametrize("kind", ["tar.xz", "zip"])
def test_damage_that_lzma_finds(texts: Path, tmp_path: Path, kind: str) -> None:
    """Its error is none of the others' kind."""
    archive = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
            for path in texts.rglob("*.txt"):
                file.write(path, path.relative_to(texts.parent))
    else:
        with tarfile.open(archive, "w:xz") as file:
            file.add(texts, "some_set")
    assert len(dna.read_genomic_benchmark(archive)) == len(dna.read_genomic_benchmark(texts))
    content = bytearray(archive.read_bytes())
    place = content.index(b"9.txt") + 20 if kind == "zip" else len(content) // 2
    content[place : place + 8] = bytes(255 - byte for byte in content[place : place + 8])
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="Expected a whole .zip or .tar archive, found another or a damaged file"):
        dna.read_genomic_benchmark(archive)


def test_an_archive_with_a_password(texts: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.write(texts / "test" / "positive" / "9.txt", "test/positive/9.txt")
    content = bytearray((tmp_path / "set.zip").read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flags] |= 1  # encrypted
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(ValueError, match="Expected a whole .zip or .tar archive.*password"):
        dna.read_genomic_benchmark(tmp_path / "set.zip")


def test_bad_texts_are_named(texts: Path) -> None:
    (texts / "train" / "negative" / "10.txt").write_text("ACGR")
    with pytest.raises(ValueError, match=r"'R' at position 3.* 'train/negative/10'\. .*\(in '.*some_set'\)"):
        dna.read_genomic_benchmark(texts)
    (texts / "train" / "negative" / "10.txt").write_text("")
    with pytest.raises(ValueError, match=r"found an empty one.* 'train/negative/10'\. \(in '.*some_set'\)"):
        dna.read_genomic_benchmark(texts)


def test_archive_of_coordinates(folder: Path, genome: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in folder.rglob("*"):
            file.write(path, path.relative_to(folder))
    check(dna.read_genomic_benchmark(tmp_path / "set.zip", reference=genome))


def test_order_on_the_disk_does_not_matter(folder: Path, genome: Path, tmp_path: Path) -> None:
    """A copy whose files were made the other way round reads the same."""
    other = tmp_path / "copy"
    for path in sorted(folder.rglob("*.gz"), reverse=True):
        target = other / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    a, b = (dna.read_genomic_benchmark(p, reference=genome) for p in (folder, other))
    assert (a.sequences, a.names) == (b.sequences, b.names)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_missing_things(folder: Path, genome: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a folder or an archive of Genomic Benchmarks, found nothing"):
        dna.read_genomic_benchmark(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="Expected `reference`, a FASTA file, as .* holds coordinates only"):
        dna.read_genomic_benchmark(folder)
    with pytest.raises(FileNotFoundError, match="Expected a FASTA file, found nothing at"):
        dna.read_genomic_benchmark(folder, reference=tmp_path / "none.fa")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Expected folders train and test with <class>.csv.gz or <class>/<id>.txt"):
        dna.read_genomic_benchmark(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"Expected one set in .*found 2: \['a', 'b'\]"):
        shutil.copytree(folder, tmp_path / "two" / "a")
        shutil.copytree(folder, tmp_path / "two" / "b")
        dna.read_genomic_benchmark(tmp_path / "two", reference=genome)
    (folder / "test" / "positive.csv.gz").unlink()
    with pytest.raises(
        ValueError, match=r"Expected two or more classes, each in train and test.*no \['test/positive'\]"
    ):
        dna.read_genomic_benchmark(folder, reference=genome)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([("chr7", 0, 5, "+")], KeyError, r"Did not find 1 regions in .*e.g. 'chr7'. Is it the reference"),
        ([("chrX", 15, 30, "+")], ValueError, r"Expected intervals inside of 'chrX' \('X' has 20 bases\), found 15-30"),
        ([("chrX", 5, 5, "+")], ValueError, "Expected 0 <= start < end in line 2 of .*found 5 and 5"),
        ([("chrX", -1, 5, "+")], ValueError, "found -1 and 5"),
        ([("chrX", 0, 5, ".")], ValueError, r"Expected the strand \+ or - in line 2 of .*found '.'"),
        ([("chrX", "a", 5, "+")], ValueError, "Expected whole numbers in line 2"),
        ([], ValueError, "Expected at least one interval in .*found none"),
    ],
)
def test_bad_coordinates(folder: Path, genome: Path, rows: Any, error: type[Exception], message: str) -> None:
    (folder / "train" / "positive.csv.gz").write_bytes(gzip.compress(table_of(rows)))
    with pytest.raises(error, match=message):
        dna.read_genomic_benchmark(folder, reference=genome)


def test_bad_tables(folder: Path, genome: Path) -> None:
    target = folder / "train" / "positive.csv.gz"
    target.write_bytes(gzip.compress(b"region,start\nchr1,3\n"))
    with pytest.raises(ValueError, match=r"Expected the columns \['region', 'start', 'end', 'strand'\] in .*found"):
        dna.read_genomic_benchmark(folder, reference=genome)
    target.write_bytes(gzip.compress(table_of(COORDINATES["positive", "train"]))[:-9])
    with pytest.raises(ValueError, match="Expected a whole table, found a damaged one"):
        dna.read_genomic_benchmark(folder, reference=genome)


def test_archive_with_tables_written_by_hand(genome: Path, tmp_path: Path) -> None:
    """Byte streams of tar members are read as files of a folder are."""
    with tarfile.open(tmp_path / "set.tgz", "w:gz") as file:
        for (label, part), rows in COORDINATES.items():
            content = table_of(rows)
            info = tarfile.TarInfo(f"deep/down/{part}/{label}.csv")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    check(dna.read_genomic_benchmark(tmp_path / "set.tgz", reference=genome))
