"""All leave-one-out changes at once against deleting each example and training without it, in float64."""

import math

import pytest
import torch

from lib.scores import definitions
from lib.scores.unique_information import leave_one_out, prediction_changes, spectrum

F64 = torch.float64


def problem(n=9, k=1, p=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    j, r, cross = (torch.randn(*shape, dtype=F64, generator=g) for shape in ((n * k, p), (n, k), (5 * k, p)))
    return j, r, cross @ j.T


def test_a_very_long_training():
    """t = 10⁵ with curvatures over eight decades, against each deleted kernel's own eigenvectors."""
    g = torch.Generator().manual_seed(3)
    q = torch.linalg.qr(torch.randn(30, 30, dtype=F64, generator=g))[0]
    values, steps = torch.logspace(-8, 0, 30, dtype=F64), 100_000
    kernel, r = (q * values) @ q.T, torch.randn(30, 1, dtype=F64, generator=g)
    kernel = (kernel + kernel.T) / 2

    def solution(rows):
        values, vectors = torch.linalg.eigh(kernel[rows][:, rows])
        gain = -torch.expm1(steps * torch.log1p(-values.clamp(0, 1 - 1e-15))) / values.clamp(min=1e-30)
        out = torch.zeros(30, dtype=F64)
        out[rows] = vectors @ (gain * (vectors.T @ r[rows, 0]))
        return out

    every = torch.arange(30)
    whole = solution(every)
    wanted = torch.stack([whole - solution(every[every != i]) for i in every], 1)
    found = leave_one_out(kernel, r, lr=1.0, steps=steps, tol=1e-11)
    assert (found.coefficients - wanted).norm() < 1e-7 * wanted.norm()


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7, 1e-10])
def test_the_error_stays_within_the_tolerance(tol):
    j, r, _ = problem(n=25, p=200)
    top = torch.linalg.matrix_norm(j, 2).item() ** 2
    for continuous, steps in ((False, 300), (True, 0.7), (True, 200.0)):
        settings = {"lr": 1 / top, "steps": steps, "continuous": continuous}
        whole = definitions.coefficients(j @ j.T, r, **settings)[:, 0]
        wanted = definitions.leave_one_out(j @ j.T, r, **settings)
        error = (j.T @ (leave_one_out(j @ j.T, r, tol=tol, **settings).coefficients - wanted)).norm(dim=0)
        allowed = tol * ((j.T @ whole).norm() + (j.T @ (whole[:, None] - wanted)).norm(dim=0))
        assert (error <= allowed + 1e-12).all()


def test_the_limit_is_the_block_inverse():
    """Appendix E: the inverse without an example, from blocks of the whole inverse, against a fresh inverse."""
    k, n = 2, 7
    j, r, _ = problem(n=n, k=k)
    kernel = j @ j.T
    inverse = torch.linalg.inv(kernel)
    found = leave_one_out(kernel, r, lr=1.0, steps=math.inf, continuous=True)
    for i in range(n):
        out = torch.arange(i * k, i * k + k)
        stay = torch.tensor([a for a in range(n * k) if a not in out])
        f11, a12, a22 = inverse[stay][:, stay], kernel[stay][:, out], kernel[out][:, out]
        left = f11 @ a12
        updated = f11 - left @ torch.linalg.inv(a22 + a12.T @ left) @ left.T  # eq. 30
        torch.testing.assert_close(updated, torch.linalg.inv(kernel[stay][:, stay]), rtol=1e-9, atol=1e-11)
        whole = inverse @ r.flatten()
        without = torch.zeros_like(whole)
        without[stay] = updated @ r.flatten()[stay]
        torch.testing.assert_close(found.coefficients[:, i], whole - without, rtol=1e-9, atol=1e-10)


def test_long_trainings_approach_the_limit():
    j, r, _ = problem()
    lr = 0.5 / torch.linalg.matrix_norm(j, 2).item() ** 2
    limit = leave_one_out(j @ j.T, r, lr=lr, steps=math.inf).coefficients
    torch.testing.assert_close(leave_one_out(j @ j.T, r, lr=lr, steps=10**7).coefficients, limit)


def test_an_example_that_fits_already_and_touches_no_other_changes_nothing():
    j, r, _ = problem()
    kernel, r = j @ j.T, r.clone()
    kernel[4], kernel[:, 4], r[4] = 0, 0, 0
    changes = leave_one_out(kernel, r, lr=1e-3, steps=100)
    assert changes.squared_weights[4] < 1e-30
    assert (changes.squared_weights[torch.arange(9) != 4] > 1e-6).all()


def test_twins_of_one_target_share():
    """With an equal twin an example changes less, and at t = ∞ nothing."""
    j, r, _ = problem()
    apart = leave_one_out(j @ j.T, r, lr=1e-3, steps=100).squared_weights[3]
    j, r = torch.cat([j, j[3:4]]), torch.cat([r, r[3:4]])
    changes = leave_one_out(j @ j.T, r, lr=1e-3, steps=100).squared_weights
    torch.testing.assert_close(changes[3], changes[9])
    assert changes[3] < 0.5 * apart
    assert leave_one_out(j @ j.T, r, lr=1e-3, steps=10**7).squared_weights[3] < 1e-9 * apart


def test_follows_the_rows_the_units_and_the_basis_of_outputs():
    j, r, cross = problem(n=8, k=2)
    base = leave_one_out(j @ j.T, r, lr=1e-3, steps=50, cross_kernel=cross)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    places = (order[:, None] * 2 + torch.arange(2)).flatten()
    moved = leave_one_out((j @ j.T)[places][:, places], r[order], lr=1e-3, steps=50, cross_kernel=cross[:, places])
    torch.testing.assert_close(moved.predictions, base.predictions[order])
    scaled = leave_one_out(100 * j @ j.T, 3 * r, lr=1e-5, steps=50, cross_kernel=100 * cross)
    torch.testing.assert_close(scaled.predictions, 3 * base.predictions)
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=F64, generator=torch.Generator().manual_seed(2)))[0]
    block = torch.block_diag(*[turn] * 8)
    turned = leave_one_out(block @ j @ j.T @ block.T, r @ turn.T, lr=1e-3, steps=50)
    torch.testing.assert_close(turned.squared_weights, base.squared_weights)


def test_a_spectrum_or_float32_will_do():
    j, r, cross = problem()
    settings = {"lr": 1e-3, "steps": 80, "weight_decay": 0.5}
    base = leave_one_out(j @ j.T, r, cross_kernel=cross, **settings)
    shared = leave_one_out(spectrum(j @ j.T), r, cross_kernel=cross, **settings)
    torch.testing.assert_close(shared.predictions, base.predictions)
    single = leave_one_out((j @ j.T).float(), r.float(), cross_kernel=cross.float(), **settings)
    assert single.predictions.dtype == F64
    torch.testing.assert_close(single.predictions, base.predictions, rtol=1e-4, atol=1e-5)
    assert spectrum(torch.diag(torch.tensor([-1e-17, 1.0], dtype=F64))).values.tolist() == [0, 1]  # of rounding alone


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cross_kernel": torch.zeros(4, 3)}, r"cross_kernel must be \(m·k, n·k\), k = 1 and n·k = 2, got \(4, 3\)"),
        ({"lr": 0.7}, "lr must be at most 2 / largest curvature = 0.667"),
        ({"loss": "mean", "lr": 0.7}, "lr must be at most"),
        ({"tol": 0.5}, "tol must be between 1e-11 and 0.1, got 0.5"),
        ({"steps": 1.5}, "steps must be a whole number"),
    ],
)
def test_bad_input(change, message):
    settings = {"lr": 0.1, "steps": 2} | change
    with pytest.raises(ValueError, match=message):
        leave_one_out(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.ones(2), **settings)


def test_one_example_has_no_others_to_take_the_mean_of():
    with pytest.raises(ValueError, match="at least two examples with loss='mean', got one"):
        leave_one_out(torch.ones(1, 1), torch.ones(1), lr=0.1, steps=1, loss="mean")


@pytest.mark.parametrize("time", [{"lr": 0.02, "steps": 50}, {"lr": 1.0, "steps": 0.7, "continuous": True}])
def test_changes_of_predictions_alone(time):
    generator = torch.Generator().manual_seed(0)
    rows, others = (torch.randn(m, 4, generator=generator, dtype=torch.float64) for m in (8, 3))
    kernel, cross, residual = rows @ rows.T, others @ rows.T, torch.randn(8, generator=generator).double()
    wanted = leave_one_out(kernel, residual, cross_kernel=cross, **time).predictions[..., 0]
    torch.testing.assert_close(prediction_changes(kernel, residual, cross, **time), wanted)
    known = spectrum(kernel)
    torch.testing.assert_close(prediction_changes(known, residual, cross @ known.vectors, turned=True, **time), wanted)
    steep = torch.diag(torch.tensor([0.1, 0.5, 1.8]).double() / time["lr"])  # steps overshoot along one
    three = {"cross_kernel": torch.ones(2, 3, dtype=torch.float64)}
    three |= time | {"steps": 20}
    wanted = leave_one_out(steep, residual[:3], **three).predictions[..., 0]
    torch.testing.assert_close(prediction_changes(steep, residual[:3], **three), wanted)
    with pytest.raises(ValueError, match=r"expected residual \(n,\) and cross_kernel \(m, n\) for n = 8"):
        prediction_changes(kernel, residual, cross.T, **time)
