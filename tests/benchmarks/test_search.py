"""Arms of the search: against the model and its twins to the bit, against numbers known beforehand, and done once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness.sets import Slice
from search import run
from search.arms import ARMS, MixedArm, chosen_arms, kind_of
from search.mixed import (
    ClusterMates,
    EncoderAlone,
    MixedPhase,
    Mixture,
    NearMixtures,
    PartialNoise,
    Parts,
    SeveralPositives,
    with_full_bank,
)
from search.page import difference, page, paired, render
from search.rows import COLUMNS, Key, SearchRows
from search.run import Runner, Task

from diffaug import DiffAug
from diffaug.core.inference import encode
from diffaug.core.losses import info_nce_loss

SETTINGS = {
    "training": {"n_encoders": 1,
        "warmup_steps": 4, "generator_steps": 4, "mixed_steps": 6, "encoder_passes": 0, "generator_passes": 0,
        "batch_size": 32,
    },
    "domain": {"encoder_hidden": [16], "n_semantic": 8, "n_latent": 8, "generator_width": 16, "generator_depth": 1},
}  # fmt: skip
RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.gamma(1.0, size=(70, 12)) + 2 * np.eye(12)[np.arange(70) % 3]).astype(np.float32)


@pytest.fixture(scope="module")
def parts(x: np.ndarray) -> Parts:
    return Parts.of(x, DiffAug(SETTINGS, device="cpu").config, 3)


@pytest.fixture(scope="module")
def state(parts: Parts) -> dict[str, Any]:
    return with_full_bank(parts).state()


@pytest.fixture(scope="module")
def model(x: np.ndarray) -> DiffAug:
    return DiffAug(SETTINGS, random_state=3, device="cpu").fit(x, twin=True, sweep=[0.5], progress=False)


def trained(code: str, parts: Parts, state: dict[str, Any]) -> tuple[MixedPhase, np.ndarray]:
    arm = ARMS[code]
    assert isinstance(arm, MixedArm)
    trainer = parts.trainer(arm.kind, **arm.options)
    trainer.begin(state, parts)
    trainer.train()
    return trainer, encode(trainer.encoder, parts.data).semantic.numpy()


def begun(parts: Parts, state: dict[str, Any], kind: type[MixedPhase], **options: Any) -> Any:
    trainer = parts.trainer(kind, **options)
    trainer.begin(state, parts)
    return trainer


# --- arms against the model --------------------------------------------------------------------------------------------


def test_arms_of_plain_replacement_are_the_model_and_its_twins(
    parts: Parts, state: dict[str, Any], model: DiffAug, x: np.ndarray
) -> None:
    trust = [r.view_rate for r in model.history if r.phase == "fill"][0]
    assert 0 < trust < 1  # else half of it would not tell trust from lambda
    for code, same, rate in (("def", model, 1.0), ("l0", model.twin, 0.0), ("th", model.sweep[0.5], 0.5)):
        trainer, embedded = trained(code, parts, state)
        np.testing.assert_array_equal(embedded, same.embed(x).semantic)
        assert trainer.rate == pytest.approx(rate * trust)


def test_the_encoder_alone_is_the_twin(parts: Parts, model: DiffAug, x: np.ndarray) -> None:
    trainer = parts.trainer(EncoderAlone)
    trainer.train()
    np.testing.assert_array_equal(encode(trainer.encoder, parts.data).semantic.numpy(), model.twin.embed(x).semantic)


def test_near_mixtures_are_of_the_encoders_neighbours_after_the_warm_up(
    parts: Parts, model: DiffAug, x: np.ndarray
) -> None:
    same = parts.trainer(NearMixtures, share=0.0)
    same.train()
    np.testing.assert_array_equal(encode(same.encoder, parts.data).semantic.numpy(), model.twin.embed(x).semantic)
    trainer = parts.trainer(NearMixtures, share=1.0)
    warm = parts.trainer(EncoderAlone)
    for _ in range(warm._epochs[0]):
        warm._a_epoch()
    vectors = encode(warm.encoder, parts.data).semantic
    cosine = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1).fill_diagonal_(-2)
    expected = cosine.topk(parts.config.domain.n_neighbors).indices
    trainer.train()
    assert [set(a) for a in trainer._near.tolist()] == [set(b) for b in expected.tolist()]
    index = torch.arange(trainer.n_obs)
    away = trainer.positives(index).views - trainer.data
    towards = trainer.data[trainer._near] - trainer.data[:, None]
    share = (away[:, None] * towards).sum(-1) / towards.square().sum(-1)
    on_a_segment = (share[..., None] * towards - away[:, None]).abs().amax(-1) < 1e-5
    assert on_a_segment.any(1).all()
    assert 0 <= share[on_a_segment].min() < 0.3 and 0.7 < share[on_a_segment].max() <= 1


def test_cluster_mates_are_cells_of_the_same_cluster(parts: Parts, model: DiffAug, x: np.ndarray) -> None:
    same = parts.trainer(ClusterMates, share=0.0, resolution=1.0)
    same.train()
    np.testing.assert_array_equal(encode(same.encoder, parts.data).semantic.numpy(), model.twin.embed(x).semantic)
    trainer = parts.trainer(ClusterMates, share=1.0, resolution=1.0)
    trainer.train()
    views = trainer.positives(torch.arange(trainer.n_obs).repeat(30)).views
    distance, mate = torch.cdist(views, trainer.data).min(dim=1)
    assert distance.max() < 0.01 and 1 < trainer.clusters.max() + 1 < trainer.n_obs
    assert torch.equal(trainer.clusters[mate], trainer.clusters.repeat(30))
    assert torch.equal(mate.unique(), torch.arange(trainer.n_obs))  # any of them


def test_one_pair_of_several_is_the_twin(parts: Parts, state: dict[str, Any], model: DiffAug, x: np.ndarray) -> None:
    trainer = begun(parts, state, SeveralPositives, further=(), weights=lambda rate: (1.0,))
    trainer.train()
    np.testing.assert_array_equal(encode(trainer.encoder, parts.data).semantic.numpy(), model.twin.embed(x).semantic)


@pytest.mark.parametrize("code", [arm.code for arm in ARMS.values() if isinstance(arm, MixedArm)])
def test_an_arm_leaves_the_state_for_the_next(parts: Parts, state: dict[str, Any], code: str) -> None:
    before = state["bank"].clone()
    first, second = (trained(code, parts, state)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()
    assert torch.equal(state["bank"], before)
    if code != "l0":
        assert not np.array_equal(first, trained("l0", parts, state)[1])


# --- what is an arm's own ----------------------------------------------------------------------------------------------


def test_several_positives_are_a_cells_own_and_weigh_as_told(parts: Parts, state: dict[str, Any]) -> None:
    plain = dataclasses.replace(parts, config=parts.config.updated("training", input_dropout=0.0))
    trainer = begun(
        plain, state, SeveralPositives, further=("generated", "hand-made"), weights=lambda r: (0.5, 0.2, 0.3)
    )
    assert trainer.rate == 0.2
    number = torch.arange(trainer.n_obs, dtype=torch.float32)
    trainer.bank.views[:] = number[:, None, None]  # each cell's views tell whose they are
    seen: list[torch.Tensor] = []
    out: list[Any] = []

    def look(net: Any, given: Any, made: Any) -> None:
        seen.append(given[0])
        out.append(made)

    trainer._encoder.net.register_forward_hook(look)
    index = torch.tensor([5, 2, 60, 11])
    trainer._encoder.net.train()
    loss, _, _ = trainer.a_step(index, trainer.positives(index).views)
    x, hand, generated, further = seen[0].chunk(4)
    assert torch.equal(x, trainer.data[index]) and torch.equal(generated[:, 0], number[index])
    assert not torch.equal(hand, further)
    z = out[0].latent.detach().chunk(4)
    pairs = [info_nce_loss(z[0], other, temperature=parts.config.loss.temperature) for other in z[1:]]
    assert float(loss) == pytest.approx(float(0.5 * pairs[0] + 0.2 * pairs[1] + 0.3 * pairs[2]), rel=1e-5)
    with pytest.raises(ValueError, match="Expected a weight for each of 2 views"):
        begun(parts, state, SeveralPositives, further=("generated",), weights=lambda rate: (1.0,))


@pytest.mark.parametrize(("origin", "low"), [("cell", 0.0), ("hand-made", -1.0)])
def test_a_mixture_lies_between_its_ends(parts: Parts, state: dict[str, Any], origin: Any, low: float) -> None:
    trainer = begun(parts, state, Mixture, origin=origin)
    trainer.bank.views[:] = trainer.data[:, None] + 1
    trainer.hand_views = lambda index, stream: trainer.data[index] - 1
    index = torch.arange(trainer.n_obs)
    found, n_generated = trainer.positives(index)
    off = found - trainer.data
    torch.testing.assert_close(off, off[:, :1].expand_as(off))  # one weight for a cell
    assert n_generated == trainer.n_obs
    assert low <= off.min() < low + 0.3 and 0.7 < off.max() <= 1 + 1e-5


def test_a_fresh_encoder_is_new_and_trains_longer(parts: Parts, state: dict[str, Any]) -> None:
    trainers = [begun(parts, state, ARMS[code].kind, **ARMS[code].options) for code in ("fr0", "fr1t")]
    for name, old in state["encoders"][0]["now"]["learner"]["module"].items():
        new = [t.encoder.state_dict()[name] for t in trainers]
        assert torch.equal(*new)
        assert name.endswith(("weights", "bias", "num_batches_tracked")) or "1." in name or not torch.equal(new[0], old)
    warmup, _, mixed = trainers[0]._epochs
    assert trainers[0].n_epochs == warmup + mixed and not trainers[0]._encoder.optimizer.state
    assert trainers[0].rate == 0 < trainers[1].rate


def test_partly_noised_views_stay_nearer(parts: Parts, state: dict[str, Any]) -> None:
    near, far = (begun(parts, state, PartialNoise, strength=s) for s in (0.05, 0.9))
    away = [(t.bank.views - t.data[:, None]).abs().mean() for t in (near, far)]
    assert away[0] < 0.8 * away[1]
    assert near.bank.views.shape == state["bank"].shape and near.bank.is_full
    assert 0 <= near.rate == near.trust != state["trust"]


def test_plans_without_one_filled_bank_are_refused(x: np.ndarray) -> None:
    config = DiffAug(SETTINGS, device="cpu").config
    with pytest.raises(ValueError, match="Expected n_cycles=1.*found 2"):
        Parts.of(x, config.updated("training", n_cycles=2), 0)
    with pytest.raises(ValueError, match="no patience"):
        Parts.of(x, config.updated("training", patience=3), 0)
    with pytest.raises(ValueError, match="condition='semantic', found 'latent'"):
        Parts.of(x, config.updated("diffusion", condition="latent"), 0)
    with pytest.raises(ValueError, match="found view_rate=0"):
        with_full_bank(Parts.of(x, config.updated("training", view_rate=0.0), 0))


# --- names -------------------------------------------------------------------------------------------------------------


def test_each_twin_is_an_arm_of_the_same_kind() -> None:
    by_name = {arm.name: arm for arm in ARMS.values()}
    assert len(by_name) == len(ARMS)
    for arm in ARMS.values():
        if arm.twin:
            assert kind_of(by_name[arm.twin]) == kind_of(arm) and by_name[arm.twin] is not arm
    assert {a.code: by_name[a.twin].code for a in ARMS.values() if a.twin in by_name and a.twin != "hand-made views only"} == {
        "mhg": "m2h", "mhgt": "m2h", "mh2g": "m3h", "fr.5t": "fr0", "fr1t": "fr0",
        **dict.fromkeys(("raw", "orth", "M", "T", "MT", "orthM", "orthT", "orthMT", "std", "near", "near.5", "mates", "mates.25", "mates.fine", "mates.fine.25"), "base"),
    }  # fmt: skip


def of_before(name: str) -> str:
    return name.replace(", news squared", "")


def test_arms_that_use_the_trust_have_another_name_than_before_it_changed() -> None:
    """Else a row of before would stand for theirs. The others are what they were, and keep their rows."""
    renamed = {arm.code for arm in ARMS.values() if arm.name != of_before(arm.name)}
    assert renamed == {"def", "th", "mhgt", "fr.5t", "fr1t", "s.5"}
    assert not {arm.name for arm in ARMS.values()} & {of_before(ARMS[code].name) for code in renamed}
    assert not renamed & {known.code for arm in ARMS.values() for known in ARMS.values() if known.name == arm.twin}


def test_arms_are_chosen_by_code_name_or_kind() -> None:
    assert [a.code for a in chosen_arms(["th", "hand-made views only"])] == ["l0", "th"]
    assert [a.code for a in chosen_arms(["mh2g", "fr1t"])] == ["mh2g", "m3h", "fr0", "fr1t"]  # with their twins
    assert {kind_of(a) for a in chosen_arms(["encoder"])} == {"encoder"} and len(chosen_arms(["mixed", "l0"])) == 14
    with pytest.raises(ValueError, match="Expected arms among .*found 'lambda'"):
        chosen_arms(["lambda"])


# --- rows --------------------------------------------------------------------------------------------------------------

TINY = Slice("pbmc68k_reduced_scanpy", 150, 120)  # no panel, whose encoder alone would be another


def runner(tmp_path: Path, **settings: Any) -> Runner:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")
    rows = SearchRows(tmp_path / "search.parquet", tmp_path / "rows")
    return Runner(rows, tmp_path, "15", settings or SETTINGS)


def test_a_row_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generators: list[int] = []
    monkeypatch.setattr(run, "with_full_bank", lambda parts: (generators.append(parts.seed), with_full_bank(parts))[1])
    tasks = [Task(TINY, 0)]
    runner(tmp_path).run(tasks, chosen_arms(["l0", "def"]))
    first = pd.read_parquet(tmp_path / "search.parquet")
    runner(tmp_path).run(tasks, chosen_arms(["l0", "def", "base", "raw"]))
    assert generators == [0]  # encoders need none
    table = pd.read_parquet(tmp_path / "search.parquet")
    assert table["code"].tolist() == ["l0", "def", "base", "raw"] and list(table) == list(COLUMNS)
    pd.testing.assert_frame_equal(table.iloc[:2], first)
    l0, default, base, raw = table.to_dict("records")
    assert {k: l0[k] for k in ("linear", "knn", "kmeans", "nmi", "ari")} == {
        k: base[k] for k in ("linear", "knn", "kmeans", "nmi", "ari")
    }
    assert l0["rate"] == 0 < default["rate"] == default["trust"] and np.isnan(base["rate"])
    assert l0["n_obs"] == 150 and l0["n_features"] == 120 and l0["study"] == "15" and raw["kind"] == "encoder"
    common = json.loads(l0["settings"])
    assert common["config"]["training"]["batch_size"] == 32 and json.loads(default["settings"]) == common
    assert json.loads(base["settings"]) == common | {"arm": {"domain": {"linear_path": False, "views": "mixup"}}}
    assert json.loads(raw["settings"]) == common | {"arm": "not trained"}
    # What is an arm's own parts it from no twin.
    assert table["settings_hash"].nunique() == 1 and len(paired(table)) == 2
    runner(tmp_path).run([Task(TINY, 1)], [ARMS["raw"]])  # no seed would change it
    assert len(pd.read_parquet(tmp_path / "search.parquet")) == 4
    other = runner(tmp_path, training={**SETTINGS["training"], "mixed_steps": 5}, domain=SETTINGS["domain"])
    assert not other.rows.has(other.key(tasks[0], ARMS["l0"]))


def test_rows_of_a_killed_run_are_there_at_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = run.judged
    calls: list[int] = []

    def once(x: np.ndarray, labels: np.ndarray, kmeans_seeds: int) -> dict[str, float]:
        calls.append(len(labels))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judged(x, labels, kmeans_seeds)

    task = Task(TINY, 0, n_train=100)
    with monkeypatch.context() as patch:
        patch.setattr(run, "judged", once)
        with pytest.raises(KeyboardInterrupt):
            runner(tmp_path).run([task], chosen_arms(["l0", "th"]))
    assert calls == [50, 50]  # the cells that were not trained on
    (tmp_path / "search.parquet").unlink()
    again = runner(tmp_path)
    assert [again.rows.has(again.key(task, ARMS[code])) for code in ("l0", "th")] == [True, False]


def test_cells_to_judge_are_the_others_and_a_panel_has_the_widest_features(tmp_path: Path) -> None:
    train, test = run.split(20, 8, 1)
    assert len(train) == 8 and sorted([*train, *test]) == list(range(20)) and not set(train) & set(test)
    assert [rows.tolist() for rows in run.split(3, 0, 1)] == [[0, 1, 2]] * 2
    with pytest.raises(ValueError, match="n_train below the 20 cells"):
        run.split(20, 20, 0)
    whole, labels = run.read(TINY, tmp_path)
    panel, same = run.read(TINY, tmp_path, 5)
    spread = whole.toarray().var(axis=0)
    np.testing.assert_array_equal(panel, whole.toarray()[:, np.sort(np.argsort(-spread)[:5])])
    np.testing.assert_array_equal(labels, same)
    with pytest.raises(ValueError, match="at most the 120 features of pbmc68k_reduced_scanpy, found 121"):
        run.read(TINY, tmp_path, 121)


def row(arm: str, name: str, score: float, seed: int = 0, study: str = "15", **more: Any) -> dict[str, Any]:
    known = ARMS[arm]
    return {
        "study": study, "kind": kind_of(known), "set": name, "seed": seed, "arm": known.name, "code": arm, "twin": known.twin,
        **dict.fromkeys(("linear", "knn", "kmeans", "nmi"), score), "settings": "{}", "settings_hash": "h", "date": "2026",
        **more,
    }  # fmt: skip


def table_of(*records: dict[str, Any], folder: Path) -> pd.DataFrame:
    rows = SearchRows(folder / "none.parquet", folder / "none")
    for record in records:
        rows._take(record)
    return rows.table()


def test_an_arm_is_paired_with_its_own_twin(tmp_path: Path) -> None:
    records = [
        row(arm, name, base + score, study="14" if arm == "l0" else "15")
        for name, base, gain in (("a", 0.5, 0.01), ("b", 0.7, 0.03))
        for arm, score in (("l0", 0.0), ("m2h", 0.1), ("mhg", 0.1 + gain), ("fr0", -0.1), ("fr1t", -0.1 + 2 * gain))
    ]
    table = table_of(
        *records,
        row("m2h", "a", 0.0, n_train=600),  # another regime
        row("m2h", "a", 0.0, settings_hash="i"),  # other settings
        row("mhg", "c", 0.9),  # no twin
        row("l0", "d", 0.5),
        row("mhg", "d", 0.9, twin=ARMS["l0"].name),  # another twin
        folder=tmp_path,
    )
    pairs = paired(table)
    found = difference(pairs[(pairs["code"] == "mhg") & (pairs["set"] != "d")], "knn")
    assert found is not None and (found.n_sets, found.n_runs) == (2, 2)
    # Gains of 1 and 3 points: mean 2, standard error 1, and Student's t with one degree of freedom is 12.706.
    np.testing.assert_allclose(found[:4], [2, 1, 2 - 12.706, 2 + 12.706], atol=1e-3)
    text = render(table)
    assert (
        "| fresh encoder, lambda times trust, news squared | `fr1t` | fresh encoder, hand-made views only | 2 | 2 | +4.00 ± 2.00"
        in text
    )
    assert (
        "| a hand-made and a generated view | `mhg` | two hand-made views | 3 | 3 | +2.00 ± 1.00 [-10.71, +14.71] |"
        in text
    )
    assert "| a hand-made and a generated view | `mhg` | hand-made views only | 1 | 1 | +40.00 |" in text
    assert "600 cells to train on" in text and text.index("## Entry 14") < text.index("## Entry 15")


def test_seeds_are_averaged_before_sets(tmp_path: Path) -> None:
    gains = {("a", 0): 0.01, ("a", 1): 0.03, ("a", 2): 0.02, ("b", 0): 0.06}
    records = [
        row(arm, name, 0.5 + (gain if arm == "def" else 0), seed)
        for (name, seed), gain in gains.items()
        for arm in ("l0", "def")
    ]
    found = difference(paired(table_of(*records, folder=tmp_path)), "linear")
    assert found is not None and found.mean == pytest.approx(4) and found.error == pytest.approx(2)
    one = difference(paired(table_of(*records[:2], folder=tmp_path)), "linear")
    assert str(one) == "+1.00"  # no interval


def test_the_newer_of_equal_rows_stays_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    rows = SearchRows(tmp_path / "r.parquet", tmp_path / "rows")
    key = Key("mixed", "a", 2000, 500, 0, 0, 0, "x", "h")
    rows.put(key, linear=0.5, date="2026-02")
    rows.put(key, linear=0.6, date="2026-01")
    assert rows.table()["linear"].tolist() == [0.5]
    with pytest.raises(KeyError, match="liner"):
        rows.put(key, liner=0.5, date="2026-03")


def test_two_runs_on_one_file_keep_each_others_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")
    key = Key("mixed", "a", 2000, 500, 0, 0, 0, "x", "h")
    first, second = (SearchRows(tmp_path / "r.parquet", tmp_path / name) for name in ("one", "two"))
    first.put(key, study="15", linear=0.5, date="1")
    second.put(key._replace(seed=1), study="15", linear=0.6, date="2")
    first.write()
    second.write()
    assert SearchRows(tmp_path / "r.parquet", tmp_path / "none").table()["linear"].tolist() == [0.5, 0.6]


def test_the_committed_page_is_of_the_committed_rows() -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow, which the extra `bench` brings")
    table = SearchRows(RESULTS / "results" / "search.parquet", RESULTS / "no such folder").table()
    assert len(table) > 300
    assert (RESULTS / "search.md").read_text(encoding="utf-8") == page(table)
    # Measured by arms that are still here, or by those of their codes before the news counted twice.
    known = {(arm.code, name, arm.twin) for arm in ARMS.values() for name in (arm.name, of_before(arm.name))}
    new = table[
        table["settings"].str.startswith("{") & ~table["code"].isin(["sd.5", "sd.25", "sd0"])
    ]  # as the page says
    assert len(new) and set(zip(new["code"], new["arm"], new["twin"], strict=True)) <= known
