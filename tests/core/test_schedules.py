"""Noise schedules against their formulas and against diffusers; times and log-SNR as an inverse pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffaug.core.schedules import SCHEDULES, NoiseSchedule

T_VALUES = (2, 50, 1000)


@pytest.mark.parametrize("n_timesteps", [50, 200, 1000])
def test_linear_is_ho_et_al(n_timesteps: int) -> None:
    """Their betas at T = 1000, and 1000 / T times as large for another T."""
    schedule = NoiseSchedule("linear", n_timesteps)
    alpha_bar, expected = 1.0, []
    for t in range(n_timesteps):
        beta = 1e-4 + (2e-2 - 1e-4) * t / (n_timesteps - 1)
        alpha_bar *= 1 - beta * 1000 / n_timesteps
        expected.append(alpha_bar)
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), expected, rtol=1e-11)


@pytest.mark.parametrize("n_timesteps", [50, 1000])
def test_cosine_is_nichol_and_dhariwal(n_timesteps: int) -> None:
    def f(t: float) -> float:
        return math.cos((t / n_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2

    # Where the betas stay below their cap of 0.999, alpha_bar is f(t) / f(0); the paper's t counts from 1.
    expected = [f(t + 1) / f(0) for t in range(n_timesteps - 1)]
    found = NoiseSchedule("cosine", n_timesteps).alpha_bar.numpy()
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-9)
    assert found[-1] == pytest.approx(found[-2] * 0.001)


@pytest.mark.parametrize(("name", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_alpha_bar_is_diffusers(name: str, theirs: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    oracle = diffusers.DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=2e-2, beta_schedule=theirs
    ).alphas_cumprod.numpy()
    found = NoiseSchedule(name, 1000).alpha_bar.numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(found, oracle, rtol=2e-4)  # theirs is a product of a thousand float32 numbers


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_timesteps", [10, 20, 50, 200, 1000, 4000])
def test_schedule_goes_from_clean_to_noise(name: str, n_timesteps: int) -> None:
    """Whatever T is: without the scaled betas, T = 50 would end with 60 % of the signal."""
    schedule = NoiseSchedule(name, n_timesteps)  # type: ignore[arg-type]
    assert schedule.alpha_bar.dtype == torch.float64
    assert schedule.alpha_bar[-1] < 1e-4 and schedule.alpha_bar[0] > 0.97
    assert (schedule.alpha_bar.diff() < 0).all() and (schedule.log_snr.diff() < 0).all()
    assert schedule.log_snr.isfinite().all()


def test_unscaled_betas_would_leave_signal_at_50_steps() -> None:
    """The control of the scaling."""
    unscaled = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 50, dtype=torch.float64), dim=0)
    assert unscaled[-1] > 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_and_coefficients_agree_with_alpha_bar(name: str) -> None:
    schedule = NoiseSchedule(name, 200)  # type: ignore[arg-type]
    t = torch.arange(200)
    expected = torch.log(schedule.alpha_bar.sqrt() / (1 - schedule.alpha_bar).sqrt())
    torch.testing.assert_close(schedule.log_snr_at(t), expected, rtol=1e-9, atol=1e-9)
    signal, noise = schedule.signal_noise_at(t)
    torch.testing.assert_close(signal, schedule.alpha_bar.sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(noise, (1 - schedule.alpha_bar).sqrt(), rtol=1e-12, atol=0)
    assert signal.dtype == noise.dtype == torch.float64


def test_coefficients_preserve_variance_between_the_discrete_times() -> None:
    t = torch.linspace(0, 99, 331, dtype=torch.float64)
    signal, noise = NoiseSchedule("linear", 100).signal_noise_at(t)
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(331, dtype=torch.float64), rtol=1e-12, atol=0)
    assert (signal.diff() < 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_timesteps", T_VALUES)
def test_time_and_log_snr_are_an_inverse_pair(name: str, n_timesteps: int) -> None:
    schedule = NoiseSchedule(name, n_timesteps)  # type: ignore[arg-type]

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.floats(0, n_timesteps - 1), min_size=1, max_size=20))
    def check(times: list[float]) -> None:
        t = torch.tensor(times, dtype=torch.float64)
        value = schedule.log_snr_at(t)
        torch.testing.assert_close(schedule.time_of(value), t, rtol=0, atol=1e-7 * n_timesteps / 100)
        torch.testing.assert_close(schedule.log_snr_at(schedule.time_of(value)), value, rtol=0, atol=1e-9)

    check()


def test_times_outside_the_schedule_are_clamped() -> None:
    schedule = NoiseSchedule("linear", 100)
    ends = schedule.log_snr[[0, -1]]
    assert torch.equal(schedule.log_snr_at(torch.tensor([-5.0, 500.0])), ends)
    assert schedule.time_of(torch.tensor([1e3, -1e3])).tolist() == [0.0, 99.0]


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(SCHEDULES),
    n_timesteps=st.integers(2, 1200),
    share=st.floats(0, 1),
    strength=st.floats(0.01, 1),
    spacing=st.sampled_from(("trailing", "log_snr")),
)
def test_sampling_times(name: str, n_timesteps: int, share: float, strength: float, spacing: str) -> None:
    """As many times as asked for, strictly decreasing, inside the schedule, from the start on."""
    schedule = NoiseSchedule(name, n_timesteps)  # type: ignore[arg-type]
    t_start = strength * (n_timesteps - 1)
    n_steps = 1 + int(share * int(t_start))
    times = schedule.sampling_times(n_steps, spacing, t_start)  # type: ignore[arg-type]
    assert times.shape == (n_steps,) and times.dtype == torch.float64
    assert (times.diff() < 0).all()
    assert times.min() >= 0 and times.max() <= n_timesteps - 1
    assert abs(times[0].item() - t_start) <= (0.5 + 1e-6 if spacing == "trailing" else 1e-6)


@pytest.mark.parametrize("n_steps", [1, 7, 20, 50, 1000])
def test_trailing_times_are_those_of_lin_et_al(n_steps: int) -> None:
    """Lin et al. (2024), Table 2: round(arange(T, 0, -T / S)) - 1."""
    expected = np.arange(1000, 0, -1000 / n_steps).round()[:n_steps] - 1
    found = NoiseSchedule("linear", 1000).sampling_times(n_steps, "trailing")
    assert found.tolist() == expected.tolist()


def test_log_snr_times_are_even_in_log_snr_and_end_at_the_first_time() -> None:
    schedule = NoiseSchedule("linear", 1000)
    times = schedule.sampling_times(20, "log_snr")
    steps = schedule.log_snr_at(times).diff()
    torch.testing.assert_close(steps, steps.mean().expand(19), rtol=1e-9, atol=0)
    assert times[0].item() == 999 and times[-1].item() == 0
    trailing = schedule.sampling_times(20, "trailing")  # the control: the other spacing is uneven, and ends early
    uneven = schedule.log_snr_at(trailing).diff()
    assert uneven.max() > 2 * uneven.min() and trailing[-1].item() == 49


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"Expected `schedule` in \['linear', 'cosine'\], found 'sigmoid'"):
        NoiseSchedule("sigmoid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected at least 2 timesteps, found 1"):
        NoiseSchedule("linear", 1)
    schedule = NoiseSchedule("linear", 100)
    for n_steps in (0, 101):
        with pytest.raises(ValueError, match=f"Expected `n_steps` between 1 and .*100.*, found {n_steps}"):
            schedule.sampling_times(n_steps, "trailing")
    with pytest.raises(ValueError, match=r"Expected `spacing` in \['trailing', 'log_snr'\], found 'karras'"):
        schedule.sampling_times(10, "karras")  # type: ignore[arg-type]


def test_more_trailing_steps_than_times_left() -> None:
    """Five times are left from t = 4 on: ten steps would repeat some and leave the schedule."""
    schedule = NoiseSchedule("linear", 100)
    assert schedule.sampling_times(5, "trailing", 4.0).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="Expected `n_steps` between 1 and 5, .*found 10"):
        schedule.sampling_times(10, "trailing", 4.0)
