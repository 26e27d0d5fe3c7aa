"""Wrong labels beside cleanlab, on the same rows and labels: AUROC, precision at the noise rate, F1 of flags, seconds.

    pytest tests/benchmarks/bench_audit.py -s        # pip install cleanlab first

Fashion-MNIST (a random part, by class) with labels replaced uniformly, and with labels replaced by that of the class
that looks most alike. cleanlab gets its own way with the same network: five folds, `find_label_issues`.

    pytest tests/benchmarks/bench_audit.py -s -k embeddings --full  # 50,000 × 512: 28 s on two cores
"""

import time

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neural_network import MLPClassifier

from experiments.noise import nearest_class, paired_noise
from lib import audit
from lib.data import load, uniform_noise

ROWS = 3000


NOISE = [("uniform", 0.05), ("uniform", 0.2), ("paired", 0.15)]


def marks(doubt, flags, flipped, seconds):
    """AUROC, precision at the noise rate, F1 of the flags, seconds."""
    top = np.argsort(-doubt)[: flipped.sum()]
    return roc_auc_score(flipped, doubt), flipped[top].mean(), f1_score(flipped, flags), seconds


def compare(kind, rate, rows=ROWS):
    """The marks of the audit and of cleanlab on the same rows and labels, by name."""
    from cleanlab import filter as cleanlab

    data = load("fashion-mnist", n_train=rows)
    x, y = data.x_train, data.y_train
    if kind == "uniform":
        noisy, flipped = uniform_noise(y, rate, k=10, seed=1)
    else:
        noisy, flipped = paired_noise(y, rate, nearest_class(x, y), seed=1)
    flipped, begun = flipped.numpy(), time.perf_counter()
    report = audit((x.numpy(), noisy.numpy()), minutes=1)
    order = report.scores[report.facts["order"].lower()].to_numpy()
    ours = marks(order, report.scores.suspect.to_numpy(), flipped, time.perf_counter() - begun)
    begun = time.perf_counter()
    network = MLPClassifier((256,), max_iter=15, learning_rate_init=1e-3, batch_size=100, random_state=0)
    p = audit._crossfit(network, audit.prepared(x), noisy, 10, 0).numpy()
    flags = cleanlab.find_label_issues(noisy.numpy(), p, n_jobs=1)
    doubt = 1 - p[np.arange(rows), noisy.numpy()]
    theirs = marks(doubt, flags, flipped, time.perf_counter() - begun)
    return {f"audit ({report.facts['order']})": ours, "cleanlab, the same network": theirs}


@pytest.mark.parametrize(("kind", "rate"), NOISE)
def test_beside_cleanlab(kind, rate):
    pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed: pip install cleanlab")
    print(f"\n{kind} noise {rate:.0%}, {ROWS} rows")
    found = compare(kind, rate)
    for name, one in found.items():
        print(f"{name:28s} AUROC {one[0]:.3f}  precision {one[1]:.3f}  F1 {one[2]:.3f}  {one[3]:5.1f} s")
    ours, theirs = found.values()
    assert ours[0] > theirs[0] - 0.02 and ours[2] > theirs[2] - 0.05


def test_embeddings(pytestconfig):
    """Doubt, EL2N and near copies of ten clusters in 512 dimensions, with wrong labels and near copies planted: 50,000
    rows with ``--full``, a tenth of them otherwise."""
    rng, n = np.random.default_rng(0), 50_000 if pytestconfig.getoption("full") else 5000
    y = np.arange(n) % 10
    x = (rng.normal(size=(10, 512))[y] + 3 * rng.normal(size=(n, 512))).astype(np.float32)
    x[-100:] = x[:100] + 1e-3 * rng.normal(size=(100, 512))
    noisy, flipped = uniform_noise(torch.from_numpy(y), 0.02, k=10, seed=1)
    begun = time.perf_counter()
    report = audit((x, noisy.numpy()), minutes=1)
    seconds = time.perf_counter() - begun
    print(f"\n{seconds:.0f} s; {report}")
    assert roc_auc_score(flipped, report.scores.doubt) > 0.95 and len(report.copies) >= 95
