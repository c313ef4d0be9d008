"""What an embedding has to beat, on sets of which each peer can or cannot see the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffaug import dna
from diffaug.backends.dna import DNAConfig
from diffaug.dna._peers import PEERS, BenchmarkCNN


def labelled(sequences: list[str], labels: list[str], n_train: int) -> dna.SequenceTable:
    split = np.where(np.arange(len(sequences)) < n_train, "train", "test")
    return dna.SequenceTable(sequences, [str(i) for i in range(len(sequences))], np.array(labels), split)


def random_text(rng: np.random.Generator, n: int, letters: str = "ACGT") -> str:
    return "".join(rng.choice(list(letters), n))


@pytest.fixture(scope="module")
def sets() -> dict[str, dna.SequenceTable]:
    """Three sets of two classes: told apart by their length, by a word anywhere, by a letter at one place."""
    rng = np.random.default_rng(0)
    labels = ["a" if i % 3 else "b" for i in range(240)]
    length = [random_text(rng, 30 if y == "a" else int(rng.choice([20, 40]))) for y in labels]
    word, place = [], []
    for y in labels:
        s = list(random_text(rng, 60))
        if y == "a":
            for at in rng.choice(13, 3, replace=False) * 4:  # three times, wherever
                s[at : at + 4] = "GATT"
        word.append("".join(s))
        s = list(random_text(rng, 30))
        s[10] = "A" if y == "a" else "C"
        place.append("".join(s))
    return {name: labelled(s, labels, 160) for name, s in (("length", length), ("word", word), ("place", place))}


def test_each_peer_sees_what_it_can(sets: dict[str, dna.SequenceTable]) -> None:
    scores = {
        (peer, name): dna.peer_score(sets[name], peer).balanced_accuracy
        for peer, name in (
            ("majority", "word"),
            ("length", "length"),
            ("length", "word"),
            ("kmer1", "length"),
            ("kmer4", "word"),
            ("kmer1", "place"),
            ("onehot", "place"),
            ("onehot", "length"),
        )
    }
    assert scores["majority", "word"] == 0.5
    assert scores["length", "length"] == 1
    assert scores["length", "word"] == 0.5
    assert scores["kmer4", "word"] > 0.8
    assert scores["onehot", "place"] > 0.9
    assert scores["kmer1", "place"] < 0.7


def test_scores() -> None:
    """Accuracy of the majority is its share in the test part, whatever the training part has."""
    table = labelled(["ACGT"] * 10, list("aaaabb") + list("aabb"), 6)
    found = dna.peer_score(table, "majority")
    assert (found.accuracy, found.balanced_accuracy, found.n_train, found.n_test) == (0.5, 0.5, 6, 4)


def test_cnn(sets: dict[str, dna.SequenceTable]) -> None:
    easy = sets["word"]
    strong = dna.SequenceTable(
        [s if y == "a" else s.replace("G", "C") for s, y in zip(easy.sequences, easy.labels, strict=True)],
        easy.names,
        easy.labels,
        easy.split,
    )
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = dna.peer_score(strong, "cnn", device="cpu")
    assert first.balanced_accuracy > 0.9
    assert dna.peer_score(strong, "cnn", device="cpu") == first
    assert torch.equal(state, torch.get_rng_state())


def test_cnn_is_the_benchmarks() -> None:
    """Sequences of 500 bases, two classes: three convolutions of 8, halved each time, then 512."""
    made = BenchmarkCNN(500, 2)
    shapes = [tuple(p.shape) for name, p in made.named_parameters() if name.endswith("weight") and p.ndim > 1]
    assert shapes == [(100, 4, 1), (16, 100, 8), (8, 16, 8), (4, 8, 8), (512, 4 * 56), (2, 512)]
    assert made(torch.zeros(3, 4, 500)).shape == (3, 2)
    assert BenchmarkCNN(64, 3)(torch.zeros(2, 4, 64)).shape == (2, 3)


def test_split_probe(sets: dict[str, dna.SequenceTable]) -> None:
    table = sets["word"]
    assert table.labels is not None
    told = (table.labels == "a")[:, None] * 3.0 + np.random.default_rng(0).normal(size=(240, 5))
    assert dna.split_probe(told, table).accuracy > 0.9
    assert dna.split_probe(told, table).n_test == 80
    shuffled = np.random.default_rng(1).permutation(told)
    assert dna.split_probe(shuffled, table).balanced_accuracy < 0.65
    with pytest.raises(ValueError, match="Expected one vector of each of the 240 sequences, found 239"):
        dna.split_probe(told[1:], table)


def test_random_embedding(sets: dict[str, dna.SequenceTable]) -> None:
    config = DNAConfig(n_semantic=16, filter_width=4)
    a, b, c = (
        dna.random_embedding(sets["word"].sequences[:20], config=config, random_state=seed, device="cpu")
        for seed in (0, 0, 1)
    )
    assert a.shape == (20, 16)
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)
    assert len(np.unique(a.round(5), axis=0)) == 20


@pytest.mark.parametrize("none", ["", " ", None, np.nan])
def test_no_label_is_no_class(none: object) -> None:
    """Rows without a label are refused where they count, and nowhere else."""
    names, split = list("pqrstu"), ["train"] * 3 + ["test"] * 2 + ["other"]
    x = np.eye(6)

    def table(*labels: object) -> dna.SequenceTable:
        return dna.SequenceTable(["ACGT"] * 6, names, list(labels), split)  # type: ignore[arg-type]

    for labels, first in ((("a", "b", none, "a", none, "b"), "r"), (("a", "b", "b", none, none, "b"), "s")):
        found = rf"each of the 5 sequences, found 2 without one \(empty or NaN\), the first '{first}'. Leave these"
        with pytest.raises(ValueError, match=found):
            dna.peer_score(table(*labels), "majority")
        with pytest.raises(ValueError, match=found):
            dna.split_probe(x, table(*labels))
    assert dna.peer_score(table("a", "b", "b", "a", "b", none), "majority").accuracy == 0.5
    assert dna.peer_score(table("nan", "b", "b", "b", "None", "a"), "majority").accuracy == 0.5  # texts as others


def test_no_label_among_numbers() -> None:
    split = np.array(["train", "train", "test", "test"])
    table = dna.SequenceTable(["ACGT"] * 4, list("pqrs"), np.array([0, 1, np.nan, 1]), split)
    with pytest.raises(ValueError, match="found 1 without one .* the first 'r'"):
        dna.peer_score(table, "majority")


def test_wrong_use(sets: dict[str, dna.SequenceTable]) -> None:
    table = sets["word"]
    with pytest.raises(ValueError, match=r"Expected `peer` in \['majority', .*'kmer6', 'onehot', 'cnn'\], found 'svm'"):
        dna.peer_score(table, "svm")
    bare = dna.SequenceTable(table.sequences, table.names, None, table.split)
    with pytest.raises(ValueError, match="Expected a table with labels, found none"):
        dna.peer_score(bare, "majority")
    one = dna.SequenceTable(table.sequences, table.names, np.array(["a"] * 240), table.split)
    with pytest.raises(ValueError, match=r"Expected two or more classes in the training part, found \['a'\]"):
        dna.peer_score(one, "majority")
    with pytest.raises(ValueError, match="Expected a part of the split"):
        dna.peer_score(dna.SequenceTable(table.sequences, table.names, table.labels), "majority")
    assert list(PEERS) == ["majority", "length", *(f"kmer{k}" for k in range(1, 7)), "onehot", "cnn"]


def test_real_set(data_dir: Path) -> None:
    """The reference numbers of the data's own README: 4-mers .85, majority .73 on bacillus promoters."""
    pytest.importorskip("pyarrow", reason='needs pyarrow: pip install "diffaug[dna]"')
    table = dna.load("bacillus_promoters")
    assert dna.peer_score(table, "majority").accuracy == pytest.approx(0.727, abs=0.005)
    assert dna.peer_score(table, "kmer4").accuracy == pytest.approx(0.85, abs=0.03)
