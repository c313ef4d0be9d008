"""The command ``diffaug-dna``: fit, embed, augment, generate, evaluate, info on sequences in files."""

from __future__ import annotations

import logging
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
from diffaug.cli._output import as_json, show
from diffaug.cli._twin import arrays_of, say_gain
from diffaug.core.storage import written_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffaug._model import DiffAug
    from diffaug.dna import SequenceTable

app = make_app("diffaug-dna", "Embed DNA sequences without labels, and generate synthetic ones.")
command = registrar(app)
logger = logging.getLogger(__name__)

_EMBEDDINGS = (".npz", ".csv")
_SEQUENCES = tuple(f"{ending}{packed}" for ending in (".fa", ".fasta", ".fna", ".csv") for packed in ("", ".gz"))
SequenceKey = Annotated[
    str | None, Parameter(help="Column of a table with the sequences. By default ``sequence`` or ``seq``.")
]
NameKey = Annotated[
    str | None, Parameter(help="Column of a table with names. By default ``name``, else rows are numbered.")
]
LabelKey = Annotated[
    str | None,
    Parameter(
        help='Column of a table with labels, by default ``label``. They are read for the setting ``condition = "label"`` only.'
    ),
]
Kind = Literal[
    "diffaug",
    "evoaug",
    "translocation",
    "insertion",
    "deletion",
    "inversion",
    "mutation",
    "reverse_complement",
    "noise",
    "mixup",
]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run ``diffaug-dna``; arguments and exit codes as :func:`diffaug.cli.main`."""
    from diffaug.cli._main import run

    return run(app, tokens)


@command
def fit(
    data: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    model: Path | None = None,
    split: str | None = None,
    sequence_key: SequenceKey = None,
    label_key: LabelKey = None,
    name_key: NameKey = None,
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
    """Train on sequences: write their embedding, and the model.

    The embedding is an .npz file with the arrays ``semantic`` (the embedding), ``latent`` and ``names``, or a .csv file
    with a name and the numbers of the embedding in each row. With ``--twin`` it has ``semantic_twin`` too.

    Parameters
    ----------
    data
        Sequences: FASTA, .csv, .tsv (these also with .gz) or .parquet. Letters A, C, G, T and N.
    output
        Where the embedding goes. By default beside the data: ``seqs.diffaug.npz`` for ``seqs.fa.gz``.
    model
        Folder for the model. By default beside the output: ``seqs.diffaug.model`` for ``seqs.diffaug.npz``.
    split
        Train on the rows of a table whose column ``split`` says so, e.g. train; all are embedded.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take long without a GPU.
    twin
        Also train the loop-off twin, which never sees a generated view and is equal otherwise, and say what the views did, as
        far as that is seen without labels. The twin's embedding goes to the array ``semantic_twin``, or to such columns.
    overwrite
        Replace existing results.

    Examples
    --------
    # writes promoters.diffaug.npz and the folder promoters.diffaug.model
    diffaug-dna fit promoters.fa.gz

    # the training part of a table
    diffaug-dna fit promoters.parquet --split train -o out.npz --model m

    # what did the generated views do to these sequences?
    diffaug-dna fit promoters.fa.gz --twin

    # a long training, which goes on when the command is repeated
    diffaug-dna fit promoters.fa.gz --preset paper --checkpoint run.ckpt
    """
    check_source(data, "a file of sequences")
    target = data.with_name(f"{_stem(data)}.diffaug.npz") if output is None else output
    files = fit_files(data, target, model, checkpoint, suffixes=_EMBEDDINGS, overwrite=overwrite)
    settings = settings_of(preset, config, "dna")

    from diffaug import dna

    table = _read(data, sequence_key, label_key=label_key, name_key=name_key)
    _say_repeated(table)
    trained = table if split is None else table.part(split)
    longest = max(map(len, trained.sequences))
    if any(len(s) > longest for s in table.sequences):  # before the training, and not after it
        raise ValueError(
            f"Expected no sequence longer than those of the part {split!r} ({longest} bases), found some. Crop them."
        )
    fitted = dna.fit(
        trained,
        labels=_labels_of(trained, data) if settings.diffusion.condition == "label" else None,
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
    write_fit(files, fitted, lambda fresh: _write_embedding(fresh, table, fitted))
    if twin:
        from diffaug.dna._fit import events_of

        say_gain(fitted, events_of(trained, fitted), "`diffaug.dna.split_probe` judges an embedding by labels")


@command
def embed(
    data: Path,
    /,
    *,
    model: ModelFolder,
    output: Output,
    sequence_key: SequenceKey = None,
    name_key: NameKey = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    """Embed sequences, new ones too, with a fitted model.

    Parameters
    ----------
    data
        Sequences, none longer than the longest of the training.
    output
        Where the embedding goes: .npz or .csv.

    Examples
    --------
    diffaug-dna embed new.fa --model promoters.diffaug.model -o new.npz
    """
    check_target_file(output, suffixes=_EMBEDDINGS, overwrite=overwrite, sources=(data,))
    table, fitted = _read(data, sequence_key, name_key=name_key), _load(model, device)
    _say_repeated(table)

    with written_file(output) as fresh:
        _write_embedding(fresh, table, fitted)
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
    sequence_key: SequenceKey = None,
    label_key: LabelKey = None,
    name_key: NameKey = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given sequences: others that should mean the same.

    Parameters
    ----------
    data
        Sequences, none longer than the longest of the training.
    output
        Where the views go: FASTA or .csv, also with .gz. They are named after their sequence.
    n_views
        Views of each sequence.
    kind
        Generated views, or for comparison hand-made ones.
    strength
        For generated views, how far from the sequence they start, above 0 and up to 1 (pure noise).

    Examples
    --------
    diffaug-dna augment new.fa --model promoters.diffaug.model --n-views 4 \
        -o views.fa
    """
    _check_sequences_target(output, overwrite, (data,))
    table, fitted = _read(data, sequence_key, label_key=label_key, name_key=name_key), _load(model, device)
    _say_repeated(table)

    from diffaug import dna

    told = kind == "diffaug" and fitted.config.diffusion.condition == "label"
    views = dna.augment(
        table,
        fitted,
        n_views=n_views,
        kind=kind,
        labels=_labels_of(table, data) if told else None,
        strength=strength,
        random_state=seed,
        progress=wants_progress(common),
    )
    names = [f"{name}-view{i}" for name in table.names for i in range(n_views)]
    with written_file(output) as fresh:
        dna.write_sequences(fresh, [view for each in views for view in each], names)
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
    """Generate synthetic sequences.

    Each is conditioned on a sequence of the training data, whose row is in its name.

    Parameters
    ----------
    output
        Where the sequences go: FASTA or .csv, also with .gz.
    n_obs
        How many.

    Examples
    --------
    diffaug-dna generate promoters.diffaug.model --n-obs 1000 -o made.fa
    """
    _check_sequences_target(output, overwrite)
    fitted = _load(model, device)

    from diffaug import dna

    made = dna.generate(fitted, n_obs, random_state=seed, progress=wants_progress(common))
    with written_file(output) as fresh:
        dna.write_sequences(fresh, made.sequences, [f"synthetic{i}-row{row}" for i, row in enumerate(made.source)])
    show(output)


@command
def evaluate(
    synthetic: Path,
    /,
    *,
    train: Path,
    held_out: Path,
    output: Output,
    sequence_key: str | None = None,
    max_obs: Positive = 2000,
    json: bool = False,
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Judge synthetic sequences against real ones; writes one JSON file.

    Words of one to six bases, GC, lengths, a discriminator, and how near the training sequences they are. Every number
    stands beside its floor: the same number for real sequences in place of the synthetic ones.

    Parameters
    ----------
    synthetic
        Synthetic sequences, a file that ``generate`` wrote.
    train
        Real sequences that the model was trained on.
    held_out
        Real sequences that it never saw.
    output
        The numbers, a .json file.
    sequence_key
        Column of the tables among ``train`` and ``held_out`` with the sequences. By default ``sequence`` or ``seq``.
    max_obs
        Greatest number of sequences of each file for the discriminator and the nearest neighbours.
    json
        Print the numbers instead of the name of the file.
    seed
        Of the subsampling and the discriminator.
    overwrite
        Replace an existing file.

    Examples
    --------
    diffaug-dna evaluate made.fa --train train.fa --held-out test.fa \
        -o report.json
    """
    check_target_file(output, suffixes=(".json",), overwrite=overwrite)
    made = _read(synthetic)
    trained, held = (_read_one_of(path, sequence_key) for path in (train, held_out))

    from diffaug import dna

    report = dna.judge(
        made.sequences, train=trained.sequences, held_out=held.sequences, max_obs=max_obs, random_state=seed
    )
    files = {"synthetic": str(synthetic), "train": str(train), "held_out": str(held_out)}
    text = as_json({"files": files, **report.to_dict()})
    with written_file(output) as fresh:
        fresh.write_text(text + "\n", encoding="utf-8")
    show(text if json else output)


@command
def info(
    path: Path | None = None,
    /,
    *,
    sequence_key: SequenceKey = None,
    label_key: str | None = None,
    name_key: NameKey = None,
    json: Json = False,
    common: Common = Common(),
) -> None:
    """Say what a model folder or a file of sequences holds; without a path, what is installed, for a report of a bug.

    Settings are printed as TOML, ready for ``fit --config``, as they were asked for: the epochs that a fit takes from its data are
    not among them, nor a cap by ``--max-epochs``. With ``--json`` those of the training are there too.

    Parameters
    ----------
    path
        Folder of a model, or a file of sequences. By default the versions, devices and threads of this installation.
    label_key
        Column of a table with labels. By default ``label``.

    Examples
    --------
    diffaug-dna info promoters.diffaug.model
    diffaug-dna info promoters.fa.gz --json
    diffaug-dna info
    """
    from diffaug.cli import _info, _info_dna

    if path is None:
        found, text = _info.of_installation(), _info.installation_text
    else:
        found = (
            _info_dna.of_model(path, _load(path, "cpu"))
            if path.is_dir()
            else _info_dna.of_sequences(path, _read(path, sequence_key, label_key=label_key, name_key=name_key))
        )
        text = _info_dna.as_text
    show(as_json(found) if json else text(found))


# --- what they share --------------------------------------------------------------------------------------------------


def _stem(data: Path) -> str:
    """Name without its endings, .gz included."""
    return Path(data.stem if data.suffix.lower() == ".gz" else data.name).stem


def _check_sequences_target(target: Path, overwrite: bool, sources: tuple[Path, ...] = ()) -> None:
    if not target.name.lower().endswith(_SEQUENCES):
        raise ValueError(f"Expected an output that ends in {' or '.join(_SEQUENCES)}, found {str(target)!r}.")
    check_target_file(target, suffixes=(target.suffix.lower(),), overwrite=overwrite, sources=sources)


def _read(
    data: Path, sequence_key: str | None = None, *, label_key: str | None = None, name_key: str | None = None
) -> SequenceTable:
    check_source(data, "a file of sequences")
    from diffaug import dna

    return dna.read_sequences(data, sequence_key=sequence_key, label_key=label_key, name_key=name_key)


def _say_repeated(table: SequenceTable) -> None:
    """Warn where rows of the result cannot be told apart by their names."""
    from diffaug.dna._files import repeated_names

    repeated = repeated_names(table.names)
    if repeated:
        logger.warning(
            "Names that stand for more than one sequence: %d, e.g. %r for %d. Rows of the result are told apart by their order; "
            "--name-key names another column of a table.",
            len(repeated),
            *next(iter(repeated.items())),
        )


def _labels_of(table: SequenceTable, data: Path) -> NDArray[Any]:
    """Labels for a generator that is conditioned on them."""
    if table.labels is None:
        raise ValueError(
            f"Expected labels in {str(data)!r} for the setting condition = 'label', found none. Name their column with "
            "--label-key; a FASTA file has none: give a .csv, .tsv or .parquet file."
        )
    return table.labels


def _read_one_of(data: Path, sequence_key: str | None) -> SequenceTable:
    """One of several files, of which FASTA files have no column that a key could name."""
    check_source(data, "a file of sequences")
    from diffaug.dna._files import FASTA, format_of

    return _read(data, None if format_of(data) in FASTA else sequence_key)


def _load(folder: Path, device: str) -> DiffAug:
    from diffaug.dna._fit import check_model

    return check_model(load(folder, device))


def _write_embedding(target: Path, table: SequenceTable, model: DiffAug) -> None:
    import numpy as np

    from diffaug import dna

    arrays = arrays_of(model, lambda each: dna.embed(table, each))
    if target.suffix.lower() == ".npz":
        np.savez(target, **arrays, names=np.array(table.names))
        return
    import csv

    del arrays["latent"]
    rows = np.concatenate([*arrays.values()], axis=1)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"{name}_{i}" for name, array in arrays.items() for i in range(array.shape[1]))])
        writer.writerows([name, *map(repr, map(float, row))] for name, row in zip(table.names, rows, strict=True))
