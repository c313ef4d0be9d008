"""The one-dimensional U-Net: shapes, what it depends on, and that it can learn."""

from __future__ import annotations

import pytest
import torch

from diffaug.backends import _unet1d
from diffaug.backends._unet1d import SelfAttention, UNet1d, position_features
from diffaug.core.devices import seeded_init


def network(**settings: object) -> UNet1d:
    with seeded_init(0):
        return UNet1d(4, 6, **{"widths": (4, 4, 8, 8), **settings}).eval()  # type: ignore[arg-type]


def inputs(length: int, n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return (
        torch.randn(n, 4, length, generator=random),
        torch.randint(50, (n,), generator=random),
        torch.randn(n, 6, generator=random),
    )


@pytest.mark.parametrize("length", [1, 8, 13, 64])
def test_any_length(length: int) -> None:
    x, t, cond = inputs(length)
    out = network()(x, t, cond)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


def test_widths_of_listing_1() -> None:
    """16-32-64-64, 128 in the middle, and 256 numbers of the time."""
    made = UNet1d(4, 6)
    assert [d.conv[1].layers[3].out_channels for d in made.down] == [32, 64, 64]
    assert [m.layers[3].out_channels for m in made.middle] == [128, 128, 64]
    assert [u.conv[1].layers[3].out_channels for u in made.up] == [32, 16, 16]
    assert made.cond.out_features == 256


def test_it_depends_on_time_condition_and_position() -> None:
    made, (x, t, cond) = network(), inputs(16)
    out = made(x, t, cond)
    assert not torch.allclose(made(x, (t + 25) % 50, cond), out, atol=1e-4)
    assert not torch.allclose(made(x, t, cond.flip(0)), out, atol=1e-4)
    # The same letters everywhere: only the code of the position can tell positions apart, far from the ends.
    flat = made(torch.ones(1, 4, 256), t[:1], cond[:1])[0, :, 64:192]
    assert (flat[:, :64] - flat[:, 64:]).abs().max() > 1e-2


def test_each_row_for_itself() -> None:
    made, (x, t, cond) = network(), inputs(16)
    whole = made(x, t, cond)
    for i in range(3):
        torch.testing.assert_close(made(x[i : i + 1], t[i : i + 1], cond[i : i + 1]), whole[i : i + 1])


def test_one_time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As samplers call it; and in chunks, which change nothing."""
    made, (x, _, cond) = network(), inputs(16)
    whole = made(x, torch.full((3,), 7), cond)
    torch.testing.assert_close(made(x, torch.full((1,), 7.0), cond), whole)
    monkeypatch.setattr(_unet1d, "_POSITIONS_AT_ONCE", 40)
    with torch.no_grad():
        torch.testing.assert_close(made(x, torch.full((1,), 7.0), cond), whole)


def test_attention_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = SelfAttention.forward

    def watched(self: SelfAttention, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[-1])
        return forward(self, x)

    monkeypatch.setattr(SelfAttention, "forward", watched)
    for limit, expected in ((None, [32, 16, 8, 16, 32]), (16, [16, 8, 16]), (0, [])):
        seen.clear()
        network(attention_up_to=limit)(*inputs(64))
        assert seen == expected
    # The same weights fit both, so a model may change its limit.
    network(attention_up_to=None).load_state_dict(network(attention_up_to=0).state_dict())


def test_path_around_the_network() -> None:
    """At the start the input itself comes out beside the network's part, weighted by time and channel later on."""
    made, (x, t, cond) = network(), inputs(16)
    with torch.no_grad():
        whole = made(x, t, cond)
        made.path.bias.zero_()
        torch.testing.assert_close(whole - made(x, t, cond), x)
        made.path.weight[0, 0] = 2.0  # the cosine of the first frequency, for channel 0
        weight = 2 * torch.cos(t.float())[:, None]
        only = made(x, t, cond)
        made.path.weight.zero_()
        torch.testing.assert_close((only - made(x, t, cond))[:, 0], weight * x[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(only[:, 1:], made(x, t, cond)[:, 1:])


def test_position_features() -> None:
    made = position_features(100, torch.device("cpu"))
    assert made.shape == (16, 100)
    torch.testing.assert_close(made.square().sum(dim=0), torch.full((100,), 8.0))
    torch.testing.assert_close(made[0, 4:], made[0, :-4], atol=1e-4, rtol=0)  # the shortest wave has four bases
    assert torch.cdist(made.T, made.T).add(torch.eye(100)).min() > 0.1  # no two positions look alike


def test_gradients_reach_all_weights() -> None:
    made = network(attention_up_to=None).train()
    made(*inputs(16)).square().mean().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []
