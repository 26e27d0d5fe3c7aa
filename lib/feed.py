"""Which examples the members of a group meet at each step, and how they look.

Random numbers of a member with seed s, none of them shared: the order of its batches comes from
``numpy.random.default_rng([s, 0])``, augmentation from ``default_rng([s, 1])``. They are drawn on the CPU, so that they
are the same on every device.
"""

import itertools
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
    """A group's batches: inputs ``(E, B, …)``, targets ``(E, B, k)``, weights ``(E, B, 1)`` or 1/B, rows ``(E, B)``.

    Unseen rows are never drawn; only in masked and in full-batch training, which pass over all rows, do they get the
    weight 0. The mean is over B in masked training, and over the seen rows in full-batch training. A member's own
    weights of its rows multiply these.
    """

    def __init__(self, work: Work, members: Members, target: Tensor):
        self.work, self.target, self.size, n = work, target, len(members.seeds), len(work.x)
        sees, batch = members.sees, work.recipe.batch_size
        self.batch, self.weight = batch or n, 1 / (batch or n)
        if sees is not None and (work.masked or batch is None):
            counts = self.batch if work.masked else sees.sum(1)[:, None, None]
            self.weight = (sees[..., None].to(target.dtype) / counts).to(work.device)
        if members.weights is not None:
            self.weight = self.weight * members.weights[..., None].to(work.device, target.dtype)
        drawn = [np.arange(n)] * self.size if sees is None or work.masked else [np.flatnonzero(row) for row in sees]
        self.streams = [Stream(rows, self.batch, seed) for rows, seed in zip(drawn, members.seeds, strict=True)]
        self.shakers = [np.random.default_rng([seed, 1]) for seed in members.seeds]
        self.block = torch.arange(self.size, device=work.device)[:, None] * n  # a member's rows in a stack of all

    def skip(self, steps: int) -> None:
        """Draw the next batches without looking at them: what follows is what would have followed."""
        if self.work.recipe.batch_size:
            for stream in self.streams:
                stream.take(steps)
        if self.work.recipe.augment:
            self._shifts(steps)

    def take(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float, Tensor]]:
        """The next batches. Inputs and targets are overwritten by those of the next step."""
        batches = self._drawn(steps) if self.work.recipe.batch_size else self._everything(steps)
        if not self.work.recipe.augment:
            yield from batches
            return
        for shift, (x, *others) in zip(self._shifts(steps).flatten(1, 2), batches, strict=True):
            yield augmented(x.flatten(0, 1), self.work.recipe.augment, shift).view(x.shape), *others

    def _shifts(self, steps: int) -> Tensor:
        frame = [2 * PAD + 1, 2 * PAD + 1, 2]
        return self._stack([rng.integers(0, frame, (steps, self.batch, 3)) for rng in self.shakers])

    def _everything(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float, Tensor]]:
        """Full batches: all members look at the same rows, which are not copied."""
        x, target = self.work.x, self.target.expand(self.size, *self.target.shape[1:])
        rows = torch.arange(len(x), device=x.device).expand(self.size, -1)
        return itertools.repeat((x.expand(self.size, *x.shape), target, self.weight, rows), steps)

    def _drawn(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float, Tensor]]:
        order = self._stack([stream.take(steps) for stream in self.streams])  # (steps, E, B)
        rows, own = order.flatten(1), (order + self.block).flatten(1)  # in the data, and in a stack of E times the data
        x = self.work.x.new_empty(self.size, self.batch, *self.work.x.shape[1:])
        target = self.target.new_empty(self.size, self.batch, self.target.shape[-1])
        flat_x, flat_target, answers = x.flatten(0, 1), target.flatten(0, 1), self.target.flatten(0, 1)
        asked, weight = rows if len(self.target) == 1 else own, self.weight
        for i in range(steps):
            torch.index_select(self.work.x, 0, rows[i], out=flat_x)
            torch.index_select(answers, 0, asked[i], out=flat_target)
            if isinstance(self.weight, Tensor):
                weight = self.weight.flatten(0, 1)[own[i]].view(self.size, self.batch, 1)
            yield x, target, weight, order[i]

    def _stack(self, members: list[np.ndarray]) -> Tensor:
        """Per-member arrays ``(steps, …)`` as one tensor ``(steps, E, …)``."""
        return torch.from_numpy(np.stack(members, 1)).to(self.work.device)
