"""Retraining against hand-written loops, closed forms and limits."""

import pytest
import torch
from torch import nn

from experiments.fragility import part_of
from experiments.iris import parameter_changes
from lib.networks.models import mlp
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Run, Start
from lib.training.retraining import loss_changes, losses_on, removals, retrain


def data(n=24, d=3, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g)
    return x, (x @ torch.randn(d, k, generator=g) + torch.randn(n, k, generator=g)).argmax(1)


def test_removals_of_points_and_groups():
    assert removals(torch.tensor([1, 0]), 3).tolist() == [[False, True, False], [True, False, False]]
    assert removals([[0, 2], [1]], 3).sum(1).tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"rows must lie in 0 … 2, got 3 … 3"):
        removals([3], 3)


def test_a_part_of_the_steps():
    recipe = Recipe(lr=0.1, epochs=100, batch_size=50)
    assert part_of(recipe, 0.06, 500).iterations == 60
    assert part_of(recipe, 1e-9, 500, lr=0.01) == Recipe(lr=0.01, iterations=1, batch_size=50)


def by_hand(x, y, seen, w, steps, lr, decay):
    w = w.clone().double()
    for _ in range(steps):
        error = ((x.double() @ w.T).softmax(1) - nn.functional.one_hot(y, len(w))) * seen[:, None]
        w = w - lr * (error.T @ x.double() / len(x) + decay * w)
    return w


def test_it_is_gradient_descent_from_the_given_weights_with_the_mean_over_everybody():
    x, y = data()
    model, start = nn.Linear(3, 3, bias=False), torch.randn(2, 3, 3)
    removed = removals([[0, 5], [7]], len(x))
    recipe = Recipe(lr=0.2, iterations=11, batch_size=None, weight_decay=0.01)
    again = retrain(
        model, (x, y), recipe, [0, 1], removed=removed, start=Start({"weight": start}),
        run=Run(precision="float64", progress=False),
    )  # fmt: skip
    for r in range(2):
        for g in range(2):
            wanted = by_hand(x, y, ~removed[g], start[r], 11, 0.2, 0.01)
            torch.testing.assert_close(again.parameters["weight"][r, g], wanted)
        torch.testing.assert_close(
            again.control["weight"][r], by_hand(x, y, torch.ones(len(x)).bool(), start[r], 11, 0.2, 0.01)
        )


def test_removing_nobody_is_the_control_also_in_batches():
    x, y = data()
    recipe = Recipe(lr=0.1, iterations=9, batch_size=5)
    nobody = torch.zeros(2, len(x), dtype=torch.bool)
    again = retrain(mlp(3, (4,), 3), (x, y), recipe, [3], removed=nobody, run=Run(progress=False))
    assert loss_changes(mlp(3, (4,), 3), again, x, y).abs().max() == 0
    assert parameter_changes(mlp(3, (4,), 3), again).tolist() == [[0, 0]]
    alone = train(mlp(3, (4,), 3), (x, y), recipe, [3], run=Run(progress=False))
    for name, value in alone.parameters.items():
        torch.testing.assert_close(again.control[name], value)


def test_each_network_may_have_its_own_removals():
    x, y = data()
    removed = torch.stack([removals([0, 1], len(x)), removals([2, 3], len(x))])
    recipe = Recipe(lr=0.1, iterations=3, batch_size=None)
    options = {"recipe": recipe, "run": Run(progress=False)}
    both = retrain(nn.Linear(3, 3), (x, y), seeds=[0, 1], removed=removed, **options)
    second = retrain(nn.Linear(3, 3), (x, y), seeds=[1], removed=removed[1], **options)
    torch.testing.assert_close(both.parameters["weight"][1], second.parameters["weight"][0])


def test_losses_and_changes_by_definition():
    x, y = data()
    model = nn.Linear(3, 3)
    again = retrain(
        model, (x, y), Recipe(lr=0.5, iterations=4, batch_size=None), [0], removed=removals([4], len(x)),
        run=Run(progress=False),
    )  # fmt: skip
    loss = lambda w, b: nn.functional.cross_entropy(x @ w.T + b, y, reduction="none")
    wanted = loss(again.parameters["weight"][0, 0], again.parameters["bias"][0, 0])
    torch.testing.assert_close(losses_on(model, again.parameters, x, y)[0, 0], wanted.double(), atol=1e-6, rtol=1e-5)
    wanted -= loss(again.control["weight"][0], again.control["bias"][0])
    torch.testing.assert_close(loss_changes(model, again, x, y)[0, 0], wanted.double(), atol=1e-6, rtol=1e-3)
    half = lambda w, b: 0.5 * (x @ w.T + b - nn.functional.one_hot(y, 3)).square().sum(1)
    wanted = half(again.parameters["weight"][0, 0], again.parameters["bias"][0, 0])
    with pytest.raises(ValueError, match="loss must be one of cross_entropy, mse, got 'mae'"):
        loss_changes(model, again, x, y, loss="mae")
    found, close = losses_on(model, again.parameters, x, y, loss="mse"), {"atol": 1e-6, "rtol": 1e-3}
    torch.testing.assert_close(found[0, 0], wanted.double(), **close)
    wanted -= half(again.control["weight"][0], again.control["bias"][0])
    torch.testing.assert_close(loss_changes(model, again, x, y, loss="mse")[0, 0], wanted.double(), **close)
    moved = [again.parameters[name][0, 0] - again.control[name][0] for name in ("weight", "bias")]
    expected = torch.cat([part.flatten() for part in moved]).norm()
    assert parameter_changes(model, again).item() == pytest.approx(float(expected), rel=1e-5)


def test_bad_input_is_named():
    x, y = data()
    with pytest.raises(ValueError, match=r"removed must be bool \(g, 24\) or \(1, g, 24\), got torch.int64 \(2, 24\)"):
        retrain(
            nn.Linear(3, 3), (x, y), Recipe(lr=1, iterations=1), [0], removed=torch.zeros(2, 24).long(),
            run=Run(progress=False),
        )  # fmt: skip
