"""Data summarization: in which order to drop training examples by unique information, and what is left of accuracy.

Harutyunyan et al. 2021, section 6 and figure 2c, drop the least informative examples ("bottom"), the same but scored
anew after each 5% ("bottom iterative"), the most informative ("top"), or any ("random"). The unique information of a
group is not the sum of its members'. "joint" drops so that the *group's* information grows least: with f the
predictions of the linearized network on other inputs, trained on all rows and on the kept rows K, it takes from K the
example i that minimizes

    ‖f_all − f_K + δᵢ‖²,        δᵢ = f_K − f_{K∖i}

one after the other, adding up δ to first order, and computes f_K and all δ anew after each 5%.
"""

import pandas as pd
import torch
from torch import Tensor, nn

from lib import ensemble
from lib.tangent import Tangent, changes, f_si, fitted

STRATEGIES = ("bottom", "bottom iterative", "top", "random", "joint")


def removal_order(
    net: Tangent,
    y: Tensor,
    strategy: str,
    *,
    lr: float,
    steps: float,
    weight_decay: float = 0.0,
    every: float = 0.05,
    until: float = 0.95,
    seed: int = 0,
) -> Tensor:
    """In which order to drop the n training examples, ``(n,)`` positions, the first to go first.

    Args:
        net: the linearized network on the training rows, and on other inputs (whose labels are not needed).
        y: training labels ``(n,)``.
        strategy: one of ``STRATEGIES``.
        lr, steps, weight_decay: how the network is trained; the learning rate is that of the mean over the rows kept.
        every: share of the n rows after which the iterative strategies score anew.
        until: share of the rows that they order; the rest keeps the order of the last scores.
        seed: draws the random order.

    Raises:
        ValueError: for an unknown strategy, or shares out of range.

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
        part = net.rows(left)
        if strategy == "joint":
            first = _joint(changes(part, y[left], **train), whole - fitted(part, y[left], **train), batch)
        else:
            first = f_si(part, y[left], **train).argsort(stable=True)[:batch]
        dropped.append(left[first])
        kept = torch.ones(len(left), dtype=torch.bool)
        kept[first] = False
        left = left[kept]
    last = f_si(net.rows(left), y[left], **train).argsort(stable=True)
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


def accuracies(model: nn.Module, x: Tensor, y: Tensor, plans: list[dict], *, recipe, **options) -> pd.DataFrame:
    """Train one network a plan, all in one call of the engine, and count what it gets right where it should be judged.

    Args:
        x, y: all examples ``(N, …)`` and labels, training and test rows together.
        plans: dicts with ``train`` and ``test``, positions among the N, ``seed`` of the network, and any other
            entries, which become columns of the table.
        recipe, options: as ``lib.ensemble.train`` has them.

    Returns:
        A row a plan: its entries, ``kept`` (examples) and ``accuracy`` in [0, 1].

    Raises:
        ValueError: if a plan trains on none, or on what it is judged by.
    """
    sees, judged = (torch.zeros(len(plans), len(y), dtype=torch.bool) for _ in range(2))
    for row, plan in enumerate(plans):
        sees[row, plan["train"]] = True
        judged[row, plan["test"]] = True
    if (both := (sees & judged).any(1)).any() or not sees.any(1).all():
        row = int((both | ~sees.any(1)).nonzero()[0])
        raise ValueError(f"plan {row} must train on some examples and be tested on others")
    run = ensemble.train(
        model, x, y, recipe=recipe, seeds=[plan["seed"] for plan in plans], member_sees=sees,
        record=ensemble.Record(parameters=False), **options,
    )  # fmt: skip
    right = (run.correct_train[:, 0] & judged).sum(1) / judged.sum(1)
    table = pd.DataFrame([{key: v for key, v in plan.items() if key not in ("train", "test")} for plan in plans])
    return table.assign(kept=sees.sum(1).numpy(), accuracy=right.double().numpy())


def points(table: pd.DataFrame, strategy: str) -> pd.DataFrame:
    """Test accuracy of one strategy in percentage points: a row a share removed, a column a seed."""
    chosen = table[table.strategy == strategy]
    if chosen.empty:
        raise ValueError(f"strategy must be one of {', '.join(sorted(set(table.strategy)))}, got {strategy!r}")
    return 100 * chosen.pivot_table(index="removed", columns="seed", values="accuracy")


def gap(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Points by which one strategy is ahead of another, seed by seed; ``second="all"`` is with nothing removed.

    Args:
        table: from :func:`accuracies`, with columns ``strategy``, ``removed`` and ``seed``; networks that saw all
            examples stand in it with ``removed`` = 0, under any strategy.
    """
    if second == "all":
        whole = 100 * table[table.removed == 0].groupby("seed").accuracy.mean()
        return points(table, first) - whole
    return (points(table, first) - points(table, second)).dropna(how="all")
