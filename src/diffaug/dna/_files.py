"""Files of sequences: FASTA, CSV, TSV and Parquet."""

from __future__ import annotations

import gzip
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffaug.core.archives import GZIP_DAMAGE
from diffaug.dna._labels import as_labels
from diffaug.dna._sequences import check_sequences

if TYPE_CHECKING:
    import pandas as pd

FASTA = (".fa", ".fasta", ".fna", ".ffn")
TABLES = (".csv", ".tsv", ".parquet")
_COORDINATES = (".bed", ".gff", ".gff3", ".gtf")
_SEQUENCE_KEYS = ("sequence", "seq")
_AnyPath = TypeVar("_AnyPath", bound=PurePath)


@dataclass(frozen=True, eq=False)
class SequenceTable:
    """Sequences with what their file says of them.

    Attributes
    ----------
    sequences
        Upper-case text.
    names
        One of each.
    labels
        Shape ``(n,)``, or ``None``. Empty text, ``None`` and NaN mean that a sequence has none.
    split
        ``"train"``, ``"test"`` or what else the file says, shape ``(n,)``, or ``None``.

    Raises
    ------
    ValueError
        There is not one of each for every sequence.
    """

    sequences: list[str]
    names: list[str]
    labels: NDArray[Any] | None = None
    split: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for field, as_array in (("labels", as_labels), ("split", np.asarray)):  # lists are taken too
            if getattr(self, field) is not None:
                object.__setattr__(self, field, as_array(getattr(self, field)))
        for field in ("names", "labels", "split"):
            value = getattr(self, field)
            if value is not None and len(value) != len(self.sequences):
                raise ValueError(f"Expected `{field}` of all {len(self.sequences)} sequences, found {len(value)}.")

    def __len__(self) -> int:
        return len(self.sequences)

    def subset(self, rows: NDArray[Any]) -> SequenceTable:
        """Some rows, by number or by a mask."""
        chosen = np.arange(len(self))[rows]
        return SequenceTable(
            [self.sequences[i] for i in chosen],
            [self.names[i] for i in chosen],
            None if self.labels is None else self.labels[chosen],
            None if self.split is None else self.split[chosen],
        )

    def part(self, split: str) -> SequenceTable:
        """The rows of one part of the split."""
        if self.split is None or split not in self.split:
            found = [] if self.split is None else sorted(set(self.split.tolist()))
            raise ValueError(
                f"Expected a part of the split in {found}, found {split!r}."
                + ("" if found else " A split comes from the column 'split' of a .csv, .tsv or .parquet file.")
            )
        return self.subset(self.split == split)


def format_of(path: Path) -> str:
    """Ending that says what a file to be read is, without ``.gz``; raises ``ValueError`` for others."""
    ending = _ending(path)
    if ending in (*FASTA, *TABLES) and not (ending == ".parquet" and is_gzipped(path)):
        return ending
    hint = ""
    if ending in _COORDINATES:
        bed, fasta = (shlex.quote(str(p)) for p in (path, without_gz(path).with_suffix(".fa")))
        hint = (
            " It has coordinates and no sequences. Cut them out of the genome first: "
            f"`bedtools getfasta -s -fi genome.fa -bed {bed} -fo {fasta}`."
        )
    raise ValueError(
        f"Expected a file that ends in {', '.join((*FASTA, '.csv', '.tsv'))} (also with .gz) or .parquet, "
        f"found {path.name!r}.{hint}"
    )


def is_gzipped(path: PurePath) -> bool:
    """Whether a file's name ends in .gz, in upper or lower case."""
    return path.suffix.lower() == ".gz"


def without_gz(path: _AnyPath) -> _AnyPath:
    """The path without the ending .gz, if it has it."""
    return path.with_suffix("") if is_gzipped(path) else path


def _ending(path: PurePath) -> str:
    return without_gz(path).suffix.lower()


def read_sequences(
    path: str | Path, *, sequence_key: str | None = None, label_key: str | None = None, name_key: str | None = None
) -> SequenceTable:
    """Read a FASTA, CSV, TSV or Parquet file; the first three also gzipped.

    Parameters
    ----------
    path
        The file; its ending says what it is.
    sequence_key
        Column of a table with the sequences; by default ``sequence`` or ``seq``.
    label_key
        Column of a table with labels; by default ``label``, where there is one.
    name_key
        Column of a table with names; by default ``name``, where there is one, else rows are numbered.

    Returns
    -------
    :class:`SequenceTable`. A column ``split`` is kept. Of a FASTA header the name is the first word.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        There is no file.
    KeyError
        A table lacks a column.
    ValueError
        The file is of another kind, damaged or empty, or a sequence has other letters than A, C, G, T and N.
    """
    path = Path(path)
    ending = format_of(path)
    if path.is_dir():
        raise IsADirectoryError(f"Expected a file of sequences, found a folder: {str(path)!r}.")
    if not path.exists():
        raise FileNotFoundError(f"Expected a file of sequences, found nothing at {str(path)!r}.")
    if ending in FASTA:
        if sequence_key or label_key or name_key:
            raise ValueError(f"Expected no column names for a FASTA file, found some: {str(path)!r}.")
        names, sequences = [], []
        for name, sequence in read_fasta(path):
            names.append(name)
            sequences.append(sequence)
        return SequenceTable(checked(sequences, names, path), names)
    table = _read_table(path, ending)
    key = sequence_key or next((k for k in _SEQUENCE_KEYS if k in table.columns), _SEQUENCE_KEYS[0])
    found = _column(table, key, path).tolist()
    column = _optional(table, name_key, "name", path)
    given = None if column is None else [str(n) for n in column]
    sequences = checked(found, given, path)
    return SequenceTable(
        sequences,
        [str(i) for i in range(len(sequences))] if given is None else given,
        _optional(table, label_key, "label", path),
        _optional(table, None, "split", path),
    )


def read_fasta(path: str | Path) -> Iterator[tuple[str, str]]:
    """Names and sequences of a FASTA file, gzipped or not, one record at a time; letters are not checked.

    Raises
    ------
    ValueError
        If it does not start with ``>``, a record has no sequence or no name, or the file is damaged.
    """
    path = Path(path)
    name, parts = None, list[str]()
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, 1):
                line = line.strip()
                if line.startswith(">"):
                    if name is not None:
                        yield name, _joined(name, parts, path)
                    if not line[1:].strip():
                        raise ValueError(f"Expected a name behind '>' in line {number} of {str(path)!r}, found none.")
                    name, parts = line[1:].split()[0], []
                elif line and name is None:
                    raise ValueError(
                        f"Expected a FASTA file that starts with '>', found {line[:20]!r} in line {number} of {str(path)!r}."
                    )
                elif line:
                    parts.append(line)
    except GZIP_DAMAGE as error:
        raise ValueError(
            f"Expected a whole gzip file, found a damaged or cut one: {str(path)!r} ({error}). Copy it again."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected a FASTA file, found one that is no text: {str(path)!r}.") from error
    if name is None:
        raise ValueError(f"Expected at least one record in {str(path)!r}, found none.")
    yield name, _joined(name, parts, path)


def _joined(name: str, parts: list[str], path: Path) -> str:
    if not parts:
        raise ValueError(f"Expected a sequence for each name in {str(path)!r}, found none for {name!r}.")
    return "".join(parts)


def _open_text(path: Path) -> IO[str]:
    encoding = "utf-8-sig"  # with or without the mark that some editors put at the start of a text
    return gzip.open(path, "rt", encoding=encoding) if is_gzipped(path) else path.open(encoding=encoding)


def _read_table(path: Path, ending: str) -> pd.DataFrame:
    import pandas as pd

    try:
        if ending == ".parquet":
            return pd.read_parquet(path)
        # Every cell as text: "NA" is a sequence of two letters.
        return pd.read_csv(path, sep="\t" if ending == ".tsv" else ",", dtype=str, keep_default_na=False)
    except ImportError as error:
        raise ImportError(
            f'Expected pyarrow to read {path.name!r}, found none. Install it: pip install "diffaug[dna]"'
        ) from error
    except (*GZIP_DAMAGE, OSError, ValueError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise ValueError(
            f"Expected a readable {ending} file, found another or a damaged one: {str(path)!r}."
        ) from error


def _column(table: pd.DataFrame, key: str, path: Path) -> Any:
    if key not in table.columns:
        hint = " Name the one with the sequences: `sequence_key`." if key == _SEQUENCE_KEYS[0] else ""
        raise KeyError(f"Did not find the column {key!r} in {str(path)!r}. Columns: {table.columns.tolist()}.{hint}")
    return table[key]


def _optional(table: pd.DataFrame, key: str | None, default: str, path: Path) -> NDArray[Any] | None:
    if key is None and default not in table.columns:
        return None
    return np.asarray(_column(table, key or default, path))


def checked(sequences: list[Any], names: list[str] | None, path: Path) -> list[str]:
    """The sequences of a file in upper case; errors name the file and, where there are names, the record."""
    try:
        return check_sequences(sequences, names)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} (in {str(path)!r})") from error


def repeated_names(names: Sequence[str]) -> dict[str, int]:
    """Names that stand for more than one sequence, with the number of these."""
    return {name: count for name, count in Counter(names).items() if count > 1}


def write_sequences(path: str | Path, sequences: Sequence[str], names: Sequence[str]) -> None:
    """Write a FASTA (.fa, .fasta, .fna) or CSV file, gzipped if it ends in .gz.

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    sequences, names
        As many of each.

    Returns
    -------
    Nothing.

    Raises
    ------
    ValueError
        The ending is another, the numbers differ, or a name is empty or has more than one line.
    """
    path = Path(path)
    ending = _ending(path)
    if ending not in (*FASTA, ".csv"):
        raise ValueError(f"Expected an output that ends in {', '.join((*FASTA, '.csv'))}, found {path.name!r}.")
    if len(sequences) != len(names):
        raise ValueError(f"Expected as many names as sequences, found {len(names)} and {len(sequences)}.")
    unfit = [n for n in names if n.splitlines() != [n] or not n.strip()] if ending in FASTA else []
    if unfit:
        raise ValueError(f"Expected names of one line in a FASTA file, found {unfit[0]!r}. Write a .csv file.")
    with gzip.open(path, "wt") if is_gzipped(path) else path.open("w") as file:
        if ending == ".csv":
            file.write("name,sequence\n")
            file.writelines(f"{_quoted(n)},{s}\n" for n, s in zip(names, sequences, strict=True))
        else:
            file.writelines(f">{n}\n{s}\n" for n, s in zip(names, sequences, strict=True))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name
