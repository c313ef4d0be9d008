"""The U-Net of Listing 1: shapes, where it attends, and what it knows of time and condition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffaug.backends._unet import SelfAttention, UNet


def inputs(size: tuple[int, int], n_channels: int = 3, n: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, n_channels, *size, generator=g), torch.tensor([3, 700])[:n], torch.randn(n, 9, generator=g)


def attended(network: UNet, size: tuple[int, int], n_channels: int = 3) -> list[int]:
    """Sides of the maps that attend, in order."""
    found: list[int] = []
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_hook(lambda _, args, __: found.append(max(args[0].shape[2:])))
    network(*inputs(size, n_channels, 1))
    return found


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 14), (40, 33)])
def test_any_size(size: tuple[int, int], n_channels: int) -> None:
    x, t, cond = inputs(size, n_channels)
    out = UNet(n_channels, 9, 4, image_size=size)(x, t, cond)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


def test_widths_are_those_of_the_listing() -> None:
    network = UNet(3, 9, image_size=(32, 32))
    maps = []
    for module in (network.inp, *network.downs, network.bottom, *network.ups):
        module.register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape[1:])))
    network(*inputs((32, 32)))
    down = [(16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4)]
    assert maps == [*down, (64, 4, 4), (32, 8, 8), (16, 16, 16), (16, 32, 32)]


@pytest.mark.parametrize(
    ("side", "attention", "expected"),
    [
        (32, "full", [16, 8, 4, 8, 16, 32]),
        (32, "limited", [16, 8, 4, 8, 16, 32]),
        (32, "coarse", [16, 8, 4, 8, 16]),
        (33, "limited", [16, 8, 4, 8, 16]),
        (64, "limited", [16, 8, 16]),
        (64, "coarse", [16, 8, 16]),
        (64, "full", [32, 16, 8, 16, 32, 64]),
        (8, "coarse", [4, 2, 1, 2, 4, 8]),
    ],
)
def test_where_it_attends(side: int, attention: str, expected: list[int]) -> None:
    network = UNet(3, 9, 4, image_size=(side, side), attention=attention)  # type: ignore[arg-type]
    assert attended(network, (side, side)) == expected


def test_the_longer_side_decides() -> None:
    assert attended(UNet(1, 9, 4, image_size=(8, 40)), (8, 40), 1) == [10, 5, 10]


def test_attention_is_softmax_attention() -> None:
    """Against torch's own module with the same weights."""
    layer = SelfAttention(8)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    oracle = nn.MultiheadAttention(8, 4, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(layer.qkv.weight)
        oracle.in_proj_bias.copy_(layer.qkv.bias)
        oracle.out_proj.weight.copy_(layer.out.weight)
        oracle.out_proj.bias.copy_(layer.out.bias)
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    tokens = x.flatten(2).transpose(1, 2)
    normed = layer.norm(tokens)
    expected = tokens + oracle(normed, normed, normed)[0]
    expected = expected + layer.feed(expected)
    torch.testing.assert_close(layer(x).flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_time_and_condition_matter_to_each_image_alone() -> None:
    network = UNet(3, 9, 4, image_size=(8, 8))
    x, t, cond = inputs((8, 8))
    out = network(x, t, cond)
    for other in (network(x, t.flip(0), cond), network(x, t, cond.flip(0)), network(x.flip(0), t, cond)):
        assert (out - other).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    later = network(x, torch.tensor([3, 10]), cond)
    assert torch.equal(later[0], out[0]) and not torch.equal(later[1], out[1])


def test_one_time_serves_the_whole_batch() -> None:
    network = UNet(3, 9, 4, image_size=(8, 8))
    x, _, cond = inputs((8, 8))
    torch.testing.assert_close(network(x, torch.tensor([5.0]), cond), network(x, torch.tensor([5, 5]), cond))


def test_the_condition_has_a_fixed_scale() -> None:
    """A semantic vector a hundred times as long says the same."""
    network = UNet(3, 9, 4, image_size=(8, 8))
    x, t, cond = inputs((8, 8))
    torch.testing.assert_close(network(x, t, cond), network(x, t, 100 * cond), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [0, 2, 6])
def test_heads_divide_the_width(width: int) -> None:
    with pytest.raises(ValueError, match=f"Expected `width` to be a multiple of 4 .* found {width}"):
        UNet(3, 9, width, image_size=(8, 8))
