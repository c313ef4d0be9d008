"""Residual networks for images (He et al. 2016), with torchvision's parameter names, so that its weights load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor, nn

ResNetName = Literal["resnet18", "resnet34", "resnet50"]
Stem = Literal["small", "imagenet"]
#: Blocks of each of the four stages, and whether they are bottlenecks.
_PLANS: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)


def _shortcut(n_in: int, n_out: int, stride: int) -> nn.Module | None:
    """The way around a block, where its shape changes; ``None`` where it does not."""
    if stride == 1 and n_in == n_out:
        return None
    return nn.Sequential(_conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))


class _Basic(nn.Module):
    """Two 3 x 3 convolutions."""

    expansion = 1

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(n_in, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(n_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + around)


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; the 3 x 3 one has the stride, as in torchvision."""

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int) -> None:
        super().__init__()
        n_out = width * self.expansion
        self.conv1, self.bn1 = _conv(n_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, n_out, 1), nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(n_in, n_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + around)


class ResNet(nn.Module):
    """Residual network: images to vectors.

    Parameters
    ----------
    name
        Depth: ``"resnet18"``, ``"resnet34"`` or ``"resnet50"``.
    n_channels
        Channels of the images.
    width
        Multiplies the number of channels of every layer; 1 is the published network.
    stem
        ``"small"``: a 3 x 3 convolution that keeps the resolution, for images of up to about 64 pixels; ``"imagenet"``:
        the published 7 x 7 convolution with stride 2 and pooling.
    n_out
        Width of the last linear layer ``fc``; ``None`` leaves it out and returns the pooled features.

    Attributes
    ----------
    n_features
        Width of the pooled features.

    Raises
    ------
    ValueError
        An argument is unknown or out of its range.

    Examples
    --------
    Weights of torchvision load by name into the published network (``stem="imagenet"``, ``n_out=1000``). Where weights do
    not fit, the ``RuntimeError`` of ``load_state_dict`` says which argument makes the network that they are of.

    >>> from diffaug.vision import ResNet
    >>> network = ResNet("resnet18", stem="imagenet", n_out=1000)
    >>> sum(p.numel() for p in network.parameters())
    11689512
    """

    def __init__(
        self,
        name: ResNetName = "resnet18",
        *,
        n_channels: int = 3,
        width: float = 1.0,
        stem: Stem = "small",
        n_out: int | None = None,
    ) -> None:
        super().__init__()
        if name not in _PLANS:
            raise ValueError(f"Expected a network among {list(_PLANS)}, found {name!r}.")
        if stem not in get_args(Stem):
            raise ValueError(f"Expected `stem` in {list(get_args(Stem))}, found {stem!r}.")
        if not width > 0:
            raise ValueError(f"Expected `width` above 0, found {width}.")
        for what, number in (("n_channels", n_channels), ("n_out", n_out)):
            if number is not None and number < 1:
                raise ValueError(f"Expected `{what}` of at least 1, found {number}.")
        depths, is_bottleneck = _PLANS[name]
        block: type[_Basic] | type[_Bottleneck] = _Bottleneck if is_bottleneck else _Basic
        base = max(1, round(64 * width))
        small = stem == "small"
        self.conv1 = _conv(n_channels, base, 3) if small else _conv(n_channels, base, 7, 2)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        n_in = base
        for stage, depth in enumerate(depths):
            stage_width, blocks = base * 2**stage, []
            for i in range(depth):
                blocks.append(block(n_in, stage_width, 2 if stage and i == 0 else 1))
                n_in = stage_width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.n_features = n_in
        self.fc = nn.Identity() if n_out is None else nn.Linear(n_in, n_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Vectors of images ``(batch, n_channels, height, width)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ever; where weights do not fit, torch's list of names and shapes ends with what to do."""
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            hints = self._misfit(state_dict)
            if not hints:
                raise
            raise RuntimeError(f"{error}\n{hints}") from error

    def _misfit(self, state: Mapping[str, Any]) -> str:
        """What to do with published weights of another stem or end."""
        hints = []
        first, last, own = state.get("conv1.weight"), state.get("fc.weight"), self.conv1.weight
        if isinstance(first, Tensor) and first.ndim == 4 and first.shape[2:] != own.shape[2:]:
            stem = {3: "small", 7: "imagenet"}.get(first.shape[2])
            hints.append(
                f"Expected a first convolution of {own.shape[2]} x {own.shape[3]}, found weights of {first.shape[2]} x "
                f"{first.shape[3]}. "
                + (f"Make the network with stem={stem!r}." if stem else "They are of another network.")
            )
        if isinstance(last, Tensor) and isinstance(self.fc, nn.Identity):
            hints.append(
                f"Expected no weights of a last layer `fc`, found those of {last.shape[0]} outputs. Make the network with "
                f"n_out={last.shape[0]}, or load with strict=False."
            )
        return " ".join(hints)
