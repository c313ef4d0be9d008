"""A variational autoencoder as a maker of views (Kingma and Welling 2014, "Auto-encoding variational Bayes")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffaug.baselines._event_networks import Layout, Values
from diffaug.core.config import check_fields

#: Logarithm of a posterior's variance stays within plus and minus this.
_LOG_VARIANCE = 10.0


class Posterior(NamedTuple):
    """Normal distribution of the code of each event: ``mean`` and ``log_variance``, shape ``(batch, n_code)``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Codes from standard normal ``noise`` of the same shape."""
        return self.mean + torch.exp(self.log_variance / 2) * noise


def kl_to_normal(posterior: Posterior) -> Tensor:
    """Kullback-Leibler divergence of each event's posterior from the standard normal prior, in nats, shape ``(batch,)``."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def evidence_lower_bound(log_likelihood: Tensor, posterior: Posterior, beta: float = 1.0) -> Tensor:
    """The bound of each event's log-likelihood (Eq. 3 of the paper), in nats, shape ``(batch,)``.

    Parameters
    ----------
    log_likelihood
        Of each event under a decoded sample of its posterior.
    posterior
        Of the codes.
    beta
        Weight of the divergence; other than 1 it is no bound any more.
    """
    return log_likelihood - beta * kl_to_normal(posterior)


@dataclass(frozen=True)
class VAESettings:
    """Settings of the variational autoencoder.

    Parameters
    ----------
    n_code
        Width of the code.
    beta
        Weight of the divergence from the prior. More than 1 makes views less like their event.
    beta_warmup
        Share of the steps over which ``beta`` rises from 0 in training: else the code of a strong decoder may stay empty
        (Bowman et al. 2016).
    width
        Channels of the convolutions at full resolution; networks of vectors have layers eight times as wide.
    """

    n_code: int = 32
    beta: float = 1.0
    beta_warmup: float = 0.3
    width: int = 32

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("n_code", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected `{name}` of at least 1, found {getattr(self, name)}.")
        if not self.beta > 0:
            raise ValueError(f"Expected `beta` above 0, found {self.beta}.")
        if not 0 <= self.beta_warmup <= 1:
            raise ValueError(f"Expected `beta_warmup` in [0, 1], found {self.beta_warmup}.")


class VAE(nn.Module):
    """Encoder to a posterior of codes, and decoder.

    Parameters
    ----------
    body
        Network from events to ``n_features`` features.
    decoder
        Network from codes to what ``values`` read.
    values
        What the numbers of an event are.
    """

    def __init__(self, body: nn.Module, n_features: int, decoder: nn.Module, values: Values, n_code: int) -> None:
        super().__init__()
        self.body, self.decoder, self.values = body, decoder, values
        self.head = nn.Linear(n_features, 2 * n_code)

    @classmethod
    def of(cls, layout: Layout, settings: VAESettings) -> VAE:
        """The networks of a kind of event."""
        body, n_features = layout.body(normalised=True)
        return cls(body, n_features, layout.decoder(settings.n_code), layout.Values(), settings.n_code)

    def posterior(self, events: Tensor) -> Posterior:
        """Of the codes of events."""
        mean, log_variance = self.head(self.body(events)).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE))

    def forward(self, events: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's output for one sample of each posterior, and the posterior's mean and log-variance."""
        posterior = self.posterior(events)
        return self.decoder(posterior.sample(noise)), *posterior
