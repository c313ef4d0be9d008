"""From tidy rows to the numbers of the tables: means over sets, differences in pairs, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from diffaug.metrics import MeanInterval, mean_interval, paired_difference

OURS, TWIN = "diffaug", "loop_off"


class Score(NamedTuple):
    """A column of a table."""

    shown: str
    protocol: str
    metric: str


#: Each cell is tested once, so that methods are compared on all cells; the paper's 90/10 tests a tenth of them.
NATIVE = (
    Score("linear", "crossval", "linear"),
    Score("k-NN", "crossval", "knn"),
    Score("k-means", "kmeans", "accuracy"),
)
GAIN = (*NATIVE, Score("NMI", "kmeans", "nmi"), Score("Leiden NMI", "leiden", "nmi"))
#: The share of generated views that the fit decided on.
RATE = Score("lambda in force", "compute", "view_rate")
NATIVE_MORE = (
    Score("NMI", "kmeans", "nmi"),
    Score("ARI", "kmeans", "ari"),
    Score("Leiden NMI", "leiden", "nmi"),
    Score("Leiden ARI", "leiden", "ari"),
    Score("linear, 90/10", "linear", "accuracy"),
    Score("linear, 90/10, balanced", "linear", "balanced_accuracy"),
    Score("k-NN, 90/10", "knn", "accuracy"),
    Score("k-NN, 90/10, balanced", "knn", "balanced_accuracy"),
    Score("linear, 5 x 5-fold", "linear5x5", "accuracy"),
    Score("RBF SVM", "rbf", "accuracy"),
)
FLAT = (
    Score("linear", "linear2d", "accuracy"),
    Score("k-NN", "knn2d", "accuracy"),
    Score("k-means", "kmeans2d", "accuracy"),
)
FLAT_MORE = (
    Score("linear, balanced", "linear2d", "balanced_accuracy"),
    Score("NMI", "kmeans2d", "nmi"),
    Score("ARI", "kmeans2d", "ari"),
)
GROUPED = (
    Score("linear", "linear_grouped", "accuracy"),
    Score("linear, balanced", "linear_grouped", "balanced_accuracy"),
    Score("k-NN", "knn_grouped", "accuracy"),
)
MIXING = (Score("mixing of batches", "mixing", "batch_entropy"),)
STRUCTURE = (
    Score("trustworthiness", "structure", "trustworthiness"),
    Score("neighbours kept", "structure", "neighbor_overlap"),
    Score("effective rank", "structure", "effective_rank"),
)
LEIDEN = tuple(
    Score(f"{shown} at {resolution}", protocol, metric + end)
    for shown, metric in (("NMI", "nmi"), ("ARI", "ari"), ("clusters", "n_clusters"))
    for resolution, protocol, end in (
        ("1", "leiden", ""),
        ("0.5", "leiden_coarse", "_0.5"),
        ("0.25", "leiden_coarse", "_0.25"),
    )
)
STABILITY = (Score("neighbours two seeds share", "stability", "neighbor_overlap"),)


def shown_rows(
    table: pd.DataFrame, max_obs: int | None, n_top_genes: int, hashes: Mapping[str, str] | None
) -> pd.DataFrame:
    """Rows of one size of the sets and, for each method, of one kind of settings.

    Parameters
    ----------
    table
        All rows.
    max_obs, n_top_genes
        Size of the sets.
    hashes
        Settings to show by method; methods that are not in it are left out. ``None`` shows, for each method and set,
        the settings of the newest row.
    """
    rows = table[(table["set"] != "") & (table["max_obs"] == (max_obs or 0)) & (table["n_top_genes"] == n_top_genes)]
    if hashes is not None:
        return rows[rows["settings_hash"] == rows["method"].map(hashes)]
    newest = rows.sort_values("date").groupby(["set", "method"])["settings_hash"].transform("last")
    return rows[rows["settings_hash"] == newest.reindex(rows.index)]


def values(rows: pd.DataFrame, score: Score) -> pd.DataFrame:
    """``set``, ``method``, ``seed``, ``stochastic`` and ``value`` of one score."""
    found = rows[(rows["protocol"] == score.protocol) & (rows["metric"] == score.metric)]
    return found[["set", "method", "seed", "stochastic", "value"]].dropna(subset="value").reset_index(drop=True)


def means(rows: pd.DataFrame, score: Score, methods: Sequence[str]) -> dict[str, MeanInterval]:
    """Mean of each method over seeds, then sets, with Student's t over sets; methods without a value are left out."""
    found = values(rows, score)
    parts = {method: found[found["method"] == method] for method in methods}
    return {m: mean_interval(p["value"], p["set"]) for m, p in parts.items() if len(p)}


def pairs(rows: pd.DataFrame, score: Score, a: str, b: str) -> pd.DataFrame:
    """Values of two methods on equal sets and seeds: ``set``, ``seed``, ``a``, ``b``.

    A method without a random part has one value a set, which stands for every seed of the other.
    """
    found = values(rows, score)
    left, right = found[found["method"] == a], found[found["method"] == b]
    random = [side["stochastic"].all() for side in (left, right)]
    on = ["set", "seed"] if all(random) or not any(random) else ["set"]
    joined = left.merge(right, on=on, suffixes=("_a", "_b"))
    seed = joined["seed"] if "seed" in joined else joined["seed_a" if random[0] else "seed_b"]
    return pd.DataFrame({"set": joined["set"], "seed": seed, "a": joined["value_a"], "b": joined["value_b"]})


def differences(
    rows: pd.DataFrame, score: Score, methods: Sequence[str], *, ours: str = OURS
) -> dict[str, tuple[MeanInterval, MeanInterval]]:
    """Our method minus each other: Student's t over the sets they share, and the bootstrap over sets and seeds."""
    found = {}
    for method in methods:
        both = pairs(rows, score, ours, method)
        if method != ours and len(both):
            arguments = (both["a"], both["b"], both["set"])
            found[method] = (paired_difference(*arguments), paired_difference(*arguments, interval="bootstrap"))
    return found


def gains(rows: pd.DataFrame, score: Score, *, ours: str = OURS, twin: str = TWIN) -> dict[str, MeanInterval]:
    """The loop's gain on each set, with Student's t over its seeds."""
    both = pairs(rows, score, ours, twin)
    return {str(name): paired_difference(part["a"], part["b"]) for name, part in both.groupby("set", sort=False)}


def sweep(rows: pd.DataFrame, score: Score, points: Mapping[float, str]) -> pd.DataFrame:
    """A curve's differences from its first point, in pairs of set and seed, mean over seeds: points x sets.

    ``points`` are the methods by their place on the curve. Points without rows are left out, and sets without all the others.
    """
    first = next(iter(points.values()))
    found = {}
    for at, method in points.items():
        both = pairs(rows, score, method, first)
        if len(both):
            found[at] = (both["a"] - both["b"]).groupby(both["set"]).mean()
    return pd.DataFrame(found).T.dropna(axis=1)


def per_set(rows: pd.DataFrame, score: Score, methods: Sequence[str], sets: Sequence[str]) -> pd.DataFrame:
    """Means over seeds, methods x sets."""
    found = values(rows, score).groupby(["method", "set"])["value"].mean().unstack("set")
    return found.reindex(index=[m for m in methods if m in found.index], columns=[s for s in sets if s in found])


def measured_costs(rows: pd.DataFrame, built_on: Mapping[str, str]) -> pd.DataFrame:
    """Seconds and memory (MB) of each run: ``method``, ``set``, ``seed`` and ``seconds``, ``peak_mb``, ``added_mb``, ``gpu_peak_mb``.

    Parameters
    ----------
    rows
        Rows of the methods, and of those that they are built on.
    built_on
        Method by the methods that cannot be had without it. Their seconds are with its own, their memory is that of the
        larger process of the two; runs whose base has no row are left out, because what they cost is not known.
    """
    cost = rows[(rows["protocol"] == "compute") & (rows["error"] == "")]
    names = ["seconds", "peak_mb", "added_mb", "gpu_peak_mb"]
    wide = cost.pivot_table(index=["method", "set", "seed"], columns="metric", values="value").reset_index()
    if wide.empty:
        return pd.DataFrame(columns=["method", "set", "seed", *names])
    wide["added_mb"] = wide["peak_mb"] - wide["base_mb"]
    wide = wide[["method", "set", "seed", *names]]
    parts = [wide[~wide["method"].isin(list(built_on))]]
    for method, base in built_on.items():
        own = wide[wide["method"] == method]
        both = own.merge(wide[wide["method"] == base], on=["set", "seed"], suffixes=("", "_base"))
        both["seconds"] += both["seconds_base"]
        for name in names[1:]:
            both[name] = both[[name, f"{name}_base"]].max(axis=1)
        parts.append(both[wide.columns])
    return pd.concat(parts, ignore_index=True)


def common_sets(runs: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Sets on which every method that has a run has one."""
    by = runs[runs["method"].isin(methods)].groupby("set", sort=False)["method"].nunique()
    return [str(name) for name in by.index[by == runs.loc[runs["method"].isin(methods), "method"].nunique()]]


def costs(runs: pd.DataFrame, methods: Sequence[str], sets: Sequence[str] | None = None) -> pd.DataFrame:
    """Median seconds, highest memory (MB) and what it is above the start, by method.

    Parameters
    ----------
    runs
        As :func:`measured_costs` gives them.
    methods
        Their order.
    sets
        Sets that count; all that a method has by default. The median is over sets, of the median over the seeds of
        each, so that sets with more seeds weigh no more.
    """
    runs = runs if sets is None else runs[runs["set"].isin(list(sets))]
    by = runs.groupby("method")
    table = pd.DataFrame(
        {
            "seconds": runs.groupby(["method", "set"])["seconds"].median().groupby("method").median(),
            "slowest": by["seconds"].max(),
            "peak_mb": by["peak_mb"].max(),
            "added_mb": by["added_mb"].max(),
            "gpu_peak_mb": by["gpu_peak_mb"].max(),
            "n_sets": by["set"].nunique(),
            "n_runs": by.size(),
        }
    )
    return table.reindex([m for m in methods if m in table.index])


def failures(rows: pd.DataFrame) -> pd.DataFrame:
    """Each failure once: ``method``, ``set``, ``protocol``, ``seeds``, ``error``."""
    failed = rows[rows["error"] != ""]
    by = failed.groupby(["method", "set", "protocol", "error"], sort=False)["seed"]
    return by.agg(lambda s: ", ".join(map(str, sorted(s)))).rename("seeds").reset_index()
