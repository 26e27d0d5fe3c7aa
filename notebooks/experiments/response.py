"""06 and 16: where does the optimum go when examples are removed? Leave-one-out and proximal Bregman responses.

With n training examples, outputs f, decay λ towards w_ref and trained weights w₀, removing a set S means

    leave-out          min over w of  (1/n) Σ_{j∉S} ℓ(f(xⱼ), yⱼ) + λ/2 ‖w − w_ref‖²
    proximal Bregman   min over w of  (1/n) Σⱼ D(f(xⱼ), f₀(xⱼ)) − (1/n) Σ_{i∈S} ℓ(f(xᵢ), yᵢ) + (λ+δ)/2 ‖w − w₀‖²

(Bae et al. 2022, arXiv 2209.05364, eq. 10 with ε = −1/n; the Bregman divergence of the decay is the proximity itself).
For the cross-entropy D is the Kullback–Leibler divergence from the trained predictions π = softmax f₀, so both are one
problem in the targets t = y or π, less y for the removed: *the proximal response is leave-one-out among examples whose
labels are the network's own predictions*; its first Newton step is the influence function with the Gauss–Newton matrix.

Each removal from each network is a member of one batched L-BFGS whose first metric is the Gauss–Newton matrix at w₀;
w stays in the basin of w₀. **A positive change of a test loss means that the removed examples were helpful.**
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lib.networks.stacked import Layer, chain, chain_backward, chain_forward
from lib.numerics.gradients import jacobians
from lib.training.parallel import beside

MEMORY = 12  # pairs that L-BFGS keeps
AT_ONCE = 64  # members of a chain side by side


@dataclass(frozen=True)
class Response:
    """g sets removed, one at a time, from one network or from each of r."""

    parameters: dict[str, Tensor]  # name → (g, …), or (r, g, …)
    gradient_norm: Tensor  # (g,) or (r, g) of each one's own objective at the end: how far from converged


def optimum(
    model: nn.Module, x: Tensor, y: Tensor, *, weight_decay: float, weights: dict[str, Tensor] | None = None,
    removed: Tensor | None = None, tolerance=1e-9, steps: int = 200,
) -> Response:  # fmt: skip
    """The local optimum that ``model``'s weights are near, as a response to no removal, or to ``removed (r, 1, n)``.

    ``weight_decay`` is λ of ``(1/n) Σ ℓ + λ/2 ‖w‖²``, above 0, or there need not be an optimum; ``weights`` as in
    :func:`leave_out`. The metric is renewed every 25 steps.
    """
    _positive("weight_decay", weight_decay)
    nobody = torch.zeros(1, len(x), dtype=torch.bool) if removed is None else removed
    networks = weights or {name: value[None] for name, value in model.state_dict().items()}
    options = {"weight_decay": weight_decay, "tolerance": tolerance, "steps": 25}
    for _ in range(max(1, steps // 25)):
        response = leave_out(model, x, y, nobody, weights=networks, **options)
        networks = networks | {name: value[:, 0] for name, value in response.parameters.items()}
        if bool((response.gradient_norm <= tolerance).all()):
            break
    return _as_asked(response, weights)


def leave_out(
    model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, *, weight_decay: float, damping: float = 0.0,
    weights: dict[str, Tensor] | None = None, tolerance: float = 1e-9, steps: int = 60,
) -> Response:  # fmt: skip
    """Optima without each of g sets of examples, reached downhill from the weights of ``model`` (evaluation mode).

    Args:
        removed: ``(g, n)`` bool, True where one of the n training examples is missing.
        weight_decay: λ. ``damping``: of the metric alone, where λ = 0; it does not move the optimum.
        weights: name → ``(r, …)``: r networks to start from in place of ``model``'s weights, all side by side. Then
            ``removed`` may be ``(r, g, n)``, and what is found has r in front.
        tolerance: norm of the gradient at which a member stops; ``steps`` at most, about 10 with one gradient each.
    """
    return _respond(model, x, y, removed, weight_decay=weight_decay, damping=damping, weights=weights, proximal=False,
                    tolerance=tolerance, steps=steps)  # fmt: skip


def proximal_bregman(model: nn.Module, x: Tensor, y: Tensor, removed: Tensor, **options) -> Response:
    """Proximal Bregman responses to the removal of g sets, at any weights: what influence functions approximate.

    Arguments as in :func:`leave_out`; here ``damping`` δ belongs to the objective, as it does to ``(G + (λ+δ)I)⁻¹``.
    """
    return _respond(model, x, y, removed, proximal=True, **options)


def _respond(model, x, y, removed, *, proximal, weight_decay, damping=0.0, weights=None, tolerance=1e-9, steps=60):
    decay = weight_decay + damping
    _positive("weight_decay + damping", decay)
    nets = _Networks(model, x, weights)
    problem = _Problem(nets, y, _checked(removed, x, nets.r), decay if proximal else weight_decay, proximal=proximal)
    return _as_asked(problem.solve(nets.metric(decay), tolerance, steps), weights)


class _Networks:
    def __init__(self, model: nn.Module, x: Tensor, weights: dict[str, Tensor] | None):
        self.model, self.x, self.layers = copy.deepcopy(model).eval().requires_grad_(False), x, chain(model)
        state = {name: value[None] for name, value in model.state_dict().items()} if weights is None else weights
        like = next(model.parameters())
        state = {name: v.detach().to(like) if v.is_floating_point() else v for name, v in state.items()}
        self.buffers = {name: state[name] for name, _ in model.named_buffers()}
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        self.w = torch.cat([state[name].flatten(1) for name in self.shapes], 1)
        self.r = len(self.w)

    def unflat(self, w: Tensor) -> dict[str, Tensor]:
        parts = w.split([shape.numel() for shape in self.shapes.values()], -1)
        return {n: v.reshape(*w.shape[:-1], *s) for (n, s), v in zip(self.shapes.items(), parts, strict=True)}

    def one(self, w: Tensor, r: int) -> dict[str, Tensor]:
        """What ``functional_call`` takes, for one member's weights ``(p,)`` and the r-th network's statistics."""
        return self.unflat(w) | {name: value[r] for name, value in self.buffers.items()}

    def forward(self, w: Tensor) -> list[Tensor]:
        """Of a chain: ``[xᵀ, h₁, …, f]``, each ``(e, width, n)``, the examples innermost, as narrow layers like it."""
        named = self.unflat(w)

        def affine(layer: Layer, h: Tensor) -> Tensor:
            weight = named[layer.weight]
            return weight @ h if layer.bias is None else torch.baddbmm(named[layer.bias][..., None], weight, h)

        return chain_forward(self.layers, self.x.flatten(1).T.expand(len(w), -1, -1), affine)

    def backward(self, w: Tensor, h: list[Tensor], delta: Tensor) -> Iterator[tuple[Layer, Tensor, Tensor]]:
        """Of a chain, from the last layer down: ``(layer, its inputs, δ (e, out, …))``; h may repeat examples."""
        named = self.unflat(w)
        return chain_backward(self.layers, h, delta, lambda layer, delta: named[layer.weight].mT @ delta)

    def outputs(self) -> Tensor:
        """f of each network, ``(r, n, k)``."""
        with torch.no_grad():
            if self.layers:
                return self.forward(self.w)[-1].mT
            return torch.stack([functional_call(self.model, self.one(w, r), (self.x,)) for r, w in enumerate(self.w)])

    def metric(self, damping: float) -> Callable[[Tensor], Tensor]:
        """``v (r, g, p) ↦ (G + damping I)⁻¹ v``, with G the Gauss–Newton matrix of the mean cross-entropy."""
        root = self.outputs().softmax(-1).sqrt()  # diag(π) − ππᵀ = SSᵀ with S = diag(√π) − π√πᵀ
        s = torch.diag_embed(root) - root.square()[..., None] * root[..., None, :]  # (r, n, k, k)
        if self.layers:
            rows = self._rows(s)
        else:
            net, j = copy.deepcopy(self.model).requires_grad_(), []
            for r, w in enumerate(self.w):
                net.load_state_dict(self.one(w, r))
                j.append(jacobians(net, self.x))
            rows = (s.mT @ torch.stack(j).view(*s.shape[:3], -1)).flatten(1, 2).mT
        matrix = (rows @ rows.mT / len(self.x)).double()  # (r, p, p)
        matrix.diagonal(dim1=1, dim2=2).add_(damping)
        factor = torch.linalg.cholesky(matrix)
        return lambda v: torch.cholesky_solve(v.double().mT, factor).mT.to(v.dtype)

    def _rows(self, s: Tensor) -> Tensor:
        """``SᵀJ`` of a chain, ``(r, p, k·n)``."""
        k, into = s.shape[-1], {}
        h = [values.repeat(1, 1, k) for values in self.forward(self.w)]
        last = s.permute(0, 2, 3, 1).flatten(2)  # (r, k of f, k of S and n)
        for layer, inputs, delta in self.backward(self.w, h, last.contiguous()):
            into[layer.weight] = (delta[:, :, None] * inputs[:, None]).flatten(1, 2)
            if layer.bias is not None:
                into[layer.bias] = delta
        return torch.cat([into[name] for name in self.shapes], 1)


class _Problem:
    def __init__(self, nets: _Networks, y: Tensor, removed: Tensor, decay: float, *, proximal: bool = False):
        self.nets, self.decay, self.g, outputs = nets, decay, removed.shape[1], nets.outputs()
        label = nn.functional.one_hot(y, outputs.shape[-1]).to(outputs)
        target = outputs.softmax(-1)[:, None] if proximal else label
        self.target = (target - removed[..., None] * label).flatten(0, 1)  # (r·g, n, k)
        self.start = nets.w.repeat_interleave(self.g, 0)
        self.reference = self.start if proximal else torch.zeros_like(self.start)

    def __call__(self, w: Tensor, who: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(e,)`` and gradients ``(e, p)`` of the members ``who`` at ``w (e, p)``."""
        if self.nets.layers:
            parts = [self._chain(w[rows], self.target[who[rows]]) for rows in torch.arange(len(who)).split(AT_ONCE)]
        else:
            call = lambda job, tick: self._one(*job)
            parts = beside(call, list(zip(w, who.tolist(), strict=True)), torch.get_num_threads(), one_core=True)
        away = w - self.reference[who]
        value = torch.cat([value for value, _ in parts]) + 0.5 * self.decay * away.square().sum(1)
        return value, torch.cat([gradient for _, gradient in parts]).add_(away, alpha=self.decay)

    @torch.no_grad()
    def _chain(self, w: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        h, gradient = self.nets.forward(w), torch.empty_like(w)
        f, t, into = h[-1], target.mT, self.nets.unflat(gradient)
        mass, n = t.sum(1, keepdim=True), t.shape[-1]
        value = ((f.logsumexp(1, keepdim=True) * mass).sum((1, 2)) - (f * t).sum((1, 2))) / n
        for layer, inputs, delta in self.nets.backward(w, h, (f.softmax(1) * mass - t).div_(n)):
            into[layer.weight].copy_(delta @ inputs.mT)
            if layer.bias is not None:
                into[layer.bias].copy_(delta.sum(2))
        return value, gradient

    def _one(self, w: Tensor, member: int) -> tuple[Tensor, Tensor]:
        w, target = w.clone().requires_grad_(), self.target[member]
        f = functional_call(copy.deepcopy(self.nets.model), self.nets.one(w, member // self.g), (self.nets.x,))
        value = (f.logsumexp(-1) * target.sum(-1) - (f * target).sum(-1)).sum() / len(target)
        return value.detach()[None], torch.autograd.grad(value, w)[0][None]

    def solve(self, metric: Callable[[Tensor], Tensor], tolerance: float, steps: int) -> Response:
        """L-BFGS of all members side by side, each with its own step length; those that have converged rest."""
        each = lambda v: v.unflatten(0, (-1, self.g))
        w = self.start.clone()
        value, gradient = self(w, torch.arange(len(w)))
        moves: list[tuple[Tensor, Tensor]] = []
        awake = torch.ones(len(w), dtype=torch.bool)
        for _ in range(steps):
            awake &= gradient.norm(dim=1) > tolerance
            if not awake.any():
                break
            direction = -_two_loops(gradient, moves, lambda v: metric(each(v)).flatten(0, 1))
            new_w, new_value, new_gradient = self._search(w, value, gradient, direction=direction, awake=awake)
            awake &= (new_w != w).any(1)  # who finds nothing lower has reached rounding
            moves = [*moves[-MEMORY + 1 :], (new_w - w, new_gradient - gradient)]
            w, value, gradient = new_w, new_value, new_gradient
        return Response(self.nets.unflat(each(w)), each(gradient.norm(dim=1)))

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


def _as_asked(response: Response, weights: dict | None) -> Response:
    if weights is not None:
        return response
    return Response({name: value[0] for name, value in response.parameters.items()}, response.gradient_norm[0])


def _checked(removed: Tensor, x: Tensor, r: int) -> Tensor:
    good = removed.ndim == 2 or (removed.ndim == 3 and len(removed) == r)
    if removed.dtype != torch.bool or not good or removed.shape[-1] != len(x):
        also = "" if removed.ndim == 2 else f" or ({r}, g, {len(x)})"
        raise ValueError(f"removed must be bool (g, {len(x)}){also}, got {removed.dtype} {tuple(removed.shape)}")
    return removed.expand(r, *removed.shape[-2:])


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive for an optimum to exist, got {value}")
