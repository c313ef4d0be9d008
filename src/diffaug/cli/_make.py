"""Commands on given cells: fit, embed, augment."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from diffaug.cli._app import Common, command
from diffaug.cli._files import (
    H5AD,
    add_embedding,
    check_room,
    check_source,
    check_target_file,
    is_of_today,
    read_h5ad,
    write_embedded,
    write_h5ad,
)
from diffaug.cli._fit_files import fit_files, write_fit
from diffaug.cli._options import (
    Checkpoint,
    Device,
    MaxEpochs,
    ModelFolder,
    NCycles,
    NEncoders,
    Output,
    Overwrite,
    Positive,
    Seed,
    SettingsFile,
    ViewRate,
    load,
    settings_of,
    wants_progress,
)
from diffaug.cli._output import show


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
    config: SettingsFile = None,
    max_epochs: MaxEpochs = None,
    n_cycles: NCycles = None,
    view_rate: ViewRate = None,
    n_encoders: NEncoders = None,
    twin: bool = False,
    groupby: str | None = None,
    max_obs: Positive | None = None,
    sample_by: str | None = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    seed: Seed = 0,
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
        Column of ``obs`` with batches that the embedding shall mix: views, hand-made and generated, then lead from batch to batch.
    label_key
        Column of ``obs`` with labels, for the setting ``condition = "label"`` only; otherwise no label is read.
    key_added
        Name of the results in ``obsm`` and ``uns``, instead of ``X_diffaug`` and ``diffaug``.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take hours without a GPU.
    twin
        Also train the loop-off twin, which never sees a generated view and is equal otherwise, and say what the views did.
        The twin's embedding goes to ``obsm["X_diffaug_twin"]``, the comparison to ``uns["diffaug"]["loop_gain"]``.
    groupby
        With ``--twin``: column of ``obs`` with a label for every cell, which judge both; they are not used in training.
    max_obs
        Train on so many cells at most, drawn at random, and embed all. ``X`` then stays in its file and is read in pieces, as by
        ``embed``: for millions of cells. (One that is stored gene by gene, csc, is read as a whole.)
    sample_by
        With ``--max-obs``: column of ``obs`` (donors, tissues, clusters) whose groups get equal shares of them.
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

    # millions of cells: a training on a sample of all donors, which embeds all
    diffaug-cells fit atlas.h5ad --max-obs 100000 --sample-by donor

    # a long training, which goes on when the command is repeated
    diffaug-cells fit pbmc.h5ad --preset paper --checkpoint run.ckpt
    """
    check_source(data, "an .h5ad file")
    target = data.with_suffix(".diffaug.h5ad") if output is None else output
    files = fit_files(data, target, model, checkpoint, suffixes=H5AD, overwrite=overwrite)
    adata = read_h5ad(data, backed=max_obs is not None)
    settings = settings_of(preset, config)

    from diffaug import tl
    from diffaug._keys import Keys
    from diffaug._new_cells import can_stay_in_file

    if adata.isbacked:
        check_room(target, data)
        if not (is_of_today(data) and can_stay_in_file(adata, layer, use_rep)):
            adata = adata.to_memory()

    fitted = tl.fit(
        adata,
        layer=layer,
        use_rep=use_rep,
        batch_key=batch_key,
        label_key=label_key,
        key_added=key_added,
        n_cycles=n_cycles,
        view_rate=view_rate,
        n_encoders=n_encoders,
        max_epochs=max_epochs,
        twin=twin,
        groupby=groupby,
        max_obs=max_obs,
        sample_by=sample_by,
        config=settings,
        random_state=seed,
        device=device,
        checkpoint=checkpoint,
        progress=wants_progress(common),
    )
    in_file = partial(add_embedding, adata, data, keys=Keys(key_added))
    write_fit(files, fitted, in_file if adata.isbacked else adata.write_h5ad)


@command
def embed(
    data: Path,
    /,
    *,
    model: ModelFolder,
    output: Output,
    key_added: str | None = None,
    missing: Literal["error", "fill"] = "error",
    device: Device = "auto",
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Embed cells, new ones too, with a fitted model.

    Values are read where the fit read them, and genes are aligned by name. ``X`` is read in pieces, and copied as it lies in the
    file, so that it may be larger than the memory; layers and ``obsm`` are read as a whole, and so is an ``X`` that is stored gene
    by gene (csc).

    Parameters
    ----------
    data
        Cells, an .h5ad file.
    output
        Where the cells with their embedding go.
    key_added
        Name of the results in ``obsm`` and ``uns``, instead of ``X_diffaug`` and ``diffaug``.
    missing
        What to do about genes that the model knows and the data lack: stop, or fill in their training mean.
    overwrite
        Replace an existing output; also the input, if ``--output`` names it.

    Examples
    --------
    diffaug-cells embed new.h5ad --model pbmc.diffaug.model -o embedded.h5ad
    """
    check_target_file(output, suffixes=H5AD, overwrite=overwrite, sources=(data,))
    adata, fitted = read_h5ad(data, backed=True), load(model, device)
    check_room(output, data)

    from diffaug import tl
    from diffaug._anndata import cells_meta, slot_of_model
    from diffaug._keys import Keys
    from diffaug._new_cells import can_stay_in_file

    if not can_stay_in_file(adata, *slot_of_model(adata, cells_meta(fitted))):
        adata = adata.to_memory()
    tl.embed(adata, fitted, key_added=key_added, missing=missing)
    write_embedded(adata, data, output, Keys(key_added))
    show(output)


@command
def augment(
    data: Path,
    /,
    *,
    model: ModelFolder,
    output: Output,
    n_views: Positive = 1,
    kind: Literal["diffaug", "mixup", "feature_swap", "mask", "noise", "thinning"] = "diffaug",
    strength: float = 1.0,
    batch: str | None = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given cells: other cells that should mean the same.

    The result has a row for each view; ``obs["source_cell"]`` names the cell that it was made from.

    Parameters
    ----------
    data
        Cells, an .h5ad file with the model's genes.
    output
        Where the views go.
    n_views
        Views of each cell.
    kind
        Generated views, or for comparison hand-made ones: mixup with a neighbour, random features of another cell, masked
        features, Gaussian noise, or binomial thinning of counts.
    strength
        For generated views, how far from the cell they start, above 0 and up to 1 (pure noise).
    batch
        For generated views of a model fitted with ``--batch-key``: the batch that the generator is told, instead of each cell's own.

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
        adata, fitted, n_views=n_views, kind=kind, strength=strength, batch=batch, random_state=seed, progress=progress
    )
    write_h5ad(views, output)
    show(output)
