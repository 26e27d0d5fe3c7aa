"""Notebook 15: what do scores show while a network trains: does its tangent kernel turn, do paths part?

Conventions of Paul et al. 2021 (section 5, appendix B.3) and Ki et al. 2023 (appendix I). Networks are in evaluation
mode. Stacked parameters are name → ``(E, …)``, running statistics of batch normalization among them; the children
of a parent, between which barriers are measured, come from ``lib.training.retraining``.
"""

import torch
from torch import Tensor, nn

from lib.networks import stacked
from lib.numerics.gradients import cosine_distance, tangent_kernel


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
