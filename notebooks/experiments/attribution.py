"""16: do attributions foretell training on random halves? The linear datamodeling score, beside leaving one out.

Park et al. (2023, arXiv 2303.14186) draw subsets S of the training set, train on each, and take for a test example t,
over the subsets, the Spearman correlation of

    Σ_{i∈S} τᵢ(t)      with      m_S(t),  the mean over retrainings of log p/(1 − p),  p of t's class.

A network here is a chain of linear layers, trained by ``experiments.iris.descend``; on a half S it minimizes
``(1/|S|) Σ_S ℓ + ½λ‖w‖²``. **A positive attribution = the example helps**: with it the loss of t is lower.
"""

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from experiments.fragility import placed, wide_start
from experiments.iris import descend
from experiments.response import leave_out, proximal_bregman
from lib.numerics.gradients import gradient_rows
from lib.numerics.objective import objective
from lib.scores.influence import inverse_hessian
from lib.scores.tracin import tracin
from lib.scores.unique_information import changes, tangent
from lib.statistics import crossed_interval, spearman_r
from lib.store import Store
from lib.training.retraining import Retrained, loss_changes, losses_on

RATE, MOMENTUM = 1.0, 0.97
CHECKPOINTS = 5  # of TracIn
MORE = 8  # retraining from the optimum takes an eighth of the steps
CONVERGED = 1e-6  # norm of the gradient at which L-BFGS stops


@dataclass(frozen=True)
class Task:
    """A network on n training and m test examples, float64, and how it is trained; ``seeds`` draw initial weights."""

    model: nn.Module
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    decay: float  # λ of ½λ‖w‖²
    damping: float
    steps: int
    store: Store | None = None

    def start(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        return wide_start(self.model, seeds, "tanh")

    def net(self, weights: dict[str, Tensor]) -> nn.Module:
        return placed(copy.deepcopy(self.model), weights)

    def train(self, weights: dict, steps: Sequence[int], removed: Tensor | None = None, decay: float | None = None):
        how = {"weight_decay": self.decay if decay is None else decay, "lr": RATE, "momentum": MOMENTUM}
        return descend(self.model, self.x, self.y, weights, steps=steps, removed=removed, **how)

    def cached(self, function: str, compute, **settings) -> dict[str, np.ndarray]:
        digest = hashlib.sha256(
            torch.cat([v.flatten().double() for v in (self.x, self.y, self.x_test)]).numpy().tobytes()
        )
        shapes = [list(p.shape) for p in self.model.parameters()]
        key = {"function": f"experiments.attribution.{function}", "version": 1, "data": digest.hexdigest()}
        key |= {"shapes": shapes, "decay": self.decay, "damping": self.damping, "steps": self.steps} | settings
        return compute() if self.store is None else self.store.cached(key, compute)


def halves(n: int, count: int, seed: int = 0) -> Tensor:
    """What ``count`` random halves leave out, bool ``(count, n)``."""
    order = torch.rand(count, n, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order >= (n + 1) // 2


def outcomes(task: Task, count: int, seed: int, start: int) -> Tensor:
    """m_S(t) of one network trained on each of the halves of ``seed``, all from the weights ``start``, ``(g, m)``."""

    def compute():
        removed = halves(len(task.x), count, seed)
        kept = 1 - float(removed[0].double().mean())  # descend divides by n: so all of the objective is scaled by kept
        first = {name: value.expand(count, *value.shape[1:]) for name, value in task.start([start]).items()}
        (weights,) = task.train(first, [task.steps], removed, decay=task.decay * kept)
        return {"margin": margin(losses_on(task.model, weights, task.x_test, task.y_test)).numpy()}

    return torch.as_tensor(task.cached("outcomes", compute, count=count, seed=seed, start=start)["margin"])


def margin(losses: Tensor) -> Tensor:
    """log p/(1 − p) where the loss is −log p."""
    return -losses.expm1().log()


def left_out(task: Task, seed: int, removed: Tensor) -> dict[str, np.ndarray]:
    """Changes ``(g, m)`` of the test losses without each of ``removed (g, n)``, by the kind of truth."""

    def compute():
        first = task.start([seed])
        (weights,) = task.train(first, [task.steps])
        net, repeat = task.net(weights), lambda w, g: {k: v.expand(g, *v.shape[1:]) for k, v in w.items()}
        gone = torch.cat([torch.zeros_like(removed[:1]), removed])
        (short,) = task.train(repeat(weights, len(gone)), [max(1, task.steps // MORE)], gone)
        (anew,) = task.train(repeat(first, len(removed)), [task.steps], removed)
        options = {"weight_decay": task.decay, "damping": task.damping, "tolerance": CONVERGED}
        respond = lambda how: how(net, task.x, task.y, removed, **options).parameters
        ends = {"from the optimum": ({k: v[1:] for k, v in short.items()}, {k: v[:1] for k, v in short.items()})}
        ends |= {"from scratch": (anew, weights)}
        ends |= {
            "to convergence": (respond(leave_out), weights),
            "proximal response": (respond(proximal_bregman), weights),
        }
        change = lambda after, before: loss_changes(
            task.model, Retrained({k: v[None] for k, v in after.items()}, before), task.x_test, task.y_test
        )[0]
        return {name: change(*pair).numpy() for name, pair in ends.items()}

    digest = hashlib.sha256(removed.numpy().tobytes()).hexdigest()
    return task.cached("left_out", compute, seed=seed, removed=digest)


def attributions(task: Task, seed: int, slow: bool = False) -> dict[str, np.ndarray]:
    """τ ``(m, n)`` by method, of the network of one seed; ``slow``: by the Hessian and the linearized network as well.

    ``reach (m, n)`` and ``weight (n,)`` are TRAK's parts, which several networks average apart (:func:`trak`);
    ``gradient``: what is left of it, in units of one example's share; ``lowest``: eigenvalue of the Hessian, damped.
    """

    def compute():
        every = [task.steps * (i + 1) // CHECKPOINTS for i in range(CHECKPOINTS)]
        data, first = (task.x, task.y, task.x_test, task.y_test), task.start([seed])
        path = dict(zip(every, task.train(first, every), strict=True))
        net = task.net(path[task.steps])
        how = {"weight_decay": task.decay, "damping": task.damping}
        inverse = inverse_hessian(net, *data[:2], solver="gauss_newton", **how)
        found = {"Gauss–Newton": inverse.on_loss(*data[2:]).on_loss}
        found["TracIn"] = tracin(task.model, path, dict.fromkeys(every, 1.0), *data, layers="all")[0].T
        (found["reach"],), found["weight"] = _reach(task, net, [task.decay])
        found["gradient"] = torch.tensor(inverse.gradient_norm / inverse.one_example)
        if slow:
            exact = inverse_hessian(net, *data[:2], **how)
            found |= {"Hessian": exact.on_loss(*data[2:]).on_loss, "lowest": exact.eigenvalues[0] + task.damping}
            still = tangent(task.net(first), task.x, task.x_test)
            moved = changes(still, task.y, lr=0.1, steps=math.inf, weight_decay=task.decay)  # (n, m, k)
            own = moved.gather(2, task.y_test[None, :, None].expand(len(moved), -1, 1))[..., 0]
            found["linearized"] = (own - moved.mean(2)).T
        return {name: value.detach().numpy() for name, value in found.items()}

    return task.cached("attributions", compute, seed=seed, slow=slow)


def reaches(task: Task, seed: int, ridges: Sequence[float]) -> np.ndarray:
    """``reach`` of :func:`attributions` by other ridges than the decay, ``(ridges, m, n)``."""

    def compute():
        (weights,) = task.train(task.start([seed]), [task.steps])
        return {"reach": torch.stack(_reach(task, task.net(weights), ridges)[0]).numpy()}

    return task.cached("reaches", compute, seed=seed, ridges=list(ridges))["reach"]


def _reach(task: Task, net: nn.Module, ridges: Sequence[float]) -> tuple[list[Tensor], Tensor]:
    """``φ(t)ᵀ(ΦᵀΦ + n·ridge·I)⁻¹Φᵀ`` for each ridge, and 1 − p of the training examples; φ: gradients of margins."""
    o, parts = objective(net, task.x, task.y, weight_decay=task.decay), []
    for pair in ((task.x, task.y), (task.x_test, task.y_test)):
        missing = -torch.expm1(-losses_on(net, dict(net.state_dict()), *pair))
        parts.append((torch.cat(list(gradient_rows(o, *o.place(*pair)))) / missing[:, None], missing))  # ∇ℓ = −(1 − p)φ
    (phi, missing), (phi_test, _) = parts
    kernel, eye = phi @ phi.T, torch.eye(len(phi)).double()
    return [torch.linalg.solve(kernel + len(phi) * ridge * eye, phi @ phi_test.T).T for ridge in ridges], missing


def trak(members: Sequence[dict]) -> np.ndarray:
    """TRAK (eq. 17) without projection, of several networks: mean reach × mean weight, ``(m, n)``."""
    return np.mean([one["reach"] for one in members], 0) * np.mean([one["weight"] for one in members], 0)


def ceiling(margins: np.ndarray) -> np.ndarray:
    """What the expected outcome itself would score on the mean of R retrainings ``(R, g, m)``: ``(m,)``.

    √ of its reliability, by Spearman and Brown from the correlation of one half of the retrainings with the other.
    """
    half = len(margins) // 2
    a, b = (part.mean(0).T for part in (margins[:half], margins[half : 2 * half]))
    r = np.clip(spearman_r(a, b), 0, 1)
    return np.sqrt(2 * r / (1 + r))


def agreement(predicted: np.ndarray, truth: np.ndarray, *, seed: int = 0) -> tuple:
    """Mean Spearman correlation of ``(r, m, g)`` with ``(r, m, g)`` or ``(m, g)`` along g, its interval over networks
    and test examples crossed, and :func:`null_band`."""
    truth = np.broadcast_to(truth, predicted.shape)
    rho = spearman_r(predicted, truth)
    return float(rho.mean()), crossed_interval(rho), null_band(predicted, truth, seed=seed)


def null_band(predicted: np.ndarray, truth: np.ndarray, *, seed: int = 0, draws: int = 1000) -> tuple[float, float]:
    """95% of the mean Spearman correlation along the last axis when the predicted are paired with others' truths, all
    rows ``(…, g)`` in the same way: so they stay as dependent as they are."""
    ranks = [
        np.argsort(np.argsort(v.reshape(-1, v.shape[-1]))).astype(float) for v in np.broadcast_arrays(predicted, truth)
    ]
    scaled = [(r - r.mean(1, keepdims=True)) / (r.std(1, keepdims=True) * np.sqrt(r.shape[1])) for r in ranks]
    pairs, rng = scaled[0].T @ scaled[1] / len(scaled[0]), np.random.default_rng(seed)  # (g, g)
    means = [pairs[rng.permutation(len(pairs)), np.arange(len(pairs))].sum() for _ in range(draws)]
    return tuple(float(q) for q in np.quantile(means, [0.025, 0.975]))
