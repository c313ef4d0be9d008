"""The command ``diffaug-vision``: fit, embed, augment, generate, evaluate, plot, info on images in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from diffaug.cli._app import Common, make_app, registrar
from diffaug.cli._files import check_source, check_target_file
from diffaug.cli._fit_files import fit_files, write_fit
from diffaug.cli._options import NotNegative, Output, Positive, Share, load, settings_of, wants_progress
from diffaug.cli._output import PICTURES, as_json, show, use_files_for_pictures
from diffaug.core.storage import MODEL_FOLDER, written_file

if TYPE_CHECKING:
    from diffaug._model import DiffAug, Embedding
    from diffaug.core.config import Config
    from diffaug.vision import ImageSet

app = make_app("diffaug-vision", "Embed images without labels, and generate synthetic ones.")
command = registrar(app)

ARRAYS = (".npz",)
Kind = Literal["diffaug", "standard", "crop", "mixup"]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run ``diffaug-vision``; arguments and exit codes as :func:`diffaug.cli.main`."""
    from diffaug.cli._main import run

    return run(app, tokens)


@command
def fit(
    data: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    model: Path | None = None,
    size: Positive | None = None,
    split: str | None = None,
    preset: Literal["default", "paper"] = "default",
    config: Path | None = None,
    max_epochs: Positive | None = None,
    n_cycles: NotNegative | None = None,
    view_rate: Share | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Train on images: write their embedding, and the model.

    The embedding is an .npz file with the arrays ``semantic`` (the embedding) and ``latent``, and what is known of the
    images: ``labels``, ``class_names``, ``split``, ``names``. Labels are copied; only the setting ``condition = "label"``
    reads them.

    Parameters
    ----------
    data
        Images: an .npy file, an .npz file with the array ``images``, or a folder of image files, in which folders are
        classes, or ``train`` and ``test`` with classes in them.
    output
        Where the embedding goes. By default beside the data: ``photos.diffaug.npz`` for ``photos.npz`` or ``photos/``.
    model
        Folder for the model. By default beside the output: ``photos.diffaug.model`` for ``photos.diffaug.npz``.
    size
        For a folder: bring images to this height and width.
    split
        Train on the images of this part, e.g. train, where the .npz file has an array ``split`` or the folder such folders;
        all are embedded.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take days without a GPU.
    config
        TOML file with settings on top of the preset: tables loss, diffusion, training, domain. Flags win over it.
        ``info`` prints the settings of a model in this form.
    max_epochs
        Cap on the epochs of all phases together; longer plans shrink in proportion.
    n_cycles
        Times the generator is trained and its views shown to the encoder; 0 trains the encoder alone.
    view_rate
        Probability (lambda) that a positive is a generated view after the warm-up.
    checkpoint
        File that keeps the state of the training, written about every ten minutes. If the command is stopped or killed, the
        same command goes on from there, with the same result. Removed when the results are written.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine's CPU.
    overwrite
        Replace existing results.

    Examples
    --------
    # writes photos.diffaug.npz and the folder photos.diffaug.model
    diffaug-vision fit photos.npz

    # a folder of image files of many sizes
    diffaug-vision fit photos/ --size 64 -o out.npz --model m

    # a long training, which goes on when the command is repeated
    diffaug-vision fit photos.npz --preset paper --checkpoint run.ckpt
    """
    target = _beside(data) if output is None else output
    files = fit_files(data, target, model, checkpoint, suffixes=ARRAYS, overwrite=overwrite)
    settings = settings_of(preset, config, "vision")
    found = _read(data, size, common)
    trained = found if split is None else found.part(split)
    if split is not None:
        _check_range(found, trained, settings)

    from diffaug import vision

    fitted = vision.fit(
        trained,
        labels=trained.labels if settings.diffusion.condition == "label" else None,
        n_cycles=n_cycles,
        view_rate=view_rate,
        max_epochs=max_epochs,
        config=settings,
        random_state=seed,
        device=device,
        checkpoint=checkpoint,
        progress=wants_progress(common),
    )
    write_fit(files, fitted, lambda fresh: _write_embedding(fresh, found, fitted.embed(found.images)))


@command
def embed(
    data: Path,
    /,
    *,
    model: Path,
    output: Output,
    size: Positive | None = None,
    device: str = "auto",
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Embed images, new ones too, with a fitted model.

    Parameters
    ----------
    data
        Images of the model's size: an .npy file, an .npz file with the array ``images``, or a folder of image files.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the embedding goes, an .npz file.
    size
        For a folder: bring images to this height and width.
    device
        auto, cpu, cuda, cuda:1 or mps.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-vision embed new.npz --model photos.diffaug.model -o embedded.npz
    """
    check_target_file(output, suffixes=ARRAYS, overwrite=overwrite, sources=(data,))
    fitted = _load(model, device)
    found = _read(data, size, common)
    with written_file(output) as fresh:
        _write_embedding(fresh, found, fitted.embed(found.images))
    show(output)


@command
def augment(
    data: Path,
    /,
    *,
    model: Path,
    output: Output,
    n_views: Positive = 1,
    kind: Kind = "diffaug",
    strength: float = 1.0,
    size: Positive | None = None,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given images: other images that should mean the same.

    The result is an .npz file with the array ``images``, a row for each view, and ``source``, the row of the image that
    each was made from.

    Parameters
    ----------
    data
        Images of the model's size: an .npy file, an .npz file with the array ``images``, or a folder of image files.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the views go, an .npz file.
    n_views
        Views of each image.
    kind
        Generated views, or for comparison hand-made ones: standard (crop, flip, colours, blur), crop (and flip) alone, or
        mixup with another image.
    strength
        For generated views, how far from the image they start, above 0 and up to 1 (pure noise).
    size
        For a folder: bring images to this height and width.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine's CPU.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-vision augment new.npz --model photos.diffaug.model --n-views 4 \
        -o views.npz
    """
    check_target_file(output, suffixes=ARRAYS, overwrite=overwrite, sources=(data,))
    fitted = _load(model, device)
    found = _read(data, size, common)

    import numpy as np

    codes = found.labels if fitted.config.diffusion.condition == "label" and kind == "diffaug" else None
    views = fitted.augment(
        found.images,
        n_views,
        kind=kind,
        labels=codes,
        strength=strength,
        random_state=seed,
        progress=wants_progress(common),
    )
    source = np.repeat(np.arange(len(found)), n_views)
    arrays: dict[str, Any] = {} if found.labels is None else {"labels": found.labels[source]}
    if found.classes:
        arrays["class_names"] = np.array(found.classes)
    with written_file(output) as fresh:
        np.savez(fresh, images=views.reshape(-1, *views.shape[2:]), source=source, **arrays)
    show(output)


@command
def generate(
    model: Path,
    /,
    *,
    output: Output,
    n_obs: Positive,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Generate synthetic images.

    Each is conditioned on an image of the training data. The result is an .npz file with the array ``images``, and
    ``source``, the row of that image.

    Parameters
    ----------
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the images go, an .npz file.
    n_obs
        How many.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine's CPU.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-vision generate photos.diffaug.model --n-obs 1000 -o made.npz
    """
    check_target_file(output, suffixes=ARRAYS, overwrite=overwrite)
    fitted = _load(model, device)

    import numpy as np

    made = fitted.generate(n_obs, random_state=seed, progress=wants_progress(common))
    with written_file(output) as fresh:
        np.savez(fresh, images=made.values, source=made.source)
    show(output)


@command
def evaluate(
    embedded: Path,
    /,
    *,
    probe: Literal["svm", "logistic"] = "svm",
    json: bool = False,
    seed: NotNegative = 0,
    common: Common = Common(),
) -> None:
    """Judge an embedding by labels: a linear probe, neighbours and k-means.

    Where the file has an array ``split`` with train and test, the probes learn from the one part and are tested on the
    other; else they are tested on random tenths.

    Parameters
    ----------
    embedded
        An .npz file that ``fit`` or ``embed`` wrote from images with labels.
    probe
        The linear probe: a linear SVM, or logistic regression, as in the linear evaluation of papers on images.
    json
        Print JSON.
    seed
        Of the splits and of k-means.

    Examples
    --------
    diffaug-vision evaluate photos.diffaug.npz
    """
    check_source(embedded, "an .npz file that `fit` or `embed` wrote")

    from diffaug import vision
    from diffaug.vision._read import read_npz

    arrays = read_npz(embedded)
    for name in ("semantic", "labels"):
        if name not in arrays:
            raise ValueError(f"Expected an array {name!r} in {str(embedded)!r}, found {sorted(arrays)}.")
    split = arrays.get("split")
    if split is not None and not {"train", "test"} <= set(split.astype(str).tolist()):
        split = None
    found = vision.evaluate(arrays["semantic"], arrays["labels"], split=split, probe=probe, random_state=seed)
    scores = found._asdict()
    show(as_json(scores) if json else "\n".join(_score_line(k, v) for k, v in scores.items()))


@command
def plot(
    data: Path,
    /,
    *,
    output: Output,
    model: Path | None = None,
    n_images: Positive = 8,
    n_views: Positive = 2,
    kind: list[Kind] | None = None,
    size: Positive | None = None,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Draw images, and with ``--model`` their views below them.

    Parameters
    ----------
    data
        Images: an .npy file, an .npz file with the array ``images`` (``generate`` writes one), or a folder.
    output
        The picture: .png, .pdf or .svg.
    model
        Folder of a model that ``fit`` wrote, whose views are drawn.
    n_images
        Images, drawn at random from the data; with ``--model`` they are the first row.
    n_views
        With ``--model``: rows of views of each kind.
    kind
        With ``--model``: kind of views (repeat it for others); by default diffaug and standard.
    size
        For a folder: bring images to this height and width.
    device
        Of the model: auto, cpu, cuda, cuda:1 or mps.
    seed
        Of the choice of images and of their views.
    overwrite
        Replace an existing picture.

    Examples
    --------
    diffaug-vision plot photos.npz --model photos.diffaug.model -o views.png
    diffaug-vision plot made.npz --n-images 64 -o made.png
    """
    check_target_file(output, suffixes=PICTURES, overwrite=overwrite, sources=(data,))
    if model is None and kind is not None:
        raise ValueError("Expected --kind with --model only, found no --model. Leave it out.")
    fitted = None if model is None else _load(model, device)
    found = _read(data, size, common)
    use_files_for_pictures()

    import numpy as np

    from diffaug import vision

    rows = np.sort(np.random.default_rng(seed).permutation(len(found))[:n_images])
    chosen = vision.ImageSet(found.images[rows], None if found.labels is None else found.labels[rows])
    with written_file(output) as fresh:
        if fitted is None:
            vision.plot_images(chosen, save=fresh, show=False)
        else:
            kinds = kind or ["diffaug", "standard"]
            vision.plot_views(chosen, fitted, n_views=n_views, kinds=kinds, random_state=seed, save=fresh, show=False)
    show(output)


@command
def info(
    path: Path | None = None,
    /,
    *,
    size: Positive | None = None,
    json: bool = False,
    common: Common = Common(),
) -> None:
    """Say what a model folder or a file of images holds; without a path, what is installed, for a report of a bug.

    Settings are printed as TOML, ready for ``fit --config``.

    Parameters
    ----------
    path
        Folder of a model or of images, or a file of images. By default the versions, devices and threads of this
        installation.
    size
        For a folder of images: bring them to this height and width.
    json
        Print JSON.

    Examples
    --------
    diffaug-vision info photos.diffaug.model
    diffaug-vision info photos.npz --json
    diffaug-vision info
    """
    from diffaug.cli import _info, _info_vision

    if path is None:
        found, text = _info.of_installation(), _info.installation_text
    else:
        is_model = path.is_dir() and (path / MODEL_FOLDER.marker).is_file()
        found = (
            _info_vision.of_model(path, _load(path, "cpu"))
            if is_model
            else _info_vision.of_images(path, _read(path, size, common))
        )
        text = _info_vision.as_text
    show(as_json(found) if json else text(found))


# --- what they share --------------------------------------------------------------------------------------------------


def _beside(data: Path) -> Path:
    """Default name of an embedding: ``photos.diffaug.npz`` for ``photos.npz`` or ``photos/``."""
    place = data.resolve() if data.name in ("", "..") else data
    name = place.stem if place.suffix.lower() in (".npy", ".npz") else place.name
    return place.with_name(f"{name}.diffaug.npz")


def _read(data: Path, size: int | None, common: Common) -> ImageSet:
    from diffaug import vision

    return vision.read_images(data, size=size, progress=wants_progress(common))


def _check_range(images: ImageSet, trained: ImageSet, settings: Config) -> None:
    """Say before the training what would stop the embedding after it: images beyond the range of the trained part."""
    from diffaug.backends.vision import VisionBackend

    backend = VisionBackend(settings.domain, VisionBackend.event_shape_of(trained.images))
    if len(trained):  # else `fit` says so
        backend.prepare(trained.images)
        backend.check_range(images.images)


def _load(folder: Path, device: str) -> DiffAug:
    fitted = load(folder, device)
    if fitted.backend.name != "vision":
        raise ValueError(f"Expected a model of images in {str(folder)!r}, found one of {fitted.backend.name!r}.")
    return fitted


def _write_embedding(target: Path, images: ImageSet, embedding: Embedding) -> None:
    import numpy as np

    known = {"labels": images.labels, "split": images.split, "names": images.names}
    if images.classes:
        known["class_names"] = np.array(images.classes)
    arrays: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    np.savez(target, semantic=embedding.semantic, latent=embedding.latent, **arrays)


def _score_line(name: str, value: float) -> str:
    return f"{name:8} {value:.4f}" if isinstance(value, float) else f"{name:8} {value}"
