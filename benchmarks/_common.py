"""What the benchmarks share: the sets as they are prepared, and results kept row by row, so that a run can resume."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import torch
from anndata import AnnData
from scipy import sparse

import diffaug
from diffaug import metrics
from diffaug.core.storage import written_file

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "results"
PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"
N_TOP_GENES = 1000


def prepared(name: str, max_obs: int | None = None, n_top_genes: int = N_TOP_GENES) -> AnnData:
    """A data set with log-normalised highly variable genes in ``.X``; measurements that are no counts stay as they are."""
    return with_top_genes(drawn(name, max_obs), diffaug.datasets.manifest(name).kind, n_top_genes)


def drawn(name: str, max_obs: int | None = None) -> AnnData:
    """A data set as it is kept, of more cells a fixed draw."""
    adata = diffaug.datasets.load(name)
    if max_obs is None or adata.n_obs <= max_obs:
        return adata
    rows = np.random.default_rng(0).choice(adata.n_obs, max_obs, replace=False)
    return adata[np.sort(rows)].copy()


def with_top_genes(adata: AnnData, kind: str | None, n_top_genes: int) -> AnnData:
    """Highly variable genes, of counts as logarithms with the counts in a layer; ``adata`` is changed."""
    if kind == "counts":
        diffaug.pp.recipe(adata, n_top_genes=n_top_genes)
        return adata[:, adata.var["highly_variable"]].copy()
    if kind == "log" and adata.n_vars > n_top_genes:
        chosen = sc.pp.highly_variable_genes(adata, n_top_genes=n_top_genes, inplace=False)["highly_variable"]
        return adata[:, chosen].copy()
    return adata


def z_scored(adata: AnnData) -> np.ndarray:
    """Genes of mean 0 and standard deviation 1, clipped at 10; dense."""
    scratch = AnnData(adata.X.toarray() if sparse.issparse(adata.X) else np.array(adata.X, dtype=np.float32))
    sc.pp.scale(scratch, max_value=10)
    return scratch.X


def pca_50(adata: AnnData, n_components: int = 50) -> np.ndarray:
    """50 principal components of the z-scored genes: the peer every biologist has."""
    return components(z_scored(adata), n_components)


def components(x: np.ndarray, n_components: int) -> np.ndarray:
    """So many principal components of features as they are, fewer where there are not enough."""
    scratch = AnnData(x)
    sc.pp.pca(scratch, n_comps=min(n_components, min(scratch.shape) - 1), random_state=0)
    return scratch.obsm["X_pca"]


def judged(x: np.ndarray, labels: np.ndarray, max_probed: int = 12_000) -> dict[str, float]:
    """Probes of one embedding, with the same folds for all."""
    linear = metrics.linear_probe(x, labels, protocol="holdout", max_obs=max_probed)
    knn = metrics.knn_probe(x, labels, max_obs=max_probed)
    rows = np.random.default_rng(0).permutation(len(x))[:max_probed]
    clusters = metrics.kmeans_scores(x[rows], labels[rows], n_init=5)
    return {
        "linear": linear.accuracy,
        "linear_balanced": linear.balanced_accuracy,
        "knn": knn.accuracy,
        "kmeans": clusters.accuracy,
        "nmi": clusters.nmi,
        "ari": clusters.ari,
        "effective_rank": metrics.effective_rank(x[rows]),
    }


class Results:
    """Rows of a CSV file, one for each combination of key columns; a row is written as soon as it is known.

    Several processes may write into one file at a time.
    """

    def __init__(self, name: str, keys: Iterable[str]) -> None:
        self.file, self.keys = RESULTS / f"{name}.csv", tuple(keys)
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.table = self._read()

    def _read(self) -> pd.DataFrame:
        """What is in the file by now."""
        return pd.read_csv(self.file, dtype=dict.fromkeys(self.keys, str)) if self.file.exists() else pd.DataFrame()

    def _rows(self, key: Mapping[str, Any]) -> pd.DataFrame:
        missing = [name for name in key if name not in self.table]
        if self.table.empty or missing:
            return self.table.iloc[:0]
        return self.table[(self.table[list(key)] == {k: str(v) for k, v in key.items()}).all(axis=1)]

    def has(self, settings: Mapping[str, Any] | None = None, /, **key: Any) -> bool:
        """Whether there is such a row, of these settings."""
        return not self._rows({**key, **_about(settings)}).empty

    def once(
        self, measure: Callable[[], Mapping[str, Any]], *, settings: Mapping[str, Any] | None = None, **key: Any
    ) -> None:
        """Measure and keep a row unless it is there, written by this process or by another.

        ``settings`` are what the row depends on beside its key. They are kept with it, and are part of the key: rows of
        other ones stay beside it, and a page shows those of one (``_budget.one_setting``).
        """
        self.table = self._read()
        if self.has(settings, **key):
            return
        row = {**{k: str(v) for k, v in key.items()}, **_about(settings), **measure()}
        row = {k: f"{v:.6g}" if isinstance(v, float | np.floating) else v for k, v in row.items()}
        with self._alone():
            self.table = self._read()
            if self.has(settings, **key):
                return  # another process was first
            self._keep(row)
            self.table = self._read()
        print(row, flush=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process writes into the folder meanwhile. The lock is the folder's: it leaves no file behind."""
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)  # which lets go of the lock, as the end of a killed process does

    def _keep(self, row: Mapping[str, Any]) -> None:
        """Write the file anew with one more row: it is whole whenever the run is killed, and columns may be added."""
        rows: list[Mapping[str, Any]] = []
        if self.file.exists():
            with self.file.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        rows.append(row)
        with written_file(self.file) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(k for r in rows for k in r)))
            writer.writeheader()
            writer.writerows(rows)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as the column of that name holds them."""
    return json.dumps(settings, sort_keys=True)


def _about(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """Settings as the column that holds them."""
    return {} if settings is None else {"settings": settings_text(settings)}


def machine() -> str:
    """The machine of a run, for the page."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " CPU"
    return f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, diffaug {diffaug.__version__}"


def markdown_table(head: Sequence[str], *lines: Sequence[object]) -> str:
    """Lines of cells as a Markdown table; a bar within a cell stays one."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def markdown(table: pd.DataFrame) -> str:
    """A data frame as Markdown, index included."""
    table = table.reset_index()
    return markdown_table(table.columns.tolist(), *table.astype(str).to_numpy().tolist())


#: What the last column of :func:`differences` is called.
OVER_SETS = "mean of the sets"


def differences(
    table: pd.DataFrame, key: str, score: str, pairs: Iterable[tuple[str, str]], *, fixed: Container[str] = ()
) -> pd.DataFrame:
    """How far rows are apart, in points of per cent with 95 % intervals: a line for each pair, a column for each set.

    Parameters
    ----------
    table
        Columns ``set``, ``seed``, ``key`` and ``score``, a share.
    key
        Column of the rows' names.
    pairs
        Names ``(a, b)``, for a less b. Values are paired by set and seed; pairs without any are left out.
    fixed
        Names of rows without a random part: their one value on a set stands for every seed of the other row.

    Returns
    -------
    Text. Intervals are over the seeds of a set, and in the last column over the sets (of means over seeds).
    """
    found = {}
    for a, b in pairs:
        left, right = (table.loc[table[key] == name, ["set", "seed", score]].dropna() for name in (a, b))
        on = ["set"] if (a in fixed) != (b in fixed) else ["set", "seed"]
        both = left.merge(right, on=on, suffixes=("_a", "_b"))
        if both.empty:
            continue
        x, y = f"{score}_a", f"{score}_b"
        cells = {name: metrics.paired_difference(p[x], p[y]) for name, p in both.groupby("set", sort=False)}
        mean = metrics.paired_difference(both[x], both[y], both["set"])
        line = {str(name): _points(cell, "seed") for name, cell in cells.items()}
        line[OVER_SETS] = _points(mean, "set") + (f", {len(cells)} sets" if len(cells) > 1 else "")
        found[f"*{a}* less *{b}*"] = line
    columns = [*dict.fromkeys(table["set"]), OVER_SETS]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).fillna("-").rename_axis("points")


#: What a page says of such tables, once.
DIFFERENCES_SAID = """Differences are in points of per cent, paired by set and seed. Brackets hold a 95 % interval by
Student's t: of a set over its seeds, of the mean of the sets over these. One seed, or one set, has no interval, and its
difference may be chance."""


def _points(found: metrics.MeanInterval, of: str) -> str:
    text = f"{100 * found.mean:+.2f}"
    if found.n_groups == 1:
        return f"{text} (one {of}, no interval)"
    return f"{text} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def write_page(name: str, text: str) -> None:
    """A page of the documentation, made from results."""
    page = PAGES / f"{name}.md"
    page.write_text(text.strip() + "\n", encoding="utf-8")
    print(f"wrote {page}")
