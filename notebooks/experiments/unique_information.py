"""Notebook 02: what does unique information say of an example: may it be dropped, and what do SGD's weights know of it?

After Harutyunyan et al. (ICLR 2021): data summarization (section 6, figure 2c), data sets put together on purpose,
adversarial examples, the toy of appendix A.1 and SGD's steady state (section 4). Information is in nats.
"""

import copy
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.linalg import solve_continuous_lyapunov
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from experiments.transfer import narrow_resnet
from lib.data.datasets import Dataset
from lib.networks.models import densenet_small
from lib.numerics.spectral_filter import F64
from lib.scores.unique_information import Tangent, changes, coefficients, f_si, regression_targets
from lib.statistics import t_interval
from lib.training import ensemble
from lib.training.recipe import Recipe, Record, Run

STRATEGIES = ("bottom", "bottom iterative", "top", "random", "joint")


def pretrained(name: str, d: Dataset, *, width: int, epochs: int, seed: int, run: Run) -> nn.Module:
    """``"ResNet-18"``, -34 or -50 of that width, or ``"DenseNet"``, trained on ``d``; its test accuracy is printed."""
    k = len(d.classes)
    dense = name == "DenseNet"
    body = densenet_small(1, k) if dense else narrow_resnet(int(name.removeprefix("ResNet-")), width=width, classes=k)
    recipe = Recipe(lr=0.05 if dense else 0.02, momentum=0.9, schedule="cosine", epochs=epochs)
    trained = ensemble.train(body, d, recipe, [seed], run=run)
    body.load_state_dict({key: value[0] for key, value in trained.parameters.items()})
    print(f"{name}: {trained.accuracy_test[0]:.1%} on {k} classes after {epochs} epochs")
    return body


def part(net: Tangent, kept: Tensor) -> Tangent:
    """The same network with these training rows only: ``(n,)`` bool, or positions."""
    n, k = net.outputs.shape
    rows = torch.arange(n)[kept]
    columns = (rows[:, None] * k + torch.arange(k)).flatten()
    return Tangent(net.kernel[columns][:, columns], net.cross_kernel[:, columns], net.outputs[rows])


def fitted(net: Tangent, y: Tensor, *, lr: float, steps: float, weight_decay: float = 0.0) -> Tensor:
    """How far training has moved the predictions on the other inputs, ``f_w(x) − f₀(x)``, ``(m, k)``."""
    n, k = net.outputs.shape
    training = {"lr": lr / n, "steps": steps, "weight_decay": n * weight_decay}
    alpha = coefficients(net.spectrum, regression_targets(y, k) - net.outputs.to(F64), **training)
    return (net.cross_kernel.to(F64) @ alpha.flatten()).view(-1, k)


def linearized_hessian(jacobian: Tensor, *, outputs: int, weight_decay: float = 0.0) -> Tensor:
    """``H = JᵀJ/n + λI`` of the mean loss ``(1/n) Σᵢ ½‖f(xᵢ) − yᵢ‖² + λ/2 ‖w − w₀‖²``, ``(p, p)``.

    Args:
        jacobian: ``(n·k, p)``. outputs: k. weight_decay: λ of the mean loss (the sum loss has nλ).

    With λ = 0 and validation data it is the Fisher information F of eq. 9, and ``precision = F/σ²`` gives the F-SI.

    Raises:
        ValueError: if the rows are not a multiple of ``outputs``.
    """
    if jacobian.ndim != 2 or outputs < 1 or len(jacobian) % outputs:
        raise ValueError(f"jacobian must be (n·k, p) with k = {outputs}, got {tuple(jacobian.shape)}")
    jacobian = jacobian.to(F64)
    curvature = jacobian.T @ jacobian * (outputs / len(jacobian))
    curvature.diagonal().add_(weight_decay)
    return curvature


def removal_order(
    net: Tangent, y: Tensor, strategy: str, *, lr: float, steps: float, weight_decay: float = 0.0,
    every: float = 0.05, until: float = 0.95, seed: int = 0,
) -> Tensor:  # fmt: skip
    """In which order to drop the n training examples, ``(n,)`` positions, the first to go first.

    Strategies: the least informative first ("bottom"), the same but scored anew after each 5% ("bottom iterative"), the
    most informative ("top"), any ("random"). The unique information of a group is not the sum of its members'; "joint"
    drops so that the *group's* information grows least: with f the predictions of the linearized network on other
    inputs, trained on all rows and on the kept rows K, it takes from K the example i that minimizes

        ‖f_all − f_K + δᵢ‖²,        δᵢ = f_K − f_{K∖i}

    one after the other, adding up δ to first order, and computes f_K and all δ anew after each 5%.

    Args:
        net: the linearized network on the training rows, and on other inputs. y: training labels ``(n,)``.
        lr, steps, weight_decay: how the network is trained; the learning rate is that of the mean over the rows kept.
        every: share of the n rows after which the iterative strategies score anew.
        until: share of the rows that they order; the rest keeps the order of the last scores.

    Cost: an eigendecomposition; ``until/every`` of them, of ever fewer rows, for the iterative strategies.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if not 0 < every <= until < 1:
        raise ValueError(f"expected 0 < every ≤ until < 1, got {every} and {until}")
    n, train = len(y), {"lr": lr, "steps": steps, "weight_decay": weight_decay}
    if strategy == "random":
        return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if strategy in ("bottom", "top"):
        return f_si(net, y, **train).argsort(descending=strategy == "top", stable=True)
    left, dropped = torch.arange(n), []
    whole = fitted(net, y, **train)
    for stop in range(1, round(until / every) + 1):
        batch = round(stop * every * n) - n + len(left)
        on_left = part(net, left) if dropped else net
        if strategy == "joint":
            first = _joint(changes(on_left, y[left], **train), whole - fitted(on_left, y[left], **train), batch)
        else:
            first = f_si(on_left, y[left], **train).argsort(stable=True)[:batch]
        dropped.append(left[first])
        left = left[~torch.isin(torch.arange(len(left)), first)]
    last = f_si(part(net, left), y[left], **train).argsort(stable=True)
    return torch.cat([*dropped, left[last]])


def _joint(each: Tensor, gap: Tensor, count: int) -> Tensor:
    """Greedy positions: the example whose change, added to the gap of the group, leaves it smallest."""
    each, gap = each.flatten(1), gap.flatten().clone()
    sizes, chosen = each.square().sum(1), []
    for _ in range(count):
        cost = sizes + 2 * (each @ gap)
        cost[chosen] = torch.inf
        chosen.append(int(cost.argmin()))
        gap += each[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.int64)


def kept(order: Tensor, removed: float) -> Tensor:
    """Which rows are left when a share has been removed in this order, ``(n,)`` bool.

    Example:
        >>> kept(torch.tensor([2, 0, 1, 3]), 0.5)
        tensor([False,  True, False,  True])
    """
    if not 0 <= removed < 1:
        raise ValueError(f"removed must be a share, at least 0 and below 1, got {removed}")
    mask = torch.ones(len(order), dtype=torch.bool)
    mask[order[: round(removed * len(order))]] = False
    return mask


def accuracies(model: nn.Module, x: Tensor, y: Tensor, plans: list[dict], *, recipe, run: Run = Run()) -> pd.DataFrame:
    """Train one network a plan, all in one call of the engine, and count what it gets right where it should be judged.

    ``x (N, …)`` and ``y`` are training and test rows together; plans are dicts with ``train`` and ``test``, positions
    among the N, ``seed`` and other entries. A row a plan: its entries, ``kept`` (examples), ``accuracy`` in [0, 1].
    """
    sees, judged = (torch.zeros(len(plans), len(y), dtype=torch.bool) for _ in range(2))
    for row, plan in enumerate(plans):
        sees[row, plan["train"]] = True
        judged[row, plan["test"]] = True
    if (both := (sees & judged).any(1)).any() or not sees.any(1).all():
        row = int((both | ~sees.any(1)).nonzero()[0])
        raise ValueError(f"plan {row} must train on some examples and be tested on others")
    seeds, record = [plan["seed"] for plan in plans], Record(parameters=False)
    trained = ensemble.train(model, (x, y), recipe, seeds, sees=sees, record=record, run=run)
    right = (trained.correct_train[:, 0] & judged).sum(1) / judged.sum(1)
    table = pd.DataFrame([{key: v for key, v in plan.items() if key not in ("train", "test")} for plan in plans])
    return table.assign(kept=sees.sum(1).numpy(), accuracy=right.double().numpy())


def points(table: pd.DataFrame, strategy: str) -> pd.DataFrame:
    """Test accuracy of one strategy in percentage points: a row a share removed, a column a seed."""
    chosen = table[table.strategy == strategy]
    if chosen.empty:
        raise ValueError(f"strategy must be one of {', '.join(sorted(set(table.strategy)))}, got {strategy!r}")
    return 100 * chosen.pivot_table(index="removed", columns="seed", values="accuracy")


def gap(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Points by which one strategy is ahead of another, seed by seed, in a table of :func:`accuracies`.

    ``second="all"`` is with nothing removed: what stands under ``removed`` = 0, whatever the strategy.
    """
    if second == "all":
        return points(table, first) - 100 * table[table.removed == 0].groupby("seed").accuracy.mean()
    return (points(table, first) - points(table, second)).dropna(how="all")


def redrawn_interval(values, *, share: float) -> tuple[float, float]:
    """Student's interval over r seeds that shuffle *the same* rows, wider by ``√(1 + r·share)``.

    So Nadeau and Bengio (Machine Learning 52, 2003) allow for what such draws have in common: ``share`` is the number
    of test rows over that of training rows. 0 is for draws of rows of their own.

    Example:
        >>> [round(end, 2) for end in redrawn_interval([1.0, 2.0, 3.0], share=1.0)]  # (−0.48, 4.48) without
        [-2.97, 6.97]
    """
    middle, (low, high) = float(np.mean(values)), t_interval(values)
    half = (high - low) / 2 * math.sqrt(1 + len(values) * share)
    return middle - half, middle + half


def two_gaussians(
    per_class: int = 40, *, seed: int = 0, centre: tuple[float, ...] = (0.9, -1.25), spread: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The toy's data: points ``(2·per_class, d)`` around ±centre with targets ±1, ``(2·per_class,)``; float64.

    Linear regression without intercept on these by SGD (200 epochs, batches of 5, learning rate 0.1). The paper (figure
    3) gives I ≈ 1.3 and KL ≈ 3.0 for one example of one draw, but not the Gaussians; the defaults bring the weights
    near those of its figure, (0.34, −0.49).
    """
    if per_class < 1 or not spread > 0:
        raise ValueError(f"expected per_class ≥ 1 and spread > 0, got {per_class} and {spread}")
    y = torch.tensor([1.0, -1.0], dtype=F64).repeat_interleave(per_class)
    noise = torch.randn(len(y), len(centre), dtype=F64, generator=torch.Generator().manual_seed(seed))
    return y[:, None] * torch.tensor(centre, dtype=F64) + spread * noise, y


def sgd_final_weights(
    x: Tensor, y: Tensor, *, others: tuple[Tensor, Tensor] | None = None, lr: float = 0.1, epochs: int = 200,
    batch_size: int = 5, runs: int = 1000, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Weights after SGD on ``½(w·x − y)²``, mean over the batch, from w = 0; every run shuffles anew each epoch.

    ``x (n, p)`` and ``y (n,)`` give ``(runs, p)``. With ``others``, g rows ``(g, p)`` and ``(g,)`` that stand in turn
    in the place of the *last* one, ``(g, runs, p)``: run r takes its rows in one order for all g. The last batch may be
    smaller.

    A step is an affine map of w, so an epoch is one too. Without the last row it is ``A = S M P``, with P before and S
    after the batch M that holds the row; the row (x, y) in that batch of b adds ``−η/b · S x (x·P w − y)``. All draws
    of ``others`` share S, M and P, products of n/b small matrices by halves.

    Cost of an epoch: for each run 2·n/b products of (p + 1)² matrices, whatever g; for each draw and run some 3(p + 1)²
    operations, in place of n/b steps. Memory: 2·runs·n·(p + 1) numbers.

    Example:
        >>> sgd_final_weights(torch.ones(2, 1), torch.ones(2), lr=0.5, epochs=1, batch_size=2, runs=1)  # ½ of the way
        tensor([[0.5000]])
    """
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"expected x (n, p) and y (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    (n, p), batches = x.shape, math.ceil(len(x) / batch_size)
    new_x, new_y = (x[-1:], y[-1:]) if others is None else others
    new = torch.cat([new_x, -new_y[:, None]], 1)  # (g, p + 1): an error is new · (w, 1)
    rows = torch.cat([torch.cat([x, -y[:, None]], 1)[:-1], x.new_zeros(1 + batches * batch_size - n, p + 1)])
    rate = x.new_full((batches,), lr / batch_size)
    rate[-1] = lr / (n - (batches - 1) * batch_size)
    generator, eye = torch.Generator(x.device).manual_seed(seed), torch.eye(p + 1).to(x)
    rest = torch.arange(n, len(rows), device=x.device).expand(runs, -1)  # zeros that fill up the last batch
    w = torch.cat([x.new_zeros(len(new), runs, p), x.new_ones(len(new), runs, 1)], 2)
    for _ in range(epochs):
        order = torch.rand(runs, n, generator=generator, device=x.device).argsort(1)
        held = rows[torch.cat([order, rest], 1)].view(runs, batches, batch_size, p + 1)
        steps = eye.repeat(runs, batches, 1, 1)
        steps[:, :, :p] -= rate[:, None, None] * (held[..., :p].mT @ held)
        own = (order == n - 1).nonzero()[:, 1] // batch_size  # (runs,) the batch that holds the last row
        at, place = torch.arange(batches, device=x.device), own[:, None]
        before, after = (_product(torch.where(k[..., None, None], steps, eye)) for k in (at < place, at > place))
        whole = after @ steps[torch.arange(runs), own] @ before
        error = rate[own] * torch.einsum("gk,rkj,grj->gr", new, before, w)
        w = torch.einsum("rkj,grj->grk", whole, w)
        w -= error[..., None] * torch.einsum("rkj,gj->grk", after[:, :, :p], new[:, :p])
    return w[..., :p] if others is not None else w[0, :, :p]


def _product(steps: Tensor) -> Tensor:
    """Composition ``(r, q, q)`` of maps ``(r, m, q, q)``, of which the first comes first, by halves."""
    while (m := steps.shape[1]) > 1:
        pairs = steps[:, 1::2] @ steps[:, : m - m % 2 : 2]
        steps = torch.cat([pairs, steps[:, m - m % 2 :]], 1)
    return steps[:, 0]


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
    """What the final weights know of an example, and its bound, in nats; each cloud of weights is taken for a Gaussian.

        I(w; zᵢ | S₋ᵢ) = KL(p(w | S) ‖ E_z p(w | S₋ᵢ, z))  ≤  KL(p(w | S) ‖ p(w | S₋ᵢ))   on average over zᵢ (eq. 1, 3)

    Weights come from training on S and on S₋ᵢ, ``(r, p)``, and on S₋ᵢ and each of g draws in the example's place, ``(g,
    r, p)``: their Gaussians in equal parts are the marginal, its KL divergence a mean over the samples ``with_it``.
    """
    log_density = lambda cloud: torch.distributions.MultivariateNormal(*gaussian(cloud)).log_prob(with_it)
    marginal = torch.stack([log_density(cloud) for cloud in replaced]).logsumexp(0) - math.log(len(replaced))
    bound = gaussian_kl(gaussian(with_it), gaussian(without_it))
    return (log_density(with_it) - marginal).mean().item(), bound.item()


def information_of(
    x: Tensor, y: Tensor, i: int, others: tuple[Tensor, Tensor], *, runs: int = 1000, seed: int = 0, **sgd
) -> tuple[float, float]:
    """:func:`unique_information` of example i of ``x (n, p)`` and ``y (n,)``, by ``runs`` trainings on g + 2 data sets.

    ``others`` are g draws to stand in its place, ``(g, p)`` and ``(g,)``; more make the marginal smoother.
    """
    if not 0 <= i < len(y):
        raise ValueError(f"i must be one of the {len(y)} examples, got {i}")
    rest = torch.arange(len(y)) != i
    last = (torch.cat([whole[rest], whole[i : i + 1]]) for whole in (x, y))  # example i goes last
    train = lambda x, y, stream, **place: sgd_final_weights(x, y, runs=runs, seed=3 * seed + stream, **place, **sgd)
    return unique_information(train(x, y, 0), train(x[rest], y[rest], 1), train(*last, 2, others=others))


def minimum(jacobian: Tensor, residual: Tensor, *, weight_decay: float = 0.0) -> Tensor:
    """``w* − w₀ (p,)`` of the mean loss ``(1/n) Σᵢ ½(Jᵢω − rᵢ)² + λ/2 ‖ω‖²``; ``r (n,)`` is targets − first outputs."""
    shapes = tuple(jacobian.shape), tuple(residual.shape)
    if jacobian.ndim != 2 or residual.shape != jacobian.shape[:1]:
        raise ValueError(f"expected jacobian (n, p), residual (n,), got {shapes[0]}, {shapes[1]}")
    j, r = jacobian.to(F64), residual.to(F64)
    curvature = j.T @ j / len(j) + weight_decay * torch.eye(j.shape[1], dtype=F64)
    factor, failed = torch.linalg.cholesky_ex(curvature)
    if failed:
        raise ValueError("jacobian must have full column rank, or weight_decay be above 0")
    return torch.cholesky_solve((j.T @ r / len(j))[:, None], factor)[:, 0]


def sgd_wander(
    jacobian: Tensor, residual: Tensor, *, lr: float, batch_size: int, weight_decay: float = 0.0,
    chains: int = 200, burn: int = 1000, steps: int = 1000, every: int = 10, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Where SGD stands around the minimum once it is steady, ``(chains · steps/every, p)``: ω − ω*.

    Batches are drawn with replacement, the chains start at the minimum, ``burn`` steps are thrown away. The noise of
    the gradient changes with ω, as it does in fact; the Lyapunov equation takes it as constant.
    """
    best = minimum(jacobian, residual, weight_decay=weight_decay)
    j, r = jacobian.to(F64), residual.to(F64)
    generator = torch.Generator().manual_seed(seed)
    w, kept = best.expand(chains, -1).clone(), []
    for step in range(burn + steps):
        batch = torch.randint(len(j), (chains, batch_size), generator=generator)
        rows = j[batch]  # (chains, b, p)
        errors = torch.einsum("cbp,cp->cb", rows, w) - r[batch]
        w = w - lr * (torch.einsum("cb,cbp->cp", errors, rows) / batch_size + weight_decay * w)
        if step >= burn and (step - burn) % every == every - 1:
            kept.append(w - best)
    return torch.cat(kept)


def gradient_covariance(jacobian: Tensor, errors: Tensor) -> Tensor:
    """Covariance of one example's gradient, ``Λ = (1/n) Σᵢ gᵢgᵢᵀ − ḡḡᵀ`` with ``gᵢ = Jᵢᵀeᵢ`` (appendix C), ``(p, p)``.

    ``jacobian (n·k, p)`` and ``errors (n, k)``, outputs minus targets, where the noise is wanted (at the minimum).
    Weight decay shifts all gradients alike and does not enter. Its rank is below n.
    """
    shapes = f"{tuple(jacobian.shape)} and {tuple(errors.shape)}"
    if errors.ndim != 2 or jacobian.ndim != 2 or len(jacobian) != errors.numel():
        raise ValueError(f"expected jacobian (n·k, p) and errors (n, k), got {shapes}")
    gradients = torch.einsum("ikp,ik->ip", jacobian.to(F64).view(*errors.shape, -1), errors.to(F64))
    centred = gradients - gradients.mean(0)
    return centred.T @ centred / len(centred)


def sgd_covariance(hessian: Tensor, gradient_covariance: Tensor, *, lr: float, batch_size: int) -> Tensor:
    """Steady-state covariance Σ of SGD around a minimum: ``HΣ + ΣH = (η/b) Λ`` (eq. 14, 19), ``(p, p)`` float64.

    SGD here descends the mean loss with batches of b drawn with replacement. The paper writes H of the sum loss beside
    the same Λ, which makes its Σ smaller by a factor n (with the sum loss, Λ is n² times as large). First order in η:
    the covariance of the discrete iteration is larger by a relative O(η·largest curvature).

    H, positive definite, and Λ are of the mean loss.

    Cost: about 25p³ operations (Bartels and Stewart's algorithm, SciPy).
    """
    _check_positive(lr=lr, batch_size=batch_size)
    shapes = f"{tuple(hessian.shape)} and {tuple(gradient_covariance.shape)}"
    if hessian.ndim != 2 or hessian.shape != gradient_covariance.shape:
        raise ValueError(f"expected hessian and gradient_covariance (p, p), got {shapes}")
    h, noise = (np.asarray(t.detach().to("cpu", F64)) for t in (hessian, gradient_covariance))
    if torch.linalg.cholesky_ex(torch.from_numpy(h))[1]:
        raise ValueError("hessian must be positive definite, or SGD has no steady state")
    covariance = torch.from_numpy(solve_continuous_lyapunov(h, (lr / batch_size) * noise)).to(hessian.device)
    return (covariance + covariance.T) / 2


def exact_sgd_covariance(
    jacobian: Tensor, residual: Tensor, *, lr: float, batch_size: int, weight_decay: float = 0.0
) -> Tensor:
    """Steady-state covariance Σ of SGD itself, whatever its rate: that of :func:`sgd_wander`, ``(p, p)``.

    With λ the decay, Aᵢ = JᵢJᵢᵀ of mean G, H = G + λI and Λ as above it solves one linear system of p² equations,
    ``Σ = (I − ηH) Σ (I − ηH) + (η²/b) (mean AᵢΣAᵢ − GΣG + Λ)``.
    """
    _check_positive(lr=lr, batch_size=batch_size)
    j, best = jacobian.to(F64), minimum(jacobian, residual, weight_decay=weight_decay)
    curvature, eye = j.T @ j / len(j), torch.eye(j.shape[1], dtype=F64)
    squares = torch.einsum("na,nb->nab", j, j).flatten(1)
    descent = (1 - lr * weight_decay) * eye - lr * curvature
    once = squares.T @ squares / len(j) - torch.kron(curvature, curvature)
    step = torch.kron(descent, descent) + lr**2 / batch_size * once
    if not torch.linalg.eigvals(step).abs().max() < 1:
        raise ValueError(f"SGD has no steady state at lr = {lr:g}")
    noise = lr**2 / batch_size * gradient_covariance(j, (j @ best - residual.to(F64))[:, None])
    return torch.linalg.solve(torch.eye(len(step), dtype=F64) - step, noise.flatten()).view(eye.shape)


def langevin_precision(hessian: Tensor, *, lr: float, batch_size: int, noise: float) -> Tensor:
    """``Σ⁻¹ = (2b/ησ²) H`` for Langevin dynamics, Λ = σ²I, so that ``SI = (b/ησ²) ΔwᵀHΔw`` (eq. 15; Cook 1977).

    H is of the mean loss, σ in the unit of a gradient. ``ΔwᵀHΔw = ‖Δf(X)‖²/n + λ‖Δw‖²`` are both in ``LeaveOneOut``.
    """
    _check_positive(lr=lr, batch_size=batch_size, noise=noise)
    return hessian.to(F64) * (2 * batch_size / (lr * noise**2))


def _check_positive(**numbers) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def fgsm(model: nn.Module, x: Tensor, y: Tensor, epsilon: float, *, block: int = 256) -> Tensor:
    """``x + ε sign ∂ℓ/∂x``, cut to [0, 1]: one step uphill of the squared error ``ℓ = ½‖f(x) − y‖²``.

    The fast gradient sign method (Goodfellow et al., ICLR 2015). For one output and targets 0 and 1 the direction is
    that of the cross-entropy too. ``x (n, …)`` is in [0, 1]; a pixel whose derivative is 0 stays.

    Example:
        >>> line = nn.Linear(1, 1)
        >>> _ = line.weight.data.fill_(1.0), line.bias.data.fill_(0.0)
        >>> fgsm(line, torch.tensor([[0.6], [0.4]]), torch.tensor([1, 0]), 0.1)  # down where 1 is right, else up
        tensor([[0.5000],
                [0.5000]])
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon}")
    model, moved = copy.deepcopy(model).eval(), []
    for inputs, labels in zip(x.split(block), y.split(block), strict=True):
        inputs = inputs.clone().requires_grad_()
        outputs = model(inputs)
        loss = (outputs - regression_targets(labels, outputs.shape[1]).to(outputs)).square().sum() / 2
        (slope,) = torch.autograd.grad(loss, inputs)
        moved.append((inputs.detach() + epsilon * slope.sign()).clamp(0, 1))
    return torch.cat(moved)


def predicted(model: nn.Module, x: Tensor, *, block: int = 512) -> Tensor:
    """Labels that a network gives, ``(n,)``: the largest output, or for one output whether it is above ½."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in x.split(block)])
    return (outputs[:, 0] > 0.5).long() if outputs.shape[1] == 1 else outputs.argmax(1)


def successes(model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The perturbed examples ``(n, …)``, and which of them are right before and wrong after, ``(n,)`` bool."""
    moved = fgsm(model, x, y, epsilon)
    return moved, (predicted(model, x) == y) & (predicted(model, moved) != y)


def drawn(y: Tensor, counts: Mapping[int, int], *, seed: int) -> Tensor:
    """Positions of so many random examples of each class, ascending; ``counts`` says how many, none where not named.

    Example:
        >>> y = torch.tensor([0, 0, 0, 1, 1, 2])
        >>> y[drawn(y, {0: 1, 1: 2}, seed=0)]
        tensor([0, 1, 1])
    """
    rng, chosen = np.random.default_rng(seed), []
    for c, count in counts.items():
        rows = np.flatnonzero((y == c).numpy())
        if not 0 <= count <= len(rows):
            raise ValueError(f"counts: expected 0 to {len(rows)} examples of class {c}, got {count}")
        chosen.append(rng.permutation(rows)[:count])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def one_form(x: Tensor, *, box: int, side: int = 28) -> Tensor:
    """Images of any size and one or three channels as grey ones of ``side`` × ``side``, for two sources to share.

    Channels are averaged, the picture is brought to ``box`` × ``box`` (bilinear, antialiased) and stands in the middle
    of zeros. MNIST's digits fill 20 × 20 of 28 × 28, so 8 × 8 digits with ``box=20`` look like theirs, more coarsely.

    Example:
        >>> one_form(torch.ones(1, 3, 8, 8), box=20).shape
        torch.Size([1, 1, 28, 28])
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x must be (n, 1, h, w) or (n, 3, h, w), got {tuple(x.shape)}")
    if not 1 <= box <= side:
        raise ValueError(f"box must be between 1 and side = {side}, got {box}")
    grey = x.mean(1, keepdim=True)
    if grey.shape[-2:] != (box, box):
        grey = interpolate(grey, size=(box, box), mode="bilinear", antialias=True).clamp(0, 1)
    before, after = (side - box) // 2, side - box - (side - box) // 2
    return pad(grey, (before, after, before, after))
