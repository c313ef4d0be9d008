"""Noising, targets and the training loss against diffusers and as round trips in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffaug.core.diffusion import PREDICTION_TYPES, GaussianDiffusion
from diffaug.core.schedules import SCHEDULES, NoiseSchedule


def events(shape: tuple[int, ...] = (40, 7), seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64), torch.randn(shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("event", [(7,), (3, 4, 4)])
def test_perfect_prediction_gives_back_the_clean_event(prediction_type: str, name: str, event: tuple[int, ...]) -> None:
    diffusion = GaussianDiffusion(NoiseSchedule(name, 100), prediction_type)  # type: ignore[arg-type]
    x0, noise = events((100, *event))
    t = torch.arange(100)
    x_t = diffusion.add_noise(x0, t, noise)
    found = diffusion.to_x0(diffusion.target(x0, t, noise), x_t, t)
    torch.testing.assert_close(found, x0, rtol=0, atol=1e-9)


def test_noised_event_is_eq_4_of_ho_et_al() -> None:
    schedule = NoiseSchedule("linear", 1000)
    x0, noise = events((3, 5))
    t = torch.tensor([0, 500, 999])
    found = GaussianDiffusion(schedule).add_noise(x0, t, noise)
    for i, step in enumerate(t.tolist()):
        a = schedule.alpha_bar[step]
        torch.testing.assert_close(found[i], a**0.5 * x0[i] + (1 - a) ** 0.5 * noise[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("event", [(7,), (3, 4, 4)])
def test_noise_and_velocity_are_diffusers(event: tuple[int, ...]) -> None:
    diffusers = pytest.importorskip("diffusers")
    oracle = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=2e-2, beta_schedule="linear")
    schedule = NoiseSchedule("linear", 1000)
    oracle.alphas_cumprod = schedule.alpha_bar  # in float64; test_schedules.py compares their float32 values
    x0, noise = events((50, *event))
    t = torch.randint(1000, (50,), generator=torch.Generator().manual_seed(1))
    diffusion = GaussianDiffusion(schedule, "v")
    torch.testing.assert_close(
        diffusion.add_noise(x0, t, noise), oracle.add_noise(x0, noise, t), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        diffusion.target(x0, t, noise), oracle.get_velocity(x0, noise, t), rtol=1e-12, atol=1e-12
    )


def test_targets_of_the_other_prediction_types() -> None:
    x0, noise = events()
    t = torch.arange(40)
    schedule = NoiseSchedule("linear", 40)
    assert torch.equal(GaussianDiffusion(schedule, "epsilon").target(x0, t, noise), noise)
    assert torch.equal(GaussianDiffusion(schedule, "x0").target(x0, t, noise), x0)


def test_variance_is_preserved() -> None:
    x0, noise = events((40_000, 1))
    t = torch.arange(40).repeat_interleave(1000)
    x_t = GaussianDiffusion(NoiseSchedule("linear", 40)).add_noise(x0, t, noise).reshape(40, 1000)
    assert (x_t.var(dim=1) - 1).abs().max() < 0.2  # five standard errors of a variance of 1000 normal numbers


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_loss_is_the_mean_squared_error_to_the_target(prediction_type: str) -> None:
    """A denoiser that knows x0 has no loss; the zero denoiser's loss is the target's mean square."""
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100), prediction_type)  # type: ignore[arg-type]
    x0, _ = events((400, 30))
    cond = torch.zeros(400, 2, dtype=torch.float64)

    def knows(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        a, s = diffusion.coefficients(t, x0)
        return diffusion.target(x0, t, (x_t - a * x0) / s)

    g = torch.Generator()
    assert diffusion.loss(knows, x0, cond, g.manual_seed(0)).item() < 1e-18
    zero = diffusion.loss(lambda x_t, t, cond: torch.zeros_like(x_t), x0, cond, g.manual_seed(0)).item()
    assert zero == pytest.approx(1, abs=0.06)  # x0 and the noise, hence v, have unit variance: 12,000 numbers


def test_loss_visits_all_times_and_both_ends() -> None:
    seen: list[Tensor] = []

    def watch(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        seen.append(t)
        return x_t

    x0 = torch.zeros(2000, 1)
    GaussianDiffusion(NoiseSchedule("linear", 10)).loss(watch, x0, x0, torch.Generator().manual_seed(0))
    counts = torch.bincount(seen[0], minlength=10)
    assert len(counts) == 10
    assert (counts - 200).square().sum() / 200 < 27.9  # chi-square, 9 degrees of freedom, 0.1 %


def test_loss_is_reproducible_with_a_generator() -> None:
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100))
    x0, cond = events()
    layer = nn.Linear(7, 7, dtype=torch.float64)

    def loss(seed: int) -> float:
        g = torch.Generator().manual_seed(seed)
        return diffusion.loss(lambda x_t, t, c: layer(x_t + c), x0, cond, g).item()

    torch.manual_seed(0)
    first = loss(3)
    torch.manual_seed(1)  # the global state plays no part
    assert loss(3) == first
    assert loss(4) != first


def test_no_gradient_flows_into_the_condition() -> None:
    """The B-step leaves the encoder alone."""
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100))
    x0, _ = events()
    encoder, denoiser = nn.Linear(7, 7, dtype=torch.float64), nn.Linear(14, 7, dtype=torch.float64)
    cond = encoder(x0)
    loss = diffusion.loss(lambda x_t, t, c: denoiser(torch.cat([x_t, c], dim=1)), x0, cond, torch.Generator())
    loss.backward()
    assert encoder.weight.grad is None
    assert denoiser.weight.grad is not None and denoiser.weight.grad[:, 7:].abs().max() > 0


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance(prediction_type: str, scale: float) -> None:
    """null + w (conditional - null), in the space of the prediction; the null condition is the zero vector."""
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100), prediction_type)  # type: ignore[arg-type]
    x_t, cond = events()
    t = torch.full((40,), 60)
    null_seen = 0

    def denoiser(x: Tensor, time: Tensor, c: Tensor) -> Tensor:
        nonlocal null_seen
        null_seen += bool((c == 0).all())
        return torch.tanh(x + c) + c**2

    found = diffusion.predictor(denoiser, cond, scale)(x_t, t)
    conditional, null = torch.tanh(x_t + cond) + cond**2, torch.tanh(x_t)
    expected = diffusion.to_x0((1 - scale) * null + scale * conditional, x_t, t)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert null_seen == (scale != 1)  # plain sampling costs one evaluation


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_clip_bounds_the_predicted_event_and_nothing_else(prediction_type: str) -> None:
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100), prediction_type)  # type: ignore[arg-type]
    x_t, prediction = events()
    t = torch.full((40,), 60)
    free = diffusion.predictor(lambda x, time, c: prediction, x_t)(x_t, t)
    assert free.abs().max() > 1.5  # control: there is something to clip
    clipped = diffusion.predictor(lambda x, time, c: prediction, x_t, clip_x0=1.0)(x_t, t)
    assert torch.equal(clipped, free.clamp(-1, 1))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_one_time_serves_the_whole_batch(prediction_type: str) -> None:
    diffusion = GaussianDiffusion(NoiseSchedule("linear", 100), prediction_type)  # type: ignore[arg-type]
    x_t, prediction = events()
    once = diffusion.to_x0(prediction, x_t, torch.tensor([60.5]))
    torch.testing.assert_close(once, diffusion.to_x0(prediction, x_t, torch.full((40,), 60.5)), rtol=1e-12, atol=0)


def test_unknown_prediction_type() -> None:
    with pytest.raises(ValueError, match=r"Expected `prediction_type` in \['epsilon', 'v', 'x0'\], found 'score'"):
        GaussianDiffusion(NoiseSchedule(), "score")  # type: ignore[arg-type]
