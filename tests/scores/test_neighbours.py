"""Closed forms over neighbours, against their definitions; values towards validation data by name."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lib.catalogue import Settings, compute
from lib.data import uniform_noise
from lib.scores import knn_agreement, knn_shapley

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("k", [1, 2, 6])
def test_shapley_by_all_coalitions(k):
    n, x, y = 6, torch.randn(6, 2, generator=G), torch.arange(6) % 2
    x_val, y_val = torch.randn(3, 2, generator=G), torch.tensor([0, 1, 1])

    def worth(coalition):  # mean share of the k nearest (of all, where fewer) with the label, in k
        if not coalition:
            return 0.0
        rows = torch.tensor(coalition)
        near = rows[torch.cdist(x_val, x[rows]).argsort(1)[:, :k]]
        return float((y[near] == y_val[:, None]).double().sum(1).mean() / k)

    value = torch.zeros(n, dtype=torch.float64)
    for i, size in itertools.product(range(n), range(n)):
        for coalition in itertools.combinations([j for j in range(n) if j != i], size):
            value[i] += (worth((*coalition, i)) - worth(coalition)) / (n * math.comb(n - 1, size))
    torch.testing.assert_close(knn_shapley(x, y, x_val, y_val, k=k), value)


def test_shapley_of_many_is_the_mean_of_their_own():
    x, y, x_val, y_val = torch.randn(9, 2), torch.arange(9) % 3, torch.randn(300, 2), torch.arange(300) % 3
    halves = [knn_shapley(x, y, a, b) for a, b in zip(x_val.split(150), y_val.split(150), strict=True)]
    torch.testing.assert_close(knn_shapley(x, y, x_val, y_val), (halves[0] + halves[1]) / 2)


def test_agreement_by_sorting():
    x, y = torch.randn(40, 3, generator=G), torch.arange(40) % 3
    near = torch.cdist(x, x).fill_diagonal_(torch.inf).argsort(1)[:, :7]
    assert knn_agreement(x, y, k=7).equal((y[near] == y[:, None]).double().mean(1))
    with pytest.raises(ValueError, match="below the number of examples, 40, got 40"):
        knn_agreement(x, y, k=40)
    with pytest.raises(ValueError, match="x_val must be finite numbers .* at least one example"):
        knn_shapley(x, y, x[:0], y[:0])


def test_values_by_name_find_wrong_labels():
    x, y = torch.randn(240, 5, generator=G), torch.arange(240) % 2
    x[:, 0] += 3 * y
    noisy, flipped = uniform_noise(y[:160], 0.15, k=2, seed=0)
    names = ["KNN-Shapley", "kNN agreement", "TracIn, validation", "influence, validation"]
    settings = Settings(architecture="mlp-8", networks=2, curvatures=2, epochs=6, early=2, batch_size=20)
    validation = {"x_val": x[160:].numpy(), "y_val": y[160:].to(torch.uint8)}
    scored = compute(names, x[:160], noisy, **validation, settings=settings, progress=False)
    for name in names:
        value = scored[name].values if name != "kNN agreement" else -scored[name].hardness
        assert roc_auc_score(flipped.numpy(), -np.asarray(value)) > 0.8, name
    with pytest.raises(ValueError, match="KNN-Shapley needs x_val and y_val"):
        compute(["KNN-Shapley"], x[:160], noisy)
