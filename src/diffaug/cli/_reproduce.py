"""The command ``reproduce``: what it does in all domains, and the one of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from diffaug.cli._app import Common, command
from diffaug.cli._files import read_toml
from diffaug.cli._options import Device, Output, Positive
from diffaug.cli._output import as_json, show, use_files_for_pictures

if TYPE_CHECKING:
    from diffaug.reproduce._arms import Domain
    from diffaug.reproduce._split_sets import References


@Parameter(name="*")
@dataclass(frozen=True)
class Plan:
    """Options of ``reproduce`` in every domain.

    Parameters
    ----------
    output
        Folder for the rows and the results.
    seeds
        Number of seeds.
    preset
        Settings that the rows of a table change; ``paper`` has the publication's sizes and epochs, for a GPU.
    config
        TOML file with settings on top of the preset: tables loss, diffusion, training, domain.
    max_obs
        Cells, sequences or images of a set at most, drawn at random, for a quick look.
    max_epochs
        Cap on the epochs of a run, for a quick look.
    max_minutes
        Stop after so many, with exit code 3; the same command then goes on. No run begins after them. One of DNA or images
        ends with its epoch, and goes on from there.
    report
        Markdown file for the page, beside the one in the folder. An earlier page of the same table or figure is replaced.
    json
        Print JSON instead of a table.
    list
        Print the tables and figures with their rows, and the sets that are at hand; run nothing.
    overwrite
        Lose the rows of an earlier command and start anew.
    """

    output: Output = Path("diffaug-reproduce")
    seeds: Positive = 5
    preset: Literal["default", "paper"] = "default"
    config: Path | None = None
    max_obs: Positive | None = None
    max_epochs: Positive | None = None
    max_minutes: float | None = None
    report: Path | None = None
    device: Device = "auto"
    json: bool = False
    list: bool = False
    overwrite: bool = False


@command
def reproduce(
    artefact: str | None = None,
    /,
    *,
    sets: list[str] | None = None,
    n_top_genes: Positive = 1000,
    plan: Plan = Plan(),
    common: Common = Common(),
) -> None:
    r"""Run a table or figure of the paper again, and set ours beside the paper's.

    Prints the paper's value, ours with its 95 % interval, and what differs in protocol and data; writes the same as
    Markdown, and pictures of figures, beside the rows of all runs. A stopped command goes on where it was, and more seeds
    or sets are added to what is there: tables share their runs where the settings are equal. No run reads a label, but
    for A1 of table4.

    Parameters
    ----------
    artefact
        table2, table4, table5, fig5, fig6 or fig7; ``--list`` says what they are.
    sets
        Set to run on (repeat it for others), by its name in ``diffaug.datasets``. By default those that stand in for the
        paper's, as far as they are at hand.
    n_top_genes
        Variable genes of sets of counts.

    Examples
    --------
    diffaug-cells reproduce --list

    # a quick look, without data of your own
    diffaug-cells reproduce table4 --sets pbmc68k_reduced_scanpy --seeds 2 \
        -o ablations

    DIFFAUG_DATA_DIR=data diffaug-cells reproduce fig6 -o ablations
    """
    run("bio", artefact, plan, sets=sets, n_top_genes=n_top_genes)


def run(
    domain: Domain,
    artefact: str | None,
    plan: Plan,
    *,
    sets: Sequence[str] | None,
    n_top_genes: int | None = None,
    references: References | None = None,
) -> None:
    """What the commands of all domains do."""
    values = {} if plan.config is None else read_toml(plan.config)

    from diffaug.reproduce._arms import artefacts, base_of

    base = base_of(domain, plan.preset, values)
    if plan.list:
        from diffaug.reproduce import _overview

        show(as_json(_overview.numbers(domain)) if plan.json else _overview.text(domain))
        return
    if artefact is None:
        raise ValueError(
            f"Expected a table or figure among {[*artefacts(domain)]}, found none. `reproduce --list` says what they are."
        )
    use_files_for_pictures()

    from diffaug.reproduce import _rows, _write

    settings = _rows.Settings(base, n_top_genes=n_top_genes, max_obs=plan.max_obs, max_epochs=plan.max_epochs)
    made = _write.reproduce(
        artefact,
        plan.output,
        settings,
        sets=sets,
        seeds=plan.seeds,
        device=plan.device,
        overwrite=plan.overwrite,
        domain=domain,
        references=references,
        max_minutes=plan.max_minutes,
        page=plan.report,
    )
    if plan.json:
        show(as_json(made.report.numbers))
    else:
        show(*made.files, "", made.report.text())
