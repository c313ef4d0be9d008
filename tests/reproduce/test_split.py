"""Tables of DNA and images: arms as configurations, sets with an official split, and what reaches a training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from diffaug import DiffAug, datasets, dna
from diffaug.backends import get_backend
from diffaug.baselines import Baseline, ViewGenerator
from diffaug.core.config import Config, config_from_dict
from diffaug.dna import SequenceTable
from diffaug.reproduce import _run, _sets, _split_measure, _split_sets
from diffaug.reproduce._arms import ARTEFACTS, Artefact, artefact, artefacts, resolve, run_id
from diffaug.reproduce._paper import TABLE1_BY_SET, TABLE1_MEAN, TABLE3_BY_SET, TABLE3_KMEANS
from diffaug.reproduce._report import report
from diffaug.reproduce._rows import Rows, Settings
from diffaug.reproduce._split_sets import SplitData

TABLES = {name: a for name, a in artefacts().items() if name not in ARTEFACTS}
TINY = {"warmup_epochs": 1, "generator_epochs": 1, "mixed_epochs": 1, "batch_size": 16}
DOMAINS = {
    "vision": {"encoder_width": 0.0625, "n_semantic": 6, "n_latent": 5, "generator_width": 4},
    "dna": {"n_semantic": 8, "n_latent": 5, "filter_width": 4, "generator_widths": [4, 4, 8, 8], "n_neighbors": 3},
}


def tiny(domain: str, **training: Any) -> Config:
    backend = get_backend(domain)
    sections = {"training": {**TINY, **training}, "diffusion": {"n_steps": 2}, "domain": DOMAINS[domain]}
    return config_from_dict(sections, backend.Settings, backend.preset("default"))


def images(n: int = 48) -> SplitData:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    x = rng.integers(0, 100, size=(n, 8, 8, 3)) + 100 * (np.arange(3) == labels[:, None])[:, None, None]
    split = np.where(np.arange(n) < 2 * n // 3, "train", "test")
    return SplitData("images", x.astype(np.uint8), labels, split)


def table(n: int = 48) -> SequenceTable:
    rng = np.random.default_rng(0)
    text = ["".join(rng.choice(list("ACGT" if i // 6 % 2 else "AATT"), 24 + i % 3)) for i in range(n)]
    split = np.array(["train", "train", "train", "test", "valid", "test"])[np.arange(n) % 6]
    return SequenceTable(text, [str(i) for i in range(n)], np.array(["a", "b"])[np.arange(n) // 6 % 2], split)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both domains' loaders give small sets made here."""
    from diffaug import dna, vision

    made = images()
    monkeypatch.setattr(dna, "load", lambda name, **_: table())
    monkeypatch.setattr(
        vision, "load", lambda name, **_: vision.ImageSet(made.x, made.labels, ("a", "b", "c"), made.split)
    )


# --- arms and numbers ------------------------------------------------------------------------------------------------


def test_each_domain_has_its_table() -> None:
    assert {name: a.domain for name, a in TABLES.items()} == {"table1": "dna", "table3": "vision"}
    assert artefact("table1", "dna") is TABLES["table1"]
    with pytest.raises(ValueError, match="found 'table1'. Do: diffaug-dna reproduce table1"):
        artefact("table1")
    with pytest.raises(ValueError, match=r"among \['table3'\], found 'table2'. Do: diffaug-cells reproduce table2"):
        artefact("table2", "vision")
    with pytest.raises(ValueError, match="found 'tabel3'. Did you mean 'table3'"):
        artefact("tabel3", "vision")


def test_the_documentation_counts_the_runs() -> None:
    """Arms of equal settings are one run."""
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \| [^|]*\|$", page, re.MULTILINE))
    backends = {"bio": "cells", "dna": "dna", "vision": "vision"}
    found = {}
    for name, a in {**artefacts(), **TABLES}.items():
        base = get_backend(backends[a.domain]).preset("default")
        found[name] = str(len({run_id(arm.method, resolve(arm, base)) for arm in a.arms}))
    assert said == found


def test_diffaugs_views_stand_under_three_learners() -> None:
    keys = [arm.key for arm in TABLES["table3"].arms]
    for learner in ("simclr", "byol", "simsiam"):
        assert learner in keys and f"{learner} + diffaug" in keys


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_arm_resolves_and_is_a_run_of_its_own(name: str, preset: str) -> None:
    found = TABLES[name]
    base = get_backend(found.domain).preset(preset)
    ids = set()
    for arm in found.arms:
        config = resolve(arm, base)
        _split_measure.check(arm.method, config, found.domain, "cpu")
        ids.add(run_id(arm.method, config))
        assert (config == base) == (arm.key != "loop_off")
    assert len(ids) == len(found.arms)
    assert found.reference in {arm.key for arm in found.arms}


def test_the_papers_nu_belongs_to_its_set() -> None:
    """1 for CIFAR-10, 2 for CIFAR-100, 5 for STL-10, 3 for TinyImageNet, in every arm."""
    settings = Settings(get_backend("vision").preset("paper"), n_top_genes=None)
    for name, nu in {"cifar10": 1, "cifar10_12k": 1, "cifar100": 2, "stl10": 5, "tinyimagenet": 3}.items():
        arms = _run.resolved(TABLES["table3"], settings, device="cpu", of_set=name)
        assert {config.loss.dof_latent for _, config, _ in arms} == {float(nu)}


def test_numbers_agree_with_the_manifests() -> None:
    for name, number in {**TABLE1_BY_SET, **TABLE3_BY_SET}.items():
        assert f"linear accuracy of {number.value}" in datasets.manifest(name).notes
    for name, number in TABLE3_KMEANS.items():
        assert f"k-means accuracy of {number.value}" in datasets.manifest(name).notes
    mean = np.mean([n.value for n in TABLE1_BY_SET.values()])
    assert TABLE1_MEAN.value == pytest.approx(mean, abs=0.05)
    for found in TABLES.values():  # every other number is not at hand, and says so
        for arm in found.arms[1:]:
            assert arm.paper is None or (arm.paper.value is None and "not at hand" in arm.paper.source)


def test_an_unknown_method_is_refused_before_anything_is_run() -> None:
    with pytest.raises(ValueError, match=r"Expected a learner among \['simclr', .*, found 'umap' in 'umap \+ vae'"):
        _split_measure.check("umap + vae", tiny("dna"), "dna", "cpu")
    with pytest.raises(ValueError, match="Expected `views` among .*, found 'mixupp'"):
        _split_measure.check("simclr + mixupp", tiny("dna"), "dna", "cpu")


# --- sets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_sets_are_made_ready(loaded: None, domain: str) -> None:
    found = _split_sets.prepare("x", domain, max_obs=None)
    assert set(found.split.tolist()) == {"train", "test"}
    assert found.n_obs == len(found.labels) == len(found.split) == (48 if domain == "vision" else 40)
    assert len(found.train) == (found.split == "train").sum()
    if domain == "dna":  # one-hot, as wide as the longest training sequence; the text goes with it
        assert found.x.shape[1:] == (4, max(len(s) for s in table().part("train").sequences))
        assert found.table is not None and len(found.table) == found.n_obs
    few = _split_sets.prepare("x", domain, max_obs=24)
    assert abs(few.n_obs - 24) <= 1
    assert np.mean(few.split == "train") == pytest.approx(np.mean(found.split == "train"), abs=0.06)
    rows = {r.tobytes() for r in found.x}
    assert all(r.tobytes() in rows for r in few.x)
    with pytest.raises(ValueError, match=r"two or more classes in the part '\w+' of 'x', found 1 class in"):
        _split_sets.prepare("x", domain, max_obs=3)


def test_unlabelled_images_are_trained_on_and_not_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffaug import vision

    made = images()
    labels, split = np.where(np.arange(48) < 16, -1, made.labels), made.split.astype("<U9")
    split[:16] = "unlabeled"
    monkeypatch.setattr(vision, "load", lambda name, **_: vision.ImageSet(made.x, labels, ("a", "b", "c"), split))
    found = _split_sets.prepare("stl10", "vision", max_obs=None)
    assert len(found.train) == 32 and (found.labels == -1).sum() == 16
    scores = _split_measure.measure(
        "raw", tiny("vision"), found, domain="vision", seed=0, device="cpu", max_epochs=None
    )
    assert 0 <= scores["linear"] <= 1


def test_default_sets_are_those_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIFFAUG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DIFFAUG_CACHE_DIR", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="DIFFAUG_DATA_DIR .*cifar10.* name a set to download: --sets cifar10"):
        _sets.chosen_sets(None, "vision")
    (tmp_path / "dna" / "demo_human_or_worm").mkdir(parents=True)
    names, absent = _sets.chosen_sets(None, "dna")  # Genomic Benchmarks have no checksum, and are read where they lie
    assert names == ["demo_human_or_worm"] and "human_ocr_ensembl" in absent and "gue_splice_small" in absent
    with pytest.raises(ValueError, match="Expected sets of domain 'dna', found 'cifar10' of domain 'vision'"):
        _sets.chosen_sets(["cifar10"], "dna")
    with pytest.raises(FileNotFoundError, match="is not available: .*coordinates only"):
        _sets.chosen_sets(["human_ocr_ensembl"], "dna")


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_is_trained_sees_the_training_part_alone(
    loaded: None, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _split_sets.prepare("x", domain, max_obs=None)
    seen: list[tuple[str, np.ndarray]] = []
    for cls in (DiffAug, Baseline, ViewGenerator):
        inner = cls.fit

        def spied(self: Any, x: np.ndarray, *, _inner: Any = inner, **options: Any) -> Any:
            assert options.get("labels") is None
            seen.append((type(self).__name__, x))
            return _inner(self, x, **options)

        monkeypatch.setattr(cls, "fit", spied)
    rates = {}
    for method in ("diffaug", "simclr", "simclr + mixup", "simclr + vae", "simclr + diffaug", "random"):
        scores = _split_measure.measure(
            method, tiny(domain), data, domain=domain, seed=0, device="cpu", max_epochs=None
        )
        assert all(0 <= scores[k] <= 1 for k in ("linear", "knn", "kmeans", "nmi"))  # type: ignore[operator]
        rates[method] = scores["view_rate"]
    assert all(np.array_equal(x, data.train) for _, x in seen)
    trained = [["DiffAug"], *[["Baseline"]] * 2, ["ViewGenerator", "Baseline"], ["DiffAug", "Baseline"], ["Baseline"]]
    assert [name for name, _ in seen] == sum(trained, [])
    assert rates["simclr"] == rates["simclr + mixup"] == rates["random"] == 0
    assert rates["simclr + vae"] == rates["simclr + diffaug"] == 0.5
    assert rates["diffaug"] > 0


@pytest.mark.parametrize("domain", DOMAINS)
def test_rows_of_generators_differ_in_their_views_alone(
    loaded: None, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """+ VAE, + GAN and + DiffAug: one learner, rate and number of views; those of DiffAug are of the row's own fit."""
    data = _split_sets.prepare("x", domain, max_obs=None)
    common = {"domain": domain, "seed": 1, "device": "cpu", "max_epochs": None}
    given: dict[str, dict[str, Any]] = {}
    inner = Baseline.fit

    def spied(self: Baseline, x: np.ndarray, **options: Any) -> Baseline:
        if options.get("generated") is not None:  # a GAN trains a learner of its own, without any
            learner = (self.method, self.views, self.augment_both, self.random_state, self.config)
            given[method] = {**options, "learner": learner}
        return inner(self, x, **options)

    monkeypatch.setattr(Baseline, "fit", spied)
    for method in ("simclr + vae", "simclr + gan", "simclr + diffaug"):
        _split_measure.features(method, tiny(domain), data, **common)
    views = {method: options.pop("generated") for method, options in given.items()}
    assert given["simclr + diffaug"] == given["simclr + vae"] == given["simclr + gan"]
    assert given["simclr + diffaug"]["view_rate"] == 0.5
    assert {v.shape for v in views.values()} == {(len(data.train), 2, *data.x.shape[1:])}
    model = DiffAug(tiny(domain), backend=domain, random_state=1, device="cpu").fit(data.train, progress=False)
    np.testing.assert_array_equal(views["simclr + diffaug"], model.augment(data.train, 2, random_state=1))
    assert not np.array_equal(views["simclr + diffaug"], views["simclr + vae"])


def test_balanced_accuracy_is_that_of_the_linear_probe(loaded: None) -> None:
    data = _split_sets.prepare("x", "dna", max_obs=None)
    found = _split_measure.measure("random", tiny("dna"), data, domain="dna", seed=0, device="cpu", max_epochs=None)
    x, _ = _split_measure.features("random", tiny("dna"), data, domain="dna", seed=0, device="cpu", max_epochs=None)
    assert data.table is not None
    expected = dna.split_probe(x, data.table)
    assert (found["linear"], found["linear_balanced"]) == (expected.accuracy, expected.balanced_accuracy)


def test_the_untrained_encoder_is_untrained(loaded: None) -> None:
    data = _split_sets.prepare("x", "dna", max_obs=None)
    common = {"domain": "dna", "seed": 3, "device": "cpu", "max_epochs": None}
    found, _ = _split_measure.features("random", tiny("dna"), data, **common)
    longer, _ = _split_measure.features("random", tiny("dna", warmup_epochs=5), data, **common)
    np.testing.assert_array_equal(found, longer)
    trained, _ = _split_measure.features("simclr", tiny("dna"), data, **common)
    assert not np.allclose(found, trained, atol=1e-4)


def test_supervised_peers_read_the_text(loaded: None) -> None:
    data = _split_sets.prepare("x", "dna", max_obs=None)
    scores = _split_measure.measure("kmer4", tiny("dna"), data, domain="dna", seed=0, device="cpu", max_epochs=None)
    assert scores["linear"] > 0.8 and "kmeans" not in scores


def test_a_stopped_run_goes_on(loaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tiny("dna"), n_top_genes=None)
    found = TABLES["table1"]
    small = Artefact(
        "table1", found.title, found.arms[:2] + found.arms[-3:-1], "loop_off", ("probes",), ("n",), domain="dna"
    )
    calls: list[str] = []
    real = _split_measure.measure

    def counted(method: str, *given: Any, **options: Any) -> Any:
        if len(calls) == 2:
            calls.append("stopped")
            raise KeyboardInterrupt
        calls.append(method)
        return real(method, *given, **options)

    monkeypatch.setattr(_split_measure, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        _run.run(small, Rows(tmp_path, settings), settings, sets=["x"], seeds=1, device="cpu")
    rows = _run.run(small, Rows(tmp_path, settings), settings, sets=["x"], seeds=1, device="cpu")
    assert calls == ["diffaug", "diffaug", "stopped", "random", "kmer4"]
    assert rows["arm"].tolist() == ["diffaug", "loop_off", "random", "kmer4"]
    assert rows["n_obs"].tolist() == [40] * 4 and rows["settings"].nunique() == 2


# --- report ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sets", "line"),
    [
        ("table1", ("gue_splice_small", "demo_human_or_worm"), "(HuWo in the paper) (paper: 96.8): itself."),
        ("table3", ("cifar10_12k", "stl10"), "(paper: 93.4): in its place: cifar10_12k."),
    ],
)
def test_the_report_says_whose_numbers_stand_beside_which_data(name: str, sets: tuple[str, ...], line: str) -> None:
    found = TABLES[name]
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [(arm.key, s, seed) for arm in found.arms for s in sets for seed in (0, 1)], columns=["arm", "set", "seed"]
    )
    for score in ("linear", "linear_balanced", "knn", "kmeans"):
        rows[score] = rng.uniform(0.2, 0.9, len(rows))
    rows["rank"] = rng.uniform(1, 9, len(rows))
    rows.loc[rows["arm"].isin(["kmer4", "cnn"]), ["knn", "kmeans", "rank"]] = np.nan
    rows = rows.assign(seconds=1.0, n_left_out=0.0, versions="torch=2", device="cpu")
    base = get_backend(found.domain).preset("paper")
    said = report(found, rows, Settings(base, n_top_genes=None, max_obs=200), absent=["a_set"])
    text = " ".join(said.text().split())
    assert line in text and "not run here." in text
    assert f"Data: {sets[0]} is none of the paper's sets. 200 events of each set at most." in text
    assert "Not at hand in DIFFAUG_DATA_DIR and left out: a_set." in text and "loss soft" in text
    by_set = said.grids[1]
    paper = dict(zip(by_set.head, by_set.body[0], strict=True))
    assert sorted(paper.values()) == sorted(
        ["the paper's DiffAug", *({"table1": ["-", "96.8"], "table3": ["93.4", "92.5"]}[name])]
    )
    main = {row[0]: row[said.grids[0].head.index("paper")] for row in said.grids[0].body}
    assert main["diffaug"] == {"table1": "89.1", "table3": "not at hand"}[name]
    assert main["loop_off"] == main["random"] == "-"
    mean = 100 * rows[rows["arm"] == "loop_off"].groupby("seed")["linear"].mean().mean()
    assert said.numbers["arms"][1]["scores"]["linear"]["mean"]["mean"] == pytest.approx(mean)
