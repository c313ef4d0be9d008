"""``reproduce`` of ``diffaug-dna`` and ``diffaug-vision``: the paper's tables of DNA and images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from diffaug.cli import _dna, _reproduce, _vision
from diffaug.cli._app import Common
from diffaug.cli._make import Output, Positive, settings_of


@_dna.command
def reproduce(
    artefact: str | None = None,
    /,
    *,
    output: Output = Path("diffaug-reproduce"),
    sets: list[str] | None = None,
    seeds: Positive = 5,
    preset: Literal["default", "paper"] = "default",
    config: Path | None = None,
    reference: Path | None = None,
    max_obs: Positive | None = None,
    max_epochs: Positive | None = None,
    device: str = "auto",
    json: bool = False,
    list: bool = False,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Run the paper's table of DNA again, and set ours beside the paper's.

    Prints the paper's value, ours with its 95 % interval, and what differs in protocol and data; writes the same as
    Markdown beside the rows of all runs. A stopped command goes on where it was, and more seeds or sets are added to what
    is there. No run reads a label, but for the supervised rows.

    Parameters
    ----------
    artefact
        table1.
    output
        Folder for the rows and the results.
    sets
        Set to run on (repeat it for others), by its name in ``diffaug.datasets``. By default the paper's and others of
        their kind, as far as they are at hand.
    seeds
        Number of seeds.
    preset
        Settings of all rows; ``paper`` has the publication's sizes, for a GPU.
    config
        TOML file with settings on top of the preset: tables loss, diffusion, training, domain.
    reference
        For Genomic Benchmarks as coordinates: the FASTA file of their genome.
    max_obs
        Sequences of a set at most, drawn at random, for a quick look.
    max_epochs
        Cap on the epochs of a run, for a quick look.
    device
        auto, cpu, cuda, cuda:1 or mps.
    json
        Print JSON instead of a table.
    list
        Print the rows of the table, and the sets that are at hand; run nothing.
    overwrite
        Lose the rows of an earlier command and start anew.

    Examples
    --------
    diffaug-dna reproduce --list

    # a quick look
    DIFFAUG_DATA_DIR=data diffaug-dna reproduce table1 \
        --sets bacillus_promoters --seeds 1 --max-obs 500 -o look
    """
    _reproduce.run(
        "dna",
        artefact,
        output,
        settings_of(preset, config, "dna"),
        sets=sets,
        seeds=seeds,
        max_obs=max_obs,
        max_epochs=max_epochs,
        device=device,
        json=json,
        list_only=list,
        overwrite=overwrite,
        reference=reference,
    )


def _of_images(
    artefact: str | None = None,
    /,
    *,
    output: Output = Path("diffaug-reproduce"),
    sets: list[str] | None = None,
    seeds: Positive = 5,
    preset: Literal["default", "paper"] = "default",
    config: Path | None = None,
    max_obs: Positive | None = None,
    max_epochs: Positive | None = None,
    device: str = "auto",
    json: bool = False,
    list: bool = False,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Run the paper's table of images again, and set ours beside the paper's.

    Prints the paper's value, ours with its 95 % interval, and what differs in protocol and data; writes the same as
    Markdown beside the rows of all runs. A stopped command goes on where it was, and more seeds or sets are added to what
    is there. No run reads a label.

    Parameters
    ----------
    artefact
        table3.
    output
        Folder for the rows and the results.
    sets
        Set to run on (repeat it for others), by its name in ``diffaug.datasets``. By default the paper's, or what stands in
        for them, as far as they are at hand; one that is named and not there is downloaded.
    seeds
        Number of seeds.
    preset
        Settings of all rows; ``paper`` has the publication's widths and epochs, for a GPU.
    config
        TOML file with settings on top of the preset: tables loss, diffusion, training, domain.
    max_obs
        Images of a set at most, drawn at random, for a quick look.
    max_epochs
        Cap on the epochs of a run, for a quick look.
    device
        auto, cpu, cuda, cuda:1 or mps.
    json
        Print JSON instead of a table.
    list
        Print the rows of the table, and the sets that are at hand; run nothing.
    overwrite
        Lose the rows of an earlier command and start anew.

    Examples
    --------
    diffaug-vision reproduce --list

    # with the paper's settings, on a GPU
    DIFFAUG_DATA_DIR=data diffaug-vision reproduce table3 \
        --sets cifar10 --preset paper --seeds 1 -o paper
    """
    _reproduce.run(
        "vision",
        artefact,
        output,
        settings_of(preset, config, "vision"),
        sets=sets,
        seeds=seeds,
        max_obs=max_obs,
        max_epochs=max_epochs,
        device=device,
        json=json,
        list_only=list,
        overwrite=overwrite,
    )


_of_images.__name__ = "reproduce"  # the command's name; the other of it is above
_vision.command(_of_images)
