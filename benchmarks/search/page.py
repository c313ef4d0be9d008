"""The paired table: each arm minus its twin, mean over seeds, then sets; and the legend of all arms with rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from _common import markdown_table

from diffaug.metrics import mean_interval
from search.rows import SCORES, Key

#: An arm and its twin have these in common.
_SHARED = [name for name in Key._fields if name != "arm"]
SHOWN = {"linear": "linear", "knn": "k-NN", "kmeans": "k-means", "nmi": "NMI"}


class Difference(NamedTuple):
    """A mean of differences in points of per cent, its standard error over sets and its 95 % interval by Student's t."""

    mean: float
    error: float
    low: float
    high: float
    n_sets: int
    n_runs: int

    def __str__(self) -> str:
        if self.n_sets == 1:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} ± {self.error:.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with their twin's scores as ``<score>_twin``; rows without a twin are left out."""
    asked = table[table["twin"] != ""]
    twins = table[[*_SHARED, "arm", *SCORES]].rename(columns={"arm": "twin"})
    return asked.merge(twins, on=[*_SHARED, "twin"], suffixes=("", "_twin"), validate="many_to_one")


def difference(pairs: pd.DataFrame, score: str) -> Difference | None:
    """Arm minus twin in one score; ``None`` without a value."""
    gain = 100 * (pairs[score] - pairs[f"{score}_twin"])
    known = pairs[gain.notna()]
    if known.empty:
        return None
    gain = gain[gain.notna()]
    found = mean_interval(gain.to_numpy(), known["set"].to_numpy())
    by_set = gain.groupby(known["set"].to_numpy()).mean()
    error = float(by_set.std(ddof=1) / np.sqrt(len(by_set))) if len(by_set) > 1 else float("nan")
    return Difference(found.mean, error, found.low, found.high, found.n_groups, found.n_values)


def render(table: pd.DataFrame) -> str:
    """A heading and a table for each study."""
    pairs = paired(table)
    return "\n\n".join(
        f"## {f'Entry {study}' if study.isdigit() else 'Of no entry'}\n\n"
        + "\n\n".join(_tables(rows, pairs[pairs["study"] == study]))
        for study, rows in table.groupby("study", sort=False)
    )


#: Arms of one name are of one table only where these are equal.
_REGIME = ["kind", "n_train", "panel", "settings_hash"]
_LINE = ["arm", "code", "twin"]


def _tables(rows: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    for regime, part in rows.groupby(_REGIME, sort=False):
        of_regime = pairs[(pairs[_REGIME] == list(regime)).all(axis=1)]
        lines = []
        for name, members in part.groupby(_LINE, sort=False):
            arm, code, twin = name
            found = of_regime[(of_regime[_LINE] == list(name)).all(axis=1)]
            gains = [difference(found, score) for score in SCORES]
            lines.append(
                [arm, f"`{code}`", twin or "–", members["set"].nunique(), len(members), *(g or "–" for g in gains)]
            )
        head = ["arm", "code", "less", "sets", "runs", *(SHOWN[score] for score in SCORES)]
        if part[list(SCORES)].isna().all(axis=None):  # generators, which have other readings
            head, lines = head[:5], [line[:5] for line in lines]
        yield f"{_said(part)}\n\n{markdown_table(head, *lines)}"


_KINDS = {
    "mixed": "Mixed phases on one trained generator for each set and seed.",
    "encoder": "Encoders alone.",
    "fit": "Whole fits.",
    "generator": "Generators, judged by the report; the column `readings` has its numbers.",
    "reference": "References, not trained.",
}


def _said(part: pd.DataFrame) -> str:
    first = part.iloc[0]
    # Earlier rows have their settings in words; some of these say what kind of training it was.
    words = "" if first["settings"].startswith("{") else first["settings"]
    kind, settings = _KINDS[first["kind"]], f"Settings `{first['settings_hash']}`."
    said = [words] if words.startswith(kind.split()[0].rstrip("s.")) else [kind, words]
    if first["n_train"]:
        said.append(f"{first['n_train']} cells to train on, the others to judge.")
    if first["panel"]:
        said.append(f"The {first['panel']} features of the greatest variance.")
    return " ".join([*filter(None, said), settings])


PAGE = """
# Rows of the search

[search.parquet](results/search.parquet) holds a row for each set, seed and arm of the {{doc}}`notebook </experiments>`: the
number of its entry (`study`), the arm in words and by the short name of the script that made it (`code`), its twin, the
scores, the lambda in force (`rate`), and whatever else was read (`readings`, JSON). This page is made from them:

```bash
python benchmarks/bench_search.py --render
DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_search.py --list    # arms that can be run
DIFFAUG_DATA_DIR=<folder> python benchmarks/bench_search.py --arms mixed --sets largest --seeds 5 --study 15
```

A run does what has no row yet: the generator is trained once for a set and seed, and all arms of the mixed phase go on from
its filled bank. Rows up to entry 14 are of scripts that were not kept, under defaults of their time; some are of runs that
ended after the entry was written. Equal settings have equal hashes, and only rows of equal settings are compared. The hash
is of what all arms of a run have in common; after entry 16 the settings of an encoder's row have its own too (`arm`). The rows of
entry 25 that name a power are of a copy of the code that was not kept, with the power in its settings. `osmfish_ssctx, 1e4` is that panel with
its counts scaled to 10,000, as it was before entry 24. The encoders of entries 7 to 16 and 26 have standard scaling.

*Lambda times trust* is of before the news counted twice in the trust; arms that have run since say *news squared*.

A cell of a table is the arm minus its twin (`less`) in points, mean over seeds and then over sets, ± the standard error
over sets and the 95 % interval by Student's t; one set has neither. `runs` counts the arm's rows; differences are of those
whose twin has a row.

{body}
"""


def page(table: pd.DataFrame) -> str:
    """The page of the documentation."""
    return PAGE.format(body=render(table)).strip() + "\n"
