"""The command ``diffaug-dna``: fit, embed, augment, generate, evaluate, info on sequences in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from diffaug.cli._app import Common, make_app, registrar
from diffaug.cli._files import check_source, check_target_file
from diffaug.cli._fit_files import fit_files, write_fit
from diffaug.cli._options import NotNegative, Output, Positive, Share, load, settings_of, wants_progress
from diffaug.cli._output import as_json, show
from diffaug.core.storage import written_file

if TYPE_CHECKING:
    from diffaug._model import DiffAug, Embedding
    from diffaug.dna import SequenceTable

app = make_app("diffaug-dna", "Embed DNA sequences without labels, and generate synthetic ones.")
command = registrar(app)

_EMBEDDINGS = (".npz", ".csv")
_SEQUENCES = tuple(f"{ending}{packed}" for ending in (".fa", ".fasta", ".fna", ".csv") for packed in ("", ".gz"))
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
    sequence_key: str | None = None,
    label_key: str | None = None,
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
    """Train on sequences: write their embedding, and the model.

    The embedding is an .npz file with the arrays ``semantic`` (the embedding), ``latent`` and ``names``, or a .csv file
    with a name and the numbers of the embedding in each row.

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
    sequence_key
        Column of a table with the sequences. By default ``sequence`` or ``seq``.
    label_key
        Column of a table with labels, for the setting ``condition = "label"`` only; otherwise no label is read.
    preset
        Settings to start from; ``paper`` has the publication's widths and epochs, which take long without a GPU.
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
    # writes promoters.diffaug.npz and the folder promoters.diffaug.model
    diffaug-dna fit promoters.fa.gz

    # the training part of a table
    diffaug-dna fit promoters.parquet --split train -o out.npz --model m

    # a long training, which goes on when the command is repeated
    diffaug-dna fit promoters.fa.gz --preset paper --checkpoint run.ckpt
    """
    check_source(data, "a file of sequences")
    target = data.with_name(f"{_stem(data)}.diffaug.npz") if output is None else output
    files = fit_files(data, target, model, checkpoint, suffixes=_EMBEDDINGS, overwrite=overwrite)
    settings = settings_of(preset, config, "dna")

    from diffaug import dna

    table = dna.read_sequences(data, sequence_key=sequence_key, label_key=label_key)
    trained = table if split is None else table.part(split)
    longest = max(map(len, trained.sequences))
    if any(len(s) > longest for s in table.sequences):  # before the training, and not after it
        raise ValueError(
            f"Expected no sequence longer than those of the part {split!r} ({longest} bases), found some. Crop them."
        )
    fitted = dna.fit(
        trained,
        labels=trained.labels if label_key is not None else None,
        n_cycles=n_cycles,
        view_rate=view_rate,
        max_epochs=max_epochs,
        config=settings,
        random_state=seed,
        device=device,
        checkpoint=checkpoint,
        progress=wants_progress(common),
    )
    write_fit(files, fitted, lambda fresh: _write_embedding(fresh, table.names, dna.embed(table, fitted)))


@command
def embed(
    data: Path,
    /,
    *,
    model: Path,
    output: Output,
    sequence_key: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    """Embed sequences, new ones too, with a fitted model.

    Parameters
    ----------
    data
        Sequences, none longer than the longest of the training.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the embedding goes: .npz or .csv.
    sequence_key
        Column of a table with the sequences.
    device
        auto, cpu, cuda, cuda:1 or mps.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-dna embed new.fa --model promoters.diffaug.model -o new.npz
    """
    check_target_file(output, suffixes=_EMBEDDINGS, overwrite=overwrite, sources=(data,))
    table, fitted = _read(data, sequence_key), _load(model, device)

    from diffaug import dna

    with written_file(output) as fresh:
        _write_embedding(fresh, table.names, dna.embed(table, fitted))
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
    sequence_key: str | None = None,
    device: str = "auto",
    seed: NotNegative = 0,
    overwrite: bool = False,
    common: Common = Common(),
) -> None:
    r"""Make views of given sequences: others that should mean the same.

    Parameters
    ----------
    data
        Sequences, none longer than the longest of the training.
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the views go: FASTA or .csv, also with .gz. They are named after their sequence.
    n_views
        Views of each sequence.
    kind
        Generated views, or for comparison hand-made ones.
    strength
        For generated views, how far from the sequence they start, above 0 and up to 1 (pure noise).
    sequence_key
        Column of a table with the sequences.
    device
        auto, cpu, cuda, cuda:1 or mps.
    seed
        Equal seeds give equal results on one machine's CPU.
    overwrite
        Replace an existing output.

    Examples
    --------
    diffaug-dna augment new.fa --model promoters.diffaug.model --n-views 4 \
        -o views.fa
    """
    _check_sequences_target(output, overwrite, (data,))
    table, fitted = _read(data, sequence_key), _load(model, device)

    from diffaug import dna

    progress = wants_progress(common)
    views = dna.augment(
        table, fitted, n_views=n_views, kind=kind, strength=strength, random_state=seed, progress=progress
    )
    names = [f"{name}-view{i}" for name in table.names for i in range(n_views)]
    with written_file(output) as fresh:
        dna.write_sequences(fresh, [view for each in views for view in each], names)
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
    """Generate synthetic sequences.

    Each is conditioned on a sequence of the training data, whose row is in its name.

    Parameters
    ----------
    model
        Folder of a model that ``fit`` wrote.
    output
        Where the sequences go: FASTA or .csv, also with .gz.
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
    path: Path | None = None, /, *, sequence_key: str | None = None, json: bool = False, common: Common = Common()
) -> None:
    """Say what a model folder or a file of sequences holds; without a path, what is installed, for a report of a bug.

    Settings are printed as TOML, ready for ``fit --config``.

    Parameters
    ----------
    path
        Folder of a model, or a file of sequences. By default the versions, devices and threads of this installation.
    sequence_key
        Column of a table with the sequences. By default ``sequence`` or ``seq``.
    json
        Print JSON.

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
            else _info_dna.of_sequences(path, _read(path, sequence_key))
        )
        text = _info_dna.as_text
    show(as_json(found) if json else text(found))


# --- what they share --------------------------------------------------------------------------------------------------


def _stem(data: Path) -> str:
    """Name without its endings, .gz included."""
    return Path(data.name.removesuffix(".gz")).stem


def _check_sequences_target(target: Path, overwrite: bool, sources: tuple[Path, ...] = ()) -> None:
    if not target.name.lower().endswith(_SEQUENCES):
        raise ValueError(f"Expected an output that ends in {' or '.join(_SEQUENCES)}, found {str(target)!r}.")
    check_target_file(target, suffixes=(target.suffix.lower(),), overwrite=overwrite, sources=sources)


def _read(data: Path, sequence_key: str | None = None) -> SequenceTable:
    check_source(data, "a file of sequences")
    from diffaug import dna

    return dna.read_sequences(data, sequence_key=sequence_key)


def _read_one_of(data: Path, sequence_key: str | None) -> SequenceTable:
    """One of several files, of which FASTA files have no column that a key could name."""
    check_source(data, "a file of sequences")
    from diffaug.dna._files import FASTA, format_of

    return _read(data, None if format_of(data) in FASTA else sequence_key)


def _load(folder: Path, device: str) -> DiffAug:
    from diffaug.dna._fit import check_model

    return check_model(load(folder, device))


def _write_embedding(target: Path, names: list[str], embedding: Embedding) -> None:
    import numpy as np

    if target.suffix.lower() == ".npz":
        np.savez(target, semantic=embedding.semantic, latent=embedding.latent, names=np.array(names))
        return
    import csv

    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"semantic_{i}" for i in range(embedding.semantic.shape[1]))])
        writer.writerows(
            [name, *map(repr, map(float, row))] for name, row in zip(names, embedding.semantic, strict=True)
        )
