"""What every domain must do: one suite over the whole registry. A new domain adds a case to ``conftest.py``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffaug import DiffAug
from diffaug.backends import available_backends, get_backend
from diffaug.core.checkpoint import CheckpointFile
from diffaug.core.config import Config, DiffusionConfig, LossConfig, TrainingConfig, config_from_dict
from diffaug.core.devices import seeded_init
from diffaug.core.inference import encode

N = 90
Case = Any  # the dataclass of conftest.py, which is no module to import from
pytestmark = pytest.mark.parametrize("backend", available_backends())
_FITTED: dict[str, DiffAug] = {}


def fit(backend: str, case: Case, **settings: Any) -> DiffAug:
    return DiffAug(case.config, backend=backend, device="cpu", **settings).fit(case.make(N, 0), progress=False)


@pytest.fixture
def model(backend: str, case: Case) -> DiffAug:
    """One fit a domain, shared by the tests that only read it."""
    if backend not in _FITTED:
        _FITTED[backend] = fit(backend, case)
    return _FITTED[backend]


def test_every_domain_has_a_case(backend: str, case: Case) -> None:
    """Or the suite would not run on it (``case`` raises)."""
    assert len(case.make(5, 0)) == 5


# --- settings --------------------------------------------------------------------------------------------------------


def test_default_preset(backend: str) -> None:
    cls = get_backend(backend)
    config = cls.preset("default")
    assert isinstance(config, Config)
    assert isinstance(config.domain, cls.Settings)
    assert dataclasses.is_dataclass(cls.Settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.domain.__setattr__(dataclasses.fields(cls.Settings)[0].name, 3)
    assert config_from_dict(config.to_dict(), cls.Settings) == config
    # A plain dictionary, as TOML, has no None: what is not there has to be what it stands for.
    for part in (LossConfig, DiffusionConfig, TrainingConfig, cls.Settings):
        for field in dataclasses.fields(part):
            assert "None" not in str(field.type) or field.default is None, field.name
    with pytest.raises(ValueError, match=r"Expected a preset among \[.*'default'.*\], found 'best'"):
        cls.preset("best")


# --- to and from model space -----------------------------------------------------------------------------------------


def test_model_space(backend: str, case: Case) -> None:
    """Shape, type, and the inverse, for training events and for others in their range."""
    cls = get_backend(backend)
    x = case.make(N, 0)
    made = cls(cls.preset("default").domain, cls.event_shape_of(x))
    made.prepare(x)
    kept = x.copy()
    v = made.to_model(x)
    assert v.shape == (N, *cls.event_shape_of(x))
    assert v.dtype == torch.float32
    assert v.device.type == "cpu"
    back = made.from_model(v)
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, x, atol=case.tolerance, rtol=0)
    np.testing.assert_array_equal(x, kept)  # the user's array is not written to
    v += 1
    np.testing.assert_array_equal(x, kept)
    # Events at once or one at a time: no event depends on its neighbours.
    torch.testing.assert_close(torch.cat([made.to_model(x[i : i + 1]) for i in range(5)]), made.to_model(x[:5]))


def test_what_is_learnt_is_in_the_buffers(backend: str, case: Case) -> None:
    """A second backend with the state of the first scales as the first, and reads what is generated as the first."""
    cls = get_backend(backend)
    x = case.make(N, 0)
    first, second = (cls(cls.preset("default").domain, cls.event_shape_of(x)) for _ in range(2))
    first.prepare(x)
    drawn = torch.randn(N, *cls.event_shape_of(x), generator=torch.Generator().manual_seed(0)) - 1

    def equal() -> bool:
        return torch.equal(first.to_model(x), second.to_model(x)) and torch.equal(
            first.from_generator(drawn), second.from_generator(drawn)
        )

    assert not equal()
    second.load_state_dict(first.state_dict())
    assert equal()
    assert not list(first.parameters())  # networks are made, not kept


def test_generator_space(backend: str, case: Case, model: DiffAug) -> None:
    """Back from the generator's space come events of the data's kind: same shape, finite, in the data's range."""
    x = case.make(N, 0)
    v = model.backend.to_model(x)
    g = model.backend.to_generator(v, torch.Generator().manual_seed(0))
    assert g.shape == v.shape
    assert torch.isfinite(g).all()
    back = model.backend.from_model(model.backend.from_generator(g))
    assert back.shape == x.shape
    spread = x.max(axis=0) - x.min(axis=0)
    assert (back >= x.min(axis=0) - spread - 1e-3).all()
    assert (back <= x.max(axis=0) + spread + 1e-3).all()


def test_networks(backend: str, case: Case) -> None:
    cls = get_backend(backend)
    x = case.make(N, 0)
    settings = config_from_dict(case.config, cls.Settings, cls.preset("default")).domain
    made = cls(settings, cls.event_shape_of(x))
    made.prepare(x)
    v = made.to_model(x)
    with seeded_init(0):
        encoder = made.make_encoder()
        denoiser = made.make_denoiser(4)
    semantic, latent = encoder(v)
    assert semantic.shape[0] == latent.shape[0] == N
    assert semantic.ndim == latent.ndim == 2
    out = denoiser(v, torch.zeros(N), torch.randn(N, 4))
    assert out.shape == v.shape
    with seeded_init(0):
        again = made.make_encoder()
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))


def test_hand_made_views(backend: str, case: Case, model: DiffAug) -> None:
    """Each kind: right shape, finite, reproducible, never the event itself throughout, and of the event asked for."""
    x = case.make(N, 0)
    v = model.backend.to_model(x)
    index = torch.tensor([4, 0, 88])
    for kind in (None, *model.backend.view_kinds):
        views = model.backend.hand_views(v, kind=kind)
        made = views(index, torch.Generator().manual_seed(1))
        assert made.shape == (3, *v.shape[1:])
        assert torch.isfinite(made).all()
        assert torch.equal(made, views(index, torch.Generator().manual_seed(1)))
        assert torch.equal(made, views(index, torch.Generator().manual_seed(2))) == (kind in case.deterministic)
        many = views(torch.arange(N).repeat(20), torch.Generator().manual_seed(3)).reshape(20, N, -1)
        own = (many - v.reshape(N, -1)).square().sum(-1).mean()
        others = (many - v.reshape(N, -1).roll(1, 0)).square().sum(-1).mean()
        assert own < others
    default = model.backend.hand_views(v)(index, torch.Generator().manual_seed(1))
    own = model.backend.settled().views
    first = model.backend.hand_views(v, kind=own)(index, torch.Generator().manual_seed(1))
    assert torch.equal(default, first)


# --- the model -------------------------------------------------------------------------------------------------------


def test_fit(backend: str, case: Case, model: DiffAug) -> None:
    assert [r.phase for r in model.history] == ["A", "A", "B", "B", "fill", "A", "A"]
    fill, last = model.history[4], model.history[-1]
    assert fill.n_generated == N * model.config.training.n_views
    assert 0 <= fill.view_rate <= 0.5
    assert last.n_generated > 0 or fill.view_rate < 0.1  # what two epochs draw may hardly be shown
    assert model.event_shape == get_backend(backend).event_shape_of(case.make(3, 0))
    assert model.n_obs == N
    assert set(model.n_parameters) == {"encoder", "generator"}
    assert all(n > 0 for n in model.n_parameters.values())
    assert backend in repr(model)
    assert not model._encoder.training


def test_embed(backend: str, case: Case, model: DiffAug) -> None:
    """Shape, finite, and no dependence of an event's vector on the others given with it: evaluation mode."""
    for seed, n in ((0, N), (1, 7)):  # the training events and new ones
        x = case.make(n, seed)
        found = model.embed(x)
        assert found.semantic.shape == (n, case.config["domain"]["n_semantic"])
        assert found.latent.shape[0] == n
        for part in found:
            assert part.dtype == np.float32
            assert np.isfinite(part).all()
            assert np.unique(part, axis=0).shape[0] > 1
        alone = [model.embed(x[i : i + 1]) for i in range(min(n, 5))]
        for i in range(2):
            np.testing.assert_allclose(np.concatenate([a[i] for a in alone]), found[i][:5], rtol=1e-4, atol=1e-5)
        backwards = model.embed(x[::-1].copy())
        np.testing.assert_allclose(backwards.semantic[::-1], found.semantic, rtol=1e-4, atol=1e-5)
    for a, b in zip(model.embed(case.make(N, 0)), model.embed(case.make(N, 0)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_augment(backend: str, case: Case, model: DiffAug) -> None:
    x = case.make(6, 1)
    for kind in ("diffaug", *model.backend.view_kinds):
        views = model.augment(x, 3, kind=kind, random_state=1)
        assert views.shape == (6, 3, *model.event_shape)
        assert views.dtype == np.float32
        assert np.isfinite(views).all()
        np.testing.assert_array_equal(views, model.augment(x, 3, kind=kind, random_state=1))
        if kind in case.deterministic:
            assert not np.array_equal(views[:, 0], x)
        else:
            different = (views[:, 0] != views[:, 1]).reshape(6, -1).any(axis=1)
            assert different.mean() > 0.5  # among few choices two may be the same by chance
            assert not np.array_equal(views, model.augment(x, 3, kind=kind, random_state=2))


def test_augment_order(backend: str, case: Case, model: DiffAug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views stay with their events over chunks: little strength keeps a view near its own event."""
    monkeypatch.setattr("diffaug._model._BATCH", 7)
    x = case.make(20, 0)
    views = model.augment(x, 3, strength=0.02).reshape(20, 3, -1)
    flat = x.reshape(20, -1)
    distance = ((views[:, :, None] - flat[None, None]) ** 2).sum(-1)
    nearest = distance.argmin(axis=2)
    assert (nearest == np.arange(20)[:, None]).mean() > 0.9


def test_generate(backend: str, case: Case, model: DiffAug) -> None:
    made = model.generate(200, random_state=3)
    assert made.values.shape == (200, *model.event_shape)
    assert np.isfinite(made.values).all()
    counts = np.bincount(made.source, minlength=N)
    assert set(counts) <= {2, 3}  # each training event about equally often
    again = model.generate(200, random_state=3)
    np.testing.assert_array_equal(made.values, again.values)
    np.testing.assert_array_equal(made.source, again.source)
    assert not np.array_equal(made.values, model.generate(200, random_state=4).values)
    chosen = model.generate(source=[5, 5, 2])
    assert chosen.source.tolist() == [5, 5, 2]
    assert chosen.values.shape[0] == 3
    assert not np.array_equal(chosen.values[0], chosen.values[1])


def test_equal_seeds_equal_bits(backend: str, case: Case, model: DiffAug) -> None:
    x = case.make(N, 0)
    torch.manual_seed(7)
    np.random.seed(7)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = fit(backend, case)
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    np.testing.assert_array_equal(model.embed(x).semantic, again.embed(x).semantic)
    np.testing.assert_array_equal(model.generate(5).values, again.generate(5).values)
    other = fit(backend, case, random_state=1)
    assert not np.array_equal(model.embed(x).semantic, other.embed(x).semantic)


# --- keeping ---------------------------------------------------------------------------------------------------------


def assert_same(a: DiffAug, b: DiffAug, case: Case) -> None:
    """Equal to the bit in all that they do."""
    x = case.make(9, 1)
    for mine, theirs in zip(a.embed(x), b.embed(x), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for kind in ("diffaug", *a.backend.view_kinds):
        np.testing.assert_array_equal(a.augment(x, 2, kind=kind), b.augment(x, 2, kind=kind))
    np.testing.assert_array_equal(a.generate(5).values, b.generate(5).values)
    np.testing.assert_array_equal(a.generate(5).source, b.generate(5).source)


def test_save_and_load(backend: str, case: Case, model: DiffAug, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = DiffAug.load(tmp_path / "model", device="cpu")
    assert_same(model, loaded, case)
    assert loaded.config == model.config
    assert list(map(repr, loaded.history)) == list(map(repr, model.history))
    assert loaded.n_parameters == model.n_parameters
    assert loaded.event_shape == model.event_shape
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (
        tmp_path / "model" / "weights.safetensors"
    ).read_bytes()


def test_fit_a_second_time(backend: str, case: Case, model: DiffAug) -> None:
    """A model that is fitted again is as new: neither weights nor numbers of epochs are left over."""
    again = fit(backend, case)
    again.fit(case.make(40, 5), max_epochs=3, progress=False)
    assert again.n_obs == 40
    assert len(again.history) == 4
    again.fit(case.make(N, 0), progress=False)
    assert_same(model, again, case)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_wrong_use_is_said(backend: str, case: Case, model: DiffAug) -> None:
    x = case.make(6, 0)
    with pytest.raises(RuntimeError, match="Expected a fitted model, found one that was never fitted"):
        DiffAug(case.config, backend=backend).embed(x)
    with pytest.raises(ValueError, match="This model was fitted on events of shape"):
        model.embed(x[..., :-1])
    with pytest.raises(ValueError, match="Expected at least 1 event, found 0"):
        model.embed(x[:0])
    with pytest.raises(TypeError, match="Expected "):
        model.embed(x.tolist())
    with pytest.raises(TypeError, match="Expected "):
        DiffAug(case.config, backend=backend).fit(x.tolist())
    with pytest.raises(ValueError, match=r"Expected `kind` in \['diffaug', .*\], found 'cutout'"):
        model.augment(x, kind="cutout")
    with pytest.raises(ValueError, match="Expected at least 3 events to train on, found 2"):
        DiffAug(case.config, backend=backend).fit(x[:2])


def test_encoder_alone(backend: str, case: Case) -> None:
    """Without a generator a model embeds and makes hand-made views, and says why it does not generate."""
    config = {**case.config, "training": {**case.config["training"], "n_cycles": 0}}
    x = case.make(N, 0)
    model = DiffAug(config, backend=backend, device="cpu").fit(x, progress=False)
    assert {r.phase for r in model.history} == {"A"}
    assert np.isfinite(model.embed(x).semantic).all()
    assert np.isfinite(model.augment(x, kind=model.backend.view_kinds[0])).all()
    for use in (lambda: model.generate(3), lambda: model.augment(x)):
        with pytest.raises(RuntimeError, match=r"Expected a trained generator.*n_cycles=0.*Fit with n_cycles"):
            use()


def test_warm_up_is_that_of_the_loop_off_twin(backend: str, case: Case) -> None:
    """The contract of the loop, in each domain: ``view_rate`` changes nothing before the mixed phase."""
    x = case.make(N, 0)
    runs = {}
    for rate in (0.0, 1.0):
        plan = {**case.config["training"], "view_rate": rate, "adapt_view_rate": False}
        config = {**case.config, "training": plan}
        runs[rate] = DiffAug(config, backend=backend, device="cpu").fit(x, progress=False)
    off, on = runs[0.0], runs[1.0]
    assert [r.encoder_loss for r in off.history[:2]] == [r.encoder_loss for r in on.history[:2]]
    assert [r.generator_loss for r in off.history[2:4]] == [r.generator_loss for r in on.history[2:4]]
    a, b = (encode(m._condition_encoder, m.backend.to_model(x)).semantic for m in (off, on))
    assert torch.equal(a, b)
    assert not np.array_equal(off.embed(x).semantic, on.embed(x).semantic)
    assert on.history[-1].n_generated == on.history[-1].n_positives > 0


# --- going on --------------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The end of a process, as far as a test can play it in its own."""


def fit_in_pieces(monkeypatch: pytest.MonkeyPatch, make: Callable[[], DiffAug], x: Any, **options: Any) -> DiffAug:
    """A fit that is cut after each of its epochs, and each time goes on in a new model; and no epoch is trained twice."""
    write = CheckpointFile.write

    def write_and_end(self: CheckpointFile, state: Any) -> None:
        write(self, state)
        raise Cut

    n_cuts = 0
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "write", write_and_end)
        while True:
            model = make()
            try:
                model.fit(x, checkpoint_minutes=0, progress=False, **options)
            except Cut:
                n_cuts += 1
                assert n_cuts < 50
            else:
                break
    n_twin = sum(r.cycle > 0 for r in model.twin.history) if model.twin is not None else 0
    assert n_cuts == len(model.history) + n_twin + 1  # one after the end
    return model


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_resume(
    backend: str, case: Case, schedule: str, model: DiffAug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut in the warm-up, in B, before and after the fill, in the mixed phase, and in the twin: equal to the bit."""
    x, config = case.make(N, 0), case.config
    twin = schedule == "alternating"
    whole = model
    if not twin:
        plan = {"schedule": "joint", "warmup_epochs": 1, "mixed_epochs": 1}
        config = {**config, "training": {**config["training"], **plan}}
        whole = DiffAug(config, backend=backend, device="cpu").fit(x, progress=False)

    def make() -> DiffAug:
        return DiffAug(config, backend=backend, device="cpu")

    file = tmp_path / "run.ckpt"
    found = fit_in_pieces(monkeypatch, make, x, twin=twin, checkpoint=file)
    assert found.fingerprint == whole.fingerprint  # all weights, conditions, and what the domain learnt
    assert_same(found, whole, case)
    losses = [
        [(r.phase, r.cycle, r.epoch, r.encoder_loss, r.generator_loss) for r in m.history] for m in (found, whole)
    ]
    assert repr(losses[0]) == repr(losses[1])
    if twin:
        expected = make().fit(x, twin=True, progress=False).twin
        assert found.twin is not None
        assert expected is not None
        assert found.twin.fingerprint == expected.fingerprint != found.fingerprint
    with pytest.raises(ValueError, match="found one of another: random_state=0 and not 1"):
        DiffAug(config, backend=backend, device="cpu", random_state=1).fit(x, twin=twin, checkpoint=file)
    with pytest.raises(ValueError, match=r"found one of another: other data"):
        make().fit(case.make(N, 1), twin=twin, checkpoint=file)
