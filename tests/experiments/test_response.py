"""Optima without examples, and proximal Bregman responses, against scipy, their own definitions and limits."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from experiments.response import leave_out, optimum, proximal_bregman
from lib.networks.models import Classifier, mlp
from lib.training.retraining import removals

DECAY = 0.02


def data(n=20, d=3, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g).double()
    return x, (x @ torch.randn(d, k, generator=g).double() + torch.randn(n, k, generator=g)).argmax(1)


def placed(model, found, member=0):
    model.load_state_dict({name: value[member] for name, value in found.parameters.items()})
    return model


@pytest.fixture(scope="module")
def trained():
    x, y = data()
    model = mlp(3, (4,), 3, "tanh").double()
    torch.manual_seed(0)
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    return placed(model, optimum(model, x, y, weight_decay=DECAY)), x, y


def flat(found, member=0):
    return torch.cat([value[member].flatten() for value in found.parameters.values()])


def test_linear_leave_out_is_scipys_optimum():
    x, y = data()
    model = placed(nn.Linear(3, 3).double(), optimum(nn.Linear(3, 3).double(), x, y, weight_decay=DECAY))
    found = leave_out(model, x, y, removals([[0], [3, 4]], 20), weight_decay=DECAY)
    assert found.gradient_norm.max() < 1e-8
    for member, gone in enumerate([[0], [3, 4]]):
        keep = np.setdiff1d(np.arange(20), gone)

        def objective(w, keep=keep):
            f = x[keep].numpy() @ w[:9].reshape(3, 3).T + w[9:]
            top = f.max(1, keepdims=True)
            loss = np.log(np.exp(f - top).sum(1)) + top[:, 0] - f[np.arange(len(keep)), y[keep]]
            return loss.sum() / 20 + DECAY / 2 * w @ w

        wanted = minimize(objective, np.zeros(12), tol=1e-12).x
        np.testing.assert_allclose(flat(found, member), wanted, atol=1e-5)


def test_the_optimum_is_one(trained):
    model, x, y = trained
    loss = nn.functional.cross_entropy(model(x), y) + DECAY / 2 * sum(p.square().sum() for p in model.parameters())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert torch.cat([g.flatten() for g in gradients]).norm() < 1e-8


def test_removing_nobody_moves_nothing(trained):
    model, x, y = trained
    nobody = torch.zeros(1, 20, dtype=torch.bool)
    for find in (leave_out, proximal_bregman):
        change = flat(find(model, x, y, nobody, weight_decay=DECAY)) - torch.cat(
            [p.flatten() for p in model.parameters()]
        )
        assert change.detach().norm() < 1e-6


def objective_of_the_response(model, start, x, y, gone, decay):
    """Bregman divergences written out, D = L(h) − L(h₀) − ∇L(h₀)·(h − h₀), with each example's own label."""
    with torch.no_grad():
        h0 = start(x)
    h0.requires_grad_()
    before = nn.functional.cross_entropy(h0, y, reduction="none")
    slope = torch.autograd.grad(before.sum(), h0)[0]
    h = model(x)
    divergence = (
        nn.functional.cross_entropy(h, y, reduction="none") - before.detach() - (slope * (h - h0.detach())).sum(1)
    )
    away = sum((p - q.detach()).square().sum() for p, q in zip(model.parameters(), start.parameters(), strict=True))
    return divergence.mean() - nn.functional.cross_entropy(h[gone], y[gone]) / len(x) + decay / 2 * away


def test_the_proximal_response_solves_its_definition(trained):
    start, x, y = trained
    found = proximal_bregman(start, x, y, removals([7], 20), weight_decay=DECAY, damping=0.01)
    model = placed(mlp(3, (4,), 3, "tanh").double(), found)
    value = objective_of_the_response(model, start, x, y, [7], DECAY + 0.01)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])
    assert gradient.norm() < 1e-7
    assert value < objective_of_the_response(start, start, x, y, [7], DECAY + 0.01)


def test_the_response_is_linear_for_strong_damping(trained):
    """(λ+δ) Δw → (1/n) ∇ℓᵢ: with nothing but proximity, a response is a gradient step uphill on the removed example."""
    model, x, y = trained
    found = proximal_bregman(model, x, y, removals([2], 20), weight_decay=DECAY, damping=1e5)
    gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x[2:3]), y[2:3]), list(model.parameters()))
    wanted = torch.cat([g.flatten() for g in gradient]) / 20 / (1e5 + DECAY)
    change = flat(found) - torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(change, wanted, rtol=1e-3, atol=1e-13)


def test_members_do_not_depend_on_each_other_and_any_network_goes(trained):
    model, x, y = trained
    every = leave_out(model, x, y, torch.eye(20, dtype=torch.bool), weight_decay=DECAY)
    one = leave_out(model, x, y, removals([11], 20), weight_decay=DECAY)
    torch.testing.assert_close(flat(every, 11), flat(one), atol=1e-7, rtol=1e-6)
    body = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Tanh(), nn.Flatten())
    picture = Classifier(body, nn.Linear(4, 3)).double()
    picture = placed(picture, optimum(picture, x, y, weight_decay=DECAY))
    assert leave_out(picture, x, y, removals([0, 1, 2], 20), weight_decay=DECAY).gradient_norm.max() < 1e-7


@pytest.mark.parametrize("flat_rows", [True, False])
def test_networks_side_by_side_are_networks_one_after_another(flat_rows):
    """Chains have their own batched gradients and metric, other networks torch's: each against single calls."""
    x, y = data()
    model = mlp(3, (4, 3), 3, "tanh").double()
    if not flat_rows:
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double().eval()
    g = torch.Generator().manual_seed(1)
    stacked = {
        name: torch.rand(2, *v.shape, generator=g).double() if v.is_floating_point() else v.expand(2, *v.shape)
        for name, v in model.state_dict().items()
    }
    gone = torch.stack([removals([0, 1, 2], 20), removals([3, 4, 5], 20)])
    rest = optimum(model, x, y, weights=stacked, weight_decay=DECAY)
    assert rest.gradient_norm.max() < 1e-7 and rest.gradient_norm.shape == (2, 1)
    stacked |= {name: value[:, 0] for name, value in rest.parameters.items()}
    for find in (leave_out, proximal_bregman):
        every = find(model, x, y, gone, weights=stacked, weight_decay=DECAY)
        for r in range(2):
            model.load_state_dict({name: value[r] for name, value in stacked.items()})
            one = find(model, x, y, gone[r], weight_decay=DECAY)
            for name, value in one.parameters.items():
                torch.testing.assert_close(every.parameters[name][r], value, atol=1e-6, rtol=1e-5)


def test_bad_input_is_named(trained):
    model, x, y = trained
    with pytest.raises(ValueError, match=r"weight_decay \+ damping must be positive for an optimum to exist, got 0"):
        leave_out(model, x, y, torch.eye(20, dtype=torch.bool), weight_decay=0.0)
    with pytest.raises(ValueError, match=r"removed must be bool \(g, 20\), got torch.bool \(3, 19\)"):
        leave_out(model, x, y, torch.zeros(3, 19, dtype=torch.bool), weight_decay=0.1)
    with pytest.raises(ValueError, match=r"bool \(g, 20\) or \(1, g, 20\), got torch.bool \(2, 1, 20\)"):
        leave_out(model, x, y, torch.zeros(2, 1, 20, dtype=torch.bool), weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay must be positive"):
        optimum(model, x, y, weight_decay=0.0)
