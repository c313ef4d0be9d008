"""The class: the same training as DiffAug's encoder, the views that reach it, and that the methods learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy import stats
from small_cells import CONFIG, TWO_CYCLES
from torch import Tensor

from diffaug import Config, DiffAug
from diffaug.baselines import METHODS, Baseline, _baseline
from diffaug.baselines._byol import BYOL
from diffaug.baselines._dino import DINO
from diffaug.baselines._method import Method, Pass, both_latents
from diffaug.baselines._training import PairTrainer
from diffaug.core.similarity import squared_distances
from diffaug.core.training import Trainer

N, WIDTH = 150, 12
SMALL: dict[str, dict[str, Any]] = {
    "training": TWO_CYCLES,
    "diffusion": {"n_steps": 3},
    "domain": {**CONFIG["domain"], "views": "mixup"},
}


def events(n: int = N, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Log-normalised counts of three types."""
    rng = np.random.default_rng(seed)
    mean = rng.gamma(1.0, 1.0, size=width) + np.where(np.arange(n)[:, None] % 3 == np.arange(width) % 3, 4, 0)
    counts = rng.poisson(mean) + (np.arange(width) == 0)
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 50).astype(np.float32)


def made(method: str = "simclr", config: Any = SMALL, **more: Any) -> Baseline:
    return Baseline(method, config, device="cpu", **more)


def with_training(**training: Any) -> dict[str, Any]:
    return {**SMALL, "training": {**SMALL["training"], **training}}


# --- the same training as DiffAug ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [{}, {"input_dropout": 0.0}, {"lr_schedule": "constant", "n_cycles": 1}])
def test_simclr_is_diffaug_with_the_loop_off(training: dict[str, Any]) -> None:
    """To the bit: the same weights at the start, batches, views, hidden features, learning rates and epochs."""
    x = events()
    config = with_training(**training, view_rate=0.0)
    twin = DiffAug(config, device="cpu", random_state=4).fit(x, progress=False)
    found = made(config=config, random_state=4).fit(x, progress=False)
    for ours, theirs in zip(found.embed(x), twin.embed(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    expected = [r for r in twin.history if r.phase == "A"]
    for name in ("encoder_loss", "n_positives", "n_generated", "semantic_cosine", "effective_rank"):
        assert [getattr(r, name) for r in found.history] == [getattr(r, name) for r in expected]
    # The control: another seed, and another temperature, give other weights.
    for other in (
        made(config=config, random_state=5),
        made(config=config, random_state=4, settings={"temperature": 1}),
    ):
        assert not np.allclose(other.fit(x, progress=False).embed(x).semantic, twin.embed(x).semantic, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_epochs_are_those_of_the_encoder(method: str) -> None:
    model = made(method).fit(events(), progress=False)
    assert [r.epoch for r in model.history] == list(range(1, 3 + 2 * 2 + 1))
    assert {r.phase for r in model.history} == {"A"}
    assert all(np.isfinite(r.encoder_loss) and np.isnan(r.generator_loss) for r in model.history)
    assert all(r.n_positives == N // 32 * 32 and r.n_generated == 0 and r.seconds > 0 for r in model.history)
    assert all(1 <= r.effective_rank <= 6 and -1 <= r.semantic_cosine <= 1 for r in model.history)
    assert model.config.training.encoder_epochs == 7


def test_equal_caps_give_equal_encoder_epochs() -> None:
    x = events()
    for cap in (5, 8):
        twin = DiffAug(SMALL, device="cpu").fit(x, max_epochs=cap, progress=False)
        found = made("simsiam").fit(x, max_epochs=cap, progress=False)
        assert len(found.history) == sum(r.phase == "A" for r in twin.history)
        assert found.config.training.encoder_epochs == len(found.history)


def test_epochs_of_the_plan_by_steps() -> None:
    model = made(config={**SMALL, "training": {"warmup_steps": 4, "mixed_steps": 4, "batch_size": 50}})
    assert model.config.training.warmup_epochs is None
    model.fit(events(), progress=False)
    twin = DiffAug(model.asked, device="cpu").config.training.resolve(N)
    assert model.config.training.encoder_epochs == twin.encoder_epochs == len(model.history)
    model.fit(events(50), progress=False)  # the epochs are those of the new data
    assert len(model.history) == model.asked.training.resolve(50).encoder_epochs


def test_no_epoch_leaves_the_encoder_as_it_was_made() -> None:
    x = events()
    config = with_training(warmup_epochs=0, mixed_epochs=0, n_cycles=0)
    found = made("byol", config).fit(x, progress=False)
    assert found.history == []
    random = DiffAug(config, device="cpu").fit(x, progress=False)
    np.testing.assert_array_equal(found.embed(x).semantic, random.embed(x).semantic)


def test_patience_stops() -> None:
    config = with_training(warmup_epochs=50, mixed_epochs=0, n_cycles=0, encoder_lr=1e-12, patience=3)
    assert len(made("simsiam", config).fit(events(), progress=False).history) < 50


def test_divergence_is_said() -> None:
    config = with_training(encoder_lr=1e30, lr_schedule="constant")
    with pytest.raises(RuntimeError, match="Expected a finite loss of the encoder"):
        made("dlme", config).fit(events(), progress=False)


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_results(method: str) -> None:
    x = events()
    torch.manual_seed(1)
    one = made(method, views=("mixup", "mask")).fit(x, progress=False).embed(x).semantic
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = made(method, views=("mixup", "mask")).fit(x, progress=False).embed(x).semantic
    assert torch.equal(state, torch.get_rng_state())  # the caller's random numbers are left alone
    np.testing.assert_array_equal(one, two)
    other = made(method, views=("mixup", "mask"), random_state=1).fit(x, progress=False).embed(x).semantic
    assert np.abs(one - other).max() > 1e-3


def test_sparse_input_and_new_events() -> None:
    x = events()
    dense, sparse = made("moco").fit(x, progress=False), made("moco").fit(sp.csr_matrix(x), progress=False)
    np.testing.assert_allclose(sparse.embed(sp.csr_matrix(x)).semantic, dense.embed(x).semantic, atol=0.01)
    new = dense.embed(events(7, seed=3))
    assert new.semantic.shape == (7, 6) and new.latent.shape == (7, 5)
    np.testing.assert_allclose(dense.embed(x[:3]).semantic, dense.embed(x).semantic[:3], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_batch_of_all_events(method: str) -> None:
    x = events(5)
    model = made(method).fit(x, progress=False)
    assert len(model.history) == 7
    assert np.isfinite(model.embed(x).semantic).all()


# --- views -----------------------------------------------------------------------------------------------------------


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Exact near zero, unlike the usual ``torch.cdist``."""
    return squared_distances(a, b).sqrt()


class Spy:
    """Records what each method's networks are shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []
        inner = Method.forward

        def forward(method: Method, x: Tensor, views: Tensor) -> Pass:
            self.pairs.append((x.clone(), views.clone()))
            return inner(method, x, views)

        monkeypatch.setattr(Method, "forward", forward)


NO_DROPOUT = with_training(input_dropout=0.0)


def generated_views(n_views: int = 3) -> np.ndarray:
    """View j of event i holds 1000 + 10 i + j in every feature: nothing that the data have."""
    value = 1000 + 10.0 * np.arange(N)[:, None] + np.arange(n_views)
    return np.repeat(value[:, :, None], WIDTH, axis=2).astype(np.float32)


@pytest.mark.parametrize("augment_both", [False, True])
def test_generated_views_reach_the_method(monkeypatch: pytest.MonkeyPatch, augment_both: bool) -> None:
    """At the rate asked for, each with its own event, in the encoder's space, and as the history says."""
    x = events()
    spy = Spy(monkeypatch)
    model = made(config=NO_DROPOUT, augment_both=augment_both)
    model.fit(x, generated=generated_views(), view_rate=0.3, progress=False)
    assert model._backend is not None
    mean, std = model._backend.get_buffer("mean"), model._backend.get_buffer("std")
    data = model._backend.to_model(x)
    shown, drawn = {"x": 0, "views": 0}, []
    for members in spy.pairs:
        for side, member in zip(shown, members, strict=True):
            back = (member * std + mean).double()
            is_made = (back > 900).all(dim=1)
            assert torch.equal(is_made, (back > 900).any(dim=1))  # whole views
            shown[side] += int(is_made.sum())
            if side == "views":
                code = back[is_made].mean(dim=1).round().long() - 1000
                drawn += (code % 10).tolist()
                if not augment_both:
                    row = (distances(members[0][is_made], data) < 1e-4).long().argmax(dim=1)
                    assert torch.equal(code // 10, row)
    n_shown = sum(r.n_positives for r in model.history)
    assert n_shown == 7 * (N // 32) * 32 * (1 + augment_both)
    assert sum(shown.values()) == sum(r.n_generated for r in model.history)
    assert (shown["x"] > 0) == augment_both
    assert stats.binomtest(sum(shown.values()), n_shown, 0.3).pvalue > 1e-3
    assert stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-3
    assert model.config.training.view_rate == 0.3


def test_without_generated_views_none_is_counted() -> None:
    model = made(config=with_training(view_rate=0.9)).fit(events(), view_rate=0.7, progress=False)
    assert all(r.n_generated == 0 for r in model.history)
    assert model.config.training.view_rate == 0  # what was done, not what would have been


def test_view_rate_one_and_zero() -> None:
    x = events()
    every = made("byol").fit(x, generated=generated_views(1), view_rate=1.0, progress=False)
    assert all(r.n_generated == r.n_positives for r in every.history)
    none = made("byol").fit(x, generated=generated_views(1), view_rate=0.0, progress=False)
    np.testing.assert_array_equal(none.embed(x).semantic, made("byol").fit(x, progress=False).embed(x).semantic)


def test_views_of_diffaug_fit_in() -> None:
    """End to end: what ``augment`` returns is accepted, and changes the result."""
    x = events()
    model = DiffAug(SMALL, device="cpu").fit(x, progress=False)
    views = model.augment(x, 2)
    plus = made("byol").fit(x, generated=views, progress=False)
    assert 0.35 < sum(r.n_generated for r in plus.history) / sum(r.n_positives for r in plus.history) < 0.65
    assert not np.allclose(plus.embed(x).semantic, made("byol").fit(x, progress=False).embed(x).semantic, atol=1e-3)


@pytest.mark.parametrize("views", ["feature_swap", ("mixup", "noise"), ["mask", "thinning", "mixup"]])
def test_kinds_of_views(monkeypatch: pytest.MonkeyPatch, views: Any) -> None:
    """One kind for each event, each equally often; the events themselves stay as they are."""
    x = events()
    spy = Spy(monkeypatch)
    seen: list[str] = []
    inner = _baseline.get_backend("cells").hand_views

    def labelled(backend: Any, data: Tensor, *, kind: str | None = None, batch: Any = None) -> Callable:
        maker = inner(backend, data, kind=kind, batch=batch)
        assert kind is not None

        def views(index: Tensor, generator: torch.Generator) -> Tensor:
            seen.extend([kind] * len(index))
            return maker(index, generator)

        return views

    monkeypatch.setattr(_baseline.get_backend("cells"), "hand_views", labelled)
    model = made(config=NO_DROPOUT, views=views).fit(x, progress=False)
    kinds = (views,) if isinstance(views, str) else tuple(views)
    assert model.views == kinds
    assert len(seen) == sum(r.n_positives for r in model.history)
    assert stats.chisquare([seen.count(k) for k in kinds]).pvalue > 1e-3 or len(kinds) == 1
    data = model._backend.to_model(x)  # type: ignore[union-attr]
    for a, b in spy.pairs:
        assert (distances(a, data).amin(dim=1) < 1e-4).all()
        assert (distances(b, data).amin(dim=1) > 1e-3).float().mean() > 0.5


def test_default_views_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    x = events()
    config = {**SMALL, "domain": {**SMALL["domain"], "views": "feature_swap"}}
    by_settings = made(config=config).fit(x, progress=False)
    by_name = made(views="feature_swap").fit(x, progress=False)
    np.testing.assert_array_equal(by_settings.embed(x).semantic, by_name.embed(x).semantic)
    assert not np.allclose(made().fit(x, progress=False).embed(x).semantic, by_name.embed(x).semantic, atol=1e-3)


def test_both_members_of_a_pair_are_views_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    x = events()
    spy = Spy(monkeypatch)
    model = made(config=NO_DROPOUT, augment_both=True).fit(x, progress=False)
    data = model._backend.to_model(x)  # type: ignore[union-attr]
    for pair in spy.pairs:
        for side in pair:
            assert (distances(side, data).amin(dim=1) > 1e-3).float().mean() > 0.8
        assert not torch.allclose(*pair)


def test_features_are_hidden_in_both_members(monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    made(config=with_training(input_dropout=0.4)).fit(np.random.default_rng(0).normal(size=(N, WIDTH)), progress=False)
    for side in (0, 1):
        hidden = torch.cat([pair[side] for pair in spy.pairs]) == 0
        assert stats.binomtest(int(hidden.sum()), hidden.numel(), 0.4).pvalue > 1e-3


def test_batches_lead_the_views() -> None:
    x = events()
    batch = np.array(["a", "b"])[np.arange(N) % 2]
    with_batch = made("simsiam").fit(x, batch=batch, progress=False).embed(x).semantic
    assert not np.allclose(with_batch, made("simsiam").fit(x, progress=False).embed(x).semantic, atol=1e-3)


# --- they learn ------------------------------------------------------------------------------------------------------


def planted(n: int = 300, n_types: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Clusters that a random encoder shows poorly: 40 features, each type a small shift of all of them."""
    rng = np.random.default_rng(0)
    kind = np.arange(n) % n_types
    centre = rng.normal(size=(n_types, 40)) * 0.6
    return (centre[kind] + rng.normal(size=(n, 40))).astype(np.float32), kind


def knn_accuracy(z: np.ndarray, kind: np.ndarray, k: int = 15) -> float:
    """Of a vote of the nearest others."""
    distance = ((z[:, None] - z[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    votes = kind[distance.argsort(axis=1)[:, :k]]
    return float((np.stack([(votes == c).sum(axis=1) for c in range(kind.max() + 1)], 1).argmax(1) == kind).mean())


def spread(latent: np.ndarray) -> float:
    """Standard deviation of unit vectors in each direction: 1 where they fill the sphere, 0 where they are equal."""
    z = latent / np.linalg.norm(latent, axis=1, keepdims=True)
    return float(z.std(axis=0).mean() * np.sqrt(z.shape[1]))


LEARN: dict[str, Any] = {
    "training": {"warmup_epochs": 40, "mixed_epochs": 0, "n_cycles": 0, "batch_size": 60, "encoder_lr": 3e-3},
    "domain": {"encoder_hidden": [48], "n_semantic": 16, "n_latent": 16, "views": "mixup", "linear_path": False},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_learn(method: str) -> None:
    """Without labels the types come apart; an encoder of the same size that was not trained is the control."""
    x, kind = planted()
    untrained = {**LEARN, "training": {**LEARN["training"], "warmup_epochs": 0}}
    before = knn_accuracy(made(method, untrained).fit(x, progress=False).embed(x).semantic, kind)
    model = made(method, LEARN).fit(x, progress=False)
    after = model.embed(x)
    assert before < 0.6
    assert knn_accuracy(after.semantic, kind) > before + 0.1
    assert spread(after.latent) > 0.5
    assert model.history[-1].effective_rank > 5


class ByolWithoutGuards(BYOL):
    """No predictor, and the target is the network itself with its gradient: the Siamese network that collapses."""

    def forward(self, x: Tensor, views: Tensor) -> Pass:
        made = Method.forward(self, x, views)
        both = both_latents(made.x, made.views)
        return made._replace(extra=(both, both))

    def loss(self, made: Pass, index: Tensor) -> Tensor:
        a, b = made.extra[0].chunk(2)
        return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()


def test_byol_without_its_guards_collapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: the views alone do not keep the vectors apart."""
    x, _ = planted()
    guarded = made("byol", LEARN).fit(x, progress=False)
    monkeypatch.setitem(_baseline._METHODS, "byol", ByolWithoutGuards)
    collapsed = made("byol", LEARN).fit(x, progress=False)
    assert spread(collapsed.embed(x).latent) < 0.15 < 0.5 < spread(guarded.embed(x).latent)
    assert collapsed.history[-1].encoder_loss < 0.05 * collapsed.history[0].encoder_loss


def teacher_entropies(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[float, float]:
    """Entropy of the teacher's shares: mean over events, and of the mean over events; 1 is that of equal shares.

    As in Fig. 7 of Caron et al. (2021): both at 0, or both at 1, are the two ways to collapse.
    """
    last: list[Tensor] = []
    inner = DINO.loss

    def loss(method: DINO, made: Pass, index: Tensor) -> Tensor:
        last[:] = [torch.softmax((made.extra[1] - method.center) / method.teacher_temperature, dim=1)]
        return inner(method, made, index)

    with monkeypatch.context() as patch:
        patch.setattr(DINO, "loss", loss)
        x, _ = planted()
        made("dino", LEARN, settings={"n_prototypes": 64, **settings}).fit(x, progress=False)
    shares = last[0]
    of_each = -(shares * shares.clamp_min(1e-30).log()).sum(dim=1).mean()
    mean = shares.mean(dim=0)
    return float(of_each) / np.log(64), float(-(mean * mean.clamp_min(1e-30).log()).sum()) / np.log(64)


def test_dino_collapses_without_centring_or_without_sharpening(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher is sure of each event, and says different things of different events; each guard keeps one of these."""
    own, mean = teacher_entropies(monkeypatch)
    assert own < 0.8 < mean
    blunt = {"teacher_temperature_first": 1.0, "teacher_temperature": 1.0}
    assert min(teacher_entropies(monkeypatch, **blunt)) > 0.99
    inner = DINO.after_step

    def without_center(method: DINO, *given: Any) -> None:
        inner(method, *given)
        method.center.zero_()

    monkeypatch.setattr(DINO, "after_step", without_center)
    assert teacher_entropies(monkeypatch)[1] < mean - 0.3


# --- settings and errors ---------------------------------------------------------------------------------------------


def test_trainers_share_their_random_streams() -> None:
    """Or SimCLR would not be DiffAug with the loop off; the trainers have nothing else in common to keep it so."""
    assert PairTrainer.__init__.__globals__["STREAMS"] is Trainer.__init__.__globals__["STREAMS"]


def test_method_settings() -> None:
    assert made("moco", settings={"temperature": 0.07, "queue_size": 64}).settings.queue_size == 64
    assert made("simclr", {**SMALL, "loss": {"temperature": 0.9}}).settings.temperature == 0.9
    assert made("simclr", settings={"temperature": 1}).settings.temperature == 1.0
    with pytest.raises(
        KeyError, match=r"Expected settings of \[moco\] among .*, found 'temprature'. Did you mean 'temp"
    ):
        made("moco", settings={"temprature": 0.1})
    with pytest.raises(ValueError, match="Expected `temperature` above 0, found 0.0"):
        made("simclr", settings={"temperature": 0})


@pytest.mark.parametrize(
    ("method", "hint"),
    [("simclrr", " Did you mean 'simclr'?"), ("BYOL", " Did you mean 'byol'?"), ("umap", ""), (None, "")],
)
def test_unknown_method(method: Any, hint: str) -> None:
    with pytest.raises(ValueError) as error:
        made(method)
    expected = f"Expected `method` in ['simclr', 'moco', 'byol', 'simsiam', 'dino', 'dlme'], found {method!r}.{hint}"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("mixupp", r"Expected `views` among \['mixup', .*'thinning'\], found 'mixupp'. Did you mean 'mixup'\?"),
        (("mixup", "diffaug"), "found 'diffaug'"),
        ((), "found none"),
    ],
)
def test_unknown_views(views: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(views=views)
    with pytest.raises(TypeError, match="Expected `views` to be a name or a list of names, found 3"):
        made(views=3)


@pytest.mark.parametrize(
    ("generated", "error", "message"),
    [
        (np.zeros((N - 1, 2, WIDTH)), ValueError, rf"shape \({N}, n_views, {WIDTH}\), found \({N - 1}, 2, {WIDTH}\)"),
        (np.zeros((N, 2, WIDTH + 1)), ValueError, rf"found \({N}, 2, {WIDTH + 1}\). Make it by `DiffAug.augment`"),
        (np.zeros((N, WIDTH)), ValueError, rf"found \({N}, {WIDTH}\)"),
        (np.zeros((N, 0, WIDTH)), ValueError, rf"found \({N}, 0, {WIDTH}\)"),
        (np.full((N, 1, WIDTH), np.nan), ValueError, "Expected finite values, found"),
        ([[[0.0]]], TypeError, "Expected `generated` to be a numpy array, found list"),
    ],
)
def test_bad_generated_views(generated: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        made().fit(events(), generated=generated, progress=False)


def test_other_errors() -> None:
    x = events()
    with pytest.raises(
        RuntimeError, match="Expected a fitted model, found one that was never fitted. Call `fit` first"
    ):
        made().embed(x)
    for rate in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"Expected `view_rate` in \[0, 1\], found {rate}"):
            made().fit(x, view_rate=rate, progress=False)
    with pytest.raises(ValueError, match="Expected at least 3 events to train on, found 2"):
        made().fit(x[:2], progress=False)
    with pytest.raises(ValueError, match=r"Expected `batch` of shape \(150,\)"):
        made().fit(x, batch=np.zeros(3), progress=False)
    with pytest.raises(ValueError, match="fitted on events of shape"):
        made().fit(x, progress=False).embed(x[:, :3])
    with pytest.raises(ValueError, match="Expected a backend among"):
        made(backend="sounds")
    with pytest.raises(TypeError, match="Expected `random_state` to be a whole number"):
        made(random_state=0.5)


def test_repr_and_presets() -> None:
    model = made("dlme", Config())
    assert repr(model) == "Baseline(dlme, cells, not fitted)"
    assert model.config == made("dlme", "default").config == made("dlme", None).config
    assert repr(made("dlme").fit(events(), progress=False)) == f"Baseline(dlme, cells, {N} x ({WIDTH},), cpu)"


def test_progress_bar(capsys: pytest.CaptureFixture) -> None:
    made("byol").fit(events(), progress=False)
    assert capsys.readouterr().err == ""
    made("byol").fit(events())
    assert "byol" in capsys.readouterr().err
