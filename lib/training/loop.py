"""One group of networks trained side by side: their batches, the optimizer, what is recorded, and the loop over these.

A step (gather, augmentation, forward, backward, update) reads and writes tensors that stay where they are: those of a
``Stepper``. On a GPU its hundreds of kernels are captured as one graph, once for a shape, and launched by one call, for
whatever members have been copied in. On a CPU the same function is called.

Random numbers of a member with seed s, none of them shared: the order of its batches comes from
``numpy.random.default_rng([s, 0])``, augmentation from ``default_rng([s, 1])``. They are drawn on the CPU, so that they
are the same on every device.
"""

import copy
import itertools
import math
import threading
import warnings
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
    """What a group meets: rows ``(E, B)`` and shifts ``(E·B, 3)`` (``None`` unless augmented), step after step.

    Unseen rows are never drawn, except in masked and in full-batch training, which pass over all rows.
    """

    def __init__(self, work: Work, members: Members):
        self.work, n, sees = work, work.n, members.sees
        self.batch, self.size = work.recipe.batch_size or n, len(members.seeds)
        apart = sees is not None and not work.masked and work.recipe.batch_size is not None
        drawn = [np.flatnonzero(row) for row in sees] if apart else [np.arange(n)] * self.size
        self.streams = [Stream(rows, self.batch, seed) for rows, seed in zip(drawn, members.seeds, strict=True)]
        self.shakers = [np.random.default_rng([seed, 1]) for seed in members.seeds]

    def skip(self, steps: int) -> None:
        """Draw the next batches without looking at them: what follows is what would have followed."""
        if self.work.recipe.batch_size:
            for stream in self.streams:
                stream.take(steps)
        if self.work.recipe.augment:
            self._shifts(steps)

    def take(self, steps: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The next steps' rows and shifts, on the device: one transfer for all of them."""
        if self.work.recipe.batch_size:
            rows = self._stack([stream.take(steps) for stream in self.streams])
        else:
            rows = torch.arange(self.batch, device=self.work.run.device).expand(steps, self.size, -1)
        shifts = self._shifts(steps).flatten(1, 2) if self.work.recipe.augment else itertools.repeat(None)
        yield from zip(rows, shifts, strict=False)

    def _shifts(self, steps: int) -> Tensor:
        size = (steps, self.batch, 3)
        return self._stack([rng.integers(0, [2 * PAD + 1, 2 * PAD + 1, 2], size) for rng in self.shakers])

    def _stack(self, members: list[np.ndarray]) -> Tensor:
        """Per-member arrays ``(steps, …)`` as one tensor ``(steps, E, …)``."""
        return torch.from_numpy(np.stack(members, 1)).to(self.work.run.device)


class Optimizer:
    """The update rules of ``lib.training.recipe`` on a group's flat buffers, with the penalty's gradient λ(w − w_ref).

    On a CPU a buffer is worked through in blocks, so that the operations of an update find a block in the cache.
    """

    def __init__(self, recipe: Recipe, net):
        self.recipe, self.net, self.t = recipe, net, 0
        self.folded = recipe.optimizer == "sgd" and not recipe.nesterov
        self.state = {kind: net.w.like() for kind in state_kinds(recipe)}  # velocity: for Adam the first moment
        self.g = self.state["velocity"] if self.folded else net.w.like()  # plain SGD gathers gradients in its velocity
        flats = [net.w, self.state["velocity"], self.g, self.state.get("second"), self.state.get("reference")]
        lone = self.folded and not recipe.weight_decay  # one operation has nothing to find in the cache
        size = BLOCK if net.w.buffer.device.type == "cpu" and not lone else len(net.w.buffer)
        split = [itertools.repeat(None) if flat is None else flat.buffer.split(size) for flat in flats]
        self.blocks = list(zip(*split, strict=False))

    def load(self, state: dict[str, Tensor] | None) -> None:
        """Go on from where another optimizer was, as it said in ``export``; at rest if it is None."""
        self.t = int(state["steps"][0]) if state else 0
        self.g.buffer.zero_()
        for kind, flat in self.state.items():
            flat.buffer.copy_(self.net.w.buffer) if kind == "reference" else flat.buffer.zero_()
            for name, view in flat.views.items() if state else ():
                view.copy_(state[f"{kind}:{name}"])

    def export(self) -> dict[str, Tensor]:
        """``kind:name`` → ``(E, *shape)`` and ``steps (E,)``, on the CPU."""
        vectors = {f"{kind}:{name}": v for kind, flat in self.state.items() for name, v in flat.views.items()}
        copies = {name: view.to("cpu", copy=True).contiguous() for name, view in vectors.items()}
        return copies | {"steps": torch.full((len(next(iter(copies.values()))),), self.t)}

    def rate(self, lr: float) -> tuple[float, float]:
        """For the next step: η, with Adam's correction of the first moment, and √ of that of the second."""
        self.t += 1
        first, second = (1 - beta**self.t for beta in self.recipe.betas)
        return (lr / first, math.sqrt(second)) if self.recipe.optimizer == "adam" else (lr, 1.0)

    def step(self, add_gradient: Callable[[Flat, float], Tensor], rate: tuple | Tensor) -> Tensor:
        """One update, where ``add_gradient(into, β)`` does ``into ← β·into + g``; returns what that returns."""
        logits = add_gradient(self.g, self.recipe.momentum if self.folded else 0.0)
        for w, v, g, s, reference in self.blocks:
            if self.recipe.weight_decay:  # the difference first: it is 0, not a rounding error, before the first step
                g.add_(w if reference is None else w - reference, alpha=self.recipe.weight_decay)
            self._update(w, v, g, s, *rate)
        return logits

    def _update(self, w: Tensor, v: Tensor, g: Tensor, s: Tensor | None, lr, correction) -> None:
        r = self.recipe
        if r.optimizer == "adam":
            v.lerp_(g, 1 - r.betas[0])
            s.mul_(r.betas[1]).addcmul_(g, g, value=1 - r.betas[1])
            root = torch.sqrt(s).div_(correction).add_(r.eps)
            descend(w, v.div(root), lr) if isinstance(lr, Tensor) else w.addcdiv_(v, root, value=-lr)
        elif r.optimizer == "rmsprop":
            s.mul_(r.alpha).addcmul_(g, g, value=1 - r.alpha)
            descend(w, v.mul_(r.momentum).addcdiv_(g, torch.sqrt(s).add_(r.eps)), lr)
        elif r.nesterov:
            v.mul_(r.momentum).add_(g)
            descend(w, g.add_(v, alpha=r.momentum), lr)
        else:
            descend(w, v, lr)


def descend(w: Tensor, direction: Tensor, lr: float | Tensor) -> None:
    """``w ← w − lr · direction``; a rate on the device is read there, whenever a captured step is replayed."""
    w.addcmul_(direction, lr, value=-1) if isinstance(lr, Tensor) else w.sub_(direction, alpha=lr)


def correct(f: Tensor, y: Tensor, middle: Tensor) -> Tensor:
    """Whether each output ``(E, b, k)`` names the class of ``y (·, b[, k])``; one output is held against ``middle``.

    What is not finite, as after a diverged training, names none.
    """
    if f.shape[-1] == 1:
        right = (f[..., 0] > middle) == (y.reshape(*y.shape[:2]) > middle)
    else:
        right = f.argmax(-1) == (y.argmax(-1) if y.is_floating_point() else y)
    return right & f.isfinite().all(-1)


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
            target = targets(labels, f.shape[-1], torch.float64)  # in float32 1 − p of the surely right is rounding
            if "correct" in wanted:
                blocks["correct"].append(correct(f, labels, self.middle))
            if "loss" in wanted:
                blocks["loss"].append(losses(f.double(), target, self.work.recipe.loss).float())
            if "errors" in wanted:
                blocks["errors"].append(((softmax(f.double()) if f.shape[-1] > 1 else f) - target).float())
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


class Captured:
    """``step(*inputs)`` as one graph of a GPU's kernels. Each call copies its inputs to where the graph reads them.

    The step runs three times first, on ``inputs``, so that libraries have chosen and allocated what they need. What it
    returns is overwritten by the next call.
    """

    def __init__(self, step: Callable, inputs: list[Tensor]):
        self.inputs, cudnn = inputs, torch.backends.cudnn
        same_sums = cudnn.flags(enabled=True, deterministic=True, allow_tf32=cudnn.allow_tf32)
        here = torch.cuda.current_stream(inputs[0].device)
        with torch.cuda.device(inputs[0].device), torch.cuda.stream(here), same_sums:  # also where it fails
            beside = torch.cuda.Stream()
            beside.wait_stream(here)
            with torch.cuda.stream(beside):
                for _ in range(3):
                    step(*inputs)
            here.wait_stream(beside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=beside):
                self.outputs = step(*inputs)

    def __call__(self, *inputs: Tensor):
        torch._foreach_copy_(self.inputs, list(inputs))
        self.graph.replay()
        return self.outputs


def captures(device) -> bool:
    """Whether steps are captured on this device."""
    return torch.device(device).type == "cuda"


class Stepper:
    """E networks, their optimizer and the step that they take together.

    Weights of rows are 1/B, or ``(E, n, 1)``: 0 for unseen rows of masked and full-batch training. The mean is over B
    in masked training, over the seen rows in full-batch training. A member's own weights of its rows multiply these.
    """

    def __init__(self, work: Work, members: Members):
        self.work, self.size, device = work, len(members.seeds), work.run.device
        self.net = work.group(self.size)
        self.optimizer, self.graph = Optimizer(work.recipe, self.net), None
        self.block = torch.arange(self.size, device=device)[:, None] * work.n  # a member's rows in a stack of all
        if work.recipe.batch_size:
            shape = self.size, work.recipe.batch_size
            self.x = work.data.x_train.new_empty(*shape, *work.data.x_train.shape[1:])
            self.y = self.net.w.buffer.new_empty(*shape, work.outputs)
        if captures(device):
            self.own(members)
            inputs = next(Feed(work, members).take(1))
            rate = torch.zeros(2, dtype=self.net.w.buffer.dtype, device=device)
            try:
                self.graph = Captured(self._step, [part.clone() for part in (*inputs, rate) if part is not None])
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                warnings.warn(f"a step cannot be captured ({error}): each kernel is launched by itself", stacklevel=2)

    def own(self, members: Members) -> None:
        """Labels, targets ``(E or 1, n, k)`` and weights of the rows, in the place of those of members before."""
        data, device, dtype, masked = self.work.data, self.work.run.device, self.net.w.buffer.dtype, self.work.masked
        sees, batch = members.sees, self.work.recipe.batch_size
        weight = 1 / (batch or self.work.n)
        if sees is not None and (masked or batch is None):
            counts = (batch or self.work.n) if masked else sees.sum(1)[:, None, None]
            weight = (sees[..., None].to(dtype) / counts).to(device)
        if members.weights is not None:
            weight = weight * members.weights[..., None].to(device, dtype)
        self.labels = data.y_train[None] if members.labels is None else members.labels.to(device)
        for name, new in {"target": targets(self.labels, self.work.outputs, dtype), "weight": weight}.items():
            held = getattr(self, name, None)
            setattr(self, name, held.copy_(new) if isinstance(held, Tensor) else new)

    def load(self, members: Members) -> None:
        """What they have of their own: data, weights from their seeds or where they say, the optimizer's state."""
        self.own(members)
        for e, seed in enumerate(members.seeds):
            start = fresh(self.work.model, seed) | {name: v[e] for name, v in (members.parameters or {}).items()}
            for name, view in {**self.net.w.views, **self.net.buffers}.items():
                view[e].copy_(start[name])
        self.optimizer.load(members.state)
        self.net.logits(self.work.data.x_train[:1])  # which looks once whether the networks are apart

    def rates(self, lrs: list[float]) -> list[tuple[float, float]] | Tensor:
        """Of the next steps, as ``step`` takes them."""
        rates = [self.optimizer.rate(lr) for lr in lrs]
        w = self.net.w.buffer
        return torch.tensor(rates, dtype=w.dtype, device=w.device) if self.graph else rates

    def step(self, rows: Tensor, shift: Tensor | None, rate) -> tuple[Tensor, Tensor]:
        """One step of all; the logits before it and their targets, ``(E, B, k)``, until the next."""
        inputs = [rows, rate] if shift is None else [rows, shift, rate]
        return self.graph(*inputs) if self.graph else self._step(*inputs)

    def _step(self, rows: Tensor, *more) -> tuple[Tensor, Tensor]:
        recipe, data, (*shift, rate) = self.work.recipe, self.work.data, more
        weight, everything = self.weight, data.x_train
        if recipe.batch_size:
            stack_rows = (rows + self.block).flatten()  # in E times the data
            torch.index_select(everything, 0, rows.flatten(), out=self.x.flatten(0, 1))
            target_rows = rows.flatten() if len(self.target) == 1 else stack_rows
            torch.index_select(self.target.flatten(0, 1), 0, target_rows, out=self.y.flatten(0, 1))
            x, target = self.x, self.y
            if isinstance(weight, Tensor):
                weight = weight.flatten(0, 1).index_select(0, stack_rows).view(*rows.shape, 1)
        else:  # all members look at the same rows, which are not copied
            x, target = everything.expand(self.size, *everything.shape), self.target.expand(self.size, -1, -1)
        if shift:
            x = augmented(x.flatten(0, 1), recipe.augment, *shift).view(x.shape)
        add = lambda into, beta: self.net.gradient_(into, x, target, weight, recipe.loss, beta)
        return self.optimizer.step(add, rate), target


@torch.no_grad()
def train_group(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train members that take equally many steps side by side; ``tick(E)`` is called after each. Returns the record."""
    recipe, size, (after, until) = work.recipe, len(members.seeds), work.span()
    kept, feed = work.steppers if captures(work.run.device) else {}, Feed(work, members)
    stepper = kept[size] = kept.get(size) or Stepper(work, members)
    stepper.load(members)
    pool = len(feed.streams[0].rows)
    steps, per_epoch = step_counts(recipe, pool, work.n)
    recorder = Recorder(work, members, stepper.net, stepper.labels, pool)
    for epoch in range(after):  # the batches of the epochs before belong to them
        feed.skip(min(per_epoch, steps - epoch * per_epoch))
    recorder.take(after)
    for epoch in range(after + 1, until + 1):
        first = (epoch - 1) * per_epoch
        places = range(first, first + min(per_epoch, steps - first))
        rates = stepper.rates([recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch) for t in places])
        for t, (rows, shift), rate in zip(places, feed.take(len(places)), rates, strict=True):
            logits, target = stepper.step(rows, shift, rate)
            if work.record.visits:
                recorder.visit(t, rows, logits, target)
            tick(size)
        recorder.take(epoch)
    state = stepper.optimizer.export() if work.record.state else {}
    return recorder.arrays() | {f"state.{name}": value.numpy() for name, value in state.items()}


_drawing = threading.Lock()  # torch's initializers draw from the process's one generator


def fresh(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State of a copy of ``model`` with weights drawn from ``seed``: as if it had been built after seeding torch."""
    with _drawing:
        return {name: value.detach() for name, value in initialize(copy.deepcopy(model), seed).state_dict().items()}
