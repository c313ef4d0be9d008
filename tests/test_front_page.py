"""What the first pages say of images and DNA runs as it stands there, on a few events and with small networks."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import diffaug
from diffaug.cli import _dna, _vision

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/index.md")}
TRAINING = {"n_encoders": 1, "warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 8}
TINY = {
    "vision": {"encoder_width": 0.0625, "n_semantic": 6, "n_latent": 5, "generator_width": 4},
    "dna": {"n_semantic": 8, "n_latent": 5, "filter_width": 4, "generator_widths": [4, 4, 8, 8], "n_neighbors": 3},
}


def blocks(page: str, language: str, word: str) -> list[str]:
    return [text for text in re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL) if word in text]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name, entered; fits in Python are small, and settings for the shell are there."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    fasta = "".join(f">s{i}\n{''.join(rng.choice(list('ACGT'), 24))}\n" for i in range(12))
    (tmp_path / "promoters.fa").write_text(fasta)
    monkeypatch.chdir(tmp_path)
    for name in TINY:
        face = getattr(diffaug, name)
        config = {"training": TRAINING, "diffusion": {"n_steps": 2}, "domain": TINY[name]}
        sections = (f"[{s}]\n" + "".join(f"{k} = {v}\n" for k, v in part.items()) for s, part in config.items())
        (tmp_path / f"{name}.toml").write_text("\n".join(sections))
        monkeypatch.setattr(face, "fit", partial(face.fit, config=config, progress=False))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("domain", TINY)
def test_the_lines_of_python(page: str, domain: str, work: Path) -> None:
    (code,) = blocks(page, "python", f"diffaug.{domain}.fit")
    assert len(code.splitlines()) == 3
    found: dict[str, object] = {"diffaug": diffaug}
    exec(code.replace(".fa.gz", ".fa").replace("1000", "5"), found)
    if domain == "vision":
        views = found["views"]
        assert isinstance(views, np.ndarray) and views.shape == (12, 2, 8, 8, 3)
    else:
        made = found["synthetic"]
        assert isinstance(made, list) and [len(s) for s in made] == [24] * 5


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("main", "domain"), [(_vision.main, "vision"), (_dna.main, "dna")])
def test_the_lines_of_shell(page: str, main: object, domain: str, work: Path) -> None:
    (code,) = blocks(page, "bash", f"diffaug-{domain} fit")
    (line,) = [line for line in code.splitlines() if line.startswith(f"diffaug-{domain} ")]
    words = line.partition("#")[0].replace(".fa.gz", ".fa").split()
    assert callable(main) and main([*words[1:], "--config", f"{domain}.toml", "--quiet"]) == 0
    stem = words[-1].partition(".")[0]
    assert {f"{stem}.diffaug.npz", f"{stem}.diffaug.model"} <= {path.name for path in work.iterdir()}
