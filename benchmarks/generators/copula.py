"""scDesign2's model, written from the paper (Sun et al., Genome Biology 2021): marginals and a Gaussian copula by type.

Each gene of a type is Poisson, or negative binomial where its variance is above its mean. Genes with at most 80 % zeros are
tied by a Gaussian copula, fitted on distributional transforms; the others are drawn on their own, as in the published
method. Its zero-inflated marginals are left out: the data here are of unique molecules.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy import special, stats

from generators.base import Made, Tool, dense, register, types_of
from generators.gaussian import normal_like
from generators.split import Split

#: log of the size r of the negative binomial: below, one count in exp(7) cells; above, no other than Poisson.
_LOG_SIZE = (-7.0, 9.0)
_N_HALVINGS = 50
_EDGE = 1e-9


@register(
    "copula",
    Tool(
        "copula",
        "scDesign2's model (own)",
        "Our own implementation: negative-binomial marginals by maximum likelihood and a Gaussian copula, by type.",
    ),
)
def copula(split: Split, seed: int, *, most_zeros: float = 0.8) -> dict[str, Made]:
    rng = np.random.default_rng(seed)
    counts, labels = np.rint(dense(split.train.X)), types_of(split)
    begin = time.perf_counter()
    models = {kind: fit_copula(counts[labels == kind], rng, most_zeros) for kind in np.unique(labels)}
    middle = time.perf_counter()
    made = np.zeros(counts.shape, dtype=np.int32)
    for kind, model in models.items():
        made[labels == kind] = model.draw(int((labels == kind).sum()), rng)
    return {"copula": Made(sp.csr_matrix(made), labels, middle - begin, time.perf_counter() - middle)}


@dataclass(frozen=True)
class Copula:
    """Marginals of all genes and normal scores of the tied ones.

    Attributes
    ----------
    mean, size
        Of the negative binomials, shape ``(g,)``; a size of infinity is a Poisson.
    tied
        Mask of the genes in the copula.
    scores
        Standardised normal scores of the cells, shape ``(n, n_tied)``: their correlations are the copula's.
    """

    mean: np.ndarray
    size: np.ndarray
    tied: np.ndarray
    scores: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        u = rng.random((n, len(self.mean)))
        if self.tied.any():
            u[:, self.tied] = stats.norm.cdf(normal_like(self.scores, n, rng))
        return quantiles(np.clip(u, _EDGE, 1 - _EDGE), self.mean, self.size)


def fit_copula(counts: np.ndarray, rng: np.random.Generator, most_zeros: float = 0.8) -> Copula:
    """The model of one type, from counts of shape ``(n, g)``."""
    mean = counts.mean(axis=0)
    size = fitted_size(counts)
    tied = ((counts == 0).mean(axis=0) <= most_zeros) & (mean > 0)
    if len(counts) < 3:
        tied[:] = False  # two cells have correlations of 1 and -1 only
    x = counts[:, tied]
    at, below = (cumulated(v, mean[tied], size[tied]) for v in (x, x - 1))
    u = below + rng.random(x.shape) * (at - below)  # uniform if the marginals are right
    scores = stats.norm.ppf(np.clip(u, _EDGE, 1 - _EDGE))
    if tied.any():
        scores = (scores - scores.mean(axis=0)) / scores.std(axis=0, ddof=1)
    return Copula(mean, size, tied, scores)


def fitted_size(counts: np.ndarray) -> np.ndarray:
    """Size of the negative binomial of each column by maximum likelihood, the mean being the sample's.

    The derivative of the likelihood falls through 0 once where the variance is above the mean, so halving finds it.
    Zeros add nothing to its first term, so only counts above 0 are looked at.
    """
    n, g = counts.shape
    mean = counts.mean(axis=0)
    size = np.full(g, np.inf)
    open_ = np.flatnonzero(counts.var(axis=0) > mean)
    if not len(open_):
        return size
    x = sp.csc_matrix(counts[:, open_])
    column = np.repeat(np.arange(len(open_)), np.diff(x.indptr))
    low, high = (np.full(len(open_), end) for end in _LOG_SIZE)

    def slope(log_size: np.ndarray) -> np.ndarray:
        r = np.exp(log_size)
        first = np.bincount(column, special.digamma(x.data + r[column]) - special.digamma(r)[column], len(open_))
        return first - n * np.log1p(mean[open_] / r)

    poisson = slope(high) >= 0
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        rises = slope(middle) > 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    size[open_] = np.where(poisson, np.inf, np.exp((low + high) / 2))
    return size


def cumulated(x: np.ndarray, mean: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Distribution function of each column at its values; 0 below 0."""
    found = np.empty(x.shape)
    flat = np.isinf(size)
    found[:, flat] = stats.poisson.cdf(x[:, flat], mean[flat])
    r, m = size[~flat], mean[~flat]
    found[:, ~flat] = stats.nbinom.cdf(x[:, ~flat], r, r / (r + m))
    return found


def quantiles(u: np.ndarray, mean: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Counts at these places of the distributions of the columns."""
    found = np.zeros(u.shape)
    flat = np.isinf(size) & (mean > 0)
    found[:, flat] = stats.poisson.ppf(u[:, flat], mean[flat])
    curved = np.isfinite(size)
    r, m = size[curved], mean[curved]
    found[:, curved] = stats.nbinom.ppf(u[:, curved], r, r / (r + m))
    return found.astype(np.int32)
