"""``tl.report``: synthetic cells of any tool against real ones."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from diffaug.core.checkpoint import versions
from diffaug.metrics import Judgement, MemorizationAudit, judge_synthetic, memorization_audit
from diffaug.metrics.catalogue import FAIR, MEASURES
from diffaug.tl._report_sets import aligned, split

TRUSTWORTHY, CARE, NOT = "trustworthy", "use with care", "not trustworthy"


@dataclass(frozen=True, eq=False)
class SyntheticReport:
    """What :func:`report` found.

    Attributes
    ----------
    judgement
        Scores with floors, nulls and intervals (:class:`diffaug.metrics.Judgement`).
    audit
        Copies and leaks (:class:`diffaug.metrics.MemorizationAudit`).
    facts
        Numbers of cells and genes, scale, settings, versions: JSON-able.
    """

    judgement: Judgement
    audit: MemorizationAudit
    facts: dict[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """One row for each measure and group; the group of all cells together is ``"all"``."""
        rows = [
            {
                "measure": s.measure,
                "group": "all" if s.group is None else s.group,
                **{k: getattr(s, k) for k in ("value", "low", "high", "floor", "floor_low", "floor_high")},
                **{f"null_{k}": v for k, v in s.nulls.items()},
                **{k: getattr(s, k) for k in ("score", "score_low", "score_high", "score_median")},
                "verdict": s.verdict,
                "n_obs": s.n_obs,
            }
            for s in self.judgement.scores
        ]
        return pd.DataFrame(rows).set_index(["measure", "group"])

    @property
    def mean_score(self) -> float:
        """Mean floor-normalised score of all cells together, over the measures that have one; scores above 1 count as 1.

        ``judgement.mean_score`` has its interval, and the mean with the median null.
        """
        return self.judgement.mean_score.value

    @property
    def verdict(self) -> str:
        """``"trustworthy"``, ``"use with care"`` or ``"not trustworthy"``.

        The last if a measure over all cells is poor or the audit fails; the second if one is fair, a type's is poor, a type
        seems to be absent, or the mean score is under 0.7.
        """
        pooled = {s.verdict for s in self.judgement.scores if s.group is None}
        single = {s.verdict for s in self.judgement.scores if s.group is not None}
        if "poor" in pooled or not self.audit.passed:
            return NOT
        lacking = any(t.verdict == "fair" for t in self.judgement.absent_types)
        return CARE if lacking or "fair" in pooled or "poor" in single or self.mean_score < FAIR else TRUSTWORTHY

    def to_dict(self) -> dict[str, Any]:
        """Everything but the coordinates of the pictures, JSON-able; ``None`` for what could not be measured."""
        found = {
            "verdict": self.verdict,
            "mean_score": self.mean_score,
            "mean_score_interval": [self.judgement.mean_score.low, self.judgement.mean_score.high],
            "mean_score_median_null": self.judgement.mean_score.median_null,
            "facts": self.facts,
            "missing_types": self.judgement.missing_types,
            "absent_types": [dataclasses.asdict(t) for t in self.judgement.absent_types],
            "notes": [*self.facts["notes"], *self.judgement.notes, *self.audit.notes],
            "scores": [dataclasses.asdict(s) for s in self.judgement.scores],
            "audit": dataclasses.asdict(self.audit),
        }
        return dict(_plain(found))

    def to_json(self, path: str | Path | None = None) -> str:
        """The dictionary as JSON text; also written to ``path`` if there is one."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | Path | None = None) -> str:
        """One page that needs no other file; also written to ``path`` if there is one."""
        from diffaug.tl._report_page import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def report(
    synthetic: AnnData,
    *,
    train: AnnData | None = None,
    held_out: AnnData | None = None,
    real: AnnData | None = None,
    projection: AnnData | None = None,
    unseen: AnnData | None = None,
    groupby: str | None = None,
    donor_key: str | None = None,
    layer: str | None = None,
    max_obs: int = 2000,
    n_resamples: int = 100,
    n_estimators: int = 100,
    random_state: int = 0,
) -> SyntheticReport:
    """Judge synthetic cells of any tool against real ones.

    Give ``train`` and ``held_out``, best of different donors. Every measure is taken of the synthetic cells against the
    held-out ones, and beside it stand the same of the training cells, which are real (the floor), and of four generators
    that know little (the nulls). Genes are aligned by name. Counts and log-normalised values are recognised, and
    :attr:`SyntheticReport.facts` says what was found.

    Parameters
    ----------
    synthetic
        Synthetic cells; all their genes must be among those of the real cells.
    train
        Real cells that the generator was trained on.
    held_out
        Real cells that it never saw.
    real
        In place of these two: real cells that are split here, by ``donor_key`` where given, else within types. The generator
        may have seen all of them, so that only copies are judged of its memory.
    projection
        More real cells, to fit the principal components on. By default half of ``train``, which then takes no other part in
        the scores; the audit looks at all of ``train``.
    unseen
        Real cells of the training donors that were *not* trained on, a part set apart at random before the training. They
        judge memory where the held-out cells are of other donors, to which honest cells too are less close. They may have
        cells in common with ``projection`` and ``held_out``, and must have none with ``train``.
    groupby
        Column of ``.obs`` with the types. Synthetic cells without it get types predicted from the training cells.
    donor_key
        Column of ``.obs`` of the real cells with their donors. Intervals are then of three or more held-out donors, memory is
        judged by equally many cells of each donor, and whole donors are attacked.
    layer
        Layer of the real cells to use instead of ``.X``.
    max_obs
        Greatest number of cells of each set that are drawn and judged. Exact copies are looked for among all.
    n_resamples
        Of the bootstrap behind the intervals.
    n_estimators
        Trees of each forest.
    random_state
        Seed of everything random.

    Returns
    -------
    :class:`SyntheticReport`, with ``.verdict``, ``.table``, ``.to_html(path)`` and ``.to_json(path)``. No AnnData is changed.

    Raises
    ------
    KeyError, TypeError, ValueError
        Cells, genes, a column or scales do not fit, held-out or unseen cells are among the training cells, or the
        projection's cells are among the evaluated ones.

    Examples
    --------
    >>> import diffaug
    >>> adata = diffaug.datasets.pbmc68k_reduced()
    >>> train, held_out, other = adata[:300], adata[300:500], adata[500:]
    >>> found = diffaug.tl.report(other, train=train, held_out=held_out, groupby="bulk_labels")
    >>> found.audit.passed
    True
    """
    given = train is not None and held_out is not None
    if given == (real is not None) or (train is None) != (held_out is None):
        raise ValueError(
            "Expected `train` and `held_out`, or `real` alone, found "
            f"{[n for n, a in (('train', train), ('held_out', held_out), ('real', real)) if a is not None]}."
        )
    if real is not None:
        if unseen is not None:
            raise ValueError(
                "Expected `train` and `held_out` with `unseen`, found `real`: who was trained on is not known then, and "
                "nothing judges memory but copies."
            )
        train, held_out = split(real, groupby=groupby, donor_key=donor_key, random_state=random_state)
    assert train is not None and held_out is not None
    more = {"projection": projection, "unseen": unseen}
    cells = {"train": train, "held_out": held_out} | {n: a for n, a in more.items() if a is not None}
    sets = aligned(synthetic, cells, layer=layer, groupby=groupby, donor_key=donor_key)
    names = ("synthetic", "train", "held_out")
    judgement = judge_synthetic(
        *(sets.x[n] for n in names),
        projection=sets.x.get("projection"),
        labels=(sets.types.get("synthetic"), sets.types["train"], sets.types["held_out"]) if sets.types else None,
        totals=None
        if sets.totals is None
        else (sets.totals["synthetic"], sets.totals["train"], sets.totals["held_out"]),
        held_out_donors=sets.donors.get("held_out"),
        max_obs=max_obs,
        n_resamples=n_resamples,
        n_estimators=n_estimators,
        random_state=random_state,
    )
    audit = _audit(sets.x, sets.donors, known=real is None, max_obs=max_obs, random_state=random_state)
    facts = {
        "n_obs": {name: int(x.shape[0]) for name, x in sets.x.items()},
        "n_genes": len(sets.genes),
        "scale": sets.scale,
        "normalized_here": sets.normalized,
        "groupby": groupby,
        "donor_key": donor_key,
        "split_here": real is not None,
        "donors": sets.donor_numbers,
        "resampled": judgement.resampled,
        "notes": sets.notes,
        "n_components": judgement.n_components,
        "n_projection": judgement.n_projection,
        "n_floor": judgement.n_floor,
        "max_obs": max_obs,
        "n_resamples": n_resamples,
        "n_estimators": n_estimators,
        "random_state": random_state,
        "versions": versions(),
        "measures": {name: {"title": m.title, "ideal": m.ideal, "meaning": m.meaning} for name, m in MEASURES.items()},
    }
    return SyntheticReport(judgement, audit, facts)


def _audit(
    x: dict[str, Any], donors: dict[str, np.ndarray], *, known: bool, max_obs: int, random_state: int
) -> MemorizationAudit:
    """The audit; cells that were split here may all have been trained on, so none of them is held out."""
    if known:
        return memorization_audit(
            *(x[n] for n in ("synthetic", "train", "held_out")),
            unseen=x.get("unseen"),
            train_donors=donors.get("train"),
            held_out_donors=donors.get("held_out"),
            unseen_donors=donors.get("unseen"),
            max_obs=max_obs,
            random_state=random_state,
        )
    import scipy.sparse as sp

    both = [x["train"], x["held_out"]]
    seen = sp.vstack(both, format="csr") if sp.issparse(both[0]) else np.vstack(both)
    return memorization_audit(x["synthetic"], seen, max_obs=max_obs, random_state=random_state)


def _plain(value: Any) -> Any:
    """Lists, dictionaries and numbers that JSON knows."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, np.str_) else value
