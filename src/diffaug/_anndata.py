"""The door between AnnData and arrays: everything that reads or writes an AnnData for the model passes here."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, ImplicitModificationWarning

from diffaug._fields import batches_of, layers_of_kind
from diffaug._keys import HIGHLY_VARIABLE, LOG1P, LOOP_GAIN, MADE, RECIPE, Keys
from diffaug._matrix import MatrixKind, describe_matrix
from diffaug._model import DiffAug
from diffaug._totals import PANEL_BELOW, TARGET_SUM, target_sum_of
from diffaug.backends._cell_counts import recovered_counts
from diffaug.backends._events import Embedding
from diffaug.baselines import Baseline
from diffaug.core.checkpoint import versions

logger = logging.getLogger(__name__)

N_TOP_GENES = 2000
MIN_CELLS = 10
MANY_GENES = 5000
_MAX_CATEGORIES = 1000
_MAX_NUMBERS = 100
_INPUT = ("layer", "use_rep", "kind", "sparse", "target_sum")

_CELLS_AT_ONCE = 2048
#: Names of a cell's counts on all measured genes and on the model's, as kept with a model.
_TOTALS = ("library", "on_features")

#: A 2-D numpy array or csr matrix; scipy ships no types.
Matrix = Any


@dataclass(frozen=True)
class Source:
    """What the model reads of an AnnData.

    Attributes
    ----------
    x
        Float32, dense or csr, shape ``(n_cells, n_features)``.
    features
        Names of the columns.
    layer, use_rep
        Where ``x`` came from; both ``None`` is ``.X``.
    kind
        ``"counts"`` (then ``x`` was normalised here), ``"log"``, ``"scaled"`` or ``"other"``.
    sparse
        Whether it was sparse there.
    target_sum
        The total that each cell's counts were scaled to, where that was done here or by ``pp.recipe``.
    share
        For counts: the share of them that lies on ``features``. New cells are normalised by their own sums,
        which are comparable only if about the same genes were measured.
    totals
        Where the counts are known or could be read back: those of each cell on all genes, and on ``features``.
    levels
        For logarithms: mean of ``expm1(x)`` of each feature, by which new cells of another scale are noticed.
    """

    x: Matrix
    features: list[str]
    layer: str | None
    use_rep: str | None
    kind: str
    sparse: bool
    target_sum: float | None = None
    share: float | None = None
    totals: tuple[np.ndarray, np.ndarray] | None = None
    levels: np.ndarray | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """What a saved model needs to read new cells in the same way."""
        return {
            "features": self.features,
            "layer": self.layer,
            "use_rep": self.use_rep,
            "kind": self.kind,
            "sparse": self.sparse,
            "target_sum": self.target_sum,
            "count_share": self.share,
            "totals": None
            if self.totals is None
            else dict(zip(_TOTALS, (t.tolist() for t in self.totals), strict=True)),
            "levels": None if self.levels is None else self.levels.tolist(),
        }


def check_adata(adata: object, name: str = "adata", *, on_disk: bool = False) -> AnnData:
    """An AnnData with cells and genes, in memory or (``on_disk``) backed by a file, or a clear error."""
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected `{name}` to be an AnnData, found {type(adata).__name__}.")
    if adata.isbacked and not on_disk:
        raise ValueError(f"Expected `{name}` in memory, found it backed by a file. Call `{name}.to_memory()` first.")
    if adata.isbacked and adata.is_view:  # nothing can be written to it
        raise ValueError(
            f"Expected `{name}` whole, found a part of one that is backed by a file. Call `{name}.to_memory()` first."
        )
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(f"Expected `{name}` with cells and genes, found {adata.n_obs} cells x {adata.n_vars} genes.")
    return adata


def obs_column(adata: AnnData, key: str, argument: str) -> pd.Series:
    """A complete column of ``.obs``, or a clear error."""
    if not isinstance(key, str):
        raise TypeError(f"Expected {argument} to be the name of a column of `adata.obs`, found {key!r}.")
    if key not in adata.obs:
        near = difflib.get_close_matches(key, map(str, adata.obs.columns), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"Did not find `adata.obs[{key!r}]` ({argument}). Available: {list(adata.obs.columns)}.{hint}")
    column = adata.obs[key]
    if column.isna().any():
        raise ValueError(
            f"Expected complete values in `adata.obs[{key!r}]`, found {int(column.isna().sum())} missing. Fill or filter them."
        )
    return column


def matrix_slot(adata: AnnData, layer: str | None, use_rep: str | None) -> tuple[Any, str]:
    """The matrix asked for and its address."""
    if layer is not None and use_rep is not None:
        raise ValueError(f"Expected `layer` or `use_rep`, found both ({layer!r} and {use_rep!r}). Choose one.")
    for name, key in (("layer", layer), ("use_rep", use_rep)):
        if key is not None and not isinstance(key, str):
            raise TypeError(f"Expected `{name}` to be a string or None, found {key!r}.")
    if use_rep is not None:
        if use_rep not in adata.obsm:
            raise KeyError(f"Did not find `adata.obsm[{use_rep!r}]`. Available: {list(adata.obsm)}.")
        return adata.obsm[use_rep], f"adata.obsm[{use_rep!r}]"
    if layer is not None:
        if layer not in adata.layers:
            raise KeyError(
                f"Did not find `adata.layers[{layer!r}]`. Available layers: {[k for k in adata.layers if k]}."
            )
        return adata.layers[layer], f"adata.layers[{layer!r}]"
    x = main_matrix(adata)
    if x is None:
        raise ValueError("Expected values in `adata.X`, found none. Name a `layer` or a `use_rep`.")
    return x, "adata.X"


def recorded_total(adata: AnnData, layer: str | None) -> float | None:
    """The total that ``pp.recipe`` scaled the counts in ``.X`` to, where it did."""
    kept = adata.uns.get(RECIPE) if layer is None else None
    return float(kept["target_sum"]) if isinstance(kept, Mapping) and "target_sum" in kept else None


def slot_of_model(adata: AnnData, meta: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """``layer`` and ``use_rep`` from which a model, by what was kept with it, reads these cells."""
    # What `augment` and `generate` make has the model's input in `.X`.
    return (None, None) if MADE in adata.uns else (meta["layer"], meta["use_rep"])


def main_matrix(adata: AnnData) -> Any:
    """``.X``, or ``None`` where there is none; of a file without it anndata raises what h5py does."""
    try:
        return adata.X
    except KeyError:
        return None


def checked_matrix(x: Any, address: str) -> Matrix:
    """A numeric, finite, two-dimensional matrix as an array or csr; not copied where it is one already."""
    x = numeric_matrix(x, address)
    check_values(describe_matrix(x), address)
    return x


def numeric_matrix(x: Any, address: str) -> Matrix:
    """A two-dimensional matrix of real numbers as an array or csr; not copied where it is one already."""
    if isinstance(x, pd.DataFrame):
        x = x.to_numpy()
    if sp.issparse(x):
        x = sp.csr_matrix(x)
    else:
        x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"Expected two dimensions in `{address}`, found shape {x.shape}.")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"Expected real numbers in `{address}`, found dtype {x.dtype}.")
    return x


def check_values(found: MatrixKind, address: str) -> None:
    """Refuse values that are not finite, or beyond float32."""
    if found.n_nonfinite:
        raise ValueError(
            f"Expected finite values in `{address}`, found {found.n_nonfinite} NaN or infinite in "
            f"{found.n_nonfinite_rows} cells. Filter or impute them first."
        )
    if max(-found.min, found.max) > float(np.finfo(np.float32).max):  # no values: NaN, which is not more
        raise ValueError(
            f"Expected values within the range of float32 in `{address}`, found {found.min:g} to {found.max:g}. "
            "Scale or log them first."
        )


def require_unique_genes(adata: AnnData) -> None:
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise ValueError(
            f"Expected unique gene names, found {twice!r} more than once. Call `adata.var_names_make_unique()` first."
        )


def n_empty_cells(counts: Matrix) -> int:
    """Cells without any count."""
    return int((np.asarray(counts.sum(axis=1)).ravel() == 0).sum())


def check_none_empty(n_empty: int, address: str) -> None:
    """Refuse cells without any count, which cannot be normalised."""
    if n_empty:
        raise ValueError(
            f"Expected counts in every cell of `{address}`, found {n_empty} empty cells. "
            "Call `sc.pp.filter_cells(adata, min_counts=1)` first."
        )


def normalized_counts(x: Matrix, address: str, target_sum: float) -> Matrix:
    """Counts to log1p of counts per ``target_sum``, through scanpy; a new matrix."""
    import scanpy as sc

    check_none_empty(n_empty_cells(x), address)
    scratch = AnnData(x.astype(np.float32))
    sc.pp.normalize_total(scratch, target_sum=target_sum)
    sc.pp.log1p(scratch)
    return scratch.X


def _selected_genes(adata: AnnData, x: Matrix, kind: str, batch_key: str | None) -> np.ndarray:
    """Mask of the genes to train on."""
    if HIGHLY_VARIABLE in adata.var:
        marks = adata.var[HIGHLY_VARIABLE]
        if marks.isna().any() or not marks.isin([True, False]).all():
            raise ValueError(
                f"Expected booleans in `adata.var['highly_variable']`, found {marks.dtype} with e.g. "
                f"{marks[~marks.isin([True, False])].iloc[0]!r}. Run `diffaug.pp.recipe`."
            )
        mask = marks.to_numpy(dtype=bool)
        if not mask.any():
            raise ValueError(
                "Expected some genes in `adata.var['highly_variable']`, found none. Run `diffaug.pp.recipe`."
            )
        return mask
    if kind == "counts" and adata.n_vars > N_TOP_GENES:
        import scanpy as sc

        scratch = AnnData(x)
        if batch_key is not None:
            scratch.obs["batch"] = batches_of(adata, batch_key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sc.pp.highly_variable_genes(
                scratch, n_top_genes=N_TOP_GENES, batch_key=None if batch_key is None else "batch"
            )
        logger.info("selected %d highly variable genes of %d", N_TOP_GENES, adata.n_vars)
        return scratch.var[HIGHLY_VARIABLE].to_numpy(dtype=bool)
    if adata.n_vars > MANY_GENES:
        logger.warning(
            "training on all %d genes. Mark highly variable ones first for speed and quality: "
            "`scanpy.pp.highly_variable_genes(adata, n_top_genes=%d)`.",
            adata.n_vars,
            N_TOP_GENES,
        )
    return np.ones(adata.n_vars, dtype=bool)


def _elsewhere(adata: AnnData, layer: str | None) -> str:
    """Where counts or logarithms lie beside scaled values."""
    others = [name for name in layers_of_kind(adata, "counts", "log") if name != layer]
    if others:
        return f" `adata.layers[{others[0]!r}]` looks like them: pass layer={others[0]!r}."
    return "" if adata.raw is None else " `adata.raw` may hold them: fit on `adata.raw.to_adata()`."


def count_sums(counts: Matrix, mask: np.ndarray) -> np.ndarray:
    """Sum of all counts, and of those on some genes, float64."""
    return np.array([counts.sum(dtype=np.float64), counts[:, mask].sum(dtype=np.float64)])


def count_share(sums: np.ndarray) -> float:
    """Share of all counts on some genes, from :func:`count_sums`."""
    return float(sums[1] / max(sums[0], 1.0))


def level_sums(x: Matrix) -> np.ndarray:
    """Sum over the cells of ``expm1(x)``, float64, shape ``(n_features,)``; in parts, as it is needed for nothing else."""
    sums = np.zeros(x.shape[1])
    for begin in range(0, x.shape[0], _CELLS_AT_ONCE):
        part = x[begin : begin + _CELLS_AT_ONCE].astype(np.float64)
        sums += np.asarray((part.expm1() if sp.issparse(part) else np.expm1(part)).sum(axis=0)).ravel()
    return sums


def _totals(counts: Matrix, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each cell on all genes and on some, int64."""
    on_all, on_some = (np.asarray(c.sum(axis=1, dtype=np.float64)).ravel() for c in (counts, counts[:, mask]))
    return on_all.astype(np.int64), on_some.astype(np.int64)


def _recovered_totals(x: Matrix, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The same where ``x`` is log1p of scaled counts, else ``None``; in parts, as the counts are needed for nothing else."""
    parts = []
    for begin in range(0, x.shape[0], _CELLS_AT_ONCE):
        counts = recovered_counts(x[begin : begin + _CELLS_AT_ONCE])
        if counts is None:
            return None
        parts.append(_totals(counts, mask))
    on_all, on_some = (np.concatenate(column) for column in zip(*parts, strict=True))
    return on_all, on_some


def read_totals(adata: AnnData, model: DiffAug, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each cell on all its genes and on the model's, from counts or from log-normalised values."""
    meta = cells_meta(model)
    check_adata(adata, name)
    raw, address = matrix_slot(adata, *slot_of_model(adata, meta))
    x = checked_matrix(raw, address)
    mask = adata.var_names.isin(meta["features"])
    kind = describe_matrix(x).kind
    totals = _totals(x, mask) if kind == "counts" else _recovered_totals(x, mask) if kind == "log" else None
    if totals is None:
        raise ValueError(
            f"Expected counts, or log1p of scaled counts, in `{address}` of `{name}`, found values that are neither: "
            "the library sizes cannot be read from them. Hand over counts, or set `depth` to a number."
        )
    return totals


def model_totals(model: DiffAug) -> tuple[np.ndarray, np.ndarray]:
    """The same of the training cells, as kept with the model; a clear error where it keeps none."""
    meta = cells_meta(model)
    if "totals" not in meta:
        raise ValueError(
            "Expected a model that keeps the library sizes of its cells, found one that an older diffaug fitted. "
            "Fit again for output='counts'."
        )
    if meta["totals"] is None:
        raise ValueError(
            f"Expected a model of counts for output='counts', found one fitted on values (kind {meta['kind']!r}) from which "
            "no counts could be read back. Fit on raw counts or their scaled log1p."
        )
    library, on_features = (np.asarray(meta["totals"][key], dtype=np.int64) for key in _TOTALS)
    return library, on_features


def read_source(
    adata: AnnData, *, layer: str | None = None, use_rep: str | None = None, batch_key: str | None = None
) -> Source:
    """Read and check what a fit trains on; raw counts are normalised on a copy."""
    check_adata(adata)
    if batch_key is not None:
        obs_column(adata, batch_key, "batch_key")
    if adata.n_obs < MIN_CELLS:
        raise ValueError(f"Expected at least {MIN_CELLS} cells to train on, found {adata.n_obs}.")
    raw, address = matrix_slot(adata, layer, use_rep)
    x = checked_matrix(raw, address)
    if x.dtype == bool:
        x = x.astype(np.float32)
    if use_rep is not None:
        features = [f"{use_rep}_{i}" for i in range(x.shape[1])]
        kind: str = "other"
        target_sum, share, totals = None, None, None
    else:
        require_unique_genes(adata)
        found = describe_matrix(x)
        kind = found.kind
        target_sum = recorded_total(adata, layer) if kind == "log" else None
        if kind == "scaled" and found.is_integer:
            raise ValueError(
                f"Expected counts of at least 0 in `{address}`, found whole numbers down to {found.min:g}. "
                "Look at what made them, or name the `layer` that holds the counts."
            )
        if kind == "counts":
            target_sum = target_sum_of(x)
            logger.info(
                "`%s` holds raw counts: training on a copy normalised to %g per cell and log-transformed",
                address,
                target_sum,
            )
            counts, x = x, normalized_counts(x, address, target_sum)
        elif kind == "other":
            logger.warning(
                "`%s` is neither counts nor log-normalised; training on it as it is. Fractional counts need "
                "`scanpy.pp.normalize_total(adata%s)` and `scanpy.pp.log1p(adata)` first.",
                address,
                f", target_sum={TARGET_SUM:g}" if adata.n_vars >= PANEL_BELOW else "",
            )
        elif kind == "scaled":
            logger.warning(
                "`%s` holds values below 0, as scaled data do: training on them as they are, and made cells will have that "
                "scale. Counts or logarithms are better.%s",
                address,
                _elsewhere(adata, layer),
            )
        mask = _selected_genes(adata, x, kind, batch_key)
        share = count_share(count_sums(counts, mask)) if kind == "counts" else None
        totals = _totals(counts, mask) if kind == "counts" else _recovered_totals(x, mask) if kind == "log" else None
        x, features = x[:, mask], adata.var_names[mask].tolist()
    if x.shape[1] < 2:
        raise ValueError(f"Expected at least 2 features in `{address}`, found {x.shape[1]}.")
    spread = np.asarray(
        x.max(axis=0) - x.min(axis=0) if not sp.issparse(x) else (x.max(axis=0) - x.min(axis=0)).todense()
    )
    n_constant = int((spread == 0).sum())
    if n_constant == x.shape[1]:
        raise ValueError(f"Expected values that differ between cells in `{address}`, found every feature constant.")
    if n_constant:
        logger.warning("%d of %d features are the same in all cells and carry nothing", n_constant, x.shape[1])
    levels = level_sums(x) / x.shape[0] if kind in ("counts", "log") else None
    return Source(
        x.astype(np.float32), features, layer, use_rep, kind, sp.issparse(raw), target_sum, share, totals, levels
    )


def warn_shared_names(adata: AnnData) -> None:
    """Say that a model cannot tell cells of one name apart."""
    n_alike = int(adata.obs_names.duplicated().sum())
    if n_alike:
        logger.warning(
            "%d cells have the name of another: by its names the model knows its cells later, as in `tl.generate(train=...)`, "
            "which then is refused. Call `adata.obs_names_make_unique()` before the fit.",
            n_alike,
        )


def cells_meta(model: object, *, baselines: bool = False) -> dict[str, Any]:
    """What ``tl.fit``, or with ``baselines`` ``tl.baseline``, kept with the model, or a clear error for another object."""
    if not isinstance(model, (DiffAug, Baseline) if baselines else DiffAug):
        kinds = "DiffAug or a Baseline" if baselines else "DiffAug"
        raise TypeError(
            f"Expected `model` to be a {kinds}, found {type(model).__name__}. Fit one with `tl.fit`, or load one with `DiffAug.load`."
        )
    n_features = model.backend.event_shape[0]
    if "features" not in model.meta:
        raise ValueError("Expected a model fitted by `tl.fit`, found one fitted on arrays. Use its own methods.")
    found = {
        len(column)
        for column in [model.meta["cells"]["names"], *(g["codes"] for g in model.meta["cells"]["groups"].values())]
    }
    if len(model.meta["features"]) != n_features or found != {model.n_obs}:
        raise ValueError(
            f"Expected names of {n_features} features and of {model.n_obs} cells and their groups with the model, found "
            f"{len(model.meta['features'])} and {sorted(found)}: its config.json is damaged or was edited. Save the model again."
        )
    return model.meta


def categorical_obs(obs: pd.DataFrame, also: Collection[str] = ()) -> pd.DataFrame:
    """The columns of ``.obs`` that name groups, as categories: what synthetic cells inherit from their condition.

    Those of ``also`` do so whatever they look like: what a model was told of, and what it kept as groups of all its cells.
    """
    columns = {}
    for name in obs:
        most = len(obs) if name in also else _most_groups(obs[name])
        if most:
            column = obs[name].astype(str).where(obs[name].notna()).astype("category")
            if len(column.cat.categories) <= most:
                columns[str(name)] = column
    return pd.DataFrame(columns, index=obs.index)


def _most_groups(column: pd.Series) -> int:
    """How many different values a column of groups may have; 0 for a column that is of something else."""
    is_text = isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column)
    if is_text or column.dtype.kind in "OSUb":
        return _MAX_CATEGORIES
    # Cluster numbers, but not counts of something.
    return min(_MAX_NUMBERS, len(column) // 10) if column.dtype.kind in "iu" else 0


def pack_obs(obs: pd.DataFrame, *told: str | None) -> dict[str, Any]:
    """Names and groups of cells as JSON-able columns, those of ``told`` among them; inverse of :func:`unpack_obs`."""
    groups = categorical_obs(obs, [key for key in told if key is not None])
    return {
        "names": obs.index.astype(str).tolist(),
        "groups": {
            name: {"categories": column.cat.categories.tolist(), "codes": column.cat.codes.tolist()}
            for name, column in groups.items()
        },
    }


def unpack_obs(packed: dict[str, Any]) -> pd.DataFrame:
    """Inverse of :func:`pack_obs`."""
    return pd.DataFrame(
        {name: pd.Categorical.from_codes(part["codes"], part["categories"]) for name, part in packed["groups"].items()},
        index=pd.Index(packed["names"]),
    )


def groups_of(model: DiffAug) -> list[str]:
    """Names of the columns that a model kept as groups of its cells."""
    return list(model.meta.get("cells", {}).get("groups", {}))


def write_embedding(adata: AnnData, model: DiffAug | Baseline, embedding: Embedding, keys: Keys, **more: Any) -> None:
    """Write the embedding of the cells, the settings and the history; after a fit as for new cells."""
    history = {
        name: np.array([getattr(r, name) for r in model.history])
        for name in (model.history[0].__dataclass_fields__ if model.history else ())
    }
    record = {
        "params": {
            **model.config.to_dict(),
            "random_state": model.random_state,
            "input": {k: model.meta[k] for k in _INPUT if model.meta[k] is not None},
        },
        "asked": model.asked.to_dict(),
        "history": history,
        "versions": versions(),
        "genes": np.array(model.meta["features"], dtype=object).astype(str),
        **more,
    }
    with writing(adata):
        earlier = adata.uns.get(keys.uns)
        if isinstance(earlier, Mapping) and LOOP_GAIN in earlier and adata.obsm.pop(keys.twin, None) is not None:
            logger.info("removed .obsm[%r], which belongs to an earlier fit", keys.twin)
        adata.obsm[keys.semantic] = embedding.semantic
        adata.obsm[keys.latent] = embedding.latent
        adata.uns[keys.uns] = record
    logger.info("wrote .obsm[%r], .obsm[%r] and .uns[%r]", keys.semantic, keys.latent, keys.uns)


class writing(warnings.catch_warnings):
    """Writing to a view turns it into a copy; that is what scanpy does too, and it is said in the log."""

    def __init__(self, adata: AnnData) -> None:
        super().__init__(record=False, action="ignore", category=ImplicitModificationWarning)
        if adata.is_view:
            logger.info("`adata` is a view of another AnnData: it becomes a copy")


def new_anndata(
    values: Matrix, model: DiffAug, obs: pd.DataFrame, provenance: dict[str, Any], names: Sequence[str]
) -> AnnData:
    """AnnData of made cells: the model's features, sparse where its input was sparse, provenance in ``.uns``."""
    meta = cells_meta(model)
    is_counts = values.dtype.kind == "i"
    x = sp.csr_matrix(values) if meta["sparse"] else values.toarray() if sp.issparse(values) else values
    made = AnnData(x, obs=obs.set_axis(pd.Index(names)), var=pd.DataFrame(index=pd.Index(meta["features"])))
    if meta["kind"] in ("counts", "log") and not is_counts:
        made.uns[LOG1P] = {}
        if meta.get("target_sum") is not None:
            made.uns[RECIPE] = {"target_sum": meta["target_sum"]}
    made.uns[MADE] = {
        **provenance,
        "n_obs_trained": model.n_obs,
        "model_fingerprint": model.fingerprint,
        "params": model.config.to_dict(),
        "asked": model.asked.to_dict(),
        "versions": versions(),
    }
    return made
