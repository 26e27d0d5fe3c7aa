"""The toy of Harutyunyan et al. 2021, appendix A.1 and figure 3: what SGD's final weights know of one example.

Two Gaussian classes of 40 points in the plane, linear regression without intercept on targets ±1 by SGD (200 epochs,
batches of 5, learning rate 0.1). The distribution p(w | S) over the order of batches is sampled, and compared with that
of training without example i, and with that of training with another in its place:

    I(w; zᵢ | S₋ᵢ) = KL(p(w | S) ‖ E_z p(w | S₋ᵢ, z))   ≤   KL(p(w | S) ‖ p(w | S₋ᵢ))   on average over zᵢ   (eq. 1, 3)

The paper gives I ≈ 1.3 and KL ≈ 3.0 for one example of one draw of the data. It does not give the Gaussians; the
defaults here bring the weights near those of its figure, (0.34, −0.49). All quantities are in nats.
"""

import math

import torch
from torch import Tensor

from lib.linearized import F64


def two_gaussians(
    per_class: int = 40, *, seed: int = 0, centre: tuple[float, ...] = (0.9, -1.25), spread: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Points ``(2·per_class, d)`` around +centre and −centre with targets +1 and −1, ``(2·per_class,)``; float64."""
    if per_class < 1 or not spread > 0:
        raise ValueError(f"expected per_class ≥ 1 and spread > 0, got {per_class} and {spread}")
    y = torch.tensor([1.0, -1.0], dtype=F64).repeat_interleave(per_class)
    noise = torch.randn(len(y), len(centre), dtype=F64, generator=torch.Generator().manual_seed(seed))
    return y[:, None] * torch.tensor(centre, dtype=F64) + spread * noise, y


def sgd_final_weights(
    x: Tensor, y: Tensor, *, lr: float = 0.1, epochs: int = 200, batch_size: int = 5, runs: int = 1000, seed: int = 0
) -> Tensor:
    """Weights after SGD on ``½(w·x − y)²``, mean over the batch, from w = 0; every run shuffles anew each epoch.

    Run r of one data set takes its rows in the same order as run r of another.

    Args:
        x, y: ``(n, p)`` and ``(n,)``, or ``(g, n, p)`` and ``(g, n)`` for g data sets side by side. The last batch of
            an epoch is smaller where n is no multiple of ``batch_size``.

    Returns:
        ``(runs, p)``, or ``(g, runs, p)``.

    Raises:
        ValueError: for shapes that disagree.

    Cost: epochs · n/batch_size small products for all runs at once; memory 2·g·runs·n·p numbers.

    Example:
        >>> sgd_final_weights(torch.ones(2, 1), torch.ones(2), lr=0.5, epochs=1, batch_size=2, runs=1)  # ½ of the way
        tensor([[0.5000]])
    """
    if x.ndim not in (2, 3) or y.shape != x.shape[:-1]:
        raise ValueError(f"expected x (n, p) and y (n,), or both (g, …), got {tuple(x.shape)} and {tuple(y.shape)}")
    sets = torch.cat([x, y[..., None]], -1).reshape(-1, *x.shape[-2:-1], x.shape[-1] + 1)  # (g, n, p + 1)
    groups, n, width = sets.shape
    generator = torch.Generator(x.device).manual_seed(seed)
    w = x.new_zeros(groups, runs, width - 1)
    for _ in range(epochs):
        order = torch.rand(runs, n, generator=generator, device=x.device).argsort(1)
        for batch in sets[:, order].split(batch_size, 2):  # (g, runs, b, p + 1)
            features, targets = batch[..., :-1], batch[..., -1]
            errors = (features * w[:, :, None]).sum(3) - targets
            w = w - lr / batch.shape[2] * (errors[..., None] * features).sum(2)
    return w if x.ndim == 3 else w[0]


def gaussian(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(p,)`` and covariance ``(p, p)`` of samples ``(r, p)``."""
    return samples.mean(0), samples.T.cov()


def gaussian_kl(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """``KL(first ‖ second)`` of two Gaussians, each a mean and a covariance, in nats (eq. 21).

    Example:
        >>> eye = torch.eye(1)
        >>> gaussian_kl((torch.zeros(1), eye), (torch.ones(1), eye))  # half the squared distance
        tensor(0.5000)
    """
    (mean, covariance), (other, other_covariance) = first, second
    factor = torch.linalg.cholesky(other_covariance)
    apart = torch.linalg.solve_triangular(factor, (other - mean)[:, None], upper=False).square().sum()
    spread = torch.cholesky_solve(covariance, factor).trace()
    return (apart + spread - len(mean) + other_covariance.logdet() - covariance.logdet()) / 2


def unique_information(with_it: Tensor, without_it: Tensor, replaced: Tensor) -> tuple[float, float]:
    """``I(w; zᵢ | S₋ᵢ)`` and its bound, the KL divergence from training without it; each cloud of weights a Gaussian.

    Args:
        with_it, without_it: weights after training on S and on S₋ᵢ, ``(r, p)``.
        replaced: on S₋ᵢ and each of g draws in the example's place, ``(g, r, p)``; their Gaussians in equal parts are
            the marginal. Its KL divergence is a mean over the samples ``with_it``.

    Returns:
        information, bound, in nats.
    """
    own = gaussian(with_it)
    log_own = _log_density(with_it, own)
    log_each = torch.stack([_log_density(with_it, gaussian(samples)) for samples in replaced])
    marginal = log_each.logsumexp(0) - math.log(len(replaced))
    return (log_own - marginal).mean().item(), gaussian_kl(own, gaussian(without_it)).item()


def _log_density(samples: Tensor, parameters: tuple[Tensor, Tensor]) -> Tensor:
    return torch.distributions.MultivariateNormal(*parameters).log_prob(samples)


def information_of(
    x: Tensor, y: Tensor, i: int, others: tuple[Tensor, Tensor], *, runs: int = 1000, seed: int = 0, **sgd
) -> tuple[float, float]:
    """``I(w; zᵢ | S₋ᵢ)`` and its leave-one-out bound for example i of a data set, in nats, by training on all of them.

    Args:
        x, y: the data S, ``(n, p)`` and ``(n,)``.
        others: g draws to stand in the example's place, ``(g, p)`` and ``(g,)``; more make the marginal smoother.
        runs: trainings on each of the g + 2 data sets. sgd: options of :func:`sgd_final_weights`.

    Raises:
        ValueError: if there is no such example.

    Cost: (g + 2)·runs trainings.
    """
    if not 0 <= i < len(y):
        raise ValueError(f"i must be one of the {len(y)} examples, got {i}")
    rest = torch.arange(len(y)) != i
    in_its_place = [
        (torch.cat([x[rest], z[None]]), torch.cat([y[rest], t[None]])) for z, t in zip(*others, strict=True)
    ]
    replaced_x, replaced_y = (torch.stack(part) for part in zip(*in_its_place, strict=True))
    train = lambda x, y, stream: sgd_final_weights(x, y, runs=runs, seed=3 * seed + stream, **sgd)
    return unique_information(train(x, y, 0), train(x[rest], y[rest], 1), train(replaced_x, replaced_y, 2))
