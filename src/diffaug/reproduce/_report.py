"""What a table or figure says: the paper's value, ours with its interval, and what differs; as text, Markdown and data."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from diffaug.core.config import Config
from diffaug.reproduce._arms import Arm, Artefact, Domain
from diffaug.reproduce._measure import KINDS, QUANTILES
from diffaug.reproduce._paper import PaperNumber
from diffaug.reproduce._rows import Settings
from diffaug.reproduce._sets import TUNED_ON, paper_sets, stands_for
from diffaug.reproduce._statistics import Comparison, Interval, compare, interval


class Column(NamedTuple):
    """A column of a table: its title, what its score is multiplied by, and digits behind the point."""

    title: str
    factor: int = 100
    digits: int = 1


#: By the name of their score; shares are printed in percent.
_SCORES = {
    "view_rate": Column("lambda", 1, 2),
    "linear": Column("linear"),
    "linear_balanced": Column("balanced"),
    "linear_grouped": Column("linear by group"),
    "knn": Column("k-NN"),
    "kmeans": Column("k-means"),
    "linear_2d": Column("linear 2-D"),
    "knn_2d": Column("k-NN 2-D"),
    "kept": Column("kept"),
    "kept_real": Column("kept, real"),
    "rank": Column("rank", 1),
}
_SHOWN = {
    "table1": ("view_rate", "linear", "linear_balanced", "knn", "kmeans", "rank"),
    "table3": ("view_rate", "linear", "knn", "kmeans", "rank"),
    "table2": ("view_rate", "linear", "linear_grouped", "knn", "kmeans", "linear_2d", "knn_2d"),
    "table4": ("view_rate", "linear", "knn", "kmeans", "kept", "kept_real"),
    "table5": ("view_rate", "linear", "knn", "kmeans", "rank"),
    "fig5": ("view_rate", "linear", "kept", "kept_real"),
    "fig6": ("view_rate", "linear", "knn", "kmeans", "kept", "rank"),
    "fig7": ("view_rate", "linear", "knn", "kmeans", "rank"),
}
_LAMBDA_SAID = (
    "`lambda' is the share of generated views in force in the last epochs: what was asked for times the trust that the fit puts "
    "in its own views. Near 0 an arm is nearly the twin."
)
_WIDTH = 110


@dataclass(frozen=True)
class Grid:
    """A table of text: caption, heads of the columns, rows."""

    caption: str
    head: list[str]
    body: list[list[str]]


@dataclass(frozen=True)
class Report:
    """All that is said of a table or figure.

    Attributes
    ----------
    title
        What it is.
    grids
        Its tables.
    lists
        Its remarks, by heading.
    numbers
        The same as plain data.
    """

    title: str
    grids: list[Grid]
    lists: dict[str, list[str]]
    numbers: dict[str, Any]

    def text(self) -> str:
        """For a terminal."""
        parts = [f"{self.title}\n{'=' * len(self.title)}"]
        parts += [f"{_wrapped(grid.caption)}\n\n{_aligned(grid)}" for grid in self.grids]
        parts += [f"{head}\n" + "\n".join(_wrapped(line, "- ") for line in lines) for head, lines in self.lists.items()]
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """For a page of documentation."""
        parts = [f"# {self.title}"]
        for grid in self.grids:
            rows = [grid.head, ["---"] * len(grid.head), *grid.body]
            table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
            parts += [grid.caption, table]
        for head, lines in self.lists.items():
            parts += [f"## {head}", "\n".join(f"- {line}" for line in lines)]
        return "\n\n".join(parts) + "\n"


def report(artefact: Artefact, table: pd.DataFrame, settings: Settings, *, absent: Sequence[str] = ()) -> Report:
    """Sum up the rows of a table or figure.

    Parameters
    ----------
    artefact
        The table or figure.
    table
        Its rows, as :func:`diffaug.reproduce._run.run` gives them.
    settings
        Of the rows.
    absent
        Default sets that are not at hand.
    """
    keys = [arm.key for arm in artefact.arms]
    found = {score: compare(table, score, artefact.references, keys) for score in _SHOWN[artefact.name]}
    found = {score: arms for score, arms in found.items() if arms}
    sets, seeds = list(dict.fromkeys(table["set"])), sorted(table["seed"].unique().tolist())
    seconds = table.groupby("arm")["seconds"].mean().to_dict()
    grids = [_main_grid(artefact, found, sets, seeds, seconds), _by_set_grid(artefact, found["linear"], sets)]
    if "view_rate" in found:
        grids.append(_lambda_grid(found["view_rate"]))
    numbers: dict[str, Any] = {
        "artefact": artefact.name,
        "title": artefact.title,
        "unit": "percent; lambda (view_rate), rank and cosines as they are",
        "sets": sets,
        "seeds": seeds,
        "reference": artefact.reference,
        "arms": [_arm_numbers(arm, found, seconds) for arm in artefact.arms],
        "paper_only": {title: dataclasses.asdict(number) for title, number in artefact.paper_only.items()},
        "paper_sets": [_paper_set(s, sets) for s in paper_sets(artefact.domain)],
        "absent": list(absent),
        "settings": settings.flat(),
        "versions": sorted(table["versions"].unique().tolist()),
        "devices": sorted(table["device"].unique().tolist()),
    }
    if artefact.name == "fig5":
        cosines = _cosines(table, sets)
        grids.insert(0, _cosine_grid(cosines, sets))
        numbers["cosines"] = {k: {q: _plain(v) for q, v in by_q.items()} for k, by_q in cosines.items()}
    lists = {
        "Rows": [f"{arm.key}: {arm.title}" for arm in artefact.arms],
        "The paper's sets": [_paper_set_line(s, sets) for s in numbers["paper_sets"]],
        "What differs from the paper": [*artefact.notes, *_common_notes(artefact.domain, settings, sets, absent)],
        "How to read it": _reading_notes(table, found, sets, seeds),
    }
    numbers["notes"] = lists["What differs from the paper"]
    return Report(artefact.title, grids, lists, numbers)


# --- tables ----------------------------------------------------------------------------------------------------------


def _main_grid(
    artefact: Artefact,
    found: dict[str, dict[str, Comparison]],
    sets: Sequence[str],
    seeds: Sequence[int],
    seconds: dict[str, float],
) -> Grid:
    head = ["", "paper", *(_SCORES[score].title for score in found)]
    compares = len(artefact.arms) > 1
    if compares:
        several = len(set(artefact.references.values())) > 1
        other = "its reference" if several else artefact.reference
        head += [*(["reference"] if several else []), f"linear - {other}, seeds", "the same, sets"]
    head.append("s a run")
    body = []
    for arm in artefact.arms:
        cells = [arm.key, _paper(arm.paper)]
        cells += [
            _shown(arms[arm.key].level, _SCORES[score]) if arm.key in arms else "-" for score, arms in found.items()
        ]
        if compares:
            linear, other = found["linear"][arm.key], artefact.references[arm.key]
            cells += ["-" if other == arm.key else other] * several
            cells += [_difference(linear.over_seeds), _difference(linear.over_sets)]
        body.append([*cells, f"{seconds[arm.key]:.0f}"])
    for title, number in artefact.paper_only.items():
        body.append([f"{title} (not run here)", _paper(number), *["-"] * (len(head) - 2)])
    caption = (
        f"Mean over {_counted(len(sets), 'set')} ({', '.join(sets)}) and {_counted(len(seeds), 'seed')}, in percent."
    )
    return Grid(caption, head, body)


def _by_set_grid(artefact: Artefact, linear: dict[str, Comparison], sets: Sequence[str]) -> Grid:
    head, paper = [""], ["the paper's DiffAug"]
    for name in sets:
        original = stands_for(name)
        is_it = original is None or name == original.name
        head.append(name if original is None or is_it else f"{name} (for {original.title.partition(':')[0]})")
        paper.append("-" if original is None else _paper(original.paper))
    body = [[arm.key, *(_shown(linear[arm.key].by_set[s]) for s in sets)] for arm in artefact.arms]
    if artefact.name in ("table1", "table2", "table3"):
        body.insert(0, paper)
    return Grid("By set: linear SVM in percent, mean over the seeds.", head, body)


def _lambda_grid(found: dict[str, Comparison]) -> Grid:
    """Lambda by set: a mean over sets hides that the loop was all but off on one of them."""
    sets = list(next(iter(found.values())).by_set)
    body = [[arm, *(_shown(by.by_set[name], _SCORES["view_rate"]) for name in sets)] for arm, by in found.items()]
    return Grid("By set: lambda in force, mean over the seeds.", ["", *sets], body)


def _cosines(table: pd.DataFrame, sets: Sequence[str]) -> dict[str, dict[str, Interval]]:
    """Quantiles of the cosines by kind of view, as means over the sets with their interval over seeds; medians by set."""
    found = {}
    for kind in KINDS:
        by_seed = {q: table.groupby("seed")[f"cosine_{kind}_q{q:02}"].mean() for q in QUANTILES}
        found[kind] = {f"q{q:02}": interval(values) for q, values in by_seed.items()}
        medians = table.groupby("set")[f"cosine_{kind}_q50"]
        found[kind] |= {f"median {name}": interval(medians.get_group(name)) for name in sets}
    return found


def _cosine_grid(cosines: dict[str, dict[str, Interval]], sets: Sequence[str]) -> Grid:
    head = ["", "paper", *(f"{q} %" for q in QUANTILES), *(f"median, {name}" for name in sets)]
    body = [
        [
            kind.replace("_", " "),
            "not at hand",
            *(f"{v.mean:.2f}" if q.startswith("q") else _number(v) for q, v in by_q.items()),
        ]
        for kind, by_q in cosines.items()
    ]
    return Grid("Quantiles of the cosine between a cell and its view, mean over the sets; medians by set.", head, body)


def _paper(number: PaperNumber | None) -> str:
    if number is None:
        return "-"
    return "not at hand" if number.value is None else f"{number.value:.1f}"


def _shown(value: Interval, column: Column = _SCORES["linear"]) -> str:
    mean, low, high = (f"{column.factor * v:.{column.digits}f}" for v in (value.mean, value.low, value.high))
    return mean if math.isnan(value.low) else f"{mean} [{low}, {high}]"


def _difference(value: Interval | None) -> str:
    if value is None:
        return "-"
    text = f"{100 * value.mean:+.1f}"
    return text if math.isnan(value.low) else f"{text} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def _number(value: Interval) -> str:
    return f"{value.mean:.2f}" if math.isnan(value.low) else f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


# --- data ------------------------------------------------------------------------------------------------------------


def _arm_numbers(arm: Arm, found: dict[str, dict[str, Comparison]], seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "key": arm.key,
        "title": arm.title,
        "method": arm.method,
        "changes": {section: dict(part) for section, part in arm.changes.items()},
        "paper": None if arm.paper is None else dataclasses.asdict(arm.paper),
        "seconds": seconds[arm.key],
        "scores": {
            score: {
                "mean": _plain(arms[arm.key].level, _factor(score)),
                "by_set": {s: _plain(v, _factor(score)) for s, v in arms[arm.key].by_set.items()},
                "difference_over_seeds": _plain(arms[arm.key].over_seeds, _factor(score)),
                "difference_over_sets": _plain(arms[arm.key].over_sets, _factor(score)),
            }
            for score, arms in found.items()
            if arm.key in arms
        },
    }


def _factor(score: str) -> int:
    return _SCORES[score].factor


def _plain(value: Interval | None, factor: int = 1) -> dict[str, float | None] | None:
    """An interval for JSON, which knows no NaN."""
    if value is None:
        return None
    ends = {name: factor * getattr(value, name) for name in ("mean", "low", "high")}
    return {**{name: None if math.isnan(end) else end for name, end in ends.items()}, "n": value.n}


def _paper_set(original: Any, sets: Sequence[str]) -> dict[str, Any]:
    return {
        "name": original.title,
        "paper": dataclasses.asdict(original.paper),
        "reason": original.reason,
        "stand_ins": list(original.stand_ins),
        "used": [name for name in (original.name, *original.stand_ins) if name in sets],
        "itself": original.name in sets,
        "domain": original.domain,
    }


# --- remarks ---------------------------------------------------------------------------------------------------------


def _paper_set_line(original: dict[str, Any], sets: Sequence[str]) -> str:
    value = original["paper"]["value"]
    if original["itself"]:
        return f"{original['name']} (paper: {value}): itself."
    if original["domain"] != "bio" and not original["used"]:  # why not is said once for all, if it is no choice
        return f"{original['name']} (paper: {value}): not run here."
    if original["used"]:
        use = f"in its place: {', '.join(original['used'])}."
    elif original["stand_ins"]:
        use = f"not run here; {' and '.join(original['stand_ins'])} may stand in."
    else:
        use = "nothing stands in for it."
    return f"{original['name']} (paper: {value}): {use} {original['reason']}".rstrip()


def _common_notes(domain: Domain, settings: Settings, sets: Sequence[str], absent: Sequence[str]) -> list[str]:
    if domain != "bio":
        return _split_notes(domain, settings, sets, absent)
    size = "" if settings.max_obs is None else f" of at most {settings.max_obs} cells"
    notes = [
        f"Data: stand-ins{size}. Raw counts are log-normalised and cut to {settings.n_top_genes} variable genes; other "
        "measurements are taken as they are. The paper's versions of its sets are not known in detail.",
        _recipe(settings.base) + _cap(settings),
        "Protocol: the encoder sees all cells without their labels, those of the probe's test splits included. No label is "
        "read in training, early stopping or the choice of a model (A1 of Table 4 apart); the released code of the paper "
        "chooses its checkpoints by a score that uses labels.",
    ]
    tuned = [name for name in sets if name in TUNED_ON]
    if tuned:
        notes.append(
            f"Defaults of this package were tuned with labels of {', '.join(tuned)}, which flatters ours there."
        )
    if absent:
        notes.append(f"Not at hand in DIFFAUG_DATA_DIR and left out: {', '.join(absent)}.")
    return notes


def _split_notes(domain: Domain, settings: Settings, sets: Sequence[str], absent: Sequence[str]) -> list[str]:
    """The same for sets with an official split."""
    base, size = settings.base, "" if settings.max_obs is None else f" {settings.max_obs} events of each set at most."
    of_paper = {s.name for s in paper_sets(domain)}
    others = [name for name in sets if name not in of_paper]
    notes = (
        [f"Data: {', '.join(others)} {'is' if len(others) == 1 else 'are'} none of the paper's sets.{size}"]
        if others
        else []
    )
    if not others and size:
        notes = [f"Data:{size}"]
    network = f"{base.domain.encoder}, width {base.domain.encoder_width:g}" if domain == "vision" else "Hyena"
    epochs = {
        "vision": "A 200, B 400, A 800 epochs of batches of 256",
        "dna": "epochs not at hand",
    }
    notes.append(
        f"Recipe, where a row does not say otherwise: loss {base.loss.name}, encoder {network}, {_length(base)}, "
        f"{base.diffusion.n_steps} sampling steps, lambda {base.training.view_rate:g} at most. The paper's: soft loss, "
        f"{epochs[domain]}, lambda 0.1; `--preset paper' has its settings, for a GPU." + _cap(settings)
    )
    if absent:
        notes.append(f"Not at hand in DIFFAUG_DATA_DIR and left out: {', '.join(absent)}.")
    return notes


def _cap(settings: Settings) -> str:
    """What a reader must know of numbers of a quick look."""
    if settings.max_epochs is None:
        return ""
    return f" Here `--max-epochs {settings.max_epochs}' caps the epochs of all phases together: longer plans shrink in proportion."


def _length(base: Config) -> str:
    plan = base.training
    if plan.warmup_epochs is None:
        return f"about {plan.warmup_steps} + {plan.mixed_steps} steps of the encoder and {plan.generator_steps} of the generator"
    return f"A {plan.warmup_epochs}, B {plan.generator_epochs}, A {plan.mixed_epochs} epochs"


def _recipe(base: Config) -> str:
    plan, domain = base.training, base.domain
    length, scaled = _length(base), getattr(domain, "scaling", None)  # images and DNA have none
    scaling = "" if scaled is None else f", features in {scaled} scaling (the paper says nothing of it)"
    return (
        f"Recipe, where a row does not say otherwise: {_counted(plan.n_encoders, 'encoder')}, loss {base.loss.name}, generator {domain.generator!r} of width "
        f"{domain.generator_width}, {length}, {base.diffusion.n_steps} sampling steps, lambda {plan.view_rate:g}, "
        f"hand-made views {domain.views or 'by the number of features'}{scaling}. The paper's: one encoder, soft loss, Listing 2 "
        "of width 2000, A 330, B 330, A 340 epochs, 1000 sampling steps, lambda 0.1; `--preset paper' has its widths and epochs."
    )


def _reading_notes(
    table: pd.DataFrame, found: dict[str, dict[str, Comparison]], sets: Sequence[str], seeds: Sequence[int]
) -> list[str]:
    if len(seeds) > 1:
        notes = [
            f"[a, b] is the 95 % interval by Student's t over {len(seeds)} seeds, or over the sets where it says so."
        ]
    else:
        notes = ["One seed: there is no interval over seeds, and a difference may be chance."]
    if "view_rate" in found:
        notes.append(_LAMBDA_SAID)
    notes.append("Differences are paired by set and seed. An interval over sets says what another set might give.")
    for score, arms in found.items():
        seen = list(next(iter(arms.values())).by_set)
        if seen != list(sets):
            notes.append(
                f"`{_SCORES[score].title}' is over {', '.join(seen)} only: no donor, subject or batch is on both sides."
            )
    left_out = table.groupby("set", sort=False)["n_left_out"].max()
    for name, n in left_out[left_out > 0].items():
        notes.append(
            f"{name}: {_counted(int(n), 'cell')} of classes too small for the splits not scored by the SVM and k-NN."
        )
    for what in ("versions", "device"):
        several = table[what].unique()
        if len(several) > 1:
            notes.append(f"The rows are of several {what}: {'; '.join(map(str, several))}.")
    made_with = ", ".join(part.replace("=", " ") for part in table["versions"].iloc[-1].split())
    notes.append(f"Made with {made_with}, device {table['device'].iloc[-1]}.")
    return notes


# --- layout ----------------------------------------------------------------------------------------------------------


def _aligned(grid: Grid) -> str:
    rows = [grid.head, *grid.body]
    widths = [max(len(row[i]) for row in rows) for i in range(len(grid.head))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, bullet: str = "") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet))
