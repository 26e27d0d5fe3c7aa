"""Tables of predicted against retrained changes."""

import numpy as np
import pytest
import torch

from experiments.linearization import (
    NETWORKS,
    PUBLISHED,
    Change,
    accuracy,
    draws,
    gap,
    pair,
    published_correlation,
    replicated,
    typical,
)
from lib.statistics import pearson_r, t_interval


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


def simulated(spread, *, shared=0.0, replicates=5, examples=10, trials=800):
    """Correlations ``(trials, replicates)`` of two predictions of the same lognormal changes.

    Each replicate has its own size of error about ``spread``, as networks differ; the errors of the two have a share.
    """
    rng = np.random.default_rng(0)
    shape = trials, replicates, examples
    log_truth, network, error = (
        rng.standard_normal(shape),
        rng.standard_normal((*shape[:2], 1)),
        rng.standard_normal(shape),
    )
    mixed = lambda common: shared * common + (1 - shared**2) ** 0.5 * rng.standard_normal(common.shape)
    guesses = [np.exp(log_truth + size * np.exp(0.3 * mixed(network)) * mixed(error)) for size in spread]
    return [pearson_r(guess, np.exp(log_truth)) for guess in guesses]


@pytest.mark.parametrize("examples", [8, 40])
@pytest.mark.parametrize("spread", [0.1, 0.8])
def test_the_interval_of_a_typical_correlation_covers_networks_rows_and_examples(spread, examples):
    """Where that of Student's t on the correlations themselves falls short."""
    (r,) = simulated([spread], examples=examples)
    goal = np.tanh(np.arctanh(r).mean())
    found = [typical(row)[1] for row in r]
    covered = np.mean([low <= goal <= high for low, high in found])
    assert 0.915 < covered < 0.975
    assert np.mean([low <= r.mean() <= high for low, high in (t_interval(row) for row in r)]) < covered


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("spread", [(0.1, 0.4), (0.2, 1.5)])
def test_the_interval_of_a_gap_covers_it(spread, shared):
    first, second = simulated(spread, shared=shared, examples=20)
    goal = np.tanh(np.arctanh(first).mean()) - np.tanh(np.arctanh(second).mean())
    found = [gap(*rows) for rows in zip(first, second, strict=True)]
    assert 0.905 < np.mean([low <= goal <= high for _, (low, high) in found]) < 0.975
    assert np.mean([value for value, _ in found]) == pytest.approx(goal, abs=0.02)


def test_a_gap_of_what_goes_together_is_narrow():
    r = [0.5, 0.7, 0.8]
    value, (low, high) = gap(r, [0.48, 0.69, 0.79])
    wide = gap(r[::-1], [0.48, 0.69, 0.79])[1]
    assert low < value < high and high - low < (wide[1] - wide[0]) / 2


def test_draws_share_no_row_and_have_the_classes_shares():
    y = torch.tensor([0] * 60 + [1] * 30)[torch.randperm(90, generator=torch.Generator().manual_seed(1))]
    parts = draws(y, 15, 6, seed=3)
    assert sorted(torch.cat(parts).tolist()) == list(range(90))
    assert all(abs(int((y[part] == 0).sum()) - 10) <= 1 for part in parts)
    assert not torch.equal(parts[0], draws(y, 15, 6, seed=4)[0])
    with pytest.raises(ValueError, match="7 draws of 15 rows need 105 rows, got 90"):
        draws(y, 15, 7)


def test_the_table_of_the_replicates():
    table = replicated({("MLP", 0): [{"retrained": changes(s)["retrained"], "linearization": changes(s)["twice"],
                                      "LiSSA in the mean": changes(s)["upside down"]} for s in (0, 1)]})  # fmt: skip
    row = table.set_index(["quantity", "method"]).loc[("predictions", "linearization")]
    assert 0.9 < row.low < row.pearson < row.high < 1 and len(row.r) == 2 and row.published == 0.993
    assert row.turns == (not row.low <= 0.993 <= row.high)
    opposite = table.set_index(["quantity", "method"]).loc[("weights", "LiSSA in the mean")]
    assert opposite.pearson == pytest.approx(-1) and opposite.turns and opposite.published == 0.935


def test_pairs_are_predicted_and_true():
    found = changes()
    guess, truth = pair(found, "twice", "weights")
    np.testing.assert_allclose(guess, 2 * truth)
