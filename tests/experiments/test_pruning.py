from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.pruning import (
    draws,
    gain,
    points,
    points_gained,
    prune,
    random_subsets,
    retrain_draws,
    retrain_pruned,
    window,
)
from lib.networks.models import mlp
from lib.scores.data_diet import input_norm
from lib.training.recipe import Recipe, Run


@pytest.fixture
def score():
    return torch.rand(200, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def y():
    return torch.arange(200) % 4


def test_dropping_the_lowest_and_the_highest(score):
    top = prune(score, 0.3, drop="lowest")
    assert top.sum() == 60 and score[top].min() > score[~top].max()
    low = prune(score, 0.7, drop="highest")
    assert torch.equal(low, ~top)


def test_a_balanced_window_keeps_the_same_share_of_each_class(score, y):
    kept = window(score, 0.5, 0.25, y=y)
    for c in range(4):
        inside = score[(y == c) & kept]
        assert len(inside) == 25
        assert ((score[y == c] < inside.min()).sum(), (score[y == c] > inside.max()).sum()) == (12, 13)


def test_windows_side_by_side_cover_every_row_once(score, y):
    total = sum(window(score, 0.2, offset / 5, y=y).long() for offset in range(5))
    assert torch.equal(total, torch.ones(200, dtype=torch.int64))


def test_ties_fall_by_seed_not_by_row():
    flat = torch.zeros(1000)
    first, second = prune(flat, 0.5, drop="lowest", seed=0), prune(flat, 0.5, drop="lowest", seed=1)
    assert first.sum() == second.sum() == 500
    assert 180 < (first & second).sum() < 320  # two independent halves share a quarter
    assert 180 < first[:500].sum() < 320


def test_random_subsets_follow_the_seed(y):
    masks = random_subsets(200, 0.4, [0, 1], y=y)
    assert torch.equal(masks[1], random_subsets(200, 0.4, [1], y=y)[0])
    assert not torch.equal(masks[0], masks[1])
    assert all((masks[:, y == c].sum(1) == 20).all() for c in range(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.0}, "0 < width"),
        ({"offset": 0.8}, r"offset \+ width ≤ 1, got width 0.5, offset 0.8"),
        ({"score": torch.tensor([1.0, float("nan")])}, "NaN in 1 rows"),
        ({"y": torch.zeros(3)}, r"got \(200,\) and \(3,\)"),
    ],
)
def test_bad_windows_are_refused(score, change, message):
    arguments = {"score": score, "width": 0.5, "offset": 0.0, "y": None} | change
    with pytest.raises(ValueError, match=message):
        window(arguments.pop("score"), **arguments)


def test_an_unknown_end_is_refused(score):
    with pytest.raises(ValueError, match="'lowest' or 'highest', got 'top'"):
        prune(score, 0.5, drop="top")


@pytest.fixture
def blobs():
    """Two separated classes in the plane, with the second half of the rows mislabelled."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 2
    x = torch.randn(240, 2, generator=g) + 3.0 * (2 * y[:, None] - 1)
    train, test = slice(0, 120), slice(120, 240)
    labels = y[train].clone()
    labels[60:] = 1 - labels[60:]
    return SimpleNamespace(x_train=x[train], y_train=labels, x_test=x[test], y_test=y[test])


def test_retraining_sees_what_the_plan_keeps(blobs):
    clean = torch.arange(120) < 60
    plans = {("clean",): clean, ("wrong",): torch.stack([~clean, ~clean])}
    table = retrain_pruned(
        mlp(2, (8,), 2), blobs, plans, recipe=Recipe(lr=0.1, batch_size=20, iterations=60), seeds=[3, 4],
        columns=("rows",), run=Run(progress=False),
    )  # fmt: skip
    assert table.columns.tolist() == ["rows", "kept", "seed", "accuracy", "correct"]
    assert table.kept.tolist() == [60] * 4 and table.seed.tolist() == [3, 4, 3, 4]
    assert (table[table.rows == "clean"].accuracy > 0.95).all()
    assert (table[table.rows == "wrong"].accuracy < 0.05).all()
    assert [right.mean() for right in table.correct] == pytest.approx(table.accuracy.tolist())
    apart = points(table, {"rows": "clean"}, {"rows": "wrong"}, by="rows")["clean"]
    assert apart.shape == (2, 120) and set(np.unique(apart)) <= {-100.0, 0.0, 100.0}
    difference = gain(table, {"rows": "clean"}, {"rows": "wrong"}, by="rows").loc["clean"]
    assert apart.mean(1) == pytest.approx(100 * difference.to_numpy())


def test_each_draw_is_pruned_by_its_own_score_and_compared_draw_by_draw(blobs):
    wrong = (torch.arange(120) >= 60).float()
    backwards = SimpleNamespace(**vars(blobs) | {"x_train": blobs.x_train.flip(0), "y_train": blobs.y_train.flip(0)})
    how = {"recipe": Recipe(lr=0.1, batch_size=20, iterations=60), "run": Run(progress=False)}
    scores = [{"flag": wrong}, {"flag": wrong.flip(0)}]
    table = retrain_draws(
        mlp(2, (8,), 2), [blobs, backwards], scores, [0.25, 0.5], references=True, highest_from=0.5, **how
    )
    names = [("flag", "lowest", 0.25), ("flag", "lowest", 0.5), ("flag", "highest", 0.5)]
    references = [("full data", "–", 1.0), ("random", "–", 0.25), ("random", "–", 0.5)]
    assert sorted(zip(table.score, table["drop"], table.keep, strict=True)) == sorted(2 * (names + references))
    at = table.set_index(["drop", "keep", "seed"]).accuracy
    assert at["highest", 0.5].min() > 0.95 and at["lowest", 0.5].max() < 0.05  # what is left is right, is wrong
    gained = points_gained(table, {"drop": "highest"}, {"drop": "lowest"})
    assert list(gained) == ["drop 50%"]
    value, (low, high) = gained["drop 50%"]
    assert value == pytest.approx(100 * (at["highest", 0.5] - at["lowest", 0.5]).mean()) and low <= value <= high


def test_sides_are_compared_where_both_are_or_with_the_one_picked():
    rows = [("a", 0.3, 0.5), ("a", 0.5, 0.7), ("b", 0.5, 0.4), ("c", 0.3, 0.1), ("c", 0.5, 0.2), ("all", 1.0, 0.9)]
    table = pd.DataFrame(rows, columns=["score", "keep", "accuracy"]).assign(seed=0)
    of = lambda better, than: gain(table, better, than, by="keep")[0].round(3).to_dict()
    a = {"score": "a"}
    assert of(a, {"score": "b"}) == {0.5: 0.3}  # though b is at one share alone
    assert of(a, {"score": "c"}) == {0.3: 0.4, 0.5: 0.5}
    assert of(a, {"score": "all"}) == {0.3: -0.4, 0.5: -0.2}
    assert of(a, {"score": "c", "keep": 0.3}) == {0.3: 0.4, 0.5: 0.6}


def test_draws_share_the_test_rows_and_nothing_of_them():
    first, second, third = draws("digits", 3, n=500, n_test=100, seed=1)
    for data in (first, second, third):
        assert torch.equal(data.rows_test, first.rows_test) and torch.equal(data.x_test, first.x_test)
        assert len(data.y_train) == pytest.approx(500, abs=5)
        assert not set(data.rows_train.tolist()) & set(first.rows_test.tolist())
    common = set(second.rows_train.tolist()) & set(third.rows_train.tolist())
    assert 0.2 < len(common) / 500 < 0.6  # of 1,437 rows
    assert torch.equal(draws("digits", 2, n=500, n_test=100, seed=1)[1].rows_train, second.rows_train)


def test_input_norms():
    x = torch.rand(7, 2, 3, 3)
    torch.testing.assert_close(input_norm(x), x.square().sum((1, 2, 3)).sqrt())


def test_a_mask_of_the_wrong_length_is_named(blobs):
    with pytest.raises(ValueError, match=r"plan \('a',\): expected a name of 1 .*got \(7,\)"):
        retrain_pruned(mlp(2, (8,), 2), blobs, {("a",): torch.ones(7)}, recipe=None, seeds=[0], columns=("rows",))


def test_gain_pairs_seeds_and_spreads_a_single_reference():
    table = pd.DataFrame(
        [("a", 0.5, 0, 0.9), ("a", 0.5, 1, 0.8), ("a", 0.7, 0, 1.0), ("a", 0.7, 1, 0.9)]
        + [("b", 0.5, 0, 0.5), ("b", 0.5, 1, 0.6), ("b", 0.7, 0, 0.5), ("b", 0.7, 1, 0.7)]
        + [("full", 1.0, 0, 0.4), ("full", 1.0, 1, 0.3)],
        columns=["score", "keep", "seed", "accuracy"],
    )
    paired = gain(table, {"score": "a"}, {"score": "b"}, by="keep")
    assert paired.loc[0.5].round(6).tolist() == [0.4, 0.2] and paired.loc[0.7].round(6).tolist() == [0.5, 0.2]
    against_full = gain(table, {"score": "a"}, {"score": "full"}, by="keep")
    assert against_full.loc[0.7].round(6).tolist() == [0.6, 0.6]
    with pytest.raises(ValueError, match="no rows with {'score': 'c'}"):
        gain(table, {"score": "c"}, {"score": "b"}, by="keep")
