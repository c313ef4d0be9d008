"""``diffaug-vision reproduce``: the paper's table of images."""

from __future__ import annotations

from diffaug.cli._app import Common
from diffaug.cli._reproduce import Plan, run
from diffaug.cli._vision import command


@command
def reproduce(
    artefact: str | None = None,
    /,
    *,
    sets: list[str] | None = None,
    plan: Plan = Plan(),
    common: Common = Common(),
) -> None:
    r"""Run the paper's table of images again, and set ours beside the paper's.

    Prints the paper's value, ours with its 95 % interval, and what differs in protocol and data; writes the same as
    Markdown beside the rows of all runs. A stopped command goes on where it was, also within a training, and more seeds or
    sets are added to what is there. No run reads a label.

    Parameters
    ----------
    artefact
        table3.
    sets
        Set to run on (repeat it for others), by its name in ``diffaug.datasets``. By default the paper's, or what stands in
        for them, as far as they are at hand; one that is named and not there is downloaded.

    Examples
    --------
    diffaug-vision reproduce --list

    # with the paper's settings, on a GPU that is lent for 25 minutes: repeat it until
    # the exit code is no longer 3
    DIFFAUG_DATA_DIR=data diffaug-vision reproduce table3 \
        --sets cifar10 --preset paper --seeds 1 -o paper \
        --max-minutes 25 --report table3.md
    """
    run("vision", artefact, plan, sets=sets)
