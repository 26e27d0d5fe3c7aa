"""Influence against closed forms, and against finite differences of optima found anew, in float64."""

import re
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian
from torch.nn import functional as F

from lib.networks import models
from lib.numerics.inverse_hessian import SOLVERS
from lib.numerics.objective import objective
from lib.scores import definitions
from lib.scores.influence import Trust, eigenvalue_range, gradient_norm, influence, inverse_hessian, trust

F64, DECAY = torch.float64, 0.05


def flat(tree):
    return torch.cat([value.flatten() for value in tree.values()])


def drawn(n, *shape, classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=g, dtype=F64), torch.randint(classes, (n,), generator=g)


def settled(model, x, y, loss="cross_entropy"):
    """At its optimum, by Newton's method with |H|, which turns away from saddle points, written out."""
    o = objective(models.initialize(model, 0).to(F64), x, y, weight_decay=DECAY, loss=loss)
    cut = [v.numel() for v in o.weights.values()]
    parts = lambda w: {n: v.view(p.shape) for (n, p), v in zip(o.weights.items(), w.split(cut), strict=True)}
    value = lambda w: o.total(parts(w), o.x, o.y) / o.n + DECAY / 2 * w @ w
    w = flat(o.weights)
    for _ in range(40):
        values, vectors = torch.linalg.eigh(hessian(value)(w))
        step, t = vectors @ (vectors.T @ grad(value)(w) / values.abs()), 1.0
        while value(w - t * step) > value(w) + 1e-14:
            t /= 2
        w = w - t * step
    assert grad(value)(w).norm() < 1e-11 and values[0] > 0.01
    model.load_state_dict(parts(w))
    return model


def reoptimize(model, x, y, weights):
    """Weights at the optimum of (1/n) Σ weightᵢ ℓᵢ + λ/2 ‖w‖², nearby: three steps of Newton's method, written out."""
    state = {name: p.detach() for name, p in model.named_parameters()}
    cut = [p.numel() for p in state.values()]

    def objective(w):
        parts = {name: v.view(p.shape) for (name, p), v in zip(state.items(), w.split(cut), strict=True)}
        f = functional_call(model, parts, (x,))
        return (weights * F.cross_entropy(f, y, reduction="none")).mean() + DECAY / 2 * w @ w

    w = flat(state)
    for _ in range(3):
        w = w - torch.linalg.solve(hessian(objective)(w), grad(objective)(w))
    assert grad(objective)(w).norm() < 1e-12
    return {name: v.view(p.shape) for (name, p), v in zip(state.items(), w.split(cut), strict=True)}


@pytest.fixture(scope="module")
def network():
    x, y = drawn(24, 3)
    model = settled(models.mlp(3, (4,), 3, "tanh"), x, y)
    return model, x, y, *drawn(5, 3, seed=1)


@pytest.fixture(scope="module")
def measured(network):
    """Changes of test losses and weights per unit of weight taken from an example."""
    model, x, y, x_test, y_test = network
    eps, slopes = 1e-4, []
    for who in range(24):
        ends = []
        for sign in (-1, 1):
            weights = torch.ones(24, dtype=F64)
            weights[who] += sign * eps
            state = reoptimize(model, x, y, weights)
            f = functional_call(model, state, (x_test,))
            ends.append((F.cross_entropy(f, y_test, reduction="none"), flat(state)))
        slopes.append([(low - high) / (2 * eps) for low, high in zip(*ends, strict=True)])
    losses, weights = (torch.stack(part) for part in zip(*slopes, strict=True))
    return losses.T.detach(), weights.detach()


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_finite_differences_of_the_optimum(network, measured, solver):
    model, x, y, x_test, y_test = network
    losses, weights = measured
    options = {"weight_decay": DECAY, "solver": solver} | ({"tol": 1e-12} if solver == "cg" else {})
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
    inverse = inverse_hessian(model, x, y, **options)
    found = inverse.on_loss(x_test, y_test)
    close(found.on_loss, losses)
    assert found.gradient_norm < 1e-11 < found.one_example
    close(inverse.on_parameters(), weights)
    close(inverse.on_parameters(norms=True), weights.norm(dim=1))
    some = torch.tensor([7, 2])
    close(influence(model, x, y, x_test, y_test, examples=some, **options).on_loss, losses[:, some])
    close(inverse.on_parameters(examples=some), weights[some])


def test_logistic_regression_in_closed_form():
    x, y = drawn(30, 4, classes=2)
    x_test, y_test = drawn(3, 4, classes=2, seed=1)
    model = settled(nn.Linear(4, 2), x, y)
    s, ones = model(x).softmax(1).detach(), torch.ones(30, 1, dtype=F64)
    rows = torch.cat([x, ones], 1)
    curvature = torch.diag_embed(s) - s[:, :, None] * s[:, None]
    h = torch.einsum("nab,ni,nj->aibj", curvature, rows, rows).reshape(10, 10) / 30 + DECAY * torch.eye(10, dtype=F64)
    g = torch.einsum("na,ni->nai", s - F.one_hot(y), rows).flatten(1)
    test = torch.cat([x_test, ones[:3]], 1)
    g_test = torch.einsum("na,ni->nai", model(x_test).softmax(1) - F.one_hot(y_test), test).flatten(1)
    expected = (g_test @ torch.linalg.solve(h, g.T) / 30).detach()
    for solver in ("exact", "gauss_newton"):  # the same for a linear model
        found = influence(model, x, y, x_test, y_test, weight_decay=DECAY, solver=solver)
        torch.testing.assert_close(found.on_loss, expected)
        torch.testing.assert_close(found.eigenvalues, torch.linalg.eigvalsh(h))


@pytest.mark.parametrize("targets", ["values", "labels", "column"])
def test_ridge_regression_in_closed_form(targets):
    x, labels = drawn(20, 3, classes=2)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=F64) + labels if targets != "labels" else labels
    h = x.T @ x / 20 + DECAY * torch.eye(3, dtype=F64)
    w = torch.linalg.solve(h, x.T @ y.double() / 20)
    model = nn.Linear(3, 1, bias=False, dtype=F64)
    model.weight = nn.Parameter(w[None])
    residual = x @ w - y
    moves = torch.linalg.solve(h, (x * residual[:, None]).T) / 20  # (3, n)
    y = y[:, None] if targets == "column" else y
    for options in ({}, {"solver": "gauss_newton"}, {"solver": "cg", "tol": 1e-12}, {"solver": "ekfac"}):
        options |= {"weight_decay": DECAY, "loss": "mse"}
        found = influence(model, x, y, x[:4], y[:4], **options)
        torch.testing.assert_close(found.on_loss, residual[:4, None] * x[:4] @ moves)
        torch.testing.assert_close(inverse_hessian(model, x, y, **options).on_parameters(), moves.T)
    assert gradient_norm(model, x, y, weight_decay=DECAY, loss="mse") < 1e-14


def test_values_of_several_outputs():
    (x, _), y, model = (
        drawn(20, 3),
        torch.randn(20, 2, dtype=F64, generator=torch.Generator().manual_seed(1)),
        nn.Linear(3, 2),
    )
    found = influence(model.double(), x, y, x[:4], y[:4], weight_decay=5.0, loss="mse")
    wanted = definitions.influence(model, x, y, x[:4], y[:4], weight_decay=5.0, loss="mse")
    torch.testing.assert_close(found.on_loss, wanted)


def test_sign_an_example_helps_itself(network):
    model, x, y, *_ = network
    on_itself = influence(model, x, y, x, y, weight_decay=DECAY).on_loss.diagonal()
    assert (on_itself > 0).all()  # gᵀH⁻¹g: removing an example raises its own loss


def test_ekfac_is_exact_for_one_dense_layer_without_bias_and_one_output():
    x = drawn(30, 4)[0]
    y = x[:, 0].tanh()
    model = settled(nn.Linear(4, 1, bias=False), x, y, loss="mse")
    pair = [
        influence(model, x, y, x[:3], y[:3], weight_decay=DECAY, loss="mse", solver=s).on_loss
        for s in ("exact", "ekfac")
    ]
    torch.testing.assert_close(*pair)


def test_decay_to_reference_moves_the_optimum_and_not_the_formula(network):
    model, x, y, x_test, y_test = network
    reference = {name: p.detach() for name, p in model.named_parameters()}
    with pytest.warns(UserWarning, match="no optimum"):
        away = influence(model, x, y, x_test, y_test, weight_decay=DECAY, reference=reference)
    torch.testing.assert_close(away.on_loss, influence(model, x, y, x_test, y_test, weight_decay=DECAY).on_loss)
    weights = flat(reference)
    assert away.gradient_norm == pytest.approx(float(DECAY * weights.norm()))  # the penalty's pull is gone


def test_lissa_approaches_the_exact_inverse(network):
    model, x, y, x_test, y_test = network
    options = {"weight_decay": DECAY, "damping": 0.05}
    exact = influence(model, x, y, x_test, y_test, **options).on_loss
    errors = []
    for repeats in (1, 16):
        found = influence(
            model, x, y, x_test, y_test, solver="lissa", batch_size=12, depth=150, repeats=repeats, **options
        )
        errors.append(float((found.on_loss - exact).norm() / exact.norm()))
        assert 0 < found.residual < 1
    assert errors[1] < 0.1 and errors[1] < errors[0]


def test_lissa_of_equal_examples_is_a_neumann_series():
    x, y = torch.ones(5, 2, dtype=F64), torch.ones(5, dtype=F64)
    model = settled(nn.Linear(2, 1), x, y, loss="mse")
    options = {"weight_decay": DECAY, "loss": "mse"}
    exact = influence(model, x, y, x, y, **options).on_loss
    found = influence(model, x, y, x, y, solver="lissa", scale=2.0, depth=600, batch_size=1, **options)
    torch.testing.assert_close(found.on_loss, exact)
    short = options | {"solver": "lissa", "damping": 0.5, "depth": 2}  # H has the eigenvalues 3 + λ, λ and λ
    found, wanted = (influence(model, x, y, x, y, scale=scale, **short) for scale in (None, 1.1 * (3 + DECAY) + 0.5))
    torch.testing.assert_close(found.on_loss, wanted.on_loss)


def test_lissa_on_the_examples_own_hessians_is_the_same(network, monkeypatch):
    model, x, y, x_test, y_test = network
    ask = lambda: influence(model, x, y, x_test, y_test, weight_decay=DECAY, solver="lissa", depth=20).on_loss
    before = ask()
    monkeypatch.setattr("lib.numerics.inverse_hessian.TABLE", 0)
    torch.testing.assert_close(ask(), before)


def test_gauss_newton_from_the_kernel_is_the_same(network, monkeypatch):
    model, x, y, x_test, y_test = network
    ask = lambda: influence(model, x[:5], y[:5], x_test, y_test, weight_decay=DECAY, solver="gauss_newton").on_loss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = ask()
        monkeypatch.setattr("lib.numerics.inverse_hessian.DENSE", 0)
        torch.testing.assert_close(ask(), before)


def test_gauss_newton_from_a_factor_is_the_same(network, monkeypatch):
    model, x, y, x_test, y_test = network
    ask = lambda **how: influence(model, x, y, x_test, y_test, solver="gauss_newton", **how)
    before = ask(weight_decay=DECAY)
    monkeypatch.setattr("lib.numerics.inverse_hessian.SPECTRUM", 0)
    after = ask(weight_decay=DECAY)
    torch.testing.assert_close(after.on_loss, before.on_loss)
    assert before.eigenvalues is not None and after.eigenvalues is None
    enough = 1e-3 * torch.linalg.matrix_norm(definitions.hessian(model, x, y, gauss_newton=True), 2)
    with pytest.warns(UserWarning, match="no optimum"):
        with pytest.raises(ValueError, match=f"matrix is singular to rounding: give damping, such as {enough:.2g}$"):
            ask(damping=1e-30)
        with pytest.raises(ValueError, match="the Hessian is singular: [0-9]+ of .* eigenvalues"):  # whose are counted
            ask()


def test_divergent_lissa_names_settings_that_converge(network):
    model, x, y, x_test, y_test = network
    options = {"weight_decay": DECAY, "solver": "lissa", "depth": 200, "batch_size": 8}
    with pytest.raises(ValueError, match="lissa diverged at step") as error:
        influence(model, x, y, x_test, y_test, scale=0.05, **options)
    scale, damping = map(float, re.search(r"scale ≥ (\S+) and damping ≥ (\S+)", str(error.value)).groups())
    found = influence(model, x, y, x_test, y_test, scale=scale, damping=damping, **options)
    assert found.on_loss.isfinite().all()


@pytest.fixture(scope="module")
def saddle():
    """A network far from an optimum, with negative curvature."""
    x, y = drawn(24, 3, seed=3)
    model = models.initialize(models.mlp(3, (6, 6), 3, "tanh"), 1).double()
    assert eigenvalue_range(model, x, y)[0] < -1e-3
    return model, x, y


@pytest.mark.parametrize("solver", ["exact", "cg"])
def test_indefinite_hessian_names_eigenvalue_and_cure(saddle, solver):
    model, x, y = saddle
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            influence(model, x, y, x, y, solver=solver, damping=1e-6 if solver == "exact" else 0.0)
            text = next(str(w.message) for w in seen if "indefinite" in str(w.message))
        except ValueError as error:
            text = str(error)
    lowest, second = torch.linalg.eigvalsh(definitions.hessian(model, x, y))[:2]
    with pytest.warns(UserWarning) as seen:
        influence(model, x, y, x, y, damping=-float(lowest + second) / 2)
    assert any("; 1 of 87 eigenvalues are negative" in str(w.message) for w in seen)
    assert float(re.search(r"most negative eigenvalue of H is (\S+),", text)[1]) == pytest.approx(
        float(lowest), rel=0.02
    )
    cure = float(re.search(r"such as (\S+)\)", text)[1])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        influence(model, x, y, x, y, solver=solver, damping=cure)
    assert not [w for w in seen if "indefinite" in str(w.message)]


def test_singular_hessian_asks_for_damping():
    x, y = drawn(6, 8, classes=2)
    model = nn.Linear(8, 2).double()
    enough = 1e-3 * torch.linalg.matrix_norm(definitions.hessian(model, x, y), 2)
    with (
        pytest.warns(UserWarning, match="no optimum"),
        pytest.raises(ValueError, match=rf"singular: .* of 18 eigenvalues .* give damping, such as {enough:.2g}$"),
    ):
        influence(model, x, y, x, y)


def test_weights_that_are_no_optimum_are_told_by_how_much(saddle):
    model, x, y = saddle
    g = grad(lambda p: F.cross_entropy(functional_call(model, p, (x,)), y))(dict(model.named_parameters()))
    norm = float(flat(g).detach().norm())
    with pytest.warns(UserWarning, match=rf"no optimum: .* has norm {norm:.3g}, .* times what removing one example"):
        inverse_hessian(model, x, y, damping=5.0)
    assert gradient_norm(model, x, y) == pytest.approx(norm)


def test_trust_is_three_numbers_with_a_warning_each(saddle, monkeypatch):
    model, x, y = saddle
    inverse = inverse_hessian(model, x, y, damping=5.0)
    with pytest.warns(UserWarning, match="no optimum") as said:
        told = trust(model, x, y, damping=0.01, retrained=torch.tensor([[1.0, 2.0], [3.0, 1.9]]))
    assert told.gradient == pytest.approx(inverse.gradient_norm / inverse.one_example)
    assert told.lowest == pytest.approx(float(inverse.eigenvalues[0]) + 0.01)
    assert told.spread == pytest.approx(((2 + 0.005) / 2 / (0.05**2 / 2)) ** 0.5)
    assert all([w for w in said if text in str(w.message)] for text in ("indefinite", "one tells little"))
    with pytest.warns(UserWarning, match="no optimum") as said:
        assert trust(model, x, y, damping=5.0).lowest == pytest.approx(float(inverse.eigenvalues[0]) + 5)
    assert not [w for w in said if "indefinite" in str(w.message)]
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="no optimum"):
        patch.setattr(sys.modules["lib.scores.influence"], "SPECTRUM", 87)  # all eigenvalues up to so many parameters
        patch.setattr(sys.modules["lib.scores.influence"], "eigenvalue_range", lambda *a, **k: pytest.fail("Lanczos"))
        trust(model, x, y)
    monkeypatch.setattr(sys.modules["lib.scores.influence"], "SPECTRUM", 0)
    with pytest.warns(UserWarning, match="no optimum"):
        assert trust(model, x, y).lowest == pytest.approx(float(inverse.eigenvalues[0]), abs=1e-3)


def test_trust_says_nothing_at_an_optimum():
    x, y = drawn(20, 3)
    model = settled(nn.Linear(3, 3), x, y)
    changes = torch.tensor([[1.0, 2.0, 3.0], [1.1, 2.0, 2.9]])
    with warnings.catch_warnings(action="error"):
        told = trust(model, x, y, weight_decay=DECAY, retrained=changes)
    with pytest.raises(ValueError, match=r"retrained must be \(r, k\), at least 2 of each, .* got \(1, "):
        trust(model, x, y, weight_decay=DECAY, retrained=changes[:1])
    for alike in (torch.ones(2, 3), changes * torch.nan):
        with pytest.raises(ValueError, match="retrained must be .*, finite and not all alike"):
            trust(model, x, y, weight_decay=DECAY, retrained=alike)
    assert isinstance(told, Trust) and told.gradient < 1e-6 and told.lowest > 0 and told.spread < 0.1


def test_batch_normalization_and_dropout_are_put_in_evaluation_mode():
    x, y = drawn(16, 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    model(x)  # moves the running statistics
    options = {"damping": 3.0, "weight_decay": 0.1}
    with pytest.warns(UserWarning, match="training mode and has BatchNorm1d, Dropout: .* evaluation mode"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the weights are no optimum")
            moved = influence(model, x, y, x, y, **options)
    assert model.training
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the weights are no optimum")
        warnings.filterwarnings("ignore", message="H . .I is indefinite")
        torch.testing.assert_close(influence(model.eval(), x, y, x, y, **options).on_loss, moved.on_loss)
        alone = influence(model, x, y, x[:1], y[:1], **options).on_loss
    torch.testing.assert_close(alone, moved.on_loss[:1])
    bare = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)).double()
    with pytest.raises(ValueError, match="without running statistics"):
        influence(bare, x, y, x, y)


def test_lanczos_finds_the_ends_of_the_spectrum(saddle):
    model, x, y = saddle
    values = torch.linalg.eigvalsh(definitions.hessian(model, x, y, weight_decay=0.01))
    low, high = eigenvalue_range(model, x, y, weight_decay=0.01, tol=1e-6)
    assert (low, high) == pytest.approx((float(values[0]), float(values[-1])), rel=1e-4)


x, y = drawn(6, 3)
BAD = [
    ({"solver": "inverse"}, "solver must be one of " + ", ".join(SOLVERS) + ", got 'inverse'"),
    ({"damping": -1.0}, "damping must be at least 0, got -1.0"),
    ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
    ({"loss": "hinge"}, "loss must be one of cross_entropy, mse, got 'hinge'"),
    ({"examples": torch.ones(6, dtype=torch.bool)}, r"examples must be indices \(r,\)"),
    ({"examples": torch.tensor([6])}, "examples must be indices .* from 0 to 5"),
    ({"reference": {}}, "reference must hold every parameter"),
    ({"solver": "cg", "depth": 3}, "solver 'cg' takes .*tol.*got depth"),
    ({"y_train": y[:5]}, r"y_train must be integer labels \(6,\) .*got torch.int64 \(5,\)"),
    ({"x_test": x.long()}, "x_test must be finite floats"),
    ({"y_test": y[:2] + 3}, "y_test must be integer labels from 0 to 2 for 3 output"),
    ({"y_train": y[:, None]}, r"y_train must be integer labels \(6,\) .*got torch.int64 \(6, 1\)"),
    ({"y_train": x[:, :2], "loss": "mse"}, r"for 'mse' labels or values \(6, 3\); got torch.float64 \(6, 2\)"),
    ({"y_train": y.double()}, "y_train must be integer labels"),
    ({"model": nn.Flatten(0)}, "model must have parameters"),
    ({"model": nn.Linear(3, 1).double()}, "for two outputs or more, .* for 1 output"),
    (
        {"model": nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))).double()},
        r"model must map \(n, …\) to \(n, k\)",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_is_named(change, message):
    arguments = {"model": nn.Linear(3, 3).double(), "x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]}
    arguments |= {"damping": 1.0}
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        warnings.simplefilter("ignore")
        influence(**(arguments | change))
