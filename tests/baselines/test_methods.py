"""What each method does beside its loss: slow copies, the queue, predictors, and which weights are trained."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from diffaug.baselines._baseline import _METHODS
from diffaug.baselines._byol import BYOL, BYOLSettings, byol_loss, cosine_momentum
from diffaug.baselines._dino import DINO, dino_loss, warmed_temperature
from diffaug.baselines._method import Method, Sizes
from diffaug.baselines._moco import MoCo, MoCoSettings, moco_loss
from diffaug.baselines._simsiam import SimSiam, SimSiamSettings, simsiam_loss
from diffaug.core.ema import warmed_decay
from diffaug.core.networks import MLPEncoder

WIDTH, N_LATENT, BATCH, N_OBS = 6, 5, 8, 40


def encoder() -> MLPEncoder:
    torch.manual_seed(0)  # layers take no generator
    return MLPEncoder(WIDTH, (7,), 4, N_LATENT)


def pair(seed: int = 0, n: int = BATCH) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=g)
    return x, x + 0.3 * torch.randn(n, WIDTH, generator=g)


def made(name: str, **settings: object) -> Method:
    cls = _METHODS[name]
    torch.manual_seed(1)
    return cls(encoder(), cls.Settings(**settings), Sizes(N_LATENT, N_OBS, BATCH)).train()


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def step(method: Method, index: Tensor, seed: int = 0, progress: float = 0.0, lr: float = 0.1) -> Tensor:
    """One step of plain gradient descent."""
    result = method(*pair(seed, len(index)))
    loss = method.loss(result, index)
    method.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= lr * p.grad
    method.after_step(result, index, progress)
    return loss.detach()


@pytest.mark.parametrize("name", _METHODS)
def test_every_trained_weight_gets_a_gradient_and_no_frozen_one_does(name: str) -> None:
    method = made(name)
    frozen = {"moco": "key_encoder", "byol": "target", "dino": "teacher"}.get(name, "-")
    result = method(*pair())
    method.loss(result, torch.arange(BATCH)).backward()
    for key, p in method.named_parameters():
        if key.startswith(frozen):
            assert not p.requires_grad and p.grad is None, key
        else:
            assert p.grad is not None, key
    touched = {k for k, p in method.encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    # A bias in front of batch normalisation has none, and neither has one of which only distances count.
    assert {"body.0.weight", "body.3.weight", "head.0.weight", "head.3.weight"} <= touched


@pytest.mark.parametrize("name", _METHODS)
def test_what_a_method_remembers_holds_no_graph(name: str) -> None:
    """Whatever the pass was made with: a queue or a centre with a history would keep every step's networks."""
    method = made(name)
    found = method(*pair())
    views = found.views._replace(latent=found.views.latent.detach().requires_grad_())
    extra = tuple(t.detach().requires_grad_() for t in found.extra)
    method.after_step(found._replace(views=views, extra=extra), torch.arange(BATCH), 0.5)
    assert not [key for key, buffer in method.named_buffers() if buffer.requires_grad]


@pytest.mark.parametrize("name", _METHODS)
def test_the_encoder_is_the_one_given(name: str) -> None:
    method = made(name)
    before = weights(method.encoder)
    assert torch.equal(before, weights(encoder()))
    for i in range(3):
        step(method, torch.arange(BATCH), i)
    assert not torch.equal(weights(method.encoder), before)


# --- MoCo ------------------------------------------------------------------------------------------------------------


def test_queue_holds_the_last_keys_and_whose_they_are() -> None:
    method = made("moco", queue_size=3 * BATCH)
    assert isinstance(method, MoCo)
    assert method.queue.shape == (3 * BATCH, N_LATENT)
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(3 * BATCH))
    assert (method.queue_index == -1).all()
    kept = []
    for i in range(5):
        index = torch.arange(BATCH) + i * BATCH % N_OBS
        with torch.no_grad():
            keys = method.key_encoder(pair(i)[1])[1]
        step(method, index, i)
        kept.append((index, torch.nn.functional.normalize(keys, dim=1)))
    # The fourth and fifth batch have taken the places of the first and second.
    for place, i in ((0, 3), (1, 4), (2, 2)):
        rows = slice(place * BATCH, (place + 1) * BATCH)
        assert torch.equal(method.queue_index[rows], kept[i][0])
        torch.testing.assert_close(method.queue[rows], kept[i][1])


def test_own_keys_are_no_negatives() -> None:
    method = made("moco", queue_size=BATCH)
    index = torch.arange(BATCH)
    step(method, index)
    result = method(*pair(1))
    assert isinstance(method, MoCo)
    others = method.loss(result, index + BATCH)  # other events: all keys count
    plain = moco_loss(result.x.latent, result.views.latent, method.queue)
    assert others.item() == pytest.approx(plain.item(), rel=1e-6)
    own = torch.eye(BATCH, dtype=torch.bool)
    without = moco_loss(result.x.latent, result.views.latent, method.queue, own=own)
    assert method.loss(result, index).item() == pytest.approx(without.item(), rel=1e-6)
    assert method.loss(result, index).item() < others.item()


@pytest.mark.parametrize(
    ("queue_size", "n_obs", "batch", "expected"),
    [(4096, 100, 32, 96), (64, 1000, 32, 64), (70, 1000, 32, 64), (4096, 32, 32, 32), (1, 1000, 32, 32)],
)
def test_size_of_the_queue(queue_size: int, n_obs: int, batch: int, expected: int) -> None:
    """A multiple of the batch, not more than there are events, and at least one batch."""
    method = MoCo(encoder(), MoCoSettings(queue_size=queue_size), Sizes(N_LATENT, n_obs, batch))
    assert len(method.queue) == expected


def test_key_encoder_is_a_running_average_with_its_statistics() -> None:
    method = made("moco", momentum=0.3)
    assert isinstance(method, MoCo)
    keys, buffers = weights(method.key_encoder), copy.deepcopy(dict(method.key_encoder.named_buffers()))
    for n in range(1, 6):
        step(method, torch.arange(BATCH), n)
        decay = warmed_decay(0.3, n)
        assert decay == min(0.3, (1 + n) / (10 + n))
        keys = decay * keys + (1 - decay) * weights(method.encoder)
        torch.testing.assert_close(weights(method.key_encoder), keys)
        theirs = dict(method.encoder.named_buffers())
        for name, buffer in method.key_encoder.named_buffers():
            if buffer.is_floating_point():
                buffers[name] = decay * buffers[name] + (1 - decay) * theirs[name]
                torch.testing.assert_close(buffer, buffers[name])


def test_keys_do_not_depend_on_their_batch() -> None:
    """Else batch normalisation would tell a query its key; the control is the encoder itself."""
    method = made("moco")
    assert isinstance(method, MoCo)
    x, views = pair()
    assert method.training and not method.key_encoder.training
    with torch.no_grad():
        whole, part = method(x, views), method(x[:3], views[:3])
    torch.testing.assert_close(whole.views.latent[:3], part.views.latent)
    assert not torch.allclose(whole.x.latent[:3], part.x.latent, atol=1e-2)
    method.eval()
    method.train()
    assert not method.key_encoder.training


# --- BYOL and SimSiam ------------------------------------------------------------------------------------------------


def test_target_of_byol_follows_the_schedule() -> None:
    method = made("byol", momentum=0.5)
    assert isinstance(method, BYOL)
    target = weights(method.target)
    assert torch.equal(target, weights(method.encoder))
    for k in range(5):
        step(method, torch.arange(BATCH), k, progress=k / 5)
        decay = cosine_momentum(0.5, k / 5)
        target = decay * target + (1 - decay) * weights(method.encoder)
        torch.testing.assert_close(weights(method.target), target)
    assert not torch.allclose(target, weights(method.encoder), atol=1e-3)


def test_byol_is_symmetric_and_predicts_the_other_view() -> None:
    method = made("byol")
    assert isinstance(method, BYOL)
    step(method, torch.arange(BATCH))  # apart from its target
    x, views = pair(3)
    both = torch.cat([x, views])
    with torch.no_grad():
        p, z = method.predictor(method.encoder(both)[1]), method.target(both)[1]
        found, swapped = (method.loss(method(*order), torch.arange(BATCH)) for order in ((x, views), (views, x)))
    expected = byol_loss(p[:BATCH], z[BATCH:]) + byol_loss(p[BATCH:], z[:BATCH])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert swapped.item() == pytest.approx(found.item(), rel=1e-5)
    own = byol_loss(p[:BATCH], z[:BATCH]) + byol_loss(p[BATCH:], z[BATCH:])
    assert own.item() != pytest.approx(found.item(), rel=1e-2)


def test_simsiam_is_symmetric_and_predicts_the_other_view() -> None:
    method = made("simsiam")
    assert isinstance(method, SimSiam)
    x, views = pair(3)
    with torch.no_grad():
        z = method.norm(method.encoder(torch.cat([x, views]))[1])
        p = method.predictor(z)
        found, swapped = (method.loss(method(*order), torch.arange(BATCH)) for order in ((x, views), (views, x)))
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(N_LATENT), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(dim=0, unbiased=False), torch.ones(N_LATENT), atol=1e-2, rtol=0)
    expected = simsiam_loss(p[:BATCH], z[BATCH:]) / 2 + simsiam_loss(p[BATCH:], z[:BATCH]) / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert swapped.item() == pytest.approx(found.item(), rel=1e-5)


@pytest.mark.parametrize(("n_hidden", "n_latent", "expected"), [(None, 128, 32), (None, 2, 2), (9, 128, 9)])
def test_bottleneck_of_simsiam(n_hidden: int | None, n_latent: int, expected: int) -> None:
    method = SimSiam(encoder(), SimSiamSettings(n_hidden), Sizes(n_latent, N_OBS, BATCH))
    assert method.predictor[0].out_features == expected  # type: ignore[index, union-attr]


# --- DINO ------------------------------------------------------------------------------------------------------------


def test_teacher_of_dino_by_hand() -> None:
    """Its weights, its prototypes, the centre and the temperature, step by step."""
    method = made("dino", n_prototypes=12, momentum=0.5, center_momentum=0.8)
    assert isinstance(method, DINO)
    parts = {"encoder": (method.teacher, method.encoder), "prototypes": (method.teacher_prototypes, method.prototypes)}
    mine = {name: weights(teacher) for name, (teacher, _) in parts.items()}
    assert all(torch.equal(mine[name], weights(student)) for name, (_, student) in parts.items())
    center = torch.zeros(12)
    for k in range(5):
        with torch.no_grad():
            x, views = pair(k)
            scores = method.teacher_prototypes(method.teacher(torch.cat([x, views]))[1])
        step(method, torch.arange(BATCH), k, progress=k / 5)
        center = 0.8 * center + 0.2 * scores.mean(dim=0)
        torch.testing.assert_close(method.center, center)
        assert method.teacher_temperature == warmed_temperature(0.04, 0.07, 0.3, k / 5)
        decay = cosine_momentum(0.5, k / 5)
        for name, (teacher, student) in parts.items():
            mine[name] = decay * mine[name] + (1 - decay) * weights(student)
            torch.testing.assert_close(weights(teacher), mine[name])
            assert not torch.allclose(mine[name], weights(student), atol=1e-3)
    assert center.abs().max() > 0.01


def test_dino_is_symmetric_and_looks_at_the_other_view() -> None:
    method = made("dino", n_prototypes=12)
    assert isinstance(method, DINO)
    step(method, torch.arange(BATCH))  # apart from its teacher, with a centre
    x, views = pair(3)
    both = torch.cat([x, views])
    with torch.no_grad():
        s, t = method.prototypes(method.encoder(both)[1]), method.teacher_prototypes(method.teacher(both)[1])
        found, swapped = (method.loss(method(*order), torch.arange(BATCH)) for order in ((x, views), (views, x)))

    def loss(student: Tensor, teacher: Tensor) -> float:
        return dino_loss(student, teacher, method.center, teacher_temperature=method.teacher_temperature).item()

    expected = (loss(s[:BATCH], t[BATCH:]) + loss(s[BATCH:], t[:BATCH])) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert swapped.item() == pytest.approx(found.item(), rel=1e-5)
    own = (loss(s[:BATCH], t[:BATCH]) + loss(s[BATCH:], t[BATCH:])) / 2
    assert own != pytest.approx(found.item(), rel=1e-3)


def test_prototypes_are_cosines() -> None:
    method = made("dino", n_prototypes=12)
    assert isinstance(method, DINO)
    z, w = torch.randn(3, N_LATENT, generator=torch.Generator().manual_seed(2)), method.prototypes.weight
    with torch.no_grad():
        found = method.prototypes(z)
    expected = [[torch.cosine_similarity(a, b, dim=0).item() for b in w] for a in z]
    torch.testing.assert_close(found, torch.tensor(expected))


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("simclr", "temperature", 0, "Expected `temperature` above 0, found 0.0"),
        ("moco", "temperature", -1.0, "Expected `temperature` above 0, found -1.0"),
        ("moco", "queue_size", 0, "Expected `queue_size` of at least 1, found 0"),
        ("moco", "momentum", 1.0, r"Expected `momentum` in \[0, 1\), found 1.0"),
        ("byol", "momentum", 1.1, r"Expected `momentum` in \[0, 1\], found 1.1"),
        ("byol", "n_hidden", 0, "Expected `n_hidden` of at least 1, found 0"),
        ("simsiam", "n_hidden", 0, "Expected `n_hidden` of at least 1 or None, found 0"),
        ("dino", "n_prototypes", 1, "Expected `n_prototypes` of at least 2, found 1"),
        ("dino", "student_temperature", 0.0, "Expected `student_temperature` above 0, found 0.0"),
        ("dino", "teacher_temperature_first", -1.0, "Expected `teacher_temperature_first` above 0, found -1.0"),
        ("dino", "teacher_temperature", 0.0, "Expected `teacher_temperature` above 0, found 0.0"),
        ("dino", "temperature_warmup", 1.5, r"Expected `temperature_warmup` in \[0, 1\], found 1.5"),
        ("dino", "center_momentum", 1.0, r"Expected `center_momentum` in \[0, 1\), found 1.0"),
        ("dino", "momentum", -0.1, r"Expected `momentum` in \[0, 1\], found -0.1"),
        ("dlme", "dof_semantic", 0.0, "Expected `dof_semantic` above 0, found 0.0"),
        ("dlme", "dof_latent", -1.0, "Expected `dof_latent` above 0, found -1.0"),
    ],
)
def test_bad_settings(name: str, setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _METHODS[name].Settings(**{setting: value})
    with pytest.raises(TypeError, match=f"Expected `{setting}` of type"):
        _METHODS[name].Settings(**{setting: "1"})


def test_defaults_are_those_of_the_docs() -> None:
    assert (MoCoSettings().temperature, MoCoSettings().momentum, BYOLSettings().momentum) == (0.2, 0.99, 0.99)
