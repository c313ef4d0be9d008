"""Hand-made views of DNA: the evolution-inspired ones of EvoAug (Lee et al. 2023), all rows at once.

Sequences are soft one-hot, shape ``(batch, 4, length)``, in the order A, C, G, T, so that turning the channels around is
the complement. Row i has ``lengths[i]`` bases and zeros after them, and so has its view: where EvoAug fills up with random
bases, the first and last bases here do. Every function draws from the ``torch.Generator`` it is given, on the device of
``x``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_bases(batch: int, length: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Random one-hot bases, each as frequent, shape ``(batch, 4, length)``."""
    base = torch.randint(4, (batch, length), generator=generator, device=like.device)
    return torch.nn.functional.one_hot(base, 4).transpose(1, 2).to(like.dtype)


def segment_sizes(lengths: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    """A size for each row, uniform from 1 to ``largest`` or a quarter of the row, whatever is less; shape ``(batch,)``."""
    most = (lengths // 4).clamp(1, largest)
    return 1 + _below(most, generator)


def translocation(x: Tensor, lengths: Tensor, generator: torch.Generator, largest: int = 20) -> Tensor:
    """Cut each row in two and swap the parts: a roll by up to ``largest`` bases to either side."""
    shift = segment_sizes(lengths, largest, generator)
    left = torch.rand(shift.shape, generator=generator, device=x.device) < 0.5
    shift = torch.where(left, -shift, shift)[:, None]
    return _read(x, (_positions(x) - shift) % lengths[:, None], lengths)


def insertion(x: Tensor, lengths: Tensor, generator: torch.Generator, largest: int = 20) -> Tensor:
    """Insert up to ``largest`` random bases at a random place; both ends lose half as many."""
    size = segment_sizes(lengths, largest, generator)[:, None]
    place = _below(lengths, generator)[:, None]
    position = _positions(x) + size // 2  # in the longer sequence
    new = (position >= place) & (position < place + size)
    source = torch.where(position < place, position, position - size)
    fresh = random_bases(*_rows(x), generator, x)
    return _real(torch.where(new[:, None], fresh, _gather(x, source)), lengths)


def deletion(x: Tensor, lengths: Tensor, generator: torch.Generator, largest: int = 20) -> Tensor:
    """Delete up to ``largest`` bases at a random place; random bases fill up both ends, half at each."""
    size = segment_sizes(lengths, largest, generator)[:, None]
    place = _below((lengths[:, None] - size + 1).squeeze(1), generator)[:, None]
    position = _positions(x) - size // 2
    source = torch.where(position < place, position, position + size)
    outside = (position < 0) | (source >= lengths[:, None])
    fresh = random_bases(*_rows(x), generator, x)
    return _real(torch.where(outside[:, None], fresh, _gather(x, source)), lengths)


def inversion(x: Tensor, lengths: Tensor, generator: torch.Generator, largest: int = 20) -> Tensor:
    """Put the reverse complement of up to ``largest`` bases in their place."""
    size = segment_sizes(lengths, largest, generator)[:, None]
    start = _below((lengths[:, None] - size + 1).squeeze(1), generator)[:, None]
    position = _positions(x)
    inside = (position >= start) & (position < start + size)
    mirrored = _gather(x, 2 * start + size - 1 - position).flip(1)
    return torch.where(inside[:, None], mirrored, x)


def mutation(x: Tensor, lengths: Tensor, generator: torch.Generator, rate: float = 0.05) -> Tensor:
    """Replace random bases by random ones, so that a share ``rate`` changes on average (a fourth stays what it was)."""
    n_mutated = torch.minimum((rate / 0.75 * lengths).round().long().clamp_min(1), lengths)[:, None]
    score = torch.rand(_rows(x), generator=generator, device=x.device)
    score = torch.where(_positions(x) < lengths[:, None], score, 2.0)
    rank = score.argsort(dim=1).argsort(dim=1)
    return torch.where((rank < n_mutated)[:, None], random_bases(*_rows(x), generator, x), x)


def reverse_complement(x: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """The other strand of each row. EvoAug takes it with probability 1/2; here the row itself stands beside its view."""
    return _read(x, lengths[:, None] - 1 - _positions(x), lengths).flip(1)


def noise(x: Tensor, lengths: Tensor, generator: torch.Generator, std: float = 0.2) -> Tensor:
    """Add Gaussian noise to all four numbers of every base."""
    return _real(x + std * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype), lengths)


def mixed(x: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """A random point between each row and another one, as soft one-hot; where the other has ended, the row's own bases."""
    weight = torch.rand(len(x), 1, 1, generator=generator, device=x.device)
    other = torch.where((other != 0).any(dim=1, keepdim=True), other, x)
    return torch.lerp(x, other, weight) * (x != 0).any(dim=1, keepdim=True)


def kmer_counts(x: Tensor, k: int) -> Tensor:
    """Numbers of every word of ``k`` bases in each row, shape ``(batch, 4**k)``, words in the order of the alphabet.

    Words that touch padding, or a base that is not sure (an N), are not counted.
    """
    batch, length = _rows(x)
    counts = torch.zeros(batch, 4**k, dtype=x.dtype, device=x.device)
    if length < k:
        return counts
    value, base = x.max(dim=1)
    sure, word = value > 0.5, torch.zeros(batch, length - k + 1, dtype=torch.long, device=x.device)
    whole = torch.ones_like(word, dtype=torch.bool)
    for i in range(k):
        window = slice(i, length - k + 1 + i)
        word, whole = 4 * word + base[:, window], whole & sure[:, window]
    return counts.scatter_add_(1, word, whole.to(x.dtype))


# --- indices ----------------------------------------------------------------------------------------------------------


def _rows(x: Tensor) -> tuple[int, int]:
    """Batch and length."""
    return x.shape[0], x.shape[2]


def _positions(x: Tensor) -> Tensor:
    return torch.arange(x.shape[2], device=x.device)[None]


def _below(most: Tensor, generator: torch.Generator) -> Tensor:
    """A whole number below each of ``most``, uniform."""
    drawn = torch.rand(most.shape, generator=generator, device=most.device, dtype=torch.float32)
    return (drawn * most).long().clamp_max(most - 1)


def _gather(x: Tensor, source: Tensor) -> Tensor:
    """Columns of each row by index, shape ``(batch, 4, length)``; what lies outside is cut to the nearest."""
    source = source.clamp(0, x.shape[2] - 1)
    return x.gather(2, source[:, None].expand(-1, x.shape[1], -1))


def _real(x: Tensor, lengths: Tensor) -> Tensor:
    """Zero after the end of each row."""
    return x * (_positions(x) < lengths[:, None])[:, None]


def _read(x: Tensor, source: Tensor, lengths: Tensor) -> Tensor:
    return _real(_gather(x, source), lengths)
