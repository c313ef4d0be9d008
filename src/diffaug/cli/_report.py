"""``evaluate``: synthetic cells against real ones, as numbers and as one HTML page."""

from __future__ import annotations

import base64
import dataclasses
import html
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from diffaug import metrics, pl
from diffaug._anndata import check_adata, checked_matrix, matrix_slot, normalized_counts, require_unique_genes
from diffaug._matrix import MAX_LOG, MatrixKind, describe_matrix
from diffaug._model import versions

logger = logging.getLogger(__name__)

N_COMPONENTS = 30
MIN_CELLS = 40  # 20 on each half of the training cells
MOST_SHARED = 0.01  # cells of a few counts may be equal by chance


@dataclass(frozen=True)
class Sets:
    """Cells on one scale, with the genes of the synthetic ones; ``normalized`` names the sets that had raw counts."""

    synthetic: AnnData
    train: AnnData
    held_out: AnnData
    normalized: list[str]


def aligned(synthetic: AnnData, train: AnnData, held_out: AnnData, *, layer: str | None) -> Sets:
    """Bring real cells to the genes and the scale of the synthetic ones.

    Raises
    ------
    KeyError, ValueError
        Genes or the layer are missing, the scales do not fit, or there are too few cells.
    """
    _check_number(synthetic, "synthetic")
    made = _values(synthetic, "synthetic", None)
    target = describe_matrix(made)
    normalized, real = [], {}
    for name, adata in (("train", train), ("held_out", held_out)):
        _check_number(adata, name)
        x = _values(adata, name, layer)
        given, x = x, on_scale_of(target, x, name, layer)
        if x is not given:
            normalized.append(name)
        found = adata.var_names.get_indexer(synthetic.var_names)
        absent = synthetic.var_names[found < 0].tolist()
        if absent:
            raise ValueError(
                f"Expected all {synthetic.n_vars} genes of the synthetic cells in `{name}`, found {len(found) - len(absent)}; "
                f"missing e.g. {', '.join(map(repr, absent[:3]))}."
            )
        real[name] = AnnData(x[:, found], obs=adata.obs[[]], var=synthetic.var[[]])
    shared = _shared(real["held_out"].X, real["train"].X)
    if shared > MOST_SHARED:
        raise ValueError(
            f"Expected held-out cells that the model was not trained on, found {shared:.0%} of them among the training "
            "cells. Pass others."
        )
    return Sets(AnnData(made, obs=synthetic.obs[[]], var=synthetic.var[[]]), **real, normalized=normalized)


def beside(real: AnnData, synthetic: AnnData, *, layer: str | None) -> AnnData:
    """Real cells with all their genes, on the scale of the synthetic ones."""
    target = describe_matrix(_values(synthetic, "synthetic", None))
    x = on_scale_of(target, _values(real, "real", layer), "real", layer)
    return AnnData(x, obs=real.obs[[]], var=real.var[[]])


def _check_number(adata: AnnData, name: str) -> None:
    least = MIN_CELLS if name == "train" else MIN_CELLS // 2
    if adata.n_obs < least:
        raise ValueError(f"Expected at least {least} cells in `{name}`, found {adata.n_obs}.")


def _values(adata: AnnData, name: str, layer: str | None) -> Any:
    check_adata(adata, name)
    require_unique_genes(adata)
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"Did not find `{name}.layers[{layer!r}]`. Available layers: {[k for k in adata.layers if k]}.")
    raw, address = matrix_slot(adata, layer, None)
    x: Any = checked_matrix(raw, address.replace("adata", name, 1))
    return x.astype(np.float32)


def on_scale_of(target: MatrixKind, x: Any, name: str, layer: str | None) -> Any:
    """Real values as they are, or counts normalised and logged where the synthetic cells are logarithms.

    Raises
    ------
    ValueError
        The scales do not fit.
    """
    found = describe_matrix(x)
    if found.kind == "counts" and target.kind == "log":
        logger.info("`%s` holds raw counts: comparing a normalised, log-transformed copy", name)
        return normalized_counts(x, f"{name}.X" if layer is None else f"{name}.layers[{layer!r}]")
    if (found.kind == "scaled") != (target.kind == "scaled"):
        raise ValueError(
            f"Expected `{name}` on the scale of the synthetic cells ({target.kind}), found {found.kind} values. "
            "Pass the --layer that the model was trained on."
        )
    if {found.kind, target.kind} == {"log", "other"}:
        # Twice, because two sets of one scale may lie on both sides of the border.
        low, high = sorted((found.max, target.max))
        if high > MAX_LOG and high > 2 * low:
            raise ValueError(
                f"Expected `{name}` on the scale of the synthetic cells (up to {target.max:.3g}), found values up to "
                f"{found.max:.3g}: one of them is not logged. Pass the --layer that the model was trained on."
            )
    return x


def _shared(a: Any, b: Any) -> float:
    """Share of the rows of ``a`` that are rows of ``b``."""
    weights = np.random.default_rng(0).normal(size=a.shape[1])  # equal rows have equal products, others do not
    prints = [sp.csr_matrix(x, dtype=np.float64) @ weights for x in (a, b)]
    return float(np.isin(*prints).mean())


def judge(sets: Sets, *, max_obs: int, seed: int) -> dict[str, Any]:
    """All numbers of the report, JSON-able."""
    order = np.random.default_rng(seed).permutation(sets.train.n_obs)
    projection, floor = (sets.train.X[np.sort(half)] for half in np.array_split(order, 2))
    n_components = min(N_COMPONENTS, *(side - 1 for side in projection.shape))
    discriminator = metrics.discriminator_auc(
        sets.held_out.X,
        sets.synthetic.X,
        floor_reference=floor,
        projection=projection,
        n_components=n_components,
        max_obs=max_obs,
        random_state=seed,
    )
    return {
        "n_genes": sets.synthetic.n_vars,
        "n_obs": {
            "synthetic": sets.synthetic.n_obs,
            "held_out": sets.held_out.n_obs,
            "train_for_floor": floor.shape[0],
            "train_for_projection": projection.shape[0],
        },
        "normalized_here": sets.normalized,
        "seed": seed,
        "discriminator": {**dataclasses.asdict(discriminator), "excess": discriminator.excess},
        "genes": {
            "synthetic": _summary(metrics.gene_agreement(sets.held_out.X, sets.synthetic.X)),
            "floor": _summary(metrics.gene_agreement(sets.held_out.X, floor)),
        },
        "versions": versions(),
    }


def _summary(agreement: metrics.GeneAgreement) -> dict[str, float]:
    return {name: getattr(agreement, name) for name in _GENE_ROWS}


def violin(sets: Sets, scratch: Path) -> bytes:
    """PNG of held-out beside synthetic cells, gene by gene."""
    pl.violin(sets.held_out, sets.synthetic, save=scratch, show=False)
    return scratch.read_bytes()


#: Summary of a gene's statistics, what is ideal, what it says.
_GENE_ROWS = {
    "mean_r": (
        "Means, correlation",
        "1",
        "Whether highly expressed genes are highly expressed in synthetic cells too.",
    ),
    "mean_slope": (
        "Means, slope",
        "1",
        "Below 1, differences between genes are weaker in synthetic cells than in real ones.",
    ),
    "variance_r": (
        "Variances, correlation",
        "1",
        "Whether the genes that vary among real cells vary among synthetic ones.",
    ),
    "variance_ratio": ("Variances, median ratio", "1", "Below 1, synthetic cells are more alike than real ones are."),
    "zero_fraction_error": ("Share of zeros, mean error", "0", "How far off a gene's share of cells without it is."),
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #ddd; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; }
.note { color: #555; font-size: .9rem; }
"""


def page(numbers: dict[str, Any], picture: bytes) -> str:
    """One HTML page that needs no other file."""
    disc, sizes, files = numbers["discriminator"], numbers["n_obs"], numbers["files"]
    made, floor = numbers["genes"]["synthetic"], numbers["genes"]["floor"]
    rows = [
        _row(
            "Discriminator, AUC",
            disc["auc"],
            disc["floor"],
            "the floor",
            "A random forest tries to tell synthetic from held-out cells. At the floor it finds no more difference than "
            "between two sets of real cells; at 1 it is always right.",
        ),
        *(_row(title, made[k], floor[k], ideal, text) for k, (title, ideal, text) in _GENE_ROWS.items()),
    ]
    inputs = "".join(
        f"<li>{what}: <code>{html.escape(files[key])}</code>, {cells}</li>"
        for key, what, cells in (
            ("synthetic", "Synthetic", f"{sizes['synthetic']} cells"),
            ("held_out", "Held out", f"{sizes['held_out']} cells"),
            ("train", "Trained on", f"{sizes['train_for_floor'] + sizes['train_for_projection']} cells"),
        )
    )
    normalized = numbers["normalized_here"]
    scale = f" Raw counts were normalised and logged here: {', '.join(normalized)}." if normalized else ""
    software = ", ".join(f"{k} {v}" for k, v in numbers["versions"].items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Synthetic cells against real ones</title><style>{_STYLE}</style></head>
<body>
<h1>Synthetic cells against real ones</h1>
<ul>{inputs}</ul>
<table>
<tr><th>Measure</th><th class="number">Synthetic</th><th class="number">Floor</th><th>Ideal</th><th>What it says</th></tr>
{"".join(rows)}
</table>
<p>Synthetic: synthetic against held-out cells. Floor: training cells, which are real, against held-out cells; read
every number beside it. If training and held-out cells are of different donors, the floor has their difference in it.</p>
<h2>Gene by gene</h2>
<p>Held-out cells beside synthetic ones. The shapes should match, zeros included.</p>
<img alt="Violin plots of genes in held-out and synthetic cells"
 src="data:image/png;base64,{base64.b64encode(picture).decode("ascii")}">
<p class="note">{numbers["n_genes"]} genes, aligned by name.{scale} The discriminator saw {disc["n_per_class"]} cells on
each side on {disc["n_features"]} principal components, fitted on {sizes["train_for_projection"]} training cells that
took no other part; the floor uses the other {sizes["train_for_floor"]}. Components fitted on the cells under test
would make real ones look fake. Means and variances are compared as logarithms. Marginals alone prove little: shuffling
every gene over the cells keeps them. Not measured here: copies of training cells, gene-gene correlation, cell types.
Seed {numbers["seed"]}; {html.escape(software)}.</p>
</body>
</html>
"""


def _row(title: str, value: float, floor: float, ideal: str, meaning: str) -> str:
    numbers = "".join(f'<td class="number">{v:.3f}</td>' for v in (value, floor))
    return f"<tr><td>{title}</td>{numbers}<td>{ideal}</td><td>{meaning}</td></tr>\n"
