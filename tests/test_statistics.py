import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from lib import statistics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def correlated(rng, n, r):
    a = rng.standard_normal(n)
    return a, r * a + np.sqrt(1 - r * r) * rng.standard_normal(n)


def reweighted(statistic, a, b, i, step=1e-6):
    """Derivative of a statistic of the weighted sample as example i gains weight: the definition of its influence."""
    n = len(a)
    weight = lambda e: np.full(n, (1 - e) / n) + e * (np.arange(n) == i)
    return (statistic(a, b, weight(step)) - statistic(a, b, weight(-step))) / (2 * step)


def weighted_pearson(a, b, w):
    a, b = a - w @ a, b - w @ b
    return (w @ (a * b)) / np.sqrt((w @ (a * a)) * (w @ (b * b)))


def weighted_spearman(a, b, w):
    rank = lambda x: ((x[None] < x[:, None]) + 0.5 * (x[None] == x[:, None])) @ w
    return weighted_pearson(rank(a), rank(b), w)


# Influence of an example


@pytest.mark.parametrize("ties", [False, True])
def test_influence_is_the_derivative_with_respect_to_weight(rng, ties):
    a, b = correlated(rng, 25, 0.6)
    if ties:
        a, b = np.round(a), np.maximum(np.round(2 * b), 0)
    pairs = [(statistics.pearson_influence, weighted_pearson), (statistics.spearman_influence, weighted_spearman)]
    for influence, definition in pairs:
        slow = [reweighted(definition, a, b, i) for i in range(25)]
        np.testing.assert_allclose(influence(a, b), slow, atol=1e-6)
        assert abs(influence(a, b).sum()) < 1e-10


def test_auroc_error_of_two_wholly_apart_is_zero_and_of_one_population_is_mann_whitneys(rng):
    assert statistics.auroc_error(np.arange(3.0) + 10, np.arange(4.0)) == 0
    a, b = rng.standard_normal(4000), rng.standard_normal(2000)
    assert statistics.auroc_error(a, b) == pytest.approx(np.sqrt((4000 + 2000 + 1) / (12 * 4000 * 2000)), rel=0.03)


# Features


def test_standardized_by_hand_in_float64_and_by_the_training_rows():
    x = torch.tensor([[1.0, 1e6], [3.0, 1e6]])
    assert statistics.standardized(x).tolist() == [[-1, 0], [1, 0]]
    assert statistics.standardized(torch.tensor([[5.0, 7.0]]), x).tolist() == [[3, 0]]
    year = torch.tensor([[16_777_217.0], [16_777_216.0]], dtype=torch.float64)  # one number in float32
    assert statistics.standardized(year + 2**30).tolist() == [[1], [-1]]
    assert statistics.standardized(torch.tensor([[2**30], [2**30 + 1]])).tolist() == [[-1], [1]]


def test_standardized_pictures_by_channel():
    x = torch.rand(20, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([1.0, 9.0]).view(1, 2, 1, 1) + 3
    z = statistics.standardized(x)
    assert z.dtype == torch.float32 and z.shape == x.shape
    torch.testing.assert_close(z.double().mean((0, 2, 3)), torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.square().mean((0, 2, 3)), torch.ones(2))
    torch.testing.assert_close(statistics.standardized(x[3:5], x), z[3:5])


def test_what_only_rounding_varies_is_constant():
    tenths = torch.tensor([[0.1 + 0.2], [0.3]], dtype=torch.float64)
    assert statistics.standardized(tenths).tolist() == [[0], [0]]
    assert statistics.standardized(torch.full((7, 1), 0.1)).count_nonzero() == 0


# Values


def test_values_are_scipys_and_scikit_learns(rng):
    for n in (50, 3000):
        a, b = correlated(rng, n, 0.4)
        b = np.round(b, 1)
        assert statistics.spearman(a, b)[0] == pytest.approx(scipy.stats.spearmanr(a, b)[0], abs=1e-12)
        assert statistics.pearson(a, b)[0] == pytest.approx(scipy.stats.pearsonr(a, b)[0], abs=1e-12)
        assert statistics.auroc(b, a > 0)[0] == pytest.approx(roc_auc_score(a > 0, b), abs=1e-12)


def test_vectorized_statistics_agree_row_by_row(rng):
    a, b = rng.integers(0, 5, (2, 7, 30)).astype(float)
    for ours, theirs in [(statistics.spearman_r, scipy.stats.spearmanr), (statistics.pearson_r, scipy.stats.pearsonr)]:
        np.testing.assert_allclose(ours(a, b), [theirs(x, y)[0] for x, y in zip(a, b, strict=True)])
        np.testing.assert_allclose(ours(a.T, b.T, axis=0), ours(a, b))


def test_correlations_ignore_what_they_should(rng):
    a, b = correlated(rng, 1500, 0.5)
    value, interval = statistics.spearman(a, b)
    assert statistics.spearman(np.exp(a), b**3) == (pytest.approx(value), pytest.approx(interval))
    turned, (low, high) = statistics.spearman(a, -b)
    assert turned == pytest.approx(-value) and (-high, -low) == pytest.approx(interval)
    assert statistics.pearson(3 * a - 1, b)[1] == pytest.approx(statistics.pearson(a, b)[1])


def test_perfect_agreement_is_a_point():
    for n in (10, 5000):
        assert statistics.spearman(np.arange(n), np.arange(n) ** 2) == (1.0, (1.0, 1.0))
        assert statistics.pearson(np.arange(n), -2 * np.arange(n)) == (-1.0, (-1.0, -1.0))
        assert statistics.auroc(np.arange(n), np.arange(n) > n / 2) == (1.0, (1.0, 1.0))


# Intervals: one method against the other, and both against the truth


@pytest.mark.parametrize("shape", ["plain", "ties", "heavy tails"])
def test_the_two_methods_agree(rng, monkeypatch, shape):
    a, b = correlated(rng, 800, 0.5)
    if shape == "ties":
        b = np.maximum(np.round(b), 0)
    if shape == "heavy tails":
        a, b = np.exp(a), np.exp(b)
    flags = a + rng.standard_normal(800) > np.median(a)
    calls = {"spearman": lambda: statistics.spearman(a, b), "auroc": lambda: statistics.auroc(b, flags)}
    if shape != "heavy tails":  # where Pearson's sampling distribution itself is far from its limit
        calls["pearson"] = lambda: statistics.pearson(a, b)
    for name, call in calls.items():
        resampled = np.array(call()[1])
        with monkeypatch.context() as patch:
            patch.setattr(statistics, "FEW", 0)
            limit = np.array(call()[1])
        width = np.ptp(resampled)
        assert np.abs(resampled - limit).max() < 0.12 * width, (name, resampled, limit)


def coverage(rng, draw, truth, trials):
    inside = 0
    for _ in range(trials):
        low, high = draw(rng)
        inside += low <= truth <= high
    return inside / trials


@pytest.mark.parametrize("r", [0.0, 0.7])
def test_coverage_of_spearman_in_the_limit(rng, monkeypatch, r):
    monkeypatch.setattr(statistics, "FEW", 0)
    truth = 6 / np.pi * np.arcsin(r / 2)  # of a bivariate normal
    assert 0.93 <= coverage(rng, lambda g: statistics.spearman(*correlated(g, 300, r))[1], truth, 1500) <= 0.97


def test_coverage_of_auroc_in_the_limit(rng, monkeypatch):
    monkeypatch.setattr(statistics, "FEW", 0)
    positive, shift = np.arange(400) < 80, ndtri(0.9) * np.sqrt(2)  # AUROC 0.9 of two normals

    def draw(g):
        return statistics.auroc(g.standard_normal(400) + shift * positive, positive)[1]

    assert 0.93 <= coverage(rng, draw, 0.9, 1000) <= 0.97


def test_coverage_of_the_bootstrap_and_of_students_t(rng):
    skewed = lambda g: statistics.bootstrap_interval(
        lambda x, axis: x.mean(axis), g.exponential(size=60), n_resamples=499
    )
    assert 0.90 <= coverage(rng, skewed, 1.0, 400) <= 0.97
    few = lambda g: statistics.t_interval(g.normal(3, 2, 4))
    assert 0.935 <= coverage(rng, few, 3.0, 3000) <= 0.965


def test_coverage_of_the_share(rng):
    for truth in (0.5, 0.95):
        assert 0.92 <= coverage(rng, lambda g, p=truth: statistics.share(g.random(100) < p)[1], truth, 1500) <= 0.98


def test_coverage_of_differences(rng):
    def ranks(g):
        c = g.standard_normal(400)
        shared = g.standard_normal(400)
        return statistics.spearman_difference(c + shared + g.standard_normal(400), c + shared, c)[1]

    def areas(g):
        positive = np.arange(400) < 150
        shared = positive + g.standard_normal(400)
        return statistics.auroc_difference(shared, shared + g.standard_normal(400), positive)[1]

    spearman = lambda r: 6 / np.pi * np.arcsin(r / 2)
    area = lambda spread: scipy.stats.norm.cdf(1 / spread / np.sqrt(2))
    assert 0.93 <= coverage(rng, ranks, spearman(3**-0.5) - spearman(2**-0.5), 600) <= 0.97
    assert 0.93 <= coverage(rng, areas, area(1) - area(2**0.5), 600) <= 0.97


def test_differences_are_differences(rng):
    a, c = correlated(rng, 500, 0.6)
    b = rng.standard_normal(500)
    assert statistics.spearman_difference(a, b, c)[0] == pytest.approx(
        statistics.spearman(a, c)[0] - statistics.spearman(b, c)[0]
    )
    assert statistics.spearman_difference(a, a, c) == (0, (0, 0))
    assert statistics.auroc_difference(a, a, c > 0) == (0, (0, 0))


def test_t_interval_is_the_closed_form_and_runs_along_the_first_axis():
    low, high = statistics.t_interval([1.0, 2.0, 4.0])
    mean, half = 7 / 3, 4.30265273 * np.sqrt(7 / 3) / np.sqrt(3)
    assert (low, high) == pytest.approx((mean - half, mean + half))
    lows, highs = statistics.t_interval(np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))
    np.testing.assert_allclose([lows, highs], [[low, 0], [high, 0]])


def test_bootstrap_of_a_mean_has_its_standard_error(rng):
    x = rng.standard_normal(5000)
    low, high = statistics.bootstrap_interval(lambda x, axis: x.mean(axis), x, n_resamples=4000)
    assert (high - low) / 2 == pytest.approx(1.96 * x.std() / np.sqrt(5000), rel=0.05)


def test_bootstrap_follows_the_seed_and_pairs(rng):
    a, b = correlated(rng, 200, 0.9)
    gap = lambda a, b, axis: (a - b).mean(axis)
    apart = lambda a, b, axis: a.mean(axis) - b.mean(axis)
    assert statistics.bootstrap_interval(np.mean, a, seed=1) == statistics.bootstrap_interval(np.mean, a, seed=1)
    assert statistics.bootstrap_interval(np.mean, a, seed=1) != statistics.bootstrap_interval(np.mean, a, seed=2)
    paired, unpaired = statistics.bootstrap_interval(gap, a, b, paired=True), statistics.bootstrap_interval(apart, a, b)
    assert np.ptp(unpaired) > 2 * np.ptp(paired)


def test_bootstrap_of_what_cannot_vary_is_a_point():
    assert statistics.bootstrap_interval(np.mean, np.full(20, 0.25)) == (0.25, 0.25)


def test_tied_few_examples_have_an_interval_without_a_warning(recwarn):
    value, (low, high) = statistics.spearman([1, 2, 3, 5, 4, 3], [1, 4, 9, 8, 7, 3])
    assert low <= value <= high and not recwarn.list


@pytest.mark.parametrize("statistic", [statistics.spearman_r, lambda a, b: scipy.stats.spearmanr(a, b)[0]])
def test_permutation_band_is_that_of_no_relation(rng, statistic):
    a, b = correlated(rng, 101, 0.9)
    low, high = statistics.permutation_band(statistic, a, b, n_resamples=600)
    assert (low, high) == pytest.approx((-0.196, 0.196), abs=0.05)


def test_permutation_band_of_few_is_exact():
    a = np.arange(4.0)
    every = [scipy.stats.spearmanr(a, p)[0] for p in itertools.permutations(a)]
    assert statistics.permutation_band(statistics.spearman_r, a, a) == pytest.approx(
        tuple(np.quantile(every, [0.025, 0.975]))
    )


def test_sixty_thousand_examples_need_no_resampling(rng, monkeypatch):
    monkeypatch.setattr(statistics, "bootstrap_interval", lambda *a, **k: pytest.fail("resampled"))
    a, b = correlated(rng, 60_000, 0.5)
    for value, (low, high) in (statistics.spearman(a, b), statistics.pearson(a, b), statistics.auroc(a, b > 1)):
        assert low < value < high and high - low < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.spearman([1, 2, 3], [1, 2, 4]), "a must hold at least 4 values for a correlation, got 3"),
        (lambda: statistics.spearman(range(9), range(8)), "samples must have one length, got 9, 8"),
        (lambda: statistics.pearson(range(9), [2] * 9), "b must vary, got 2.0 everywhere"),
        (lambda: statistics.spearman([1, 2, np.nan, 4], range(4)), "a must be finite, got 1 NaN or infinite"),
        (lambda: statistics.pearson(np.ones((4, 2)), range(4)), r"a must be \(n,\) with n ≥ 2, got shape \(4, 2\)"),
        (lambda: statistics.auroc([1, 2, 3, 4], [0, 1, 0, 1]), "positive must be booleans"),
        (lambda: statistics.auroc([1, 2, 3], [True, False, False]), "at least 2 and leave at least 2, got 1 and 2"),
        (lambda: statistics.t_interval([1.0]), "at least two runs"),
        (lambda: statistics.t_interval([1.0, np.nan]), "values must be finite"),
        (lambda: statistics.share([1, 0]), "flags must be booleans"),
        (lambda: statistics.bootstrap_interval(np.mean, [1.0, np.inf]), r"samples\[0\] must be finite"),
        (lambda: statistics.bootstrap_interval(np.corrcoef, [1, 2], [1, 2, 3], paired=True), "one length, got 2, 3"),
        (lambda: statistics.bootstrap_interval(lambda x: np.nan, [1, 2, 3]), "not finite on over 5% of the resamples"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
