"""One group of networks trained side by side."""

import copy
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lib.feed import Feed
from lib.models import initialize
from lib.optimizer import Optimizer
from lib.recording import Recorder, Visits, targets
from lib.work import Members, Work, step_counts, step_range


@torch.no_grad()
def train_group(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train members that take equally many steps side by side; ``tick(E)`` is called after each. Returns the record."""
    recipe, n = work.recipe, len(work.x)
    net = work.group(len(members.seeds))
    _start(net, work.model, members)
    y = work.y[None] if members.labels is None else members.labels.to(work.device)
    feed = Feed(work, members, targets(y, net.logits(work.x[:1]).shape[-1], net.w.buffer.dtype))
    pool, (start, stop) = len(feed.streams[0].rows) if recipe.batch_size else n, work.span()
    steps, per_epoch = step_counts(recipe, pool, n)
    optimizer, recorder = Optimizer(recipe, net), Recorder(work, net, y, members.sees, stop)
    if members.state is not None:
        optimizer.load(members.state)
    visits = Visits(work, members, pool, step_range(work, pool)) if work.record.visits else None
    for epoch in range(start):  # the batches of the epochs before belong to them
        feed.skip(min(per_epoch, steps - epoch * per_epoch))
    recorder.take(start)
    for epoch in range(start + 1, stop + 1):
        first = (epoch - 1) * per_epoch
        for t, (x, target, weight, rows) in enumerate(feed.take(min(per_epoch, steps - first)), start=first):
            add = lambda into, beta: net.gradient_(into, x, target, weight, recipe.loss, beta)  # noqa: B023
            logits = optimizer.step(add, recipe.lr * recipe.factor(t, steps=steps, per_epoch=per_epoch))
            if visits:
                visits.take(t, rows, logits, target)
            tick(len(members.seeds))
        recorder.take(epoch)
    state = {f"state.{name}": value.numpy() for name, value in optimizer.export().items()} if work.record.state else {}
    return recorder.arrays() | (visits.arrays() if visits else {}) | state


def _start(net, model: nn.Module, members: Members) -> None:
    for e, seed in enumerate(members.seeds):
        state = fresh(model, seed)
        if members.initial is not None:
            state |= {name: value[e] for name, value in members.initial.items()}
        for name, view in {**net.w.views, **net.buffers}.items():
            view[e].copy_(state[name])


_drawing = threading.Lock()  # torch's initializers draw from the process's one generator


def fresh(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """State of a copy of ``model`` with weights drawn from ``seed``: as if it had been built after seeding torch."""
    with _drawing:
        return {name: value.detach() for name, value in initialize(copy.deepcopy(model), seed).state_dict().items()}
