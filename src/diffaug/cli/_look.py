"""Commands that look: evaluate, plot, info, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from diffaug.cli._app import Common, command
from diffaug.cli._files import check_target_file, check_target_folder, read_h5ad
from diffaug.cli._options import Device, Json, NotNegative, Output, Positive, Seed, load, wants_progress
from diffaug.cli._output import PICTURES, as_json, show, use_files_for_pictures
from diffaug.core.storage import written_file


@command
def evaluate(
    synthetic: Path,
    /,
    *,
    output: Output,
    train: Path | None = None,
    held_out: Path | None = None,
    real: Path | None = None,
    unseen: Path | None = None,
    projection: Path | None = None,
    groupby: str | None = None,
    donor_key: str | None = None,
    layer: str | None = None,
    max_obs: Positive = 2000,
    json: bool = False,
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Judge synthetic cells of any tool against real ones; writes one HTML page.

    Every measure stands beside its floor, the same for the training cells, which are real, and beside generators that
    know little. Give --train and --held-out, or --real alone. Half of the training cells, drawn at random, are set apart for
    the principal components, unless --projection brings others; the floor comes from the other half. Genes are aligned by
    name, and counts are normalised where the other cells are. Copies of training cells are looked for among all cells.

    Parameters
    ----------
    synthetic
        Synthetic cells, an .h5ad file of ``generate`` or any other tool.
    output
        The page, an .html file that needs no other.
    train
        Real cells that the model was trained on.
    held_out
        Real cells that it never saw, best of other donors.
    real
        In place of these two: real cells that are split here, by ``--donor-key`` where given. Memory is then judged by copies
        only.
    unseen
        Real cells of the training donors that were not trained on: they judge memory where the held-out cells are of other
        donors.
    projection
        More real cells, to fit the principal components on.
    groupby
        Column of ``obs`` with cell types: adds markers, log-fold changes, composition, usefulness, and all of it by type.
    donor_key
        Column of ``obs`` of the real cells with their donors: intervals then hold for new donors.
    layer
        Layer of the real cells to use instead of ``X``: the one that the model was trained on.
    max_obs
        Greatest number of cells of each set that are judged.
    json
        Print the numbers as JSON instead of the name of the page.
    seed
        Of the halves, the subsampling, the nulls and the forests.
    overwrite
        Replace an existing page.

    Examples
    --------
    diffaug-cells evaluate synthetic.h5ad --train train.h5ad \
        --held-out test.h5ad -o report.html
    diffaug-cells evaluate synthetic.h5ad --train train.h5ad \
        --held-out test.h5ad --groupby cell_type --donor-key donor \
        --unseen set_apart.h5ad -o report.html
    diffaug-cells evaluate synthetic.h5ad --real cells.h5ad \
        --groupby cell_type -o report.html
    """
    check_target_file(output, suffixes=(".html", ".htm"), overwrite=overwrite)
    if (train is None) != (held_out is None) or (train is None) == (real is None):
        given = [f"--{n}" for n, p in (("train", train), ("held-out", held_out), ("real", real)) if p is not None]
        raise ValueError(
            f"Expected --train and --held-out, or --real alone, found {', '.join(given) or 'none of them'}."
        )
    paths = {"train": train, "held_out": held_out, "real": real, "unseen": unseen, "projection": projection}
    files = {name: path for name, path in paths.items() if path is not None}
    made = read_h5ad(synthetic)
    sets = {name: read_h5ad(path) for name, path in files.items()}
    use_files_for_pictures()

    from diffaug import tl

    found = tl.report(
        made,
        train=sets.get("train"),
        held_out=sets.get("held_out"),
        real=sets.get("real"),
        projection=sets.get("projection"),
        unseen=sets.get("unseen"),
        groupby=groupby,
        donor_key=donor_key,
        layer=layer,
        max_obs=max_obs,
        random_state=seed,
    )
    # Cells that were split here have one file on both sides.
    split = {} if real is None else {"train": str(real), "held_out": str(real)}
    found.facts["files"] = {
        "synthetic": str(synthetic),
        **{n: str(p) for n, p in files.items() if n != "real"},
        **split,
    }
    with written_file(output) as fresh:
        found.to_html(fresh)
    show(as_json(found.to_dict()) if json else output)


@command
def plot(
    data: Path,
    /,
    *,
    output: Output,
    kind: Literal["embedding", "history", "violin", "cosine", "provenance"] = "embedding",
    color: list[str] | None = None,
    method: Literal["umap", "tsne"] | None = None,
    synthetic: Path | None = None,
    layer: str | None = None,
    model: Path | None = None,
    device: str = "auto",
    key_added: str | None = None,
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Draw the embedding, the training history, real beside synthetic cells, or how near these are to their origin.

    Parameters
    ----------
    data
        Cells that ``fit`` wrote; for the embedding also those of ``embed``, for violin and cosine any with the genes; for
        provenance the synthetic cells themselves, which ``generate --train`` or ``balance`` wrote.
    output
        The picture: .png, .pdf or .svg.
    kind
        A map of the embedding; losses and probes over the epochs; genes of the cells beside ``--synthetic`` ones; cosines
        between the cells and the views of ``--model``; distances of synthetic cells to their nearest training cells.
    color
        For the embedding: column of ``obs`` or gene to colour the cells by (repeat it for a panel each).
    method
        For the embedding: the map, by default umap.
    synthetic
        For violin: synthetic cells, an .h5ad file that ``generate`` wrote. Raw counts are normalised where these are.
    layer
        For violin: layer of the real cells to use instead of ``X``: the one that the model was trained on.
    model
        For cosine: folder of a model that ``fit`` wrote.
    device
        Of the model: auto, cpu, cuda, cuda:1 or mps.
    key_added
        For the embedding and the history: name that the results were given, if any.
    seed
        Of the map, or of the cells and views that are compared.
    overwrite
        Replace an existing picture.

    Examples
    --------
    diffaug-cells plot pbmc.diffaug.h5ad --color cell_type -o embedding.png
    diffaug-cells plot pbmc.diffaug.h5ad --method tsne --seed 1 -o tsne.png
    diffaug-cells plot pbmc.diffaug.h5ad --kind history -o history.png
    diffaug-cells plot pbmc.h5ad --kind violin --synthetic synthetic.h5ad \
        -o violin.png
    diffaug-cells plot pbmc.h5ad --kind cosine --model pbmc.diffaug.model \
        -o cosine.png
    diffaug-cells plot synthetic.h5ad --kind provenance -o provenance.png
    """
    check_target_file(output, suffixes=PICTURES, overwrite=overwrite, sources=(data,))
    for option, value, kinds in (
        ("--color", color, ("embedding",)),
        ("--method", method, ("embedding",)),
        ("--key-added", key_added, ("embedding", "history")),
        ("--synthetic", synthetic, ("violin",)),
        ("--layer", layer, ("violin",)),
        ("--model", model, ("cosine",)),
    ):
        if value is not None and kind not in kinds:
            raise ValueError(
                f"Expected {option} with --kind {' or '.join(kinds)} only, found it with --kind {kind}. Leave it out."
            )
    if kind == "violin" and synthetic is None:
        raise ValueError("Expected --synthetic with --kind violin, found none. Name a file that `generate` wrote.")
    if kind == "cosine" and model is None:
        raise ValueError("Expected --model with --kind cosine, found none. Name the folder of a model.")
    adata = read_h5ad(data)
    made = None if synthetic is None else read_h5ad(synthetic)
    fitted = None if model is None else load(model, device)
    use_files_for_pictures()

    from diffaug import pl

    with written_file(output) as fresh:
        if fitted is not None:
            pl.cosine_similarity(adata, fitted, random_state=seed, save=fresh, show=False)
        elif made is not None:
            pl.violin(adata, made, layer=layer, save=fresh, show=False)
        elif kind == "provenance":
            pl.provenance(adata, save=fresh, show=False)
        elif kind == "history":
            pl.history(adata, key_added=key_added, save=fresh, show=False)
        else:
            pl.embedding(
                adata,
                color=color,
                method=method or "umap",
                key_added=key_added,
                random_state=seed,
                save=fresh,
                show=False,
            )
    show(output)


@command
def info(path: Path | None = None, /, *, json: Json = False, common: Common = Common()) -> None:
    """Say what a model folder or an .h5ad file holds; without a path, what is installed, for a report of a bug.

    Settings are printed as TOML, ready for ``fit --config``, as they were asked for: the epochs that a fit takes from its data are
    not among them, nor a cap by ``--max-epochs``. With ``--json`` those of the training are there too.

    Parameters
    ----------
    path
        Folder of a model, or an .h5ad file. By default the versions, devices and threads of this installation.

    Examples
    --------
    diffaug-cells info pbmc.diffaug.model
    diffaug-cells info pbmc.diffaug.h5ad --json
    diffaug-cells info
    """
    from diffaug.cli import _info, _info_cells

    if path is None:
        found, text = _info.of_installation(), _info.installation_text
    else:
        found = _info_cells.of_model(path, load(path, "cpu")) if path.is_dir() else _info_cells.of_h5ad(path)
        text = _info_cells.as_text
    show(as_json(found) if json else text(found))


@command
def demo(
    *,
    output: Output = Path("diffaug-demo"),
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Fit, embed, generate and draw on 700 real blood cells, and judge the embedding beside PCA.

    Needs no data and no network, and takes about five minutes on one CPU core. The cells come with scanpy
    (pbmc68k_reduced). Their types colour the pictures and judge the result; the training never sees them.

    Parameters
    ----------
    output
        Folder for everything that is made.
    overwrite
        Replace the folder of an earlier demo.

    Examples
    --------
    diffaug-cells demo
    diffaug-cells demo -o /tmp/demo --overwrite
    """
    use_files_for_pictures()

    from diffaug.cli import _demo

    check_target_folder(output, _demo.FOLDER, overwrite=overwrite)
    made = _demo.run(output, device=device, seed=seed, overwrite=overwrite, progress=wants_progress(common))
    show(*made.files, "", made.table)
