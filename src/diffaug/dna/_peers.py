"""What a DNA embedding has to beat: majority, length, words, one-hot, the benchmark's CNN, an untrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from diffaug.backends import get_backend
from diffaug.backends._events import fewer_at_a_time
from diffaug.backends.dna import DNAConfig
from diffaug.core.devices import make_fabric, seeded_init, tuned_cpu
from diffaug.core.inference import encode as run_encoder
from diffaug.core.inference import events_at_once
from diffaug.core.memory import enough_memory
from diffaug.dna._files import SequenceTable
from diffaug.dna._kmers import kmer_counts
from diffaug.dna._labels import label_names
from diffaug.dna._sequences import check_sequences, crop, encode
from diffaug.metrics.probes import linear_classifier

Labels = NDArray[np.str_]
#: ``peer(train, labels, test, seed, device)``: labels predicted for the test sequences.
Peer = Callable[[list[str], Labels, list[str], int, str], Labels]


@dataclass(frozen=True)
class SplitScore:
    """Accuracy on the test part of a set."""

    accuracy: float
    balanced_accuracy: float
    n_train: int
    n_test: int


def peer_score(table: SequenceTable, peer: str, *, random_state: int = 0, device: str = "auto") -> SplitScore:
    """Train a peer on the training part of a labelled set, and score it on the test part.

    Parameters
    ----------
    table
        Sequences with ``labels`` and ``split``.
    peer
        ``"majority"``, ``"length"`` (a tree on the length alone), ``"kmer1"`` .. ``"kmer6"`` and ``"onehot"`` (logistic
        regression), or ``"cnn"`` (the small network of Genomic Benchmarks).
    random_state
        Seed.
    device
        Of the network.

    Returns
    -------
    :class:`SplitScore`. Rows of other parts than train and test are not used.

    Raises
    ------
    ValueError
        There is no such peer, the set has no labels or no split, a row of these parts has no label, or the training part
        has one class only.
    """
    if peer not in PEERS:
        raise ValueError(f"Expected `peer` in {list(PEERS)}, found {peer!r}.")
    train, test, y, truth = _parts(table)
    found = PEERS[peer](train.sequences, y, test.sequences, random_state, device)
    return _score(found, truth, len(train))


def split_probe(features: NDArray[np.floating], table: SequenceTable) -> SplitScore:
    """Score a linear SVM on frozen features of a set: fitted on the training part, scored on the test part.

    Parameters
    ----------
    features
        One vector of each row of the table, shape ``(n, d)``.
    table
        Sequences with ``labels`` and ``split``.

    Returns
    -------
    :class:`SplitScore`. The features are standardised as the training part says, the SVM is that of
    :func:`diffaug.metrics.linear_probe`.

    Raises
    ------
    ValueError
        The numbers of rows differ, or as :func:`peer_score`.
    """
    if len(features) != len(table):
        raise ValueError(f"Expected one vector of each of the {len(table)} sequences, found {len(features)}.")
    train, _, y, truth = _parts(table)
    assert table.split is not None
    model = linear_classifier().fit(features[table.split == "train"], y)
    return _score(model.predict(features[table.split == "test"]), truth, len(train))


def random_embedding(
    sequences: Sequence[str], *, config: DNAConfig | None = None, random_state: int = 0, device: str = "auto"
) -> NDArray[np.float32]:
    """Semantic vectors of an encoder that was never trained: a strong row for DNA.

    Parameters
    ----------
    sequences
        Text of the letters A, C, G, T and N.
    config
        Settings of the encoder; those of the default preset otherwise.
    random_state
        Seed of its weights.
    device
        Where it runs.

    Returns
    -------
    Shape ``(n, n_semantic)``.

    Raises
    ------
    TypeError, ValueError
        A sequence cannot be read or is too long.
    """
    x = encode(sequences)
    cls = get_backend("dna")
    backend = cls(cls.preset("default").domain if config is None else config, cls.event_shape_of(x))
    with seeded_init(random_state):
        encoder = backend.make_encoder()
    where = make_fabric(device).device
    advice = fewer_at_a_time(events_at_once(backend.event_shape))
    with enough_memory(where, f"the embedding of {backend.events}", advice), tuned_cpu():
        encoder.to(where)
        parts = [run_encoder(encoder, backend.to_model(x[i : i + 2048]).to(where)) for i in range(0, len(x), 2048)]
        return torch.cat([p.semantic for p in parts]).cpu().numpy()


def _parts(table: SequenceTable) -> tuple[SequenceTable, SequenceTable, Labels, Labels]:
    if table.labels is None:
        raise ValueError("Expected a table with labels, found none.")
    train, test = table.part("train"), table.part("test")
    assert train.labels is not None
    assert test.labels is not None
    labels = label_names(np.concatenate([train.labels, test.labels]), [*train.names, *test.names])
    y, truth = labels[: len(train)], labels[len(train) :]
    if len(np.unique(y)) < 2:
        raise ValueError(f"Expected two or more classes in the training part, found {np.unique(y).tolist()}.")
    return train, test, y, truth


def _score(found: Labels, truth: Labels, n_train: int) -> SplitScore:
    return SplitScore(
        float(accuracy_score(truth, found)), float(balanced_accuracy_score(truth, found)), n_train, len(truth)
    )


# --- peers ------------------------------------------------------------------------------------------------------------
# Scaling and strength of the regressions were chosen by cross-validation inside the training parts of three sets.


def _majority(train: list[str], y: Labels, test: list[str], seed: int, device: str) -> Labels:
    return DummyClassifier().fit(np.zeros((len(train), 1)), y).predict(np.zeros((len(test), 1)))


def _length(train: list[str], y: Labels, test: list[str], seed: int, device: str) -> Labels:
    a, b = (np.array([[len(s)] for s in text]) for text in (train, test))
    return DecisionTreeClassifier(min_samples_leaf=20, random_state=seed).fit(a, y).predict(b)


def _kmers(k: int, train: list[str], y: Labels, test: list[str], seed: int, device: str) -> Labels:
    model = make_pipeline(Normalizer(), LogisticRegression(C=10, max_iter=5000))
    return model.fit(kmer_counts(train, k), y).predict(kmer_counts(test, k))


def _onehot(train: list[str], y: Labels, test: list[str], seed: int, device: str) -> Labels:
    a, b = _same_length(train, test)
    model = LogisticRegression(C=0.1, max_iter=5000)
    return model.fit(a.reshape(len(a), -1), y).predict(b.reshape(len(b), -1))


def _same_length(train: list[str], test: list[str], least: int = 1) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One-hot, as wide as the longest training sequence; longer test sequences lose their ends."""
    width = max(least, *(len(s) for s in train))
    return encode(train, length=width), encode(crop(test, width), length=width)


class BenchmarkCNN(nn.Module):
    """The small network of Genomic Benchmarks: embedding, three convolutions of 16, 8 and 4 channels, two dense layers.

    Parameters
    ----------
    length
        Columns of the input, at least 64.
    n_classes
        Outputs.
    """

    def __init__(self, length: int, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(4, 100, 1, bias=False)]  # an embedding of one-hot letters
        for a, b in ((100, 16), (16, 8), (8, 4)):
            layers += [nn.Conv1d(a, b, 8), nn.BatchNorm1d(b), nn.ReLU(), nn.MaxPool1d(2)]
            length = (length - 7) // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * length, 512), nn.Linear(512, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes for one-hot sequences, shape ``(batch, 4, length)``."""
        return self.layers(x)


def _cnn(
    train: list[str], y: Labels, test: list[str], seed: int, device: str, n_epochs: int = 10, batch_size: int = 64
) -> Labels:
    """Ten epochs of Adam with its default settings, as the benchmark does; no part of the data chooses an epoch."""
    classes, codes = np.unique(y, return_inverse=True)
    a, b = _same_length(check_sequences(train), check_sequences(test), least=64)
    where = make_fabric(device).device
    with seeded_init(seed):
        network = BenchmarkCNN(a.shape[2], len(classes))
    random = torch.Generator().manual_seed(seed)
    x, target = torch.as_tensor(a), torch.as_tensor(codes)
    what = f"the benchmark's network for sequences of {a.shape[2]:,} bases"
    with enough_memory(where, what, "Crop the sequences."), tuned_cpu():
        optimizer = torch.optim.Adam(network.to(where).parameters())
        for _ in range(n_epochs):
            for index in torch.randperm(len(x), generator=random).split(batch_size):
                if len(index) < 2:  # batch normalisation needs two
                    continue
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(network(x[index].to(where)), target[index].to(where)).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            scores = torch.cat([network(part.to(where)).cpu() for part in torch.as_tensor(b).split(1024)])
    return classes[scores.argmax(dim=1).numpy()]


PEERS: dict[str, Peer] = {
    "majority": _majority,
    "length": _length,
    **{f"kmer{k}": partial(_kmers, k) for k in range(1, 7)},
    "onehot": _onehot,
    "cnn": _cnn,
}
