"""Where the optimum goes when examples are removed, found to convergence: leave-one-out and proximal Bregman responses.

With n training examples, outputs f, decay λ towards w_ref and trained weights w₀, removing a set S means

    leave-out          min over w of  (1/n) Σ_{j∉S} ℓ(f(xⱼ), yⱼ) + λ/2 ‖w − w_ref‖²
    proximal Bregman   min over w of  (1/n) Σⱼ D(f(xⱼ), f₀(xⱼ)) − (1/n) Σ_{i∈S} ℓ(f(xᵢ), yᵢ) + (λ+δ)/2 ‖w − w₀‖²

(Bae et al. 2022, arXiv 2209.05364, eq. 10 with ε = −1/n; the Bregman divergence of the decay is the proximity itself).
For the cross-entropy D is the Kullback–Leibler divergence from the trained predictions π = softmax f₀, so both are one
problem in the targets t: the sum over j of (Σ_k t_jk) log Σ exp f − t·f, with t = y or π, less y for the removed. In
words: *the proximal response is leave-one-out among examples whose labels are the network's own predictions*. Its
Hessian at w₀ is the damped Gauss–Newton matrix, and its first Newton step the influence function.

Each removal is a member of a batched L-BFGS whose first metric is the Gauss–Newton matrix at w₀, so that its first step
is nearly the influence function; w stays in the basin of w₀. The change is in the weights' own unit; **a positive
change of a test loss means that the removed examples were helpful**.
"""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from lib.batched import chain
from lib.jacobians import jacobians

MEMORY = 12  # pairs that L-BFGS keeps
AT_ONCE = 64  # members of a chain side by side


@dataclass(frozen=True)
class Response:
    """g sets removed, one at a time."""

    parameters: dict[str, Tensor]  # name → (g, …)
    gradient_norm: Tensor  # (g,) of each one's own objective at the end: how far from converged
    evaluations: int  # of a member's objective, all members together


def optimum(
    model: nn.Module, x: Tensor, y: Tensor, *, weight_decay: float, tolerance=1e-9, steps: int = 200
) -> Response:
    """The local optimum that ``model``'s weights are near, as a response to no removal (g = 1).

    ``weight_decay`` is λ of ``(1/n) Σ ℓ + λ/2 ‖w‖²``. The metric is renewed every 25 steps.

    Raises:
        ValueError: without decay, where there need not be an optimum, and as :func:`leave_out`.
    """
    _positive("weight_decay", weight_decay)
    found, nobody, evaluations = None, torch.zeros(1, len(x), dtype=torch.bool), 0
    model = copy.deepcopy(model)
    for _ in range(max(1, steps // 25)):
        found = leave_out(model, x, y, nobody, weight_decay=weight_decay, tolerance=tolerance, steps=25)
        evaluations += found.evaluations
        model.load_state_dict(model.state_dict() | {name: value[0] for name, value in found.parameters.items()})
        if found.gradient_norm.item() <= tolerance:
            break
    return Response(found.parameters, found.gradient_norm, evaluations)


def leave_out(
    model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, *,
    weight_decay: float, damping: float = 0.0, tolerance: float = 1e-9, steps: int = 60,
) -> Response:  # fmt: skip
    """Optima without each of g sets of examples, reached downhill from the weights of ``model``.

    Args:
        model: trained; evaluation mode (running statistics stay as they are). Its type and device are kept.
        x, y: all n training examples and their labels (int64).
        removed: ``(g, n)`` bool, True where an example is missing.
        weight_decay: λ. ``damping``: of the metric alone, where λ = 0; it does not move the optimum.
        tolerance: norm of the gradient at which a member stops; ``steps`` at most.

    Raises:
        ValueError: if ``removed`` is not ``(g, n)`` bool, λ is negative, or neither decay nor damping is positive.

    Cost: one gradient a step and member, about 10 steps; the Gauss–Newton matrix ``(p, p)`` and its factor once.

    Example:
        >>> x, y = torch.randn(20, 2).double(), torch.arange(20) % 2
        >>> model = nn.Linear(2, 2).double()
        >>> leave_out(model, x, y, torch.eye(20).bool(), weight_decay=0.1).parameters["weight"].shape
        torch.Size([20, 2, 2])
    """
    _positive("weight_decay + damping", weight_decay + damping)
    target = _one_hot(model, x, y).expand(len(removed), -1, -1)
    problem = _Problem(model, x, target, _one_hot(model, x, y), _checked(removed, x), weight_decay)
    return problem.solve(_metric(model, x, weight_decay + damping), tolerance, steps)


def proximal_bregman(
    model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, *,
    weight_decay: float, damping: float = 0.0, tolerance: float = 1e-9, steps: int = 60,
) -> Response:  # fmt: skip
    """Proximal Bregman responses to the removal of g sets: what influence functions approximate.

    Defined at any weights, converged or not. Arguments, errors and cost as in :func:`leave_out`; here ``damping`` δ
    belongs to the objective, as it does to the influence function ``(G + (λ+δ)I)⁻¹``.
    """
    _positive("weight_decay + damping", weight_decay + damping)
    with torch.no_grad():
        target = model.eval()(x).softmax(-1).expand(len(removed), -1, -1)
    here = _flat(dict(model.named_parameters()))
    problem = _Problem(model, x, target, _one_hot(model, x, y), _checked(removed, x), weight_decay + damping, here)
    return problem.solve(_metric(model, x, weight_decay + damping), tolerance, steps)


class _Problem:
    """g objectives in the flat weights, their values and gradients."""

    def __init__(self, model, x, target, own, removed, decay, reference=None):
        self.model, self.x, self.decay = copy.deepcopy(model).eval().requires_grad_(False), x, decay
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        self.target = target - removed[..., None] * own  # (g, n, k)
        self.start = _flat(dict(model.named_parameters()))
        self.reference = torch.zeros_like(self.start) if reference is None else reference
        self.one_call, self.evaluations = chain(model) is not None, 0

    def objective(self, model: nn.Module, w: Tensor, target: Tensor) -> Tensor:
        f = functional_call(model, self.unflat(w), (self.x,))
        loss = (f.logsumexp(-1) * target.sum(-1) - (f * target).sum(-1)).sum() / len(self.x)
        return loss + 0.5 * self.decay * (w - self.reference).square().sum()

    def unflat(self, w: Tensor) -> dict[str, Tensor]:
        parts = w.split([shape.numel() for shape in self.shapes.values()], -1)
        return {n: v.reshape(*w.shape[:-1], *s) for (n, s), v in zip(self.shapes.items(), parts, strict=True)}

    def __call__(self, w: Tensor, who: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(e,)`` and gradients ``(e, p)`` of the members ``who`` at ``w (e, p)``."""
        self.evaluations += len(who)
        if self.one_call:
            both = vmap(grad_and_value(lambda w, t: self.objective(self.model, w, t)))
            parts = [both(w[at], self.target[who[at]]) for at in torch.arange(len(who)).split(AT_ONCE)]
        else:
            parts = each_on_a_core(self._one, [(w[e], self.target[who[e]]) for e in range(len(who))])
        return torch.cat([value for _, value in parts]), torch.cat([gradient for gradient, _ in parts])

    def _one(self, w: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        w = w.clone().requires_grad_()
        value = self.objective(copy.deepcopy(self.model), w, target)
        return torch.autograd.grad(value, w)[0][None], value.detach()[None]

    def solve(self, metric: Callable[[Tensor], Tensor], tolerance: float, steps: int) -> Response:
        """L-BFGS of all members side by side, each with its own step length; those that have converged rest."""
        g = len(self.target)
        w = self.start.repeat(g, 1)
        value, gradient = self(w, torch.arange(g))
        moves: list[tuple[Tensor, Tensor]] = []
        awake = torch.ones(g, dtype=torch.bool)
        for _ in range(steps):
            awake &= gradient.norm(dim=1) > tolerance
            if not awake.any():
                break
            direction = -_two_loops(gradient, moves, metric)
            new_w, new_value, new_gradient = self._search(w, value, gradient, direction, awake)
            awake &= (new_w != w).any(1)  # who finds nothing lower has reached rounding
            moves = [*moves[-MEMORY + 1 :], (new_w - w, new_gradient - gradient)]
            w, value, gradient = new_w, new_value, new_gradient
        return Response(self.unflat(w), gradient.norm(dim=1), self.evaluations)

    def _search(self, w, value, gradient, direction, awake) -> tuple[Tensor, Tensor, Tensor]:
        """Halve the step of those that do not go down by 10⁻⁴ of what the slope promises."""
        w, value, gradient, slope = w.clone(), value.clone(), gradient.clone(), (gradient * direction).sum(1)
        start, before, who, length = w.clone(), value.clone(), torch.nonzero(awake).flatten(), 1.0
        for _ in range(12):
            trial = start[who] + length * direction[who]
            new_value, new_gradient = self(trial, who)
            down = new_value <= before[who] + 1e-4 * length * slope[who]
            w[who[down]], value[who[down]], gradient[who[down]] = trial[down], new_value[down], new_gradient[down]
            who, length = who[~down], length / 2
            if not len(who):
                break
        return w, value, gradient


def _two_loops(gradient: Tensor, moves: list, metric: Callable) -> Tensor:
    """L-BFGS's product of the inverse Hessian with each row of ``gradient``; pairs without curvature are left out."""
    q, kept = gradient.clone(), []
    for s, y in reversed(moves):
        curved = (s * y).sum(1)
        rate = torch.where(curved > 1e-12 * s.norm(dim=1) * y.norm(dim=1), 1 / curved, torch.zeros_like(curved))
        a = rate * (s * q).sum(1)
        q -= a[:, None] * y
        kept.append((s, y, rate, a))
    q = metric(q)
    for s, y, rate, a in reversed(kept):
        q += (a - rate * (y * q).sum(1))[:, None] * s
    return q


def _metric(model: nn.Module, x: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
    """``v (e, p) ↦ (G + damping I)⁻¹ v``, with G the Gauss–Newton matrix of the mean cross-entropy at the weights."""
    with torch.no_grad():
        root = model.eval()(x).softmax(-1).sqrt()  # diag(π) − ππᵀ = SSᵀ with S = diag(√π) − π√πᵀ
    s = torch.diag_embed(root) - root.square()[..., None] * root[:, None, :]
    j = jacobians(model, x).view(len(x), root.shape[1], -1)
    a = (s.mT @ j).flatten(0, 1)
    matrix = (a.T @ a / len(x)).double()
    matrix.diagonal().add_(damping)
    factor = torch.linalg.cholesky(matrix)
    return lambda v: torch.cholesky_solve(v.double().T, factor).T.to(v.dtype)


def each_on_a_core(call: Callable, jobs: list[tuple]) -> list:
    """``call(*job)`` for each job, one on each of torch's threads at a time; the results in order."""
    cores = torch.get_num_threads()
    if cores == 1 or len(jobs) < 2:
        return [call(*job) for job in jobs]
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            return [future.result() for future in [pool.submit(call, *job) for job in jobs]]
        finally:
            torch.set_num_threads(cores)


def _flat(parameters: dict[str, Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters.values()])


def _one_hot(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        outputs = model.eval()(x[:1]).shape[-1]
    return nn.functional.one_hot(y, outputs).to(x.dtype)


def _checked(removed: Tensor, x: Tensor) -> Tensor:
    if removed.dtype != torch.bool or removed.ndim != 2 or removed.shape[1] != len(x):
        raise ValueError(f"removed must be bool (g, {len(x)}), got {removed.dtype} {tuple(removed.shape)}")
    return removed


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive for an optimum to exist, got {value}")
