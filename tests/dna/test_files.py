"""FASTA, CSV, TSV, Parquet: what is read, what is written, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diffaug import dna

FASTA = ">one first record\nACGT\nacgtN\n\n>two\nTTT\n"
CSV = "sequence,label,split,name\nACGT,b,train,x\nNA,a,test,y\n"


def write(path: Path, content: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["s.fa", "s.fasta", "s.FNA", "s.fa.gz"])
def test_fasta(tmp_path: Path, name: str) -> None:
    table = dna.read_sequences(write(tmp_path / name, FASTA))
    assert table.sequences == ["ACGTACGTN", "TTT"]
    assert table.names == ["one", "two"]
    assert table.labels is None
    assert table.split is None


@pytest.mark.parametrize(("name", "separator"), [("s.csv", ","), ("s.tsv", "\t"), ("s.csv.gz", ",")])
def test_tables(tmp_path: Path, name: str, separator: str) -> None:
    """NA is a sequence, no missing value."""
    table = dna.read_sequences(write(tmp_path / name, CSV.replace(",", separator)))
    assert table.sequences == ["ACGT", "NA"]
    assert table.names == ["x", "y"]
    assert table.labels is not None
    assert table.labels.tolist() == ["b", "a"]
    assert len(table.part("train")) == 1
    assert table.part("test").sequences == ["NA"]
    assert table.subset(np.array([1, 0])).names == ["y", "x"]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install "diffaug[dna]"')
    frame = pd.DataFrame({"seq": ["ACGT", "TT"], "kind": [1, 0], "split": ["train", "test"]})
    frame.to_parquet(tmp_path / "s.parquet")
    table = dna.read_sequences(tmp_path / "s.parquet", label_key="kind")
    assert table.sequences == ["ACGT", "TT"]
    assert table.labels is not None
    assert table.labels.tolist() == [1, 0]
    assert table.names == ["0", "1"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match=r"Expected a readable .parquet file, found another or a damaged one"):
        dna.read_sequences(tmp_path / "bad.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.parquet").write_bytes(b"")

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(ImportError, match=r'Expected pyarrow to read \'s.parquet\'.*pip install "diffaug\[dna\]"'):
        dna.read_sequences(tmp_path / "s.parquet")


def test_columns_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "dna,y,id\nACG,1,p\nTTT,2,q\n")
    table = dna.read_sequences(path, sequence_key="dna", label_key="y", name_key="id")
    assert (table.sequences, table.names) == (["ACG", "TTT"], ["p", "q"])
    with pytest.raises(
        KeyError, match=r"column 'sequence' in .*Columns: \['dna', 'y', 'id'\]. Name the one .*`sequence_key`"
    ):
        dna.read_sequences(path)
    with pytest.raises(KeyError, match="Did not find the column 'class'"):
        dna.read_sequences(path, sequence_key="dna", label_key="class")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.fa", "ACGT\n", "Expected a FASTA file that starts with '>', found 'ACGT' in line 1"),
        ("s.fa", ">a\n>b\nACGT\n", "Expected a sequence for each name in .*found none for 'a'"),
        ("s.fa", ">a\nACGT\n>b\n", "found none for 'b'"),
        ("s.fa", ">\nACGT\n", "Expected a name behind '>' in line 1"),
        ("s.fa", "", "Expected at least one record in .*found none"),
        ("s.fa", ">a\nACG\n>b\nACGU\n", r"found 'U' at position 3 of sequence 1, 'b'. .*RNA.* \(in '.*s.fa'\)"),
        ("s.fa", ">a\nMKVLAAG\n", r"found 'M' at position 0 of sequence 0, 'a'. This looks like protein"),
        ("s.csv", "name,sequence\np,ACGR\n", r"found 'R' at position 3 of sequence 0, 'p'. Ambiguous"),
        ("s.csv", "sequence\nACGR\n", r"found 'R' at position 3 of sequence 0. Ambiguous"),
        ("s.csv", "", "Expected a readable .csv file"),
        ("s.csv", "sequence\n", r"Expected at least 1 sequence, found none. \(in "),
        ("s.csv", 'sequence\nACGT\n""\n', "found an empty one at place 1"),
        ("s.txt", "ACGT", "Expected a file that ends in .fa, .fasta, .* or .parquet, found 's.txt'"),
        ("s.gz", "ACGT", "found 's.gz'"),
        ("s.parquet.gz", "ACGT", "found 's.parquet.gz'"),
        ("s.bed", "chr1\t0\t9\n", r"found 's.bed'. It has coordinates .* -fi genome.fa -bed .*/s.bed -fo .*/s.fa`"),
        ("s.gff3.gz", "chr1\n", r"found 's.gff3.gz'. .* `bedtools getfasta -s .*/s.gff3.gz -fo .*/s.fa`"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dna.read_sequences(write(tmp_path / name, content))


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(FASTA.encode() * 50)
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.fa.gz").write_text(FASTA)
    (tmp_path / "noise.fa").write_bytes(bytes(range(255, 0, -1)))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(CSV.encode() * 50)[:40])
    for name in ("cut.fa.gz", "plain.fa.gz"):
        with pytest.raises(ValueError, match="Expected a whole gzip file, found a damaged or cut one"):
            dna.read_sequences(tmp_path / name)
    with pytest.raises(ValueError, match="found one that is no text"):
        dna.read_sequences(tmp_path / "noise.fa")
    with pytest.raises(ValueError, match="found another or a damaged one"):
        dna.read_sequences(tmp_path / "cut.csv.gz")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a file of sequences, found nothing at"):
        dna.read_sequences(tmp_path / "none.fa")
    (tmp_path / "folder.fa").mkdir()
    with pytest.raises(IsADirectoryError, match="found a folder"):
        dna.read_sequences(tmp_path / "folder.fa")
    with pytest.raises(ValueError, match="Expected no column names for a FASTA file"):
        dna.read_sequences(write(tmp_path / "s.fa", FASTA), label_key="y")


@pytest.mark.parametrize("name", ["o.fa", "o.fasta.gz", "o.csv", "o.csv.gz", "o.fa.GZ", "o.csv.GZ"])
def test_write_and_read(tmp_path: Path, name: str) -> None:
    names = ["a", "b" if "fa" in name else 'with "quotes", and a comma']
    dna.write_sequences(tmp_path / name, ["ACGT", "NNA"], names)
    table = dna.read_sequences(tmp_path / name)
    assert (table.sequences, table.names) == (["ACGT", "NNA"], names)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.lower().endswith(".gz")


def test_bad_writes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected an output that ends in .*found 'o.parquet'"):
        dna.write_sequences(tmp_path / "o.parquet", ["A"], ["a"])
    with pytest.raises(ValueError, match=r"found 'o.bed'.$"):  # advice on reading would be none here
        dna.write_sequences(tmp_path / "o.bed", ["A"], ["a"])
    with pytest.raises(ValueError, match="Expected as many names as sequences, found 2 and 1"):
        dna.write_sequences(tmp_path / "o.fa", ["A"], ["a", "b"])
    for name in ("", " ", "two\nlines", "two\r"):  # would not be read back
        with pytest.raises(ValueError, match="Expected names of one line in a FASTA file, found .* Write a .csv file"):
            dna.write_sequences(tmp_path / "o.fa", ["A", "C"], ["a", name])
    assert not list(tmp_path.iterdir())


def test_parts_of_a_split(tmp_path: Path) -> None:
    table = dna.read_sequences(write(tmp_path / "s.csv", CSV))
    with pytest.raises(ValueError, match=r"Expected a part of the split in \['test', 'train'\], found 'valid'"):
        table.part("valid")
    with pytest.raises(
        ValueError, match=r"split in \[\], found 'train'. A split comes from the column 'split' of a .csv"
    ):
        dna.read_sequences(write(tmp_path / "s.fa", FASTA)).part("train")


def test_tables_of_ones_own() -> None:
    """Lists are taken; what does not belong together is refused, and not found out row by row."""
    table = dna.SequenceTable(["ACGT", "TT"], ["a", "b"], labels=["x", "y"], split=["train", "test"])  # type: ignore[arg-type]
    assert table.part("test").sequences == ["TT"]
    assert table.part("test").labels == ["y"]
    unlabelled = dna.SequenceTable(["ACGT", "TT"], ["a", "b"], labels=["x", float("nan")])  # type: ignore[arg-type]
    assert unlabelled.labels is not None and unlabelled.labels[1] != "nan"
    for wrong in ({"names": ["a"]}, {"labels": np.array([1])}, {"split": np.array(["train"] * 3)}):
        with pytest.raises(ValueError, match=rf"Expected `{next(iter(wrong))}` of all 2 sequences, found [13]"):
            dna.SequenceTable(**{"sequences": ["ACGT", "TT"], "names": ["a", "b"], **wrong})


def test_a_mark_at_the_start_is_no_letter(tmp_path: Path) -> None:
    for name in ("s.fa", "s.fa.gz", "s.csv"):
        table = dna.read_sequences(write(tmp_path / name, "\ufeff" + (CSV if "csv" in name else FASTA)))
        assert table.sequences[0] in ("ACGT", "ACGTACGTN")
