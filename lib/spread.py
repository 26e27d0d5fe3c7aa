"""Spread the members of an ensemble over groups, and the groups over the cores.

A group is what is computed side by side (``lib.descent``): small enough for the caches and for memory. Groups run on as
many threads as torch uses cores, one core each. Products split over cores wait for each other every half millisecond;
networks do not wait. And since a product on one core adds up in the same order whatever stands beside it, a member's
bits do not depend on its group.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from lib.costs import free_bytes
from lib.descent import train_group
from lib.feed import Feed
from lib.groups import Plain, Widened, rounded_products
from lib.optimizer import Optimizer
from lib.recording import ROWS, targets
from lib.work import Members, Work, step_counts, step_range

FREE_SHARE = 0.5  # of the free memory that groups may take
WIDE = 8  # networks with convolutions that go as one


def train_members(work: Work, members: Members, chunk: int, tick: Callable) -> dict[str, np.ndarray]:
    """Train all members on this machine, in groups of at most ``chunk``; arrays as in ``Recorder``, in their order."""
    work, kinds = work.placed(), {}
    for e, (seen, before) in enumerate(zip(_pool_sizes(work, members), members.steps_before(), strict=True)):
        kinds.setdefault((step_counts(work.recipe, seen, len(work.x)), before), []).append(e)
    cores = _cores(work)
    groups = [who for kind in kinds.values() for who in _cut(kind, chunk, cores)]
    with rounded_products(work.precision):
        parts = beside(lambda who, tick: train_group(work, members.pick(who), tick), groups, cores, work.layers, tick)
    order = np.argsort(np.concatenate(groups))
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def _pool_sizes(work: Work, members: Members) -> list[int]:
    """Rows from which each member's batches are drawn."""
    if work.masked or members.sees is None or work.recipe.batch_size is None:
        return [len(work.x)] * len(members.seeds)
    return members.sees.sum(1).tolist()


def total_steps(work: Work, members: Members) -> int:
    """Model-steps of all members together."""
    return sum(len(step_range(work, seen)) for seen in _pool_sizes(work, members))


def _cut(who: list[int], chunk: int, cores: int) -> list[list[int]]:
    """Groups of equal size, at most ``chunk``, their number a multiple of the cores where there are enough members."""
    count = min(len(who), cores * math.ceil(len(who) / (chunk * cores)))
    return [part.tolist() for part in np.array_split(who, count)]


def beside(call: Callable, jobs: list, cores: int, one_core: bool, tick=lambda steps: None) -> list:
    """``call(job, tick)`` for each job, on ``cores`` threads; the results in order. A failure stops the others."""
    workers, before = min(cores, len(jobs)), torch.get_num_threads()
    stop, lock = threading.Event(), threading.Lock()

    def checked(steps: int) -> None:
        if stop.is_set():
            raise InterruptedError
        with lock:
            tick(steps)

    with ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(1 if one_core else max(1, cores // workers),)
    ) as pool:
        try:
            return [future.result() for future in [pool.submit(call, job, checked) for job in jobs]]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(before)


def choose_chunk(work: Work, members: Members) -> int:
    """Size of a group: what fits in half of the free memory, and of that the fastest by a short measurement.

    Networks that go one after another anyway (``Plain``) get 1. Under 20,000 model-steps there is nothing to gain by
    measuring, and the answer is 8.
    """
    work = work.placed()
    net = work.group(1)
    if isinstance(net, Plain):
        return 1
    if isinstance(net, Widened):
        return WIDE
    limit = max(1, min(len(members.seeds), _fitting(work, net)))
    if total_steps(work, members) < 20_000:
        return min(8, limit)
    with rounded_products(work.precision):
        return _fastest(work, limit)


def _fitting(work: Work, net) -> int:
    """How many members fit, from their parameters, optimizer and activations."""
    item = net.w.buffer.element_size()
    vectors = 5  # weights, velocity, gradient, second moment, reference
    widths = sum(view.shape[1] for name, view in net.w.views.items() if view.ndim == 3) + work.x[0].numel()
    batch = work.recipe.batch_size or len(work.x)
    bytes_each = item * (vectors * net.w.buffer.numel() + 3 * widths * max(batch, ROWS))
    return int(FREE_SHARE * free_bytes(work.device) / _cores(work) / bytes_each)


def _cores(work: Work) -> int:
    """Groups at work at the same time."""
    return torch.get_num_threads() if torch.device(work.device).type == "cpu" else 1


def _fastest(work: Work, most: int) -> int:
    """Double the group while that makes a member's step at least 3% faster, on all cores at once."""
    best, least, size = 1, math.inf, 1
    while size <= most:
        try:
            seconds = max(beside(lambda size, _: _time_step(work, size), [size] * _cores(work), _cores(work), True))
        except torch.OutOfMemoryError:
            break
        if seconds / size < 0.97 * least:
            best, least = size, seconds / size
        elif size > 2 * best:
            break
        size *= 2
    return best


@torch.no_grad()
def _time_step(work: Work, size: int) -> float:
    """Seconds of one step of a group, the median of nine."""
    net = work.group(size)
    outputs = net.logits(work.x[:ROWS]).shape[-1]
    feed = Feed(work, Members(list(range(size))), targets(work.y[None], outputs, net.w.buffer.dtype))
    optimizer, times = Optimizer(work.recipe, net), []
    wait = torch.cuda.synchronize if torch.device(work.device).type == "cuda" else lambda: None
    for batch in feed.take(10):
        wait()
        times.append(time.perf_counter())
        optimizer.step(lambda into, beta: net.gradient_(into, *batch[:3], work.recipe.loss, beta), 0.0)  # noqa: B023
    return float(np.median(np.diff(times)))
