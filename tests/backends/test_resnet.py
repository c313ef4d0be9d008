"""Residual networks: names and numbers of weights of the published architecture, and how the layers are joined."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffaug.backends._resnet import ResNet

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def norm_names(name: str, n: int) -> list[tuple[str, tuple[int, ...]]]:
    """Entries of a batch normalisation over ``n`` channels."""
    return [(f"{name}.{key}", (n,)) for key in ("weight", "bias", "running_mean", "running_var")] + [
        (f"{name}.num_batches_tracked", ())
    ]


def published_resnet18() -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes, in order, of the weights that torchvision publishes for ResNet-18."""
    found: list[tuple[str, tuple[int, ...]]] = [("conv1.weight", (64, 3, 7, 7)), *norm_names("bn1", 64)]
    for stage, (n_in, n) in enumerate(((64, 64), (64, 128), (128, 256), (256, 512)), start=1):
        for block, first in ((0, n_in), (1, n)):
            at = f"layer{stage}.{block}"
            found += [(f"{at}.conv1.weight", (n, first, 3, 3)), *norm_names(f"{at}.bn1", n)]
            found += [(f"{at}.conv2.weight", (n, n, 3, 3)), *norm_names(f"{at}.bn2", n)]
            if first != n:
                found += [(f"{at}.downsample.0.weight", (n, first, 1, 1)), *norm_names(f"{at}.downsample.1", n)]
    return [*found, ("fc.weight", (1000, 512)), ("fc.bias", (1000,))]


def shapes(network: ResNet) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in network.state_dict().items()]


def n_weights(network: ResNet) -> int:
    return sum(p.numel() for p in network.parameters())


def test_resnet18_has_the_published_names_and_shapes() -> None:
    assert len(published_resnet18()) == 122
    assert shapes(ResNet("resnet18", stem="imagenet", n_out=1000)) == published_resnet18()


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_numbers_of_weights_are_the_published_ones(name: str, expected: int) -> None:
    assert n_weights(ResNet(name, stem="imagenet", n_out=1000)) == expected  # type: ignore[arg-type]


def test_small_stem() -> None:
    """The count of ResNet-18 for CIFAR-10 in the literature; all names but the stem's shape stay."""
    small = ResNet("resnet18", n_out=10)
    assert n_weights(small) == 11_173_962
    differing = {a for a, b in zip(shapes(small), published_resnet18(), strict=True) if a != b}
    assert differing == {("conv1.weight", (64, 3, 3, 3)), ("fc.weight", (10, 512)), ("fc.bias", (10,))}


def test_published_weights_load() -> None:
    """A state under the published names, and not one under others."""
    state = {name: torch.full(shape, 0.5) for name, shape in published_resnet18()}
    network = ResNet("resnet18", stem="imagenet", n_out=1000)
    network.load_state_dict(state)
    assert all(bool((p == 0.5).all()) for p in network.parameters())
    with pytest.raises(RuntimeError, match="size mismatch for conv1.weight"):
        ResNet("resnet18", n_out=1000).load_state_dict(state)


def reference(state: dict[str, Tensor], x: Tensor, depths: tuple[int, ...], kernels: list[int], small: bool) -> Tensor:
    """The network in evaluation mode, written out by the names of its weights; the 3 x 3 convolution has the stride."""

    def norm(y: Tensor, at: str) -> Tensor:
        stats = (state[f"{at}.running_mean"], state[f"{at}.running_var"])
        return F.batch_norm(y, *stats, state[f"{at}.weight"], state[f"{at}.bias"])

    if small:
        x = F.relu(norm(F.conv2d(x, state["conv1.weight"], padding=1), "bn1"))
    else:
        x = F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y, around = x, x
            strided = kernels.index(3) + 1  # the first 3 x 3 convolution
            for i, kernel in enumerate(kernels, start=1):
                step = stride if i == strided else 1
                y = norm(F.conv2d(y, state[f"{at}.conv{i}.weight"], stride=step, padding=kernel // 2), f"{at}.bn{i}")
                y = F.relu(y) if i < len(kernels) else y
            if f"{at}.downsample.0.weight" in state:
                around = norm(F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = F.relu(y + around)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("name", DEPTHS)
def test_layers_are_joined_as_published(name: str, stem: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = ResNet(name, n_channels=2, width=0.0625, stem=stem, n_out=7).eval()  # type: ignore[arg-type]
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if "running_var" in key else noise * value.shape[-1] / 10)
    x = torch.randn(3, 2, 17, 22, generator=generator)
    expected = reference(
        network.state_dict(), x, DEPTHS[name], [1, 3, 1] if name == "resnet50" else [3, 3], stem == "small"
    )
    assert expected.abs().max() > 0
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "width", "expected"), [("resnet18", 0.25, 128), ("resnet50", 0.125, 256)])
def test_width_multiplies_all_layers(name: str, width: float, expected: int) -> None:
    network = ResNet(name, width=width)  # type: ignore[arg-type]
    assert network.n_features == expected
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, expected)  # pooled features: there is no last layer
    assert not any(key.startswith("fc.") for key in network.state_dict())


def test_weights_that_do_not_fit_say_which_network_they_are_of() -> None:
    state = ResNet("resnet18", width=0.0625, stem="imagenet", n_out=7).state_dict()

    def load(strict: bool = True, **arguments: Any) -> None:
        ResNet("resnet18", width=0.0625, **arguments).load_state_dict(state, strict=strict)

    load(stem="imagenet", n_out=7)
    with pytest.raises(RuntimeError, match=r"of 3 x 3, found weights of 7 x 7. Make the network with stem='imagenet'"):
        load(n_out=7)
    with pytest.raises(
        RuntimeError, match=r"found those of 7 outputs. Make the network with n_out=7, or load with strict"
    ):
        load(stem="imagenet")
    load(stem="imagenet", strict=False)
    state = ResNet("resnet18", width=0.0625).state_dict()
    with pytest.raises(RuntimeError, match=r"of 7 x 7, found weights of 3 x 3. Make the network with stem='small'"):
        load(stem="imagenet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, r"Expected a network among \['resnet18', .*\], found 'resnet19'"),
        ({"stem": "large"}, r"Expected `stem` in \['small', 'imagenet'\], found 'large'"),
        ({"width": 0}, "Expected `width` above 0, found 0"),
        ({"n_channels": 0}, "Expected `n_channels` of at least 1, found 0"),
        ({"n_out": 0}, "Expected `n_out` of at least 1, found 0"),
    ],
)
def test_unknown_networks(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)
