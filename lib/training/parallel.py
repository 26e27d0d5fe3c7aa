"""Spread the members of an ensemble over groups, and the groups over the cores.

A group is what is computed side by side (``lib.training.loop``): small enough for the caches and for memory. Groups run on as
many threads as torch uses cores, one core each. Products split over cores wait for each other every half millisecond;
networks do not wait. And since a product on one core adds up in the same order whatever stands beside it, a member's
bits do not depend on its group.
"""

import contextlib
import copy
import hashlib
import math
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import torch
from distributed.protocol.pickle import dumps, loads
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib.costs import free_bytes
from lib.networks.stacked import ROWS, Modules, targets
from lib.training.loop import Feed, Optimizer, fresh, train_group
from lib.training.recipe import Members, Work, step_counts, step_range

FREE_SHARE = 0.5  # of the free memory that groups may take
WIDE = 8  # networks with convolutions that go as one


def train_members(work: Work, members: Members, chunk: int, tick: Callable) -> dict[str, np.ndarray]:
    """Train all members on this machine, in groups of at most ``chunk``; arrays as in ``Recorder``, in their order."""
    work, kinds = work.placed(), {}
    for e, (seen, before) in enumerate(zip(_pool_sizes(work, members), members.steps_before(), strict=True)):
        kinds.setdefault((step_counts(work.recipe, seen, len(work.x)), before), []).append(e)
    cores = _cores(work)
    groups = [who for kind in kinds.values() for who in _cut(kind, chunk, cores)]
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

    Networks that go one after another anyway get 1, and those that go as one 8. Under 20,000 model-steps there is
    nothing to gain by measuring, and the answer is 8.
    """
    work = work.placed()
    net = work.group(1)
    if isinstance(net, Modules):
        return WIDE if net.wide else 1
    limit = max(1, min(len(members.seeds), _fitting(work, net)))
    if total_steps(work, members) < 20_000:
        return min(8, limit)
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


# --- shards ---------------------------------------------------------------------------------------------------------
#
# Shards: what is stored, resumed and sent to another machine.
#
# A shard is a number of consecutive members, about 15 s of work. Its size is decided by the work alone, so that a run
# resumes whatever the machine has free, and more members go on from the shards that there are.


VERSION = 1  # of what a shard holds: raise it when the same arguments give other numbers
SHARD_WORK = 3e12  # floating-point operations
SHARD_MEMBERS = 64


def shard_size(work: Work) -> int:
    """Members in a shard: about ``SHARD_WORK`` operations, were all rows seen, 3 forward passes a step; 1 to 64."""
    probe, x = copy.deepcopy(work.model).cpu().float().eval(), work.x[:1].cpu().float()
    with FlopCounterMode(display=False) as count, torch.no_grad():
        probe(x)
    each = 3 * count.get_total_flops() * (work.recipe.batch_size or len(work.x)) * len(step_range(work, len(work.x)))
    return int(min(SHARD_MEMBERS, max(1, SHARD_WORK // max(1, each))))


def digest(*tensors: Tensor | None) -> str:
    """SHA-256 of tensors' types, shapes and values."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(b"-" if tensor is None else f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor is not None:
            sha.update(np.ascontiguousarray(tensor.cpu().numpy()).view(np.uint8).reshape(-1))
    return sha.hexdigest()


def key_of(work: Work) -> dict:
    """What the result of a shard depends on, its members apart.

    The network is known by its text and by what it computes from fixed weights, to six digits. What was not asked for
    is not named, so that a new option leaves the shards of old questions valid.
    """
    asked = {"span": None if (work.start, work.stop) == (0, None) else list(work.span()), "wide": work.wide or None}
    record = {name: value for name, value in asdict(work.record).items() if name not in ("visits", "state") or value}
    model = copy.deepcopy(work.model).double().cpu()
    model.load_state_dict({name: value.double() for name, value in fresh(work.model, 0).items()})
    with torch.no_grad():
        outputs = model.eval()(work.x[:2].cpu().double()).flatten().tolist()
    return {
        "function": "lib.ensemble.train", "version": VERSION,
        "data": digest(work.x, work.y, work.x_test, work.y_test),
        "model": repr(work.model), "outputs": [f"{value:.5e}" for value in outputs],
        "recipe": asdict(work.recipe), "record": record, "masked": work.masked,
        "precision": work.precision, "device": torch.device(work.device).type,
        **{name: value for name, value in asked.items() if value is not None},
    }  # fmt: skip


def train_shards(
    work: Work, members: Members, *, chunk: int | None, store, scheduler, tick: Callable[[int], None]
) -> tuple[list[dict], int]:
    """Train everything, shard by shard where there is a ``store`` or ``scheduler``; the shards, and the steps taken."""
    everyone = list(range(len(members.seeds)))
    if store is None and scheduler is None:
        return [train_members(work, members, chunk or choose_chunk(work, members), tick)], total_steps(work, members)
    size = shard_size(work)
    shards = [members.pick(everyone[at : at + size]) for at in range(0, len(everyone), size)]
    done: dict[int, dict] = {}
    if store is not None:
        common = key_of(work)
        keys = [{**common, "members": _digest_members(shard)} for shard in shards]
        for i, key in enumerate(keys):
            if (arrays := store.get(key)) is not None:
                done[i] = arrays
                tick(total_steps(work, shards[i]))
    missing = [i for i in range(len(shards)) if i not in done]
    if scheduler is not None:
        results = _through_dask(work, {i: shards[i] for i in missing}, chunk, scheduler, tick)
    else:
        chunk = chunk or (choose_chunk(work, members) if missing else 1)
        results = ((i, train_members(work, shards[i], chunk, tick)) for i in missing)
    for i, arrays in results:
        done[i] = arrays
        if store is not None:
            store.put(keys[i], arrays)
    return [done[i] for i in range(len(shards))], sum(total_steps(work, shards[i]) for i in missing)


def _digest_members(shard: Members) -> str:
    initial = shard.initial or {}
    parts = [torch.tensor(shard.seeds), shard.sees, shard.labels, *(initial[name] for name in sorted(initial))]
    known = digest(*parts) + "".join(f":{name}" for name in sorted(initial))
    more = {"weights": shard.weights} if shard.weights is not None else {}
    more |= {f"state.{name}": value for name, value in sorted((shard.state or {}).items())}
    return known + (f"+{digest(*more.values())}:{':'.join(more)}" if more else "")


def _through_dask(work: Work, shards: dict[int, Members], chunk, scheduler, tick) -> Iterator[tuple[int, dict]]:
    """Shards and their arrays as the workers of a Dask scheduler finish them.

    What all shards share is itself a task, so that a worker that has lost it gets it again from the scheduler. A shard
    whose worker dies is given to another; each is yielded once.
    """
    from distributed import Client, LocalCluster, as_completed

    with contextlib.ExitStack() as stack:
        if scheduler == "local":
            scheduler = stack.enter_context(
                LocalCluster(n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address=None)
            )
        client = scheduler if isinstance(scheduler, Client) else stack.enter_context(Client(scheduler))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            shared = client.submit(_same, work, pure=False)
        number = {client.submit(_on_worker, shared, shard, chunk, pure=False): i for i, shard in shards.items()}
        for future, arrays in as_completed(list(number), with_results=True):
            i = number.pop(future)
            future.release()
            tick(total_steps(work, shards[i]))
            yield i, arrays


def _same(work: Work) -> Work:
    return work


def _on_worker(work: Work, members: Members, chunk: int | None) -> dict[str, np.ndarray]:
    return train_members(work, members, chunk or choose_chunk(work, members), lambda steps: None)


# --- processes ------------------------------------------------------------------------------------------------------
#
# Jobs beside each other where threads would wait for one another: many small steps, most of their time in Python.
#
# A thread that starts an operation of ten microseconds gives up the interpreter and must get it back; two threads that do
# so all the time finish hardly sooner than one. Processes share nothing.


def each_in_a_process(call: Callable, jobs: list[tuple]) -> list:
    """``call(*job)`` for each job, in as many processes as torch has threads, one core each; the results in order.

    ``call`` may be defined in a notebook: it goes over by value, with what it refers to. Results must be picklable.
    With one thread, or one job, all is done here. A script that calls this needs ``if __name__ == "__main__"``.

    Example:
        >>> each_in_a_process(lambda a, b: a + b, [(1, 2)])
        [3]
    """
    cores = min(torch.get_num_threads(), len(jobs))
    if cores < 2:
        return [call(*job) for job in jobs]
    text, spawn = dumps(call), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, initializer=_alone, initargs=(warnings.filters,)) as pool:
        return [future.result() for future in [pool.submit(_called, text, job) for job in jobs]]


def _alone(filters: list) -> None:
    torch.set_num_threads(1)
    warnings.filters[:] = filters


def _called(text: bytes, job: tuple):
    return loads(text)(*job)
