"""Training of the linearized network against doing it step by step, and against a wide network that is trained."""

import math

import pytest
import torch
from drawn import F64, random

from lib.networks.models import initialize, mlp
from lib.networks.stacked import predict
from lib.numerics.gradients import jacobians, ntk
from lib.numerics.spectral_filter import poles, spectral_filter
from lib.scores.unique_information import coefficients, leave_one_out, spectrum
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Run, Start


def descend(j, residual, *, lr, steps, decay):
    """Gradient descent on the weights themselves, ½‖Jω − r‖² + λ/2 ‖ω‖²."""
    weights = torch.zeros(j.shape[1], dtype=F64)
    for _ in range(steps):
        weights -= lr * (j.T @ (j @ weights - residual) + decay * weights)
    return weights


# --- the filter and its partial fractions ----------------------------------------------------------------------------


def grid(top):
    """Curvatures from 0 to top, dense at 0, at 1 and at 2."""
    x = [torch.zeros(1, dtype=F64), torch.logspace(-14, 0, 1500, dtype=F64), 1 + torch.logspace(-12, 0, 700, dtype=F64)]
    x = torch.cat([*x, 2 - torch.logspace(-9, 0, 300, dtype=F64)])
    return x[x <= top]


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 40])
def test_the_filter_is_its_geometric_sum(steps):
    x = grid(2)
    wanted = sum((0.5 * (1 - 0.5 * x) ** s for s in range(steps)), torch.zeros_like(x))
    torch.testing.assert_close(spectral_filter(x, lr=0.5, steps=steps), wanted, rtol=1e-13, atol=1e-14)


def test_limits_of_the_filter():
    x = torch.tensor([0.1, 1.0], dtype=F64)
    for continuous in (False, True):
        assert torch.equal(spectral_filter(x, lr=0.1, steps=math.inf, continuous=continuous), 1 / x)
        torch.testing.assert_close(spectral_filter(x, lr=0.1, steps=1e6, continuous=continuous), 1 / x)
    flow = spectral_filter(x, lr=0.1, steps=20.0, continuous=True)
    torch.testing.assert_close(spectral_filter(x, lr=1e-6, steps=2_000_000), flow, rtol=1e-5, atol=0)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-10, 1e-11])
def test_partial_fractions_keep_their_tolerance_at_any_time(continuous, tol):
    for steps in (1, 2, 5, 15, 16, 17, 100, 2000, 2001, 100_000):
        for top in (0.3, 1.0, 1.3, 2.0):
            for lr in (1.0, 1e-4):
                x = grid(top) / lr
                z, c = poles(top / lr, lr=lr, steps=steps, continuous=continuous, tol=tol)
                found = 2 * (c / (z - x[:, None])).real.sum(1)
                error = (found - spectral_filter(x, lr=lr, steps=steps, continuous=continuous)).abs()
                rounding = 1e-15 * steps  # of (1 − ηx)ᵗ itself
                assert (error <= (tol + rounding) * (1 / x).clamp(max=lr * steps)).all(), (steps, top, lr)


def test_the_number_of_poles_does_not_grow_with_time():
    assert len({len(poles(1.0, lr=1.0, steps=t)[0]) for t in (16, 1000, 10**5, 10**8)}) == 1
    assert [len(poles(1.0, lr=1.0, steps=t)[0]) for t in (0, math.inf)] == [0, 1]
    assert len(poles(2 * (1 + 1e-12), lr=1.0, steps=1000)[0])  # 2, but for its rounding


# --- weights and predictions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [12, 70])  # fewer and more outputs than weights
@pytest.mark.parametrize("decay", [0.0, 2.0])
@pytest.mark.parametrize("steps", [0, 1, 30])
def test_weights_are_those_of_gradient_descent(rows, decay, steps):
    j, r = random(rows, 40), random(rows, seed=1)
    lr = 1.0 / torch.linalg.matrix_norm(j, 2).item() ** 2
    alpha = coefficients(j @ j.T, r.view(-1, 2), lr=lr, steps=steps, weight_decay=decay).flatten()
    torch.testing.assert_close(j.T @ alpha, descend(j, r, lr=lr, steps=steps, decay=decay), rtol=1e-9, atol=1e-11)


def test_the_flow_is_the_matrix_exponential():
    j, r, decay, lr, time = random(8, 20), random(8, seed=1), 0.5, 0.01, 7.5
    a = j @ j.T + decay * torch.eye(8, dtype=F64)
    wanted = torch.linalg.solve(a, r - torch.linalg.matrix_exp(-lr * time * a) @ r)  # eq. 50
    alpha = coefficients(j @ j.T, r, lr=lr, steps=time, weight_decay=decay, continuous=True)
    torch.testing.assert_close(alpha[:, 0], wanted, rtol=1e-10, atol=1e-13)


def test_the_limit_is_ridge_regression_or_interpolation():
    j, r = random(8, 20), random(8, seed=1)
    ridge = torch.linalg.solve(j.T @ j + 3 * torch.eye(20, dtype=F64), j.T @ r)
    torch.testing.assert_close(j.T @ coefficients(j @ j.T, r, lr=0.01, steps=math.inf, weight_decay=3.0)[:, 0], ridge)
    torch.testing.assert_close(
        j @ j.T @ coefficients(j @ j.T, r, lr=0.01, steps=math.inf), r[:, None], rtol=1e-9, atol=1e-9
    )


def test_mean_loss_is_the_sum_loss_in_other_units():
    kernel, r = random(12, 30), random(6, 2, seed=1)
    kernel = kernel @ kernel.T
    mean = coefficients(kernel, r, lr=0.06, steps=50, weight_decay=0.1, loss="mean")
    torch.testing.assert_close(mean, coefficients(kernel, r, lr=0.01, steps=50, weight_decay=0.6, loss="sum"))


def test_one_spectrum_serves_all_times():
    kernel, r = random(12, 30), random(12, seed=1)
    kernel = kernel @ kernel.T
    shared = spectrum(kernel)
    assert spectrum(0 * kernel).values.count_nonzero() == 0
    for steps in (3, math.inf):
        torch.testing.assert_close(
            coefficients(shared, r, lr=0.01, steps=steps), coefficients(kernel, r, lr=0.01, steps=steps)
        )


# --- a network that is really trained --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide():
    """A network of width 2,048 trained with the engine, with all rows and without each of some, beside its kernel."""
    model = initialize(mlp(5, (2048,), 1, "tanh").double(), 0)
    x, x_val, y = random(8, 5), random(6, 5, seed=1), 0.1 * random(8, seed=2)
    with torch.no_grad():
        start, start_val = model(x), model(x_val)
    kernel, cross = ntk(model, x), ntk(model, x, x_val)
    return model, x, x_val, y + start[:, 0], start_val, y, kernel, cross


def trained(wide, recipe, sees, masked):
    model, x, _, y, *_ = wide
    initial = {name: p.detach().expand(len(sees), *p.shape) for name, p in model.named_parameters()}
    return train(
        model, (x, y), recipe, range(len(sees)), sees=sees, masked=masked, start=Start(initial),
        run=Run(precision="float64", progress=False),
    ).parameters  # fmt: skip


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_a_wide_network_trained_by_the_engine(wide, masked, decay):
    """Its weights and predictions, and what leaving one out changes: in the convention that the engine trains in."""
    model, x, x_val, _, start_val, residual, kernel, cross = wide
    steps, lr = 60, 0.008
    recipe = Recipe(
        lr=lr, epochs=steps, batch_size=None, loss="mse", weight_decay=decay, decay_to="init"
    )  # mean over rows
    sees = torch.ones(4, 8, dtype=torch.bool)
    sees[[1, 2, 3], [0, 3, 7]] = False
    parameters = trained(wide, recipe, sees, masked)
    f = predict(model, parameters, x_val)  # (4, 6, 1)

    alpha = coefficients(kernel, residual, lr=lr, steps=steps, weight_decay=decay, loss="mean")
    torch.testing.assert_close(start_val + cross @ alpha, f[0], rtol=0, atol=1e-3)
    moved = torch.cat([(parameters[name][0] - p).flatten() for name, p in model.named_parameters()])
    found = alpha.flatten() @ jacobians(model, x)
    assert (found - moved).norm() < 0.03 * moved.norm()

    settings = (
        {"lr": lr / 8, "weight_decay": 8 * decay, "loss": "sum"}  # masked: the batch's size still divides
        if masked
        else {"lr": lr, "weight_decay": decay, "loss": "mean"}
    )
    changes = leave_one_out(kernel, residual, steps=steps, cross_kernel=cross, **settings)
    for e, i in ((1, 0), (2, 3), (3, 7)):
        wanted = f[0] - f[e]
        assert (changes.predictions[i] - wanted).norm() < 0.03 * wanted.norm()
        apart = sum((parameters[name][0] - parameters[name][e]).square().sum() for name in parameters)
        torch.testing.assert_close(changes.squared_weights[i], apart, rtol=0.05, atol=0)


def test_weights_and_predictions_tell_the_same(wide):
    """f(x) − f₀(x) = ∇f₀(x)ᵀ(w − w₀), whichever side is computed."""
    model, x, x_val, *_, residual, kernel, cross = wide
    alpha = coefficients(kernel, residual, lr=1e-3, steps=20)
    torch.testing.assert_close(
        jacobians(model, x_val) @ (jacobians(model, x).T @ alpha), cross @ alpha, rtol=1e-9, atol=1e-12
    )


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": torch.ones(2, 3)}, r"kernel must be square, \(n·k, n·k\), got \(2, 3\)"),
        ({"kernel": torch.tensor([[1.0, 2.0], [0.0, 1.0]])}, "kernel must be symmetric, got entries that differ by 2 "),
        ({"kernel": 1e-9 * torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "kernel must be symmetric"),
        ({"kernel": torch.tensor([[1.0, 2.0], [2.0, 1.0]])}, "positive semidefinite, got an eigenvalue of -1"),
        ({"kernel": torch.full((2, 2), math.nan)}, "kernel must be finite"),
        ({"residual": torch.zeros(3)}, r"residual must be \(n,\) or \(n, k\) with n·k = 2, got \(3,\)"),
        ({"lr": 1.0}, r"lr must be at most 2 / largest curvature = 0.667, .*; got 1 "),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"steps": 2.5}, "steps must be a whole number or math.inf unless continuous=True, got 2.5"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"loss": "total"}, "loss must be one of sum, mean, got 'total'"),
        ({"kernel": torch.ones(2, 2), "steps": math.inf}, r"kernel is singular \(1 eigenvalues of 2 are 0\)"),
        (
            {"kernel": torch.tensor([1e-17, 1e-3, 1], dtype=F64).diag(), "residual": torch.zeros(3), "steps": math.inf},
            r"kernel is singular \(1 eigenvalues of 3 are 0\)",
        ),
    ],
)
def test_bad_input(change, message):
    settings = {"kernel": torch.tensor([[2.0, 1.0], [1.0, 2.0]]), "residual": torch.zeros(2), "lr": 0.1, "steps": 1}
    settings |= change
    with pytest.raises(ValueError, match=message):
        coefficients(settings.pop("kernel"), settings.pop("residual"), **settings)


def test_bad_tolerance():
    with pytest.raises(ValueError, match="tol must be between 1e-11 and 0.1, got 1e-15"):
        poles(1.0, lr=0.1, steps=1, tol=1e-15)
    with pytest.raises(ValueError, match="lr must be at most 2 / largest curvature = 0.2, or"):
        poles(10.0, lr=0.3, steps=1)
