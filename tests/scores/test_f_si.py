import math

import pytest
import torch
from torch import nn

from experiments.unique_information import fitted, part
from lib.networks import models, stacked
from lib.numerics.spectral_filter import F64
from lib.scores import definitions
from lib.scores.unique_information import Tangent, changes, f_si, f_si_by_class, regression_targets, tangent
from lib.training import ensemble
from lib.training.recipe import Recipe, Run, Start


def network(outputs=1, inputs=6):
    return models.initialize(models.mlp(inputs, (8,), outputs), 3).double()


def inputs(n, seed=0, d=6):
    return torch.randn(n, d, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_changes_are_those_of_masked_gradient_descent(outputs, decay):
    """By the definition: the linearized network trained with a row masked, everything else equal."""
    net = tangent(network(outputs), inputs(7), inputs(4, seed=1))
    y, lr, steps = torch.arange(7) % max(outputs, 2), 0.05, 30
    problem = net.kernel, regression_targets(y, outputs) - net.outputs
    sums = {"lr": lr / 7, "steps": steps, "weight_decay": 7 * decay}
    whole = net.cross_kernel @ definitions.coefficients(*problem, **sums).flatten()
    wanted = (net.cross_kernel @ definitions.leave_one_out(*problem, **sums)).T.reshape(7, 4, outputs)
    found = changes(net, y, lr=lr, steps=steps, weight_decay=decay)
    torch.testing.assert_close(fitted(net, y, lr=lr, steps=steps, weight_decay=decay), whole.view(4, outputs))
    torch.testing.assert_close(found, wanted)
    score = f_si(net, y, lr=lr, steps=steps, weight_decay=decay)
    torch.testing.assert_close(score, found.square().sum((1, 2)) / 2 / 4)


def test_the_engine_trains_the_same():
    """A linear model is its own linearization: masked members of the engine change by as much."""
    x, x_val, y = inputs(8), inputs(5, seed=1), torch.arange(8) % 2
    model = models.initialize(models.mlp(6, (), 1), 0).double()
    sees = torch.cat([torch.ones(1, 8), 1 - torch.eye(8)]).bool()
    start = {name: p.detach().expand(9, *p.shape) for name, p in model.named_parameters()}
    recipe = Recipe(lr=0.1, iterations=25, batch_size=None, loss="mse")
    run = ensemble.train(
        model, (x, y), recipe, [0] * 9, sees=sees, masked=True, start=Start(start),
        run=Run(precision="float64", progress=False),
    )  # fmt: skip
    outputs = stacked.predict(model, run.parameters, x_val)
    torch.testing.assert_close(changes(tangent(model, x, x_val), y, lr=0.1, steps=25), outputs[:1] - outputs[1:])


def test_limits():
    net = tangent(network(), inputs(5), inputs(3, seed=1))
    y = torch.tensor([0, 1, 1, 0, 1])
    assert f_si(net, y, lr=0.1, steps=0).abs().max() == 0
    late = f_si(net, y, lr=0.2, steps=10**7)
    torch.testing.assert_close(late, f_si(net, y, lr=0.2, steps=math.inf), rtol=1e-4, atol=0)
    torch.testing.assert_close(f_si(net, y, lr=0.1, steps=9, sigma=2.0) * 4, f_si(net, y, lr=0.1, steps=9))


def test_rows_are_those_of_a_network_that_saw_no_others():
    model, x, x_val = network(3), inputs(6), inputs(2, seed=1)
    keep = torch.tensor([True, False, True, True, False, True])
    whole, some = part(tangent(model, x, x_val), keep), tangent(model, x[keep], x_val)
    for name in ("kernel", "cross_kernel", "outputs"):
        torch.testing.assert_close(getattr(whole, name), getattr(some, name))
    torch.testing.assert_close(part(tangent(model, x, x_val), keep.nonzero()[:, 0]).kernel, some.kernel)


def test_all_coordinates_are_the_exact_kernel():
    model, x, x_val = network(2), inputs(4), inputs(3, seed=1)
    exact, sampled = tangent(model, x, x_val), tangent(model, x, x_val, per_layer=10**6)
    torch.testing.assert_close(sampled.kernel, exact.kernel)
    torch.testing.assert_close(sampled.cross_kernel, exact.cross_kernel)


def test_a_copy_of_an_example_takes_its_information_away():
    """Unique: what another example says as well is not counted."""
    x, y = inputs(6), torch.tensor([0, 1, 1, 0, 1, 0])
    alone = tangent(network(), x, inputs(3, seed=1))
    twice = tangent(network(), torch.cat([x, x[:1]]), inputs(3, seed=1))
    settings = {"lr": 0.3, "steps": 10**6}
    both = f_si(twice, torch.cat([y, y[:1]]), **settings)
    assert both[0] < 1e-3 * f_si(alone, y, **settings)[0]
    torch.testing.assert_close(both[0], both[-1])


def test_bad_labels():
    net = Tangent(torch.eye(2), torch.ones(1, 2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"y must be integer labels from 0 to 1 for 1 output\(s\), got .* 0 to 2"):
        f_si(net, torch.tensor([0, 2]), lr=0.1, steps=1)
    with pytest.raises(ValueError, match="from 0 to 2 for 3 .* -1 to -1"):
        regression_targets(torch.tensor([-1]), 3)


def test_the_model_stays_as_it_is():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)).double()
    before = [p.clone() for p in model.parameters()]
    tangent(model.train(), inputs(3), inputs(2))
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_one_output_a_class_against_a_network_for_each_class():
    net, y = tangent(network(1), inputs(9), inputs(4, seed=1)), torch.arange(9) % 3
    alone = sum(f_si(net, (y == c).long(), lr=0.05, steps=30) for c in range(3))
    torch.testing.assert_close(f_si_by_class(net, y, classes=3, lr=0.05, steps=30), alone)
    both = f_si_by_class(net, torch.stack([y, y.flip(0)]), classes=3, lr=0.05, steps=30)
    torch.testing.assert_close(both[0], alone)
    limit = f_si_by_class(net, y, classes=3, lr=1e-4, steps=15_000)
    flow = f_si_by_class(net, y, classes=3, lr=1.0, steps=1.5, continuous=True)
    torch.testing.assert_close(flow, limit, rtol=1e-3, atol=0)


def test_one_output_a_class_is_refused_for_more_outputs():
    with pytest.raises(ValueError, match="a network of one output and y .*, got 3 outputs"):
        f_si_by_class(tangent(network(3), inputs(9), inputs(4)), torch.arange(9) % 3, classes=3, lr=0.1, steps=1)
