"""``diffaug-dna reproduce``: the paper's table of DNA."""

from __future__ import annotations

from pathlib import Path

from diffaug.cli._app import Common
from diffaug.cli._dna import command
from diffaug.cli._reproduce import Plan, run


@command
def reproduce(
    artefact: str | None = None,
    /,
    *,
    sets: list[str] | None = None,
    reference: Path | None = None,
    plan: Plan = Plan(),
    common: Common = Common(),
) -> None:
    r"""Run the paper's table of DNA again, and set ours beside the paper's.

    Prints the paper's value, ours with its 95 % interval, and what differs in protocol and data; writes the same as
    Markdown beside the rows of all runs. A stopped command goes on where it was, also within a training, and more seeds or
    sets are added to what is there. No run reads a label, but for the supervised rows.

    Parameters
    ----------
    artefact
        table1.
    sets
        Set to run on (repeat it for others), by its name in ``diffaug.datasets``. By default the paper's and others of
        their kind, as far as they are at hand.
    reference
        For Genomic Benchmarks as coordinates: the FASTA file of their genome.

    Examples
    --------
    diffaug-dna reproduce --list

    # a quick look
    DIFFAUG_DATA_DIR=data diffaug-dna reproduce table1 \
        --sets bacillus_promoters --seeds 1 --max-obs 500 -o look
    """
    run("dna", artefact, plan, sets=sets, reference=reference)
