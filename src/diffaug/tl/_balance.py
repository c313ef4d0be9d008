"""``tl.balance``: synthetic cells for rare groups, if held-out cells show that they help."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from diffaug._anndata import obs_column, read_like
from diffaug._keys import BALANCE, SYNTHETIC
from diffaug._model import DiffAug, whole_number
from diffaug.core.config import Config
from diffaug.tl._fit import fit
from diffaug.tl._generate import _unknown, generate
from diffaug.tl._library_sizes import spread as _spread

logger = logging.getLogger(__name__)

ARMS = ("none", "oversampling", "SMOTE", "DiffAug")
_HELD_OUT = 0.25
_N_COMPONENTS = 30
_N_NEIGHBORS = 5
_N_RESAMPLES = 1000
_LEAST_HELD_OUT = 5

Array = NDArray[Any]


@dataclass(frozen=True)
class _Help:
    """What filling the rare groups did on held-out cells: scores by arm, and DiffAug's gain over the best other arm."""

    accuracy: dict[str, float]
    recall: dict[str, float]
    against: str
    gain: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        return self.low > 0

    def __str__(self) -> str:
        return (
            f"balanced accuracy {self.accuracy['DiffAug']:.3f} with synthetic cells against {self.accuracy[self.against]:.3f} "
            f"({self.against}), gain {self.gain:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f})"
        )


def balance(
    adata: AnnData,
    model: DiffAug | None = None,
    *,
    groupby: str,
    to: Literal["max", "median"] | int | Mapping[str, int] = "max",
    split_key: str | None = None,
    force: bool = False,
    config: Config | Mapping[str, Any] | str | None = None,
    n_repeats: int = 3,
    random_state: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> AnnData:
    """Fill rare groups with synthetic cells, if these help on held-out cells more than simpler ways do.

    A logistic regression on 30 principal components learns the groups from the training cells as they are, with cells of
    the rare groups repeated (oversampling), with SMOTE (points between a cell and one of its five neighbours in the group)
    and with generated cells, as many each. It is judged by its balanced accuracy on cells that neither it nor the
    generator has seen. The interval of the gain over the best of the others is of a bootstrap over these cells, or over the
    donors of ``split_key``. If it reaches zero the help is not shown, and no synthetic cell is added.

    Parameters
    ----------
    adata
        Cells as for :func:`diffaug.tl.fit`.
    model
        A model of a part of these cells; those that it has not seen, by their names, are the held-out ones. Without one,
        three quarters of each group are fitted and the rest is held out.
    groupby
        Column of ``.obs`` with the groups.
    to
        Cells that each group shall have at least: as many as the largest (``"max"``) or the median one has, a number, or
        numbers by group.
    split_key
        Column of ``.obs`` with donors: all cells of a donor are held out or none, and the interval is over donors.
    force
        Add the synthetic cells whatever was measured; the measurement is kept with them.
    config
        Settings of the fit.
    n_repeats
        Draws of synthetic, repeated and interpolated cells over which the measurement goes.
    random_state
        Seed.
    device
        Where to fit.
    progress
        Show progress bars.

    Returns
    -------
    New AnnData with the real cells (the model's genes, on its scale) and below them the synthetic ones, which
    ``.obs["synthetic"]`` marks; these were generated from all cells of their group. ``.uns["diffaug_balance"]`` has
    ``arm``, ``balanced_accuracy`` and ``rare_recall`` (mean over the filled groups) of each arm, ``gain``, ``low``, ``high``
    and ``against`` (which arm), ``verdict`` (``"helps"``, ``"declined"``, ``"forced"``), and ``group`` with ``added`` cells.

    Raises
    ------
    KeyError
        The column or a group is unknown.
    ValueError
        Nothing is to be filled, or there are too few held-out cells to judge by.
    """
    labels = obs_column(adata, groupby, "groupby").astype(str).to_numpy()
    donors = None if split_key is None else obs_column(adata, split_key, "split_key").astype(str).to_numpy()
    n_repeats = whole_number("n_repeats", n_repeats, 1)
    if not adata.obs_names.is_unique:
        raise ValueError("Expected unique names of cells. Call `adata.obs_names_make_unique()` first.")
    targets = _targets(labels, to)
    missing = {g: t - int((labels == g).sum()) for g, t in targets.items()}
    missing = {g: m for g, m in missing.items() if m > 0}
    if not missing:
        raise ValueError(
            f"Expected groups of {groupby!r} with fewer cells than `to`={to!r}, found none. Nothing to fill."
        )
    rng = np.random.default_rng(whole_number("random_state", random_state))
    if model is None:
        held = _held_out(labels, donors, rng)
        _check_split(labels, held, list(missing))
        model = fit(adata[~held].copy(), config=config, random_state=random_state, device=device, progress=progress)
    else:
        held = ~adata.obs_names.isin(model.meta.get("cells", {}).get("names", []))
        if donors is not None and set(donors[held]) & set(donors[~held]):
            shared = sorted(set(donors[held]) & set(donors[~held]))[0]
            raise ValueError(f"Expected donors held out of the model's training whole, found {shared!r} on both sides.")
        _check_split(labels, held, list(missing))
    x, _ = read_like(adata, model)
    dense = np.asarray(x.toarray() if sp.issparse(x) else x, dtype=np.float32)

    def made(group: str, among: Array, n: int, seed: int) -> AnnData:
        return generate(model, n, like=adata[(labels == group) & among].copy(), random_state=seed, progress=False)

    seeds = [int(s) for s in rng.integers(2**31 - 1, size=n_repeats)]
    share = float((~held).mean())
    fill = {g: _missing_in_training(g, labels[~held], targets, to, share) for g in missing}
    draw = lambda group, n, seed: made(group, ~held, n, seed).X
    found = _measure(dense, labels, held, donors, fill, draw, seeds)
    verdict = "helps" if found.is_shown else "forced" if force else "declined"
    say = logger.info if found.is_shown else logger.warning
    ending = {
        "helps": "help is shown",
        "forced": "help is not shown; added as forced",
        "declined": "help is not shown: no synthetic cells are added (force=True adds them)",
    }
    say("balance: %s; %s", found, ending[verdict])
    added = {g: m if verdict != "declined" else 0 for g, m in missing.items()}
    real = AnnData(sp.csr_matrix(x) if sp.issparse(x) else x, obs=adata.obs.copy())
    real.var_names = model.meta["features"]
    real.obs[SYNTHETIC] = False
    parts = [real]
    for i, (group, n) in enumerate(added.items()):
        if n:
            part = made(group, np.ones(len(labels), dtype=bool), n, random_state + i)
            part.obs[groupby] = group
            part.obs_names = [f"synthetic-{group}-{j}" for j in range(n)]
            parts.append(part)
    out = ad.concat(parts, join="outer") if len(parts) > 1 else real
    out.obs[groupby] = out.obs[groupby].astype(str).astype("category")
    out.uns[BALANCE] = {
        "groupby": groupby,
        "verdict": verdict,
        "arm": np.array(ARMS),
        "balanced_accuracy": np.array([found.accuracy[arm] for arm in ARMS]),
        "rare_recall": np.array([found.recall[arm] for arm in ARMS]),
        "against": found.against,
        "gain": found.gain,
        "low": found.low,
        "high": found.high,
        "n_held_out": int(held.sum()),
        "group": np.array(list(added)),
        "added": np.array(list(added.values())),
        "model_fingerprint": model.fingerprint,
    }
    return out


def _targets(labels: Array, to: Any) -> dict[str, int]:
    """Least number of cells of each group."""
    counts = {str(g): int(n) for g, n in pd.Series(labels).value_counts().items()}
    if len(counts) < 2:
        raise ValueError(f"Expected at least 2 groups, found {list(counts)}.")
    if isinstance(to, Mapping):
        for group in to:
            if group not in counts:
                raise KeyError(_unknown("a group in `to`", group, sorted(counts)))
        return {group: whole_number(f"to[{group!r}]", n) for group, n in to.items()}
    if isinstance(to, str):
        if to not in ("max", "median"):
            raise ValueError(f"Expected `to` in ['max', 'median'], a number or numbers by group, found {to!r}.")
        number = max(counts.values()) if to == "max" else int(np.median(list(counts.values())))
    else:
        number = whole_number("to", to, 1)
    return dict.fromkeys(sorted(counts), number)


def _missing_in_training(group: str, labels: Array, targets: dict[str, int], to: Any, share: float) -> int:
    """Cells to add to the training part so that its groups have the proportions that all cells shall have."""
    goal = _targets(labels, to)[group] if isinstance(to, str) else round(targets[group] * share)
    return max(1, goal - int((labels == group).sum()))


def _held_out(labels: Array, donors: Array | None, rng: np.random.Generator) -> Array:
    """Mask of a quarter of the cells of each group, or of about a quarter of the donors."""
    held = np.zeros(len(labels), dtype=bool)
    if donors is not None:
        names = rng.permutation(np.unique(donors))
        if len(names) < 2:
            raise ValueError(f"Expected at least 2 donors in `split_key`, found {names.tolist()}.")
        return np.isin(donors, names[: max(1, round(_HELD_OUT * len(names)))])
    for group in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == group))
        held[rows[: max(1, round(_HELD_OUT * len(rows)))]] = True
    return held


def _check_split(labels: Array, held: Array, rare: list[str]) -> None:
    n = int(np.isin(labels[held], rare).sum())
    if n < _LEAST_HELD_OUT:
        raise ValueError(
            f"Expected at least {_LEAST_HELD_OUT} held-out cells of the groups to fill ({rare}), found {n}: no help could be "
            "shown. Fill more or larger groups, or hand over a model of a part of the cells."
        )
    few = [g for g in np.unique(labels) if (labels[~held] == g).sum() < 2]
    if few:
        raise ValueError(f"Expected at least 2 training cells of each group, found fewer of {few}. Leave them out.")


def _measure(
    x: Array, labels: Array, held: Array, donors: Array | None, fill: dict[str, int], draw: Any, seeds: list[int]
) -> _Help:
    """Correctness of held-out cells under each arm, averaged over the seeds, and the gain with its interval."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, truth = labels[~held], labels[held]
    n_components = min(_N_COMPONENTS, x.shape[1], int((~held).sum()) - 1)
    pca = PCA(n_components, random_state=0).fit(x[~held])
    scaler = StandardScaler().fit(pca.transform(x[~held]))
    space = lambda values: scaler.transform(pca.transform(values))
    seen, unseen = space(x[~held]), space(x[held])
    correct = {arm: np.zeros(len(truth)) for arm in ARMS}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for arm in ARMS:
            extra = []
            for group, n in fill.items():
                own = seen[train == group]
                if arm == "oversampling":
                    extra.append(own[_spread(np.arange(len(own)), n, rng)])
                elif arm == "SMOTE":
                    extra.append(_smote(own, n, rng))
                elif arm == "DiffAug":
                    values = draw(group, n, seed)
                    extra.append(space(np.asarray(values.toarray() if sp.issparse(values) else values)))
            names = np.repeat(list(fill), [len(e) for e in extra]) if extra else np.empty(0, dtype=train.dtype)
            learner = LogisticRegression(max_iter=1000).fit(np.vstack([seen, *extra]), np.concatenate([train, names]))
            correct[arm] += (learner.predict(unseen) == truth) / len(seeds)
    return _compare(correct, truth, list(fill), None if donors is None else donors[held], seeds[0])


def _smote(own: Array, n: int, rng: np.random.Generator) -> Array:
    """Points at a random place between a row and one of its nearest others (Chawla et al. 2002)."""
    distance = np.square(own[:, None] - own[None]).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    k = min(_N_NEIGHBORS, len(own) - 1)
    near = np.argsort(distance, axis=1)[:, :k]
    rows = _spread(np.arange(len(own)), n, rng)
    others = near[rows, rng.integers(k, size=n)]
    return own[rows] + rng.random((n, 1)) * (own[others] - own[rows])


def _compare(correct: dict[str, Array], truth: Array, rare: list[str], donors: Array | None, seed: int) -> _Help:
    groups, codes = np.unique(truth, return_inverse=True)

    def recalls(arm: str, weight: Array) -> Array:
        total = np.bincount(codes, weight, len(groups))
        hit = np.bincount(codes, weight * correct[arm], len(groups))
        return np.divide(hit, total, out=np.full(len(groups), np.nan), where=total > 0)

    once = np.ones(len(truth))
    accuracy = {arm: float(np.nanmean(recalls(arm, once))) for arm in ARMS}
    is_rare = np.isin(groups, rare)
    recall = {arm: float(np.nanmean(recalls(arm, once)[is_rare])) for arm in ARMS}
    against = max(ARMS[:-1], key=lambda arm: accuracy[arm])
    rng = np.random.default_rng(seed)
    drawn = np.empty(_N_RESAMPLES)
    for i in range(_N_RESAMPLES):
        if donors is None:
            weight = np.zeros(len(truth))
            for code in range(len(groups)):
                rows = np.flatnonzero(codes == code)
                weight[rows] = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows))
        else:
            names, of = np.unique(donors, return_inverse=True)
            weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[of].astype(float)
        drawn[i] = np.nanmean(recalls("DiffAug", weight) - recalls(against, weight))
    low, high = (float(v) for v in np.quantile(drawn, [0.025, 0.975]))
    return _Help(accuracy, recall, against, accuracy["DiffAug"] - accuracy[against], low, high)
