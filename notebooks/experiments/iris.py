"""06 and 16: many tiny networks on the whole of Iris, trained as long as the paper trains them, and compared.

Gradient descent with momentum μ on ``(1/n) Σ_{seen} ℓ + ½λ‖w‖²``, full batch, float64: each layer of E networks is one
batched product, ``v ← μv + ∇L``, ``w ← w − ηv``. With η = .02 and μ = .98 a step goes as far, η/(1 − μ), as ten plain
ones at rate .1: the paper's 60,000 and 7,500 steps are 6,000 and 750. Leaving an example out leaves n as it is.
**A positive change of a test loss = helpful.**
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from experiments.fragility import placed, wide_start
from experiments.response import leave_out, optimum, proximal_bregman
from lib.data.datasets import load
from lib.networks.models import mlp
from lib.networks.stacked import chain, chain_backward, chain_forward, targets
from lib.scores.influence import inverse_hessian
from lib.statistics import spearman_r
from lib.store import Store
from lib.training.retraining import Retrained, loss_changes, losses_on, removals

LR, MOMENTUM = 0.02, 0.98
AT_ONCE = 640  # units of a layer, of networks side by side: what they hold stays in the cache
WINDOW = 200  # last steps over which the gradient is averaged
DAMPING = 0.001  # where there is no decay
CONVERGED = 1e-7  # norm of the gradient at which L-BFGS stops
TERMS = 200  # of LiSSA
SOLVERS = {"exact": "Hessian", "gauss_newton": "Gauss–Newton", "lissa": "LiSSA"}


def flowers(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Iris, standardized by its training rows, float64: x ``(120, 4)``, y, x_test ``(30, 4)``, y_test."""
    data = load("iris", seed=seed)
    centre, spread = data.x_train.mean(0), data.x_train.std(0)
    x, x_test = (((part - centre) / spread).double() for part in (data.x_train, data.x_test))
    return x, data.y_train, x_test, data.y_test


@torch.no_grad()
def descend(
    model: nn.Module, x: Tensor, y: Tensor, weights: Mapping[str, Tensor], *, steps: Sequence[int],
    weight_decay: float, removed: Tensor | None = None, lr: float = LR, momentum: float = MOMENTUM,
) -> list[dict[str, Tensor]]:  # fmt: skip
    """E networks trained from ``weights``, as they are after each of ``steps`` (ascending): name → ``(E, …)``, float64.

    Args:
        model: a chain of linear layers with biases; ValueError for another. x, y: all n examples, integer labels.
        weights: name → ``(E, …)``. removed: ``(E, n)`` bool, True where a network does not see an example.
        weight_decay: λ of ½λ‖w‖², biases included; the paper's λ‖w‖² is twice that.
    """
    if (layers := chain(model)) is None:
        raise ValueError(f"model must be a chain of linear layers, got {type(model).__name__}")
    members = len(next(iter(weights.values())))
    seen, parts = torch.ones(members, len(x)) if removed is None else ~removed, []
    widest = max(weights[layer.weight].shape[1] for layer in layers)
    for rows in torch.arange(members).split(max(1, AT_ONCE // widest)):
        w = {name: (v[rows, ..., None] if v.ndim == 2 else v[rows]).double() for name, v in weights.items()}
        share = seen[rows, None].double() / len(x)
        parts.append(_descend(layers, x, y, w, share, steps, weight_decay, lr=lr, momentum=momentum))
    shaped = lambda name, i: torch.cat([part[i][name] for part in parts]).reshape(weights[name].shape)
    return [{name: shaped(name, i) for name in weights} for i in range(len(steps))]


def _descend(layers, x, y, w, share, steps, weight_decay, *, lr, momentum) -> list[dict[str, Tensor]]:
    w, v = {name: value.clone() for name, value in w.items()}, {name: torch.zeros_like(u) for name, u in w.items()}
    inputs = x.double().T.expand(len(share), -1, -1).contiguous()  # (E, width, n), the examples innermost
    target = targets(y, w[layers[-1].weight].shape[1], torch.float64).T
    kept = []
    affine = lambda layer, h: torch.baddbmm(w[layer.bias], w[layer.weight], h)
    transposed = lambda layer, delta: torch.bmm(w[layer.weight].mT, delta)
    for step in range(1, steps[-1] + 1):
        h = chain_forward(layers, inputs, affine)
        power = h[-1].sub_(h[-1].amax(1, keepdim=True)).exp_()
        error = power.div_(power.sum(1, keepdim=True)).sub_(target).mul_(share)
        for layer, below, delta in chain_backward(layers, h, error, transposed):
            v[layer.weight].baddbmm_(delta, below.mT, beta=momentum)
            v[layer.bias].mul_(momentum).add_(delta.sum(2, keepdim=True))  # takes less time than a product with 1s
        for name, value in w.items():
            v[name].add_(value, alpha=weight_decay)
            value.sub_(v[name], alpha=lr)
        if step in steps:
            kept.append({name: value.clone() for name, value in w.items()})
    return kept


@dataclass(frozen=True)
class Case:
    """r networks of one kind, k flowers removed from each, m test flowers: what was foretold and what happened.

    ``changes``: name → ``(r, k, m)`` of test losses, predicted (``Hessian``, …) or true (``retrained``, …); ``norms``:
    name → ``(r, k)``, ‖Δw‖; with both retrainings also the distance ``between`` them, and ``weights``, ‖w‖. The flowers
    are in descending order of |influence| on the test flower of highest loss, ``hardest (r,)``.
    ``facts``: name → ``(r,)``: loss; gradient, and its mean over the last steps, in units of one
    flower's share; lowest and highest eigenvalue of the Hessian. A network that learned nothing has NaN for agreement.
    """

    changes: dict[str, np.ndarray]
    norms: dict[str, np.ndarray]
    facts: dict[str, np.ndarray]
    hardest: np.ndarray

    @property
    def learned(self) -> np.ndarray:
        """Whose loss is below that of chance, ``(r,)``: with ReLU some networks of eight layers are dead."""
        return self.facts["loss"] < 0.9 * math.log(3)

    def agreement(self, predicted="Hessian", truth="retrained", *, measure=spearman_r, top=20) -> np.ndarray:
        """Correlation of two of ``changes`` at the hardest test flower, ``(r,)``."""
        at = lambda name: self.changes[name][np.arange(len(self.hardest)), :top, self.hardest]
        return self._each(measure, at(predicted), at(truth))

    def everywhere(self, predicted="Hessian", truth="retrained") -> np.ndarray:
        """Mean over all test flowers of the Spearman correlation over the same removals, ``(r,)``."""
        each = lambda a, b: [spearman_r(u, v) for u, v in zip(a.T, b.T, strict=True) if np.ptp(v)]
        return self._each(lambda a, b: np.mean(each(a, b) or np.nan), self.changes[predicted], self.changes[truth])

    def lengths(self, truth="retrained", *, top=20) -> np.ndarray:
        """Spearman of predicted with true ‖Δw‖, ``(r,)``."""
        return self._each(spearman_r, self.norms["Hessian"][:, :top], self.norms[truth][:, :top])

    def _each(self, measure, a, b) -> np.ndarray:
        alive = zip(a, b, self.learned, strict=True)
        with np.errstate(invalid="ignore"):  # of changes that are all the same
            return np.array([measure(u, v) if learned else np.nan for u, v, learned in alive], float)


def case(
    data: Sequence[Tensor], hidden: tuple[int, ...], activation: str, lam: float, seeds: Sequence[int], *,
    steps: int = 6000, again: int = 750, top: int = 20, rest: bool = False, truths: Sequence[str] = ("retrained",),
    solvers: Sequence[str] = (), store: Store | None = None,
) -> Case:  # fmt: skip
    """Train r networks, remove k flowers from each, one at a time, and compare.

    Args:
        data: x, y, x_test, y_test. lam: λ of ½λ‖w‖²; without, the damping is .001. steps, again: of the two trainings.
        rest: go on by L-BFGS to the optimum (smooth networks with decay), in training and retraining.
        truths: ``retrained`` from the optimum, ``from scratch``; with decay ``to convergence``, ``proximal`` (L-BFGS).
        solvers: beside the whole Hessian's, ``gauss_newton`` and ``lissa``.
    """
    sizes = {"steps": steps, "again": again, "top": top, "rest": rest, "truths": list(truths), "solvers": list(solvers)}
    key = {"function": "experiments.iris.case", "version": 3, "hidden": list(hidden)} | sizes
    key |= {"activation": activation, "lam": float(lam), "seeds": list(seeds), "n": len(data[0])}
    key["data"] = float(data[0].sum() + data[2].std())
    cached = (lambda key, compute: compute()) if store is None else store.cached
    arrays = cached(key, lambda: _case(data, hidden, activation, lam, seeds, **sizes))
    part = lambda start: {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}
    return Case(part("change "), part("norm "), part("fact "), arrays["hardest"])


def parameter_changes(model: nn.Module, retrained: Retrained) -> Tensor:
    """``‖Δw‖`` of each removal against the control, ``(r, g)``, over trained parameters (no running statistics)."""
    change = lambda name: retrained.parameters[name].double() - retrained.control[name][:, None].double()
    return sum(change(name).flatten(2).square().sum(2) for name, _ in model.named_parameters()).sqrt()


def _case(data, hidden, activation, lam, seeds, *, steps, again, top, rest, truths, solvers) -> dict[str, np.ndarray]:
    x, y, *tests = data
    model = mlp(len(x[0]), hidden, int(y.max()) + 1, activation).double()
    window, first = min(WINDOW, steps - 1), wide_start(model, seeds, activation)
    before, weights = descend(model, x, y, first, steps=[steps - window, steps], weight_decay=lam)
    drift = sum((weights[name] - before[name]).flatten(1).square().sum(1) for name in weights).sqrt() / window
    lbfgs = {"weight_decay": lam, "tolerance": CONVERGED}
    only = lambda stacked: {name: value[:, 0] for name, value in stacked.items()}
    settle = lambda w, gone: only(optimum(model, x, y, weights=w, removed=gone[:, None], **lbfgs).parameters)
    weights = settle(weights, torch.zeros(len(seeds), len(y), dtype=torch.bool)) if rest else weights
    losses, found, rows = losses_on(model, weights, *tests), defaultdict(list), []
    for r in range(len(seeds)):
        net, how = placed(model, weights, r), {"weight_decay": lam, "damping": 0.0 if lam else DAMPING}
        with warnings.catch_warnings(action="ignore"):  # no optimum, or indefinite: these are among the facts
            terms = {"lissa": {"depth": TERMS}}
            inverses = {s: inverse_hessian(net, x, y, solver=s, **how, **terms.get(s, {})) for s in ("exact", *solvers)}
            exact, score = inverses["exact"], inverses["exact"].on_loss(*tests).on_loss
            rows.append(score[losses[r].argmax()].abs().argsort(descending=True)[:top])
            for name, one in inverses.items():
                told = score[:, rows[-1]] if one is exact else one.on_loss(*tests, examples=rows[-1]).on_loss
                found[f"change {SOLVERS[name]}"].append(told.T)
        found["norm Hessian"].append(exact.on_parameters(examples=rows[-1], norms=True))
        facts = {"gradient": exact.gradient_norm / exact.one_example, "mean gradient": drift[r] / exact.one_example}
        facts |= {"lowest": exact.eigenvalues[0], "highest": exact.eigenvalues[-1]}
        facts["loss"] = losses_on(net, dict(net.state_dict()), x, y).mean()
        for name, value in facts.items():
            found[f"fact {name}"].append(torch.as_tensor(value))
    removed = torch.stack([removals(chosen, len(y)) for chosen in rows])  # (r, k, n)

    def anew(start, count) -> Retrained:
        """Trained again, with everybody (the control) and without each."""
        gone = torch.cat([torch.zeros_like(removed[:, :1]), removed], 1).flatten(0, 1)
        each = {name: value.repeat_interleave(top + 1, 0) for name, value in start.items()}
        (end,) = descend(model, x, y, each, steps=[count], weight_decay=lam, removed=gone)
        end = {name: v.unflatten(0, (len(seeds), -1)) for name, v in (settle(end, gone) if rest else end).items()}
        return Retrained({name: value[:, 1:] for name, value in end.items()}, only(end))

    respond = lambda how: Retrained(how(model, x, y, removed, weights=weights, **lbfgs).parameters, weights)
    ways = {
        "retrained": lambda: anew(weights, again), "from scratch": lambda: anew(first, steps),
        "to convergence": lambda: respond(leave_out), "proximal": lambda: respond(proximal_bregman),
    }  # fmt: skip
    flat = lambda after: torch.cat([value.flatten(2) for value in after.parameters.values()], 2)  # (r, k, p)
    ends = {}
    for name in truths:
        retrained = ways[name]()
        ends[name] = flat(retrained)
        found[f"change {name}"] = list(loss_changes(model, retrained, *tests))
        found[f"norm {name}"] = list(parameter_changes(model, retrained))
    if {"retrained", "from scratch"} <= set(truths):
        found["norm between"] = list((ends["retrained"] - ends["from scratch"]).norm(dim=2))
        found["norm weights"] = list(ends["from scratch"].norm(dim=2))
    return {name: torch.stack(each).numpy() for name, each in found.items()} | {"hardest": losses.argmax(1).numpy()}
