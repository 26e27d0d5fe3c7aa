"""How scores show while a network trains: the speed of its tangent kernel, and error barriers between networks.

For notebook 05, after Paul et al. 2021 (section 5, appendix B.3) and Ki et al. 2023 (appendix I). Networks are in
evaluation mode. Stacked parameters are name → ``(E, …)``, running statistics of batch normalization among them; the
children of a parent, between which barriers are measured, come from ``lib.training.retraining``.
"""

import copy

import torch
from torch import Tensor, nn

from lib.networks import stacked
from lib.numerics.gradients import NORMALIZATIONS, cosine_distance, tangent_kernel


def kernel_velocity(model: nn.Module, before: dict, after: dict, x: Tensor, *, device: str = "cpu") -> Tensor:
    """How far the tangent kernel on some examples turns between two moments, per run, ``(E,)`` (Paul et al., eq. 7).

        v = 1 − ⟨K_t, K_{t+1}⟩ / (‖K_t‖‖K_{t+1}‖)        in [0, 1]; 0 = the kernel kept its direction, whatever its size

    Args:
        model, x: as in ``tangent_kernel``; the papers take 100 or 125 examples next to each other by score.
        before, after: stacked parameters of the E runs, one epoch apart in the papers (``Ensemble.checkpoints[t]``).

    Raises: ValueError as ``tangent_kernel``, or if the two moments have different numbers of runs.
    Cost: two kernels a run. For many moments, take ``tangent_kernel`` of each and ``cosine_distance`` of neighbours.
    """
    moments, distances = (before, after), []
    for e in range(_runs(model, before=before, after=after)):  # one run at a time: two kernels in memory
        runs = [{name: value[e : e + 1] for name, value in moment.items()} for moment in moments]
        distances.append(cosine_distance(*(tangent_kernel(model, run, x, device=device) for run in runs)))
    return torch.cat(distances)


def errors_on_segment(
    model: nn.Module, first: dict[str, Tensor], second: dict[str, Tensor], x: Tensor, y: Tensor, *, points: int = 11,
    statistics: Tensor | None = None, batch: int = 512, device: str = "cpu",
) -> Tensor:  # fmt: skip
    """Which examples the networks on the segment between two weights get wrong, ``(points, E, n)`` bool.

    Args:
        first, second: stacked parameters of E networks each, w and w′.
        x, y: examples ``(n, …)`` and integer labels ``(n,)`` or ``(E, n)``; take all subsets of interest at once.
        points: networks on the segment, w at α = 0 and w′ at α = 1 among them, evenly spaced.
        statistics: batch normalization. ``None`` interpolates its running statistics like weights (Frankle et al.
            2020). The average of two networks' statistics is not that of the network between them, so barriers come
            out higher; given rows ``(r, …)``, statistics are estimated anew on these at every α, ends included
            (Jordan et al. 2023), as the plain average over batches. Without such layers it changes nothing.
        batch: rows in a batch for the statistics; the last, smaller one is left out.

    Raises: ValueError for fewer than 2 points, missing parameters, or different runs.
    Cost: ``points``·E forward passes on x, and on ``statistics``.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, both ends among them, got {points}")
    y, wrong = stacked.labels_by_run(y, _runs(model, first=first, second=second), len(x)), []
    mixed = [name for name, value in first.items() if value.is_floating_point()]
    for alpha in torch.linspace(0, 1, points, dtype=torch.float64).tolist():
        between = first | {name: first[name].lerp(second[name], alpha) for name in mixed}
        if statistics is not None:
            between = with_statistics(model, between, statistics, batch=batch, device=device)
        wrong.append(stacked.predict(model, between, x, device=device).argmax(2) != y)
    return torch.stack(wrong)


def with_statistics(
    model: nn.Module, parameters: dict[str, Tensor], x: Tensor, *, batch: int = 512, device: str = "cpu"
) -> dict[str, Tensor]:
    """The same networks with statistics of batch normalization (if any) from x: the plain average over batches.

    Cost: a forward pass on x a network.
    """
    net = copy.deepcopy(model).eval().to(device)
    layers = [m for m in net.modules() if isinstance(m, NORMALIZATIONS) and m.track_running_stats]
    if not layers:
        return parameters
    for module in layers:
        module.train().momentum = None  # the plain average
    states = []
    for state in stacked.members(model, parameters):
        dtype = next(iter(state.values())).dtype
        net.to(dtype).load_state_dict(state)
        for module in layers:
            module.reset_running_stats()
        with torch.no_grad():
            for rows in x.split(batch)[: max(1, len(x) // batch)]:
                net(rows.to(device, dtype))
        states.append({name: value.cpu().clone() for name, value in net.state_dict().items()})
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def error_barrier(wrong: Tensor) -> Tensor:
    """How far the error rises on the segment above the line between its ends, per pair (Paul et al. 2021, eq. 5).

        err(w, w′; S) = sup_α { R_S((1 − α)w + αw′) − (1 − α)R_S(w) − αR_S(w′) },   R_S = share of S got wrong

    Args:
        wrong: ``(points, E, n)`` from :func:`errors_on_segment`; a subset S by its columns, ``wrong[..., rows]``.

    Returns: ``(E,)`` float64 in [0, 1): 0 = linearly connected on S. Their mean is the paper's mean barrier (eq. 6).
    Raises: ValueError if ``wrong`` is not three-dimensional with at least 2 points, or S is empty.

    Example:
        >>> error_barrier(torch.tensor([[[False, False]], [[True, True]], [[True, False]]]))  # 0, 1, ½ over 0, ¼, ½
        tensor([0.7500], dtype=torch.float64)
    """
    if wrong.ndim != 3 or len(wrong) < 2 or not wrong.shape[2]:
        raise ValueError(f"wrong must be (at least 2 points, pairs, at least 1 example), got {tuple(wrong.shape)}")
    error = wrong.double().mean(2)
    line = torch.linspace(0, 1, len(error), dtype=torch.float64)[:, None]
    return (error - error[0].lerp(error[-1], line)).amax(0).clamp(min=0)


def _runs(model: nn.Module, **stacks: dict) -> int:
    """How many networks each of two stacks holds."""
    (first, runs), (second, others) = ((name, stacked.stacked_members(model, stack)) for name, stack in stacks.items())
    if runs != others:
        raise ValueError(f"{first} and {second} must hold the same runs, got {runs} and {others}")
    return runs
