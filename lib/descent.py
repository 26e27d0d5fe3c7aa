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
from lib.recording import Recorder, targets
from lib.work import Members, Work, step_counts


@torch.no_grad()
def train_group(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train members that take equally many steps side by side; ``tick(E)`` is called after each. Returns the record."""
    recipe, n = work.recipe, len(work.x)
    net = work.group(len(members.seeds))
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
