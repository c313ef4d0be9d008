"""Commands that make something: fit, embed, augment, generate, balance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from diffaug.cli._app import Common, command, show
from diffaug.cli._files import (
    check_checkpoint,
    check_source,
    check_target_file,
    check_target_folder,
    read_h5ad,
    read_toml,
    remove_checkpoint,
    write_h5ad,
)
from diffaug.core.storage import MODEL_FOLDER, written_file

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.core.config import Config

H5AD = (".h5ad",)
Output = Annotated[Path, Parameter(alias="-o")]
Positive = Annotated[int, Parameter(validator=validators.Number(gte=1))]
NotNegative = Annotated[int, Parameter(validator=validators.Number(gte=0))]
Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]


@command
def fit(
    data: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    model: Path | None = None,
    layer: str | None = None,
    use_rep: str | None = None,
    batch_key: str | None = None,
    label_key: str | None = None,
    key_added: str | None = None,
    preset: Literal["default", "paper"] = "default",
    config: Path | None = None,
    max_epochs: Positive | None = None,
    n_cycles: NotNegative | None = None,
    view_rate: Share | None = None,
    twin: bool = False,
    groupby: str | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Train on cells: write them with their embedding, and the model.

    The result is the input with ``obsm["X_diffaug"]`` (the embedding), ``obsm["X_diffaug_latent"]`` and
    ``uns["diffaug"]`` (settings, history, versions). Raw counts are normalised on a copy; ``X`` stays as it is.

    Parameters
    ----------
    data
        Cells, an .h5ad file with raw counts or log-normalised values.
    output
        Where the cells with their embedding go. By default beside the data: ``cells.diffaug.h5ad`` for ``cells.h5ad``.
    model
        Folder for the model. By default beside the output: ``cells.diffaug.model`` for ``cells.diffaug.h5ad``.
    layer
        Layer to train on instead of ``X``.
    use_rep
        Key of ``obsm`` to train on instead of genes.
    batch_key
        Column of ``obs`` with batches that the embedding shall mix.
    label_key
        Column of ``obs`` with labels, for the setting ``condition = "label"`` only; otherwise no label is read.
    key_added
        Name of the results in ``obsm`` and ``uns``, instead of ``X_diffaug`` and ``diffaug``.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take hours without a GPU.
    config
        TOML file with settings on top of the preset: tables loss, diffusion, training, domain. Flags win over it.
        ``info`` prints the settings of a model in this form.
    max_epochs
        Cap on the epochs of all phases together; longer plans shrink in proportion.
    n_cycles
        Times the generator is trained and its views shown to the encoder; 0 trains the encoder alone.
    view_rate
        Probability (lambda) that a positive is a generated view after the warm-up.
    twin
        Also train the loop-off twin, which never sees a generated view and is equal otherwise, and say what the views did.
        The twin's embedding goes to ``obsm["X_diffaug_twin"]``, the comparison to ``uns["diffaug"]["loop_gain"]``.
    groupby
        With ``--twin``: column of ``obs`` with a label for every cell, which judge both; they are not used in training.
    checkpoint
        File that keeps the state of the training, written about every ten minutes. If the command is stopped or killed, the
        same command goes on from there, with the same result. Removed when the results are written.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine.
    overwrite
        Replace existing results; also the input, if ``--output`` names it.

    Examples
    --------
    # writes pbmc.diffaug.h5ad and the folder pbmc.diffaug.model
    diffaug-cells fit pbmc.h5ad

    # with names and batches
    diffaug-cells fit pbmc.h5ad -o out.h5ad --model m --batch-key donor

    # with settings.toml, which says: [training]
    #                                 batch_size = 128
    diffaug-cells fit pbmc.h5ad --config settings.toml

    # did the generated views help on these cells?
    diffaug-cells fit pbmc.h5ad --twin --groupby cell_type

    # a long training, which goes on when the command is repeated
    diffaug-cells fit pbmc.h5ad --preset paper --checkpoint run.ckpt
    """
    check_source(data, "an .h5ad file")
    target = data.with_suffix(".diffaug.h5ad") if output is None else output
    folder = target.with_suffix(".model") if model is None else model
    check_target_file(target, suffixes=H5AD, overwrite=overwrite, sources=(data,))
    check_checkpoint(checkpoint, data, target)
    check_target_folder(folder, MODEL_FOLDER, overwrite=overwrite, files=(target, checkpoint))
    adata = read_h5ad(data)
    settings = settings_of(preset, config)

    from diffaug import tl

    fitted = tl.fit(
        adata,
        layer=layer,
        use_rep=use_rep,
        batch_key=batch_key,
        label_key=label_key,
        key_added=key_added,
        n_cycles=n_cycles,
        view_rate=view_rate,
        max_epochs=max_epochs,
        twin=twin,
        groupby=groupby,
        config=settings,
        random_state=seed,
        device=device,
        checkpoint=checkpoint,
        progress=wants_progress(common),
    )
    # The model inside the block: if it cannot be written, there is no output either.
    with written_file(target) as fresh:
        adata.write_h5ad(fresh)
        fitted.save(folder, overwrite=overwrite)
    remove_checkpoint(checkpoint)
    show(target, folder)


@command
def embed(
    data: Path,
    /,
    *,
    model: Path,
    output: Output,
    key_added: str | None = None,
    missing: Literal["error", "fill"] = "error",
    device: str = "auto",
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Embed cells, new ones too, with a fitted model.

    Values are read where the fit read them, and genes are aligned by name.

    Parameters
    ----------
    data
        Cells, an .h5ad file.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the cells with their embedding go.
    key_added
        Name of the results in ``obsm`` and ``uns``, instead of ``X_diffaug`` and ``diffaug``.
    missing
        What to do about genes that the model knows and the data lack: stop, or fill in their training mean.
    device
        auto, cpu, cuda, cuda:1 or mps.
    overwrite
        Replace an existing output; also the input, if ``--output`` names it.

    Examples
    --------
    diffaug-cells embed new.h5ad --model pbmc.diffaug.model -o embedded.h5ad
    """
    check_target_file(output, suffixes=H5AD, overwrite=overwrite, sources=(data,))
    adata, fitted = read_h5ad(data), load(model, device)

    from diffaug import tl

    tl.embed(adata, fitted, key_added=key_added, missing=missing)
    write_h5ad(adata, output)
    show(output)


@command
def augment(
    data: Path,
    /,
    *,
    model: Path,
    output: Output,
    n_views: Positive = 1,
    kind: Literal["diffaug", "mixup", "feature_swap", "mask", "noise", "thinning"] = "diffaug",
    strength: float = 1.0,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given cells: other cells that should mean the same.

    The result has a row for each view; ``obs["source_cell"]`` names the cell that it was made from.

    Parameters
    ----------
    data
        Cells, an .h5ad file with the model's genes.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the views go.
    n_views
        Views of each cell.
    kind
        Generated views, or for comparison hand-made ones: mixup with a neighbour, random features of another cell, masked
        features, Gaussian noise, or binomial thinning of counts.
    strength
        For generated views, how far from the cell they start, above 0 and up to 1 (pure noise).
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-cells augment pbmc.h5ad --model pbmc.diffaug.model --n-views 4 \
        -o views.h5ad
    """
    check_target_file(output, suffixes=H5AD, overwrite=overwrite, sources=(data,))
    adata, fitted = read_h5ad(data), load(model, device)

    from diffaug import tl

    progress = wants_progress(common)
    views = tl.augment(
        adata, fitted, n_views=n_views, kind=kind, strength=strength, random_state=seed, progress=progress
    )
    write_h5ad(views, output)
    show(output)


@command
def generate(
    model: Path,
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
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Generate synthetic cells.

    Each is conditioned on a cell of the training data, or of ``--like``, which ``obs["condition_cell"]`` names and whose
    groups it inherits.

    Parameters
    ----------
    model
        Folder of a model that ``fit`` wrote.
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
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine.
    overwrite
        Replace an existing output.

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
    device: str = "auto",
    seed: NotNegative = 0,
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
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine.
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


def settings_of(preset: str, file: Path | None, domain: str = "cells") -> Config:
    """A preset of a domain, with the settings of a TOML file on top."""
    values = {} if file is None else read_toml(file)

    from diffaug.backends import get_backend
    from diffaug.core.config import config_from_dict

    backend = get_backend(domain)
    return config_from_dict(values, backend.Settings, backend.preset(preset))


def load(folder: Path, device: str) -> DiffAug:
    """A fitted model, or a clear error for a path that cannot be one."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise FileNotFoundError(f"Expected the folder of a model that `fit` wrote, found {found} at {str(folder)!r}.")
    from diffaug import DiffAug

    return DiffAug.load(folder, device=device)


def wants_progress(common: Common) -> bool:
    """Progress bars are for people who look at a terminal."""
    return sys.stderr.isatty() and not common.quiet
