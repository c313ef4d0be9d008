"""``diffaug-dna reproduce`` and ``diffaug-vision reproduce``, on a set of texts made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diffaug.cli import _dna, _vision
from diffaug.cli._reproduce import Plan
from diffaug.cli._reproduce_dna import references_of
from diffaug.reproduce._split_sets import prepare

TINY = """
[training]
warmup_epochs = 1
generator_epochs = 1
mixed_epochs = 1
batch_size = 16

[diffusion]
n_steps = 2

[domain]
n_semantic = 8
n_latent = 4
filter_width = 4
generator_widths = [4, 4, 4, 4]
n_neighbors = 3
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set of Genomic Benchmarks as texts, entered."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("test", 12)):
        for label, letters in (("human", "AATT"), ("worm", "ACGT")):
            folder = tmp_path / "data" / "dna" / "demo_human_or_worm" / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                (folder / f"{i}.txt").write_text("".join(rng.choice(list(letters), 30)))
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DIFFAUG_CACHE_DIR", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_from_training_to_print(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["reproduce", "table1", "--seeds", "1", "--config", "tiny.toml", "-o", "out", "--report", "docs/dna.md"]
    for _ in range(2):
        assert _dna.main([*call, "--max-minutes", "1e-6"]) == 3
        out, err = capsys.readouterr()
        assert not out and "diffaug-dna: 1e-06 minutes are over, at demo_human_or_worm, diffaug, seed 0." in err
        assert "kept in 'out': the same command goes on from there" in err and not Path("out/rows.csv").exists()
    assert "Going on from" in err
    assert _dna.main(call) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:4] == ["out/table1.md", "out/rows.csv", "docs/dna.md", ""]
    assert Path("docs/dna.md").read_bytes() == Path("out/table1.md").read_bytes()
    assert sorted(path.name for path in Path("out").iterdir()) == ["rows.csv", "settings.json", "table1.md"]
    table = pd.read_csv("out/rows.csv")
    assert len(table) == 13 and set(table["set"]) == {"demo_human_or_worm"}
    assert "(HuWo in the paper) (paper: 96.8): itself." in " ".join(out.split())
    assert "13 of 13: demo_human_or_worm, cnn, seed 0" in err
    page = Path("out/table1.md").read_text(encoding="utf-8")
    with_lambda = ["diffaug", "loop_off", "simclr + vae", "simclr + gan", "simclr + diffaug"]
    for arm in (*with_lambda, "kmer4"):
        assert page.count(f"\n| {arm} |") == 2 + (arm in with_lambda)
    # The same again runs nothing; other settings are refused.
    assert _dna.main([*call, "--json"]) == 0
    again, err = capsys.readouterr()
    assert "runs to go: 0" in err and json.loads(again)["artefact"] == "table1"
    assert _dna.main([*call, "--max-obs", "50"]) == 2
    assert "max_obs = None and not 50" in capsys.readouterr().err
    Path("docs/dna.md").write_text("# My thesis\n")
    assert _dna.main(call) == 2
    assert "found another in 'docs/dna.md'" in capsys.readouterr().err
    assert Path("docs/dna.md").read_text() == "# My thesis\n"


@pytest.mark.parametrize(("main", "name", "table"), [(_dna.main, "dna", "table1"), (_vision.main, "vision", "table3")])
def test_list_and_wrong_names(
    main: object, name: str, table: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(main)
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{table}  ") and "    simclr + gan " in out
    assert ("CIFAR-10" if name == "vision" else "(HuWo in the paper) (paper: 96.8): itself (at hand)") in out
    assert main(["reproduce", "--list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["artefacts"]) == [table]
    for given, said in (
        ([], f"Expected a table or figure among ['{table}'], found none"),
        (["table4"], "Do: diffaug-cells reproduce table4"),
    ):
        assert main(["reproduce", *given, "-o", "new"]) == 2
        assert said in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.parametrize(("main", "name"), [(_dna.main, "dna"), (_vision.main, "vision")])
def test_help_has_the_shared_options_and_its_own(main: object, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(main)
    assert main(["reproduce", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("sets", *Plan.__dataclass_fields__):
        assert f"--{option.replace('_', '-')} " in out
    assert "--n-top-genes" not in out and ("--reference" in out) == (name == "dna")
    assert f"diffaug-{name} reproduce --list" in out.partition("Examples:")[2]


def test_without_sets_of_images(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _vision.main(["reproduce", "table3", "-o", "new"]) == 2
    assert "name a set to download: --sets cifar10" in capsys.readouterr().err
    assert not Path("new").exists()


# --- Genomic Benchmarks as coordinates -------------------------------------------------------------------------------


def test_references_by_set_and_by_class(work: Path) -> None:
    for name in ("a.fa", "b.fa", "c=1.fa"):
        Path(name).write_text(">1\nACGT\n")
    found = references_of(
        ["a.fa", "human_enhancers_cohn=b.fa", "demo_human_or_worm/worm=a.fa", "demo_human_or_worm/human=b.fa"]
    )
    assert found == {
        "": Path("a.fa"),
        "human_enhancers_cohn": Path("b.fa"),
        "demo_human_or_worm": {"worm": Path("a.fa"), "human": Path("b.fa")},
    }
    assert references_of([]) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["none.fa"], "Expected a FASTA file, found nothing at 'none.fa'"),
        (["a.fa", "demo_human_or_worm/worm=none.fa"], "found nothing at 'none.fa'"),
        (["bacillus_promoters=a.fa"], "Expected `reference` for a set among ['dummy_mouse"),
        (["demo_human_or_worm=a.fa", "demo_human_or_worm/worm=a.fa"], "found both for 'demo_human_or_worm'"),
    ],
)
def test_wrong_references_before_any_work(
    work: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.fa").write_text(">1\nACGT\n")
    options = [part for item in given for part in ("--reference", item)]
    assert _dna.main(["reproduce", "table1", "--config", "tiny.toml", "-o", "new", *options]) == 2
    assert said in capsys.readouterr().err
    assert not Path("new").exists()


def test_each_set_gets_its_reference(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a set with sequences of its own none: `load` would refuse it."""
    seen = {}

    def load(name: str, reference: object) -> None:
        seen[name] = reference
        raise LookupError

    monkeypatch.setattr("diffaug.dna.load", load)
    for name in ("demo_human_or_worm", "human_enhancers_cohn", "bacillus_promoters"):
        (work / "data" / "dna" / name).mkdir(exist_ok=True) if name != "bacillus_promoters" else None
        with pytest.raises(LookupError):
            prepare(name, "dna", max_obs=None, references={"": Path("a.fa"), "demo_human_or_worm": Path("b.fa")})
    assert seen == {
        "demo_human_or_worm": Path("b.fa"),
        "human_enhancers_cohn": Path("a.fa"),
        "bacillus_promoters": None,
    }
