"""Hyena in NumPy, float64, with the long convolution written as a sum: the oracle of ``test_hyena.py``.

Run as a program it writes ``golden_hyena.json``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden_hyena.json")
SEQUENCES = ["ACGTTGCANACGGT", "TTTTTT", "GATTACAGATTACA"]
LENGTH, WIDTH, DEPTH, HIDDEN, N_TOKENS = 16, 6, 2, 4, 16


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights, in the order in which they are numbered."""
    found: dict[str, tuple[int, ...]] = {"embedding": (N_TOKENS, WIDTH)}
    for i in range(DEPTH):
        block = {
            "norm_mixer.weight": (WIDTH,),
            "norm_mixer.bias": (WIDTH,),
            "norm_mlp.weight": (WIDTH,),
            "norm_mlp.bias": (WIDTH,),
            "mixer.project_in.weight": (3 * WIDTH, WIDTH),
            "mixer.project_in.bias": (3 * WIDTH,),
            "mixer.short.weight": (3 * WIDTH, 1, 3),
            "mixer.short.bias": (3 * WIDTH,),
            "mixer.filter.frequency": (HIDDEN,),
            "mixer.filter.skip": (WIDTH,),
            "mixer.filter.layers.0.weight": (HIDDEN, 5),
            "mixer.filter.layers.0.bias": (HIDDEN,),
            "mixer.filter.layers.1.weight": (HIDDEN, HIDDEN),
            "mixer.filter.layers.1.bias": (HIDDEN,),
            "mixer.filter.layers.2.weight": (HIDDEN, HIDDEN),
            "mixer.filter.layers.2.bias": (HIDDEN,),
            "mixer.filter.out.weight": (WIDTH, HIDDEN),
            "mixer.project_out.weight": (WIDTH, WIDTH),
            "mixer.project_out.bias": (WIDTH,),
            "mlp.0.weight": (4 * WIDTH, WIDTH),
            "mlp.0.bias": (4 * WIDTH,),
            "mlp.2.weight": (WIDTH, 4 * WIDTH),
            "mlp.2.bias": (WIDTH,),
        }
        found |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return found | {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}


def weights() -> dict[str, np.ndarray]:
    """Fixed weights that need no random numbers: sines of a running number."""
    found, n = {}, 0
    for name, shape in shapes().items():
        size = int(np.prod(shape))
        found[name] = (0.7 * np.sin(12.9898 * np.arange(n, n + size) + 1)).reshape(shape)
        n += size
    return found


def one_hot() -> np.ndarray:
    """``SEQUENCES``, shape ``(3, 4, LENGTH)``."""
    x = np.zeros((len(SEQUENCES), 4, LENGTH))
    for i, s in enumerate(SEQUENCES):
        for j, letter in enumerate(s):
            x[i, :, j] = 0.25 if letter == "N" else np.array(list("ACGT")) == letter
    return x


def layer_norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    mean, var = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def filters(w: dict[str, np.ndarray], at: str) -> np.ndarray:
    """``h(t)`` of every channel, shape ``(LENGTH, WIDTH)``."""
    h = np.zeros((LENGTH, WIDTH))
    for t in range(LENGTH):
        angle = 2 * np.pi * t / LENGTH
        z = np.array([t / (LENGTH - 1), np.cos(1e-4 * angle), np.cos(angle), -np.sin(1e-4 * angle), -np.sin(angle)])
        for layer in range(3):
            z = np.sin(w[f"{at}frequency"] * (w[f"{at}layers.{layer}.weight"] @ z + w[f"{at}layers.{layer}.bias"]))
        rate = np.log(100) / 1.5 + (np.log(100) / 0.3 - np.log(100) / 1.5) * np.arange(WIDTH) / (WIDTH - 1)
        h[t] = (w[f"{at}out.weight"] @ z) * (np.exp(-rate * t / (LENGTH - 1)) + 0.05)
    return h


def mixer(x: np.ndarray, w: dict[str, np.ndarray], at: str) -> np.ndarray:
    """One sequence, shape ``(LENGTH, WIDTH)``."""
    p = x @ w[f"{at}project_in.weight"].T + w[f"{at}project_in.bias"]
    q = np.zeros_like(p)
    for t in range(LENGTH):
        q[t] = w[f"{at}short.bias"]
        for lag in range(3):
            if t - lag >= 0:
                q[t] += w[f"{at}short.weight"][:, 0, 2 - lag] * p[t - lag]
    x0, x1, v = q[:, :WIDTH], q[:, WIDTH : 2 * WIDTH], q[:, 2 * WIDTH :]
    u, h = x1 * v, filters(w, f"{at}filter.")
    y = np.zeros_like(u)
    for t in range(LENGTH):
        y[t] = sum(h[t - s] * u[s] for s in range(t + 1)) + w[f"{at}filter.skip"] * u[t]
    return (x0 * y) @ w[f"{at}project_out.weight"].T + w[f"{at}project_out.bias"]


def mlp(x: np.ndarray, w: dict[str, np.ndarray], at: str) -> np.ndarray:
    h = x @ w[f"{at}0.weight"].T + w[f"{at}0.bias"]
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    return h @ w[f"{at}2.weight"].T + w[f"{at}2.bias"]


def states() -> np.ndarray:
    """All positions of all sequences, shape ``(3, LENGTH, WIDTH)``."""
    w, found = weights(), []
    for x in one_hot():
        h = x.T @ w["embedding"][7:11]
        for i in range(DEPTH):
            h = h + mixer(layer_norm(h, w, f"blocks.{i}.norm_mixer"), w, f"blocks.{i}.mixer.")
            h = h + mlp(layer_norm(h, w, f"blocks.{i}.norm_mlp"), w, f"blocks.{i}.mlp.")
        found.append(layer_norm(h, w, "norm"))
    return np.array(found)


def pooled(h: np.ndarray) -> np.ndarray:
    """Mean over the letters of each sequence, shape ``(3, WIDTH)``."""
    return np.array([h[i, : len(s)].mean(axis=0) for i, s in enumerate(SEQUENCES)])


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({"pooled": pooled(states()).round(9).tolist()}, indent=1) + "\n", encoding="utf-8")
