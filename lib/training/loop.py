"""One group of networks trained side by side: their batches, the optimizer, what is recorded, and the loop over these.

Random numbers of a member with seed s, none of them shared: the order of its batches comes from
``numpy.random.default_rng([s, 0])``, augmentation from ``default_rng([s, 1])``. They are drawn on the CPU, so that they
are the same on every device.
"""

import copy
import itertools
import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lib.networks.models import initialize
from lib.networks.stacked import ROWS, Flat, losses, softmax, targets
from lib.training.recipe import Members, Recipe, Work, state_kinds, step_counts, step_range

PAD = 4  # pixels around an image that is cropped back to its size
BLOCK = 2**17  # numbers of a buffer updated at a time: a few such blocks fit a core's second cache


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

    ``shifts (b, 3)``: integers, rows and columns 0 … 8 (4 leaves the image where it is), mirrored 0 or 1.
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
        self.work, self.target, self.size, n, device = work, target, len(members.seeds), work.n, work.run.device
        sees, batch = members.sees, work.recipe.batch_size
        self.batch, self.weight = batch or n, 1 / (batch or n)
        if sees is not None and (work.masked or batch is None):
            counts = self.batch if work.masked else sees.sum(1)[:, None, None]
            self.weight = (sees[..., None].to(target.dtype) / counts).to(device)
        if members.weights is not None:
            self.weight = self.weight * members.weights[..., None].to(device, target.dtype)
        drawn = [np.arange(n)] * self.size if sees is None or work.masked else [np.flatnonzero(row) for row in sees]
        self.streams = [Stream(rows, self.batch, seed) for rows, seed in zip(drawn, members.seeds, strict=True)]
        self.shakers = [np.random.default_rng([seed, 1]) for seed in members.seeds]
        self.block = torch.arange(self.size, device=device)[:, None] * n  # a member's rows in a stack of all

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
        size = (steps, self.batch, 3)
        return self._stack([rng.integers(0, [2 * PAD + 1, 2 * PAD + 1, 2], size) for rng in self.shakers])

    def _everything(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float, Tensor]]:
        """Full batches: all members look at the same rows, which are not copied."""
        x, target = self.work.data.x_train, self.target.expand(self.size, *self.target.shape[1:])
        rows = torch.arange(len(x), device=x.device).expand(self.size, -1)
        return itertools.repeat((x.expand(self.size, *x.shape), target, self.weight, rows), steps)

    def _drawn(self, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor | float, Tensor]]:
        order = self._stack([stream.take(steps) for stream in self.streams])  # (steps, E, B)
        rows, stack_rows = order.flatten(1), (order + self.block).flatten(1)  # in the data; in E times the data
        everything, targets_of_all = self.work.data.x_train, self.target.flatten(0, 1)
        x = everything.new_empty(self.size, self.batch, *everything.shape[1:])
        target = self.target.new_empty(self.size, self.batch, self.target.shape[-1])
        flat_x, flat_target, weight = x.flatten(0, 1), target.flatten(0, 1), self.weight
        target_rows = rows if len(self.target) == 1 else stack_rows
        for i in range(steps):
            torch.index_select(everything, 0, rows[i], out=flat_x)
            torch.index_select(targets_of_all, 0, target_rows[i], out=flat_target)
            if isinstance(self.weight, Tensor):
                weight = self.weight.flatten(0, 1)[stack_rows[i]].view(self.size, self.batch, 1)
            yield x, target, weight, order[i]

    def _stack(self, members: list[np.ndarray]) -> Tensor:
        """Per-member arrays ``(steps, …)`` as one tensor ``(steps, E, …)``."""
        return torch.from_numpy(np.stack(members, 1)).to(self.work.run.device)


class Optimizer:
    """The update rules of ``lib.training.recipe`` on a group's flat buffers, with the penalty's gradient λ(w − w_ref).

    On a CPU a buffer is worked through in blocks, so that the operations of an update find a block in the cache.
    """

    def __init__(self, recipe: Recipe, net):
        self.recipe, self.t = recipe, 0
        self.folded = recipe.optimizer == "sgd" and not recipe.nesterov
        self.state = {kind: net.w.like() for kind in state_kinds(recipe)}  # velocity: for Adam the first moment
        self.g = self.state["velocity"] if self.folded else net.w.like()  # plain SGD gathers gradients in its velocity
        if "reference" in self.state:
            self.state["reference"].buffer.copy_(net.w.buffer)
        flats = [net.w, self.state["velocity"], self.g, self.state.get("second"), self.state.get("reference")]
        lone = self.folded and not recipe.weight_decay  # one operation has nothing to find in the cache
        size = BLOCK if net.w.buffer.device.type == "cpu" and not lone else len(net.w.buffer)
        split = [itertools.repeat(None) if flat is None else flat.buffer.split(size) for flat in flats]
        self.blocks = list(zip(*split, strict=False))

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from where another optimizer was, as it said in ``export``."""
        self.t = int(state["steps"][0])
        for kind, flat in self.state.items():
            for name, view in flat.views.items():
                view.copy_(state[f"{kind}:{name}"])

    def export(self) -> dict[str, Tensor]:
        """``kind:name`` → ``(E, *shape)`` and ``steps (E,)``, on the CPU."""
        vectors = {f"{kind}:{name}": v for kind, flat in self.state.items() for name, v in flat.views.items()}
        copies = {name: view.to("cpu", copy=True).contiguous() for name, view in vectors.items()}
        return copies | {"steps": torch.full((len(next(iter(copies.values()))),), self.t)}

    def step(self, add_gradient: Callable[[Flat, float], Tensor], lr: float) -> Tensor:
        """One update, where ``add_gradient(into, β)`` does ``into ← β·into + g``; returns what that returns."""
        self.t += 1
        logits = add_gradient(self.g, self.recipe.momentum if self.folded else 0.0)
        for w, v, g, s, reference in self.blocks:
            if self.recipe.weight_decay:  # the difference first: it is 0, not a rounding error, before the first step
                g.add_(w if reference is None else w - reference, alpha=self.recipe.weight_decay)
            self._update(w, v, g, s, lr)
        return logits

    def _update(self, w: Tensor, v: Tensor, g: Tensor, s: Tensor | None, lr: float) -> None:
        r = self.recipe
        if r.optimizer == "adam":
            v.lerp_(g, 1 - r.betas[0])
            s.mul_(r.betas[1]).addcmul_(g, g, value=1 - r.betas[1])
            root = torch.sqrt(s).div_(math.sqrt(1 - r.betas[1] ** self.t)).add_(r.eps)
            w.addcdiv_(v, root, value=-lr / (1 - r.betas[0] ** self.t))
        elif r.optimizer == "rmsprop":
            s.mul_(r.alpha).addcmul_(g, g, value=1 - r.alpha)
            w.sub_(v.mul_(r.momentum).addcdiv_(g, torch.sqrt(s).add_(r.eps)), alpha=lr)
        elif r.nesterov:
            v.mul_(r.momentum).add_(g)
            w.sub_(g.add_(v, alpha=r.momentum), alpha=lr)
        else:
            w.sub_(v, alpha=lr)


def correct(f: Tensor, y: Tensor, middle: Tensor) -> Tensor:
    """Whether each output ``(E, b, k)`` names the class of ``y (·, b[, k])``; one output is held against ``middle``."""
    if f.shape[-1] == 1:
        return (f[..., 0] > middle) == (y.reshape(*y.shape[:2]) > middle)
    return f.argmax(-1) == (y.argmax(-1) if y.is_floating_point() else y)


class Recorder:
    """Gathers what ``work.record`` asks for of the group ``net``, whose members pass over ``pool`` rows each.

    Names of the arrays: ``bits_train (E, T, ⌈n/8⌉)``, ``accuracy_train (E,)`` over the rows that were seen,
    ``loss_train (E, T, n)``, the same for ``test``, ``errors.EPOCH (E, n, k)``, ``checkpoint.EPOCH:NAME`` and
    ``final:NAME (E, …)``; ``bits_visits (E, passes, ⌈n/8⌉)``. A pass over a member's rows visits each of them once;
    passes that training begins or ends within are left out.
    """

    def __init__(self, work: Work, members: Members, net, y: Tensor, pool: int):
        self.work, self.net, self.last, data = work, net, work.span()[1], work.data
        self.sets = {"train": (data.x_train, y)}
        if data.x_test is not None:
            self.sets["test"] = data.x_test, data.y_test[None]
        self.seen = {"train": True if members.sees is None else members.sees.numpy(), "test": True}
        self.middle = (data.y_train.max() + data.y_train.min()) / 2  # between the classes of a network with one output
        self.moments, self.once = {}, {}  # name → arrays of one moment after another; name → array
        if work.record.visits:
            self.batch, self.pool, steps = work.recipe.batch_size or work.n, pool, step_range(work, pool)
            self.first = math.ceil(steps.start * self.batch / pool)
            end = max(self.first, steps.stop * self.batch // pool)
            self.range = self.first * pool, end * pool  # places in a member's stream of rows
            self.who = torch.arange(len(members.seeds), device=work.run.device)
            self.right = self.who.new_zeros(end - self.first, len(self.who), work.n, dtype=torch.bool)

    def take(self, epoch: int) -> None:
        """Look at the group at the end of ``epoch``, 0 being the start."""
        record, final = self.work.record, epoch == self.last
        kinds = [f"checkpoint.{epoch}"] * (epoch in record.checkpoints_at) + ["final"] * (final and record.parameters)
        for kind in kinds:
            self.once |= {f"{kind}:{name}": value.numpy() for name, value in self.net.export().items()}
        wanted = {"correct"} if final or record.correct == "epoch" else set()
        wanted |= {"loss"} if record.loss == "epoch" or (final and record.loss == "final") else set()
        for name, (x, y) in self.sets.items():
            errors = {"errors"} if name == "train" and epoch in record.errors_at else set()
            values = self._evaluate(x, y, wanted | errors)
            if "correct" in values:
                self.moments.setdefault(f"bits_{name}", []).append(np.packbits(values["correct"], axis=1))
            if "loss" in values:
                self.moments.setdefault(f"loss_{name}", []).append(values["loss"])
            if errors:
                self.once[f"errors.{epoch}"] = values["errors"]
            if final:
                seen = np.broadcast_to(self.seen[name], values["correct"].shape)
                self.once[f"accuracy_{name}"] = (values["correct"] & seen).sum(1) / seen.sum(1)

    def _evaluate(self, x: Tensor, y: Tensor, wanted: set[str]) -> dict[str, np.ndarray]:
        """Correctness, loss and errors of every example, a block of rows at a time."""
        blocks: dict[str, list] = {what: [] for what in wanted}
        for first in range(0, len(x) if wanted else 0, ROWS):
            f, labels = self.net.logits(x[first : first + ROWS]), y[:, first : first + ROWS]  # f (E, b, k)
            target = targets(labels, f.shape[-1], f.dtype)
            if "correct" in wanted:
                blocks["correct"].append(correct(f, labels, self.middle))
            if "loss" in wanted:
                blocks["loss"].append(losses(f, target, self.work.recipe.loss).float())
            if "errors" in wanted:
                blocks["errors"].append(((softmax(f) if f.shape[-1] > 1 else f) - target).float())
        return {what: torch.cat(parts, 1).cpu().numpy() for what, parts in blocks.items()}

    def visit(self, t: int, rows: Tensor, logits: Tensor, target: Tensor) -> None:
        """What step t saw: ``rows (E, B)``, ``logits`` and ``target (E, B, k)``, before its update."""
        begin, end = (min(max(0, place - t * self.batch), self.batch) for place in self.range)
        if begin < end:
            passes = (torch.arange(begin, end, device=rows.device) + t * self.batch) // self.pool - self.first
            right = correct(logits[:, begin:end], target[:, begin:end], self.middle)
            self.right[passes[:, None], self.who, rows[:, begin:end].T] = right.T

    def arrays(self) -> dict[str, np.ndarray]:
        if self.work.record.visits:
            self.once["bits_visits"] = np.packbits(self.right.transpose(0, 1).cpu().numpy(), axis=-1)
        return self.once | {name: np.stack(parts, 1) for name, parts in self.moments.items()}


@torch.no_grad()
def train_group(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train members that take equally many steps side by side; ``tick(E)`` is called after each. Returns the record."""
    recipe, data, size, (after, until) = work.recipe, work.data, len(members.seeds), work.span()
    net = work.group(size)
    for e, seed in enumerate(members.seeds):
        start = fresh(work.model, seed) | {name: value[e] for name, value in (members.parameters or {}).items()}
        for name, view in {**net.w.views, **net.buffers}.items():
            view[e].copy_(start[name])
    y = data.y_train[None] if members.labels is None else members.labels.to(work.run.device)
    feed = Feed(work, members, targets(y, net.logits(data.x_train[:1]).shape[-1], net.w.buffer.dtype))
    pool = len(feed.streams[0].rows) if recipe.batch_size else work.n
    steps, per_epoch = step_counts(recipe, pool, work.n)
    optimizer, recorder = Optimizer(recipe, net), Recorder(work, members, net, y, pool)
    if members.state is not None:
        optimizer.load(members.state)
    for epoch in range(after):  # the batches of the epochs before belong to them
        feed.skip(min(per_epoch, steps - epoch * per_epoch))
    recorder.take(after)
    for epoch in range(after + 1, until + 1):
        first = (epoch - 1) * per_epoch
        for t, (x, target, weight, rows) in enumerate(feed.take(min(per_epoch, steps - first)), start=first):
            add = lambda into, beta: net.gradient_(into, x, target, weight, recipe.loss, beta)  # noqa: B023
            logits = optimizer.step(add, recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch))
            if work.record.visits:
                recorder.visit(t, rows, logits, target)
            tick(size)
        recorder.take(epoch)
    state = {f"state.{name}": value.numpy() for name, value in optimizer.export().items()} if work.record.state else {}
    return recorder.arrays() | state


_drawing = threading.Lock()  # torch's initializers draw from the process's one generator


def fresh(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State of a copy of ``model`` with weights drawn from ``seed``: as if it had been built after seeding torch."""
    with _drawing:
        return {name: value.detach() for name, value in initialize(copy.deepcopy(model), seed).state_dict().items()}
