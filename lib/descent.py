"""One group of networks trained side by side: their batches, the optimizer, and what is recorded on the way.

Random numbers of a member with seed s, none of them shared: initial weights from ``torch.manual_seed(s)``, the order of
the batches from ``numpy.random.default_rng([s, 0])``, augmentation from ``default_rng([s, 1])``; all drawn on the CPU,
so that they are the same on every device.
"""

import copy
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lib.batched import Flat, group
from lib.models import initialize
from lib.recipe import Recipe, Record
from lib.recording import Recorder, targets

BLOCK = 2**17  # numbers of a buffer updated at a time: a few such blocks fit a core's second cache
PAD = 4  # pixels around an image that is cropped back to its size


@dataclass(frozen=True)
class Work:
    """What all members share."""

    model: nn.Module
    recipe: Recipe
    record: Record
    x: Tensor
    y: Tensor
    x_test: Tensor | None = None
    y_test: Tensor | None = None
    masked: bool = False
    precision: str = "float32"
    device: str = "cpu"
    layers: list | None = None  # ``lib.batched.chain(model)``

    def epochs(self) -> int:
        """The last epoch; the same for all members."""
        steps, per_epoch = step_counts(self.recipe, len(self.x), len(self.x))
        return math.ceil(steps / per_epoch)

    def placed(self) -> "Work":
        """With the data where, and in the type in which, it is computed with."""
        type_ = torch.bfloat16 if self.layers and self.precision == "bfloat16" else None
        type_ = type_ or (torch.float64 if self.precision == "float64" else torch.float32)
        place = lambda v: None if v is None else v.to(self.device, type_ if v.is_floating_point() else None)
        values = {name: place(getattr(self, name)) for name in ("x", "y", "x_test", "y_test")}
        return replace(self, **values)


@dataclass(frozen=True)
class Members:
    """What each member has of its own, E of each."""

    seeds: list[int]
    sees: Tensor | None = None  # (E, n) bool
    labels: Tensor | None = None  # (E, n)
    initial: dict[str, Tensor] | None = None  # (E, *shape)

    def pick(self, who: list[int]) -> "Members":
        return Members(
            [self.seeds[e] for e in who],
            None if self.sees is None else self.sees[who],
            None if self.labels is None else self.labels[who],
            None if self.initial is None else {name: value[who] for name, value in self.initial.items()},
        )


def step_counts(recipe: Recipe, seen: int, n: int) -> tuple[int, int]:
    """Steps in all and steps an epoch of a member that draws its batches from ``seen`` of n rows.

    With ``epochs``, ⌈seen/B⌉ an epoch; with ``iterations``, an epoch is ⌈n/B⌉ steps, so that members that see fewer
    rows are recorded, and their learning rate falls, at the same steps as the others. Full batch: one step an epoch.

    Example:
        >>> step_counts(Recipe(lr=0.1, epochs=3, batch_size=100), seen=250, n=1000)
        (9, 3)
    """
    rows = n if recipe.epochs is None else seen
    per_epoch = 1 if recipe.batch_size is None else math.ceil(rows / recipe.batch_size)
    return (recipe.iterations if recipe.epochs is None else recipe.epochs * per_epoch), per_epoch


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


class Optimizer:
    """The update rules of ``lib.recipe`` on the flat buffers of a group, with the penalty's gradient λ(w − w_ref).

    On a CPU a buffer is worked through in blocks, so that the operations of an update find a block in the cache.
    """

    def __init__(self, recipe: Recipe, net):
        self.recipe, self.t = recipe, 0
        self.folded = recipe.optimizer == "sgd" and not recipe.nesterov and net.low is None
        self.v = net.w.like()  # velocity, or Adam's first moment
        self.g = self.v if self.folded else (net.low or net.w).like()  # plain SGD gathers gradients in its velocity
        vectors = [net.w.buffer, self.v.buffer, self.g.buffer]
        vectors.append(None if recipe.optimizer == "sgd" else torch.zeros_like(net.w.buffer))
        vectors.append(net.w.buffer.clone() if recipe.weight_decay and recipe.decay_to == "init" else None)
        vectors.append(net.low and net.low.buffer)
        lone = self.folded and not recipe.weight_decay  # one operation has nothing to find in the cache
        size = BLOCK if net.w.buffer.device.type == "cpu" and not lone else len(net.w.buffer)
        split = [v.split(size) if v is not None else itertools.repeat(None) for v in vectors]
        self.blocks = list(zip(*split, strict=False))

    def step(self, add_gradient: Callable[[Flat, float], None], lr: float) -> None:
        """One update, where ``add_gradient(into, β)`` does ``into ← β·into + g``."""
        self.t += 1
        add_gradient(self.g, self.recipe.momentum if self.folded else 0.0)
        for w, v, g, s, reference, low in self.blocks:
            if self.recipe.weight_decay:
                g = _penalize(w, g, reference, self.recipe.weight_decay)
            self._update(w, v, g, s, lr)
            if low is not None:
                low.copy_(w)

    def _update(self, w: Tensor, v: Tensor, g: Tensor, s: Tensor | None, lr: float) -> None:
        r = self.recipe
        if r.optimizer == "adam":
            g = g.to(v.dtype)
            v.lerp_(g, 1 - r.betas[0])
            s.mul_(r.betas[1]).addcmul_(g, g, value=1 - r.betas[1])
            root = torch.sqrt(s).div_(math.sqrt(1 - r.betas[1] ** self.t)).add_(r.eps)
            w.addcdiv_(v, root, value=-lr / (1 - r.betas[0] ** self.t))
            return
        if r.optimizer == "rmsprop":
            g = g.to(v.dtype)
            s.mul_(r.alpha).addcmul_(g, g, value=1 - r.alpha)
            g = g / torch.sqrt(s).add_(r.eps)
        if not self.folded:
            torch.add(g, v, alpha=r.momentum, out=v)
        w.sub_(torch.add(g, v, alpha=r.momentum) if r.nesterov else v, alpha=lr)


def _penalize(w: Tensor, g: Tensor, reference: Tensor | None, decay: float) -> Tensor:
    """g + λ(w − w_ref), in place where g has the type of w."""
    return g.to(w.dtype).add_(w if reference is None else w - reference, alpha=decay)


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


@torch.no_grad()
def train_group(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train members that take equally many steps side by side; ``tick(E)`` is called after each. Returns the record."""
    recipe, n = work.recipe, len(work.x)
    net = group(work.model, len(members.seeds), precision=work.precision, device=work.device, layers=work.layers)
    _start(net, work.model, members)
    y = work.y[None] if members.labels is None else members.labels.to(work.device)
    feed = Feed(work, members, targets(y, net.logits(work.x[:1]).shape[-1], net.w.buffer.dtype))
    steps, per_epoch = step_counts(recipe, len(feed.streams[0].rows), n)
    optimizer, recorder = Optimizer(recipe, net), Recorder(work, net, y, members.sees, work.epochs())
    recorder.take(0)
    for epoch in range(1, work.epochs() + 1):
        first = (epoch - 1) * per_epoch
        for t, (x, target, weight) in enumerate(feed.take(min(per_epoch, steps - first)), start=first):
            add = lambda into, beta: net.gradient_(into, x, target, weight, recipe.loss, beta)  # noqa: B023
            optimizer.step(add, recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch))
            tick(len(members.seeds))
        recorder.take(epoch)
    return recorder.arrays()


def _stack(members: list[np.ndarray], work: Work) -> Tensor:
    """Per-member arrays ``(steps, …)`` as one tensor ``(steps, E, …)``."""
    return torch.from_numpy(np.stack(members, 1)).to(work.device)


def _shifts(rng: np.random.Generator, steps: int, batch: int) -> np.ndarray:
    return rng.integers(0, [2 * PAD + 1, 2 * PAD + 1, 2], (steps, batch, 3))


def _start(net, model: nn.Module, members: Members) -> None:
    for e, seed in enumerate(members.seeds):
        state = fresh(model, seed)
        if members.initial is not None:
            state |= {name: value[e] for name, value in members.initial.items()}
        for name, view in {**net.w.views, **net.buffers}.items():
            view[e].copy_(state[name])
    if net.low is not None:
        net.low.buffer.copy_(net.w.buffer)


_drawing = threading.Lock()  # torch's initializers draw from the process's one generator


def fresh(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State of a copy of ``model`` with weights drawn from ``seed``: as if it had been built after seeding torch."""
    with _drawing:
        return {name: value.detach() for name, value in initialize(copy.deepcopy(model), seed).state_dict().items()}
