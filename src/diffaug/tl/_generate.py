"""``tl.generate``: synthetic cells, log-normalised or as counts."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug._anndata import (
    Matrix,
    categorical_obs,
    cells_meta,
    check_adata,
    groups_of,
    new_anndata,
    read_totals,
    unpack_obs,
)
from diffaug._keys import (
    CONDITION_CELL,
    DISTANCE_PERCENTILE,
    LIBRARY_SIZE,
    NEAREST_CELL,
    NEAREST_DISTANCE,
    SYNTHETIC,
)
from diffaug._model import DiffAug
from diffaug._new_cells import read_like
from diffaug.backends._cell_counts import drawn_counts
from diffaug.core.arguments import any_number, share, whole_number
from diffaug.tl._library_sizes import CountScale, as_log, library_sizes, log_scale, spread
from diffaug.tl._provenance import (
    AuditedAgainst,
    TrainingCells,
    audit_donors,
    nearest_training,
    passed_audit,
    training_cells,
)
from diffaug.tl._told import told_of

#: What :func:`generate` says of each cell itself, in place of a column of that name of the conditioning cell.
OWN_COLUMNS = (CONDITION_CELL, SYNTHETIC, LIBRARY_SIZE, NEAREST_CELL, NEAREST_DISTANCE, DISTANCE_PERCENTILE)


def generate(
    model: DiffAug,
    n_obs: int | None = None,
    *,
    like: AnnData | None = None,
    groupby: str | Sequence[str] | None = None,
    n: Mapping[Any, int] | int | None = None,
    batch: str | None = None,
    batch_key: str | None = None,
    output: Literal["log", "counts"] = "log",
    depth: float | AnnData | None = None,
    strength: float = 1.0,
    guidance: float | None = None,
    train: AnnData | None = None,
    audit: bool = False,
    held_out: AnnData | None = None,
    donor_key: str | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> AnnData:
    """Generate synthetic cells.

    Give one of: ``n_obs`` alone (conditioned on training cells drawn at random), ``like`` (one for each given cell, or
    ``n_obs`` in all), or ``groupby`` with ``n`` (so many of each group of the training cells).

    Parameters
    ----------
    model
        A fitted model.
    n_obs
        Number of cells.
    like
        Cells to generate look-alikes of; they need no labels.
    groupby
        Column of the training ``.obs`` that names groups, or several, whose combinations are the groups.
    n
        Cells by group, ``{"NK": 500}``, for several columns ``{("NK", "stimulated"): 500}``, or one number for each group;
        by default as many as in the training data.
    batch
        Condition on training cells of this batch only. The generator of a model fitted with ``batch_key`` is told it, and so
        draws the batch's own effects although the conditions mix batches (:class:`diffaug.core.config.DiffusionConfig`).
    batch_key
        Column of the training ``.obs`` with the batches; by default the model's own.
    output
        ``"log"``: on the scale of the model's input. ``"counts"``: whole numbers, for models of counts or of log1p of
        scaled counts.
    depth
        For counts, the library size of the cells on all genes that were measured in training, of which the model's
        genes get the share that they have in the conditioning cell. By default each cell has the library size of its
        conditioning cell. A number is for all; from an AnnData library sizes are drawn, and given to the cells in the
        order of the sizes of their conditioning cells. Deeper than the conditioning cell, counts are added to genes
        that are expressed, and no zero is filled.
    strength
        From faithful to diverse, in (0, 1]: with 1 a cell is drawn from pure noise and knows its conditioning cell only
        through the condition and its depth; less starts from the cell's own noised values and keeps more of them. Less than 1
        needs the values: ``like`` or ``train``.
    guidance
        Scale of classifier-free guidance instead of the model's: above 1 keeps closer to the condition and varies
        less, below 1 varies more. Needs a model fitted with ``condition_dropout``.
    train
        The training cells. The model keeps their names, groups and library sizes and not their values, so that the
        conditioning cell is always known, and the nearest training cell only with them.
    audit
        Look for copies of training cells (:func:`diffaug.metrics.memorization_audit`), and return nothing if it fails.
        Needs ``train``, and at least ten cells of each kind.
    held_out
        For the audit: real cells that the model has not seen. Without them only copies and near copies can be judged.
        Where counts are made, they must have counts, too.
    donor_key
        Column of the ``.obs`` of ``train`` and ``held_out`` with donors. Between cells of different donors, being closer to
        the training cells is no sign of memory, and is then not judged.
    random_state
        Seed.
    progress
        Show a progress bar.

    Returns
    -------
    New AnnData with the model's genes, sparse where its input was, values on the scale of that (never negative where it
    is not) or int32 counts. ``.uns["diffaug_made"]`` has the provenance, ``model_fingerprint`` among it. ``.obs`` has:

    ``"condition_cell"``, ``"synthetic"``
        The cell that conditioned each, and ``True``; also the groups of that cell.
    ``"library_size"``
        For counts: what ``depth`` says.
    ``"nearest_cell"``, ``"nearest_distance"``, ``"distance_percentile"``
        With ``train``: the nearest training cell by its scaled genes, the distance to it, and the share (percent) of
        training cells that have another one nearer than that: about uniform is right, 0 is a copy.
        :func:`diffaug.pl.provenance` draws it.

    What is returned is also what is compared with the training cells: counts are first brought to the scale of the model's
    input. ``.uns["diffaug_made"]["audit"]`` has the numbers of a passed audit, and in ``"notes"`` what it could not judge.

    Raises
    ------
    KeyError
        A column, a group or a batch is unknown; the message has the nearest names.
    RuntimeError
        The model has no trained generator, or the audit fails; the message has its reasons.
    ValueError
        Arguments exclude each other, or the model keeps no library sizes for counts.
    """
    meta = cells_meta(model)
    if n_obs is not None:
        n_obs = whole_number("n_obs", n_obs, 1)
    if n_obs is None and like is None and groupby is None:
        raise ValueError(
            "Expected one of `n_obs`, `like` and `groupby`, found none. Say how many cells, or of which kind."
        )
    if groupby is None and n is not None:
        raise ValueError("Expected `groupby` with `n`, found none. Name the column of `.obs` that holds the groups.")
    if like is not None and groupby is not None:
        raise ValueError("Expected `like` or `groupby`, found both. Choose one.")
    if like is not None and batch is not None:
        raise ValueError("Expected `like` or `batch`, found both. Hand over the batch's cells as `like`.")
    if batch_key is not None and batch is None:
        raise ValueError(f"Expected `batch` with `batch_key`={batch_key!r}, found none. Name the batch.")
    if output not in ("log", "counts"):
        raise ValueError(f"Expected `output` in ['log', 'counts'], found {output!r}.")
    if depth is not None and output != "counts":
        raise ValueError("Expected output='counts' with `depth`, found output='log'. Set it, or leave `depth` out.")
    if share("strength", strength) < 1 and like is None and train is None:
        raise ValueError(
            f"Expected `like` or `train` with `strength` below 1, found neither (strength={strength:g}): the model does "
            "not hold the values of its cells."
        )
    if audit and train is None:
        raise ValueError(
            "Expected `train` with audit=True, found none: the model does not hold the values of its cells."
        )
    if held_out is not None and not audit:
        raise ValueError("Expected audit=True with `held_out`, found audit=False. Set it, or leave `held_out` out.")
    if donor_key is not None and held_out is None:
        raise ValueError(
            f"Expected `held_out` with `donor_key`={donor_key!r}, found none: donors say how its cells are to be compared. "
            "Hand it over, or leave `donor_key` out."
        )
    rng = np.random.default_rng(whole_number("random_state", random_state))
    # Everything that can be wrong is found before the work.
    lookup = None if output == "log" else library_sizes(model, like, depth)
    guided = _guided(model, guidance)
    known = None if train is None else training_cells(train, model)
    unseen = None if held_out is None else read_like(held_out, model, name="held_out")
    scale = None
    compared = known
    if train is not None and known is not None and lookup is not None:
        scale = CountScale.of(train, known, model)
        compared = replace(known, x=scale.train)
        if held_out is not None:
            unseen = scale.rescaled(unseen, read_totals(held_out, model, "held_out"))
    against = None
    if audit and train is not None and compared is not None:
        against = AuditedAgainst(compared.x, unseen)
        if donor_key is not None and held_out is not None:
            against = AuditedAgainst(compared.x, unseen, *audit_donors(train, compared, held_out, donor_key))
    provenance: dict[str, Any] = {"made_by": "generate", "random_state": random_state, "output": output}
    provenance |= {"strength": strength, "guidance": guided.config.diffusion.guidance_scale}
    if donor_key is not None:
        provenance["donor_key"] = donor_key
    if like is not None:
        check_adata(like, "like")
        rows, conditions = _rows_like(like, n_obs, groups_of(model), rng)
        _check_audit(against, len(rows))
        x = read_like(like, model, name="like")[rows]
        told = told_of(like.obs, model).of(rows)
        values = guided.augment(
            x, 1, **told._asdict(), strength=strength, random_state=random_state, progress=progress
        )[:, 0]
        provenance["like"] = True
    else:
        cells = unpack_obs(meta["cells"])
        allowed = np.ones(len(cells), dtype=bool)
        if batch is not None:
            allowed = _of_batch(cells, batch, batch_key, meta)
            provenance["batch"] = str(batch)
        source = None
        if groupby is not None:
            if n_obs is not None:
                raise ValueError("Expected `n` (cells by group) with `groupby`, found `n_obs`. Choose one.")
            source = _rows_by_group(cells, groupby, n, allowed, rng)
            provenance["groupby"] = groupby if isinstance(groupby, str) else list(groupby)
        elif batch is not None:
            assert n_obs is not None
            source = spread(np.flatnonzero(allowed), n_obs, rng)
        _check_audit(against, len(source) if source is not None else n_obs or 0)
        values, rows = _from_training(guided, n_obs, source, known, strength, random_state, progress)
        conditions = cells.iloc[rows]
    obs = conditions.copy()
    obs[CONDITION_CELL] = conditions.index.astype(str)
    obs[SYNTHETIC] = True
    made: Matrix = values
    judged: Matrix = values  # what is returned, on the scale of the training cells
    if lookup is not None:
        sizes, totals = lookup.wanted(rows, rng)
        obs[LIBRARY_SIZE] = sizes
        made = drawn_counts(values, lookup.on_features[rows], totals, rng)
        if scale is not None:
            if like is not None:
                own = log_scale(x, (lookup.library[rows], lookup.on_features[rows]), scale.usual)
            else:
                own = scale.of_model_cells[rows]
            judged = as_log(made, sizes, own)
    if compared is not None:
        near = nearest_training(judged, compared, model)
        obs[NEAREST_CELL], obs[NEAREST_DISTANCE] = near.cell, near.distance
        obs[DISTANCE_PERCENTILE] = near.percentile
        provenance["real_distances"] = near.real
    if against is not None:
        provenance["audit"] = passed_audit(judged, against, random_state)
    return new_anndata(made, model, obs, provenance, [f"synthetic-{i}" for i in range(len(values))])


def _check_audit(against: AuditedAgainst | None, n_synthetic: int) -> None:
    if against is not None:
        against.check_sizes(n_synthetic)


# --- which cells condition ------------------------------------------------------------------------------------------


def _from_training(
    model: DiffAug,
    n_obs: int | None,
    source: np.ndarray | None,
    known: TrainingCells | None,
    strength: float,
    random_state: int,
    progress: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Values under the conditions of training cells, and their rows."""
    if strength == 1:
        n_obs = n_obs if source is None else None
        made = model.generate(n_obs, source=source, random_state=random_state, progress=progress)
        return made.values, made.source
    assert known is not None
    if source is None:
        assert n_obs is not None
        source = spread(np.arange(model.n_obs), n_obs, np.random.default_rng(random_state))
    cells = unpack_obs(model.meta["cells"]).iloc[source]
    x = known.x[known.rows_of(cells.index.to_numpy(str))]
    told = told_of(cells, model, model.batch_of(source))
    views = model.augment(x, 1, **told._asdict(), strength=strength, random_state=random_state, progress=progress)
    return views[:, 0], source


def _rows_like(
    like: AnnData, n_obs: int | None, groups: Sequence[str], rng: np.random.Generator
) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows of ``like`` that condition, and what their synthetic cells inherit."""
    rows = np.arange(like.n_obs)
    if n_obs is not None:
        rows = np.concatenate([rng.permutation(like.n_obs) for _ in range(-(-n_obs // like.n_obs))])[:n_obs]
    return rows, categorical_obs(like.obs, groups).iloc[rows]


def _of_batch(cells: pd.DataFrame, batch: str, batch_key: str | None, meta: dict[str, Any]) -> np.ndarray:
    """Mask of the training cells of a batch."""
    key = meta["batch_key"] if batch_key is None else batch_key
    if key is None:
        raise ValueError(
            "Expected `batch_key` with `batch`, found none, and the model was fitted without one. Name the column."
        )
    column = _column(cells, key, "batch_key")
    present = column.dropna().unique().tolist()
    if str(batch) not in present:
        raise KeyError(_unknown(f"a batch of {key!r}", batch, present))
    return (column == str(batch)).to_numpy()


def _column(cells: pd.DataFrame, key: str, argument: str) -> pd.Series:
    if key not in cells:
        kept = "Columns of `.obs` with few texts, booleans or whole numbers are kept with the model."
        raise KeyError(f"{_unknown(argument, key, list(cells.columns))} {kept}")
    return cells[key]


def _rows_by_group(
    cells: pd.DataFrame,
    groupby: str | Sequence[str],
    n: Mapping[Any, int] | int | None,
    allowed: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Training rows that condition the wanted numbers of cells of each group."""
    members = {group: rows[allowed[rows]] for group, rows in group_rows(cells, groupby).items()}
    present = {group: len(rows) for group, rows in members.items() if len(rows)}
    if n is None:
        n = present
    if not isinstance(n, Mapping):
        n = dict.fromkeys(present, whole_number("n", n, 1))
    # Groups are texts, as the model keeps them: {1: 5} asks for those of the group '1'.
    wanted = {_as_text(group): whole_number(f"n[{group!r}]", count) for group, count in n.items()}
    for group in wanted:
        if group not in present:
            raise KeyError(_unknown(f"a group of {groupby!r}", group, list(present)))
    if not sum(wanted.values()):
        raise ValueError(f"Expected at least 1 cell in `n`, found {dict(wanted)}.")
    return np.concatenate([spread(members[group], count, rng) for group, count in wanted.items()])


def _as_text(group: Any) -> Any:
    return tuple(map(str, group)) if isinstance(group, tuple) else str(group)


def group_rows(cells: pd.DataFrame, groupby: str | Sequence[str]) -> dict[Any, np.ndarray]:
    """Rows of each group, a name, or a tuple of names for several columns; without cells that lack one."""
    if isinstance(groupby, str):
        columns = [_column(cells, groupby, "groupby")]
    elif isinstance(groupby, Sequence) and groupby and all(isinstance(key, str) for key in groupby):
        columns = [_column(cells, key, "groupby") for key in groupby]
    else:
        raise TypeError(f"Expected `groupby` to name one column of `.obs` or several, found {groupby!r}.")
    rows: dict[Any, list[int]] = {}
    for i, names in enumerate(zip(*(column.astype(object) for column in columns), strict=True)):
        if not any(pd.isna(name) for name in names):
            rows.setdefault(names[0] if isinstance(groupby, str) else names, []).append(i)
    return {group: np.array(rows[group]) for group in sorted(rows)}


def _unknown(what: str, found: object, available: Sequence[Any]) -> str:
    texts = {str(name): name for name in available}
    near = difflib.get_close_matches(str(found), list(texts), n=3)
    hint = f" Did you mean {' or '.join(repr(texts[name]) for name in near)}?" if near else ""
    return f"Expected {what} among {list(available)}, found {found!r}.{hint}"


# --- guidance ---------------------------------------------------------------------------------------------


def _guided(model: DiffAug, guidance: float | None) -> DiffAug:
    """The model, or one that shares its weights and is sampled with another scale of guidance."""
    if guidance is None:
        return model
    out = copy.copy(model)
    out.config = model.config.updated("diffusion", guidance_scale=any_number("guidance", guidance))
    return out
