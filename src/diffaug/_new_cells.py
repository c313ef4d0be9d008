"""New cells, read as a model's training cells were; those of a file in pieces."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from diffaug._anndata import (
    Matrix,
    cells_meta,
    check_adata,
    check_none_empty,
    check_values,
    count_share,
    count_sums,
    level_sums,
    main_matrix,
    matrix_slot,
    n_empty_cells,
    normalized_counts,
    numeric_matrix,
    recorded_total,
    require_unique_genes,
    slot_of_model,
)
from diffaug._matrix import MAX_LOG, MatrixKind, describe_matrix, merged
from diffaug._model import DiffAug
from diffaug._totals import TARGET_SUM
from diffaug.backends._events import Embedding
from diffaug.baselines import Baseline

logger = logging.getLogger(__name__)

#: Counts on the model's genes may take so many times the share that they had in training.
_SHARE_FACTOR = 1.5
#: The same of the expression on the model's genes, up and down, where it is logarithms and not counts that are known.
_LEVEL_FACTOR = 1.5
#: Totals of `pp.recipe` that differ by a smaller share are the same.
_SAME_TOTAL = 0.01
#: Values, zeros included, that a piece of a file has at most: 128 MB of a dense matrix in float32.
_VALUES_AT_ONCE = 1 << 25


class _Seen(NamedTuple):
    """What all pieces of some cells are.

    Attributes
    ----------
    kind
        Summary of the values.
    sums, n_empty
        For counts: see :func:`count_sums`, and the number of cells without any.
    level
        For logarithms: sum of ``expm1`` on the model's genes.
    """

    kind: MatrixKind
    sums: np.ndarray
    n_empty: int
    level: float


class _Pieces:
    """Rows of a matrix in memory, as one piece, or of one in a file, in several."""

    def __init__(self, adata: AnnData, layer: str | None, use_rep: str | None, name: str) -> None:
        slot, self.address = matrix_slot(adata, layer, use_rep)
        self._on_disk = adata.isbacked and layer is None and use_rep is None
        if self._on_disk:
            check_by_cells(slot, self.address, name)
        self._slot = slot if self._on_disk else numeric_matrix(slot, self.address)
        self._n_at_once = max(1, _VALUES_AT_ONCE // adata.n_vars)
        self.shape: tuple[int, int] = self._slot.shape

    def __iter__(self) -> Iterator[Matrix]:
        if not self._on_disk:
            yield self._slot
            return
        for begin in range(0, self.shape[0], self._n_at_once):
            yield numeric_matrix(self._slot[begin : begin + self._n_at_once], self.address)

    def look(self, mask: np.ndarray | None) -> _Seen:
        """Look at all; ``mask`` marks the genes whose share of the counts or expression is wanted, where they are genes."""
        parts, sums, level, n_empty = [], np.zeros(2), 0.0, 0
        for piece in self:
            part = describe_matrix(piece)
            parts.append((part, math.prod(piece.shape)))
            if mask is None or part.n_nonfinite:
                continue
            # A piece of whole numbers may be one of logarithms, and one of zeros of either.
            if part.is_integer and part.min >= 0:
                sums += count_sums(piece, mask)
                n_empty += n_empty_cells(piece)
            if 0 <= part.min <= part.max <= MAX_LOG:
                level += float(level_sums(piece[:, mask]).sum())
        return _Seen(merged(parts), sums, n_empty, level)


def check_like(adata: AnnData, kind: str, *, layer: str | None, use_rep: str | None) -> None:
    """Refuse cells that a model of some of them could not embed, before it is trained on those.

    Parameters
    ----------
    adata
        All cells, in memory or backed.
    kind
        Of the values of those that it will be trained on.
    layer, use_rep
        Where the values are.

    Raises
    ------
    ValueError
        Some are not finite, of another kind, or cells without a count.
    """
    pieces = _Pieces(adata, layer, use_rep, "adata")
    seen = pieces.look(None if use_rep is not None else np.zeros(adata.n_vars, dtype=bool))
    check_values(seen.kind, pieces.address)
    if use_rep is None and seen.kind.kind != kind:
        raise ValueError(
            f"Expected values of one kind in `{pieces.address}`, found {kind} in the cells that were drawn, and {seen.kind.kind} "
            f"({seen.kind.min:g} to {seen.kind.max:g}) in all. Bring all cells to one scale, or hand over those of one."
        )
    if kind == "counts":
        check_none_empty(seen.n_empty, pieces.address)


class NewCells:
    """Cells on the scale of a model's training cells; genes are aligned by name.

    Cells in memory are one piece. Of an AnnData that is backed by a file, ``.X`` stays there and is read in pieces, twice: what
    the values are (counts, logarithms) is known only when all were seen.

    Parameters
    ----------
    adata
        The cells, in memory or backed.
    model
        A model fitted on cells.
    missing
        What to do about absent genes: ``"error"``, or ``"fill"`` them with their training mean.
    name
        What messages call ``adata``.
    baselines
        Whether ``model`` may be a :class:`diffaug.baselines.Baseline`.

    Attributes
    ----------
    absent
        Names of the genes that are filled.
    """

    def __init__(
        self,
        adata: AnnData,
        model: DiffAug | Baseline,
        *,
        missing: Literal["error", "fill"] = "error",
        name: str = "adata",
        baselines: bool = False,
    ) -> None:
        check_adata(adata, name, on_disk=True)
        if missing not in ("error", "fill"):
            raise ValueError(f"Expected `missing` in ['error', 'fill'], found {missing!r}.")
        meta = cells_meta(model, baselines=baselines)
        layer, use_rep = slot_of_model(adata, meta)
        self._pieces = _Pieces(adata, layer, use_rep, name)
        address = self._pieces.address
        self._model, self._features, self.absent = model, meta["features"], list[str]()
        self._is_named = meta["use_rep"] is None
        genes = adata.var_names
        seen = self._pieces.look(genes.isin(self._features) if self._is_named else None)
        found = seen.kind
        check_values(found, address)
        if not self._is_named:
            if self._pieces.shape[1] != len(self._features):
                raise ValueError(
                    f"This model was fitted on {len(self._features)} dimensions of `{address}`, found "
                    f"{self._pieces.shape[1]}."
                )
            return
        require_unique_genes(adata)
        self._are_counts = found.kind == meta["kind"] == "counts"
        total = meta.get("target_sum")
        if self._are_counts:
            check_none_empty(seen.n_empty, address)
            _check_share(count_share(seen.sums), meta["count_share"], address)
            self._target_sum = meta["target_sum"]
        else:
            _check_scale(found, meta["kind"], address, total)
        self._columns = genes.get_indexer(self._features)
        self.absent = [f for f, i in zip(self._features, self._columns, strict=True) if i < 0]
        self._check_genes(genes, missing, name)
        if found.kind == "log" and meta.get("levels") is not None:  # models of before have none
            known = np.asarray(meta["levels"])[self._columns >= 0]
            if not _compare_totals(recorded_total(adata, layer), total, address):
                _compare_levels(seen.level / adata.n_obs, float(known.sum()), address, total)

    @classmethod
    def of_fit(cls, adata: AnnData, model: DiffAug, *, layer: str | None, use_rep: str | None) -> NewCells:
        """All cells of which a fit has drawn some, after :func:`check_like`; there is nothing to compare with the drawn ones.

        An even sample of groups has other shares and levels than all cells have.
        """
        meta = cells_meta(model)
        cells = cls.__new__(cls)
        cells._pieces = _Pieces(adata, layer, use_rep, "adata")
        cells._model, cells._features, cells.absent = model, meta["features"], []
        cells._is_named = use_rep is None
        cells._are_counts, cells._target_sum = meta["kind"] == "counts", meta["target_sum"]
        cells._columns = adata.var_names.get_indexer(meta["features"]) if use_rep is None else np.arange(0)
        return cells

    def __iter__(self) -> Iterator[Matrix]:
        """Float32 matrices, dense or csr, shape ``(n_cells_of_the_piece, n_features)``, in the order of the cells."""
        return map(self._aligned, self._pieces)

    def _check_genes(self, genes: pd.Index, missing: str, name: str) -> None:
        n_absent, n_features = len(self.absent), len(self._features)
        if not n_absent:
            return
        if n_absent == n_features:
            raise ValueError(
                f"This model was fitted on genes such as {self._features[:2]}, found none of them in `{name}` "
                f"(it has e.g. {genes[:2].tolist()}). Check the kind of gene names."
            )
        if missing == "error":
            raise ValueError(
                f"This model was fitted on {n_features} genes, found {n_features - n_absent}; missing e.g. "
                f"{', '.join(map(repr, self.absent[:3]))}. Pass missing='fill' to fill them with their training mean."
            )
        logger.warning("%d of %d genes are missing and filled with their training mean", n_absent, n_features)

    def _aligned(self, x: Matrix) -> Matrix:
        """A piece on the scale and with the genes of the training cells."""
        if not self._is_named:
            return x.astype(np.float32)
        if self._are_counts:
            x = normalized_counts(x, self._pieces.address, self._target_sum)
        if not self.absent:
            return x[:, self._columns].astype(np.float32)
        known = x[:, self._columns[self._columns >= 0]]
        filled = np.tile(self._model.backend.get_buffer("mean").cpu().numpy(), (x.shape[0], 1))
        filled[:, self._columns >= 0] = known.toarray() if sp.issparse(known) else known
        return filled


def joined(parts: Iterable[Embedding]) -> Embedding:
    """The embedding of all cells from those of the pieces, in order."""
    return Embedding(*map(np.concatenate, zip(*parts, strict=True)))


def is_by_genes(slot: object) -> bool:
    """Whether a matrix lies in a file gene by gene (csc), where cells cannot be read without all others."""
    return not sp.issparse(slot) and getattr(slot, "format", "") == "csc"


def check_by_cells(slot: object, address: str, name: str) -> None:
    """Refuse a matrix in a file that is :func:`is_by_genes`."""
    if is_by_genes(slot):
        raise ValueError(
            f"Expected `{address}` stored cell by cell (dense or csr), found it stored gene by gene (csc), of which no pieces "
            f"can be read. Call `{name}.to_memory()` first."
        )


def can_stay_in_file(adata: AnnData, layer: str | None, use_rep: str | None) -> bool:
    """Whether ``adata``, which is backed by a file, is taken as it is where the values are read from there."""
    return (layer, use_rep) != (None, None) or not is_by_genes(main_matrix(adata))


def read_like(adata: AnnData, model: DiffAug, *, name: str = "adata") -> Matrix:
    """The cells of :class:`NewCells` as one matrix; they have to be in memory."""
    check_adata(adata, name)
    (x,) = NewCells(adata, model, name=name)
    return x


def _check_scale(found: MatrixKind, trained: str, address: str, total: float | None) -> None:
    """Refuse values on another scale than the training cells', which were scaled to ``total`` where that is known."""
    kind = found.kind
    if kind == "counts" and trained == "scaled":
        raise ValueError(
            f"This model was fitted on scaled values, found raw counts in `{address}`. "
            "Scale them as the training cells were."
        )
    if kind == "counts" and trained == "log":
        raise ValueError(
            f"This model was fitted on log-normalised values, found raw counts in `{address}`. "
            f"Normalise them as the training cells were (`diffaug.pp.recipe`{'' if total is None else f', target_sum={total:g}'})."
        )
    if kind == "scaled" and trained in ("counts", "log"):
        raise ValueError(
            f"This model was fitted on log-normalised values, found scaled ones (down to {found.min:.3g}) in "
            f"`{address}`. Use the values before `sc.pp.scale`."
        )
    if kind == "other" and trained in ("counts", "log"):
        raise ValueError(
            f"This model was fitted on log-normalised values, found values up to {found.max:.3g} in `{address}`. "
            "Log-transform them as the training cells were (`sc.pp.log1p`)."
        )
    if kind in ("log", "other") and trained == "scaled":
        raise ValueError(
            f"This model was fitted on scaled values, found none below 0 in `{address}`. "
            "Scale them as the training cells were."
        )


def _compare_totals(found: float | None, trained: float | None, address: str) -> bool:
    """Say so where `pp.recipe` scaled the new cells to another total than the training cells; whether it did."""
    if found is None or trained is None or math.isclose(found, trained, rel_tol=_SAME_TOTAL):
        return False
    logger.warning(
        "`%s` was normalised to %g counts per cell, the training cells to %g: their embedding is off by as much. Use "
        "`diffaug.pp.recipe(adata, target_sum=%g)` on their counts.",
        address,
        found,
        trained,
        trained,
    )
    return True


def _compare_levels(found: float, expected: float, address: str, total: float | None) -> None:
    """Say so where logarithms of new cells are of another total than the training cells'; cells of other types differ less."""
    if expected > 0 and not expected / _LEVEL_FACTOR <= found <= expected * _LEVEL_FACTOR:
        logger.warning(
            "on the model's genes `%s` holds %.3g times the expression of the training cells (means of `expm1`): if these are no "
            "other types of cells, they were normalised to another total, and their embedding is wrong. Use the `target_sum` "
            "of the training cells (%s; scanpy's default is the median of each data set).",
            address,
            found / expected,
            f"{TARGET_SUM:g} in `diffaug.pp.recipe`, and the median of panels" if total is None else f"{total:g}",
        )


def _check_share(found: float, expected: float, address: str) -> None:
    """Refuse counts whose sums are not comparable with those of the training cells."""
    if found > _SHARE_FACTOR * expected:
        raise ValueError(
            f"Expected about {expected:.0%} of the counts in `{address}` on the model's genes, as in training, found "
            f"{found:.0%}: the cells seem to be cut to fewer genes, and would be normalised to another scale. "
            "Hand over the counts of all measured genes."
        )
