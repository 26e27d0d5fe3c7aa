"""The C-score: how surely networks that never saw an example get it right (Jiang et al. 2021). High = regular.

    C(x, y) = E_m E_S [ P(f(x; S \\ {(x, y)}) = y) ],   S a random subset of m examples

estimated as Jiang et al. do, by networks trained on random subsets of several sizes m: of each size the share of
networks right about an example among those that did not see it, then the plain mean over the sizes.
"""

import torch
from torch import Tensor

from lib.memorization import held_out_accuracy, subsets
from lib.published import published


def subsets_of_shares(n: int, shares, trials: int, seed: int) -> Tensor:
    """Who sees what: ``trials`` random subsets of each size ``round(share·n)``, ``(len(shares)·trials, n)`` bool.

    Raises:
        ValueError: unless every share leaves an example out and keeps one.

    Example:
        >>> subsets_of_shares(10, (0.2, 0.8), trials=2, seed=0).sum(1)
        tensor([2, 2, 8, 8])
    """
    return torch.cat([subsets(n, round(share * n), trials, seed + i) for i, share in enumerate(shares)])


def c_scores(member_sees: Tensor, correct_train: Tensor) -> Tensor:
    """C-score of each example from networks on subsets of one size or several.

    Args:
        member_sees, correct_train: ``(t, n)`` bool, as for ``memorization.held_out_accuracy``.

    Returns:
        ``(n,)`` float64 in [0, 1]; a size whose every network saw an example does not count for it, and NaN where
        all of them did.

    Raises:
        ValueError: if the two are not boolean and of one shape.

    Example:
        >>> sees = torch.tensor([[True, False, False], [False, True, False], [True, True, False]])
        >>> c_scores(sees, ~sees | torch.tensor([False, False, True]))
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    if member_sees.shape != correct_train.shape:
        raise ValueError(
            f"correct_train must have the shape of member_sees, {tuple(member_sees.shape)}, "
            f"got {tuple(correct_train.shape)}"
        )
    sizes = member_sees.sum(1)
    by_size = [held_out_accuracy(member_sees[sizes == m], correct_train[sizes == m]) for m in sizes.unique()]
    return torch.stack(by_size).nanmean(0)


def published_c_scores(file: str, rows: Tensor, y: Tensor, **where) -> Tensor:
    """The C-scores that Jiang et al. published, of some rows of CIFAR-10 or CIFAR-100.

    Args:
        file: as in ``lib.published``, ``cifar10-cscores-orig-order.npz`` say.
        rows: ``(n,)``, rows of the official training set, ``Dataset.rows_train``.
        y: their labels ``(n,)``, held against the published ones.
        where: ``url`` and ``folder`` of ``published``.

    Returns:
        ``(n,)`` float64.

    Raises:
        ValueError: if rows lie beyond the file or labels differ: then the rows are of other data.
        Unavailable: as ``published``.
    """
    arrays = published(file, **where)
    scores, labels = (torch.from_numpy(arrays[name]) for name in ("scores", "labels"))
    if int(rows.max()) >= len(scores) or not torch.equal(labels[rows].long(), y.cpu()):
        raise ValueError(f"rows must be those of the data that {file} scores, with their labels; these are others")
    return scores[rows].double()
