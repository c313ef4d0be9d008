"""``tl.balance``: synthetic cells for rare groups, if held-out cells show that they help."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from diffaug._anndata import obs_column
from diffaug._keys import BALANCE, LOG1P, MADE
from diffaug._model import DiffAug
from diffaug.core.arguments import whole_number
from diffaug.core.config import Config
from diffaug.tl._balance_cells import RealCells
from diffaug.tl._balance_judge import ARMS, LEAST_HELD_OUT, Gain, Outcome, classify, group_gain, joined, pooled_gain
from diffaug.tl._fit import fit
from diffaug.tl._generate import _unknown

logger = logging.getLogger(__name__)

_HELD_OUT = 0.25

Array = NDArray[Any]


def balance(
    adata: AnnData,
    model: DiffAug | None = None,
    *,
    groupby: str,
    to: Literal["max", "median"] | int | Mapping[str, int] = "max",
    split_key: str | None = None,
    n_folds: int = 5,
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
    and with generated cells, as many each, all groups at once. It is judged on cells that neither it nor the generator has
    seen. A group is filled if, with generated cells, *this group* is told from the rest better than with the best of the
    other arms: the 95 % interval of its gain in balanced accuracy is above zero. No group is filled on the evidence of
    others, nor if the gain of all groups together is shown to be a loss. Each interval is a group's own; with many groups,
    one in forty that nothing helps is filled by chance.

    With ``split_key`` the interval is Student's t over donors, each of which is held out once: a gain on one donor is no
    gain on the next. Fewer than three donors are not judged, and nothing is filled. Without it the interval is over cells,
    and holds for further cells of the same donors only.

    Parameters
    ----------
    adata
        Cells as for :func:`diffaug.tl.fit`.
    model
        A model of a part of these cells; those that it has not seen, by their names, are the held-out ones. Without one
        and without ``split_key``, three quarters of each group are fitted and the rest is held out.
    groupby
        Column of ``.obs`` with the groups.
    to
        Cells that each group shall have at least: as many as the largest (``"max"``) or the median one has, a number, or
        numbers by group.
    split_key
        Column of ``.obs`` with donors: all cells of a donor are held out or none. Without ``model`` there is a fit for each
        part of the donors that is held out, and where a group is filled one more of all cells, which generates.
    n_folds
        With ``split_key``: parts into which the donors are divided, at most one for each.
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
    New AnnData with the real cells (the model's genes, on its scale) and below them the synthetic ones, generated from
    all cells of their group. If the model makes counts, ``.X`` is of these counts, which are in ``.layers["counts"]``, as
    for the real cells. Fields:

    ``.obs["synthetic"]``
        Marks them.
    ``.obs["condition_cell"]``, ``["nearest_cell"]``, ``["nearest_distance"]``, ``["distance_percentile"]``
        Of synthetic cells: as in :func:`diffaug.tl.generate`. :func:`diffaug.pl.provenance` takes the result.
    ``.obs["library_size"]``
        Where there are counts (a column of this name that the real cells have is kept).
    ``.uns["diffaug_balance"]``
        ``verdict`` (``"helps"``, ``"declined"``, ``"forced"``), ``judged_over`` (``"donors"``, ``"cells"``, or ``"nothing"``, and
        then ``why``), and of all groups together ``arm`` with the ``balanced_accuracy`` and ``rare_recall`` (mean over the
        filled groups) of each, ``gain``, ``low``, ``high``, ``against`` (which arm), ``donor`` with ``donor_gain``.
        ``groups`` is a data frame with, for each group: ``added`` cells, ``verdict`` (also ``"not judged"``), ``gain``, ``low``,
        ``high``, ``against``, ``n_held_out``, ``n_donors``, ``why``, and the ``recall`` and ``accuracy`` of each arm.

    Raises
    ------
    KeyError
        The column or a group is unknown.
    ValueError
        Nothing is to be filled, or there are too few held-out cells to judge by.
    """
    labels = obs_column(adata, groupby, "groupby").astype(str).to_numpy()
    donors = None if split_key is None else obs_column(adata, split_key, "split_key").astype(str).to_numpy()
    n_repeats, n_folds = whole_number("n_repeats", n_repeats, 1), whole_number("n_folds", n_folds, 2)
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
    fitted = lambda cells: fit(cells, config=config, random_state=random_state, device=device, progress=progress)
    masks = [_unseen(adata, model, donors)] if model is not None else list(_parts(labels, donors, n_folds, rng))
    _check_split(labels, masks, list(missing), whole=donors is not None and model is None)
    seeds = [int(s) for s in rng.integers(2**31 - 1, size=n_repeats)]
    outcomes, fingerprints = [], []
    for i, held in enumerate(masks):
        if donors is not None:
            logger.info("balance: part %d of %d holds out %s", i + 1, len(masks), np.unique(donors[held]).tolist())
        judged = fitted(adata[~held].copy()) if model is None else model
        outcomes.append(_judged(adata, judged, labels, held, missing, targets, to, seeds))
        fingerprints.append(judged.fingerprint)
    found = joined(outcomes, list(missing))
    of = None if donors is None else donors[found.rows]
    pooled, gains = pooled_gain(found, of), {g: group_gain(found, of, g) for g in missing}
    verdicts = {g: _verdict(gain, pooled, force) for g, gain in gains.items()}
    _say(pooled, gains, verdicts, donors is not None)
    added = {g: m if verdicts[g] in ("helps", "forced") else 0 for g, m in missing.items()}

    # One split: its model goes on to generate. Several: a model of all cells, if there is anything to generate.
    maker = judged if len(masks) == 1 else fitted(adata.copy()) if any(added.values()) else None
    cells = RealCells.of_source(adata) if maker is None else RealCells.of_model(adata, maker)
    parts = [cells.real(adata)]
    distances = None
    for i, (group, n) in enumerate(added.items()):
        if n and maker is not None:
            part = cells.made(adata, maker, labels == group, n, random_state + i, train=adata)
            part.obs[groupby] = group
            part.obs_names = [f"synthetic-{group}-{j}" for j in range(n)]
            distances = part.uns[MADE]["real_distances"]
            parts.append(part)
    out = ad.concat(parts, join="outer") if len(parts) > 1 else parts[0]
    out.obs[groupby] = out.obs[groupby].astype(str).astype("category")
    if cells.kind in ("counts", "log"):
        out.uns[LOG1P] = {}
    out.uns[BALANCE] = {
        "groupby": groupby,
        **_record(pooled, gains, verdicts, added, donors is not None),
        "n_held_out": len(found.rows),
        "n_folds": len(masks),
        "judged_fingerprint": np.array(fingerprints),
        "model_fingerprint": "" if maker is None else maker.fingerprint,
    }
    if distances is not None:
        out.uns[BALANCE]["real_distances"] = distances
    return out


# --- what is held out -----------------------------------------------------------------------------------------------


def _unseen(adata: AnnData, model: DiffAug, donors: Array | None) -> Array:
    """Mask of the cells that a model has not seen; of whole donors."""
    held = ~adata.obs_names.isin(model.meta.get("cells", {}).get("names", []))
    if donors is not None and set(donors[held]) & set(donors[~held]):
        shared = sorted(set(donors[held]) & set(donors[~held]))[0]
        raise ValueError(f"Expected donors held out of the model's training whole, found {shared!r} on both sides.")
    return held


def _parts(labels: Array, donors: Array | None, n_folds: int, rng: np.random.Generator) -> Iterator[Array]:
    """Mask of a quarter of the cells of each group; or masks that hold out every donor once."""
    if donors is None:
        held = np.zeros(len(labels), dtype=bool)
        for group in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == group))
            held[rows[: max(1, round(_HELD_OUT * len(rows)))]] = True
        yield held
        return
    names = rng.permutation(np.unique(donors))
    if len(names) < 2:
        raise ValueError(f"Expected at least 2 donors in `split_key`, found {names.tolist()}.")
    for some in np.array_split(names, min(n_folds, len(names))):
        yield np.isin(donors, some)


def _check_split(labels: Array, masks: list[Array], rare: list[str], *, whole: bool) -> None:
    n = sum(int(np.isin(labels[held], rare).sum()) for held in masks)
    if n < LEAST_HELD_OUT:
        raise ValueError(
            f"Expected at least {LEAST_HELD_OUT} held-out cells of the groups to fill ({rare}), found {n}: no help could be "
            "shown. Fill more or larger groups, or hand over a model of a part of the cells."
        )
    # Where every donor is held out once, a group that few donors have is left out of the parts that lack it.
    few = [] if whole else [g for g in np.unique(labels) if (labels[~masks[0]] == g).sum() < 2]
    if few:
        raise ValueError(f"Expected at least 2 training cells of each group, found fewer of {few}. Leave them out.")


# --- how many -------------------------------------------------------------------------------------------------------


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


# --- what was measured ----------------------------------------------------------------------------------------------


def _judged(
    adata: AnnData,
    model: DiffAug,
    labels: Array,
    held: Array,
    missing: dict[str, int],
    targets: dict[str, int],
    to: Any,
    seeds: list[int],
) -> Outcome:
    """What was said of the held-out cells, with the groups filled that have two training cells."""
    cells, train = RealCells.of_model(adata, model), labels[~held]
    share = float((~held).mean())
    fill = {g: _missing_in_training(g, train, targets, to, share) for g in missing if (train == g).sum() >= 2}
    draw = lambda group, n, seed: cells.made(adata, model, (labels == group) & ~held, n, seed).X
    return classify(cells.dense, labels, held, fill, draw, seeds)


# --- what is said ---------------------------------------------------------------------------------------------------


def _verdict(gain: Gain, pooled: Gain, force: bool) -> str:
    if gain.is_shown and not pooled.is_harm:
        return "helps"
    return "forced" if force else "not judged" if gain.why else "declined"


def _overall(verdicts: dict[str, str]) -> str:
    found = set(verdicts.values())
    return "forced" if "forced" in found else "helps" if "helps" in found else "declined"


def _say(pooled: Gain, gains: dict[str, Gain], verdicts: dict[str, str], by_donor: bool) -> None:
    over = "not judged over donors" if by_donor and pooled.why else f"judged over {'donors' if by_donor else 'cells'}"
    ending = {
        "helps": "help is shown",
        "forced": "help is not shown; added as forced",
        "declined": "help is not shown: no synthetic cells are added (force=True adds them)",
        "not judged": "no synthetic cells are added on the evidence of other groups (force=True adds them)",
    }
    logger.log(logging.WARNING if pooled.why else logging.INFO, "balance, %s: all groups: %s", over, pooled)
    for group, gain in gains.items():
        level = logging.INFO if verdicts[group] == "helps" else logging.WARNING
        harm = ", but a loss of all groups together is" if gain.is_shown and pooled.is_harm else ""
        logger.log(level, "balance, %s: %s: %s: %s%s", over, group, gain, ending[verdicts[group]], harm)


def _record(
    pooled: Gain, gains: dict[str, Gain], verdicts: dict[str, str], added: dict[str, int], by_donor: bool
) -> dict[str, Any]:
    recall = np.array([[gain.recall[arm] for arm in ARMS] for gain in gains.values()])
    known = np.isfinite(recall).all(axis=1)
    table = pd.DataFrame(
        {
            "added": list(added.values()),
            "verdict": list(verdicts.values()),
            **{name: [getattr(g, name) for g in gains.values()] for name in ("gain", "low", "high", "against")},
            "n_held_out": [g.n_cells for g in gains.values()],
            "n_donors": [len(g.by_donor) for g in gains.values()],
            "why": [g.why for g in gains.values()],
            **{f"recall_{arm}": recall[:, i] for i, arm in enumerate(ARMS)},
            **{f"accuracy_{arm}": [g.accuracy[arm] for g in gains.values()] for arm in ARMS},
        },
        index=pd.Index(list(gains), name="group"),
    )
    return {
        "verdict": _overall(verdicts),
        "judged_over": "nothing" if pooled.why else "donors" if by_donor else "cells",
        "why": pooled.why,
        "arm": np.array(ARMS),
        "balanced_accuracy": np.array([pooled.accuracy[arm] for arm in ARMS]),
        "rare_recall": recall[known].mean(axis=0) if known.any() else np.full(len(ARMS), np.nan),
        **{name: getattr(pooled, name) for name in ("against", "gain", "low", "high")},
        "donor": np.array(list(pooled.by_donor), dtype=str),
        "donor_gain": np.array(list(pooled.by_donor.values()), dtype=float),
        "groups": table,
    }
