"""Curvature against Hessians by their definition, other libraries, and hand-made matrices, in float64."""

from dataclasses import replace

import curvlinops
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from lib.networks import models
from lib.numerics import curvature, gradients
from lib.numerics.curvature import (
    ekfac_inverse,
    example_hessians,
    extreme_eigenvalues,
    gauss_newton_matrix,
    hessian,
    hessian_product,
    highest_eigenvalue,
)
from lib.numerics.gradients import along, gradient_rows, mean_square_norm
from lib.numerics.inverse_hessian import (
    Diverged,
    Indefinite,
    block_conjugate_gradient,
    input_span,
    inverse,
    kernel_inverse,
    lissa,
)
from lib.numerics.objective import flat, gradient, objective
from lib.scores import definitions
from lib.scores.influence import trust
from lib.scores.unique_information import spectrum

F64, DECAY = torch.float64, 0.1


class Gated(nn.Module):
    """Layers without factors: taken by torch.func."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.rand(6)), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.tanh(x.flatten(1) * self.scale))


def normalized():
    body = [nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(8, 3))


NETWORKS = {
    "dense": (lambda: models.mlp(6, (5, 4), 3, "tanh"), (2, 3)),
    "deep": (lambda: models.mlp(4, (3, 2, 4), 3, "selu"), (2, 2)),
    "without biases": (lambda: nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 3)), (4,)),
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "two linear layers": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)), (4,)),
    "convolutions": (lambda: models.small_cnn(1, 3, width=2), (1, 6, 6)),
    "normalized": (normalized, (1, 6, 6)),
    "other": (Gated, (6,)),
}


@pytest.fixture(params=[(name, loss) for name in NETWORKS for loss in ("cross_entropy", "mse")], ids=str)
def case(request):
    """An objective and its labels."""
    name, loss = request.param
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double()
        x, y = torch.randn(7, *shape, dtype=F64), torch.arange(7) % 3
        model(x)
    model.eval()
    return objective(model, x, y, weight_decay=DECAY, loss=loss), y


def slow_hessian(o, x, y, **options):
    with _disable_current_modes():  # torch 2.14 crashes where a mode, even an empty one, sees SELU's third derivative
        return definitions.hessian(o.model, x, y, weight_decay=DECAY, loss=o.loss, **options)


def test_gradients_and_their_products(case):
    o, y = case
    w = flat({k: v[None] for k, v in o.weights.items()})[0]
    rows = definitions.gradients(o.model, o.model.state_dict(), o.x, y, loss=o.loss)
    jacobian = definitions.jacobian(o.model, o.model.state_dict(), o.x)
    torch.testing.assert_close(gradient(o), rows.mean(0) + DECAY * w)
    torch.testing.assert_close(torch.cat(list(gradient_rows(o, o.x, o.y))), rows)
    torch.testing.assert_close(torch.cat(list(gradient_rows(o, o.x))), jacobian)
    for m in (2, 40):
        d = torch.randn(m, len(w), generator=torch.Generator().manual_seed(1), dtype=F64)
        torch.testing.assert_close(along(o, o.x, o.y, d), rows @ d.T)
        torch.testing.assert_close(along(o, o.x, None, d), jacobian @ d.T)
    assert mean_square_norm(o) == pytest.approx(float(rows.square().sum(1).mean()))


def test_hessian_and_gauss_newton_matrix(case):
    o, y = case
    expected, g = slow_hessian(o, o.x, y), slow_hessian(o, o.x, y, gauss_newton=True)
    torch.testing.assert_close(hessian(o), expected)
    torch.testing.assert_close(gauss_newton_matrix(o), g)
    v = torch.randn(3, o.p, dtype=F64)
    torch.testing.assert_close(hessian_product(o, v), v @ expected)
    torch.testing.assert_close(hessian_product(o, v, gauss_newton=True), v @ g)
    rows = torch.tensor([4, 1])
    torch.testing.assert_close(hessian_product(o, v, rows=rows), v @ slow_hessian(o, o.x[rows], y[rows]))


def test_inverse_from_the_kernel(case):
    o, _ = case
    v = torch.randn(4, o.p, dtype=F64)
    if isinstance(o.model, Gated):
        with pytest.raises(ValueError, match="parameters in Linear, Conv2d"):
            kernel_inverse(o, 0.2)
        return
    shifted = gauss_newton_matrix(o) + 0.2 * torch.eye(o.p, dtype=F64)
    torch.testing.assert_close(kernel_inverse(o, 0.2)(v), torch.linalg.solve(shifted, v.T).T)
    with pytest.raises(ValueError, match="singular, with more parameters than outputs: give damping"):
        kernel_inverse(replace(o, weight_decay=0.0), 0.0)


def test_hessians_of_each_example(case):
    o, y = case
    expected = torch.stack([slow_hessian(o, o.x[i : i + 1], y[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(example_hessians(o), expected)


def test_pieces_make_no_difference(case, monkeypatch):
    o, _ = case
    v = torch.randn(5, o.p, dtype=F64)
    ask = lambda: (hessian_product(o, v), along(o, o.x, o.y, v), gauss_newton_matrix(o), gradient(o))
    before = ask()
    monkeypatch.setattr("lib.numerics.curvature.BLOCK_BYTES", 1)
    for module in ("objective", "gradients", "curvature"):
        monkeypatch.setattr(f"lib.numerics.{module}.WORKING", 1)
    for one, other in zip(before, ask(), strict=True):
        torch.testing.assert_close(one, other)
    assert [len(x) for (x,) in o.batches(o.x, times=2, room=6 * o.activation_bytes)] == [3, 3, 1]


def test_as_many_vectors_go_together_as_there_is_room_for(monkeypatch):
    o = objective(models.mlp(6, (5,), 3, "tanh").double(), torch.randn(7, 6, dtype=F64), torch.arange(7) % 3)
    calls, product = [], curvature._newton_product
    monkeypatch.setattr(curvature, "_newton_product", lambda *a: calls.append(1) or product(*a))
    for room, blocks in ((3, 2), (5, 1), (1, 5)):  # of five; eight examples' activations are held for each
        monkeypatch.setattr(curvature, "WORKING", room * 8 * curvature.PASSES * o.activation_bytes)
        hessian_product(o, torch.randn(5, o.p, dtype=F64))
        assert len(calls) == blocks, room
        calls.clear()


def test_gradients_are_written_where_that_is_less_and_no_more_at_once_than_there_is_room_for(monkeypatch):
    o = objective(models.mlp(60, (40, 4), 3, "tanh").double(), torch.randn(7, 60, dtype=F64), torch.arange(7) % 3)
    sizes, write = [], gradients.written
    monkeypatch.setattr(gradients, "written", lambda signal: sizes.append(write(signal).nbytes) or write(signal))
    along(o, o.x, o.y, torch.randn(3, o.p, dtype=F64))  # fewer directions than any layer has inputs
    assert not sizes
    monkeypatch.setattr(gradients, "WORKING", 3 * (60 + 1) * 40 * 8)  # of three examples, in the widest layer
    along(o, o.x, o.y, torch.randn(60, o.p, dtype=F64))
    assert max(sizes) == gradients.WORKING


@pytest.mark.parametrize("name", ["dense", "convolutions"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_operators_of_another_library(name, loss):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x, y = make().double(), torch.randn(9, *shape, dtype=F64), torch.arange(9) % 3
    o = objective(model, x, y, loss=loss)
    criterion, target, scale = (nn.CrossEntropyLoss(), y, 1) if loss == "cross_entropy" else (nn.MSELoss(), o.y, 1.5)
    given = (model, criterion, list(model.parameters()), [(x, target)])  # theirs divides by n·k, and has no half
    v = torch.randn(o.p, 4, dtype=F64)
    operator = curvlinops.HessianLinearOperator(*given, check_deterministic=False)
    torch.testing.assert_close(hessian_product(o, v.T), scale * (operator @ v).T)
    operator = curvlinops.GGNLinearOperator(*given, check_deterministic=False)
    torch.testing.assert_close(hessian_product(o, v.T, gauss_newton=True), scale * (operator @ v).T)
    operator = curvlinops.EKFACLinearOperator(
        *given, fisher_type=curvlinops.FisherType.TYPE2, separate_weight_and_bias=False, check_deterministic=False
    )
    solved = ekfac_inverse(o, 0.1)(v.T)
    torch.testing.assert_close(scale * (operator @ solved.T.contiguous()) + 0.1 * solved.T, v)


def test_ekfac_takes_the_diagonal_of_normalization_layers():
    torch.manual_seed(0)
    model, x, y = normalized().double(), torch.randn(9, 1, 6, 6, dtype=F64), torch.arange(9) % 3
    model(x)
    o = objective(model.eval(), x, y)
    at = model[0].weight.numel()  # weight and bias of the normalization follow
    expected = gauss_newton_matrix(o).diagonal()[at : at + 4]
    v = torch.zeros(1, o.p, dtype=F64)
    v[:, at : at + 4] = 1
    torch.testing.assert_close(ekfac_inverse(o, 0.1)(v)[0, at : at + 4], 1 / (expected + 0.1))


def test_what_needs_eigenvectors_where_lapack_gives_up(monkeypatch):
    """scipy's other driver finds the same matrix, of factors of low rank too (eigenvectors may differ, not H⁻¹v)."""
    torch.manual_seed(0)
    x, y = torch.randn(5, 8, dtype=F64), torch.arange(5) % 3
    model = models.mlp(8, (6,), 3, "tanh").double()
    o = objective(model, x, y, weight_decay=0.1)
    v = torch.randn(4, o.p, dtype=F64)
    asked = lambda: [
        ekfac_inverse(o, 0.1)(v),
        inverse(o, "exact", 1.0)[0](v)[0],
        torch.tensor([trust(model, x, y, damping=1.0).lowest, *extreme_eigenvalues(lambda u: u @ H, H[0])]),
        spectrum(H).values,
    ]
    H = x @ x.T
    expected = asked()

    def fails(matrix):
        raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    for found, value in zip(asked(), expected, strict=True):
        assert found.dtype == value.dtype
        torch.testing.assert_close(found, value)


def test_ekfac_that_is_singular_asks_for_damping():
    o = objective(nn.Linear(5, 2), torch.randn(3, 5), torch.arange(3) % 2)
    with pytest.raises(ValueError, match="EK-FAC matrix is singular: give damping or weight_decay, such as"):
        ekfac_inverse(o, 0.0)


def definite(p=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(p, p, generator=g, dtype=F64)
    return a @ a.T / p + 0.1 * torch.eye(p, dtype=F64), torch.randn(5, p, generator=g, dtype=F64)


def test_block_conjugate_gradient():
    a, v = definite()
    x, steps, residual = block_conjugate_gradient(lambda d: d @ a, v, tol=1e-10)
    torch.testing.assert_close(x, torch.linalg.solve(a, v.T).T)
    assert residual <= 1e-10 and steps <= 4  # 12 dimensions, 5 at a time
    x[0], v[0], x[1], v[1] = 0, 0, x[2], v[2]  # nothing to solve, and a vector twice
    torch.testing.assert_close(block_conjugate_gradient(lambda d: d @ a, v, tol=1e-10)[0], x)
    many = torch.randn(30, 12, dtype=F64, generator=torch.Generator().manual_seed(1))  # more than dimensions
    torch.testing.assert_close(
        block_conjugate_gradient(lambda d: d @ a, many, tol=1e-10)[0].T, torch.linalg.solve(a, many.T)
    )
    assert block_conjugate_gradient(lambda d: d @ a, v, tol=1e-10, iterations=1)[1] == 1
    assert block_conjugate_gradient(lambda d: 2 * d, v)[1] == 1
    with pytest.raises(Indefinite, match="dᵀAd = -2 for"):
        block_conjugate_gradient(lambda d: -2 * d, v)


def test_conjugate_gradient_goes_on_until_a_residual_of_a_ten_thousandth():
    """H = diag(1, 1.0003): the first step leaves 0.00015."""
    h, v = torch.tensor([1, 1.0003], dtype=F64).diag(), torch.ones(1, 2, dtype=F64)
    assert block_conjugate_gradient(lambda d: d @ h, v)[1] == 2
    o = objective(nn.Linear(2, 1, bias=False).double(), (2 * h).sqrt(), v[0], loss="mse")
    assert inverse(o, "cg", 0.0)[0](v)[1]["iterations"] == 2


@pytest.mark.parametrize("shape", [(20,), (1, 4, 5)])
def test_a_network_in_the_span_of_its_inputs(shape):
    """With fewer examples than inputs: products, and an inverse, of the whole matrix from the smaller one."""
    torch.manual_seed(0)
    x, y = torch.randn(7, *shape, dtype=F64), torch.arange(7) % 3
    o = objective(models.mlp(20, (4,), 3, "tanh").double(), x, y, weight_decay=0.3)
    span, v, h = input_span(o), torch.randn(5, o.p, dtype=F64), hessian(o)
    assert span.inner.p == 7 * 4 + 4 + 4 * 3 + 3
    seen, across = span.down(v), v - span.up(span.down(v))
    torch.testing.assert_close(span.up(hessian_product(span.inner, seen)) + 0.3 * across, v @ h)
    shift = 2 * float(torch.linalg.eigvalsh(h).abs().max())
    solve, _ = inverse(o, "cg", shift, tol=1e-12)
    torch.testing.assert_close(solve(v)[0], torch.linalg.solve(h + shift * torch.eye(o.p, dtype=F64), v.T).T)
    assert input_span(objective(models.mlp(5, (4,), 3).double(), x.flatten(1)[:, :5], y)) is None


def test_lissa_is_its_series_and_knows_when_it_diverges():
    a, v = definite()
    scale, depth = 4.0, 30
    series = sum(torch.linalg.matrix_power(torch.eye(12, dtype=F64) - a / scale, j) for j in range(depth + 1)) / scale
    found = lissa(lambda d, rows: d @ a, v, 1, scale=scale, depth=depth)
    torch.testing.assert_close(found, v @ series)
    with pytest.raises(Diverged, match="at step"):
        lissa(lambda d, rows: d @ a, v, 1, scale=0.2, depth=500)
    with pytest.raises(Diverged):  # negative curvature
        lissa(lambda d, rows: -d @ a, v, 1, scale=4.0, depth=500)


@pytest.mark.parametrize("kind", ["indefinite", "decay alone at the low end"])
def test_extreme_eigenvalues_of_a_large_diagonal(kind):
    torch.manual_seed(0)
    values = {
        "indefinite": torch.cat([-0.07 * torch.rand(500, dtype=F64) ** 4, torch.linspace(0, 50, 500, dtype=F64)]),
        "decay alone at the low end": torch.cat([torch.full((2000,), 1e-3), torch.logspace(-2, 2, 200)]).double(),
    }[kind]
    count = 0

    def product(v):
        nonlocal count
        count += 1
        return v * values

    low, high = extreme_eigenvalues(product, torch.empty(len(values), dtype=F64))
    top = float(values.max())
    assert low == pytest.approx(float(values.min()), abs=1e-4 * top) and high == pytest.approx(top, rel=1e-4)
    assert count < 500  # where the lowest is but the decay, ARPACK's own tolerance would never be met
    assert highest_eigenvalue(product, torch.empty(len(values), dtype=F64)) == pytest.approx(top, rel=1e-2)


def test_a_large_matrix_of_zeros_has_the_eigenvalue_zero():
    assert extreme_eigenvalues(lambda v: 0 * v, torch.zeros(3000)) == (0.0, 0.0)
    low, high = extreme_eigenvalues(lambda v: v - v.mean(1, keepdim=True), torch.zeros(3000))  # 1 but along (1, …, 1)
    assert low == pytest.approx(0, abs=1e-3) and high == pytest.approx(1, abs=1e-3)
