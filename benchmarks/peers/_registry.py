"""The table of methods: what each needs, and how it is shown."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

Flat = Literal["native", "first", "umap"]


class Made(NamedTuple):
    """What a method makes of cells.

    ``seconds`` is for methods that share a computation, which know their own part; ``kept`` are further arrays, a row
    for each cell, for methods that build on this one; ``readings`` are numbers that the method measured on its way.
    """

    x: np.ndarray
    seconds: float | None = None
    kept: Mapping[str, np.ndarray] = {}
    readings: Mapping[str, float] = {}


@dataclass(frozen=True)
class Row:
    """A line of the tables: ``role`` is the key of the method's result that it shows.

    ``kept_as`` is the name of its embeddings in the cache, by default its own. A variant keeps its embeddings as its
    method does: settings that come out equal then are computed once, whatever they are called.
    """

    name: str
    shown: str
    role: str = "model"
    kept_as: str = ""


@dataclass(frozen=True)
class Peer:
    """A method.

    Parameters
    ----------
    name
        Name on the command line, in the rows and in the cache.
    shown
        Name in tables and figures.
    embed
        ``embed(adata, seed, **settings)``; an embedding, or a dictionary of :class:`Made` by role.
    rows
        What it yields; by default one row of its own name.
    requires
        Modules that it imports, besides those of the package.
    extra
        Extra of the package that installs them.
    stochastic
        Whether seeds differ; the others run with seed 0 only, which stands for every seed.
    flat
        Where the map of the two-dimensional protocols comes from: ``"native"`` embeddings are one, ``"first"`` takes the
        first two dimensions, ``"umap"`` maps the embedding.
    needs_counts
        Whether it cannot do without raw counts.
    needs
        Name of the method whose kept arrays it gets, in ``adata.obsm``.
    compiles
        Whether its first call compiles code; that one is then made on a few random cells, before the clock starts.
    sweep
        Of which number its rows are a curve, as the figures call it; each row's role is its place on the curve, the first the
        one that the others are held against.
    reads_labels
        Whether these settings make it read the labels (a supervised ablation); no other method gets to see them.
    resolve
        Fills in settings that stand for others, so that rows hold what was run: a preset's name, for example.
    note
        What a reader of the table has to know.
    """

    name: str
    shown: str
    embed: Callable[..., np.ndarray | dict[str, Made]]
    rows: tuple[Row, ...] = ()
    requires: tuple[str, ...] = ()
    extra: str = ""
    stochastic: bool = True
    flat: Flat = "umap"
    needs_counts: bool = False
    needs: str | None = None
    compiles: bool = False
    sweep: str = ""
    reads_labels: Callable[[dict[str, Any]], bool] = lambda settings: False
    resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict
    note: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of a run: the function's defaults, what was changed, and what a name stands for."""
        parameters = inspect.signature(self.embed).parameters.values()
        given = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        unknown = sorted(set(self.changes) - set(given))
        if unknown:
            raise KeyError(f"Expected settings of {self.name!r} among {sorted(given)}, found {unknown[0]!r}.")
        return self.resolve({**given, **self.changes})

    def why_missing(self) -> str:
        """Why it cannot run here, or nothing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in self.requires:
                try:
                    importlib.import_module(module)
                except Exception as error:  # noqa: BLE001 - a broken install raises anything
                    return f"{type(error).__name__}: {error}"
        return ""


#: Methods that the tables should have and do not, with the reason.
NOT_RUN = {
    "DMT-EV": "no released package of it is known to us.",
    "scVI's self-supervised joint embedding": "scvi-tools 1.4.2, the newest that Python 3.11 gets, does not have it.",
}
#: All methods by name, in the order of the tables.
PEERS: dict[str, Peer] = {}
#: Methods that are run as variants only: parts of an ablation that say nothing new with their default settings.
ARMS: dict[str, Peer] = {}


def register(
    name: str, shown: str, *, variants_only: bool = False, **about: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in :data:`PEERS`, or in :data:`ARMS`; ``about`` are fields of :class:`Peer`."""

    def enter(embed: Callable[..., Any]) -> Callable[..., Any]:
        if name in {**PEERS, **ARMS}:
            raise ValueError(f"Expected a new name, found {name!r} again.")
        rows = about.pop("rows", (Row(name, shown),))
        (ARMS if variants_only else PEERS)[name] = Peer(name, shown, embed, rows=rows, **about)
        return embed

    return enter


def in_order(*names: str) -> None:
    """Sort the methods as the tables shall show them; every one has to be named."""
    if set(names) != set(PEERS):
        raise ValueError(
            f"Expected the names of all methods, found {sorted(set(names) ^ set(PEERS))} on one side only."
        )
    entered = dict(PEERS)
    PEERS.clear()
    PEERS.update({name: entered[name] for name in names})


def variants(file: Path) -> dict[str, Peer]:
    """Methods with other settings, from a TOML file; ablations are made of this.

    Each table is a method: ``[lambda_03]``, ``peer = "diffaug"``, ``shown = "DiffAug, lambda 0.3"``, and the settings
    that differ, ``settings.config.training.view_rate = 0.3``. The peer may be one of :data:`ARMS` too. Further rows of the
    peer get its name in front, or the names of the table ``rows``, by the names of the peer's rows; ``note`` takes the place
    of the peer's. A method that builds on another one may build on a variant of that, ``needs = "lambda_03"``.
    """
    found: dict[str, Peer] = {}
    taken = {row.name for peer in PEERS.values() for row in peer.rows}
    bases = {**PEERS, **ARMS}
    for name, values in tomllib.loads(file.read_text(encoding="utf-8")).items():
        unknown = sorted(set(values) - {"peer", "shown", "settings", "needs", "rows", "note"})
        if unknown or "peer" not in values:
            raise KeyError(f"Expected `peer`, `shown` and `settings` in [{name}], found {sorted(values)}.")
        if values["peer"] not in bases:
            raise KeyError(f"Expected the peer of [{name}] among {list(bases)}, found {values['peer']!r}.")
        base, shown = bases[values["peer"]], values.get("shown", name)
        rows = _rows_of(name, shown, base, values.get("rows", {}))
        again = [row.name for row in rows if row.name in taken] or [name] * (name in bases)
        if again:
            raise ValueError(f"Expected a new name for a variant, found {again[0]!r}, which is a method.")
        taken |= {row.name for row in rows}
        needs = values.get("needs", base.needs)
        if needs is not None and (base.needs is None or needs not in {**PEERS, **found}):
            raise KeyError(f"Expected the method that [{name}] builds on to come before it, found {needs!r}.")
        found[name] = dataclasses.replace(
            base,
            name=name,
            shown=shown,
            rows=rows,
            needs=needs,
            note=values.get("note", base.note),
            changes={**base.changes, **values.get("settings", {})},
        )
    return found


def _rows_of(name: str, shown: str, base: Peer, names: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows of a variant of a method."""
    unknown = sorted(set(names) - {row.name for row in base.rows})
    if unknown:
        raise KeyError(f"Expected rows of [{name}] among {[r.name for r in base.rows]}, found {unknown[0]!r}.")
    rows = []
    for row in base.rows:
        kept_as = row.kept_as or row.name
        if row.name in names:
            rows.append(Row(names[row.name], f"{shown}, {row.shown}", row.role, kept_as))
        elif row.name == base.name:
            rows.append(Row(name, shown, row.role, kept_as))
        else:
            rows.append(Row(f"{name}_{row.name}", f"{row.shown} ({shown})", row.role, kept_as))
    return tuple(rows)
