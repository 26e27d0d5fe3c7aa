"""Sums of attributions over random halves, against scipy, autograd and what must be where there is no noise."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from experiments import attribution
from lib.networks.models import mlp
from lib.training.retraining import removals

N, DECAY = 18, 0.05


@pytest.fixture(scope="module")
def task():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N + 7, 3, generator=g).double()
    y = (x @ torch.randn(3, 3, generator=g).double() + torch.randn(N + 7, 3, generator=g)).argmax(1)
    settings = {"decay": DECAY, "damping": 0.0, "steps": 4000}
    return attribution.Task(mlp(3, (), 3, "tanh").double(), x[:N], y[:N], x[N:], y[N:], **settings)


def best(task, seen, n):
    """Losses on the test examples at the minimum of (1/n) Σ_S ℓ + ½λ‖w‖², by scipy."""
    logits = lambda w, x: x @ w[:9].view(3, 3).T + w[9:]

    def objective(w):
        w = torch.tensor(w, requires_grad=True)
        total = nn.functional.cross_entropy(logits(w, task.x[seen]), task.y[seen], reduction="sum") / n
        (total := total + DECAY / 2 * w @ w).backward()
        return total.item(), w.grad.numpy()

    w = torch.tensor(minimize(objective, np.zeros(12), jac=True, options={"gtol": 1e-9}).x)
    return nn.functional.cross_entropy(logits(w, task.x_test), task.y_test, reduction="none")


def test_a_half_is_trained_to_its_own_minimum(task):
    removed = attribution.halves(N, 3, seed=5)
    assert removed.shape == (3, N) and (removed.sum(1) == N // 2).all() and (removed[0] != removed[1]).any()
    found = attribution.outcomes(task, 3, 5, start=1)
    p = torch.stack([best(task, ~gone, N // 2) for gone in removed]).neg().exp()
    torch.testing.assert_close(found, (p / (1 - p)).log(), atol=1e-4, rtol=1e-4)


def test_left_out_of_a_convex_problem_all_truths_but_the_proximal_are_one(task):
    removed = removals([3, 8], N)
    wanted = torch.stack([best(task, ~gone, N) for gone in removed]) - best(task, torch.ones(N, dtype=torch.bool), N)
    found = attribution.left_out(task, 0, removed)
    for name in ("from the optimum", "from scratch", "to convergence"):
        assert found[name] == pytest.approx(wanted.numpy(), abs=2e-4)
    assert np.corrcoef(found["proximal response"].ravel(), wanted.ravel())[0, 1] > 0.9


def test_attributions_point_the_way_of_leaving_out(task):
    found, truth = attribution.attributions(task, 0, True), attribution.left_out(task, 0, removals(list(range(N)), N))
    for name in ("Hessian", "Gauss–Newton"):
        assert np.corrcoef(found[name].ravel(), truth["to convergence"].T.ravel())[0, 1] > 0.9
    for name in ("TracIn", "linearized"):
        assert np.corrcoef(found[name].ravel(), truth["to convergence"].T.ravel())[0, 1] > 0.2
    assert found["gradient"] < 0.01 and found["lowest"] == pytest.approx(DECAY, rel=1e-3)


def test_trak_by_its_definition(task):
    """τᵢ(t) = φ(t)ᵀ(ΦᵀΦ + nλI)⁻¹φᵢ (1 − pᵢ), with φ the gradient of log p/(1 − p) by autograd."""
    (weights,) = task.train(task.start([0]), [task.steps])
    net = task.net(weights)

    def rows(x, y):
        for one, label in zip(x, y, strict=True):
            p = net(one[None]).softmax(1)[0, label]
            slope = torch.autograd.grad((p / (1 - p)).log(), list(net.parameters()))
            yield torch.cat([part.flatten() for part in slope]), 1 - p.detach()

    phi, missing = (torch.stack(parts) for parts in zip(*rows(task.x, task.y), strict=True))
    phi_test = torch.stack([row for row, _ in rows(task.x_test, task.y_test)])
    inverse = torch.linalg.inv(phi.T @ phi + N * DECAY * torch.eye(12).double())
    wanted = (phi_test @ inverse @ phi.T * missing).numpy()
    member = attribution.attributions(task, 0)
    assert attribution.trak([member]) == pytest.approx(wanted, rel=1e-6)
    assert attribution.reaches(task, 0, [DECAY])[0] == pytest.approx(member["reach"], rel=1e-9)


def test_the_ceiling_is_one_without_noise_and_falls_with_it():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(1, 400, 3))
    noisy = signal + 2 * rng.normal(size=(8, 400, 3))  # reliability of the mean of 8: 1/(1 + 4/8)
    assert attribution.ceiling(np.repeat(signal, 4, 0)) == pytest.approx(1)
    assert attribution.ceiling(noisy).mean() == pytest.approx((2 / 3) ** 0.5, abs=0.05)


def test_the_band_of_chance_is_that_of_dependent_rows():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(1, 50)), rng.normal(size=(1, 50))
    low, high = attribution.null_band(a, b)
    assert -low == pytest.approx(1.96 / 7, abs=0.05) and high == pytest.approx(1.96 / 7, abs=0.05)
    assert attribution.null_band(np.repeat(a, 9, 0), b) == pytest.approx((low, high))  # nine equal rows are one
    value, interval, _ = attribution.agreement(np.stack([[a[0], b[0]]] * 2), np.concatenate([a, b]))
    assert value == pytest.approx(1) and interval == pytest.approx((1, 1))
