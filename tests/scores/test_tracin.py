import pytest
import torch
from drawn import draw
from torch import nn
from torch.func import functional_call

from lib.networks import models
from lib.numerics import gradients
from lib.scores import definitions
from lib.scores.tracin import tracin, tracin_mean, tracin_self
from lib.training import ensemble
from lib.training.recipe import Recipe, Record, Run, learning_rates

RATES = {1: 0.3, 4: 0.05}


@pytest.fixture(params=["mlp-7-5", "lenet", "densenet_small"])
def problem(request):
    model = models.by_name(request.param, shape=(1, 16, 16), classes=3).eval()
    g = torch.Generator().manual_seed(1)
    x, y = torch.rand(5, 1, 16, 16, dtype=torch.float64, generator=g), torch.randint(0, 3, (2, 5), generator=g)
    x_val, y_val = torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=g), torch.tensor([0, 1, 2, 1])
    return model, {1: draw(model), 4: draw(model, seed=1)}, x, y, x_val, y_val


def test_little_memory_changes_nothing(problem, monkeypatch):
    arguments = (problem[0], problem[1], RATES, *problem[2:])
    whole = [one(*arguments, layers="all") for one in (tracin, tracin_mean)]
    monkeypatch.setattr(gradients, "WORKING", 2**17)
    for one, before in zip((tracin, tracin_mean), whole, strict=True):
        torch.testing.assert_close(one(*arguments, layers="all"), before)


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_a_linear_model_in_closed_form(layers, loss):
    """∇ℓ·∇ℓ′ = (δ·δ′)(x·x′ + 1), for squared error as well."""
    model, g = models.mlp(6, (), classes=3), torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 6, dtype=torch.float64, generator=g), torch.arange(8) % 3
    parameters = draw(model)
    f = x @ parameters["head.weight"].mT + parameters["head.bias"][:, None]
    delta = (f.softmax(2) if loss == "cross_entropy" else f) - nn.functional.one_hot(y, 3)
    closed = 0.5 * (delta @ delta.mT) * (x @ x.T + 1)
    found = tracin(model, {0: parameters}, {0: 0.5}, x, y, x, y, layers=layers, loss=loss)
    torch.testing.assert_close(found, closed)
    self_influence = tracin_self(model, {0: parameters}, {0: 0.5}, x, y, layers=layers, loss=loss)
    torch.testing.assert_close(self_influence, closed.diagonal(dim1=1, dim2=2))


def test_a_small_step_lowers_the_loss_by_its_tracin():
    """The definition by finite differences: one step of gradient descent on one example, the losses of the others."""
    model, g = models.mlp(4, (6,), classes=3, activation="tanh").double(), torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 4, dtype=torch.float64, generator=g), torch.tensor([0, 1, 2, 0, 1])
    parameters, eta = draw(model, runs=1), 1e-6
    state = {name: value[0] for name, value in parameters.items()}
    step = definitions.gradients(model, state, x, y)[2].split([value.numel() for value in state.values()])
    after = {k: v - eta * part.view_as(v) for (k, v), part in zip(state.items(), step, strict=True)}
    loss = lambda s: nn.functional.cross_entropy(functional_call(model, s, (x,)), y, reduction="none")
    fall = loss(state) - loss(after)
    found = tracin(model, {3: parameters}, {3: eta}, x, y, x, y, layers="all")[0, 2]
    torch.testing.assert_close(found, fall, rtol=1e-4, atol=1e-13)
    assert found[2] > 0  # its own loss falls


def test_rates_are_those_of_the_steps_before():
    recipe = Recipe(lr=0.4, epochs=10, batch_size=8, schedule="warmup_linear", warmup=0.3)
    rates = learning_rates(recipe, (0, 1, 10), n=20)  # 3 steps an epoch, 30 in all, 9 of them rising
    assert rates == pytest.approx({0: 0.4 / 9, 1: 0.4 * 3 / 9, 10: 0.4 / 21})
    full = Recipe(lr=0.4, iterations=7, batch_size=None)
    assert learning_rates(full, (3, 7), n=20) == {3: 0.4, 7: 0.4}


def test_what_the_engine_keeps_can_be_scored():
    g = torch.Generator().manual_seed(0)
    x, model = torch.randn(30, 5, generator=g), models.mlp(5, (6,), classes=3)
    y = (x @ torch.randn(5, 3, generator=g)).argmax(1)
    recipe = Recipe(lr=0.1, epochs=4, batch_size=10)
    run = ensemble.train(model, (x, y), recipe, [0, 1], record=Record(checkpoints_at=(2, 4)), run=Run(progress=False))
    rates = learning_rates(recipe, run.checkpoints, n=30)
    assert tracin_self(model, run.checkpoints, rates, x, y, layers="all").shape == (2, 30)


def test_what_does_not_fit_is_named(problem):
    model, checkpoints, x, y, x_val, y_val = problem
    with pytest.raises(ValueError, match=r"same epochs, at least one; got \[1, 4\] and \[1\]"):
        tracin(model, checkpoints, {1: 0.1}, x, y, x_val, y_val)
    with pytest.raises(ValueError, match="layers must be one of last, all, got 'first'"):
        tracin_self(model, checkpoints, RATES, x, y, layers="first")
    with pytest.raises(ValueError, match=r"integer labels \(4,\) or \(2, 4\)"):
        tracin_mean(model, checkpoints, RATES, x, y, x_val, y_val[:3])
