"""Notebook 06: many tiny networks on the whole of Iris, trained as long as the paper trains them, and compared.

Gradient descent with momentum μ on ``(1/n) Σ_{seen} ℓ + ½λ‖w‖²``, full batch, float64: each layer of E networks is one
batched product, ``v ← μv + ∇L``, ``w ← w − ηv``. With η = .02 and μ = .98 a step goes as far, η/(1 − μ), as ten of plain
descent at rate .1: the paper's 60,000 and 7,500 steps are 6,000 and 750. (It says no rate; what counts is rate × steps,
which notebook 06 varies.) Leaving an example out leaves n as it is. **Positive change of a test loss = helpful.**
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from experiments.fragility import by_response, placed, wide_start
from experiments.response import leave_out, optimum, proximal_bregman
from lib.networks.models import mlp
from lib.networks.stacked import chain, chain_backward, chain_forward, targets
from lib.scores.influence import inverse_hessian
from lib.statistics import pearson_r, spearman_r
from lib.training.retraining import Retrained, loss_changes, losses_on, parameter_changes, removals

LR, MOMENTUM = 0.02, 0.98
PLAIN = 10  # steps of plain gradient descent at rate .1 in one of ours
AT_ONCE = 64  # networks side by side: what they hold stays in the cache
WINDOW = 200  # last steps over which the gradient is averaged
DAMPING = 0.001  # where there is no decay
CONVERGED = 1e-7  # norm of the gradient at which L-BFGS stops


@torch.no_grad()
def descend(
    model: nn.Module, x: Tensor, y: Tensor, weights: Mapping[str, Tensor], *, steps: int | Sequence[int],
    weight_decay: float, removed: Tensor | None = None, lr: float = LR, momentum: float = MOMENTUM,
) -> list[dict[str, Tensor]]:  # fmt: skip
    """Train E networks from ``weights`` and return them as they are after each of ``steps`` (ascending).

    Args:
        model: a chain of linear layers with biases. x, y: all n training examples, their integer labels.
        weights: name → ``(E, …)``. removed: ``(E, n)`` bool, True where a network does not see an example.
        weight_decay: λ of ½λ‖w‖², biases included; the paper's λ‖w‖² is twice that.

    Returns:
        name → ``(E, …)``, float64, for each of ``steps``.

    Raises: ValueError if ``model`` is no chain of linear layers.

    Cost: about 10 µs a step and network of 43 weights, 30 to 50 µs of 253, on one core.
    """
    if (layers := chain(model)) is None:
        raise ValueError(f"model must be a chain of linear layers, got {type(model).__name__}")
    members, at = len(next(iter(weights.values()))), [steps] if isinstance(steps, int) else list(steps)
    seen = torch.ones(members, len(x)) if removed is None else ~removed
    how = {"at": at, "weight_decay": weight_decay, "lr": lr, "momentum": momentum}
    parts = [
        _descend(layers, x, y, {name: v[rows] for name, v in weights.items()}, seen[rows], **how)
        for rows in torch.arange(members).split(AT_ONCE)
    ]
    return [{name: torch.cat([part[i][name] for part in parts]) for name in weights} for i in range(len(at))]


def _descend(layers, x, y, weights, seen, *, at, weight_decay, lr, momentum) -> list[dict[str, Tensor]]:
    w = {name: (v[..., None] if v.ndim == 2 else v).double().clone() for name, v in weights.items()}  # bias (E, out, 1)
    v = {name: torch.zeros_like(value) for name, value in w.items()}
    inputs = x.double().T.expand(len(seen), -1, -1).contiguous()  # (E, width, n), the examples innermost
    target = targets(y, w[layers[-1].weight].shape[1], torch.float64).T
    share, ones = seen[:, None].double() / len(x), torch.ones(len(seen), len(x), 1, dtype=torch.float64)
    affine = lambda layer, h: torch.baddbmm(w[layer.bias], w[layer.weight], h)
    transposed = lambda layer, delta: torch.bmm(w[layer.weight].mT, delta)
    kept = []
    for step in range(1, at[-1] + 1):
        h = chain_forward(layers, inputs, affine)
        power = h[-1].sub_(h[-1].amax(1, keepdim=True)).exp_()
        error = power.div_(power.sum(1, keepdim=True)).sub_(target).mul_(share)
        for layer, below, delta in chain_backward(layers, h, error, transposed):
            v[layer.weight].baddbmm_(delta, below.mT, beta=momentum)
            v[layer.bias].baddbmm_(delta, ones, beta=momentum)
        for name, value in w.items():
            v[name].add_(value, alpha=weight_decay)
            value.sub_(v[name], alpha=lr)
        if step in at:
            kept.append({name: w[name].reshape(like.shape).clone() for name, like in weights.items()})
    return kept


@dataclass(frozen=True)
class Flowers:
    """n to train on, m to test on."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True)
class Case:
    """r networks of one kind, k flowers removed from each, m test flowers: what was foretold and what happened.

    ``changes``: name → ``(r, k, m)`` of test losses; ``norms``: name → ``(r, k)``, ‖Δw‖. The k flowers are those of
    largest |influence| on the test flower of highest loss, ``hardest (r,)``, in descending order. ``facts`` has a row a
    network: loss, whether it learned anything, gradient and its mean over the last steps in units of one flower's
    share, lowest and highest eigenvalue of the Hessian.
    """

    facts: pd.DataFrame
    changes: dict[str, np.ndarray]
    norms: dict[str, np.ndarray]
    hardest: np.ndarray

    def agreement(self, predicted="Hessian", truth="retrained", *, measure=spearman_r, top=None) -> np.ndarray:
        """Correlation of two of ``changes`` at the hardest test flower, ``(r,)``; NaN for what learned nothing."""
        rows = np.arange(len(self.hardest))
        at = lambda name: self.changes[name][rows, :top, self.hardest]
        return self._learned(map(measure, at(predicted), at(truth)))

    def everywhere(self, predicted="Hessian", truth="retrained") -> np.ndarray:
        """Mean over all test flowers of the Spearman correlation over the same removals, ``(r,)``."""
        pairs = zip(self.changes[predicted], self.changes[truth], strict=True)
        return self._learned(np.mean([spearman_r(a, b) for a, b in zip(p.T, t.T, strict=True)]) for p, t in pairs)

    def lengths(self, truth="retrained", *, top=None) -> np.ndarray:
        """Spearman of predicted with true ‖Δw‖, ``(r,)``."""
        return self._learned(map(spearman_r, self.norms["Hessian"][:, :top], self.norms[truth][:, :top]))

    def _learned(self, values) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.where(self.facts.learned, np.fromiter(values, float), np.nan)


def pearsons(case: Case, predicted="Hessian", truth="retrained") -> np.ndarray:
    """Pearson in place of Spearman of :meth:`Case.agreement`."""
    return case.agreement(predicted, truth, measure=lambda a, b: pearson_r(a, b))


def case(
    data: Flowers, hidden: tuple[int, ...], activation: str, lam: float, seeds: Sequence[int], *, steps: int = 6000,
    again: int = 750, top: int = 20, rest: bool = False, truths: Sequence[str] = ("retrained",),
    solvers: Mapping[str, Mapping] | None = None,
) -> Case:  # fmt: skip
    """Train r networks, remove k flowers from each one at a time, and compare.

    Args:
        lam: λ of ½λ‖w‖². steps, again: of :func:`descend`, for the training and for the retraining.
        rest: go on by L-BFGS to the optimum (smooth networks with decay).
        truths: ``retrained`` from the optimum; ``from scratch``: as at first; ``to convergence`` and ``proximal``: L-BFGS
            (``experiments.response``), where there is decay.
        solvers: further inverses, name → options of ``inverse_hessian``, beside the whole Hessian.
    """
    model, n = mlp(len(data.x[0]), hidden, int(data.y.max()) + 1, activation).double(), len(data.y)
    first = wide_start(model, seeds, activation)
    before, weights = descend(model, data.x, data.y, first, steps=[max(1, steps - WINDOW), steps], weight_decay=lam)
    drift = _distance(before, weights) / min(WINDOW, steps - 1)
    if rest:
        found = optimum(model, data.x, data.y, weights=weights, weight_decay=lam, tolerance=CONVERGED, steps=100)
        weights, drift = {name: v[:, 0] for name, v in found.parameters.items()}, found.gradient_norm[:, 0]
    damping = {} if lam else {"damping": DAMPING}
    tests, losses = (data.x_test, data.y_test), losses_on(model, weights, data.x_test, data.y_test)
    scores, norms, facts, chosen = {}, [], [], []
    with warnings.catch_warnings(action="ignore"):  # no optimum, indefinite: both are among the facts
        for r in range(len(seeds)):
            net, told = placed(model, weights, r), {"weight_decay": lam, **damping}
            inverse = inverse_hessian(net, data.x, data.y, **told)
            score = inverse.on_loss(*tests).on_loss  # (m, n)
            rows = score[losses[r].argmax()].abs().argsort(descending=True)[:top]
            for name, how in {"Hessian": None, **(solvers or {})}.items():
                other = inverse if how is None else inverse_hessian(net, data.x, data.y, **told, **how)
                scores.setdefault(name, []).append(other.on_loss(*tests, examples=rows).on_loss.T)
            norms.append(inverse.on_parameters(examples=rows, norms=True))
            chosen.append(removals(rows, n))
            loss, share = (
                float(losses_on(net, {k: v[r] for k, v in weights.items()}, data.x, data.y).mean()),
                inverse.one_example,
            )
            facts.append({
                "loss": loss, "learned": loss < 0.9 * np.log(3), "gradient": inverse.gradient_norm / share,
                "mean gradient": float(drift[r]) / share, "lowest": float(inverse.eigenvalues[0]),
                "highest": float(inverse.eigenvalues[-1]),
            })  # fmt: skip
    removed = torch.stack(chosen)  # (r, k, n)
    changes = {name: torch.stack(each).numpy() for name, each in scores.items()}
    lengths = {"Hessian": torch.stack(norms).numpy()}
    for name, retrained in _retrained(
        model, data, lam, weights, first, removed, truths, steps=steps, again=again
    ).items():
        changes[name] = loss_changes(model, retrained, *tests).numpy()
        lengths[name] = parameter_changes(model, retrained).numpy()
    return Case(pd.DataFrame(facts), changes, lengths, losses.argmax(1).numpy())


def _retrained(model, data, lam, weights, first, removed, truths, *, steps, again) -> dict[str, Retrained]:
    r, k, n = removed.shape
    everyone = torch.cat([torch.zeros(r, 1, n, dtype=torch.bool), removed], 1).flatten(0, 1)  # the control first

    def anew(start, count) -> Retrained:
        each = {name: v.repeat_interleave(k + 1, 0) for name, v in start.items()}
        (end,) = descend(model, data.x, data.y, each, steps=count, weight_decay=lam, removed=everyone)
        end = {name: v.unflatten(0, (r, k + 1)) for name, v in end.items()}
        return Retrained({name: v[:, 1:] for name, v in end.items()}, {name: v[:, 0] for name, v in end.items()})

    def respond(how: Callable) -> Retrained:
        options = {"weight_decay": lam, "tolerance": CONVERGED}
        return by_response(model, weights, lambda net, gone, w: how(net, data.x, data.y, gone, weights=w, **options))(
            removed
        )

    ways = {
        "retrained": lambda: anew(weights, again), "from scratch": lambda: anew(first, steps),
        "to convergence": lambda: respond(leave_out), "proximal": lambda: respond(proximal_bregman),
    }  # fmt: skip
    return {name: ways[name]() for name in truths}


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return sum((a[name] - b[name]).flatten(1).square().sum(1) for name in a).sqrt()
