"""Selection, agreement and the comparison itself, where the answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments import fragility
from experiments.response import leave_out, optimum, proximal_bregman
from lib.networks.models import mlp
from lib.scores.influence import inverse_hessian


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
    assert fragility.independent_mean([(0.5, (0.3, 0.7))]) == (0.5, pytest.approx((0.3, 0.7)))
    alike = fragility.range_beyond_sampling([0.5] * 5, [(0.3, 0.66)] * 5)
    apart = fragility.range_beyond_sampling([0.9, 0.5, 0.1], [(0.88, 0.92), (0.45, 0.55), (0.05, 0.15)])
    assert alike[1][0] < 0 and apart[1][0] > 0.5
    s, (low, high) = fragility.spread_over_runs([1.0, 2.0, 3.0])
    assert s == 1 and low < 1 < high


def test_trend_and_ends():
    sweep = {1: np.array([0.9, 0.8]), 2: np.array([0.5, 0.6]), 3: np.array([0.1, 0.2])}
    found = fragility.trend_and_ends(sweep)
    assert found["trend"][0] == -1 and found["ends"][0] == pytest.approx(-0.7)


@pytest.fixture(scope="module")
def networks():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=g).double()
    y = (x.sum(1) + torch.randn(30, generator=g) > 0).long()
    model = nn.Linear(2, 2).double()
    weights = {name: value.expand(2, *value.shape[1:]).clone() for name, value in optimum(
        model, x, y, weight_decay=0.05).parameters.items()}  # fmt: skip
    return model, weights, x, y


def test_for_a_linear_classifier_influence_foretells_everything(networks):
    model, weights, x, y = networks
    inverses = [inverse_hessian(fragility.placed(model, weights, r), x, y, weight_decay=0.05) for r in range(2)]
    truths = {
        name: fragility.by_response(
            model, weights, lambda net, gone, w, f=f: f(net, x, y, gone, weights=w, weight_decay=0.05)
        )
        for name, f in (("without", leave_out), ("proximal", proximal_bregman))
    }
    also = {"again": inverses}
    table = fragility.predicted_and_true_changes(
        model, weights, inverses, x, y, truths, percentiles=(100, 50), top=8, norms=True, also=also
    )
    assert len(table) == 2 * 2 * 8 and set(table.percentile) == {100, 50}
    np.testing.assert_allclose(table.predicted, table.again)
    np.testing.assert_allclose(table.predicted, table["without"], rtol=0.25, atol=2e-4)
    np.testing.assert_allclose(table.norm, table["norm: without"], rtol=0.25)
    np.testing.assert_allclose(table.predicted, table.proximal, rtol=0.25, atol=2e-4)
    assert (table[table.network == 0].predicted.to_numpy() == table[table.network == 1].predicted.to_numpy()).all()
    groups = [rows for _, rows in table.groupby(["network", "percentile"])]
    agreements = [fragility.agreement_with_truth(rows.predicted, rows["without"]) for rows in groups]
    assert len(agreements) == 4 and min(agreement["spearman"] for agreement in agreements) > 0.9
    assert (fragility.spearman_by_network(table, "predicted", "without") > 0.9).all()
