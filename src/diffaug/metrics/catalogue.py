"""Every measure of the report: what it is called, what is ideal, and how far off is too far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "fair", "poor", "not judged"]

GOOD, FAIR = 0.9, 0.7  # of the floor-normalised score
_FAIR_TOLERANCES = 2.5


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes
    ----------
    name, title, family
        For machines, for people, and the part of the page.
    ideal
        The best value.
    tolerance
        How much worse than real cells (the floor) still counts as good, in the measure's unit; ``None`` for distances
        without a unit of their own, which are judged by their floor-normalised score.
    meaning
        A sentence for a biologist.
    per_type
        Whether it is taken for each type too.
    """

    name: str
    title: str
    family: str
    ideal: float
    tolerance: float | None
    meaning: str
    per_type: bool = True

    def loss(self, value: float) -> float:
        """How far a value is from ideal."""
        if self.name.startswith("auc_"):
            return max(value - self.ideal, 0.0)  # below 0.5 the two sets share rows, which the audit judges
        return abs(value - self.ideal)


LIKENESS, MACHINE, GENES = "Overall likeness", "Can a machine tell them apart?", "Genes and cells"
TYPES, USE = "Cell types and markers", "Usefulness"

MEASURES: dict[str, Measure] = {
    m.name: m
    for m in (
        Measure("mmd", "Maximum mean discrepancy", LIKENESS, 0, None, "Distance between the two clouds of cells."),
        Measure("energy", "Energy distance", LIKENESS, 0, None, "Another distance between the two clouds of cells."),
        Measure(
            "sliced_wasserstein", "Sliced Wasserstein", LIKENESS, 0, None,
            "How far cells would have to be moved, seen from many random sides.",
        ),
        Measure("mixing", "Mixing (iLISI)", LIKENESS, 1, 0.1, "Whether the neighbours of a cell are real and synthetic alike."),
        Measure(
            "auc_pcs_shallow", "Simple forest, components (AUC)", MACHINE, 0.5, 0.1,
            "How well simple rules on principal components tell synthetic from real; 0.5 is guessing.", False,
        ),
        Measure(
            "auc_pcs", "Full forest, components (AUC)", MACHINE, 0.5, 0.1,
            "The same with rules of any depth; 0.5 is guessing.",
        ),
        Measure(
            "auc_genes_shallow", "Simple forest, genes (AUC)", MACHINE, 0.5, 0.1,
            "How well simple rules on single genes tell synthetic from real; 0.5 is guessing.", False,
        ),
        Measure(
            "auc_genes", "Full forest, genes (AUC)", MACHINE, 0.5, 0.1,
            "The hardest test: rules of any depth on all genes; 0.5 is guessing.", False,
        ),
        Measure("gene_mean", "Error of gene means", GENES, 0, 0.1, "How far off mean expression is, as a share of it."),
        Measure(
            "gene_variance", "Error of gene variances", GENES, 0, 0.15,
            "How far off the spread of genes is, as a share of it; smoothed cells have too little.",
        ),
        Measure("zero_fraction", "Error of zero fractions", GENES, 0, 0.02, "How far off a gene's share of cells without it is."),
        Measure(
            "library_size", "Totals of cells", GENES, 0, 0.15,
            "How far off the totals of cells are, in standard deviations.",
        ),
        Measure(
            "correlation", "Gene-gene agreement", GENES, 1, 0.1,
            "Whether genes rise and fall together as they do in real cells of the type.",
        ),
        Measure("composition", "Composition of types", TYPES, 0, 0.1, "Share of cells that would have to change type.", False),
        Measure("marker_recall", "Marker recall", TYPES, 1, 0.15, "Share of a type's real markers that are its markers here."),
        Measure(
            "lfc_slope", "Slope of log-fold changes", TYPES, 1, 0.05,
            "Below 1, differences between types are weaker than in real cells; above 1, exaggerated.",
        ),
        Measure(
            "transfer", "Train on synthetic, test on real", USE, 1, 0.03,
            "How many real cells a classifier gets right that learnt from synthetic cells only (mean over types).", False,
        ),
    )
}  # fmt: skip


def normalised(measure: Measure, value: float, floor: float, null: float) -> float:
    """``(null - value) / (null - floor)`` on losses: 1 as good as real cells, 0 as bad as the null; NaN if these are one."""
    worst, best = measure.loss(null), measure.loss(floor)
    resolution = measure.tolerance if measure.tolerance is not None else 1e-9
    return (worst - measure.loss(value)) / (worst - best) if worst - best > resolution else float("nan")


def judged(measure: Measure, value: float, floor: float, half: float, score: float) -> Verdict:
    """A word for a value, given half of the interval of its distance from the floor; without an interval, never "poor"."""
    excess = measure.loss(value) - measure.loss(floor)
    if excess != excess:
        return "not judged"
    if half != half:
        certain = judged(measure, value, floor, 0.0, score)
        return "fair" if certain == "poor" else certain
    sure = excess - half
    if measure.tolerance is None:
        if sure <= 0:
            return "good"  # not told apart from real cells
        if score != score:
            return "not judged"
        return "good" if score >= GOOD else "fair" if score >= FAIR else "poor"
    if excess <= measure.tolerance:
        return "good"
    return "poor" if excess > _FAIR_TOLERANCES * measure.tolerance and sure > measure.tolerance else "fair"
