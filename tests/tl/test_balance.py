"""``tl.balance``: it fills rare groups, and only where held-out cells show that this helps."""

from __future__ import annotations

import logging
from typing import Any

import anndata
import numpy as np
import pytest

from diffaug.tl import balance, fit
from diffaug.tl._balance import ARMS, _compare, _measure, _smote


@pytest.fixture
def uneven(logged: anndata.AnnData) -> anndata.AnnData:
    """50, 50 and 24 cells of three types."""
    types = logged.obs["cell_type"].to_numpy()
    keep = np.sort(np.concatenate([np.flatnonzero(types != "type_2"), np.flatnonzero(types == "type_2")[:24]]))
    return logged[keep].copy()


def call(adata: anndata.AnnData, small: dict, **how: Any) -> anndata.AnnData:
    return balance(adata, groupby="cell_type", config=small, device="cpu", n_repeats=1, progress=False, **how)


def test_forced(uneven: anndata.AnnData, small: dict) -> None:
    out = call(uneven, small, force=True)
    assert out.obs["cell_type"].value_counts().to_dict() == {"type_0": 50, "type_1": 50, "type_2": 50}
    assert out.obs["synthetic"].tolist() == [False] * 124 + [True] * 26
    np.testing.assert_array_equal(out.X[:124].toarray(), uneven.X.toarray())
    assert out.obs_names[:124].equals(uneven.obs_names) and out.obs_names.is_unique
    cells = out.obs["condition_cell"][124:]
    assert (uneven.obs.loc[cells, "cell_type"] == "type_2").all() and cells.nunique() == 24
    record = out.uns["diffaug_balance"]
    assert record["verdict"] in ("forced", "helps")
    assert record["arm"].tolist() == list(ARMS) and record["n_held_out"] == 30
    assert dict(zip(record["group"], record["added"], strict=True)) == {"type_2": 26}
    assert record["low"] <= record["gain"] <= record["high"]


def test_declined_with_the_number(uneven: anndata.AnnData, small: dict, caplog: pytest.LogCaptureFixture) -> None:
    """Three types with strong markers need no help, and a generator of three epochs gives none."""
    with caplog.at_level(logging.WARNING, logger="diffaug"):
        out = call(uneven, small)
    assert out.n_obs == 124 and not out.obs["synthetic"].any()
    record = out.uns["diffaug_balance"]
    assert record["verdict"] == "declined" and record["low"] <= 0 and record["added"].tolist() == [0]
    assert f"gain {record['gain']:+.3f}" in caplog.text and "help is not shown" in caplog.text


def test_a_given_model_is_judged_on_what_it_has_not_seen(uneven: anndata.AnnData, small: dict) -> None:
    seen = np.random.default_rng(0).permutation(124) > 40
    model = fit(uneven[seen].copy(), config=small, device="cpu", progress=False)
    out = balance(uneven, model, groupby="cell_type", to={"type_2": 30}, force=True, n_repeats=1, progress=False)
    assert out.uns["diffaug_balance"]["n_held_out"] == (~seen).sum()
    assert out.uns["diffaug_balance"]["model_fingerprint"] == model.fingerprint
    assert int(out.obs["synthetic"].sum()) == 6
    with pytest.raises(ValueError, match=r"at least 5 held-out cells of the groups to fill .*found 0"):
        balance(uneven[seen].copy(), model, groupby="cell_type", progress=False)


def test_donors_are_held_out_whole(uneven: anndata.AnnData, small: dict) -> None:
    uneven.obs["donor"] = [f"d{i % 5}" for i in range(124)]
    out = call(uneven, small, split_key="donor", force=True)
    assert out.uns["diffaug_balance"]["n_held_out"] in (24, 25)
    model = fit(uneven[:100].copy(), config=small, device="cpu", progress=False)
    with pytest.raises(ValueError, match="Expected donors held out of the model's training whole, found 'd0'"):
        balance(uneven, model, groupby="cell_type", split_key="donor", progress=False)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"to": {"type2": 9}}, KeyError, "Did you mean 'type_2'"),
        ({"to": "most"}, ValueError, r"`to` in \['max', 'median'\]"),
        ({"to": 10}, ValueError, "Nothing to fill"),
        ({"split_key": "donr"}, KeyError, "split_key"),
    ],
)
def test_wrong_arguments(uneven: anndata.AnnData, small: dict, how: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(uneven, small, **how)


# --- the measurement ------------------------------------------------------------------------------------------------


def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two overlapping groups in two dimensions; the rare one has 4 training cells and 150 held-out ones."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["many", "rare"], [450, 154])
    x = rng.normal(size=(604, 12))
    x[labels == "rare", :2] += [1.5, 1.5]
    held = np.zeros(604, dtype=bool)
    held[300:450] = held[454:] = True
    return x.astype(np.float32), labels, held


def test_real_help_is_shown_and_false_help_is_not() -> None:
    """Fresh cells of the truth help against four repeated ones; cells of the other group do harm."""
    x, labels, held = planted()

    def truth(group: str, n: int, seed: int) -> np.ndarray:
        fresh = np.random.default_rng(seed).normal(size=(n, 12))
        fresh[:, :2] += 1.5
        return fresh

    def wrong(group: str, n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(n, 12)) - 1.0

    good, bad = (_measure(x, labels, held, None, {"rare": 296}, draw, [1, 2]) for draw in (truth, wrong))
    assert good.is_shown and good.low > 0.02
    assert not bad.is_shown and bad.gain < 0
    assert good.accuracy["none"] == bad.accuracy["none"] < good.accuracy["DiffAug"]


def test_the_gain_is_the_difference_of_mean_recalls() -> None:
    truth = np.repeat(["a", "b"], [80, 20])
    correct = {arm: np.ones(100) for arm in ARMS}
    for arm in ARMS[:-1]:
        correct[arm][80:90] = 0  # half of b
    found = _compare(correct, truth, ["b"], None, 0)
    assert found.gain == pytest.approx(0.25) and found.recall["none"] == 0.5 and found.accuracy["none"] == 0.75
    assert 0 < found.low < 0.25 < found.high < 0.5
    # With one donor that has all of the difference, resampled donors cannot tell.
    donors = np.where(np.arange(100) >= 80, np.where(np.arange(100) < 90, "d0", "d1"), "d2")
    assert _compare(correct, truth, ["b"], donors, 0).low == 0
    same = _compare(dict.fromkeys(ARMS, correct["none"]), truth, ["b"], None, 0)
    assert (same.gain, same.low, same.high) == (0, 0, 0) and not same.is_shown


def test_smote_stays_between_two_cells() -> None:
    own = np.random.default_rng(0).normal(size=(7, 3))
    for point in _smote(own, 30, np.random.default_rng(1)):
        # On a segment, the distances to its ends add up to its length.
        to = np.linalg.norm(own - point, axis=1)
        detour = to[:, None] + to[None] - np.linalg.norm(own[:, None] - own[None], axis=2)
        np.fill_diagonal(detour, np.inf)
        assert detour.min() < 1e-9
