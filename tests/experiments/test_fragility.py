"""Selection, agreement and the comparison itself, where the answer is known."""

import itertools

import numpy as np
import pytest
import torch

from experiments import fragility
from lib.networks.models import mlp


def test_which_examples_are_compared():
    assert [fragility.at_percentile(torch.tensor([3.0, 1.0, 2.0]), p) for p in (0, 50, 100)] == [1, 2, 0]
    scores = torch.tensor([0.1, -3.0, 2.0, 0.0, -0.5])
    assert fragility.most_influential(scores, 2).tolist() == [1, 2]
    assert fragility.around_percentile(scores, 25, 3).tolist() == [3, 0, 4]
    assert fragility.around_percentile(scores, 100, 2).tolist() == [2, 1]


def test_starts_are_those_of_their_seeds_and_keep_the_signal():
    model = mlp(100, (400,) * 3, 3)
    start = fragility.wide_start(model, [4, 5])
    again = fragility.wide_start(model, [5])
    assert all((start[name][1] == again[name][0]).all() for name in start)
    with torch.no_grad():
        h = fragility.placed(model, start).features(torch.randn(50, 100, generator=torch.Generator().manual_seed(0)))
    assert 0.7 < float(h.square().mean()) / 1 < 1.4  # He: E h² = E x²
    with pytest.raises(ValueError, match="activation must be one of relu, tanh, selu, got 'gelu'"):
        fragility.wide_start(model, [0], "gelu")


def test_agreement_of_a_perfect_and_of_no_prediction():
    x = np.random.default_rng(0).normal(size=40)
    found = fragility.agreement_with_truth(x, 2 * x)
    assert found["pearson"] == found["spearman"] == 1 and found["spearman_null"][1] < 0.4
    none = fragility.agreement_with_truth(x, np.zeros(40))
    assert none["spearman"] == 0 and none["spearman_interval"] == (-1, 1)


def test_differences_means_and_ranges():
    value, (low, high) = fragility.independent_difference((0.9, (0.8, 1.0)), (0.1, (0.0, 0.2)))
    assert value == pytest.approx(0.8) and (low, high) == pytest.approx((0.8 - 0.02**0.5, 0.8 + 0.02**0.5))
    alike = fragility.range_beyond_sampling([0.5] * 5, [(0.3, 0.66)] * 5)
    apart = fragility.range_beyond_sampling([0.9, 0.5, 0.1], [(0.88, 0.92), (0.45, 0.55), (0.05, 0.15)])
    assert alike[1][0] < 0 and apart[1][0] > 0.5
    s, (low, high) = fragility.spread_over_runs([1.0, 2.0, 3.0])
    assert s == 1 and low < 1 < high


def test_trend_and_ends():
    sweep = {1: np.array([0.9, 0.8]), 2: np.array([0.5, 0.6]), 3: np.array([0.1, 0.2])}
    found = fragility.trend_and_ends(sweep)
    assert found["trend"][0] == -1 and found["ends"][0] == pytest.approx(-0.7)
    gap = {setting: np.append(values, np.nan if setting == 2 else 9.0) for setting, values in sweep.items()}
    assert fragility.trend_and_ends(gap) == found  # a network that lacks a setting is left out


def test_an_interval_of_a_mean_correlation_stays_below_one_and_holds_it_no_less_often_than_students():
    truth = np.tanh(np.random.default_rng(1).normal(2, 0.5, 10**6)).mean()
    draws, inside = np.tanh(np.random.default_rng(0).normal(2, 0.5, (1000, 28))), {True: 0, False: 0}
    for correlation, values in itertools.product(inside, draws):
        mean, (low, high) = fragility.over_runs(values, correlation=correlation)
        assert low < mean < high and (high < 1 or not correlation)
        inside[correlation] += low < truth < high
    assert 970 > inside[True] > max(900, inside[False])  # 95% of 1,000 for many runs, or values less skewed
    near_one = [0.99] * 26 + [0.98, 0.62]
    assert fragility.over_runs(near_one)[1][1] > 0.99 > fragility.over_runs(near_one, correlation=True)[1][1] - 0.01
    small = np.array([0.01, -0.02, 0.03, np.nan])
    assert fragility.over_runs(small, correlation=True) == (
        pytest.approx(0.02 / 3),
        pytest.approx(fragility.over_runs(small)[1], abs=1e-3),
    )
    assert fragility.over_runs([1.0, 1.0], correlation=True) == (1, (1, 1))
