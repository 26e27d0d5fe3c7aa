import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from experiments import side_by_side as sbs


def draws(names="abcd", n=200, common=1.0):
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(n, generator=generator)
    return {name: common * shared + torch.randn(n, generator=generator) for name in names}


def test_correlations_are_scipys_with_ties():
    scores = {name: value.round() for name, value in draws().items()}
    wanted = spearmanr(np.array([value.numpy() for value in scores.values()]), axis=1).statistic
    np.testing.assert_allclose(sbs.correlations(scores), wanted, atol=1e-10)


def test_the_median_agreement_and_its_interval():
    scores = draws(n=400)
    rho = sbs.correlations(scores)
    found = sbs.median_agreement(scores, resamples=200)
    for name, (value, (low, high)) in found.items():
        assert value == pytest.approx(rho.loc[name].drop(name).median())
        assert low < value < high and high - low < 0.2
    assert found == sbs.median_agreement(scores, resamples=200)


def test_the_interval_covers():
    """Two normals with a correlation of one half have a Spearman of (6/π) arcsin(1/4)."""
    truth, hits = 6 / np.pi * np.arcsin(0.25), 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        shared = torch.randn(100, generator=generator)
        pair = {name: shared + torch.randn(100, generator=generator) for name in "ab"}
        low, high = sbs.median_agreement(pair, resamples=200, seed=seed)["a"][1]
        hits += low <= truth <= high
    assert hits >= 87


def test_clusters_stand_together():
    scores = draws("ab") | {f"{name}2": value for name, value in draws("cd", common=3.0).items()}
    scores = {name: scores[name] for name in ("c2", "a", "d2", "b")}
    order = sbs.clustered(sbs.correlations(scores))
    assert abs(order.index("c2") - order.index("d2")) == 1 and sorted(order) == sorted(scores)


def test_extremes_and_overlap():
    score = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    assert sbs.extremes(score, 0.4).tolist() == [0, 2]
    assert sbs.extremes(score, 0.4, highest=False).tolist() == [1, 3]
    both = {"a": score, "b": torch.tensor([5.0, 4.0, 1.0, 2.0, 3.0])}
    assert sbs.overlap(both, 0.4).to_numpy().tolist() == [[1, 0.5], [0.5, 1]]
    ties = torch.zeros(1000)
    assert sbs.overlap({"a": ties, "b": ties}, 0.05).loc["a", "b"] < 0.2  # nothing to agree on
    assert len(set(sbs.extremes(ties, 0.05, seed=0).tolist()) & set(range(50))) < 20  # drawn, not by row


def test_the_overlap_of_random_choices_lies_in_its_band():
    low, high = sbs.overlap_chance(1000, 0.1)
    generator = torch.Generator().manual_seed(0)
    pairs = [{name: torch.rand(1000, generator=generator) for name in "ab"} for _ in range(100)]
    inside = [low <= sbs.overlap(pair, 0.1).loc["a", "b"] <= high for pair in pairs]
    assert np.mean(inside) >= 0.9


def test_detection():
    marked = torch.arange(1500) % 5 == 0
    noisy = draws("a", n=1500)["a"] + 2 * marked
    table = sbs.detection({"good": torch.stack([noisy, noisy]), "perfect": marked.float().expand(2, -1)},
                          {"one": marked, "two": ~marked})  # fmt: skip
    assert list(table.columns) == ["labels", "score", "auroc", "low", "high", "precision"]
    at = table.set_index(["labels", "score"])
    assert at.auroc["one", "good"] == pytest.approx(roc_auc_score(marked, noisy))
    assert at.auroc["two", "good"] == pytest.approx(1 - at.auroc["one", "good"])
    assert at.auroc["one", "perfect"] == at.precision["one", "perfect"] == 1
    assert at.precision["two", "perfect"] == pytest.approx(0.75)  # 1,200 highest of 1,500, the 300 wrong ones first
    assert (at.low <= at.auroc).all() and (at.auroc <= at.high).all()


def test_the_frontier():
    assert sbs.frontier([1, 2, 2, 3, 1], [1, 3, 2, 3, 1]).tolist() == [True, True, False, False, True]


def test_the_guide_names_the_best_and_its_equals_within_a_budget():
    rows = [
        ("find", "A", 1.0, 0.7, 0.65, 0.75),
        ("find", "B", 5.0, 0.9, 0.85, 0.95),
        ("find", "C", 4.0, 0.88, 0.8, 0.96),
    ]
    columns = ["purpose", "score", "seconds", "value", "low", "high"]
    table, budgets = pd.DataFrame(rows, columns=columns).assign(chance=0.5), {"none": 0.5, "little": 2.0, "much": 10.0}
    assert sbs.guide(table, budgets).loc["find"].tolist() == ["–", "A 0.70", "B 0.90 (or C)"]
    assert sbs.guide(table.assign(chance=0.7), budgets).loc["find"].tolist() == ["–", "–", "B 0.90 (or C)"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sbs.correlations({"a": torch.ones(5)}), "score 'a' must be 5 finite numbers that vary"),
        (lambda: sbs.correlations({"a": torch.arange(5.0), "b": torch.arange(4.0)}), "score 'b' must be 5 finite"),
        (lambda: sbs.correlations({"a": torch.tensor([1.0, torch.nan])}), "finite"),
        (lambda: sbs.median_agreement({"a": torch.arange(5.0)}), "at least two"),
        (lambda: sbs.extremes(torch.arange(5.0), 0.01), "share must be in"),
        (lambda: sbs.precision(torch.arange(3.0), torch.tensor([0, 1, 1])), "marked must be booleans"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
