"""Which labels look wrong, what they should be, and how far such a suspicion can be trusted.

The judges of an example are networks that never saw it: each network is trained on a random part of the rows, and the
mean of its softmax over the networks that were trained without an example says what the rest of the data make of it.
How good that judgement is, is measured by flipping some labels on purpose and looking how many of these are found.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import chi2
from torch import Tensor

from lib import stats


class Votes(NamedTuple):
    """What networks say of the examples that they were not trained on."""

    probability: Tensor  # (n, k) float64, mean softmax; NaN where every network saw the example
    error: Tensor  # (n, k) float64, standard error of that mean over networks; NaN with fewer than two
    networks: Tensor  # (n,) int64, how many there are


class Probe(NamedTuple):
    """What a flag was worth on labels that were flipped on purpose: ``(share, (low, high))`` each."""

    found: tuple  # of the flipped labels, the share flagged
    alarms: tuple  # of the other labels, the share flagged; those that were wrong before are among them
    precision: tuple  # of the flags, the share on flipped labels
    right: tuple  # of the flipped labels that are flagged, the share whose suggestion is the label before


def held_out_votes(member_sees: Tensor, errors: Tensor, y: Tensor) -> Votes:
    """Mean softmax of the networks that did not see an example.

    Args:
        member_sees: ``(t, n)`` bool.
        errors: softmax minus one-hot label, ``(t, n, k)``, as ``Record(errors_at=…)`` keeps them.
        y: the labels that were trained on, ``(n,)``.

    Raises:
        ValueError: if shapes or types disagree.

    Example:
        >>> sees = torch.tensor([[True, False], [False, True]])
        >>> right = torch.zeros(2, 2, 2)  # no errors: each network sure of each label
        >>> held_out_votes(sees, right, torch.tensor([0, 1])).probability
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    if member_sees.dtype != torch.bool or errors.ndim != 3 or errors.shape[:2] != member_sees.shape:
        raise ValueError(
            f"expected member_sees (t, n) bool and errors (t, n, k), got {member_sees.dtype} "
            f"{tuple(member_sees.shape)} and {tuple(errors.shape)}"
        )
    if y.shape != member_sees.shape[1:]:
        raise ValueError(f"y: expected one label an example, ({member_sees.shape[1]},), got {tuple(y.shape)}")
    return votes([tally(member_sees, errors, y)])


def tally(member_sees: Tensor, errors: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, sum and sum of squares of what :func:`held_out_votes` averages, so that blocks of networks add up."""
    n, k = errors.shape[1:]
    label = torch.nn.functional.one_hot(y.long(), k).double()
    count, total, squares = torch.zeros(n, dtype=torch.float64), torch.zeros(n, k).double(), torch.zeros(n, k).double()
    for sees, error in zip(member_sees, errors, strict=True):
        softmax = torch.where(sees[:, None], 0.0, error.double() + label)
        count, total, squares = count + ~sees, total + softmax, squares + softmax**2
    return count, total, squares


def votes(tallies: list[tuple[Tensor, Tensor, Tensor]]) -> Votes:
    """The votes that some tallies add up to."""
    count, total, squares = (sum(parts) for parts in zip(*tallies, strict=True))
    mean = total / count[:, None]  # 0/0 = NaN
    variance = (squares / count[:, None] - mean**2).clamp_min(0.0)
    error = (variance / (count - 1).clamp_min(0.0)[:, None]).sqrt()
    return Votes(mean, torch.where(count[:, None] > 1, error, torch.nan), count.long())


def suggestions(judged: Votes, y: Tensor, *, sure: float = 0.5) -> pd.DataFrame:
    """A line an example: what its label should be by those who never saw it, and whether it is flagged.

    Args:
        judged: of :func:`held_out_votes`.
        y: labels ``(n,)``.
        sure: mean probability that another class must reach for a flag.

    Returns:
        By position: ``label, suggested`` (the likeliest class, −1 without votes), ``p_label, p_label_error,
        p_suggested``, ``doubt`` = 1 − p_label (NaN without votes), ``suspect`` (bool).
    """
    if not 0 < sure <= 1:
        raise ValueError(f"sure: expected a probability, 0 < sure ≤ 1, got {sure}")
    known = judged.networks > 0
    best, suggested = judged.probability.nan_to_num(-1.0).max(1)
    own = judged.probability.gather(1, y[:, None])[:, 0]
    columns = {
        "label": y, "suggested": torch.where(known, suggested, -1), "p_label": own,
        "p_label_error": judged.error.gather(1, y[:, None])[:, 0], "p_suggested": torch.where(known, best, torch.nan),
        "doubt": 1 - own, "suspect": known & (suggested != y) & (best >= sure),
    }  # fmt: skip
    return pd.DataFrame({name: value.numpy() for name, value in columns.items()})


def filled(score: Tensor) -> Tensor:
    """The score with its median where it has no value, so that such examples rank neither high nor low.

    Example:
        >>> filled(torch.tensor([1.0, torch.nan, 5.0, 2.0]))
        tensor([1., 2., 5., 2.])
    """
    return torch.where(score.isnan(), score.nanmedian(), score)


def detection(scores: dict, flipped: Tensor) -> pd.DataFrame:
    """How well each score tells flipped labels from the others, high = suspicious.

    Args:
        scores: name → ``(n,)``.
        flipped: ``(n,)`` bool.

    Returns:
        Best first: ``score, auroc, low, high`` (95%), ``precision`` among as many of the highest as labels were flipped
        (chance: their share).

    Raises:
        ValueError: if no label, or every label, was flipped, or a score has a NaN.
    """
    lines, flips = [], int(flipped.sum())
    for name, score in scores.items():
        value, (low, high) = stats.auroc(np.asarray(score), flipped.numpy())
        top = torch.as_tensor(np.asarray(score)).argsort(descending=True, stable=True)[:flips]
        lines.append((name, value, low, high, float(flipped[top].double().mean())))
    columns = ["score", "auroc", "low", "high", "precision"]
    return pd.DataFrame(lines, columns=columns).sort_values("auroc", ascending=False, ignore_index=True)


def probe(found: pd.DataFrame, flipped: Tensor, before: Tensor) -> Probe:
    """What the flags of :func:`suggestions` were worth where labels had been flipped; Wilson's 95% intervals.

    Args:
        found: of :func:`suggestions`, with the flipped labels as ``y``.
        flipped: ``(n,)`` bool.
        before: labels before, ``(n,)``.
    """
    flipped, flagged = flipped.numpy(), found.suspect.to_numpy()
    right = found.suggested.to_numpy() == before.numpy()
    share = lambda flags: stats.share(flags) if len(flags) else (np.nan, (0.0, 1.0))
    return Probe(
        share(flagged[flipped]), share(flagged[~flipped]), share(flipped[flagged]), share(right[flipped & flagged])
    )


def precision_at(measured: Probe, rate: float) -> float:
    """Share of flags that are right in data with a share ``rate`` of wrong labels, found as easily as the flipped.

        rate · found / (rate · found + (1 − rate) · alarms)

    On the careful side, as long as real errors are as easy to find as random flips: alarms count what was wrong before.

    Example:
        >>> sure = (0.9, (0.8, 0.95))
        >>> round(precision_at(Probe(sure, (0.01, (0.0, 0.02)), sure, sure), 0.01), 3)
        0.476
    """
    found, alarms = measured.found[0], measured.alarms[0]
    every = rate * found + (1 - rate) * alarms
    return rate * found / every if every else float("nan")


def most_wrong(flags: int, measured: Probe) -> float:
    """The most wrong labels that some number of flags leaves room for, were they found as easily as the flipped ones.

    The number u for which no more than ``flags`` Poisson events of mean u have a chance of 5%, over the lower end of
    the share found; infinite where nothing was surely found.

    Example:
        >>> surely = (1.0, (1.0, 1.0))
        >>> round(most_wrong(0, Probe(surely, surely, surely, surely)), 2)
        3.0
    """
    low = measured.found[1][0]
    return float(chi2.ppf(0.95, 2 * (flags + 1)) / 2 / low) if low > 0 else float("inf")
