"""Leaving examples out: by the engine, in closed form, by influence functions; against doing it by hand in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from drawn import F64, random
from torch import nn

from experiments import linearization
from experiments.linearization import (
    Training,
    influence_by_solver,
    influence_in_closed_form,
    kernels,
    linearized,
    retrained,
    stable,
)
from lib.networks.models import initialize, mlp
from lib.scores import definitions
from lib.store import Store


def task(model, *, n=10, steps=30, lr=0.05, decay=0.0):
    labels = (random(n, seed=2) > 0).long()
    return Training(model.double(), random(n, 4), labels, random(6, 4, seed=1), lr=lr, steps=steps, weight_decay=decay)


def line(**settings):
    return task(initialize(nn.Linear(4, 1), 0), **settings)


def by_hand(t, i):
    """Weights and predictions without example i (None: with all), 1/n staying what it is."""
    model, start = copy.deepcopy(t.model), [p.detach().clone() for p in t.model.parameters()]
    keep = torch.arange(len(t.x)) != (-1 if i is None else i)
    for _ in range(t.steps):
        loss = (model(t.x[keep])[:, 0] - t.y[keep]).square().sum() / (2 * len(t.x))
        pairs = zip(model.parameters(), start, strict=True)
        loss = loss + t.weight_decay / 2 * sum((p - s).square().sum() for p, s in pairs)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= t.lr * g
    return torch.cat([p.detach().flatten() for p in model.parameters()]), model(t.x_val).detach()


@pytest.mark.parametrize(("decay", "n", "left_out"), [(0.0, 10, (7, 0, 3)), (0.7, 10, (7, 0, 3)), (0.7, 3, (2, 0))])
def test_retraining_is_training_by_hand(decay, n, left_out):  # three rows span less than their four columns
    t = task(initialize(mlp(4, (8,), 1, "tanh"), 0), n=n, decay=decay)
    found, trained = retrained(t, torch.tensor(left_out), precision="float64", at_once=2)
    w, f = by_hand(t, None)
    torch.testing.assert_close(torch.cat([p.detach().flatten() for p in trained.parameters()]), w)
    for place, i in enumerate(left_out):
        w_i, f_i = by_hand(t, i)
        torch.testing.assert_close(found.squared_weights[place], (w - w_i).square().sum(), rtol=1e-8, atol=0)
        torch.testing.assert_close(found.squared_predictions[place], (f - f_i).square().sum(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_a_linear_network_is_its_own_linearization(decay):
    t, every = line(decay=decay), torch.arange(10)
    found, closed = retrained(t, every, precision="float64")[0], linearized(t)
    torch.testing.assert_close(closed.squared_weights, found.squared_weights, rtol=1e-7, atol=0)
    torch.testing.assert_close(closed.squared_predictions, found.squared_predictions, rtol=1e-7, atol=0)
    torch.testing.assert_close(closed[every[:3]].squared_weights, closed.squared_weights[:3])


def test_all_coordinates_or_as_many_as_there_are():
    t = task(initialize(mlp(4, (6,), 1), 0))
    torch.testing.assert_close(linearized(t, kernels(t, per_layer=100)), linearized(t))
    assert (
        linearized(t, kernels(t, per_layer=5)).squared_weights / linearized(t).squared_weights - 1
    ).abs().max() > 0.01


def test_the_pace_keeps_the_length():
    """As many steps as the curvature asks for, and hardly another end than with ten times as many."""
    model, x, y, x_val = (getattr(line(), name) for name in ("model", "x", "y", "x_val"))
    few, known = linearization.paced(model, x, y, x_val, time=40.0)
    many, _ = linearization.paced(model, x, y, x_val, time=40.0, least=10 * few.steps)
    assert few.lr * few.steps == pytest.approx(40.0) and few.lr * known.curvature <= 1.25
    assert many.steps == 10 * few.steps and linearization.paced(model, x, y, x_val, time=1.0)[0].steps == 50
    first, second = (linearized(t, known).squared_weights for t in (few, many))
    torch.testing.assert_close(first, second, rtol=0.1, atol=0)
    with pytest.raises(ValueError, match=r"needs .* steps, more than most = 60: is the network badly scaled"):
        linearization.paced(model, x, y, x_val, time=400.0, most=60)


def test_several_outputs_are_one_hot():
    t = task(initialize(nn.Linear(4, 3), 0))
    found = retrained(t, torch.arange(10), precision="float64")[0]
    torch.testing.assert_close(linearized(t).squared_predictions, found.squared_predictions, rtol=1e-7, atol=0)


@pytest.mark.parametrize(("decay", "damping"), [(0.0, 0.01), (0.4, 0.0)])
def test_influence_is_the_newton_step(decay, damping):
    t, every = line(decay=decay), torch.arange(10)
    _, trained = retrained(t, every[:1], precision="float64")
    changes = definitions.parameter_change(trained, t.x, t.y, weight_decay=decay, damping=damping, loss="mse").T
    j_val = definitions.jacobian(trained, trained.state_dict(), t.x_val)
    closed = influence_in_closed_form(kernels(replace(t, model=trained)), weight_decay=decay, damping=damping)
    for found in (
        closed,
        *(influence_by_solver(t, trained, every, damping=damping, solver=s) for s in ("exact", "cg")),
    ):
        torch.testing.assert_close(found.squared_weights, changes.square().sum(0), rtol=1e-3, atol=1e-12)
        torch.testing.assert_close(found.squared_predictions, (j_val @ changes).square().sum(0), rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(closed.squared_weights, changes.square().sum(0), rtol=1e-8, atol=0)


def test_the_mean_of_lissa():
    """Against the recursion as Koh and Liang write it, with β, and against what the batches give."""
    t, every, scale, beta, depth = line(), torch.arange(10), 20.0, 0.02, 35
    _, trained = retrained(t, every[:1], precision="float64")

    h = definitions.hessian(trained, t.x, t.y, weight_decay=t.weight_decay, loss="mse")
    total = torch.eye(5, dtype=F64)
    for _ in range(depth):
        total = torch.eye(5, dtype=F64) + (1 - beta) * total - h @ total / scale
    state = trained.state_dict()
    changes = total / scale @ definitions.gradients(trained, state, t.x, t.y, loss="mse").T / len(t.x)
    j_val = definitions.jacobian(trained, state, t.x_val)
    settings = {"scale": scale, "depth": depth}
    mean = influence_in_closed_form(kernels(replace(t, model=trained)), damping=beta * scale, **settings)
    torch.testing.assert_close(mean.squared_weights, changes.square().sum(0), rtol=1e-8, atol=0)
    torch.testing.assert_close(mean.squared_predictions, (j_val @ changes).square().sum(0), rtol=1e-8, atol=0)
    drawn = influence_by_solver(
        t, trained, every, damping=beta * scale, solver="lissa", batch_size=20, repeats=20, **settings
    )
    torch.testing.assert_close(drawn.squared_weights, mean.squared_weights, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_study_is_of_the_same_examples_by_every_method(decay):
    t, some = line(decay=decay, steps=40), torch.tensor([7, 2])
    found, trained, end = linearization.study(t, kernels(t), some, depth=50)
    assert set(found) == {"retrained", "linearization", "LiSSA in the mean", "influence"}
    torch.testing.assert_close(
        found["retrained"].squared_weights, linearized(t)[some].squared_weights, rtol=1e-3, atol=0
    )
    exact = influence_by_solver(t, trained, some, damping=0.0 if decay else 0.01, solver="exact")
    torch.testing.assert_close(found["influence"].squared_weights, exact.squared_weights, rtol=1e-3, atol=1e-12)
    mean = influence_in_closed_form(end, weight_decay=decay, damping=0.0 if decay else 10.0, scale=1000.0, depth=50)
    torch.testing.assert_close(found["LiSSA in the mean"].squared_weights, mean.squared_weights[some])


def test_what_was_retrained_is_kept(tmp_path, monkeypatch):
    t, store = line(), Store(tmp_path)
    first, trained = retrained(t, torch.tensor([1, 2]), store=store)
    monkeypatch.setattr(linearization, "train", None)  # nothing may be trained now
    again, same = retrained(t, torch.tensor([1, 2]), store=store)
    assert torch.equal(again.squared_weights, first.squared_weights)
    assert torch.equal(same.weight, trained.weight)
    with pytest.raises(TypeError):
        retrained(line(decay=0.1), torch.tensor([1, 2]), store=store)


@pytest.mark.parametrize("rows", [torch.tensor([10]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([[1]])])
def test_rows_that_are_not_there(rows):
    with pytest.raises(ValueError, match="left_out must be rows, integers from 0 to 9, got"):
        retrained(line(), rows)


def test_training_that_diverges():
    with pytest.raises(RuntimeError, match="training diverged: lr = 1000"):
        retrained(line(lr=1000.0, steps=300), torch.tensor([0]))
    with pytest.raises(ValueError, match="lr must be at most"):
        linearized(line(lr=1000.0))


def test_influence_in_closed_form_says_what_it_cannot_do():
    known = kernels(line())
    with pytest.raises(ValueError, match="the kernel is singular: give weight_decay or damping"):
        influence_in_closed_form(known)
    with pytest.raises(ValueError, match="LiSSA diverges at scale 0.1: it must be at least"):
        influence_in_closed_form(known, damping=1.0, scale=0.1)
    with pytest.raises(ValueError, match="known must be of a network with one output, got 3"):
        influence_in_closed_form(kernels(task(initialize(nn.Linear(4, 3), 0))), damping=1.0)


def test_fewer_coordinates_may_need_smaller_steps():
    training = line(lr=1.0, steps=40)
    known = kernels(training)
    calm = replace(training, lr=1 / known.curvature)
    assert stable(calm, known) is calm
    slower = stable(replace(training, lr=3 / known.curvature), known)
    assert slower.lr * slower.steps == pytest.approx(40 * 3 / known.curvature) and slower.lr * known.curvature <= 1.25
    linearized(slower, known)
