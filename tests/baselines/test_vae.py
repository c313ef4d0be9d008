"""The bound against closed forms, and what a value is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from diffaug.baselines import VAESettings, evidence_lower_bound, kl_to_normal
from diffaug.baselines._event_networks import Letters, Reals
from diffaug.baselines._vae import VAE, Posterior

N, D, K = 400, 6, 2


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_gaussian() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Events x = W z + b + sigma noise with z ~ N(0, 1); the columns of W are orthogonal, so the posterior is diagonal."""
    rng = np.random.default_rng(0)
    w = np.linalg.qr(rng.normal(size=(D, K)))[0] * [2.0, 1.0]
    b, sigma = rng.normal(size=D), 0.5
    x = rng.normal(size=(N, K)) @ w.T + b + sigma * rng.normal(size=(N, D))
    return x, w, b, sigma


def linear_vae() -> VAE:
    torch.manual_seed(0)  # layers take no generator
    return VAE(nn.Identity(), D, nn.Linear(K, D), Reals(), K).double()


def bound(model: VAE, x: Tensor, noise: Tensor) -> Tensor:
    out, *posterior = model(x, noise)
    return evidence_lower_bound(model.values.log_likelihood(out, x), Posterior(*posterior))


def test_divergence_is_that_of_torch() -> None:
    posterior = Posterior(torch.randn(5, 3, generator=stream()), torch.randn(5, 3, generator=stream(1)))
    q = torch.distributions.Normal(posterior.mean, torch.exp(posterior.log_variance / 2))
    p = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(q, p).sum(dim=1)
    torch.testing.assert_close(kl_to_normal(posterior), expected)
    assert kl_to_normal(Posterior(torch.zeros(2, 3), torch.zeros(2, 3))).tolist() == [0, 0]


def test_bound_is_the_likelihood_at_the_exact_posterior_and_below_it_elsewhere() -> None:
    x, w, b, sigma = linear_gaussian()
    model = linear_vae()
    precision = 1 + (w**2).sum(axis=0) / sigma**2  # of the exact posterior
    with torch.no_grad():
        model.decoder.weight.copy_(torch.as_tensor(w))
        model.decoder.bias.copy_(torch.as_tensor(b))
        model.values.log_variance.fill_(2 * math.log(sigma))
        to_mean = w.T / sigma**2 / precision[:, None]
        model.head.weight.copy_(torch.as_tensor(np.concatenate([to_mean, np.zeros((K, D))])))
        model.head.bias.copy_(torch.as_tensor(np.concatenate([-to_mean @ b, -np.log(precision)])))
    exact = multivariate_normal(b, w @ w.T + sigma**2 * np.eye(D)).logpdf(x[:20])
    events = torch.as_tensor(x[:20]).repeat_interleave(4000, dim=0)
    noise = torch.randn(len(events), K, generator=stream(), dtype=torch.float64)
    with torch.no_grad():
        found = bound(model, events, noise).reshape(20, 4000)
        error = found.std(dim=1) / math.sqrt(4000)
        assert ((found.mean(dim=1) - torch.as_tensor(exact)).abs() < 5 * error).all()
        model.head.bias[:K] += 0.5  # another posterior
        shift = bound(model, events, noise).reshape(20, 4000).mean(dim=1)
    # The gap is the divergence of the posterior from the exact one: 0.5 * precision * shift^2 for a shifted mean.
    gap = torch.as_tensor(exact) - shift
    torch.testing.assert_close(gap, torch.full_like(gap, 0.5 * 0.25 * precision.sum()), atol=0.15, rtol=0)


def test_training_reaches_the_best_linear_model() -> None:
    """Probabilistic principal components (Tipping and Bishop 1999) have the largest likelihood there is, in closed form."""
    x, *_ = linear_gaussian()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    rest = eigenvalues[K:].mean()
    best = -0.5 * (D * math.log(2 * math.pi) + np.log(eigenvalues[:K]).sum() + (D - K) * math.log(rest) + D)
    model, events, g = linear_vae(), torch.as_tensor(x), stream()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(500):
        loss = -bound(model, events, torch.randn(N, K, generator=g, dtype=torch.float64)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        many = events.repeat_interleave(50, dim=0)
        found = bound(model, many, torch.randn(len(many), K, generator=g, dtype=torch.float64)).mean().item()
    assert best - 0.1 < found < best + 0.02
    assert model.values.log_variance.exp().item() == pytest.approx(rest, rel=0.1)


def test_letters_are_as_likely_as_their_shares() -> None:
    out = torch.randn(3, 5, 4, generator=stream())
    shares = torch.softmax(out, dim=1).numpy()
    letter = torch.randint(5, (3, 4), generator=stream(1))  # 4 is none
    events = 2 * nn.functional.one_hot(letter, 5).movedim(-1, 1).float()[:, :4] - 1
    expected = [sum(math.log(shares[i, letter[i, j], j]) for j in range(4)) for i in range(3)]
    np.testing.assert_allclose(Letters().log_likelihood(out, events).numpy(), expected, rtol=1e-5)


def test_letters_are_drawn_from_their_shares_with_their_gradient() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5])
    out = logits[None, :, None].expand(1, 5, 20_000).clone().requires_grad_()
    drawn = Letters().drawn(out, stream())
    assert drawn.shape == (1, 4, 20_000)
    hard = drawn.detach().round()
    torch.testing.assert_close(drawn.detach(), hard)
    assert set(hard.unique().tolist()) == {-1.0, 1.0}
    counts = (hard[0] > 0).sum(dim=1).numpy() / 20_000
    np.testing.assert_allclose(counts, torch.softmax(logits, 0)[:4].numpy(), atol=0.015)
    assert ((hard[0] > 0).sum(dim=0) <= 1).all() and (hard[0] < 0).all(dim=0).float().mean() > 0.05  # none, at some
    drawn[:, 0].sum().backward()
    assert out.grad is not None and out.grad[:, 0].mean() > 0 > out.grad[:, 1].mean()


def test_reals_are_normal() -> None:
    values, out = Reals(), torch.randn(4, 3, 2, generator=stream())
    with torch.no_grad():
        values.log_variance.fill_(0.7)
        x = torch.randn(4, 3, 2, generator=stream(1))
        expected = torch.distributions.Normal(out, math.exp(0.35)).log_prob(x).sum(dim=(1, 2))
        torch.testing.assert_close(values.log_likelihood(out, x), expected)
        assert values.drawn(out, stream()) is out


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_code", 0, "Expected `n_code` of at least 1, found 0"),
        ("width", 0, "Expected `width` of at least 1, found 0"),
        ("beta", 0.0, "Expected `beta` above 0, found 0.0"),
        ("beta_warmup", 1.1, r"Expected `beta_warmup` in \[0, 1\], found 1.1"),
    ],
)
def test_bad_settings(setting: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAESettings(**{setting: value})
