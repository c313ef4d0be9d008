"""``diffaug-dna reproduce``: the paper's table of DNA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffaug.cli._app import Common
from diffaug.cli._dna import command
from diffaug.cli._files import check_source
from diffaug.cli._reproduce import Plan, run

if TYPE_CHECKING:
    from diffaug.reproduce._split_sets import References


@command
def reproduce(
    artefact: str | None = None,
    /,
    *,
    sets: list[str] | None = None,
    reference: list[str] | None = None,
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
        For Genomic Benchmarks as coordinates: the FASTA file of their genome. ``SET=FILE`` is for one set and
        ``SET/CLASS=FILE`` for one class of it (repeat it for others); a file alone is for the sets that have none.

    Examples
    --------
    diffaug-dna reproduce --list

    # a quick look
    DIFFAUG_DATA_DIR=data diffaug-dna reproduce table1 \
        --sets bacillus_promoters --seeds 1 --max-obs 500 -o look

    # two genomes
    DIFFAUG_DATA_DIR=data diffaug-dna reproduce table1 -o dna \
        --sets demo_human_or_worm --sets human_enhancers_cohn \
        --reference human.fa.gz --reference demo_human_or_worm/human=human.fa.gz \
        --reference demo_human_or_worm/worm=worm.fa.gz
    """
    run("dna", artefact, plan, sets=sets, references=references_of(reference or ()))


def references_of(given: Sequence[str]) -> References:
    """FASTA files by set, and by class where a set has several, of ``FILE``, ``SET=FILE`` and ``SET/CLASS=FILE``."""
    whole: dict[str, Path] = {}
    by_class: dict[str, dict[str, Path]] = {}
    for item in given:
        key, _, file = item.rpartition("=")
        check_source(Path(file), "a FASTA file")
        name, _, label = key.partition("/")
        _check_name(name)
        if label:
            by_class.setdefault(name, {})[label] = Path(file)
        else:
            whole[name] = Path(file)
    both = sorted(whole.keys() & by_class.keys())
    if both:
        raise ValueError(f"Expected `reference` for a set or for its classes, found both for {both[0]!r}.")
    return {**whole, **by_class}


def _check_name(name: str) -> None:
    from diffaug.reproduce._paper import TABLE1_BY_SET

    if name and name not in TABLE1_BY_SET:
        raise ValueError(f"Expected `reference` for a set among {[*TABLE1_BY_SET]}, found it for {name!r}.")
