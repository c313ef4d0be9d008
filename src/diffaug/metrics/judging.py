"""Every measure of synthetic cells beside its floor and its nulls, pooled and for each type."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from diffaug.core.arguments import whole_number
from diffaug.metrics._absent import AbsentType, absent_types
from diffaug.metrics._cells import Cells, Values
from diffaug.metrics._checks import Matrix, as_codes, as_matrix, check_same_columns
from diffaug.metrics._measured import MIN_CELLS, pooled_values, values_per_type
from diffaug.metrics._resample import FEWEST_GROUPS, ones, resamples_groups, resampling_weights
from diffaug.metrics._score import MeanScore, Score, finished, mean_score
from diffaug.metrics.memorization import row_fingerprints
from diffaug.metrics.nulls import NULLS, make_null

_PCA_CELLS = 5000
_SHARED = 0.01


@dataclass(frozen=True, eq=False)
class Judgement:
    """All scores, and what a page draws.

    Attributes
    ----------
    scores
        Pooled scores first, then type by type.
    notes
        Sentences on what was left out or assumed.
    mean_score
        Mean of the pooled scores, with its interval.
    absent_types
        Types of the training cells of which there are no synthetic cells, or hardly any, with how likely that is.
    missing_types
        Names of those whose absence can hardly be chance: a fault.
    resampled
        What the intervals are from: "donors" or "cells" of the held-out ones.
    components
        First two principal components of "held_out", "synthetic" and "train" cells that were drawn.
    types
        Types of the same cells; empty without labels.
    gene_means, gene_zeros
        Mean and zero fraction of each gene: "held_out", "synthetic".
    n_components, n_projection, n_floor
        Of the projection; and the training cells of the floor.
    """

    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    mean_score: MeanScore
    absent_types: tuple[AbsentType, ...]
    missing_types: tuple[str, ...]
    resampled: str
    components: dict[str, NDArray]
    types: dict[str, NDArray]
    gene_means: dict[str, NDArray]
    gene_zeros: dict[str, NDArray]
    n_components: int
    n_projection: int
    n_floor: int


_ABSENT = {
    "poor": "Types that the synthetic cells lack",
    "fair": "Types that the synthetic cells seem to lack",
    "not judged": "Types with hardly any synthetic cells, of which few were to be expected",
}


def judge_synthetic(
    synthetic: Matrix,
    train: Matrix,
    held_out: Matrix,
    *,
    projection: Matrix | None = None,
    labels: tuple[ArrayLike | None, ArrayLike, ArrayLike] | None = None,
    totals: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    held_out_donors: ArrayLike | None = None,
    max_obs: int = 2000,
    n_components: int = 30,
    n_resamples: int = 100,
    n_estimators: int = 100,
    random_state: int = 0,
) -> Judgement:
    """Judge synthetic rows against held-out ones, with floor, nulls and intervals for every measure.

    The principal components are fitted on ``projection``, and these cells take no other part. Synthetic rows that copy it, or the training rows, are judged like any others.

    Parameters
    ----------
    synthetic, train, held_out
        Rows S, T and H on one scale, log-normalised; dense or ``scipy.sparse``.
    projection
        Real rows P. By default a random half of ``train``; the floor is then from the other half.
    labels
        Types of S, T and H. With ``None`` for S, they are predicted from the training cells.
    totals
        Total of each cell of S, T and H (log library sizes, say). By default the sums of the rows.
    held_out_donors
        Donor of each held-out row: intervals then hold for new donors, where there are three or more.
    max_obs
        Greatest number of rows on each side.
    n_components
        Principal components.
    n_resamples
        Of the bootstrap. Gene-gene agreement and markers take 20 of them.
    n_estimators
        Trees of each forest; at least 40, so that every cell is left out of some.
    random_state
        Seed of everything random.

    Returns
    -------
    :class:`Judgement`.

    Raises
    ------
    TypeError, ValueError
        If the matrices do not fit, are too small, or ``projection`` or ``train`` shares rows with ``held_out``.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).gamma(2.0, size=(3, 90, 12))
    >>> found = judge_synthetic(x[0], x[1], x[2], n_resamples=10)
    >>> {s.measure: s.verdict for s in found.scores}["energy"]
    'good'
    """
    whole_number("max_obs", max_obs, MIN_CELLS)
    whole_number("n_resamples", n_resamples, 2)
    whole_number("n_components", n_components, 2)
    whole_number("n_estimators", n_estimators, 40)
    rng = np.random.default_rng(random_state)
    names = ("synthetic", "train", "held_out")
    sets = {
        name: as_matrix(x, name, min_rows=2 * MIN_CELLS if name == "train" and projection is None else MIN_CELLS)
        for name, x in zip(names, (synthetic, train, held_out), strict=True)
    }
    for name in names:
        check_same_columns(sets["synthetic"], sets[name], ("synthetic", name))
    types: dict[str, NDArray | None] = dict.fromkeys(names)
    if labels is not None:
        for name, found in zip(names, labels, strict=True):
            types[name] = None if found is None else _texts(found, f"labels ({name})", sets[name].shape[0])
    sums: dict[str, Values | None] = dict.fromkeys(names)
    if totals is not None:
        sums = {n: np.asarray(v, dtype=np.float64) for n, v in zip(names, totals, strict=True)}

    fitted, of_f = _projection_and_floor(sets, projection, rng)
    rows_p = np.sort(rng.permutation(fitted.shape[0])[:_PCA_CELLS])
    fitted = _dense(fitted[rows_p])
    n_components = min(n_components, *(side - 1 for side in fitted.shape))
    pca = PCA(n_components, svd_solver="randomized", random_state=random_state).fit(fitted)

    n = min(max_obs, sets["synthetic"].shape[0], len(of_f), sets["held_out"].shape[0])
    notes, drawn = [], {}
    for name in names:
        pool = of_f if name == "train" else np.arange(sets[name].shape[0])
        # Up to the cap and not only to the least set: types and marginals use what there is.
        rows = np.sort(rng.permutation(pool)[:max_obs])
        x = _dense(sets[name][rows])
        who = None if held_out_donors is None or name != "held_out" else np.asarray(held_out_donors)[rows]
        total, kind = sums[name], types[name]
        drawn[name] = Cells(
            x,
            pca.transform(x).astype(np.float64),
            x.sum(axis=1, dtype=np.float64) if total is None else total[rows],
            None if kind is None else kind[rows],
            resampling_weights(len(rows), n_resamples, rng, who),
            who if resamples_groups(who) else None,
        )
    predicted = types["train"] is not None and types["synthetic"] is None
    if predicted:
        floor = drawn["train"]
        guessed = _predict(floor.pcs, floor.labels, drawn["synthetic"].pcs)
        drawn["synthetic"] = replace(drawn["synthetic"], labels=guessed)
        notes.append("The synthetic cells have no types of their own: each was given the type that real cells suggest.")
    if max_obs < max(x.shape[0] for x in sets.values()):
        notes.append(f"At most {max_obs} cells of each set were drawn at random and judged.")

    real, made, floor = drawn["held_out"], drawn["synthetic"], drawn["train"]
    if held_out_donors is not None and real.donors is None:
        notes.append(
            f"The held-out cells are of fewer than {FEWEST_GROUPS} donors: cells were resampled, and the intervals do not "
            "hold for new donors."
        )
    candidates = _beside_nulls(made, floor, pca, random_state + 1, own_totals=totals is not None)
    raw, left = pooled_values(real, candidates, n, predicted, random_state, n_estimators)
    notes += left
    absent: tuple[AbsentType, ...] = ()
    if made.labels is not None and floor.labels is not None and real.labels is not None:
        if predicted:  # a type that neighbours cannot tell is given to no real cell either
            absent = absent_types(made.labels, _predict(floor.pcs, floor.labels, floor.pcs))
        else:  # all cells and not only those drawn: a rare type needs them
            absent = absent_types(_known(types["synthetic"]), _known(types["train"]))
        for verdict, said in _ABSENT.items():
            if found := [str(t) for t in absent if t.verdict == verdict]:
                notes.append(f"{said}: {'; '.join(found)}.")
        per_type, left = values_per_type(real, candidates, raw, random_state, n_estimators)
        raw += per_type
        notes += left
    else:
        notes.append("No types were given: markers, log-fold changes, composition and usefulness could not be judged.")
    missing = tuple(t.name for t in absent if t.verdict == "poor")
    scored = [finished(*r, poor=r[0] == "composition" and bool(missing)) for r in raw]
    shown = {"held_out": real, "synthetic": made, "train": floor}
    return Judgement(
        scores=tuple(s for s, _ in scored),
        notes=tuple(notes),
        mean_score=mean_score([pair for pair in scored if pair[0].group is None]),
        absent_types=absent,
        missing_types=missing,
        resampled="cells" if real.donors is None else "donors",
        components={k: c.pcs[:, :2] for k, c in shown.items()},
        types={k: c.labels for k, c in shown.items() if c.labels is not None},
        gene_means={k: shown[k].x.mean(axis=0) for k in ("held_out", "synthetic")},
        gene_zeros={k: (shown[k].x == 0).mean(axis=0) for k in ("held_out", "synthetic")},
        n_components=n_components,
        n_projection=len(fitted),
        n_floor=len(of_f),
    )


def _projection_and_floor(
    sets: dict[str, Matrix], projection: Matrix | None, rng: np.random.Generator
) -> tuple[Matrix, NDArray[np.intp]]:
    """Cells to fit the principal components on, and rows of the training cells that the floor comes from, apart from them."""
    if projection is None:
        order = rng.permutation(sets["train"].shape[0])
        of_p, of_f = (np.sort(half) for half in np.array_split(order, 2))
        fitted = sets["train"][of_p]
    else:
        fitted = as_matrix(projection, "projection", min_rows=MIN_CELLS)
        check_same_columns(sets["synthetic"], fitted, ("synthetic", "projection"))
        _refuse_shared(fitted, sets["held_out"], "projection", "held_out")
        _refuse_shared(fitted, sets["train"], "projection", "train")
        of_f = np.arange(sets["train"].shape[0])
    _refuse_shared(sets["train"], sets["held_out"], "train", "held_out")
    return fitted, of_f


def _beside_nulls(made: Cells, floor: Cells, pca: PCA, seed: int, *, own_totals: bool) -> dict[str, Cells]:
    """The synthetic cells, the floor, and what generators that know little make of the floor's cells."""
    rng = np.random.default_rng(seed)
    candidates = {"synthetic": made, "train": floor}
    for kind in NULLS:
        x = make_null(kind, floor.x, floor.labels, rng)
        # Totals that were given cannot be had for made-up rows; copies and noisy copies keep those of their cells.
        keeps = kind in ("copies", "noise") and own_totals
        t = floor.totals if keeps else np.full(len(x), np.nan) if own_totals else x.sum(axis=1, dtype=np.float64)
        candidates[kind] = Cells(x, pca.transform(x).astype(np.float64), t, floor.labels, ones(len(x)))
    return candidates


def _predict(x: NDArray, labels: NDArray | None, new: NDArray) -> NDArray:
    """Types of new cells by their neighbours among others."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(15, len(x))).fit(x, labels).predict(new)


def _refuse_shared(a: Matrix, b: Matrix, name_a: str, name_b: str) -> None:
    of_a, of_b = row_fingerprints(a), row_fingerprints(b)
    share = max(np.isin(of_a, of_b).mean(), np.isin(of_b, of_a).mean())
    if share > _SHARED:
        raise ValueError(
            f"Expected `{name_a}` and `{name_b}` to be apart, found {share:.0%} of the cells of one in the other. "
            "What is fitted on the evaluated cells cannot judge them. Pass other cells."
        )


def _known(labels: NDArray | None) -> NDArray:
    assert labels is not None
    return labels


def _texts(values: ArrayLike, name: str, n: int) -> NDArray:
    codes, names = as_codes(values, name, n)
    return names.astype(str)[codes]


def _dense(x: Matrix) -> NDArray[np.float32]:
    return np.asarray(x.toarray() if sparse.issparse(x) else x, dtype=np.float32)
