"""Commands that bring synthetic cells: generate, balance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from diffaug.cli._app import Common, command
from diffaug.cli._files import H5AD, check_target_file, read_h5ad, write_h5ad
from diffaug.cli._options import (
    Device,
    ModelFolder,
    Output,
    Overwrite,
    Positive,
    Seed,
    load,
    settings_of,
    wants_progress,
)
from diffaug.cli._output import show


@command
def generate(
    model: ModelFolder,
    /,
    *,
    output: Output,
    n_obs: Positive | None = None,
    like: Path | None = None,
    groupby: list[str] | None = None,
    n: list[str] | None = None,
    batch: str | None = None,
    batch_key: str | None = None,
    counts: bool = False,
    depth: str | None = None,
    strength: float = 1.0,
    guidance: float | None = None,
    train: Path | None = None,
    audit: bool = False,
    held_out: Path | None = None,
    donor_key: str | None = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    r"""Generate synthetic cells.

    Each is conditioned on a cell of the training data, or of ``--like``, which ``obs["condition_cell"]`` names and whose
    groups it inherits.

    Parameters
    ----------
    output
        Where the synthetic cells go.
    n_obs
        How many, conditioned on training cells drawn at random, or on those of ``--like``.
    like
        Cells to generate look-alikes of, an .h5ad file with the model's genes; one for each without ``--n-obs``.
    groupby
        Instead of ``--n-obs``: column of the training cells' ``obs`` that names groups, here or with ``--n``. Repeat it for
        the combinations of several columns.
    n
        With ``--groupby``, how many of one group, ``NAME=NUMBER`` (repeat it for others), or one number for each
        group. By default as many as in the training data. Names of combinations are joined by commas.
    batch
        Condition on training cells of this batch only.
    batch_key
        Column of the training cells' ``obs`` with the batches; by default the model's own.
    counts
        Write counts instead of log-normalised values, with the library size of each cell's conditioning cell.
    depth
        With ``--counts``: library size of all cells, a number, or an .h5ad file with cells to take library sizes from.
    strength
        From faithful to diverse, above 0 and up to 1 (drawn from pure noise). Below 1 needs ``--like`` or ``--train``.
    guidance
        Scale of classifier-free guidance instead of the model's, for models fitted with ``condition_dropout``.
    train
        The training cells, an .h5ad file: each synthetic cell gets its nearest training cell and the distance to it.
    audit
        With ``--train``: look for copies of training cells, and write nothing if there are some.
    held_out
        For ``--audit``: real cells that the model has not seen, an .h5ad file.
    donor_key
        For ``--audit``: column of ``obs`` of ``--train`` and ``--held-out`` with donors. Being closer to the training cells
        than to cells of other donors is not taken for memory.

    Examples
    --------
    diffaug-cells generate pbmc.diffaug.model --n-obs 1000 -o synthetic.h5ad

    # one look-alike of each given cell
    diffaug-cells generate pbmc.diffaug.model --like new.h5ad -o twins.h5ad

    # 500 and 200 of two groups of the training cells
    diffaug-cells generate pbmc.diffaug.model --groupby cell_type \
        --n NK=500 --n B=200 -o rare.h5ad

    # counts of stimulated NK cells, 5000 each
    diffaug-cells generate pbmc.diffaug.model --groupby cell_type \
        --groupby condition --n NK,stim=500 --counts --depth 5000 -o nk.h5ad
    """
    if n_obs is None and like is None and groupby is None and n is None:
        raise ValueError("Expected --n-obs, --like or --groupby, found none. Say how many cells to generate.")
    if like is not None and groupby is not None:
        raise ValueError("Expected --like or --groupby, found both. Choose one.")
    if n is not None and groupby is None:
        raise ValueError("Expected --groupby with --n, found none. Name the column of `obs` that holds the groups.")
    if depth is not None and not counts:
        raise ValueError("Expected --counts with --depth, found none. Log-normalised values have no depth.")
    wanted = None if n is None else counts_of(n)
    number = None if depth is None else _number_or_none(depth)
    deep = Path(depth) if depth is not None and number is None else None
    files = {"like": like, "depth": deep, "train": train, "held_out": held_out}
    sources = tuple(path for path in files.values() if path is not None)
    check_target_file(output, suffixes=H5AD, overwrite=overwrite, sources=sources)
    given = {name: None if path is None else read_h5ad(path) for name, path in files.items()}
    fitted = load(model, device)
    columns = groupby[0] if groupby is not None and len(groupby) == 1 else groupby

    from diffaug import tl

    made = tl.generate(
        fitted,
        n_obs,
        like=given["like"],
        groupby=columns,
        n=wanted if isinstance(columns, str) or not isinstance(wanted, dict) else _combinations(wanted, columns or []),
        batch=batch,
        batch_key=batch_key,
        output="counts" if counts else "log",
        depth=given["depth"] if number is None else number,
        strength=strength,
        guidance=guidance,
        train=given["train"],
        audit=audit,
        held_out=given["held_out"],
        donor_key=donor_key,
        random_state=seed,
        progress=wants_progress(common),
    )
    write_h5ad(made, output)
    show(output)


@command
def balance(
    data: Path,
    /,
    *,
    output: Output,
    groupby: str,
    model: Path | None = None,
    to: list[str] | None = None,
    split_key: str | None = None,
    n_folds: Annotated[int, Parameter(validator=validators.Number(gte=2))] = 5,
    force: bool = False,
    preset: Literal["default", "paper"] = "default",
    config: Path | None = None,
    n_repeats: Positive = 3,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Fill rare groups with synthetic cells, if these help on held-out cells.

    Writes the real cells, and below them the synthetic ones, which ``obs["synthetic"]`` marks. Whether these help is measured
    against repeated cells and SMOTE, for each group of its own; a group for which it is not shown gets none.
    ``uns["diffaug_balance"]`` has the numbers. If the cells have counts, ``layers["counts"]`` has those of all.

    Parameters
    ----------
    data
        Cells, an .h5ad file with raw counts or log-normalised values.
    output
        Where the real and synthetic cells go.
    groupby
        Column of ``obs`` with the groups.
    model
        Folder of a model of a part of the cells; the others are the held-out ones. By default three quarters are fitted.
    to
        Cells that each group shall have at least: ``max`` (as many as the largest, the default), ``median``, a number,
        or ``NAME=NUMBER`` (repeat it for others).
    split_key
        Column of ``obs`` with donors: each is held out once, and a gain must be there over donors. At least three.
    n_folds
        With ``--split-key``: parts into which the donors are divided; a fit for each.
    force
        Add the synthetic cells whatever was measured.
    preset
        Settings of the fit to start from.
    config
        TOML file with settings on top of the preset.
    n_repeats
        Draws over which the measurement goes.
    overwrite
        Replace an existing output; also the input, if ``--output`` names it.

    Examples
    --------
    diffaug-cells balance pbmc.h5ad --groupby cell_type -o balanced.h5ad

    # at least 300 NK cells, judged over donors
    diffaug-cells balance pbmc.h5ad --groupby cell_type --to NK=300 \
        --split-key donor -o balanced.h5ad
    """
    goal: str | int | dict[str, int] = "max"
    if to is not None:
        goal = to[0] if to in (["max"], ["median"]) else counts_of(to, "--to")
    check_target_file(output, suffixes=H5AD, overwrite=overwrite, sources=(data,))
    adata = read_h5ad(data)
    settings, fitted = settings_of(preset, config), None if model is None else load(model, device)

    from diffaug import tl

    balanced = tl.balance(
        adata,
        fitted,
        groupby=groupby,
        to=goal,  # type: ignore[arg-type]  # only "max" and "median" are left of the texts
        split_key=split_key,
        n_folds=n_folds,
        force=force,
        config=settings,
        n_repeats=n_repeats,
        random_state=seed,
        device=device,
        progress=wants_progress(common),
    )
    write_h5ad(balanced, output)
    show(output)


def _number_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _combinations(wanted: dict[str, int], columns: list[str]) -> dict[tuple[str, ...], int]:
    """``{"NK,stim": 5}`` to ``{("NK", "stim"): 5}``."""
    out = {}
    for joined, number in wanted.items():
        names = tuple(joined.split(","))
        if len(names) != len(columns):
            raise ValueError(
                f"Expected {len(columns)} names joined by commas in --n, one of each --groupby, found {joined!r}. "
                "Names that hold a comma can be used from Python."
            )
        out[names] = number
    return out


def counts_of(given: list[str], option: str = "--n") -> dict[str, int] | int:
    """``["NK=500", "B=200"]`` to ``{"NK": 500, "B": 200}``, and ``["500"]`` to 500."""
    if len(given) == 1 and given[0].isdecimal():
        return int(given[0])
    counts: dict[str, int] = {}
    for item in given:
        name, found, number = item.rpartition("=")  # the last one: names may hold others
        if not (found and name and number.isdecimal()):
            raise ValueError(f"Expected {option} as NAME=NUMBER, or a single number for each group, found {item!r}.")
        if name in counts:
            raise ValueError(f"Expected each group once in {option}, found {name!r} twice.")
        counts[name] = int(number)
    return counts
