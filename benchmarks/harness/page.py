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
from harness.gaps import gaps
from harness.protocols import PROTOCOLS
from harness.run import COMPUTE, INSTALL, Plan
from harness.store import settings_hash
from harness.summary import (
    FLAT,
    FLAT_MORE,
    GAIN,
    GROUPED,
    LEIDEN,
    MIXING,
    NATIVE,
    NATIVE_MORE,
    OURS,
    RATE,
    STABILITY,
    STRUCTURE,
    TWIN,
    Score,
    common_sets,
    costs,
    differences,
    failures,
    gains,
    means,
    measured_costs,
    per_set,
    shown_rows,
    sweep,
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
        one = plan.slices[0]
        #: Page and figures are named after the file of variants, and after whether the sets are whole: neither ablations nor
        #: another size take the place of the main table.
        self.stem = ("embeddings" if plan.variants is None else plan.variants.stem) + ("" if one.max_obs else "_whole")
        self.peers = {name: peers[name] for name in peers if name in plan.peers}
        self.lines = {row.name: row.shown for peer in self.peers.values() for row in peer.rows}
        self.of = {row.name: peer for peer in self.peers.values() for row in peer.rows}
        hashes = {row: settings_hash(dict(settings[peer.name])) for row, peer in self.of.items()}
        names = {s.name for s in plan.slices}
        sized = shown_rows(table, one.max_obs, one.n_top_genes, None if plan.any_settings else hashes)
        self.rows = sized[sized["set"].isin(names) & sized["method"].isin(self.lines)]
        scored = set(self.rows.loc[self.rows["error"] == "", "set"])
        self.sets = [s.name for s in plan.slices if s.name in scored]
        self.n_other = self._other_settings(one.max_obs, one.n_top_genes, names)
        #: The method that a method is built on, and the settings of those that are.
        self.built_on = {row: peer.needs for row, peer in self.of.items() if peer.needs is not None}
        needing = [peer for peer in self.peers.values() if peer.needs is not None]
        built_on = {str(p.needs): settings[p.name]["built_on"] for p in needing if "built_on" in settings[p.name]}
        self._bases = {name: settings_hash(dict(given)) for name, given in built_on.items()}

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

    def rates_table(self) -> str:
        """The lambda in force by method and set, where several methods have one: arms whose lambda differs are no pair."""
        found = per_set(self.rows, RATE, self.methods, self.sets)
        if len(found) < 2:
            return ""
        lines = [
            [self._name(str(m)), *(NONE if math.isnan(v) else f"{v:.2f}" for v in row)] for m, row in found.iterrows()
        ]
        return markdown_table(["method", *map(self._set, found.columns)], *lines)

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
        """Seconds and memory on the sets that all methods share, beside the median over all that each has."""
        runs = measured_costs(self._with_bases(), self.built_on)
        methods = [m for m in self.methods if m in set(runs["method"])]
        if not methods:
            return ""
        own = costs(runs, methods)
        # A method that has hardly begun would leave hardly a set to compare the others on.
        compared = [m for m in methods if 2 * own.loc[m, "n_sets"] >= own["n_sets"].max()]
        common = common_sets(runs, compared)
        shared = [name for name in self.sets if name in common]
        found = costs(runs[runs["method"].isin(compared)], methods, shared) if shared else own
        gpu, differ = bool((found["gpu_peak_mb"] > 0).any()), bool((own["n_sets"] != len(shared)).any())
        one_process = {row.name for peer in self.peers.values() if len(peer.rows) > 1 for row in peer.rows}
        head = ["method", "seconds, median", "longest", "peak MB", "of it, above the start"]
        head += [*(["GPU peak MB"] if gpu else []), "runs", *(["median over all its sets"] if differ else [])]
        lines = []
        for m in methods:
            line = [self._name(m)]
            if m in found.index:
                row, mark = found.loc[m], " §" if m in one_process else ""
                line += [f"{row['seconds']:.1f}", f"{row['slowest']:.1f}"]
                line += [
                    f"{row[name]:.0f}{mark}" for name in ("peak_mb", "added_mb", *(["gpu_peak_mb"] if gpu else []))
                ]
                line.append(f"{row['n_runs']:.0f}")
            else:
                line += [NONE] * (len(head) - 1 - differ)
            if differ:
                line.append(f"{own.loc[m, 'seconds']:.1f} ({_counted(int(own.loc[m, 'n_sets']), 'set')})")
            lines.append(line)
        legend = [self._costs_said(shared, differ)]
        if one_process & set(methods):
            legend.append(
                "§ One process trains the model and its twin: the memory is that of both together, in either row; their"
                " seconds are told apart."
            )
        built = [m for m in methods if m in self.built_on]
        if built:
            names = ", ".join(self.lines[m] for m in built)
            legend.append(
                f"{names}: with the seconds of the model that makes the views (its twin's and the drawing of the views left"
                " out); memory is that of the larger of the two processes."
            )
        unknown = [m for m in self.methods if m in self.built_on and m not in methods]
        if unknown:
            names = ", ".join(self.lines[m] for m in unknown)
            legend.append(f"{names}: no row of the model that makes the views, so what it costs in all is not known.")
        return markdown_table(head, *lines) + "\n\n" + " ".join(legend)

    def _costs_said(self, shared: Sequence[str], differ: bool) -> str:
        if not shared:
            return "These methods have no set in common: each line is over the sets of the method itself."
        if not differ:
            return "Medians are over the sets, of the median over the seeds of each."
        return (
            f"All columns but the last are of the {_counted(len(shared), 'set')} that these methods have in common"
            f" ({', '.join(shared)}); methods with less than half of the sets have the last one only. Medians are over sets,"
            " of the median over the seeds of each."
        )

    def _with_bases(self) -> pd.DataFrame:
        """The rows, and those of models that methods are built on and the plan has not asked for."""
        one, parts = self.plan.slices[0], [self.rows]
        for base, hashed in self._bases.items():
            if base not in self.lines:
                hashes = None if self.plan.any_settings else {base: hashed}
                there = shown_rows(self.table[self.table["method"] == base], one.max_obs, one.n_top_genes, hashes)
                parts.append(there[there["set"].isin({s.name for s in self.plan.slices})])
        return pd.concat(parts, ignore_index=True)

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
        """What did not install, what does not apply, what failed, and what was not run."""
        table, lines = self.table, []
        have = set(self.rows.loc[self.rows["error"] == "", "method"])  # also where another environment made them
        absent = {name for name, peer in self.peers.items() if not any(row.name in have for row in peer.rows)}
        installs = table[(table["protocol"] == INSTALL) & table["method"].isin(absent)]
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
        here = {name: peer for name, peer in self.peers.items() if name not in set(installs["method"])}
        lines += gaps(self.rows, self.plan, here, elsewhere=self._elsewhere())
        lines += [f"- {name} is not in the tables: {reason}" for name, reason in NOT_RUN.items()]
        return "\n".join(lines)

    def _elsewhere(self) -> set[str]:
        """Methods of the plan that have rows on its sets, whatever their settings."""
        of_sets = self.table[self.table["set"].isin([s.name for s in self.plan.slices])]
        return set(of_sets["method"]) & set(self.lines)

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
            return "no seeds"
        same = counts.min() == counts.max()
        return _counted(counts.max(), "seed") if same else f"{counts.min()} to {counts.max()} seeds"

    # --- figures ------------------------------------------------------------------------------------------------------

    def write_figures(self) -> dict[str, str]:
        """Draw what there are rows for; the Markdown of each figure by name, empty where there is nothing to draw."""
        drawn = {"methods": "", "methods_2d": "", "gain": "", "sweep": ""}
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
        swept = [peer for peer in self.peers.values() if peer.sweep]
        curves = [peer for peer in swept if peer.sweep == swept[0].sweep]  # one number a figure
        panels = {score.shown: self._curves(score, curves) for score in NATIVE}
        panels = {title: panel for title, panel in panels.items() if panel}
        if panels:
            number = curves[0].sweep
            drawn["sweep"] = self._keep(
                figures.sweep_figure(panels, number),
                "sweep",
                f"Differences from the first {number}, mean and every set",
            )
        return drawn

    def _curves(self, score: Score, peers: Sequence[Peer]) -> dict[str, pd.DataFrame]:
        """By the name of each swept method its curve; those without rows are left out."""
        found = {p.shown: sweep(self.rows, score, {float(row.role): row.name for row in p.rows}) for p in peers}
        return {name: curve for name, curve in found.items() if curve.size}

    def _keep(self, figure: figures.Figure, name: str, said: str) -> str:
        stem = self.folder / f"{self.stem}_{name}"
        figures.keep(figure, stem)
        return f"![{said}]({stem.name}.svg)"

    # --- the page -----------------------------------------------------------------------------------------------------

    def _title(self) -> str:
        title = "Embeddings beside peers" if self.plan.variants is None else f"Variants: {self.plan.variants.stem}"
        return title if self.plan.slices[0].max_obs else f"{title}, whole sets"

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

        def when(scores: Sequence[Score], make: Callable[[Sequence[Score]], str], said: str = "") -> str:
            there = [s for s in scores if len(values(self.rows, s))]
            return "\n\n".join(t for t in (said, make(there)) if t) if there else ""

        said_of_rates = (
            "Share of generated views in the last epochs, mean over seeds. Near 0 a method is nearly the twin."
        )
        both = bool({OURS, TWIN} <= set(self.methods))
        coarse = bool(len(values(self.rows, LEIDEN[-1])))
        return "\n".join(
            part
            for part in (
                f"# {self._title()}\n",
                f"{len(self.sets)} labelled sets, {size}, {one.n_top_genes} highly variable genes where there are more;"
                " features that are no counts stay as they are. Every method sees the same cells and genes, and no label:"
                f" labels only judge. {self.seeds_text()}; methods without a random part have one, which stands for all."
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
                    "Curves",
                    drawn["sweep"]
                    and "Differences from the first point of each curve, in pairs of set and seed; faint lines are single sets.",
                    drawn["sweep"],
                ),
                section("Lambda in force", said_of_rates, self.rates_table()) if self.rates_table() else "",
                section(
                    "Leiden by resolution",
                    when(
                        LEIDEN,
                        self.means_table,
                        "Clusters as scanpy's Leiden makes them; a user does not know the best resolution.",
                    ),
                )
                if coarse
                else "",
                section(
                    "Natural splits",
                    when(
                        GROUPED,
                        self.means_table,
                        "Sets with donors, batches or subjects: tested on those that the classifier has not seen.",
                    ),
                    when(GROUPED, self.differences_table) if OURS in self.methods else "",
                ),
                section(
                    "Mixing of batches",
                    when(
                        MIXING,
                        self.means_table,
                        "1 where batches lie together as if drawn at random; batches that differ in their cells should not"
                        " reach it.",
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
                    "Stability over seeds",
                    when(
                        STABILITY,
                        self.means_table,
                        "Neighbours of a cell in the embedding of one seed that are its neighbours in that of seed 0.",
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
                    " what the method added. Maps are of principal components, whose computation is in their seconds.",
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
        file = self.folder / f"{self.stem}.md"
        text = self.text(notes)
        with written_file(file) as fresh:
            fresh.write_text(text.strip() + "\n", encoding="utf-8")
        return file


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


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
