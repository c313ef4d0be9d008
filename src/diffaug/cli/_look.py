"""Commands that look: evaluate, plot, info, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from diffaug.cli._app import Common, command, show
from diffaug.cli._files import check_target_file, check_target_folder, read_h5ad, written_file
from diffaug.cli._make import NotNegative, Output, Positive, wants_progress

PICTURES = (".png", ".pdf", ".svg")


@command
def evaluate(
    synthetic: Path,
    /,
    *,
    train: Path,
    held_out: Path,
    output: Output,
    layer: str | None = None,
    max_obs: Positive = 2000,
    json: bool = False,
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Judge synthetic cells against real ones; writes one HTML page.

    Every number stands beside its floor: the same number for the training cells, which are real, in place of the
    synthetic ones. Half of the training cells, drawn at random, are set apart for the principal components that the
    discriminator sees; the floor comes from the other half. Genes are aligned by name, and raw counts are normalised
    where the synthetic cells are.

    Parameters
    ----------
    synthetic
        Synthetic cells, an .h5ad file that ``generate`` wrote.
    train
        Real cells that the model was trained on.
    held_out
        Real cells that it never saw, best of other donors.
    output
        The page, an .html file that needs no other.
    layer
        Layer of the real cells to use instead of ``X``: the one that the model was trained on.
    max_obs
        Greatest number of cells on each side of the discriminator.
    json
        Print the numbers as JSON instead of the name of the page.
    seed
        Of the halves, the subsampling and the discriminator.
    overwrite
        Replace an existing page.

    Examples
    --------
    diffaug-cells evaluate synthetic.h5ad --train train.h5ad \
        --held-out test.h5ad -o report.html
    """
    check_target_file(output, suffixes=(".html", ".htm"), overwrite=overwrite)
    made, trained, held = (read_h5ad(path) for path in (synthetic, train, held_out))
    use_files_for_pictures()

    from diffaug.cli import _report

    names = {"synthetic": str(synthetic), "train": str(train), "held_out": str(held_out)}
    sets = _report.aligned(made, trained, held, layer=layer)
    numbers = {"files": names, **_report.judge(sets, max_obs=max_obs, seed=seed)}
    with written_file(output) as fresh:
        picture = _report.violin(sets, fresh.parent / "violin.png")
        fresh.write_text(_report.page(numbers, picture), encoding="utf-8")
    show(as_json(numbers) if json else output)


@command
def plot(
    data: Path,
    /,
    *,
    output: Output,
    kind: Literal["embedding", "history"] = "embedding",
    color: list[str] | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Draw the embedding or the training history of fitted cells.

    Parameters
    ----------
    data
        Cells that ``fit`` (or, for the embedding, ``embed``) wrote.
    output
        The picture: .png, .pdf or .svg.
    kind
        A UMAP of the embedding, or losses and probes over the epochs.
    color
        Column of ``obs`` or gene to colour the cells by (repeat it for a panel each).
    key_added
        Name that the results were given, if any.
    overwrite
        Replace an existing picture.

    Examples
    --------
    diffaug-cells plot pbmc.diffaug.h5ad --color cell_type -o embedding.png
    diffaug-cells plot pbmc.diffaug.h5ad --kind history -o history.png
    """
    check_target_file(output, suffixes=PICTURES, overwrite=overwrite, sources=(data,))
    if kind == "history" and color:
        raise ValueError("Expected --color with --kind embedding only, found it with --kind history. Leave it out.")
    adata = read_h5ad(data)
    use_files_for_pictures()

    from diffaug import pl

    with written_file(output) as fresh:
        if kind == "history":
            pl.history(adata, key_added=key_added, save=fresh, show=False)
        else:
            pl.embedding(adata, color=color, key_added=key_added, save=fresh, show=False)
    show(output)


@command
def info(path: Path, /, *, json: bool = False, common: Common = Common()) -> None:
    """Say what a model folder or an .h5ad file holds.

    Settings are printed as TOML, ready for ``fit --config``.

    Parameters
    ----------
    path
        Folder of a model, or an .h5ad file.
    json
        Print JSON.

    Examples
    --------
    diffaug-cells info pbmc.diffaug.model
    diffaug-cells info pbmc.diffaug.h5ad --json
    """
    from diffaug.cli import _info

    found = _info.of_model(path) if path.is_dir() else _info.of_h5ad(path)
    show(as_json(found) if json else _info.as_text(found))


@command
def demo(
    *,
    output: Output = Path("diffaug-demo"),
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Fit, embed, generate and draw on 700 real blood cells, and judge the embedding beside PCA.

    Needs no data and no network, and takes two to three minutes on two idle cores. The cells come with scanpy
    (pbmc68k_reduced). Their types colour the pictures and judge the result; the training never sees them.

    Parameters
    ----------
    output
        Folder for everything that is made.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine.
    overwrite
        Replace the folder of an earlier demo.

    Examples
    --------
    diffaug-cells demo
    diffaug-cells demo -o /tmp/demo --overwrite
    """
    use_files_for_pictures()

    from diffaug.cli import _demo

    check_target_folder(output, marker=_demo.PROBES, overwrite=overwrite)
    made = _demo.run(output, device=device, seed=seed, overwrite=overwrite, progress=wants_progress(common))
    show(*made.files, "", made.table)


def as_json(found: object) -> str:
    """JSON with ``null`` for NaN, which JSON does not know."""
    return json.dumps(_plain(found), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def use_files_for_pictures() -> None:
    """Draw without a screen, whatever the environment says."""
    import matplotlib

    matplotlib.use("Agg")
