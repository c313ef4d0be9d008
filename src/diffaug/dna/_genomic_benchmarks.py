"""Genomic Benchmarks (Gresova et al. 2023): classes of sequences, from coordinates or as text.

A set is a folder with ``train`` and ``test`` in it, and in each of them either a table of coordinates for every class
(``<class>.csv.gz``: id, region, start, end, strand) or a folder of texts for every class (``<class>/<id>.txt``).
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from diffaug.core.archives import ARCHIVE_DAMAGE, GZIP_DAMAGE
from diffaug.dna._files import SequenceTable, checked, is_gzipped, read_fasta, without_gz
from diffaug.dna._sequences import reverse_complement

SPLITS = ("train", "test")
_COLUMNS = ("region", "start", "end", "strand")
#: One class of one part: its name, the part, and the file (coordinates) or the files (texts) with their content.
_Files = dict[tuple[str, str], dict[str, bytes]]
#: Interval of one row: region, start (from 0), end (beyond the last base), strand.
Interval = tuple[str, int, int, str]

logger = logging.getLogger(__name__)


def read_genomic_benchmark(
    path: str | Path, *, reference: str | Path | Mapping[str, str | Path] | None = None
) -> SequenceTable:
    """Read one set of Genomic Benchmarks.

    Parameters
    ----------
    path
        Folder or archive (.zip, .tar, .tar.gz, .tgz) of the set, with coordinates or with texts.
    reference
        For coordinates: FASTA file, gzipped or not, with the regions (chromosomes, or transcripts); or one for each class
        by its name. Names are matched as they are, with ``chr`` put before or taken off, and without the version after
        the last dot (``ENST00000371014.7``). For texts it is not read, and a warning says so.

    Returns
    -------
    Sequences with ``labels`` (names of the classes) and ``split`` (``"train"``, ``"test"``). Classes are in the order of
    their names, whatever the order of the files on the disk; training rows come first. Coordinates on the minus strand
    give the reverse complement. From texts, rows are in the order of their numbers.

    Raises
    ------
    FileNotFoundError
        There is no such folder or archive, or no reference for coordinates.
    KeyError
        A region is not in the reference, or a class has none.
    ValueError
        A part or a class is missing, the archive or a table is damaged, or an interval leaves its region.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a folder or an archive of Genomic Benchmarks, found nothing at {str(path)!r}."
        )
    files = _group(_members(path), path)
    classes = sorted({label for label, _ in files})
    missing = [f"{split}/{label}" for split in SPLITS for label in classes if (label, split) not in files]
    if missing or len(classes) < 2:
        raise ValueError(
            f"Expected two or more classes, each in {' and '.join(SPLITS)}, in {str(path)!r}, found {classes} "
            f"and no {missing or 'other'}."
        )
    intervals: dict[tuple[str, str], list[Interval]] = {}
    texts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for key, found in files.items():
        if all(_is_text(PurePosixPath(name)) for name in found):
            texts[key] = [(_stem(name), content.decode("ascii", "replace").strip()) for name, content in found.items()]
            texts[key].sort(key=lambda item: (len(item[0]), item[0]))
        else:
            intervals[key] = [row for name, content in found.items() for row in _intervals(content, name, path)]
    if reference is not None and not intervals:
        logger.warning("The reference is not read: %r holds the sequences themselves.", str(path))
    if intervals:
        read = _from_reference(intervals, reference, path)
        texts |= {key: list(zip(_names(intervals[key]), read[key], strict=True)) for key in intervals}
    return _table(texts, classes, path)


def _table(texts: Mapping[tuple[str, str], list[tuple[str, str]]], classes: list[str], path: Path) -> SequenceTable:
    rows = [(name, text, label, split) for split in SPLITS for label in classes for name, text in texts[label, split]]
    names = [f"{split}/{label}/{name}" for name, _, label, split in rows]
    return SequenceTable(
        checked([text for _, text, _, _ in rows], names, path),
        names,
        np.array([label for _, _, label, _ in rows]),
        np.array([split for _, _, _, split in rows]),
    )


def _names(intervals: list[Interval]) -> list[str]:
    return [f"{region}:{start}-{end}({strand})" for region, start, end, strand in intervals]


# --- files ------------------------------------------------------------------------------------------------------------


def _members(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every file of a folder or an archive that may belong to a set, by its path inside."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and _wanted(PurePosixPath(file.relative_to(path).as_posix())):
                yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()
        return
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir() and _wanted(PurePosixPath(info.filename)):
                        yield PurePosixPath(info.filename), archive.read(info)
            return
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and _wanted(PurePosixPath(member.name)):
                    yield PurePosixPath(member.name), content.read()
            _check_end(archive)
    except ARCHIVE_DAMAGE as error:
        raise ValueError(
            f"Expected a whole .zip or .tar archive, found another or a damaged file: {str(path)!r} ({error})."
        ) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise if an archive does not end in an empty block.

    ``tarfile`` stops without an error at a header that is cut or damaged: rows would be missing, and nobody would know.
    """
    assert archive.fileobj is not None  # it is open
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end of the archive")


def _wanted(file: PurePosixPath) -> bool:
    """Hidden files (of macOS' archives, say) are not wanted."""
    kind = _is_text(file) or without_gz(file).suffix.lower() == ".csv"
    return kind and not any(p.startswith((".", "__")) for p in file.parts)


def _is_text(file: PurePosixPath) -> bool:
    return file.suffix.lower() == ".txt"


def _group(members: Iterator[tuple[PurePosixPath, bytes]], path: Path) -> _Files:
    """Files by class and part, wherever ``train`` and ``test`` are in the tree."""
    found: _Files = defaultdict(dict)
    roots = set()
    for file, content in members:
        places = [i for i, part in enumerate(file.parts[:-1]) if part in SPLITS]
        if not places:
            continue
        place = places[-1]
        below = file.parts[place + 1 :]
        if len(below) == 1 and not _is_text(file):
            label = without_gz(file).stem
        elif len(below) == 2 and _is_text(file):
            label = below[0]
        else:
            continue
        roots.add(file.parts[:place])
        found[label, file.parts[place]]["/".join(file.parts)] = content
    if not found:
        raise ValueError(
            f"Expected folders train and test with <class>.csv.gz or <class>/<id>.txt in {str(path)!r}, found none."
        )
    if len(roots) > 1:
        raise ValueError(
            f"Expected one set in {str(path)!r}, found {len(roots)}: {sorted('/'.join(r) for r in roots)}. Name one."
        )
    return dict(found)


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


# --- coordinates ------------------------------------------------------------------------------------------------------


def _intervals(content: bytes, name: str, path: Path) -> list[Interval]:
    where = f"{name!r} of {str(path)!r}"
    try:
        text = (gzip.decompress(content) if is_gzipped(PurePosixPath(name)) else content).decode("utf-8")
    except (*GZIP_DAMAGE, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a whole table, found a damaged one: {where} ({error}).") from error
    rows = csv.DictReader(io.StringIO(text))
    absent = [c for c in _COLUMNS if c not in (rows.fieldnames or ())]
    if absent:
        raise ValueError(f"Expected the columns {list(_COLUMNS)} in {where}, found {rows.fieldnames}.")
    found: list[Interval] = []
    for number, row in enumerate(rows, 2):
        try:
            start, end = int(row["start"]), int(row["end"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected whole numbers in line {number} of {where}, found {row}.") from error
        if row["strand"] not in ("+", "-"):
            raise ValueError(f"Expected the strand + or - in line {number} of {where}, found {row['strand']!r}.")
        if not 0 <= start < end:
            raise ValueError(f"Expected 0 <= start < end in line {number} of {where}, found {start} and {end}.")
        found.append((row["region"], start, end, row["strand"]))
    if not found:
        raise ValueError(f"Expected at least one interval in {where}, found none.")
    return found


def _from_reference(
    intervals: Mapping[tuple[str, str], list[Interval]],
    reference: str | Path | Mapping[str, str | Path] | None,
    path: Path,
) -> dict[tuple[str, str], list[str]]:
    """Sequences of intervals; each reference file is read once, one region at a time."""
    if reference is None:
        raise FileNotFoundError(
            f"Expected `reference`, a FASTA file, as {str(path)!r} holds coordinates only; found none."
        )
    of_class = dict(reference) if isinstance(reference, Mapping) else {label: reference for label, _ in intervals}
    without = sorted({label for label, _ in intervals} - set(of_class))
    if without:
        raise KeyError(f"Expected a reference for each class, found none for {without[0]!r}.")
    read: dict[tuple[str, str], list[str]] = {key: [""] * len(rows) for key, rows in intervals.items()}
    for file in {Path(f) for f in of_class.values()}:
        asked: dict[str, list[tuple[tuple[str, str], int]]] = defaultdict(list)
        for key, rows in intervals.items():
            if Path(of_class[key[0]]) == file:
                for i, (region, *_) in enumerate(rows):
                    asked[region].append((key, i))
        if not file.exists():
            raise FileNotFoundError(f"Expected a FASTA file, found nothing at {str(file)!r}.")
        for name, sequence in read_fasta(file):
            for region in _aliases(name) & asked.keys():
                for key, i in asked.pop(region):
                    read[key][i] = _cut(sequence, intervals[key][i], name)
            if not asked:
                break
        if asked:
            raise KeyError(
                f"Did not find {len(asked)} regions in {str(file)!r}, e.g. {next(iter(asked))!r}. "
                "Is it the reference that the coordinates are of?"
            )
    return read


def _aliases(name: str) -> set[str]:
    """Names that a region of a FASTA file may go by in the tables."""
    bare = name.rpartition(".")[0] or name
    return {name, bare, f"chr{name}", name.removeprefix("chr")}


def _cut(sequence: str, interval: Interval, name: str) -> str:
    region, start, end, strand = interval
    if end > len(sequence):
        raise ValueError(
            f"Expected intervals inside of {region!r} ({name!r} has {len(sequence)} bases), found {start}-{end}."
        )
    text = sequence[start:end].upper()
    return reverse_complement(text) if strand == "-" else text
