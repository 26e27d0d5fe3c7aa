"""The library's fast scores against their definitions, on small random problems in float64, and cases by hand."""

import math

import pytest
import torch
from drawn import F64, draw, random
from torch import nn

from experiments.craig import craig
from experiments.dynamics import tangent_kernel
from experiments.unique_information import linearized_hessian
from lib.networks import models
from lib.numerics.gradients import jacobians, ntk
from lib.scores import definitions
from lib.scores.complexity_gap import cg_prime, cg_scores, relu_gram
from lib.scores.data_diet import el2n, forgetting, grand, margin
from lib.scores.influence import inverse_hessian, self_influence
from lib.scores.tracin import tracin, tracin_mean, tracin_self
from lib.scores.unique_information import (
    coefficients,
    f_si,
    f_si_by_class,
    functional_sample_information,
    leave_one_out,
    prediction_changes,
    sample_information,
    tangent,
)


def close(found, wanted, rtol=1e-9, scale=None):
    """Apart by at most rtol of each number, or of ``scale`` where numbers cancel."""
    atol = 1e-300 if scale is None else rtol * float(scale)
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol, check_dtype=False, equal_nan=True)


def alone(model):
    return {name: value[None] for name, value in model.state_dict().items()}


def flowers(outputs=3, hidden=(4,)):
    """A small smooth network, 24 examples with labels (values for one output), and five more."""
    model = models.initialize(models.mlp(3, hidden, outputs, "tanh"), 1).double()
    y = [random(n, seed=3) if outputs == 1 else torch.arange(n) % outputs for n in (24, 5)]
    return model, random(24, 3), y[0], random(5, 3, seed=1), y[1]


@pytest.mark.parametrize(("name", "n"), [("mlp-7-5", 12), ("small_cnn", 12), ("lenet", 3), ("densenet_small", 3)])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_grand_and_tracin(name, n, loss):
    shape = (1, 16, 16) if name == "lenet" else (1, 8, 8)
    model = models.by_name(name, shape=shape, classes=3)
    x, y = random(n, *shape), torch.stack([torch.arange(n) % 3, torch.arange(n) % 2])  # two runs' labels
    checkpoints, rates = {1: draw(model), 4: draw(model, seed=1)}, {1: 0.3, 4: 0.05}
    problem = model, checkpoints, rates, x, y, random(2, *shape, seed=1), torch.tensor([2, 0])
    for layers in ("all", "last"):
        options = {"layers": layers, "loss": loss}
        close(grand(model, checkpoints[1], x, y, **options), definitions.grand(model, checkpoints[1], x, y, **options))
        wanted = definitions.tracin(*problem, **options)
        close(tracin(*problem, **options), wanted, scale=wanted.abs().mean())
        close(tracin_mean(*problem, **options), wanted.mean(2), scale=wanted.abs().mean())
    wanted = definitions.tracin(*problem[:5], x, y, **options).diagonal(dim1=1, dim2=2)
    close(tracin_self(*problem[:5], **options), wanted)


def test_el2n_margin_and_forgetting():
    outputs, y, correct = random(3, 20, 4), torch.arange(20) % 4, random(3, 9, 40) > 0
    correct[:, :, :5] = False
    errors = outputs.softmax(2) - nn.functional.one_hot(y, 4)
    close(el2n(errors), definitions.el2n(errors))
    for labels in (y, torch.stack([y, y.flip(0), y.roll(1)])):
        close(margin(outputs, labels), definitions.margin(outputs, labels))
    for never in ("most", "none"):
        close(forgetting(correct, never_learned=never), definitions.forgetting(correct, never_learned=never))


def test_a_history_written_out():
    """Right, wrong, right, right, wrong: forgotten twice. Never right: more than all, or 0. Learnt late: 0."""
    correct = torch.tensor([[[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]]).mT.bool()
    assert definitions.forgetting(correct).tolist() == [[2, 5, 0]]
    assert definitions.forgetting(correct, never_learned="none").tolist() == [[2, 0, 0]]


@pytest.mark.parametrize("by_class", [False, True])
def test_craig(by_class):
    """In the end two examples may be each other's nearest and nobody else's: either is as good, so L(S) decides."""
    errors, y = random(1, 40, 3), torch.arange(40) % 3 if by_class else None
    close(craig(errors, 0.15, y=y, epsilon=0).weights, definitions.craig(errors, 0.15, y=y))
    distance, groups = torch.cdist(errors[0], errors[0]), torch.zeros(40) if y is None else y
    distance = distance.masked_fill(groups[:, None] != groups, math.inf)
    left = lambda weights: distance[:, weights[0] > 0].amin(1).sum()
    close(left(craig(errors, 0.5, y=y, epsilon=0).weights), left(definitions.craig(errors, 0.5, y=y)))


def test_craig_of_a_cluster_and_one_apart():
    errors = torch.tensor([[[-0.1], [0.0], [0.1], [0.2], [5.0]]])
    assert definitions.craig(errors, 0.4).tolist() == [[0, 0, 4, 0, 1]]


def test_who_is_right_only_where_it_was_seen():
    sees = torch.tensor([[True, False], [False, True]])
    assert definitions.influence_of_seeing(sees, sees).tolist() == [[1, -1], [-1, 1]]
    assert definitions.memorization(sees, sees).tolist() == [1, 1]
    assert definitions.c_scores(sees, sees).tolist() == [0, 0]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_complexity_gap(classes):
    x, y = random(40, 1, 3, 3), torch.arange(40) % classes
    close(relu_gram(x), definitions.relu_gram(x), scale=0.1)
    for jitter in (0.0, 0.01):
        close(cg_scores(x, y, jitter=jitter).score, definitions.cg_scores(x, y, jitter=jitter), scale=1)
    close(cg_prime(x, y), definitions.cg_prime(x, y), scale=1)


def test_complexity_gap_of_two_orthogonal_inputs():
    """H = ½I: yᵀH⁻¹y = 2 + 2 with both and 2 with one; with H itself ½ + ½ and ½. Two at 60°: H₁₂ = ⅙."""
    x, y = torch.tensor([[3.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1])
    assert definitions.cg_scores(x, y).tolist() == [2, 2] and definitions.cg_prime(x, y).tolist() == [0.5, 0.5]
    near = torch.tensor([[1.0, 0.0], [1.0, 3**0.5]], dtype=F64)
    close(definitions.relu_gram(near), torch.tensor([[1 / 2, 1 / 6], [1 / 6, 1 / 2]], dtype=F64), rtol=1e-14)
    close(definitions.cg_scores(near, y), torch.tensor([4.0, 4.0], dtype=F64), rtol=1e-13)  # 2/(½ − ⅙) − 2


@pytest.mark.parametrize("time", [0, 1, 3, 15, 16, 2001, math.inf, "flow for .5", "flow for 10000", "flow for inf"])
@pytest.mark.parametrize("share", [0.3, 0.95])  # of the largest lr: curvatures below and above 1/η
@pytest.mark.parametrize("weight_decay", [0.0, 1.5])
@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_linearized_network(time, share, weight_decay, loss, outputs):
    j, residual = random(12 * outputs, 60), random(12, outputs, seed=1)
    kernel, cross, continuous = j @ j.T, random(5 * outputs, 60, seed=2) @ j.T, isinstance(time, str)
    steps = float(time.removeprefix("flow for ")) if continuous else time
    weight_decay, terms = (weight_decay / 12, 11) if loss == "mean" else (weight_decay, 1)  # without one of the 12
    lr = share * 2 / (float(torch.linalg.matrix_norm(kernel, 2)) / terms + weight_decay)
    training = {"lr": lr, "steps": steps, "weight_decay": weight_decay, "continuous": continuous, "loss": loss}
    alpha = definitions.coefficients(kernel, residual, **training)
    close(coefficients(kernel, residual, **training), alpha, scale=alpha.abs().max())
    wanted = definitions.leave_one_out(kernel, residual, **training)
    found = leave_one_out(kernel, residual, cross_kernel=cross, tol=1e-11, **training)
    close(found.coefficients, wanted, scale=alpha.abs().max())
    close(found.weights(j), wanted.T @ j, scale=(j.T @ alpha.flatten()).abs().max())
    close(found.squared_weights, (j.T @ wanted).square().sum(0), scale=(j.T @ alpha.flatten()).square().sum())
    moved = (cross @ wanted).T.reshape(12, 5, outputs)
    close(found.predictions, moved, scale=(cross @ alpha.flatten()).abs().max())
    if outputs == 1 and loss == "sum" and weight_decay == 0:
        few = prediction_changes(kernel, residual[:, 0], cross, lr=lr, steps=steps, continuous=continuous, tol=1e-11)
        close(few, moved[..., 0], scale=(cross @ alpha.flatten()).abs().max())


def test_orthogonal_examples_move_the_weights_along_their_own_directions():
    """One step: α = η·r, and without an example the others' coefficients stay."""
    changes = definitions.leave_one_out(torch.eye(2), torch.tensor([1.0, 2.0]), lr=0.5, steps=1)
    assert changes.tolist() == [[0.5, 0], [0, 1]]


def test_sample_information():
    changes, root = random(12, 5), random(5, 8, seed=1)
    whole, part = root @ root.T, root[:, :2] @ root[:, :2].T  # the second singular, as the Fisher matrix of few inputs
    close(sample_information(changes, covariance=whole), definitions.sample_information(changes, covariance=whole))
    close(sample_information(changes, precision=part), definitions.sample_information(changes, precision=part))
    one = definitions.sample_information(torch.tensor([[3.0, 4.0]]), covariance=0.5 * torch.eye(2).double())
    assert one.tolist() == [25]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("steps", "decay"), [(30, 0.0), (30, 0.2), (2000, 0.0), (math.inf, 0.2)])
def test_functional_sample_information(outputs, steps, decay):
    """By the predictions of the network made linear, and by its weights with the Fisher matrix of the other inputs."""
    model, x, _, x_val, _ = flowers(outputs)
    y, training = torch.arange(24) % max(outputs, 2), {"lr": 0.1, "steps": steps, "weight_decay": decay}
    net, wanted = tangent(model, x, x_val), definitions.f_si(model, x, y, x_val, sigma=0.5, **training)
    close(f_si(net, y, sigma=0.5, **training), wanted, scale=wanted.mean())
    residual, settings = definitions.targets(y, outputs) - net.outputs, {"lr": 0.1 / 24, "weight_decay": 24 * decay}
    found = leave_one_out(net.kernel, residual, cross_kernel=net.cross_kernel, steps=steps, **settings)
    close(functional_sample_information(found.predictions, sigma=0.5), wanted, scale=wanted.mean())
    j, j_val = (definitions.jacobian(model, model.state_dict(), rows) for rows in (x, x_val))
    fisher = linearized_hessian(j_val, outputs=outputs) / 0.5**2
    close(definitions.sample_information(found.weights(j), precision=fisher), wanted, scale=wanted.mean())


def test_functional_sample_information_by_class():
    model, x, y, training = nn.Linear(3, 1).double(), random(24, 3), torch.arange(24) % 3, {"lr": 0.1, "steps": 30}
    wanted = sum(definitions.f_si(model, x, (y == c).long(), x[:5] + 1, **training) for c in range(3))
    close(f_si_by_class(tangent(model, x, x[:5] + 1), y, classes=3, **training), wanted)


@pytest.mark.filterwarnings("ignore:the weights are no optimum")
@pytest.mark.parametrize(("outputs", "loss"), [(3, "cross_entropy"), (3, "mse"), (1, "mse")])
@pytest.mark.parametrize("solver", ["exact", "gauss_newton"])
def test_influence(outputs, loss, solver):
    model, x, y, x_test, y_test = flowers(outputs)
    options, curvature = {"weight_decay": 0.05, "damping": 0.5, "loss": loss}, {"gauss_newton": solver != "exact"}
    inverse = inverse_hessian(model, x, y, solver=solver, **options)
    wanted = definitions.influence(model, x, y, x_test, y_test, **options, **curvature)
    close(inverse.on_loss(x_test, y_test).on_loss, wanted, scale=wanted.abs().mean())
    wanted = definitions.parameter_change(model, x, y, **options, **curvature)
    close(inverse.on_parameters(), wanted, scale=wanted.abs().mean())


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_jacobian_tangent_kernel_and_hessian(hidden):
    model, x, y, *_ = flowers(hidden=hidden)
    j = definitions.jacobian(model, model.state_dict(), x)
    close(jacobians(model, x), j, scale=1)
    close(ntk(model, x), j @ j.T, scale=1)
    close(tangent_kernel(model, alone(model), x)[0], j @ j.T, scale=1)
    options = {"weight_decay": 0.1, "loss": "mse"}
    wanted = definitions.hessian(model, x, y, gauss_newton=True, **options)
    close(linearized_hessian(j, outputs=3, weight_decay=0.1), wanted, scale=1)
    if not hidden:
        close(definitions.hessian(model, x, y, **options), wanted, scale=1)


def test_self_influence_where_its_approximation_is_exact():
    """EK-FAC is the Gauss–Newton matrix for one layer and examples that are copies of one another."""
    model, x, *_ = flowers(hidden=())
    x, y = x[:1].expand(3, -1), torch.tensor([0, 1, 2])
    wanted = definitions.influence(model, x, y, x, y, damping=0.1, gauss_newton=True).diagonal()
    close(self_influence(model, alone(model), x, y, damping=0.1)[0], wanted)


def test_influence_on_a_mean():
    """H = 1 and w is the mean of y = (0, 2): without the first, w moves by ½(1 − 0), away from it."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    x, y = torch.ones(2, 1), torch.tensor([0.0, 2.0])
    assert definitions.influence(model, x, y, x[:1], y[:1], loss="mse").tolist() == [[0.5, -0.5]]
