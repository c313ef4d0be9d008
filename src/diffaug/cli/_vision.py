"""The command ``diffaug-vision``: fit, embed, augment, generate, evaluate, plot, info on images in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from diffaug.cli._app import Common, make_app, registrar
from diffaug.cli._files import check_source, check_target_file
from diffaug.cli._fit_files import fit_files, write_fit
from diffaug.cli._options import (
    Checkpoint,
    Device,
    Json,
    MaxEpochs,
    ModelFolder,
    NCycles,
    NotNegative,
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
from diffaug.cli._output import PICTURES, as_json, show, use_files_for_pictures
from diffaug.cli._twin import TWIN, arrays_of, say_gain
from diffaug.core.storage import MODEL_FOLDER, written_file

if TYPE_CHECKING:
    from diffaug._model import DiffAug
    from diffaug.core.config import Config
    from diffaug.vision import ImageSet

app = make_app("diffaug-vision", "Embed images without labels, and generate synthetic ones.")
command = registrar(app)

ARRAYS = (".npz",)
Kind = Literal["diffaug", "standard", "crop", "mixup"]
Size = Annotated[Positive | None, Parameter(help="For a folder: bring images to this height and width.")]


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
    size: Size = None,
    split: str | None = None,
    preset: Literal["default", "paper"] = "default",
    config: SettingsFile = None,
    max_epochs: MaxEpochs = None,
    n_cycles: NCycles = None,
    view_rate: ViewRate = None,
    twin: bool = False,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Train on images: write their embedding, and the model.

    The embedding is an .npz file with the arrays ``semantic`` (the embedding) and ``latent``, and what is known of the
    images: ``labels``, ``class_names``, ``split``, ``names``. Labels are copied; only the setting ``condition = "label"``
    reads them. With ``--twin`` it has ``semantic_twin`` too.

    Parameters
    ----------
    data
        Images: an .npy file, an .npz file with the array ``images``, or a folder of image files, in which folders are
        classes, or ``train`` and ``test`` with classes in them.
    output
        Where the embedding goes. By default beside the data: ``photos.diffaug.npz`` for ``photos.npz`` or ``photos/``.
    model
        Folder for the model. By default beside the output: ``photos.diffaug.model`` for ``photos.diffaug.npz``.
    split
        Train on the images of this part, e.g. train, where the .npz file has an array ``split`` or the folder such folders;
        all are embedded.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take days without a GPU.
    twin
        Also train the loop-off twin, which never sees a generated view and is equal otherwise, and say what the views did, as
        far as that is seen without labels. The twin's embedding goes to the array ``semantic_twin``; ``evaluate`` judges both.
    overwrite
        Replace existing results.

    Examples
    --------
    # writes photos.diffaug.npz and the folder photos.diffaug.model
    diffaug-vision fit photos.npz

    # a folder of image files of many sizes
    diffaug-vision fit photos/ --size 64 -o out.npz --model m

    # did the generated views help on these images?
    diffaug-vision fit photos.npz --twin
    diffaug-vision evaluate photos.diffaug.npz

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
        twin=twin,
        config=settings,
        random_state=seed,
        device=device,
        checkpoint=checkpoint,
        progress=wants_progress(common),
    )
    write_fit(files, fitted, lambda fresh: _write_embedding(fresh, found, fitted))
    if twin:
        say_gain(fitted, trained.images, "`diffaug-vision evaluate` judges both embeddings by labels")


@command
def embed(
    data: Path,
    /,
    *,
    model: ModelFolder,
    output: Output,
    size: Size = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    """Embed images, new ones too, with a fitted model.

    Parameters
    ----------
    data
        Images of the model's size: an .npy file, an .npz file with the array ``images``, or a folder of image files.
    output
        Where the embedding goes, an .npz file.

    Examples
    --------
    diffaug-vision embed new.npz --model photos.diffaug.model -o embedded.npz
    """
    check_target_file(output, suffixes=ARRAYS, overwrite=overwrite, sources=(data,))
    fitted = _load(model, device)
    found = _read(data, size, common)
    with written_file(output) as fresh:
        _write_embedding(fresh, found, fitted)
    show(output)


@command
def augment(
    data: Path,
    /,
    *,
    model: ModelFolder,
    output: Output,
    n_views: Positive = 1,
    kind: Kind = "diffaug",
    strength: float = 1.0,
    size: Size = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given images: other images that should mean the same.

    The result is an .npz file with the array ``images``, a row for each view, and ``source``, the row of the image that
    each was made from.

    Parameters
    ----------
    data
        Images of the model's size: an .npy file, an .npz file with the array ``images``, or a folder of image files.
    output
        Where the views go, an .npz file.
    n_views
        Views of each image.
    kind
        Generated views, or for comparison hand-made ones: standard (crop, flip, colours, blur), crop (and flip) alone, or
        mixup with another image.
    strength
        For generated views, how far from the image they start, above 0 and up to 1 (pure noise).

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
    arrays = _known(found, source)
    with written_file(output) as fresh:
        np.savez(fresh, images=views.reshape(-1, *views.shape[2:]), source=source, **arrays)
    show(output)


@command
def generate(
    model: ModelFolder,
    /,
    *,
    output: Output,
    n_obs: Positive,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    """Generate synthetic images.

    Each is conditioned on an image of the training data. The result is an .npz file with the array ``images``, and
    ``source``, the row of that image.

    Parameters
    ----------
    output
        Where the images go, an .npz file.
    n_obs
        How many.

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
    json: Json = False,
    seed: NotNegative = 0,
    common: Common = Common(),
) -> None:
    """Judge an embedding by labels: a linear probe, neighbours and k-means.

    Where the file has an array ``split`` with train and test, the probes learn from the one part and are tested on the
    other; without it, or where all are of one part, they are tested on random tenths. Of a file that ``fit --twin`` wrote,
    the model's embedding and the twin's are judged in the same way; with ``--json`` the twin's scores stand under ``twin``.

    Parameters
    ----------
    embedded
        An .npz file that ``fit`` or ``embed`` wrote from images with labels.
    probe
        The linear probe: a linear SVM, or logistic regression, as in the linear evaluation of papers on images.
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
    if split is not None and len(set(split.tolist())) == 1:  # of one part: nothing to test on
        split = None
    embeddings = {"model": "semantic", "twin": TWIN}
    scores = {
        row: vision.evaluate(arrays[name], arrays["labels"], split=split, probe=probe, random_state=seed)._asdict()
        for row, name in embeddings.items()
        if name in arrays
    }
    model, twin = scores["model"], scores.get("twin")
    if json:
        show(as_json(model if twin is None else {**model, "twin": twin}))
    elif twin is None:
        show("\n".join(f"{name:8} {_number(value)}" for name, value in model.items()))
    else:
        show(_table(scores))


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
    size: Size = None,
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
    json: Json = False,
    common: Common = Common(),
) -> None:
    """Say what a model folder or a file of images holds; without a path, what is installed, for a report of a bug.

    Settings are printed as TOML, ready for ``fit --config``, as they were asked for: the epochs that a fit takes from its data are
    not among them, nor a cap by ``--max-epochs``. With ``--json`` those of the training are there too.

    Parameters
    ----------
    path
        Folder of a model or of images, or a file of images. By default the versions, devices and threads of this
        installation.
    size
        For a folder of images: bring them to this height and width.

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


def _write_embedding(target: Path, images: ImageSet, model: DiffAug) -> None:
    import numpy as np

    known = _known(images, slice(None))
    np.savez(target, **arrays_of(model, lambda each: each.embed(images.images)), **known)


def _known(images: ImageSet, rows: Any) -> dict[str, Any]:
    """Arrays of what is known of some images: ``labels``, ``split``, ``names`` and ``class_names``, as far as they are."""
    import numpy as np

    each = {"labels": images.labels, "split": images.split, "names": images.names}
    known = {name: value[rows] for name, value in each.items() if value is not None}
    return {**known, "class_names": np.array(images.classes)} if images.classes else known


def _table(scores: dict[str, dict[str, float]]) -> str:
    """Embeddings as rows, their scores as columns."""
    head = f"{'':5}  " + "  ".join(f"{name:>7}" for name in scores["model"])
    rows = (f"{row:5}  " + "  ".join(f"{_number(v):>7}" for v in found.values()) for row, found in scores.items())
    return "\n".join([head, *rows])


def _number(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
