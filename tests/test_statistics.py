import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from experiments.repeats import correlation_of_means, samples_needed
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
    assert statistics.standardized(torch.zeros(7, 1)).tolist() == [[0]] * 7


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


# Over networks and rows: the truth is known, and each trial draws both anew


def shifted(g, r, t, replicate, row, rest):
    """Additive: replicates, rows and rest are normal with these deviations, the mean is 0."""
    return replicate * g.standard_normal((r, 1)) + row * g.standard_normal((1, t)) + rest * g.standard_normal((r, t))


HARD, OF_CHOICE, NOISE = 1.5, 0.3, 0.3  # deviations of a row's difficulty, of its gain from a choice, of a training


def correctness(g, r, t, replicate):
    """Binary: right with one choice − right with another, of rows whose difficulty both share, in points."""
    margin = 1 + HARD * g.standard_normal((1, t))
    gain = 0.1 + OF_CHOICE * g.standard_normal((1, t))
    right = [
        margin + better + replicate * g.standard_normal((r, 1)) + NOISE * g.standard_normal((r, t)) > 0
        for better in (gain, 0.0)
    ]
    return 100.0 * right[0] - 100.0 * right[1]


def true_gain(replicate):
    area = lambda mean, *spread: scipy.stats.norm.cdf(
        mean / np.sqrt(sum(s * s for s in (HARD, replicate, NOISE, *spread)))
    )
    return 100 * (area(1.1, OF_CHOICE) - area(1))


@pytest.mark.parametrize(("r", "t"), [(5, 200), (5, 2000), (20, 200), (20, 2000)])
def test_coverage_over_replicates_and_rows(r, t, rng):
    trials = 600 if r * t <= 10_000 else 300
    for spread in ((1.0, 3.0, 3.0), (0.02, 3.0, 3.0), (0.1, 0.0, 5.0)):
        found = coverage(rng, lambda g, s=spread: statistics.crossed_interval(shifted(g, r, t, *s)), 0.0, trials)
        assert 0.92 <= found <= 0.98 + 0.01 * (spread[1] == 0), (spread, found)  # wider where parts cancel
    for replicate in (0.02, 0.1, 0.3):
        draw = lambda g, s=replicate: statistics.crossed_interval(correctness(g, r, t, s))
        found = coverage(rng, draw, true_gain(replicate), trials)
        assert 0.92 <= found <= 0.98, (replicate, found)


def test_students_t_over_replicates_leaves_out_the_rows(rng):
    for draw, truth in (
        (lambda g: shifted(g, 20, 200, 0.02, 3.0, 3.0).mean(1), 0.0),
        (lambda g: correctness(g, 20, 200, 0.02).mean(1), true_gain(0.02)),
    ):
        assert coverage(rng, lambda g, draw=draw: statistics.t_interval(draw(g)), truth, 400) < 0.75


def test_crossed_interval_is_the_layout_by_hand_and_students_t_where_rows_are_alike(rng):
    values = rng.standard_normal((6, 40)) + rng.standard_normal((6, 1)) + rng.standard_normal(40)
    replicates, rows, mean = values.mean(1), values.mean(0), values.mean()
    rest = sum((values[i, j] - replicates[i] - rows[j] + mean) ** 2 for i in range(6) for j in range(40)) / (5 * 39)
    parts = np.array([40 * replicates.var(ddof=1), 6 * rows.var(ddof=1), -rest]) / 240
    df = parts.sum() ** 2 / (parts**2 / [5, 39, 195]).sum()
    half = scipy.stats.t.ppf(0.975, df) * np.sqrt(parts.sum())
    assert statistics.crossed_interval(values) == pytest.approx((mean - half, mean + half))
    assert statistics.crossed_interval(values.T) == pytest.approx((mean - half, mean + half))
    alike = np.repeat(values[:, :1], 7, axis=1)
    assert statistics.crossed_interval(alike) == pytest.approx(statistics.t_interval(alike[:, 0]))
    assert statistics.crossed_interval(np.ones((3, 4))) == (1.0, 1.0)


@pytest.mark.parametrize(("r", "t"), [(3, 50), (5, 200), (20, 2000)])
def test_parts_that_cancel_leave_an_interval_of_ordinary_width(r, t, rng):
    """Without effects of replicates or rows, A + B − E is round E, and may come to 0: then E alone stands."""
    widths = [np.ptp(statistics.crossed_interval(rng.standard_normal((r, t)))) * np.sqrt(r * t) for _ in range(300)]
    assert 2.5 < min(widths) and max(widths) < 5 * np.median(widths)


def test_as_many_samples_as_are_needed_give_the_interval(rng):
    first = shifted(rng, 30, 3000, 0.1, 2.0, 3.0)
    needed = samples_needed(first, 0.25, replicates=(2, 10, 40))
    assert needed[2] is None and needed[10] > needed[40]
    for r in (10, 40):
        halves = [
            np.ptp(statistics.crossed_interval(shifted(rng, r, needed[r], 0.1, 2.0, 3.0))) / 2 for _ in range(100)
        ]
        assert np.mean(halves) == pytest.approx(0.25, rel=0.15)


def noisy_scores(g, n, runs, of_network, same):
    """Two scores by so many networks, which share more with their own network than with the others."""
    truth, trait = g.standard_normal(n), g.standard_normal((2, n))
    other = 0.6 * truth + 0.8 * g.standard_normal(n)
    lean = of_network * g.standard_normal((2, runs, 1))
    a = truth + lean[0] * trait[0] + 0.5 * g.standard_normal((runs, n))
    b = other + lean[0 if same else 1] * trait[0 if same else 1] + 0.5 * g.standard_normal((runs, n))
    return a, b


@pytest.mark.parametrize(
    ("n", "runs", "of_network", "same"), [(200, 5, 0.5, False), (800, 5, 0.5, False), (800, 10, 0.3, True)]
)
def test_coverage_of_the_correlation_of_means(n, runs, of_network, same, rng):
    z = lambda g: np.arctanh(statistics.spearman_r(*(x.mean(0) for x in noisy_scores(g, 3000, runs, of_network, same))))
    truth = np.tanh(np.mean([z(rng) for _ in range(200)]))

    def draw(g):
        return correlation_of_means(*noisy_scores(g, n, runs, of_network, same), same_runs=same)[1]

    assert 0.92 <= coverage(rng, draw, truth, 250) <= 0.99


def test_rows_alone_leave_out_the_networks(rng):
    z = lambda g: np.arctanh(statistics.spearman_r(*(x.mean(0) for x in noisy_scores(g, 3000, 5, 0.5, False))))
    truth = np.tanh(np.mean([z(rng) for _ in range(200)]))
    alone = lambda g: correlation_of_means(*(x.mean(0) for x in noisy_scores(g, 2000, 5, 0.5, False)))[1]
    assert coverage(rng, alone, truth, 150) < 0.88


def test_without_networks_it_is_the_correlation_over_examples(rng):
    a, b = correlated(rng, 1500, 0.6)
    for rank, same in ((True, statistics.spearman), (False, statistics.pearson)):
        value, interval = correlation_of_means(a, b, rank=rank)
        assert value == pytest.approx(same(a, b)[0])
        assert interval == pytest.approx(same(a, b)[1], abs=1e-3)
    assert correlation_of_means(a, 2 * a)[0] == pytest.approx(1)


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
    assert statistics.spearman(a, b) == statistics.spearman(a, b, seed=0)  # what is printed does not say its seed


@pytest.mark.parametrize(("row", "share"), [(2, 0.13), (4, 0.02)])
def test_bootstrap_bears_one_resample_in_twenty_that_is_not_finite(row, share):
    """Of n examples all resamples but (1 − 1/n)ⁿ hold a given one: here those with none of the first few."""
    x = np.arange(10.0)
    mean = lambda x, axis: np.where((x < row).any(axis), x.mean(axis), np.nan)  # without: (1 − row/10)¹⁰
    assert (1 - row / 10) ** 10 == pytest.approx(share, abs=0.03)
    if share > 0.05:
        with pytest.raises(ValueError, match="not finite on over 5% of the resamples"):
            statistics.bootstrap_interval(mean, x)
    else:
        assert statistics.bootstrap_interval(mean, x)[0] < 4.5


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
        (lambda: statistics.auroc([1, 2, 3], [True, False, False]), "at least 2 and leave at least 2, got 1"),
        (lambda: statistics.t_interval([1.0]), "at least two runs, got shape"),
        (lambda: statistics.t_interval([1.0, np.nan]), "values must be finite"),
        (lambda: statistics.share([1, 0]), "flags must be booleans"),
        (
            lambda: statistics.crossed_interval(np.ones((1, 9))),
            r"\(replicates, rows\), at least 2 of each, got shape \(1, 9\)",
        ),
        (lambda: correlation_of_means(np.eye(4), np.eye(5)), r"one n, as many if same_runs, got \(4, 4\)"),
        (lambda: statistics.bootstrap_interval(np.mean, [1.0, np.inf]), r"samples\[0\] must be finite"),
        (lambda: statistics.bootstrap_interval(np.corrcoef, [1, 2], [1, 2, 3], paired=True), "one length, got 2, 3"),
        (lambda: statistics.bootstrap_interval(lambda x: np.nan, [1, 2, 3]), "not finite on over 5% of the resamples"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
