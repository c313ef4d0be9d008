"""The report as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffaug.metrics import Score
from diffaug.metrics.catalogue import MEASURES
from diffaug.pl._figure import GENERATED, REAL

if TYPE_CHECKING:
    from diffaug.tl._report import SyntheticReport

_STYLE = """
:root { --good: #0a7a3d; --fair: #a86400; --poor: #b3261e; --none: #666; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.7rem; margin-bottom: .5rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #ddd; }
th { font-size: .85rem; color: #555; font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.family td { font-weight: 600; background: #f4f4f4; padding: .35rem .5rem; }
td small, .note { color: #555; font-size: .85rem; }
td small { display: block; max-width: 26rem; }
.good { color: var(--good); } .fair { color: var(--fair); } .poor { color: var(--poor); } .none { color: var(--none); }
.mark { font-weight: 600; white-space: nowrap; }
.verdict { border-left: .5rem solid; padding: .6rem 1rem; margin: 1rem 0; background: #f7f7f7; }
.verdict strong { font-size: 1.3rem; } .verdict p { color: #222; margin: .3rem 0; }
.wide { overflow-x: auto; } .wide td, .wide th { white-space: nowrap; }
img { max-width: 100%; }
"""

_LEADS = {
    "trustworthy": (
        "good",
        "Nothing measured here tells these cells from real ones by more than real cells differ among themselves.",
    ),
    "use with care": (
        "fair",
        "No property of real cells is clearly lost, but differences are visible or cannot be ruled out: read on.",
    ),
    "not trustworthy": ("poor", "At least one property of real cells is clearly lost, or training cells show through."),
}
_SIGNS = {"good": "\u25cf", "fair": "\u25b2", "poor": "\u25a0", "not judged": "\u25cb"}
_NULLS = {"gaussian": "Gaussian", "shuffle": "shuffled", "noise": "noisy"}


def page(report: SyntheticReport) -> str:
    """The whole page."""
    judgement = report.judgement
    colour, lead = _LEADS[report.verdict]
    pooled = [s for s in judgement.scores if s.group is None]
    n_types = len({s.group for s in judgement.scores if s.group is not None})
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Synthetic cells against real ones</title><style>{_STYLE}</style></head>
<body>
<h1>Synthetic cells against real ones</h1>
{_inputs(report)}
<div class="verdict {colour}"><strong>{report.verdict.capitalize()}</strong><p>{lead}</p>{_findings(report)}</div>
{_mean(report)}
<h2>At a glance</h2>
<p>Left: held-out and synthetic cells on the first two principal components; the clouds should cover each other. Middle
and right: one dot for each gene; the dots should lie on the line.</p>
<img alt="Components, gene means and zero fractions of held-out and synthetic cells"
 src="data:image/png;base64,{base64.b64encode(_picture(report)).decode("ascii")}">
<h2>All cells together</h2>
<table id="pooled">
<tr><th>Measure</th><th>Verdict</th><th class="number">Synthetic</th><th class="number">Real</th>
<th class="number">Ideal</th><th class="number">Score</th><th class="number">Poor generators</th></tr>
{_rows(pooled)}
</table>
<p class="note">Synthetic: synthetic against held-out cells, with a 95&nbsp;% interval. Real (the floor): training cells,
which are real, against held-out cells; the best that can be hoped for. If they are of different donors, the floor has
the donors' difference in it. Score: 1 as good as real cells, 0 as bad as the worst of the three poor generators; none
where these are no worse than real cells; below it its interval, and the score against the middle one of the three. Poor generators: a Gaussian for each type, every gene shuffled over the cells,
real cells with noise. {_SIGNS["good"]} good: as real cells, within a margin; {_SIGNS["fair"]} fair: visibly different;
{_SIGNS["poor"]} poor: clearly different.</p>
{_types(report) if n_types else ""}
<h2>Copies and privacy</h2>
{_audit(report)}
<h2>How this was measured</h2>
<ul class="note">{"".join(f"<li>{html.escape(n)}</li>" for n in _method(report))}</ul>
</body>
</html>
"""


def _mean(report: SyntheticReport) -> str:
    m = report.judgement.mean_score
    if math.isnan(m.value):
        return "<p>No measure has a floor-normalised score: no null is worse than real cells.</p>"
    spread = "" if math.isnan(m.low) else f" ({_number(m.low)} to {_number(m.high)})"
    above = f"; {m.n_above} were above 1 and count as 1" if m.n_above else ""
    return (
        f'<p id="mean">Mean floor-normalised score: <b>{_number(m.value)}</b>{spread}, of {m.n_measures} measures{above} (1: as '
        "good as real cells; 0: as bad as the worst of three generators that know hardly anything). Against the middle one "
        f"of these: <b>{_number(m.median_null)}</b>.</p>"
    )


def _inputs(report: SyntheticReport) -> str:
    words = {
        "synthetic": "Synthetic",
        "train": "Trained on",
        "held_out": "Held out",
        "projection": "For the projection",
        "unseen": "Of the training donors, not trained on",
    }
    files = report.facts.get("files", {})
    items = []
    for name, n in report.facts["n_obs"].items():
        file = f"<code>{html.escape(files[name])}</code>, " if name in files else ""
        donors = f", {report.facts['donors'][name]} donors" if name in report.facts["donors"] else ""
        items.append(f"<li>{words[name]}: {file}{n:,} cells{donors}</li>")
    return f"<ul>{''.join(items)}</ul>"


def _findings(report: SyntheticReport) -> str:
    found = []
    for verdict in ("poor", "fair"):
        names = [MEASURES[s.measure].title for s in report.judgement.scores if s.group is None and s.verdict == verdict]
        if names:
            found.append(f"<p>{verdict.capitalize()}: {html.escape(', '.join(names))}.</p>")
    types = sorted({s.group for s in report.judgement.scores if s.group is not None and s.verdict == "poor"})
    if types:
        found.append(f"<p>Types with a poor measure: {html.escape(', '.join(types))}.</p>")
    for verdict, words in (("poor", "Types that are missing"), ("fair", "Types that seem to be missing")):
        absent = [str(t) for t in report.judgement.absent_types if t.verdict == verdict]
        if absent:
            found.append(f"<p>{words}: {html.escape('; '.join(absent))}.</p>")
    found += [f"<p>{html.escape(n)}</p>" for n in report.facts["notes"]]
    found += [f"<p>Audit: {html.escape(reason)}</p>" for reason in report.audit.reasons]
    return "".join(found)


def _rows(scores: list[Score]) -> str:
    by_name = {s.measure: s for s in scores}
    rows, family = [], None
    for name, measure in MEASURES.items():
        if name not in by_name:
            continue
        s = by_name[name]
        if measure.family != family:
            family = measure.family
            rows.append(f'<tr class="family"><td colspan="7">{family}</td></tr>')
        median = "" if math.isnan(s.score) else f"<small>middle null {_number(s.score_median, 2)}</small>"
        nulls = "<br>".join(f"{word} {_number(s.nulls[k])}" for k, word in _NULLS.items())
        rows.append(
            f'<tr class="measure"><td>{measure.title}<small>{measure.meaning}</small></td><td>{_mark(s.verdict)}</td>'
            f'<td class="number">{_with_interval(s.value, s.low, s.high)}</td>'
            f'<td class="number">{_with_interval(s.floor, s.floor_low, s.floor_high)}</td>'
            f'<td class="number">{measure.ideal:g}</td>'
            f'<td class="number">{_with_interval(s.score, s.score_low, s.score_high, 2)}{median}</td>'
            f'<td class="number"><small>{nulls}</small></td></tr>'
        )
    return "\n".join(rows)


def _types(report: SyntheticReport) -> str:
    """A table of verdicts and values: types down, measures across."""
    single = [s for s in report.judgement.scores if s.group is not None]
    groups = list(dict.fromkeys(s.group for s in single if s.group is not None))
    names = [n for n in MEASURES if any(s.measure == n for s in single)]
    cells = {(s.group, s.measure): s for s in single}
    head = "".join(f'<th title="{html.escape(MEASURES[n].meaning)}">{_short(n)}</th>' for n in names)
    lines = []
    for group in sorted(groups):
        tds = []
        for name in names:
            s = cells.get((group, name))
            text = "" if s is None else f"{_mark(s.verdict, word=False)} {_number(s.value, 2)}"
            tds.append(f"<td>{text}{'' if s is None else _beside(s)}</td>")
        lines.append(f"<tr><td>{html.escape(group)}</td>{''.join(tds)}</tr>")
    return f"""<h2>Type by type</h2>
<p>The same within each type: a rare type may be lost while all cells together look right. Below each value its
interval, the same of real cells (the floor) with its interval, and that of the three poor generators: Gaussian, shuffled,
noisy.</p>
<div class="wide"><table id="types"><tr><th>Type</th>{head}</tr>{"".join(lines)}</table></div>"""


def _beside(s: Score) -> str:
    """Interval, floor and nulls of a cell of the types' table."""

    def ends(low: float, high: float) -> str:
        return "" if math.isnan(low) else f" ({_number(low, 2)} to {_number(high, 2)})"

    spread = ends(s.low, s.high).strip(" ()") or "no interval"
    nulls = " / ".join(_number(s.nulls[k], 2) for k in _NULLS)
    return f"<small>{spread}</small><small>real {_number(s.floor, 2)}{ends(s.floor_low, s.floor_high)}</small><small>poor {nulls}</small>"


_SHORT = {
    "mmd": "MMD",
    "energy": "Energy",
    "sliced_wasserstein": "Sliced W.",
    "mixing": "Mixing",
    "auc_pcs": "Forest",
    "gene_mean": "Means",
    "gene_variance": "Variances",
    "zero_fraction": "Zeros",
    "library_size": "Totals",
    "correlation": "Gene-gene",
    "marker_recall": "Markers",
    "lfc_slope": "Fold slope",
}


def _short(name: str) -> str:
    return _SHORT.get(name, MEASURES[name].title)


def _audit(report: SyntheticReport) -> str:
    a = report.audit
    other = "unseen" if a.n_unseen else "held-out"
    shown = "" if a.memory_judged else "Shown and not judged."
    verdict = _mark("good" if a.passed else "poor", text="passed" if a.passed else "failed")
    rows = [
        ("Exact copies", f"{a.exact_share:.2%}", f"{a.exact_floor:.2%}", "Synthetic cells that equal a training cell."),
        (
            "Near copies", f"{a.near_share:.2%}", f"{a.near_floor:.2%}",
            "Cells less than half as far from one training cell as from any other real cell.",
        ),
        (
            "Nearest-neighbour distance ratio", _number(a.distance_ratio), _number(a.distance_ratio_floor),
            "Median of that quotient; close to 0 for copies.",
        ),
        (
            f"Closer to training than to {other} cells",
            _with_interval(a.closer_share, a.closer_low, a.closer_high), "0.5",
            f"Share of synthetic cells, with equally many real cells on both sides. {shown}",
        ),
        (
            "Membership attack (AUC)", _with_interval(a.membership_auc, a.membership_low, a.membership_high), "0.5",
            f"Whether the distance to the nearest synthetic cell tells who was in the training. {shown}",
        ),
        (
            "Membership attack within donors (AUC)",
            _with_interval(a.donor_memory_auc, a.donor_memory_low, a.donor_memory_high), "0.5",
            "The same among the cells of each donor, mean over donors, with an interval over donors.",
        ),
        (
            "Attack on whole donors (AUC)",
            _with_interval(a.donor_membership_auc, a.donor_membership_low, a.donor_membership_high),
            _number(a.donor_membership_null),
            "Whether donors near synthetic cells were trained on; beside it what their unseen cells give away by resemblance "
            "alone. Shown and not judged.",
        ),
    ]  # fmt: skip
    body = "".join(
        f'<tr><td>{title}<small>{text}</small></td><td class="number">{value}</td><td class="number">{real}</td></tr>'
        for title, value, real, text in rows
    )
    reasons = "".join(f"<p>{html.escape(r)}</p>" for r in a.reasons) + "".join(
        f'<p class="note">{html.escape(n)}</p>' for n in a.notes
    )
    return f"""<p>Audit: {verdict}. Passing it is no proof of privacy; failing it says that training cells show through.</p>{reasons}
<table id="audit"><tr><th>Measure</th><th class="number">Synthetic</th><th class="number">Real or right</th></tr>{body}</table>"""


def _method(report: SyntheticReport) -> list[str]:
    f = report.facts
    known = "The real cells were split here; the generator may have seen all of them, so only copies were judged of its memory."
    return [
        f"{f['n_genes']} genes, aligned by name. {f['scale']}",
        *f["notes"],
        *report.judgement.notes,
        *([known] if f["split_here"] else []),
        f"Principal components ({f['n_components']}) were fitted on {f['n_projection']} real cells that took no other part in "
        "the scores; fitted on the cells under test, they would make real cells look fake. "
        f"The floor had {f['n_floor']} training cells.",
        f"Intervals are from {f['n_resamples']} resamples"
        + (f" of {f['donors']['held_out']} whole held-out donors." if f["resampled"] == "donors" else " of cells.")
        + f" Forests have {f['n_estimators']} trees, and judge each cell by the trees that did not see it.",
        f"Seed {f['random_state']}; {', '.join(f'{k} {v}' for k, v in f['versions'].items())}.",
    ]


def _picture(report: SyntheticReport) -> bytes:
    j = report.judgement
    figure = Figure(figsize=(12, 4.1), layout="constrained")
    cloud, means, zeros = figure.subplots(1, 3)
    n = min(len(j.components[k]) for k in ("held_out", "synthetic"))
    pairs = [(k, j.components[k][:n], c) for k, c in (("held_out", REAL), ("synthetic", GENERATED))]
    # In mixed order: what is drawn last would hide the rest.
    points = np.vstack([p for _, p, _ in pairs])
    order = np.random.default_rng(0).permutation(len(points))
    colours = np.repeat([c for *_, c in pairs], n)
    cloud.scatter(points[order, 0], points[order, 1], c=colours[order], s=9, alpha=0.6, linewidths=0)
    for name, _, colour in pairs:
        cloud.scatter([], [], c=colour, s=25, label=name.replace("_", "-"))
    figure.legend(frameon=False, loc="outside lower left", ncols=2)
    cloud.set(xlabel="component 1", ylabel="component 2", title="Cells")
    _against(means, j.gene_means["held_out"], j.gene_means["synthetic"], "Mean of each gene")
    _against(zeros, j.gene_zeros["held_out"], j.gene_zeros["synthetic"], "Share of zeros of each gene")
    for ax in (cloud, means, zeros):
        ax.spines[["top", "right"]].set_visible(False)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()


def _against(ax: Axes, real: np.ndarray, made: np.ndarray, title: str) -> None:
    ends = [float(min(real.min(), made.min())), float(max(real.max(), made.max()))]
    ax.plot(ends, ends, color="#8C8C8C", linewidth=1)
    ax.scatter(real, made, s=9, color=GENERATED, alpha=0.6, linewidths=0)
    ax.set(xlabel="held-out", ylabel="synthetic", title=title)


def _mark(verdict: str, *, word: bool = True, text: str | None = None) -> str:
    colour = "none" if verdict == "not judged" else verdict
    label = f" {text or verdict}" if word else ""
    return f'<span class="mark {colour}" title="{verdict}">{_SIGNS[verdict]}{label}</span>'


def _number(value: float, digits: int = 3) -> str:
    if math.isnan(value):
        return "\u2013"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")  # + 0.0: no minus before a zero


def _with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    if math.isnan(value) or math.isnan(low):
        return _number(value, digits)
    return f"{_number(value, digits)}<small>{_number(low, digits)} to {_number(high, digits)}</small>"
