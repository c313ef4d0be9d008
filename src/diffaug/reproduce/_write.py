"""Run a table or figure, and write what was found beside its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffaug.core.devices import make_fabric
from diffaug.reproduce import _report, _run
from diffaug.reproduce._arms import Artefact, Domain, artefact
from diffaug.reproduce._checkpoints import Deadline
from diffaug.reproduce._rows import ROWS, Rows, Settings, write_whole
from diffaug.reproduce._sets import chosen_sets
from diffaug.reproduce._split_sets import References


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
    references: References | None = None,
    max_minutes: float | None = None,
    page: Path | None = None,
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
    references
        See :func:`diffaug.reproduce._run.run`.
    max_minutes
        Stop after so many, with all that was done kept; ``None`` for never.
    page
        Another file for the Markdown page, beside the one in the folder. An earlier page of the same table or figure is
        replaced, and nothing else is.

    Returns
    -------
    The Markdown page, the picture of a figure, the rows, and the other page; and the report.

    Raises
    ------
    ValueError, KeyError, FileNotFoundError, FileExistsError, NotADirectoryError
        The name, a set, the device, the settings, the folder or the page will not do. Nothing is written or lost then.
    OutOfTime
        The minutes are over. The same call goes on.
    """
    deadline = Deadline(max_minutes)
    chosen = artefact(name, domain)
    if page is not None:
        _check_page(page, chosen)
    make_fabric(device)
    _run.resolved(chosen, settings, device=device)
    names, absent = chosen_sets(sets, domain)
    rows = Rows(folder, settings, overwrite=overwrite)
    table = _run.run(
        chosen, rows, settings, sets=names, seeds=seeds, device=device, references=references, deadline=deadline
    )
    report = _report.report(chosen, table, settings, absent=absent)
    files = [folder / f"{name}.md"]
    write_whole(files[0], report.markdown())
    if chosen.is_figure:
        from diffaug.reproduce import _figures  # matplotlib: a second that a table need not wait for

        files.append(folder / f"{name}.png")
        write_whole(files[-1], _figures.png(chosen, table))
    files.append(folder / ROWS)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_whole(page, report.markdown())
        files.append(page)
    return Written(files, report)


def _check_page(page: Path, chosen: Artefact) -> None:
    """Refuse a place that holds something else: the command is repeated until it is done, so it must replace its own."""
    if page.is_dir():
        raise IsADirectoryError(f"Expected a file for the report, found a folder: {str(page)!r}. Name a file in it.")
    if not page.exists():
        return
    with page.open("rb") as stream:
        begin = stream.readline(1000)
    if begin.rstrip() != f"# {chosen.title}".encode():
        raise FileExistsError(
            f"Expected a new file or an earlier report of {chosen.name} to replace, found another in {str(page)!r}. "
            "Choose another name."
        )
