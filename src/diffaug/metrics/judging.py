"""Every measure of synthetic cells beside its floor and its nulls, pooled and for each type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from diffaug.metrics import distribution, expression, markers, transfer
from diffaug.metrics._absent import AbsentType, absent_types
from diffaug.metrics._checks import Matrix, as_codes, as_matrix, check_count, check_same_columns
from diffaug.metrics._forest import SHALLOW, forest_auc_values
from diffaug.metrics._resample import FEWEST_GROUPS, ones, resamples_groups, resampling_weights
from diffaug.metrics._score import MeanScore, Score, finished, mean_score
from diffaug.metrics.memorization import row_fingerprints
from diffaug.metrics.mixing import mixing_values
from diffaug.metrics.nulls import NULLS, make_null

MIN_CELLS = 20
_TYPE_CELLS = 500
_PCA_CELLS = 5000
_N_GENES = 200
_N_MARKERS, _N_SLOPE = 20, 50
_SHARED = 0.01

Values = NDArray[np.float64]


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


@dataclass(frozen=True, eq=False)
class _Cells:
    x: NDArray[np.float32]
    pcs: NDArray[np.float64]
    totals: Values
    labels: NDArray | None
    weights: Values
    donors: NDArray | None = None
    #: Resamples that say something of these cells; the others' values are struck out.
    alive: NDArray[np.bool_] | None = None

    def of(self, rows: NDArray) -> _Cells:
        labels = None if self.labels is None else self.labels[rows]
        donors = None if self.donors is None else self.donors[rows]
        weights = self.weights[:, rows]
        # A resample of donors may hold none of a type's cells. Ones, so that it can be gone through.
        alive = (weights > 0).sum(axis=1) > 1
        weights = np.where(alive[:, None], weights, 1.0)
        if self.alive is not None:
            alive = alive & self.alive
        return _Cells(self.x[rows], self.pcs[rows], self.totals[rows], labels, weights, donors, alive)

    def by_cells(self, rng: np.random.Generator) -> _Cells:
        """The same with resamples of cells in place of donors."""
        weights = resampling_weights(len(self.x), len(self.weights) - 1, rng)
        return replace(self, weights=weights, donors=None, alive=None)


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
    check_count(max_obs, "max_obs", least=MIN_CELLS)
    check_count(n_resamples, "n_resamples", least=2)
    check_count(n_components, "n_components", least=2)
    check_count(n_estimators, "n_estimators", least=40)
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
        drawn[name] = _Cells(
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
        guessed = _predict(floor.pcs, floor.labels, drawn["synthetic"].pcs, random_state)
        s = drawn["synthetic"]
        drawn["synthetic"] = replace(s, labels=guessed)
        notes.append("The synthetic cells have no types of their own: each was given the type that real cells suggest.")
    if max_obs < max(x.shape[0] for x in sets.values()):
        notes.append(f"At most {max_obs} cells of each set were drawn at random and judged.")

    real, made, floor = drawn["held_out"], drawn["synthetic"], drawn["train"]
    if held_out_donors is not None and real.donors is None:
        notes.append(
            f"The held-out cells are of fewer than {FEWEST_GROUPS} donors: cells were resampled, and the intervals do not "
            "hold for new donors."
        )
    rng_nulls = np.random.default_rng(random_state + 1)
    candidates = {"synthetic": made, "train": floor}
    for kind_of_null in NULLS:
        x = make_null(kind_of_null, floor.x, floor.labels, rng_nulls)
        # Totals that were given cannot be had for made-up rows; copies and noisy copies keep those of their cells.
        keeps = kind_of_null in ("copies", "noise") and totals is not None
        t = floor.totals if keeps else x.sum(axis=1, dtype=np.float64) if totals is None else np.full(len(x), np.nan)
        candidates[kind_of_null] = _Cells(x, pca.transform(x).astype(np.float64), t, floor.labels, ones(len(x)))

    raw, left = _pooled(real, candidates, n, predicted, random_state, n_estimators)
    notes += left
    absent: tuple[AbsentType, ...] = ()
    if made.labels is not None and floor.labels is not None and real.labels is not None:
        if predicted:  # a type that neighbours cannot tell is given to no real cell either
            known = _predict(floor.pcs, floor.labels, floor.pcs, random_state)
            absent = absent_types(made.labels, known)
        else:  # all cells and not only those drawn: a rare type needs them
            absent = absent_types(_known(types["synthetic"]), _known(types["train"]))
        for verdict, said in _ABSENT.items():
            if found := [str(t) for t in absent if t.verdict == verdict]:
                notes.append(f"{said}: {'; '.join(found)}.")
        per_type, left = _per_type(real, candidates, raw, random_state, n_estimators)
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


_ABSENT = {
    "poor": "Types that the synthetic cells lack",
    "fair": "Types that the synthetic cells seem to lack",
    "not judged": "Types with hardly any synthetic cells, of which few were to be expected",
}
#: Measure, group, cells on each side, values of each candidate for each line of weights.
_Raw = tuple[str, str | None, int, dict[str, Values]]


def _cloud_measures(seed: int, n_trees: int, *, genes: bool) -> dict[str, Callable[[_Cells, _Cells], Values]]:
    """Measures of two clouds of equally many cells."""

    def forest(space: str, depth: int | None) -> Callable[[_Cells, _Cells], Values]:
        return lambda a, b: forest_auc_values(
            *(getattr(a, space), getattr(b, space), a.weights, b.weights),
            max_depth=depth,
            n_estimators=n_trees,
            random_state=seed,
        )

    found: dict[str, Callable[[_Cells, _Cells], Values]] = {
        "mmd": lambda a, b: distribution.mmd_values(a.pcs, b.pcs, a.weights, b.weights),
        "energy": lambda a, b: distribution.energy_values(a.pcs, b.pcs, a.weights, b.weights),
        "sliced_wasserstein": lambda a, b: distribution.sliced_values(a.pcs, b.pcs, a.weights, b.weights),
        "mixing": lambda a, b: mixing_values(a.pcs, b.pcs, a.weights, b.weights, min(30, len(a.pcs) // 2)),
        "auc_pcs": forest("pcs", None),
    }
    if genes:
        found["auc_pcs_shallow"] = forest("pcs", SHALLOW)
        found |= {"auc_genes_shallow": forest("x", SHALLOW), "auc_genes": forest("x", None)}
    return found


def _gene_measures() -> dict[str, Callable[[_Cells, _Cells], Values]]:
    """Measures of genes and cells one by one, for sets of any sizes."""
    return {
        "gene_mean": lambda a, b: expression.mean_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "gene_variance": lambda a, b: expression.variance_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "zero_fraction": lambda a, b: expression.zero_values(_f64(a.x), _f64(b.x), a.weights, b.weights),
        "library_size": lambda a, b: (
            expression.total_values(a.totals, b.totals, a.weights, b.weights)
            if np.isfinite(b.totals).all()
            else np.full(len(a.weights), np.nan)
        ),
    }


def _pooled(
    real: _Cells,
    candidates: dict[str, _Cells],
    n: int,
    predicted: bool,
    seed: int,
    n_trees: int,
) -> tuple[list[_Raw], list[str]]:
    raw: list[_Raw] = []
    notes: list[str] = []
    heads = {k: _head(c, n, seed) for k, c in candidates.items()}
    for name, measure in {**_cloud_measures(seed, n_trees, genes=True), **_gene_measures()}.items():
        raw.append((name, None, n, _for_all(measure, _head(real, n, seed), heads)))
    if real.labels is None:
        genes = expression.top_variance(real.x, _N_GENES)
        raw.append(("correlation", None, n, _for_all(_correlation(genes), _head(real, n, seed), heads)))
        return raw, notes
    kinds = sorted(set(real.labels.tolist()))
    raw.append(("composition", None, n, _for_all(lambda a, b: _composition(a, b, kinds), real, candidates)))
    common = sorted(
        set.intersection(*(set(c.labels.tolist()) for c in (real, candidates["train"]) if c.labels is not None))
    )
    if len(common) > 1:
        first, apart = markers.random_half(_names(real), real.donors, common, np.random.default_rng(seed))
        if real.donors is not None and not apart:
            notes.append(
                "The held-out cells of every donor were halved for the log-fold slope, as no halves of the donors have all "
                "types: what is peculiar to these donors draws it below 1, for real cells too."
            )
        found = {k: _markers(real, c, common, first) for k, c in candidates.items()}
        for i, name in enumerate(("marker_recall", "lfc_slope")):
            raw.append((name, None, n, {k: _mean(v[i]) for k, v in found.items()}))
            for j, kind in enumerate(common):
                size = int((real.labels == kind).sum())
                values = {k: v[i][:, j].copy() for k, v in found.items()}
                if real.donors is not None and not resamples_groups(real.donors[real.labels == kind]):
                    for line in values.values():
                        line[1:] = np.nan  # what remains of the resamples has the same donors over and over
                raw.append((name, kind, size, values))
    if len(kinds) > 1:
        learnt = {k: c for k, c in candidates.items() if not (predicted and k == "synthetic")}
        if "synthetic" in learnt:
            raw.append(("transfer", None, len(real.x), _for_all(lambda a, b: _transfer(a, b, seed), real, learnt)))
    return raw, notes


def _per_type(
    real: _Cells, candidates: dict[str, _Cells], raw: list[_Raw], seed: int, n_trees: int
) -> tuple[list[_Raw], list[str]]:
    """Measures within each type, and notes; gene-gene agreement gets its pooled value, the mean over types, in ``raw``."""
    found: list[_Raw] = []
    skipped: list[str] = []
    few_donors: list[str] = []
    rng = np.random.default_rng(seed)
    genes = expression.top_variance(real.x, _N_GENES)
    agreement: list[tuple[int, dict[str, Values]]] = []
    for kind in sorted(set(_names(real).tolist())):
        rows = {k: np.flatnonzero(_names(c) == kind) for k, c in {**candidates, "real": real}.items()}
        n = min(_TYPE_CELLS, *(len(r) for r in rows.values()))
        if n < MIN_CELLS:
            skipped.append(kind)
            continue
        a = _head(real.of(rows["real"]), n, seed)
        if a.donors is not None and not resamples_groups(a.donors):
            few_donors.append(kind)
            a = a.by_cells(rng)
        here = {k: _head(c.of(rows[k]), n, seed) for k, c in candidates.items()}
        for name, measure in {**_cloud_measures(seed, n_trees, genes=False), **_gene_measures()}.items():
            found.append((name, kind, n, _for_all(measure, a, here)))
        values = _for_all(_correlation(genes), a, here)
        found.append(("correlation", kind, n, values))
        agreement.append((n, values))
    if agreement:
        size = [n for n, _ in agreement]
        raw.append(
            (
                "correlation",
                None,
                sum(size),
                {k: _weighted_mean(np.stack([v[k] for _, v in agreement]), size) for k in candidates},
            )
        )
    notes = []
    if skipped:
        notes.append(
            f"Types with fewer than {MIN_CELLS} cells in one of the sets were not judged alone: {', '.join(skipped)}."
        )
    if few_donors:
        notes.append(
            f"Types of fewer than {FEWEST_GROUPS} held-out donors: {', '.join(few_donors)}. Within these, cells were resampled, "
            "and the intervals do not hold for new donors; markers and log-fold slopes have none."
        )
    return found, notes


def _weighted_mean(values: Values, size: list[int]) -> Values:
    """Mean over the first axis of what there is, weighted; NaN where there is nothing."""
    weights = np.isfinite(values) * np.array(size, dtype=float)[:, None]
    total = weights.sum(axis=0)
    return np.divide(
        (np.nan_to_num(values) * weights).sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0
    )


def _for_all(
    measure: Callable[[_Cells, _Cells], Values], real: _Cells, candidates: dict[str, _Cells]
) -> dict[str, Values]:
    """The measure of every candidate; nulls go without resamples, and copies are the floor's own cells."""
    plain = replace(real, weights=real.weights[:1])
    found = {}
    for name, made in candidates.items():
        if name == "copies":
            continue
        values = measure(real, made) if len(made.weights) > 1 else measure(plain, made)
        if real.alive is not None or made.alive is not None:
            values = values.copy()
            for alive in (real.alive, made.alive):
                if alive is not None and len(values) > 1:
                    values[~alive[: len(values)]] = np.nan
        found[name] = values
    return {**found, "copies": found["train"][:1]}


def _correlation(genes: NDArray[np.intp]) -> Callable[[_Cells, _Cells], Values]:
    def measure(a: _Cells, b: _Cells) -> Values:
        some = slice(0, 21)  # 20 resamples give an interval; each takes a matrix product
        return expression.correlation_values(_f64(a.x[:, genes]), _f64(b.x[:, genes]), a.weights[some], b.weights[some])

    return measure


def _composition(a: _Cells, b: _Cells, kinds: list[str]) -> Values:
    kinds = sorted({*kinds, *_names(b)})
    shares = []
    for cells in (a, b):
        belongs = (_names(cells)[:, None] == np.array(kinds)).astype(float)
        shares.append(cells.weights @ belongs / cells.weights.sum(axis=1)[:, None])
    return 0.5 * np.abs(shares[0] - shares[1]).sum(axis=1)


def _markers(real: _Cells, made: _Cells, kinds: list[str], first: NDArray[np.bool_]) -> tuple[Values, Values]:
    # Every resample sums over all cells and genes, so 20 of them have to do.
    lines = min(21, len(made.weights))
    a, b, weights = _f64(real.x), _f64(made.x), (real.weights[:lines], made.weights[:lines])
    halves = markers.RealHalves.of(a, _names(real), weights[0], kinds, first, _N_SLOPE)
    recall = markers.recall_values(a, b, _names(real), _names(made), *weights, kinds, n_markers=_N_MARKERS)
    return recall, markers.slope_values(halves, markers.type_means(b, _names(made), weights[1], kinds))


def _transfer(real: _Cells, made: _Cells, seed: int) -> Values:
    hits = transfer.transfer_hits(made.pcs, _names(made), real.pcs, _names(real), seed)
    return transfer.recall_values(hits, _names(real), real.weights)


def _predict(x: NDArray, labels: NDArray | None, new: NDArray, seed: int) -> NDArray:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(15, len(x))).fit(x, labels).predict(new)


def _mean(values: Values) -> Values:
    """Mean over types that a line has; NaN for a line with none."""
    there = np.isfinite(values)
    return np.where(there, values, 0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)


def _head(cells: _Cells, n: int, seed: int) -> _Cells:
    """``n`` cells at random, with their own resamples: cut weights would no longer add up."""
    if len(cells.x) <= n:
        return cells
    return cells.of(np.sort(np.random.default_rng(seed).permutation(len(cells.x))[:n]))


def _names(cells: _Cells) -> NDArray:
    return _known(cells.labels)


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


def _f64(x: NDArray) -> Any:
    return x.astype(np.float64)
