import math

import pytest
import torch
from scipy.stats import spearmanr

from experiments.side_by_side import agreement, rolling_means


def noisy(signal, seed, runs=10, n=4000):
    g = torch.Generator().manual_seed(seed)
    return signal * torch.randn(n, generator=torch.Generator().manual_seed(99)) + torch.randn(runs, n, generator=g)


def test_rolling_means_by_hand():
    runs = torch.tensor([[0.0, 1.0], [3.0, 1.0], [6.0, 4.0]])
    torch.testing.assert_close(rolling_means(runs, 1), runs)
    torch.testing.assert_close(rolling_means(runs, 2), torch.tensor([[1.5, 1.0], [4.5, 2.5], [3.0, 2.5]]))
    torch.testing.assert_close(rolling_means(runs, 3), torch.tensor([[3.0, 2.0]]).expand(3, 2))


def test_agreement_is_spearman_of_the_means():
    own, others = noisy(1.0, 0, runs=4, n=50), noisy(1.0, 1, runs=3, n=50)
    table = agreement(own, others)
    assert table.groupby("runs").size().to_dict() == {1: 4, 2: 4, 3: 4, 4: 1}
    row = table.query("runs == 3 and start == 2").iloc[0]
    mean = (own[2] + own[3] + own[0]) / 3
    assert row.own == pytest.approx(spearmanr(mean, own.mean(0))[0])
    assert row.others == pytest.approx(spearmanr(mean, others.mean(0))[0])


def test_pure_noise_agrees_with_its_own_mean_and_not_with_others():
    table = agreement(noisy(0.0, 0), noisy(0.0, 1)).groupby("runs")[["own", "others"]].mean()
    pearson = 1 / math.sqrt(10)  # of a run with the mean of ten; Spearman of normal scores is 6/π asin(ρ/2)
    assert table.own[1] == pytest.approx(6 / math.pi * math.asin(pearson / 2), abs=0.02)
    assert table.own[10] == pytest.approx(1)
    assert table.others.abs().max() < 0.05


def test_a_shared_signal_is_found_in_others_the_better_the_more_runs():
    by_runs = agreement(noisy(1.0, 0), noisy(1.0, 1)).groupby("runs").others.mean()
    assert by_runs.is_monotonic_increasing
    pearson = math.sqrt(1 / 2) * math.sqrt(10 / 11)  # attenuation by the noise of either side
    assert by_runs[1] == pytest.approx(6 / math.pi * math.asin(pearson / 2), abs=0.02)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="runs must be from 1 to 3, got 4"):
        rolling_means(torch.zeros(3, 5), 4)
    with pytest.raises(ValueError, match=r"per_run must be \(runs, examples\)"):
        rolling_means(torch.zeros(5), 1)
    with pytest.raises(ValueError, match="others must be of the same examples"):
        agreement(torch.zeros(3, 5), torch.zeros(3, 4))
