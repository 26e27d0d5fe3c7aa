"""Which examples the members of a group meet at each step, and how they look.

Random numbers of a member with seed s, none of them shared: the order of its batches comes from
``numpy.random.default_rng([s, 0])``, augmentation from ``default_rng([s, 1])``. They are drawn on the CPU, so that they
are the same on every device.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lib.work import Members, Work

PAD = 4  # pixels around an image that is cropped back to its size


class Stream:
    """The order in which a member meets its rows: permutation after permutation, cut into batches of equal size.

    A batch may span the end of a pass and the start of the next, so every batch is full and no row is dropped.

    Example:
        >>> sorted(Stream(np.arange(4), batch=2, seed=0).take(2).ravel().tolist())
        [0, 1, 2, 3]
    """

    def __init__(self, rows: np.ndarray, batch: int, seed: int):
        self.rows, self.batch, self.rng, self.left = rows, batch, np.random.default_rng([seed, 0]), rows[:0]

    def take(self, steps: int) -> np.ndarray:
        """The next batches, ``(steps, B)``."""
        short = steps * self.batch - len(self.left)
        passes = [self.rng.permutation(self.rows) for _ in range(math.ceil(short / len(self.rows)))]
        stream = np.concatenate([self.left, *passes])
        self.left = stream[steps * self.batch :]
        return stream[: steps * self.batch].reshape(steps, self.batch)


def augmented(x: Tensor, kind: str, shifts: Tensor) -> Tensor:
    """Images ``(b, c, h, w)`` mirrored (``flip``) and moved within a frame of 4 zeros (``crop``).

    Args:
        shifts: ``(b, 3)`` integers: rows and columns 0 … 8 (4 leaves the image where it is), mirrored 0 or 1.
    """
    b, c, h, w = x.shape
    rows, columns = (torch.arange(side, device=x.device).expand(b, side) for side in (h, w))
    if "crop" in kind:
        x = nn.functional.pad(x, [PAD] * 4)
        rows, columns = rows + shifts[:, :1], columns + shifts[:, 1:2]
    if "flip" in kind:
        columns = torch.where(shifts[:, 2:] == 1, columns.flip(1), columns)
    image, channel = torch.arange(b, device=x.device), torch.arange(c, device=x.device)
    return x[image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


class Feed:
    """The batches of a group: inputs ``(E, B, …)``, targets ``(E, B, k)`` and weights ``(E, B, 1)`` or 1/B.

    Unseen rows are never drawn; only in masked and in full-batch training, which pass over all rows, do they get the
    weight 0. The mean is over B in masked training, and over the seen rows in full-batch training.
    """

    def __init__(self, work: Work, members: Members, target: Tensor):
        self.work, self.target, self.size, n = work, target, len(members.seeds), len(work.x)
        sees, batch = members.sees, work.recipe.batch_size
        self.batch, self.weight = batch or n, 1 / (batch or n)
        if sees is not None and (work.masked or batch is None):
            counts = self.batch if work.masked else sees.sum(1)[:, None, None]
            self.weight = (sees[..., None].to(target.dtype) / counts).to(work.device)
        drawn = [np.arange(n)] * self.size if sees is None or work.masked else [np.flatnonzero(row) for row in sees]
        self.streams = [Stream(rows, self.batch, seed) for rows, seed in zip(drawn, members.seeds, strict=True)]
        self.shakers = [np.random.default_rng([seed, 1]) for seed in members.seeds]
        self.block = torch.arange(self.size, device=work.device)[:, None] * n  # a member's rows in a stack of all

    def take(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float]]:
        """The next batches. Inputs and targets are overwritten by those of the next step."""
        work, whole = self.work, (self.size, self.batch)
        shifts = (
            _stack([_shifts(rng, steps, self.batch) for rng in self.shakers], work) if work.recipe.augment else None
        )
        if work.recipe.batch_size is None:  # all members look at the same rows, which are not copied
            x, target, weight = work.x.expand(self.size, *work.x.shape), self.target.expand(*whole, -1), self.weight
        else:
            order = _stack([stream.take(steps) for stream in self.streams], work)
            rows, own = order.flatten(1), (order + self.block).flatten(1)  # (steps, E·B)
            x, target = (
                work.x.new_empty(*whole, *work.x.shape[1:]),
                self.target.new_empty(*whole, self.target.shape[-1]),
            )
            flat_x, flat_target = x.flatten(0, 1), target.flatten(0, 1)
            answers, weights = self.target.flatten(0, 1), self.weight
        for i in range(steps):
            if work.recipe.batch_size is not None:
                torch.index_select(work.x, 0, rows[i], out=flat_x)
                torch.index_select(answers, 0, (rows if len(self.target) == 1 else own)[i], out=flat_target)
                weight = weights if isinstance(weights, float) else weights.flatten(0, 1)[own[i]].view(*whole, 1)
            if shifts is None:
                yield x, target, weight
            else:
                moved = augmented(x.flatten(0, 1), work.recipe.augment, shifts[i].flatten(0, 1))
                yield moved.view(x.shape), target, weight


def _stack(members: list[np.ndarray], work: Work) -> Tensor:
    """Per-member arrays ``(steps, …)`` as one tensor ``(steps, E, …)``."""
    return torch.from_numpy(np.stack(members, 1)).to(work.device)


def _shifts(rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    return rng.integers(0, [2 * PAD + 1, 2 * PAD + 1, 2], (steps, batch, 3))
