"""What an example is worth to k nearest neighbours, exactly: ours beside pyDVL's and opendataval's.

    python tests/benchmarks/bench_value.py [rows] [validation rows]        # the libraries of peers.txt first

All three take the closed form of Jia et al. (2019) on the same rows of digits, and must agree: opendataval, which takes
float32 alone, as far as distances in float32 have the order of those in float64.
"""

import contextlib
import io
import sys
import time

import numpy as np
import pytest
import torch

from lib.data import load
from lib.scores.neighbours import knn_shapley

K = 5


def pydvl(x, y, x_val, y_val, k):
    from pydvl.valuation.dataset import Dataset
    from pydvl.valuation.methods.knn_shapley import KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    whole, validation = Dataset(x.numpy(), y.numpy()), Dataset(x_val.numpy(), y_val.numpy())
    way = KNNShapleyValuation(KNeighborsClassifier(k), validation, progress=False)
    return torch.from_numpy(np.asarray(way.fit(whole).result.values))


def opendataval(x, y, x_val, y_val, k):
    from opendataval.dataval import KNNShapley

    one_hot = lambda labels: torch.nn.functional.one_hot(labels, int(y.max()) + 1).float()
    way = KNNShapley(k_neighbors=k).input_data(x.float(), one_hot(y), x_val.float(), one_hot(y_val))
    with contextlib.redirect_stderr(io.StringIO()):
        return torch.from_numpy(way.train_data_values().evaluate_data_values()).double()


OTHERS = {"pyDVL": pydvl, "opendataval": opendataval}
WITHIN = {"pyDVL": 1e-12, "opendataval": 1e-3}


def clock(way, *arguments):
    begun = time.perf_counter()
    return way(*arguments), time.perf_counter() - begun


def problem(rows, validation):
    """Digits moved apart a little, since those at one distance may be taken in any order."""
    data = load("digits", n_train=rows, n_test=validation)
    g = torch.Generator().manual_seed(0)
    apart = lambda x: x.flatten(1).double() + 1e-3 * torch.rand(len(x), x[0].numel(), generator=g).double()
    return apart(data.x_train), data.y_train, apart(data.x_test), data.y_test


def compare(name, rows=1000, validation=300):
    """The largest difference over the largest value, our seconds and the other's."""
    arguments = problem(rows, validation)
    OTHERS[name](*(a[:50] for a in arguments), K)  # imports, compiles
    ours, base = min((clock(knn_shapley_of, *arguments) for _ in range(3)), key=lambda timed: timed[1])
    found, spent = clock(OTHERS[name], *arguments, K)
    return float((found - ours).abs().max() / ours.abs().max()), base, spent


def knn_shapley_of(x, y, x_val, y_val):
    return knn_shapley(x, y, x_val, y_val, k=K)


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_values(name):
    pytest.importorskip(name.lower(), reason=f"{name} is not installed: pip install {name}")
    assert compare(name, 100, 30)[0] < WITHIN[name]


def main(rows=1000, validation=300):
    for name in OTHERS:
        apart, base, spent = compare(name, rows, validation)
        times = f"{base:.3f} s, {name} {spent:.3f} s, {spent / base:.0f} ×"
        print(f"{rows:,} × {validation:,}: {times}; differ by {apart:.0e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
