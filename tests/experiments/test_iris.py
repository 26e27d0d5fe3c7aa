"""Tiny networks at rest: influence and retraining, against an implementation that shares nothing with the library."""

import inspect
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.func import grad, hessian

from experiments import iris
from experiments.fragility import wide_start
from experiments.response import optimum
from lib.networks.models import mlp
from lib.scores.influence import Trust

DECAY, TOP, SEEDS = 0.01, 20, (2001, 2003, 2006)  # of which other ways down lead to the same minima


@pytest.fixture(scope="module")
def flowers():
    return iris.flowers()


def plainly(flowers, first):
    """Of one hidden layer of tanh: plain gradient descent and Newton to rest, influence by its definition, Newton again
    without each of the 20 flowers that matter most. Returns predicted and true changes, the hardest flower."""
    x, y, x_test, y_test = flowers
    n = len(y)
    sizes = [5 * 4, 5, 3 * 5, 3]

    def losses(w, x, y):
        a, b, c, d = w.split(sizes)
        f = torch.tanh(x @ a.view(5, 4).T + b) @ c.view(3, 5).T + d
        return torch.logsumexp(f, -1) - f.gather(-1, y[..., None])[..., 0]

    def total(w, seen):
        return (losses(w, x, y) * seen).sum() / n + DECAY / 2 * w @ w

    everyone = torch.ones(n).double()
    one_hot = nn.functional.one_hot(y, 3).double()
    a, b, c, d = (v.double().clone() for v in first.values())
    for _ in range(6000):  # by hand: the gradient of ``total``
        h = torch.tanh(x @ a.mT + b[:, None])
        up = ((h @ c.mT + d[:, None]).softmax(-1) - one_hot) / n
        down = (up @ c) * (1 - h * h)
        for v, slope in ((a, down.mT @ x), (b, down.sum(1)), (c, up.mT @ h), (d, up.sum(1))):
            v.mul_(1 - 0.1 * DECAY).sub_(slope, alpha=0.1)
    w = torch.cat([v.flatten(1) for v in (a, b, c, d)], 1)

    def rest(v, seen):
        for _ in range(30):
            g = grad(total)(v, seen)
            if g.norm() < 1e-10:
                break
            step = torch.linalg.solve(hessian(total)(v, seen), g)
            v = v - step * min(1.0, 0.5 / float(step.norm()))
        assert g.norm() < 1e-8
        return v

    told, happened, hardest = [], [], []
    for v in w:
        v = rest(v, everyone)
        test = int(losses(v, x_test, y_test).argmax())
        one = lambda u, test=test: losses(u, x_test, y_test)[test]
        each = torch.stack([grad(lambda u, i=i: losses(u, x, y)[i])(v) for i in range(n)])
        score = each @ torch.linalg.solve(hessian(total)(v, everyone), grad(one)(v)) / n
        rows = score.abs().argsort(descending=True)[:TOP]
        gone = [one(rest(v, everyone - nn.functional.one_hot(i, n).double())) - one(v) for i in rows]
        told, happened = [*told, score[rows]], [*happened, torch.stack(gone)]
        hardest.append(test)
    return torch.stack(told), torch.stack(happened), hardest


def test_at_rest_influence_is_retraining_as_an_implementation_apart_finds_it(flowers):
    first = wide_start(mlp(4, (5,), 3, "tanh"), SEEDS, "tanh")
    told, happened, hardest = plainly(flowers, first)
    found = iris.case(flowers, (5,), "tanh", DECAY, SEEDS, steps=1500, rest=True, truths=("to convergence",), top=TOP)
    at = np.arange(len(SEEDS)), slice(None), found.hardest
    assert found.hardest.tolist() == hardest and (found.facts["gradient"] < 1e-3).all()
    assert found.changes["Hessian"][at] == pytest.approx(told.numpy(), rel=1e-3, abs=1e-6)
    assert found.changes["to convergence"][at] == pytest.approx(happened.numpy(), rel=1e-3, abs=1e-6)
    rho = [spearmanr(a, b).statistic for a, b in zip(told, happened, strict=True)]
    assert found.agreement(truth="to convergence") == pytest.approx(rho, abs=0.02)
    assert min(rho) > 0.95


def test_steps_with_momentum_come_where_rest_is(flowers):
    """The paper's 60,000 and 7,500 steps, three networks: the weights, changes and agreement of L-BFGS at rest."""
    walked = iris.case(flowers, (5,), "tanh", DECAY, SEEDS)
    rested = iris.case(flowers, (5,), "tanh", DECAY, SEEDS, steps=1500, rest=True, truths=("to convergence",))
    assert walked.changes["Hessian"] == pytest.approx(rested.changes["Hessian"], rel=0.01, abs=1e-4)
    assert walked.changes["retrained"] == pytest.approx(rested.changes["to convergence"], rel=0.02, abs=1e-3)
    assert walked.agreement() == pytest.approx(rested.agreement(truth="to convergence"), abs=0.02)
    assert (walked.facts["mean gradient"] < 0.01).all() and (walked.facts["lowest"] > 0).all()
    net = mlp(4, (5,), 3, "tanh").double()
    first = wide_start(net, SEEDS, "tanh")
    early, late = iris.descend(net, *flowers[:2], first, steps=[1500, 6000], weight_decay=DECAY)
    rest = optimum(net, *flowers[:2], weights=early, weight_decay=DECAY, tolerance=1e-7).parameters
    assert all(torch.allclose(late[name], rest[name][:, 0], rtol=1e-4, atol=1e-4) for name in first)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_step_is_torchs(activation, flowers):
    net, removed = mlp(4, (5, 5), 3, activation).double(), torch.zeros(2, 120, dtype=torch.bool)
    removed[1, 7] = True
    weights = {name: p.detach()[None].repeat(2, *[1] * p.ndim) for name, p in net.named_parameters()}
    early, late = iris.descend(net, *flowers[:2], weights, steps=[3, 6], weight_decay=DECAY, removed=removed)
    optimizer = torch.optim.SGD(net.parameters(), lr=iris.LR, momentum=iris.MOMENTUM, weight_decay=DECAY)
    for step in range(6):
        optimizer.zero_grad()
        (nn.functional.cross_entropy(net(flowers[0]), flowers[1], reduction="none") * ~removed[1]).mean().backward()
        optimizer.step()
        if step in (2, 5):
            ours = early if step == 2 else late
            assert all(torch.allclose(ours[name][1], p) for name, p in net.named_parameters())
    assert all((late[name][0] != late[name][1]).any() for name in late)


def test_what_learned_nothing_has_no_agreement(flowers):
    dead = iris.case(flowers, (5,), "relu", 10.0, [0, 1], steps=300, again=10, top=5)
    assert not dead.learned.any() and np.isnan(dead.agreement()).all()


def test_only_chains_are_trained(flowers):
    net = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 1, 2), nn.Flatten(), nn.Linear(3, 3))
    weights = {name: p[None] for name, p in net.named_parameters()}
    with pytest.raises(ValueError, match="model must be a chain of linear layers, got Sequential"):
        iris.descend(net, *flowers[:2], weights, steps=[1], weight_decay=0.0)


def test_what_trust_quotes_stands_in_the_notebook():
    notebook = nbformat.read(Path(iris.__file__).parents[1] / "06_influence_fragility.ipynb", 4)
    (table,) = [cell.outputs[-1].data["text/html"] for cell in notebook.cells if "what trust quotes" in cell.source]
    found = re.findall(r">0(\.\d\d)</td>", table)
    assert sorted(found) == sorted(re.findall(r"\.\d\d\b", inspect.getsource(Trust))) and len(found) == 7
