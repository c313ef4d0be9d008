"""Run a table or figure, and write what was found beside its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffaug.core.devices import make_fabric
from diffaug.reproduce import _report, _run
from diffaug.reproduce._arms import Domain, artefact
from diffaug.reproduce._rows import ROWS, Rows, Settings, write_whole
from diffaug.reproduce._sets import chosen_sets


@dataclass(frozen=True)
class Written:
    """Files that were written, and what they say."""

    files: list[Path]
    report: _report.Report


def reproduce(
    name: str,
    folder: Path,
    settings: Settings,
    *,
    sets: Sequence[str] | None = None,
    seeds: int = 5,
    device: str = "auto",
    overwrite: bool = False,
    domain: Domain = "bio",
    reference: Path | None = None,
) -> Written:
    """Run what is not there yet, sum up, and write.

    Parameters
    ----------
    name
        ``"table2"``, ``"table4"``, ``"table5"``, ``"fig5"``, ``"fig6"`` or ``"fig7"`` of cells, ``"table1"`` of DNA,
        ``"table3"`` of images.
    folder
        For the rows and the results; see :class:`diffaug.reproduce._rows.Rows`.
    settings
        What the arms change, and sizes.
    sets
        Names of sets; by default those that stand in for the paper's, as far as they are at hand.
    seeds, device
        See :func:`diffaug.reproduce._run.run`.
    overwrite
        Forget the rows that are there.
    domain
        ``"bio"``, ``"dna"`` or ``"vision"``, of which the settings are.
    reference
        See :func:`diffaug.reproduce._run.run`.

    Returns
    -------
    The Markdown page, the picture of a figure, the rows; and the report.

    Raises
    ------
    ValueError, KeyError, FileNotFoundError, FileExistsError, NotADirectoryError
        The name, a set, the device, the settings or the folder will not do. Nothing is written or lost then.
    """
    chosen = artefact(name, domain)
    make_fabric(device)
    _run.resolved(chosen, settings, device=device)
    names, absent = chosen_sets(sets, domain)
    rows = Rows(folder, settings, overwrite=overwrite)
    table = _run.run(chosen, rows, settings, sets=names, seeds=seeds, device=device, reference=reference)
    report = _report.report(chosen, table, settings, absent=absent)
    page, picture = folder / f"{name}.md", folder / f"{name}.png"
    write_whole(page, report.markdown())
    if not chosen.is_figure:
        return Written([page, folder / ROWS], report)
    from diffaug.reproduce import _figures  # matplotlib: a second that a table need not wait for

    write_whole(picture, _figures.png(chosen, table))
    return Written([page, picture, folder / ROWS], report)
