"""Small networks for the rivals of the diffusion model: events to features, features to events, and what a value is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Networks of vectors have layers so many times as wide as the first convolution would be.
_VECTOR_FACTOR = 8
_HALVINGS = 3


class Values(nn.Module, ABC):
    """What the numbers of an event are: how likely given ones are under a decoder's output, and how to draw from it."""

    @abstractmethod
    def log_likelihood(self, out: Tensor, events: Tensor) -> Tensor:
        """Of each event, in nats, shape ``(batch,)``."""

    @abstractmethod
    def drawn(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Events, of the shape that the generator's space has; a gradient reaches ``out``."""


class Reals(Values):
    """Independent normal values of one variance for all, which is learnt; what is drawn is their mean.

    Drawing with that variance would put the same white noise on every value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def log_likelihood(self, out: Tensor, events: Tensor) -> Tensor:
        square = (events - out).flatten(1).square() * torch.exp(-self.log_variance)
        return -0.5 * (square + self.log_variance + math.log(2 * math.pi)).sum(dim=1)

    def drawn(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return out


class Letters(Values):
    """One letter at each position, or none, from the decoder's shares: ``out`` has a channel more than the events.

    Events are plus 1 at the letter and minus 1 elsewhere, and all minus 1 where there is none. What is drawn is such an
    event too, by the Gumbel trick; its gradient is that of the shares (Jang et al. 2017, straight-through).
    """

    def log_likelihood(self, out: Tensor, events: Tensor) -> Tensor:
        value, letter = events.max(dim=1)
        letter = torch.where(value > 0, letter, events.shape[1])
        return -F.cross_entropy(out, letter, reduction="none").sum(dim=1)

    def drawn(self, out: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(out.shape, generator=generator, device=out.device).clamp(1e-9, 1 - 1e-7)
        shares = F.softmax(out - torch.log(-torch.log(uniform)), dim=1)
        hard = F.one_hot(shares.argmax(dim=1), out.shape[1]).movedim(-1, 1).to(shares)
        return 2 * (hard + shares - shares.detach())[:, :-1] - 1


class Layout(ABC):
    """Networks for one kind of event.

    Parameters
    ----------
    event_shape
        Shape of an event.
    width
        Channels of the convolutions at full resolution.
    """

    #: What the values of an event are.
    Values: type[Values] = Reals

    def __init__(self, event_shape: tuple[int, ...], width: int) -> None:
        self.event_shape, self.width = event_shape, width

    @abstractmethod
    def body(self, *, normalised: bool) -> tuple[nn.Module, int]:
        """Network from events to features, and their number; without normalisation for a discriminator."""

    @abstractmethod
    def decoder(self, n_in: int) -> nn.Module:
        """Network from ``n_in`` numbers to what :class:`Values` read."""


class VectorLayout(Layout):
    """Two hidden layers; events of any shape are taken as vectors."""

    def body(self, *, normalised: bool) -> tuple[nn.Module, int]:
        n, hidden = math.prod(self.event_shape), _VECTOR_FACTOR * self.width
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in in (n, hidden):
            layers += [nn.Linear(n_in, hidden), *[nn.LayerNorm(hidden)] * normalised, nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers), hidden

    def decoder(self, n_in: int) -> nn.Module:
        n, hidden = math.prod(self.event_shape), _VECTOR_FACTOR * self.width
        layers: list[nn.Module] = []
        for a in (n_in, hidden):
            layers += [nn.Linear(a, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Linear(hidden, n), nn.Unflatten(1, self.event_shape))


class ImageLayout(Layout):
    """Convolutions over height and width; values in [-1, 1]."""

    def body(self, *, normalised: bool) -> tuple[nn.Module, int]:
        size, n_channels = self._planes()
        return _conv_body(_Planes(), n_channels, size, self.width, normalised)

    def decoder(self, n_in: int) -> nn.Module:
        size, n_channels = self._planes()
        last = nn.Sequential(nn.Tanh(), _Pixels(grey=len(self.event_shape) == 2))
        return nn.Sequential(_ConvDecoder(n_in, n_channels, size, self.width), last)

    def _planes(self) -> tuple[tuple[int, ...], int]:
        return self.event_shape[:2], self.event_shape[2] if len(self.event_shape) == 3 else 1


class SequenceLayout(Layout):
    """Convolutions along the sequence; a letter or none at each position."""

    Values = Letters

    def body(self, *, normalised: bool) -> tuple[nn.Module, int]:
        return _conv_body(nn.Identity(), self.event_shape[0], self.event_shape[1:], self.width, normalised)

    def decoder(self, n_in: int) -> nn.Module:
        return _ConvDecoder(n_in, self.event_shape[0] + 1, self.event_shape[1:], self.width)


#: Layouts by the name of a backend. All others have vectors.
LAYOUTS: dict[str, type[Layout]] = {"vision": ImageLayout, "dna": SequenceLayout}


def layout_of(backend: str, event_shape: tuple[int, ...], width: int) -> Layout:
    """The networks of a domain."""
    return LAYOUTS.get(backend, VectorLayout)(event_shape, width)


class _Planes(nn.Module):
    """Channels in front, also where a grey image has none."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None] if x.ndim == 3 else x.movedim(-1, 1)


class _Pixels(nn.Module):
    """Inverse of :class:`_Planes`."""

    def __init__(self, *, grey: bool) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.grey else x.movedim(1, -1)


def _sizes(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The size, half of it, and so on, rounded up as strided convolutions do."""
    found = [tuple(size)]
    for _ in range(_HALVINGS):
        found.append(tuple(-(-n // 2) for n in found[-1]))
    return found


def _convolution(n_dims: int) -> Callable[..., nn.Module]:
    return nn.Conv1d if n_dims == 1 else nn.Conv2d


def _conv_body(
    first: nn.Module, n_channels: int, size: tuple[int, ...], width: int, normalised: bool
) -> tuple[nn.Module, int]:
    """A convolution at full resolution and one for each halving, then all features of all places."""
    conv, layers = _convolution(len(size)), [first]
    widths = [n_channels, width, 2 * width, 4 * width, 4 * width]
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [conv(a, b, 3, stride=1 if i == 0 else 2, padding=1), *[nn.GroupNorm(1, b)] * normalised]
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Flatten()), widths[-1] * math.prod(_sizes(size)[-1])


class _ConvDecoder(nn.Module):
    """A linear layer to the smallest map, then doublings, each with a convolution."""

    def __init__(self, n_in: int, n_out: int, size: tuple[int, ...], width: int) -> None:
        super().__init__()
        conv, self.sizes = _convolution(len(size)), _sizes(size)[::-1]
        widths = [4 * width, 4 * width, 2 * width, width]
        self.first = nn.Sequential(
            nn.Linear(n_in, widths[0] * math.prod(self.sizes[0])), nn.Unflatten(1, (widths[0], *self.sizes[0]))
        )
        self.convs = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, a), nn.LeakyReLU(0.2), conv(a, b, 3, padding=1))
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.last = nn.Sequential(nn.GroupNorm(1, width), nn.LeakyReLU(0.2), conv(width, n_out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for size, convolve in zip(self.sizes[1:], self.convs, strict=True):
            h = convolve(F.interpolate(h, size=size, mode="nearest"))
        return self.last(h)
