"""The classifier that judges the views of images."""

from __future__ import annotations

import numpy as np
import pytest

from diffaug import vision

pytest.importorskip("kornia", reason="Views of images need the extra `vision`.")


@pytest.mark.parametrize("dtype", ["int16", "int64"])
def test_oracle_learns_classes_of_any_whole_type(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives keep labels in as few bytes as they can. Stripes against flat images, of images it has not seen."""
    import _vision_views
    from _vision_plan import Task

    monkeypatch.setattr(Task, "device", "cpu")
    rng = np.random.default_rng(0)
    y = np.arange(128) % 2
    x = rng.uniform(0.4, 0.6, size=(128, 12, 12, 3))
    x[y == 1, ::2] += 0.4
    train = vision.ImageSet(x[:96].astype(np.float32), y[:96].astype(dtype), ("flat", "striped"))
    judge = _vision_views.supervised(train, n_epochs=8, batch=16)
    assert (judge(x[96:].astype(np.float32)) == y[96:]).mean() > 0.9
