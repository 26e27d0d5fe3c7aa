"""Notebook 15: what do scores show while a network trains: does its tangent kernel turn, do paths part?

Conventions of Paul et al. 2021 (section 5, appendix B.3) and Ki et al. 2023 (appendix I). Networks are in evaluation
mode. Stacked parameters are name → ``(E, …)``, running statistics among them. Barriers are between siblings.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.costs import device_of
from lib.networks import stacked
from lib.numerics.gradients import every_output, products, signals
from lib.training.ensemble import train
from lib.training.recipe import Data, Recipe, Run, Start


def tangent_kernel(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, *, device: str = "cpu") -> Tensor:
    """Tangent kernel of each of E networks, in one block, not divided by anything (Paul et al. 2021, appendix B.3).

    From parameters name → ``(E, …)``, running statistics among them, on x ``(m, …)``: ``(E, m·k, m·k)``, on the CPU.
    ValueError if the model has parameters in another kind of layer, or one is missing.

    Example:
        >>> from lib.networks.models import mlp
        >>> still = {"head.weight": torch.zeros(1, 2, 2), "head.bias": torch.zeros(1, 2)}
        >>> tangent_kernel(mlp(2, (), classes=2), still, torch.tensor([[3.0, 4.0]]))  # (‖x‖² + 1)·I
        tensor([[[26.,  0.],
                 [ 0., 26.]]])
    """
    net, kernels = copy.deepcopy(model).eval().to(device_of(device)), []
    for state in stacked.members(model, parameters, device=device):
        rows = x.to(device, next(iter(state.values())).dtype)
        kernel = sum(products(part, part) for part in signals(net, state, rows, every_output))
        kernels.append(kernel.flatten(2).flatten(0, 1).cpu())
    return torch.stack(kernels)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 − ⟨A, B⟩/(‖A‖‖B‖) in the Frobenius product of each pair of matrices ``(…, N, N)``; in [0, 2].

    For positive semidefinite matrices at most 1. Computed as ½‖A/‖A‖ − B/‖B‖‖², which keeps its digits near 0.

    Example:
        >>> cosine_distance(torch.eye(2), torch.ones(2, 2))  # 1 − 2/(√2·2)
        tensor(0.2929)
    """
    unit = lambda m: m / torch.linalg.matrix_norm(m, keepdim=True)
    return 0.5 * torch.linalg.matrix_norm(unit(a) - unit(b)).square()


def kernel_velocity(model: nn.Module, before: dict, after: dict, x: Tensor, *, device: str = "cpu") -> Tensor:
    """How far the tangent kernel on some examples turns between two moments, per run (Paul et al. 2021, eq. 7).

        v = 1 − ⟨K_t, K_{t+1}⟩ / (‖K_t‖‖K_{t+1}‖)        (moments one epoch apart in the papers)

    Args:
        before, after: stacked parameters of the E runs at the two moments, such as ``Ensemble.checkpoints[t]``.
        x: the papers take 100 or 125 examples next to each other by score.

    Returns:
        ``(E,)`` in [0, 1]; 0 = the kernel kept its direction, whatever its size.

    Cost: two kernels a run.
    """
    runs = [stacked.stacked_members(model, moment) for moment in (before, after)]
    if runs[0] != runs[1]:
        raise ValueError(f"before and after must hold the same runs, got {runs[0]} and {runs[1]}")
    velocities = []
    for e in range(runs[0]):  # one run at a time: two kernels in memory
        alone = [{name: value[e : e + 1] for name, value in moment.items()} for moment in (before, after)]
        velocities.append(cosine_distance(*[tangent_kernel(model, run, x, device=device) for run in alone]))
    return torch.cat(velocities)


def children(
    model: nn.Module, data: Data | tuple, recipe: Recipe, seeds: Sequence[Sequence[int]], *,
    parents: dict[int, dict[str, Tensor]], labels: Tensor | None = None, run: Run = Run(),
) -> dict[int, list[dict[str, Tensor]]]:  # fmt: skip
    """Networks that leave their parents' paths at given times and train on with other batches (Frankle et al. 2020).

    Args:
        recipe: the parents' own; children enter it at t*, with the learning rates that follow, the momentum at rest.
        seeds: C rows of E integers, one a child, which draw its batches; other than the parents' own seeds.
        parents: spawning time t* (an epoch) → stacked parameters of E parents then: ``Ensemble.checkpoints``.
        labels: ``(E, n)``, where parents have their own.

    Returns:
        t* → C stacks of parameters ``(E, …)``, the children at the end.

    Raises:
        ValueError: if the seeds do not match the parents, or a time is beyond the recipe's epochs.
    """
    grown, count, labels = {}, len(seeds), None if labels is None else labels.repeat(len(seeds), 1)
    for time, parameters in parents.items():
        size = len(next(iter(parameters.values())))
        if any(len(row) != size for row in seeds):
            raise ValueError(f"seeds must be rows of {size} integers, got rows of {[len(row) for row in seeds]}")
        repeated = {name: value.repeat(count, *[1] * (value.ndim - 1)) for name, value in parameters.items()}
        each, start = [seed for row in seeds for seed in row], Start(repeated, after=time)
        ends = train(model, data, recipe, each, labels=labels, start=start, run=run).parameters
        grown[time] = [{name: value.split(size)[child] for name, value in ends.items()} for child in range(count)]
    return grown


def errors_on_segment(
    model: nn.Module, first: dict[str, Tensor], second: dict[str, Tensor], x: Tensor, y: Tensor, *, points: int = 11,
    device: str = "cpu",
) -> Tensor:  # fmt: skip
    """Which examples the networks on the segment between two weights get wrong, for each of E pairs.

    Running statistics of batch normalization are interpolated like weights (Frankle et al. 2020); those of the network
    between are others, so that barriers of such networks come out higher than with statistics estimated anew.

    Args:
        first, second: stacked parameters of E networks each, w and w′.
        x, y: examples ``(n, …)`` and integer labels ``(n,)`` or ``(E, n)``; take all subsets of interest at once.
        points: networks on the segment, w at α = 0 and w′ at α = 1 among them, evenly spaced.

    Returns:
        ``(points, E, n)`` bool, True = wrong.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, both ends among them, got {points}")
    runs = [stacked.stacked_members(model, end) for end in (first, second)]
    if runs[0] != runs[1]:
        raise ValueError(f"first and second must hold the same runs, got {runs[0]} and {runs[1]}")
    y, wrong = stacked.labels_by_run(y, runs[0], len(x)), []
    mixed = [name for name, value in first.items() if value.is_floating_point()]
    for alpha in torch.linspace(0, 1, points, dtype=torch.float64).tolist():
        between = first | {name: first[name].lerp(second[name], alpha) for name in mixed}
        wrong.append(stacked.predict(model, between, x, device=device).argmax(2) != y)
    return torch.stack(wrong)


def error_barrier(wrong: Tensor) -> Tensor:
    """How far the error rises on the segment above the line between its ends, per pair (Paul et al. 2021, eq. 5).

        err(w, w′; S) = sup_α { R_S((1 − α)w + αw′) − (1 − α)R_S(w) − αR_S(w′) },   R_S = share of S got wrong

    Args:
        wrong: ``(points, E, n)`` from :func:`errors_on_segment`; a subset S by its columns, ``wrong[..., rows]``.

    Returns:
        ``(E,)`` float64 in [0, 1): 0 = linearly connected on S. Their mean is the paper's mean barrier (eq. 6).

    Example:
        >>> error_barrier(torch.tensor([[[False, False]], [[True, True]], [[True, False]]]))  # 0, 1, ½ over 0, ¼, ½
        tensor([0.7500], dtype=torch.float64)
    """
    if wrong.ndim != 3 or len(wrong) < 2 or not wrong.shape[2]:
        raise ValueError(f"wrong must be (at least 2 points, pairs, at least 1 example), got {tuple(wrong.shape)}")
    error = wrong.double().mean(2)
    line = torch.linspace(0, 1, len(error), dtype=torch.float64)[:, None]
    return (error - error[0].lerp(error[-1], line)).amax(0).clamp(min=0)
