import pytest
import torch

from experiments.unique_information import (
    exact_sgd_covariance,
    gradient_covariance,
    linearized_hessian,
    minimum,
    sgd_covariance,
    sgd_wander,
)
from lib.numerics.spectral_filter import F64


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    j = torch.randn(60, 3, dtype=F64, generator=generator) * torch.tensor([1.0, 0.7, 1.5], dtype=F64)
    return j, j @ torch.ones(3, dtype=F64) + 0.5 * torch.randn(60, dtype=F64, generator=generator)


def test_minimum_is_where_the_gradient_is_zero(problem):
    j, r = problem
    best = minimum(j, r, weight_decay=0.1)
    torch.testing.assert_close(j.T @ (j @ best - r) / 60 + 0.1 * best, torch.zeros(3, dtype=F64), atol=1e-12, rtol=0)
    torch.testing.assert_close(minimum(j, r), torch.linalg.lstsq(j, r[:, None]).solution[:, 0])


def test_the_cloud_has_the_covariance_of_the_lyapunov_equation(problem):
    j, r = problem
    lr, b = 0.02, 5
    cloud = sgd_wander(j, r, lr=lr, batch_size=b, burn=400, steps=1000, chains=300, every=20)
    noise = gradient_covariance(j, (j @ minimum(j, r) - r)[:, None])
    expected = sgd_covariance(linearized_hessian(j, outputs=1), noise, lr=lr, batch_size=b)
    assert (cloud.T.cov() - expected).norm() < 0.1 * expected.norm()
    assert (cloud.mean(0) ** 2 < 0.02 * expected.diagonal()).all()


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_cloud_has_the_exact_covariance_at_a_large_rate(problem, decay):
    how = {"lr": 0.25, "batch_size": 5, "weight_decay": decay}
    cloud = sgd_wander(*problem, **how, burn=100, steps=400, chains=1000, every=20).T.cov()
    assert (cloud - exact_sgd_covariance(*problem, **how)).norm() < 0.05 * cloud.norm()


def test_at_small_rates_the_exact_covariance_is_that_of_the_lyapunov_equation(problem):
    j, r = problem
    noise = gradient_covariance(j, (j @ minimum(j, r) - r)[:, None])
    expected = sgd_covariance(linearized_hessian(j, outputs=1), noise, lr=1e-4, batch_size=5)
    assert (exact_sgd_covariance(j, r, lr=1e-4, batch_size=5) - expected).norm() < 1e-3 * expected.norm()


def test_all_examples_a_step_and_no_noise_stay_at_the_minimum(problem):
    j, _ = problem
    exact = j @ torch.ones(3, dtype=F64)  # no residual, no noise
    assert sgd_wander(j, exact, lr=0.1, batch_size=2, burn=5, steps=5, chains=2, every=1).abs().max() < 1e-12


def test_same_seed_same_cloud_and_its_size(problem):
    clouds = [sgd_wander(*problem, lr=0.1, batch_size=2, burn=3, steps=8, chains=4, every=4, seed=s) for s in (0, 0, 1)]
    assert clouds[0].shape == (8, 3)
    assert torch.equal(clouds[0], clouds[1]) and not torch.equal(clouds[0], clouds[2])


def test_refusals(problem):
    j, r = problem
    with pytest.raises(ValueError, match="no steady state at lr = 5"):
        exact_sgd_covariance(j, r, lr=5.0, batch_size=5)
    with pytest.raises(ValueError, match=r"expected jacobian \(n, p\), residual \(n,\), got \(60, 3\), \(59,\)"):
        minimum(j, r[1:])
    with pytest.raises(ValueError, match="full column rank"):
        minimum(torch.zeros(4, 2), torch.zeros(4))
