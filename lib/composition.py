"""Data sets put together on purpose: so many of each class, or two sources of one task in one form."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def drawn(y: Tensor, counts: Mapping[int, int], *, seed: int) -> Tensor:
    """Positions of so many random examples of each class, ascending.

    Args:
        y: labels ``(n,)``.
        counts: class → how many; a class that is not named gives none.

    Raises:
        ValueError: if a class has fewer.

    Example:
        >>> y = torch.tensor([0, 0, 0, 1, 1, 2])
        >>> y[drawn(y, {0: 1, 1: 2}, seed=0)]
        tensor([0, 1, 1])
    """
    rng, chosen = np.random.default_rng(seed), []
    for c, count in counts.items():
        rows = np.flatnonzero((y == c).numpy())
        if not 0 <= count <= len(rows):
            raise ValueError(f"counts: expected 0 to {len(rows)} examples of class {c}, got {count}")
        chosen.append(rng.permutation(rows)[:count])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def one_form(x: Tensor, *, box: int, side: int = 28) -> Tensor:
    """Images of any size and one or three channels as grey ones of ``side`` × ``side``, for two sources to share.

    Channels are averaged, the picture is brought to ``box`` × ``box`` (bilinear, antialiased) and stands in the middle
    of zeros. MNIST's digits fill 20 × 20 of 28 × 28, so 8 × 8 digits with ``box=20`` look like theirs, more coarsely.

    Args:
        x: ``(n, c, h, w)`` in [0, 1].

    Raises:
        ValueError: for another shape, or a box that does not fit.

    Example:
        >>> one_form(torch.ones(1, 3, 8, 8), box=20).shape
        torch.Size([1, 1, 28, 28])
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x must be (n, 1, h, w) or (n, 3, h, w), got {tuple(x.shape)}")
    if not 1 <= box <= side:
        raise ValueError(f"box must be between 1 and side = {side}, got {box}")
    grey = x.mean(1, keepdim=True)
    if grey.shape[-2:] != (box, box):
        grey = interpolate(grey, size=(box, box), mode="bilinear", antialias=True).clamp(0, 1)
    before, after = (side - box) // 2, side - box - (side - box) // 2
    return pad(grey, (before, after, before, after))
