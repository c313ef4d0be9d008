"""The command ``diffaug-dna``: what it writes, what it prints, what it refuses before any work."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from diffaug import DiffAug, dna
from diffaug.backends.dna import ViewKind
from diffaug.cli import _dna
from diffaug.cli import main as cells_main
from diffaug.cli._dna import main

Listing = Callable[[Path], dict[str, bytes]]
TINY = """
[training]
warmup_epochs = 1
generator_epochs = 1
mixed_epochs = 1
batch_size = 16
adapt_view_rate = false

[diffusion]
n_steps = 3

[domain]
n_semantic = 8
n_latent = 4
filter_width = 4
generator_widths = [4, 4, 4, 4]
n_neighbors = 3
"""


def sequences(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), size=rng.integers(20, 31))) for _ in range(n)]


@pytest.fixture(scope="session")
def dna_shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with sequences, settings, a fit of them, and synthetic ones. Read it only."""
    folder = tmp_path_factory.mktemp("dna")
    for name, seed in (("train", 0), ("test", 1)):
        dna.write_sequences(folder / f"{name}.fa.gz", sequences(20, seed), [f"s{i}" for i in range(20)])
    lines = [
        f"{s},{'ab'[i % 2]},{'train' if i < 14 else 'test'}"
        for i, s in enumerate(sorted(sequences(20, 2), key=len)[::-1])
    ]
    (folder / "table.csv").write_text("\n".join(["sequence,label,split", *lines]) + "\n")
    (folder / "tiny.toml").write_text(TINY)
    assert main(["fit", str(folder / "train.fa.gz"), "--config", str(folder / "tiny.toml"), "--quiet"]) == 0
    made = str(folder / "made.fa")
    assert main(["generate", str(folder / "train.diffaug.model"), "--n-obs", "12", "-o", made]) == 0
    return folder


@pytest.fixture
def work(dna_shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the folder, entered."""
    shutil.copytree(dna_shared, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_the_entry_point_is_main() -> None:
    found = list(entry_points(group="console_scripts", name="diffaug-dna"))
    if not found:
        pytest.skip("the installed package is older than this command: install the checkout again")
    assert found[0].load() is main


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from diffaug.cli._dna import main; code = main(['fit', '--help']); "
        "print([m for m in ('torch', 'numpy', 'pandas', 'scipy') if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "diffaug-dna fit promoters.fa.gz" in done.stdout


def test_every_kind_of_view_can_be_asked_for() -> None:
    """The list is typed again in the command, as its import would cost the help a second."""
    assert get_args(_dna.Kind) == ("diffaug", *get_args(ViewKind))


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fit_writes_embedding_and_model(work: Path) -> None:
    model = DiffAug.load("train.diffaug.model", device="cpu")
    with np.load("train.diffaug.npz") as found:
        assert found["names"].tolist() == [f"s{i}" for i in range(20)]
        expected = dna.embed(Path("train.fa.gz"), model)
        np.testing.assert_array_equal(found["semantic"], expected.semantic)
        np.testing.assert_array_equal(found["latent"], expected.latent)
    assert model.config.domain.n_semantic == 8


def test_fit_that_was_cut_goes_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training is kept until the results are written, and is not done again."""
    command = ["fit", "train.fa.gz", "-o", "new.npz", "--config", "tiny.toml", "--quiet", "--checkpoint", "run"]
    with monkeypatch.context() as patch:
        patch.setattr(DiffAug, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert main(command) == 1
    assert Path("run").is_file() and not Path("new.npz").exists()
    with monkeypatch.context() as patch:
        patch.setattr("diffaug.core.training.Trainer.a_step", None)
        assert main(command) == 0
    assert not Path("run").exists()
    written = [(Path(m) / "weights.safetensors").read_bytes() for m in ("new.model", "train.diffaug.model")]
    assert written[0] == written[1]
    assert main([*command[:-1], "train.fa.gz", "--overwrite"]) == 2


def test_fit_on_a_part(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The part is trained on, all rows are embedded; .csv has the numbers of .npz."""
    arguments = [
        "fit",
        "table.csv",
        "--split",
        "train",
        "-o",
        "e.csv",
        "--model",
        "m",
        "--config",
        "tiny.toml",
        "--quiet",
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out.split() == ["e.csv", "m"]
    model = DiffAug.load("m", device="cpu")
    assert model.n_obs == 14
    with open("e.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", *(f"semantic_{i}" for i in range(8))]
    expected = dna.embed(Path("table.csv"), model).semantic
    np.testing.assert_array_equal(np.array([r[1:] for r in rows[1:]], dtype=np.float32), expected)


def test_twin(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In both kinds of files beside the embedding of a fit without a twin, which it does not change; also after a cut."""
    command = ["fit", "train.fa.gz", "--config", "tiny.toml", "--twin"]
    with monkeypatch.context() as patch:
        patch.setattr(DiffAug, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
        assert main([*command, "-o", "e.npz", "--checkpoint", "run"]) == 1
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("diffaug.core.training.Trainer.a_step", None)
        assert main([*command, "-o", "e.npz", "--checkpoint", "run"]) == 0
    *_, went, proof = capsys.readouterr().err.splitlines()
    model = dna.fit(Path("train.fa.gz"), config=tomllib.loads(TINY), twin=True, device="cpu", progress=False)
    assert model.twin is not None
    x = dna.encode(dna.read_sequences("train.fa.gz").sequences)
    halves = [m.split_half_overlap(x, k=9).mean() for m in (model, model.twin)]  # of 20, the halves must not hold all
    assert f": {halves[0]:.4f}, twin {halves[1]:.4f}, difference" in went and "interval over sequences" in went
    assert proof.startswith("split_half_overlap is no proof") and "`diffaug.dna.split_probe`" in proof
    with np.load("e.npz") as found, np.load("train.diffaug.npz") as without:
        assert [*found] == ["semantic", "latent", "semantic_twin", "names"]
        np.testing.assert_array_equal(found["semantic"], without["semantic"])
        twins = found["semantic_twin"]
        np.testing.assert_array_equal(twins, dna.embed(Path("train.fa.gz"), model.twin).semantic)
        both = np.concatenate([found["semantic"], twins], axis=1)
    assert not np.array_equal(both[:, :8], twins)
    assert main([*command, "-o", "f.csv", "--quiet"]) == 0
    with open("f.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["name", *(f"{name}_{i}" for name in ("semantic", "semantic_twin") for i in range(8))]
    np.testing.assert_array_equal(np.array([r[1:] for r in rows], dtype=np.float32), both)


def test_label_condition(work: Path, listing: Listing, capsys: pytest.CaptureFixture[str]) -> None:
    """The generator is told the table's labels in `fit` and in `augment`; who has none is told what to do."""
    Path("label.toml").write_text(TINY.replace("[diffusion]", '[diffusion]\ncondition = "label"'))
    text = Path("table.csv").read_text()
    Path("kind.csv").write_text(text.replace("label", "kind"))
    Path("holes.csv").write_text(text.replace(",a,", ",,"))
    fit = ["fit", "-o", "e.npz", "--config", "label.toml", "--quiet"]
    augment = ["augment", "-o", "v.fa", "--model", "e.model", "--quiet"]
    before = listing(work)
    bad = (
        (
            "kind.csv",
            "Expected labels in 'kind.csv' for the setting condition = 'label', found none. Name their column with",
        ),
        ("train.fa.gz", "--label-key; a FASTA file has none: give a .csv, .tsv or .parquet file."),
        ("holes.csv", "Expected a label of each of the 20 sequences, found 10 without one"),
    )
    for name, message in bad:
        assert main([*fit, name]) == 2
        assert message in capsys.readouterr().err
    assert listing(work) == before
    assert main([*fit, "table.csv"]) == 0
    model = DiffAug.load("e.model", device="cpu")
    assert model.meta["condition_labels"] == ["a", "b"]
    assert main([*fit, "kind.csv", "--label-key", "kind", "--overwrite"]) == 0
    assert DiffAug.load("e.model", device="cpu").fingerprint == model.fingerprint
    capsys.readouterr()
    for name, message in bad:
        assert main([*augment, name]) == 2
        assert message in capsys.readouterr().err
    assert not Path("v.fa").exists()
    assert main([*augment, "table.csv"]) == 0
    table = dna.read_sequences("table.csv")
    expected = dna.augment(table, model, labels=table.labels, progress=False)
    assert dna.read_sequences("v.fa").sequences == [v for each in expected for v in each]
    other = dna.augment(table, model, labels=["a"] * 20, progress=False)
    assert other != expected  # what the generator is told matters
    for given in (["kind.csv", "--label-key", "kind"], ["kind.csv", "--kind", "mutation"]):
        assert main([*augment, *given, "--overwrite"]) == 0


def test_labels_are_not_read_without_that_setting(work: Path) -> None:
    Path("holes.csv").write_text(Path("table.csv").read_text().replace(",a,", ",,"))
    for name in ("table", "holes"):
        assert main(["fit", f"{name}.csv", "--config", "tiny.toml", "--quiet"]) == 0
        assert main(["augment", f"{name}.csv", "--model", f"{name}.diffaug.model", "-o", f"{name}.fa"]) == 0
    assert Path("table.fa").read_bytes() == Path("holes.fa").read_bytes()


# --- use -------------------------------------------------------------------------------------------------------------


def test_embed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "test.fa.gz", "--model", "train.diffaug.model", "-o", "e.npz"]) in (0, 2)
    model = DiffAug.load("train.diffaug.model", device="cpu")
    text = dna.crop(dna.read_sequences("test.fa.gz").sequences, model.event_shape[1])
    dna.write_sequences("short.fa", text, [f"t{i}" for i in range(20)])
    assert main(["embed", "short.fa", "--model", "train.diffaug.model", "-o", "f.npz"]) == 0
    with np.load("f.npz") as found:
        np.testing.assert_array_equal(found["semantic"], dna.embed(text, model).semantic)
    assert capsys.readouterr().out.split()[-1] == "f.npz"


def test_augment(work: Path) -> None:
    assert main(["augment", "train.fa.gz", "--model", "train.diffaug.model", "--n-views", "2", "--kind", "mutation",
                 "--seed", "3", "-o", "v.fa.gz"]) == 0  # fmt: skip
    model = DiffAug.load("train.diffaug.model", device="cpu")
    expected = dna.augment(Path("train.fa.gz"), model, n_views=2, kind="mutation", random_state=3, progress=False)
    found = dna.read_sequences("v.fa.gz")
    assert found.sequences == [v for each in expected for v in each]
    assert found.names[:3] == ["s0-view0", "s0-view1", "s1-view0"]


def test_generate(work: Path) -> None:
    model = DiffAug.load("train.diffaug.model", device="cpu")
    expected = dna.generate(model, 12, progress=False)
    found = dna.read_sequences("made.fa")
    assert found.sequences == expected.sequences
    assert found.names == [f"synthetic{i}-row{row}" for i, row in enumerate(expected.source)]
    assert main(["generate", "train.diffaug.model", "--n-obs", "12", "-o", "made.csv"]) == 0
    assert dna.read_sequences("made.csv").sequences == expected.sequences


def test_evaluate(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "made.fa", "--train", "train.fa.gz", "--held-out", "test.fa.gz", "-o", "r.json", "--json"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads(Path("r.json").read_text()) == printed
    expected = dna.judge(
        *(dna.read_sequences("made.fa").sequences,),
        train=dna.read_sequences("train.fa.gz").sequences,
        held_out=dna.read_sequences("test.fa.gz").sequences,
    )
    assert printed["kmer"]["2"] == {"value": expected.kmer[2].value, "floor": expected.kmer[2].floor}
    assert printed["files"]["train"] == "train.fa.gz"


def test_a_column_of_another_name(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that reads the user's tables can be told the column; FASTA files beside them have none."""
    table = Path("table.csv").read_text()
    Path("mine.csv").write_text(table.replace("sequence,", "dna,"))
    assert main(["info", "mine.csv"]) == 2
    assert "Name the one with the sequences" in capsys.readouterr().err
    assert main(["info", "mine.csv", "--sequence-key", "dna", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_obs"] == 20
    found = []
    for train, given in (("mine.csv", ["--sequence-key", "dna"]), ("table.csv", [])):
        assert main(["evaluate", "made.fa", "--train", train, "--held-out", "test.fa.gz", "-o", "r.json", "--json",
                     "--overwrite", *given]) == 0  # fmt: skip
        found.append({**json.loads(capsys.readouterr().out), "files": None})
    assert found[0] == found[1]


def test_names(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another column than `name`, in every result that has names; who repeats them is told."""
    lines = Path("table.csv").read_text().splitlines()
    named = [f"{line},x{i // 2},y{i}" for i, line in enumerate(lines[1:])]
    Path("named.csv").write_text("\n".join([f"{lines[0]},gene,id", *named]) + "\n")
    assert main(["fit", "named.csv", "--name-key", "id", "--config", "tiny.toml", "--quiet"]) == 0
    assert "names" not in capsys.readouterr().err.lower()
    model = ["--model", "named.diffaug.model"]
    said = "warning: Names that stand for more than one sequence: 10, e.g. 'x0' for 2."
    for name, command in (
        ("e", ["fit", "named.csv", "-o", "e.npz", "--config", "tiny.toml", "--quiet"]),
        ("f", ["embed", "named.csv", "-o", "f.npz", *model]),
        ("g", ["augment", "named.csv", "-o", "g.fa", "--kind", "mutation", *model]),
    ):
        assert main([*command, "--name-key", "gene"]) == 0
        assert said in capsys.readouterr().err
        found = dna.read_sequences("g.fa").names if name == "g" else np.load(f"{name}.npz")["names"].tolist()
        assert [n.removesuffix("-view0") for n in found] == [f"x{i // 2}" for i in range(20)]
    for key, n in (("gene", 10), ("id", 0)):
        assert main(["info", "named.csv", "--name-key", key, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n_repeated_names"] == n
        assert main(["info", "named.csv", "--name-key", key]) == 0
        assert ("names: 10 are repeated" in capsys.readouterr().out) == (n > 0)


def test_ending_in_upper_case(work: Path) -> None:
    shutil.copy("train.fa.gz", "big.fa.GZ")
    assert main(["fit", "big.fa.GZ", "--config", "tiny.toml", "--quiet"]) == 0
    assert Path("big.diffaug.npz").is_file() and Path("big.diffaug.model").is_dir()
    assert main(["generate", "big.diffaug.model", "--n-obs", "3", "-o", "made.FA.GZ"]) == 0
    assert len(dna.read_sequences("made.FA.GZ")) == 3


def test_info(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "train.diffaug.model"]) == 0
    text = capsys.readouterr().out
    assert "20 sequences of" in text
    assert "generator_widths = [4, 4, 4, 4]" in text
    Path("again.toml").write_text(text)
    assert main(["fit", "train.fa.gz", "-o", "again.npz", "--config", "again.toml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", "table.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == {"a": 10, "b": 10}
    assert found["split"] == {"test": 6, "train": 14}
    assert main(["info", "table.csv"]) == 0
    assert "labels: a (10), b (10)" in capsys.readouterr().out
    Path("holes.csv").write_text(Path("table.csv").read_text().replace(",a,", ",,"))
    assert main(["info", "holes.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["labels"], found["n_without_label"]) == ({"b": 10}, 10)
    assert main(["info", "holes.csv"]) == 0
    assert "labels: b (10); 10 missing" in capsys.readouterr().out
    assert main(["info"]) == 0
    assert "diffaug" in capsys.readouterr().out


# --- refusals: nothing is written ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fit none.fa", "Expected a file of sequences, found nothing at 'none.fa'"),
        ("fit tiny.toml", "Expected a file that ends in .fa"),
        ("fit train.fa.gz", "Expected a new output, found a file that exists: 'train.diffaug.npz'. Pass --overwrite"),
        ("fit train.fa.gz -o e.h5ad", "Expected an output that ends in .npz or .csv, found 'e.h5ad'"),
        ("fit table.csv -o e.npz --split valid", "Expected a part of the split in ['test', 'train'], found 'valid'"),
        ("fit table.csv -o e.npz --split test", "Expected no sequence longer than those of the part 'test'"),
        ("fit table.csv -o e.npz --sequence-key dna", "Did not find the column 'dna'"),
        ("fit train.fa.gz -o e.npz --twin --view-rate 0", "this fit is its own loop-off twin"),
        ("fit train.fa.gz -o e.npz --twin --n-cycles 0", "this fit is its own loop-off twin"),
        (
            "fit bad.fa -o e.npz",
            "found 'R' at position 3 of sequence 0, 'a'. Ambiguous letters other than N are not read",
        ),
        ("fit p.bed", "`bedtools getfasta -s -fi genome.fa -bed p.bed -fo p.fa`"),
        ("evaluate made.fa --train p.bed --held-out test.fa.gz -o r.json", "Cut them out of the genome first"),
        ("embed train.fa.gz --model none -o e.npz", "Expected the folder of a model that `fit` wrote, found nothing"),
        ("augment train.fa.gz --model train.diffaug.model -o v.txt", "Expected an output that ends in .fa"),
        ("augment train.fa.gz --model train.diffaug.model --strength 2 -o v.fa", "Expected `strength` in (0, 1]"),
        ("generate train.diffaug.model --n-obs 0 -o v.fa", "Must be >= 1"),
        ("generate train.diffaug.model -o v.fa", "requires an argument"),
        ("evaluate made.fa --train train.fa.gz --held-out test.fa.gz -o r.html", "ends in .json, found 'r.html'"),
        ("info none", "Expected a file of sequences, found nothing"),
        ("paint train.fa.gz", "Unknown command"),
    ],
)
def test_wrong_use(
    work: Path, listing: Listing, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    Path("bad.fa").write_text(">a\nACGR\n")
    Path("p.bed").write_text("chr1\t0\t9\n")
    before = listing(work)
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("diffaug-dna: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert listing(work) == before


def test_a_model_of_cells_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"training": {"n_cycles": 0, "warmup_epochs": 1, "mixed_epochs": 0}}
    DiffAug(settings, device="cpu").fit(np.random.default_rng(0).random((10, 4)), progress=False).save("cells")
    assert main(["generate", "cells", "--n-obs", "3", "-o", "x.fa"]) == 2
    assert "Expected a model of DNA, found one of cells" in capsys.readouterr().err
    # And the other way round, with the name of the other program in front.
    assert cells_main(["generate", "train.diffaug.model", "--n-obs", "3", "-o", "x.h5ad"]) != 0
    assert capsys.readouterr().err.startswith("diffaug-cells: error: ")
