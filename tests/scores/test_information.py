"""Information of examples against densities, simulations and the identities between weights and functions."""

import math

import pytest
import torch
from drawn import F64, random

from experiments.unique_information import (
    gaussian,
    gaussian_kl,
    gradient_covariance,
    information_of,
    langevin_precision,
    linearized_hessian,
    sgd_covariance,
    sgd_final_weights,
    two_gaussians,
    unique_information,
)
from lib.scores.unique_information import (
    coefficients,
    functional_sample_information,
    leave_one_out,
    sample_information,
)


def covariance_like(p, seed=0):
    a = random(p, p + 3, seed=seed)
    return a @ a.T / p


@pytest.fixture
def left_out():
    """A linearized network of 2 outputs and few weights: J, validation J, all changes."""
    n, m, k, p = 10, 6, 2, 12
    j, j_val, r = random(n * k, p), random(m * k, p, seed=1), random(n, k, seed=2)
    settings = {"lr": 5e-3, "steps": 300, "weight_decay": 0.5}
    changes = leave_one_out(j @ j.T, r, cross_kernel=j_val @ j.T, **settings)
    return j, j_val, r, changes, settings


# --- the two informations --------------------------------------------------------------------------------------------


def test_it_is_the_divergence_of_two_gaussians():
    """Eq. 5 and 8 are the KL divergence of normal distributions, here by torch.distributions and by sampling."""
    change, sigma = random(1, 4), covariance_like(4, seed=3)
    normal = torch.distributions.MultivariateNormal
    one, two = normal(change[0], sigma), normal(torch.zeros(4, dtype=F64), sigma)
    torch.testing.assert_close(
        sample_information(change, covariance=sigma)[0], torch.distributions.kl_divergence(one, two)
    )
    torch.manual_seed(0)
    w = one.sample((200_000,))
    sampled = one.log_prob(w) - two.log_prob(w)
    assert abs(sampled.mean() - sample_information(change, covariance=sigma)[0]) < 5 * sampled.std() / 200_000**0.5


def test_isotropic_noise_is_a_number():
    changes = random(5, 4)
    whole = sample_information(changes, covariance=0.25 * torch.eye(4))
    torch.testing.assert_close(sample_information(changes, covariance=0.25), whole)
    torch.testing.assert_close(sample_information(changes, precision=4.0), whole)


def test_isotropic_information_needs_no_weights(left_out):
    j, _, _, changes, _ = left_out
    torch.testing.assert_close(
        sample_information(changes.weights(j), covariance=0.09), changes.squared_weights / (2 * 0.09)
    )


def test_functional_information_is_sample_information_under_the_fisher_matrix(left_out):
    """Eq. 8 = 9 and 16 = 17, exact for the linearized network."""
    j, j_val, _, changes, _ = left_out
    sigma = 0.3
    by_function = functional_sample_information(changes.predictions, sigma=sigma)
    fisher = linearized_hessian(j_val, outputs=2)
    torch.testing.assert_close(sample_information(changes.weights(j), precision=fisher / sigma**2), by_function)
    decayed = linearized_hessian(j_val, outputs=2, weight_decay=0.7)
    torch.testing.assert_close(
        sample_information(changes.weights(j), precision=(decayed - 0.7 * torch.eye(12)) / sigma**2), by_function
    )
    torch.testing.assert_close(functional_sample_information(changes.predictions, sigma=2 * sigma), by_function / 4)


# --- SGD's steady state ----------------------------------------------------------------------------------------------


def test_the_hessian_and_the_noise_are_those_of_autograd():
    j, y, n, k = random(12, 5), random(6, 2), 6, 2

    def losses(w):
        return 0.5 * ((j @ w).view(n, k) - y).square().sum(1)

    w = random(5, seed=3)
    second = torch.autograd.functional.hessian(lambda w: losses(w).mean() + 0.2 * w.square().sum() / 2, w)
    torch.testing.assert_close(linearized_hessian(j, outputs=2, weight_decay=0.2), second)
    gradients = torch.autograd.functional.jacobian(losses, w)
    found = gradient_covariance(j, (j @ w).view(n, k) - y)
    torch.testing.assert_close(found, gradients.T.cov(correction=0))


def test_the_lyapunov_equation_in_the_eigenbasis():
    """With H = QhQᵀ, (QᵀΣQ)ₐᵦ = (η/b)(QᵀΛQ)ₐᵦ/(hₐ + hᵦ)."""
    h, noise = covariance_like(6), covariance_like(6, seed=1)
    sigma = sgd_covariance(h, noise, lr=0.1, batch_size=4)
    torch.testing.assert_close(h @ sigma + sigma @ h, 0.1 / 4 * noise, rtol=1e-9, atol=1e-12)
    values, q = torch.linalg.eigh(h)
    wanted = q @ ((0.1 / 4 * q.T @ noise @ q) / (values[:, None] + values)) @ q.T
    torch.testing.assert_close(sigma, wanted, rtol=1e-9, atol=1e-12)


def test_langevin_dynamics_and_cooks_quadratic_form(left_out):
    """Eq. 15, Λ = σ²I: from the Lyapunov equation, in closed form, and without weights."""
    j, _, r, _, _ = left_out
    n, decay, lr, b, noise = len(r), 0.05, 0.1, 5, 0.4
    changes = leave_one_out(
        j @ j.T, r, lr=1.0, steps=math.inf, weight_decay=n * decay, continuous=True, cross_kernel=j @ j.T
    )
    weights, h = changes.weights(j), linearized_hessian(j, outputs=2, weight_decay=decay)
    precision = langevin_precision(h, lr=lr, batch_size=b, noise=noise)
    sigma = sgd_covariance(h, noise**2 * torch.eye(12, dtype=F64), lr=lr, batch_size=b)
    closed = sample_information(weights, precision=precision)
    torch.testing.assert_close(sample_information(weights, covariance=sigma), closed)
    cook = torch.einsum("ip,pq,iq->i", weights, h, weights) * b / (lr * noise**2)
    torch.testing.assert_close(closed, cook)
    by_function = changes.predictions.square().sum((1, 2)) / n + decay * changes.squared_weights
    torch.testing.assert_close(closed, by_function * b / (lr * noise**2))


def test_the_steady_state_against_sgd():
    """10,000 runs of SGD on a least-squares problem end with the mean and the covariance that theory gives."""
    n, p, b, lr, decay, runs = 40, 3, 4, 0.02, 0.1, 10_000
    j, y = random(n, p), random(n, seed=1)
    w_star = j.T @ coefficients(j @ j.T, y, lr=1.0, steps=math.inf, weight_decay=decay, loss="mean", continuous=True)
    h = linearized_hessian(j, outputs=1, weight_decay=decay)
    sigma = sgd_covariance(h, gradient_covariance(j, j @ w_star - y[:, None]), lr=lr, batch_size=b)
    g = torch.Generator().manual_seed(5)
    w = w_star.T.repeat(runs, 1)
    for _ in range(600):
        rows = torch.randint(n, (runs, b), generator=g)
        errors = torch.einsum("rbp,rp->rb", j[rows], w) - y[rows]
        w = w - lr * (torch.einsum("rb,rbp->rp", errors, j[rows]) / b + decay * w)
    torch.testing.assert_close(w.mean(0), w_star[:, 0], rtol=0, atol=5 * (sigma.diagonal().max() / runs).sqrt().item())
    found = w.T.cov()
    assert (found - sigma).norm() < 0.08 * sigma.norm()  # first order in η·curvature ≈ 0.05; sampling ≈ 0.02


# --- the toy of A.1 --------------------------------------------------------------------------------------------------


def test_full_batches_are_gradient_descent():
    """With one batch an epoch the order does not matter, and the linearized network's formula gives the weights."""
    x, y = two_gaussians(7)
    found = sgd_final_weights(x, y, lr=0.1, epochs=25, batch_size=14, runs=2)
    wanted = x.T @ coefficients(x @ x.T, y, lr=0.1, steps=25, loss="mean")
    torch.testing.assert_close(found, wanted.T.expand(2, 2), rtol=1e-9, atol=1e-12)


def test_runs_are_orders_of_the_batches():
    """Three points, batches of two and one, one epoch: each run ends where one of the six orders does."""
    x, y, lr = random(3, 2), random(3, seed=1), 0.3
    ends = []
    for order in ([0, 1, 2], [0, 2, 1], [1, 2, 0]):
        w = torch.zeros(2, dtype=F64)
        for batch in (order[:2], order[2:]):
            w = w - lr * x[batch].T @ (x[batch] @ w - y[batch]) / len(batch)
        ends.append(w)
    found = sgd_final_weights(x, y, lr=lr, epochs=1, batch_size=2, runs=900)
    # by differences: the squares, expanded, cancel to 1e-8
    nearest = torch.cdist(found, torch.stack(ends), compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert nearest.values.max() < 1e-12
    assert (nearest.indices.bincount() - 300).abs().max() < 60  # 4 standard deviations


def one_at_a_time(x, y, *, lr=0.1, epochs, batch_size, runs, seed):
    """SGD step by step on one data set, as it is defined."""
    w, draw = torch.zeros(runs, x.shape[1], dtype=F64), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.rand(runs, len(y), generator=draw).argsort(1).split(batch_size, 1):
            errors = torch.einsum("rbp,rp->rb", x[batch], w) - y[batch]
            w = w - lr * torch.einsum("rb,rbp->rp", errors, x[batch]) / batch.shape[1]
    return w


@pytest.mark.parametrize("batch_size", [1, 4, 5, 9, 12])  # 9 rows: the last batch is whole, smaller, or all there is
def test_all_draws_at_once_are_each_by_itself(batch_size):
    (x, y), others = (random(9, 3), random(9, seed=1)), (random(4, 3, seed=2), random(4, seed=3))
    settings = {"epochs": 6, "batch_size": batch_size, "runs": 7, "seed": 5}
    together = sgd_final_weights(x, y, others=others, **settings)
    for found, new_x, new_y in zip(together, *others, strict=True):
        alone = torch.cat([x[:-1], new_x[None]]), torch.cat([y[:-1], new_y[None]])
        torch.testing.assert_close(found, one_at_a_time(*alone, **settings), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found, sgd_final_weights(*alone, **settings), rtol=1e-9, atol=1e-12)


def test_divergence_of_gaussians_with_other_covariances():
    first, second = (random(3), covariance_like(3)), (random(3, seed=1), covariance_like(3, seed=2))
    normal = torch.distributions.MultivariateNormal
    wanted = torch.distributions.kl_divergence(normal(*first), normal(*second))
    torch.testing.assert_close(gaussian_kl(first, second), wanted)
    assert abs(gaussian_kl(first, first)) < 1e-12


def test_information_of_known_clouds():
    """The information is 0 if replacements change nothing, and the divergence if all of them are one Gaussian."""
    cloud, other = random(4000, 2), 0.7 * random(4000, 2, seed=1) + 0.5
    information, bound = unique_information(cloud, other, torch.stack([cloud, cloud]))
    assert abs(information) < 1e-12
    assert bound == pytest.approx(gaussian_kl(gaussian(cloud), gaussian(other)).item())
    information, bound = unique_information(cloud, other, torch.stack([other, other]))
    assert information == pytest.approx(bound, rel=2e-3)  # a mean over the samples in place of an integral


def test_an_odd_example_tells_more_and_the_bound_holds_on_average():
    """Lemma B.1: the mean over z of KL(p_z ‖ q) is that of KL(p_z ‖ r) and KL(r ‖ q), r the marginal."""
    x, y = two_gaussians(6, seed=3)
    x[0] = -1.5 * x[0]  # on the side of the other class
    settings = {"epochs": 60, "batch_size": 3, "runs": 400}
    with_it = sgd_final_weights(x, y, **settings)
    bounds = []
    for i in (0, 1, 2):
        keep = torch.arange(12) != i
        x_new, y_new = two_gaussians(4, seed=9)
        x_new, y_new = torch.cat([x_new, x[i : i + 1]]), torch.cat([y_new, y[i : i + 1]])
        replaced = sgd_final_weights(
            torch.cat([x[keep], x_new[:1]]), torch.cat([y[keep], y_new[:1]]), others=(x_new, y_new), seed=1, **settings
        )
        without = sgd_final_weights(x[keep], y[keep], seed=2, **settings)
        information, bound = unique_information(with_it, without, replaced)
        assert information < math.log(9) + 0.1  # the example itself is one of the nine replacements
        bounds.append(bound)
        each = [unique_information(cloud, without, replaced) for cloud in replaced]
        assert sum(a for a, _ in each) <= sum(b for _, b in each)
    assert bounds[0] > 3 * max(bounds[1:])


# --- bad input -------------------------------------------------------------------------------------------------------

EYE = torch.eye(3, dtype=F64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional_sample_information(torch.zeros(2, 3)), r"changes must be \(n, m, k\), got \(2, 3\)"),
        (lambda: functional_sample_information(torch.zeros(2, 3, 1), sigma=0), "sigma must be positive, got 0"),
        (lambda: sample_information(torch.zeros(2, 3)), "give covariance or precision, one of them"),
        (lambda: sample_information(torch.zeros(2, 3), covariance=1, precision=1), "give covariance or precision"),
        (lambda: sample_information(torch.zeros(3), covariance=1), r"changes must be \(n, p\), got \(3,\)"),
        (lambda: sample_information(torch.zeros(2, 3), covariance=-1.0), "covariance must be positive, got -1.0"),
        (lambda: sample_information(torch.zeros(2, 3), precision=EYE[:2]), r"a number or \(3, 3\), got \(2, 3\)"),
        (lambda: sample_information(torch.zeros(2, 3), covariance=0 * EYE), "covariance must be positive definite"),
        (
            lambda: linearized_hessian(torch.zeros(5, 3), outputs=2),
            r"jacobian must be \(n·k, p\) with k = 2, got \(5, 3\)",
        ),
        (lambda: gradient_covariance(torch.zeros(5, 3), torch.zeros(2, 2)), r"got \(5, 3\) and \(2, 2\)"),
        (lambda: sgd_covariance(0 * EYE, EYE, lr=0.1, batch_size=1), "hessian must be positive definite"),
        (lambda: sgd_covariance(EYE, EYE[:2], lr=0.1, batch_size=1), r"got \(3, 3\) and \(2, 3\)"),
        (lambda: sgd_covariance(EYE, EYE, lr=0.0, batch_size=1), "lr must be positive, got 0.0"),
        (lambda: langevin_precision(EYE, lr=0.1, batch_size=1, noise=0.0), "noise must be positive, got 0.0"),
        (lambda: sgd_final_weights(torch.zeros(4, 2), torch.zeros(3)), r"got \(4, 2\) and \(3,\)"),
        (lambda: two_gaussians(0), "expected per_class ≥ 1 and spread > 0, got 0 and 0.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_information_of_an_example_is_what_its_three_clouds_give():
    x, y = two_gaussians(6, seed=0)
    place = (torch.ones(4, 2, dtype=x.dtype), torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=x.dtype))
    train = {"runs": 50, "epochs": 20}
    rest = torch.arange(12) != 2
    replaced = torch.stack([
        sgd_final_weights(torch.cat([x[rest], place[0][g : g + 1]]), torch.cat([y[rest], place[1][g : g + 1]]),
                          seed=17, **train) for g in range(4)
    ])  # fmt: skip
    clouds = sgd_final_weights(x, y, seed=15, **train), sgd_final_weights(x[rest], y[rest], seed=16, **train)
    found = information_of(x, y, 2, place, seed=5, **train)
    assert found == pytest.approx(unique_information(*clouds, replaced))
    with pytest.raises(ValueError, match="i must be one of the 12 examples, got 12"):
        information_of(x, y, 12, place)
