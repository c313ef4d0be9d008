"""Sets by name, and splits without leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffaug import dna
from diffaug.datasets import list_datasets, manifest


def table(train: list[str], test: list[str], labels: str | None = None) -> dna.SequenceTable:
    split = np.array(["train"] * len(train) + ["test"] * len(test))
    return dna.SequenceTable(
        [*train, *test],
        [f"row{i}" for i in range(len(split))],
        None if labels is None else np.array(list(labels)),
        split,
    )


def random_sequence(n: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


def test_leaked() -> None:
    a, b, c = (random_sequence(30, i) for i in range(3))
    found = dna.leaked(table([a, b], [a, dna.reverse_complement(b), c]))
    assert found.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("overlap", [12, 13, 20])
@pytest.mark.parametrize("other_strand", [False, True])
def test_leaked_overlaps(overlap: int, other_strand: bool) -> None:
    """A shared run of exactly so many bases is found, one less is not, wherever it is."""
    train = random_sequence(60, 0)
    rng = np.random.default_rng(overlap)
    rows, expected = [], []
    for n in (overlap, overlap - 1):
        for start in (0, 7, 23, 60 - n):
            shared = train[start : start + n]
            before = "A" if start == 0 or train[start - 1] != "A" else "C"
            after = "A" if start + n == 60 or train[start + n] != "A" else "C"
            s = "".join(rng.choice(list("ACGT"), 15)) + before + shared + after + "".join(rng.choice(list("ACGT"), 9))
            rows.append(dna.reverse_complement(s) if other_strand else s)
            expected.append(n == overlap)
    assert dna.leaked(table([train], rows), min_overlap=overlap)[1:].tolist() == expected


def test_deduplicated() -> None:
    a, b, c, d = (random_sequence(20, i) for i in range(4))
    given = table([a, a, b, b, c], [d, d, c], labels="xxxyxxxx")
    made = dna.deduplicated(given)
    # a once; b never, as its labels differ; c in the training part only; d once.
    assert made.sequences == [a, c, d]
    assert made.names == ["row0", "row4", "row5"]
    assert made.labels is not None
    assert made.labels.tolist() == ["x", "x", "x"]
    assert dna.deduplicated(made).names == made.names
    unlabelled = table([a, a, b, b], [c], labels=np.array([np.nan, np.nan, "x", np.nan, "x"], dtype=object))
    assert dna.deduplicated(unlabelled).names == ["row0", "row4"]  # none twice is no contradiction, none and x is
    with pytest.raises(ValueError, match="Expected sequences of their own in the part 'test', found none"):
        dna.deduplicated(table([a, b], [a]))
    with pytest.raises(ValueError, match="Expected `min_overlap` of at least 1, found 0"):
        dna.leaked(given, min_overlap=0)


def test_bad_names() -> None:
    with pytest.raises(ValueError, match=r"Expected a data set of domain 'dna', found 'paul15' of domain 'bio'"):
        dna.load("paul15")
    with pytest.raises(KeyError, match="Did not find a data set 'gue_splice'.*gue_splice_small"):
        dna.load("gue_splice")
    with pytest.raises(ValueError, match=r"Expected `split` in \['official', 'deduplicated'\], found 'train'"):
        dna.load("gue_splice_small", split="train")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="coordinates only"):
        dna.load("human_nontata_promoters")


def test_genomic_benchmarks_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates in the data folder and a reference; classes by name, and a repeated interval leaves the test part."""
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path))
    rows = {
        "train/positive": ["chr1,0,8,+", "chr1,4,12,+"],
        "train/negative": ["chr1,10,18,-"],
        "test/positive": ["chr1,0,8,+", "chr1,20,28,+"],
        "test/negative": ["chr1,12,20,+"],
    }
    for name, lines in rows.items():
        file = tmp_path / "dna" / "human_nontata_promoters" / f"{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "\n".join(["id,region,start,end,strand", *(f"{i},{line}" for i, line in enumerate(lines))]) + "\n"
        )
    genome = tmp_path / "genome.fa"
    sequence = random_sequence(40, 3)
    genome.write_text(f">1\n{sequence}\n")
    found = dna.load("human_nontata_promoters", reference=genome)
    assert found.labels is not None
    assert found.labels.tolist() == ["negative", "positive", "positive", "negative", "positive", "positive"]
    assert found.sequences[1] == sequence[:8]
    clean = dna.load("human_nontata_promoters", split="deduplicated", reference=genome)
    assert clean.part("test").sequences == [sequence[12:20], sequence[20:28]]
    with pytest.raises(FileNotFoundError, match="Expected `reference`, a FASTA file"):
        dna.load("human_nontata_promoters")
    with pytest.raises(ValueError, match="Expected `reference` for coordinates of Genomic Benchmarks only"):
        dna.load("bacillus_promoters", reference=genome)


def test_real_sets(data_dir: Path) -> None:
    """What the manifests say: rows, lengths, classes, and the number of test sequences that are in the training part."""
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install "diffaug[dna]"')
    for name in ("bacillus_promoters", "gue_prom_core_tata", "gue_splice_small"):
        m, found = manifest(name), dna.load(name)
        assert m.shape == (len(found), max(map(len, found.sequences)))
        assert found.labels is not None
        assert len(set(found.labels)) == m.n_classes
        train = set(found.part("train").sequences)
        n_copies = sum(s in train for s in found.part("test").sequences)
        assert n_copies == {"bacillus_promoters": 0, "gue_prom_core_tata": 16, "gue_splice_small": 32}[name]
        clean = dna.load(name, split="deduplicated")
        assert len(clean.part("test")) <= len(found.part("test")) - n_copies
        assert not set(clean.part("train").sequences) & set(clean.part("test").sequences)
    assert set(list_datasets("dna").query("present").index) >= {"bacillus_promoters"}
