"""The page: tables and figures of the rows that are there, with the command that made them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from _common import markdown_table
from peers import NOT_RUN, Peer

from diffaug.core.storage import written_file
from diffaug.metrics import MeanInterval
from diffaug.reproduce._sets import TUNED_ON
from harness import figures
from harness.protocols import PROTOCOLS
from harness.run import COMPUTE, INSTALL, Plan
from harness.store import settings_hash
from harness.summary import (
    FLAT,
    FLAT_MORE,
    GAIN,
    GROUPED,
    NATIVE,
    NATIVE_MORE,
    OURS,
    RATE,
    STRUCTURE,
    TWIN,
    Score,
    costs,
    differences,
    failures,
    gains,
    means,
    per_set,
    shown_rows,
    values,
)  # fmt: skip

NONE = "–"
#: From which lambda on the loop is said to be in use; below it most positives are hand-made, as the twin's are.
IN_USE = 0.25


class Page:
    """Everything that is written of one table of rows.

    Parameters
    ----------
    table
        All rows.
    plan
        Which sets, methods and settings to show.
    peers
        The methods.
    settings
        Settings of each method of the plan.
    folder
        Where page and figures go.
    command
        The command line, for the page.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        plan: Plan,
        peers: Mapping[str, Peer],
        settings: Mapping[str, Mapping[str, object]],
        folder: Path,
        command: str,
    ) -> None:
        self.table, self.plan, self.folder, self.command = table, plan, folder, command
        self.peers = {name: peers[name] for name in peers if name in plan.peers}
        self.lines = {row.name: row.shown for peer in self.peers.values() for row in peer.rows}
        self.of = {row.name: peer for peer in self.peers.values() for row in peer.rows}
        one = plan.slices[0]
        hashes = {row: settings_hash(dict(settings[peer.name])) for row, peer in self.of.items()}
        names = {s.name for s in plan.slices}
        sized = shown_rows(table, one.max_obs, one.n_top_genes, None if plan.any_settings else hashes)
        self.rows = sized[sized["set"].isin(names) & sized["method"].isin(self.lines)]
        scored = set(self.rows.loc[self.rows["error"] == "", "set"])
        self.sets = [s.name for s in plan.slices if s.name in scored]
        self.n_other = self._other_settings(one.max_obs, one.n_top_genes, names)

    def _other_settings(self, max_obs: int | None, n_top_genes: int, names: set[str]) -> int:
        """Rows of the plan's sets and methods that are left out because their settings are others."""
        t = self.table
        same = (t["max_obs"] == (max_obs or 0)) & (t["n_top_genes"] == n_top_genes)
        return int((same & t["set"].isin(names) & t["method"].isin(self.lines)).sum()) - len(self.rows)

    @property
    def methods(self) -> list[str]:
        """Methods that have at least one score."""
        scored = set(self.rows.loc[self.rows["error"] == "", "method"])
        return [m for m in self.lines if m in scored]

    # --- tables -------------------------------------------------------------------------------------------------------

    def _name(self, method: str) -> str:
        name = self.lines[method]
        return f"**{name}**" if method == OURS else name

    def means_table(self, scores: Sequence[Score], methods: Sequence[str] | None = None) -> str:
        """Means over sets with the interval of each."""
        methods = self.methods if methods is None else methods
        columns = {score.shown: means(self.rows, score, methods) for score in scores}
        n_sets = {m: max((c[m].n_groups for c in columns.values() if m in c), default=0) for m in methods}
        lines = [
            [self._name(m), str(n_sets[m]), *(_with_interval(c.get(m), 3) for c in columns.values())]
            for m in methods
            if n_sets[m]
        ]
        few = sorted({int(line[1]) for line in lines})
        said = (
            f"\n\nMethods with fewer than {few[-1]} sets cannot be compared with the others by these means, but in pairs."
            if len(few) > 1
            else ""
        )
        return markdown_table(["method", "sets", *columns], *lines) + said

    def differences_table(self, scores: Sequence[Score], sets: Sequence[str] | None = None) -> str:
        """DiffAug minus each method, in pairs; Student's t, and the bootstrap below it."""
        rows = self.rows if sets is None else self.rows[self.rows["set"].isin(sets)]
        columns = {score.shown: differences(rows, score, self.methods) for score in scores}
        lines = []
        for m in self.methods:
            cells = [c.get(m) for c in columns.values()]
            if any(cells):
                n_sets = max(cell[0].n_groups for cell in cells if cell)
                texts = [NONE if c is None else f"{_signed(c[0])}; bootstrap {_range(c[1])}" for c in cells]
                lines.append([self._name(m), str(n_sets), *texts])
        return markdown_table([f"{self.lines.get(OURS, OURS)} minus", "sets", *columns], *lines)

    def unseen_table(self, scores: Sequence[Score]) -> str:
        """The differences on the sets that no choice of a default has seen, where there are such sets beside others."""
        unseen = [name for name in self.sets if name not in TUNED_ON]
        if not unseen or len(unseen) == len(self.sets):
            return ""
        seen = ", ".join(name for name in self.sets if name in TUNED_ON)
        return (
            f"Defaults of DiffAug were chosen with the labels of {seen} (marked ‡ below), and the tables above flatter it"
            f" by as much. On the other {len(unseen)} sets:\n\n{self.differences_table(scores, unseen)}"
        )

    def gains_table(self, scores: Sequence[Score]) -> str:
        """The loop's gain on each set, and over all, beside the lambda that was in force."""
        rates = per_set(self.rows, RATE, [OURS], self.sets)
        columns = {score.shown: gains(self.rows, score) for score in scores}
        lines = []
        for name in self.sets:
            cells = [c.get(name) for c in columns.values()]
            if any(cells):
                seeds = max(cell.n_groups for cell in cells if cell)
                rate = f"{rates.loc[OURS, name]:.2f}" if name in rates else NONE
                lines.append([self._set(name), str(seeds), rate, *(NONE if c is None else _signed(c) for c in cells)])
        lines += self._mean_gains("all sets", self.sets, scores)
        used = [name for name in self.sets if name in rates and rates.loc[OURS, name] >= IN_USE]
        if 0 < len(used) < len(self.sets):
            lines += self._mean_gains(f"the {len(used)} sets with lambda of at least {IN_USE:g}", used, scores)
        return markdown_table(["set", "seeds", "lambda in force", *columns], *lines)

    def _mean_gains(self, said: str, sets: Sequence[str], scores: Sequence[Score]) -> list[list[str]]:
        """Two lines of the gain's table: the mean over some sets with Student's t, and with the bootstrap."""
        rows = self.rows[self.rows["set"].isin(sets)]
        found = [differences(rows, score, [TWIN]).get(TWIN) for score in scores]
        return [
            [f"**mean over {said}**, {how}", "", "", *(NONE if f is None else _signed(f[i]) for f in found)]
            for i, how in enumerate(("t", "bootstrap"))
        ]

    def per_set_table(self, score: Score) -> str:
        """Means over seeds of every method on every set; the best of a set is bold."""
        found = per_set(self.rows, score, self.methods, self.sets)
        failed = self.rows[(self.rows["error"] != "") & self.rows["protocol"].isin([score.protocol, COMPUTE])]
        bad = set(zip(failed["method"], failed["set"], strict=True))
        best = found.max()
        lines = []
        for m in found.index:
            cells = []
            for name in found.columns:
                value = found.loc[m, name]
                if math.isnan(value):
                    cells.append("failed" if (m, name) in bad else NONE)
                else:
                    cells.append(f"**{value:.3f}**" if value == best[name] else f"{value:.3f}")
            lines.append([self._name(m), *cells])
        return markdown_table(["method", *map(self._set, found.columns)], *lines)

    def costs_table(self) -> str:
        found = costs(self.rows, self.methods)
        gpu = bool((found["gpu_peak_mb"] > 0).any())
        lines = [
            [
                self._name(str(m)),
                f"{row['seconds']:.1f}",
                f"{row['slowest']:.1f}",
                f"{row['peak_mb']:.0f}",
                f"{row['added_mb']:.0f}",
                *([f"{row['gpu_peak_mb']:.0f}"] if gpu else []),
                f"{row['n_runs']:.0f}",
            ]
            for m, row in found.iterrows()
        ]
        head = ["method", "seconds, median", "longest", "peak MB", "of it, above the start", "runs"]
        return markdown_table([*head[:-1], *(["GPU peak MB"] if gpu else []), head[-1]], *lines)

    def sets_table(self) -> str:
        lines = []
        for name in self.sets:
            row = self.rows[(self.rows["set"] == name) & (self.rows["n_obs"] > 0)].iloc[0]
            cells = f"{row['n_obs']:,}" + (f" of {row['n_obs_total']:,}" if row["n_obs"] < row["n_obs_total"] else "")
            grouped = "yes" if row["grouped"] else "no"
            lines.append(
                [
                    self._set(name),
                    cells,
                    str(row["n_features"]),
                    str(row["n_classes"]),
                    row["kind"],
                    row["labels"],
                    grouped,
                ]
            )
        return markdown_table(["set", "cells", "features", "classes", "values", "labels", "natural split"], *lines)

    def scib_table(self) -> str:
        found = self.rows[(self.rows["protocol"] == "scib") & (self.rows["error"] == "")]
        if found.empty:
            return ""
        return self.means_table([Score(m, "scib", m) for m in dict.fromkeys(found["metric"])])

    def _set(self, name: str) -> str:
        circular = (self.rows.loc[self.rows["set"] == name, "labels"] == "circular").any()
        marks = ("°" if circular else "") + ("‡" if name in TUNED_ON else "")
        return f"{name} {marks}".strip()

    # --- prose --------------------------------------------------------------------------------------------------------

    def missing_list(self) -> str:
        """What did not install, what does not apply, and what failed."""
        table, lines = self.table, []
        installs = table[(table["protocol"] == INSTALL) & table["method"].isin(self.peers)]
        for _, row in installs.iterrows():
            peer = self.peers[row["method"]]
            lines.append(f"- {peer.shown} is not in the tables: `{row['error']}`. {peer.note}".rstrip())
        for peer in self.peers.values():
            out = [
                s.name
                for s in self.plan.slices
                if peer.needs_counts and s.name in self.sets and not self._counts(s.name)
            ]
            if out:
                lines.append(f"- {peer.shown} needs counts, which these sets do not have: {', '.join(out)}.")
        for _, row in failures(self.rows).iterrows():
            what = "" if row["protocol"] == COMPUTE else f", `{row['protocol']}`"
            text = " ".join(str(row["error"]).split())
            name = self.lines[row["method"]]
            lines.append(f"- {name} failed on {row['set']}{what} (seeds {row['seeds']}): `{text[:300]}`")
        lines += [f"- {name} is not in the tables: {reason}" for name, reason in NOT_RUN.items()]
        return "\n".join(lines)

    def _counts(self, name: str) -> bool:
        return bool((self.rows.loc[self.rows["set"] == name, "kind"] == "counts").any())

    def notes_list(self) -> str:
        notes = {p.shown: p.note for p in self.peers.values() if p.note and any(r.name in self.methods for r in p.rows)}
        return "\n".join(f"- {name}: {note}" for name, note in notes.items())

    def protocols_list(self) -> str:
        ran = set(self.rows["protocol"])
        return "\n".join(f"- `{p.name}`: {p.said}." for p in PROTOCOLS.values() if p.name in ran)

    def seeds_text(self) -> str:
        counts = (
            self.rows[self.rows["stochastic"] & (self.rows["error"] == "")].groupby(["set", "method"])["seed"].nunique()
        )
        if counts.empty:
            return "no"
        return str(counts.max()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"

    # --- figures ------------------------------------------------------------------------------------------------------

    def write_figures(self) -> dict[str, str]:
        """Draw what there are rows for; the Markdown of each figure by name, empty where there is nothing to draw."""
        drawn = {"methods": "", "methods_2d": "", "gain": ""}
        shown = {**self.lines}
        for name, scores in (("methods", NATIVE), ("methods_2d", FLAT)):
            panels = {s.shown: {m: d[0] for m, d in differences(self.rows, s, self.methods).items()} for s in scores}
            panels = {title: panel for title, panel in panels.items() if panel}
            if panels:
                figure = figures.methods_figure(panels, shown, self.lines[OURS], TWIN)
                drawn[name] = self._keep(
                    figure, name, f"Every method minus {self.lines[OURS]}, with 95 % intervals over sets"
                )
        panels = {s.shown: (gains(self.rows, s), differences(self.rows, s, [TWIN]).get(TWIN, (None,))[0]) for s in GAIN}
        panels = {title: panel for title, panel in panels.items() if panel[0]}
        if panels:
            drawn["gain"] = self._keep(
                figures.gain_figure(panels, self.sets),
                "gain",
                "The loop's gain on every set, with 95 % intervals over seeds",
            )
        return drawn

    def _keep(self, figure: figures.Figure, name: str, said: str) -> str:
        stem = self.folder / f"embeddings_{name}"
        figures.keep(figure, stem)
        return f"![{said}]({stem.name}.svg)"

    # --- the page -----------------------------------------------------------------------------------------------------

    def text(self, notes: str = "") -> str:
        """The whole page; writes the figures it shows."""
        one, drawn = self.plan.slices[0], self.write_figures()
        size = f"at most {one.max_obs:,} cells (a fixed draw)" if one.max_obs else "all cells"
        machine = "; ".join(
            sorted({f"{m}, {t} thread(s)" for m, t in zip(self.rows["machine"], self.rows["threads"], strict=True)})
        )
        other = (
            f"\n{self.n_other} rows of these sets and methods have other settings than the present ones and are not shown.\n"
            if self.n_other and not self.plan.any_settings
            else ""
        )

        def section(title: str, *parts: str) -> str:
            body = "\n\n".join(p for p in parts if p)
            return f"## {title}\n\n{body}\n" if body else ""

        def has(scores: Sequence[Score]) -> bool:
            return any(len(values(self.rows, s)) for s in scores)

        def when(scores: Sequence[Score], make: Callable[[Sequence[Score]], str], said: str = "") -> str:
            there = [s for s in scores if len(values(self.rows, s))]
            return "\n\n".join(t for t in (said, make(there)) if t) if there else ""

        both = bool({OURS, TWIN} <= set(self.methods))
        return "\n".join(
            part
            for part in (
                "# Embeddings beside peers\n",
                f"{len(self.sets)} labelled sets, {size}, {one.n_top_genes} highly variable genes where there are more;"
                " features that are no counts stay as they are. Every method sees the same cells and genes, and no label:"
                f" labels only judge. {self.seeds_text()} seeds; methods without a random part have one, which stands for all."
                " Means are over seeds, then sets; brackets are 95 % intervals (Student's t) over sets."
                " Differences are of pairs that share set and seed; their second interval is a bootstrap over sets, and"
                " seeds within sets. Most of the spread of a method over sets is how hard the sets are, so it is the"
                " differences that say which method is better. ° marks sets whose labels were derived from the same"
                " measurements (circular): agreement with them flatters methods that resemble the labellers'.\n",
                f"Command: `{self.command}` ({machine}).\n{other}",
                section(
                    "Native dimension",
                    when(NATIVE, self.means_table),
                    drawn["methods"],
                    when(NATIVE, self.differences_table) if OURS in self.methods else "",
                    when(NATIVE, self.unseen_table) if OURS in self.methods else "",
                    when(NATIVE_MORE, self.means_table, "Further scores of the same embeddings:"),
                ),
                section(
                    "Two dimensions",
                    when(
                        FLAT,
                        self.means_table,
                        "Methods that draw maps as they are; of principal components the first two; of every other"
                        " embedding a UMAP with one set of settings (15 neighbours, distance 0.1).",
                    ),
                    drawn["methods_2d"],
                    when(FLAT, self.differences_table) if OURS in self.methods else "",
                    when(FLAT_MORE, self.means_table),
                ),
                section(
                    "The loop's gain",
                    "DiffAug minus its twin with the loop off, which has as many encoder epochs with hand-made views only."
                    " Intervals of a set are over its seeds. The lambda in force is what the fit makes of its own views, without"
                    f" labels; that rule was found on sets marked ‡, and the border of {IN_USE:g} in the last lines is ours.",
                    drawn["gain"],
                    when(GAIN, self.gains_table),
                )
                if both
                else "",
                section(
                    "Natural splits",
                    when(
                        GROUPED,
                        self.means_table,
                        "Sets with donors, batches or subjects: tested on those that the classifier has not seen. Mixing"
                        " is 1 where batches lie together as if drawn at random; batches that differ in their cells"
                        " should not reach it.",
                    ),
                    self.scib_table(),
                ),
                section(
                    "Structure",
                    when(
                        STRUCTURE,
                        self.means_table,
                        "Neighbours are compared with those of the z-scored genes. An effective rank near 1 is a collapse.",
                    ),
                ),
                section(
                    "Each set",
                    *(
                        f"Accuracy of {s.shown}:\n\n{self.per_set_table(s)}"
                        for s in NATIVE
                        if len(values(self.rows, s))
                    ),
                ),
                section(
                    "Time and memory",
                    "Every run is a process of its own; loading the set, imports and first compilations are not in the"
                    " seconds. Peak memory is that of the process, its libraries and data included; the column beside it is"
                    " what the method added. Maps are of principal components, whose computation is in their seconds. DiffAug and its twin are one fit, whose time is told apart and whose memory is not.",
                    self.costs_table(),
                ),
                section("Sets", self.sets_table()),
                section("Protocols and methods", self.protocols_list(), self.notes_list()),
                section("What is missing", self.missing_list()),
                section("What follows", notes),
            )
            if part
        )

    def write(self, notes: str = "") -> Path:
        """Write the page and its figures."""
        file = self.folder / "embeddings.md"
        text = self.text(notes)
        with written_file(file) as fresh:
            fresh.write_text(text.strip() + "\n", encoding="utf-8")
        return file


def _range(found: MeanInterval, signed: bool = True) -> str:
    if math.isnan(found.low):
        return "[–]"
    sign = "+" if signed else ""
    return f"[{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def _signed(found: MeanInterval) -> str:
    return f"{found.mean:+.3f} {_range(found)}"


def _with_interval(found: MeanInterval | None, digits: int) -> str:
    if found is None:
        return NONE
    return f"{found.mean:.{digits}f} {_range(found, signed=False)}"
