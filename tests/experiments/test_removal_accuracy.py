"""Tables of predicted against retrained changes."""

import numpy as np
import pytest
import torch

from experiments.linearization import (
    NETWORKS,
    PUBLISHED,
    Change,
    accuracy,
    correlation_gap,
    pair,
    published_correlation,
)


def changes(seed=0, n=30):
    truth = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.5
    return {
        "retrained": Change(truth, truth.square()),
        "twice": Change(2 * truth, truth),
        "upside down": Change(-truth, -truth),
    }


def test_a_row_for_each_quantity_and_method():
    table = accuracy(changes(), network="MLP").set_index(["quantity", "method"])
    assert set(table.network) == {"MLP"} and len(table) == 4
    twice, opposite = table.loc[("weights", "twice")], table.loc[("weights", "upside down")]
    assert (twice.pearson, twice.low, twice.high, twice.spearman) == (1, 1, 1, 1)
    assert twice.off == pytest.approx(1) and opposite.off == pytest.approx(2) and opposite.pearson == -1
    square = table.loc[("predictions", "twice")]
    assert 0.9 < square.low < square.pearson < square.high < 1 and square.spearman == 1


def test_the_published_table():
    assert published_correlation("pretrained CNN", "weights", 0, "LiSSA") == 0.736
    assert published_correlation("ResNet-50", "predictions", 1000, "linearization") == 0.519
    assert published_correlation("MLP, hard task", "weights", 0, "LiSSA") is None
    assert published_correlation("MLP", "weights", 0, "influence") is None
    assert all(len(row) == len(NETWORKS) for row in PUBLISHED.values())


def test_a_gap_over_the_same_examples_is_narrower_than_over_others():
    """What two predictions share cancels only where they are of the same examples."""
    rng = np.random.default_rng(0)
    truth = rng.random(40)
    near = truth + 0.3 * rng.random(40)
    first, second = (near, truth), (near + 0.02 * rng.random(40), truth)
    value, (low, high) = correlation_gap(first, second)
    assert value == pytest.approx(np.corrcoef(*first)[0, 1] - np.corrcoef(*second)[0, 1])
    assert low < value < high
    apart = correlation_gap(first, (second[0][::-1], truth[::-1]))
    assert apart[0] == pytest.approx(value)
    assert apart[1][1] - apart[1][0] > 3 * (high - low)


def test_pairs_are_predicted_and_true():
    found = changes()
    guess, truth = pair(found, "twice", "weights")
    np.testing.assert_allclose(guess, 2 * truth)
