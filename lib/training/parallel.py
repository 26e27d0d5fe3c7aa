"""The members of an ensemble in groups, the groups over the cores; shards that are stored, resumed and sent away.

A *group* is what is computed side by side: small enough for the caches and for memory. Groups run on as many threads as
torch uses cores, one core each: products split over cores wait for each other every half millisecond, networks do not.
A product on one core adds up in the same order whatever stands beside it, so a member depends on its group by rounding
at most, where another size moves its weights to another alignment. A *shard* is a number of consecutive members, about
15 s of work: what is stored and sent to another machine. Its size is decided by the work alone, so that a run resumes
whatever the machine has free, and more members go on from the shards that there are.
"""

import contextlib
import copy
import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from lib.costs import free_bytes
from lib.networks.stacked import ROWS, Modules
from lib.training.loop import fresh, train_group
from lib.training.recipe import Members, Work, step_counts, step_range

FREE_SHARE = 0.5  # of the free memory that groups may take
GROUP_WEIGHTS = 2**20  # of all networks in a group on a CPU, for its caches; but 8 networks at least, 64 at most
WIDE = 8  # networks with convolutions that go as one
VERSION = 1  # of what a shard holds: raise it when the same arguments give other numbers
SHARD_WORK = {"cuda": 3e14}  # floating-point operations; on other devices a hundredth
BUSY = 2e10  # operations of a step that fill a GPU: networks of less go beside each other, 32 at most
SHARD_MEMBERS = 64
PATIENCE = 30  # seconds for the first worker of a scheduler; who queues for longer hands over a Client that waited


def train_members(work: Work, members: Members, tick: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Train all members on this machine, group by group; arrays as in ``Recorder``, in the members' order."""
    work, kinds = work.placed(), {}
    behind = [0] * len(members.seeds) if members.state is None else members.state["steps"].tolist()
    for e, (seen, before) in enumerate(zip(_pool_sizes(work, members), behind, strict=True)):
        kinds.setdefault((step_counts(work.recipe, seen, work.n), before), []).append(e)
    chunk, cores = work.run.chunk or choose_chunk(work, members), _cores(work)
    groups = [who for kind in kinds.values() for who in _cut(kind, chunk, cores)]
    train = lambda who, tick: train_group(work, members.pick(who), tick)
    parts = beside(train, groups, cores, one_core=bool(work.layers), tick=tick)
    order = np.argsort(np.concatenate(groups))
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def _pool_sizes(work: Work, members: Members) -> list[int]:
    """Rows from which each member's batches are drawn."""
    if work.masked or members.sees is None or work.recipe.batch_size is None:
        return [work.n] * len(members.seeds)
    return members.sees.sum(1).tolist()


def total_steps(work: Work, members: Members) -> int:
    """Model-steps of all members together."""
    return sum(len(step_range(work, seen)) for seen in _pool_sizes(work, members))


def _cut(who: list[int], chunk: int, cores: int) -> list[list[int]]:
    """Groups of equal size, at most ``chunk``, their number a multiple of the cores where there are enough members."""
    count = min(len(who), cores * math.ceil(len(who) / (chunk * cores)))
    return [part.tolist() for part in np.array_split(who, count)]


def beside(call: Callable, jobs: list, cores: int, *, one_core: bool, tick=lambda steps: None) -> list:
    """``call(job, tick)`` for each job, on ``cores`` threads; the results in order. A failure stops the others."""
    workers, before = min(cores, len(jobs)), torch.get_num_threads()
    stop, lock = threading.Event(), threading.Lock()

    def checked(steps: int) -> None:
        if stop.is_set():
            raise InterruptedError
        with lock:
            tick(steps)

    threads = 1 if one_core else max(1, cores // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            return [future.result() for future in [pool.submit(call, job, checked) for job in jobs]]
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(before)


def choose_chunk(work: Work, members: Members) -> int:
    """Size of a group, by rule: what fits in the caches and in half of the free memory; on a GPU, in memory.

    Networks that go one after another anyway get 1 (on a GPU, small ones go beside each other, in streams), and 8 are
    enough for under 20,000 model-steps. For an MLP 784–256–10 sizes from 1 to 64 lie within a fifth of each other; a
    thousand weights are fast thirty at a time.
    """
    net = work.group(1)
    on_cpu = torch.device(work.run.device).type == "cpu"
    if isinstance(net, Modules):
        together = 1 if on_cpu else int(min(32, len(members.seeds), 1 + BUSY // step_operations(work)))
        return WIDE if net.wide else together
    vectors = 5 * net.w.buffer.numel()  # weights, velocity, gradient, second moment, reference
    widths = sum(view.shape[1] for view in net.w.views.values() if view.ndim == 3) + work.data.x_train[0].numel()
    numbers = vectors + 3 * widths * max(work.recipe.batch_size or work.n, ROWS)  # activations
    bytes_each = net.w.buffer.element_size() * numbers
    fitting = int(FREE_SHARE * free_bytes(work.run.device) / _cores(work) / bytes_each)
    cached = min(64, max(8, GROUP_WEIGHTS // net.w.buffer.numel()))
    if (short := total_steps(work, members) < 20_000) or on_cpu:
        fitting = min(fitting, 8 if short else cached)
    return max(1, min(len(members.seeds), fitting))


def _cores(work: Work) -> int:
    """Groups at work at the same time."""
    return torch.get_num_threads() if torch.device(work.run.device).type == "cpu" else 1


def step_operations(work: Work) -> int:
    """Floating-point operations of one network's step: three forward passes."""
    probe, x = copy.deepcopy(work.model).cpu().float().eval(), work.data.x_train[:1].cpu().float()
    with import_module("torch.utils.flop_counter").FlopCounterMode(display=False) as count, torch.no_grad():
        probe(x)
    return max(1, 3 * count.get_total_flops() * (work.recipe.batch_size or work.n))


def shard_size(work: Work) -> int:
    """Members in a shard: about ``SHARD_WORK`` operations, were all rows seen; 1 to 64."""
    each = step_operations(work) * len(step_range(work, work.n))
    return int(min(SHARD_MEMBERS, max(1, SHARD_WORK.get(torch.device(work.run.device).type, 3e12) // max(1, each))))


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
    asked = {"span": list(work.span())} if (work.after, work.until) != (0, None) else {}
    asked |= {"wide": True} if work.run.wide else {}
    record = {name: value for name, value in asdict(work.record).items() if name not in ("visits", "state") or value}
    model = copy.deepcopy(work.model).double().cpu()
    model.load_state_dict({name: value.double() for name, value in fresh(work.model, 0).items()})
    with torch.no_grad():
        outputs = model.eval()(work.data.x_train[:2].cpu().double()).flatten().tolist()
    return {
        "function": "lib.ensemble.train", "version": VERSION, "data": digest(*work.data),
        "model": repr(work.model), "outputs": [f"{value:.5e}" for value in outputs],
        "recipe": asdict(work.recipe), "record": record, "masked": work.masked,
        "precision": work.run.precision, "device": torch.device(work.run.device).type, **asked,
    }  # fmt: skip


def _digest_members(shard: Members) -> str:
    initial = dict(sorted((shard.parameters or {}).items()))
    parts = [torch.tensor(shard.seeds), shard.sees, shard.labels, *initial.values()]
    known = digest(*parts) + "".join(f":{name}" for name in initial)
    more = {"weights": shard.weights} if shard.weights is not None else {}
    more |= {f"state.{name}": value for name, value in sorted((shard.state or {}).items())}
    return known + (f"+{digest(*more.values())}:{':'.join(more)}" if more else "")


def train_shards(work: Work, members: Members, tick: Callable[[int], None]) -> tuple[list[dict], int]:
    """Train everything, shard by shard where there is a store or scheduler; the shards, and the steps taken."""
    everyone, store, scheduler = list(range(len(members.seeds))), work.run.store, work.run.scheduler
    if store is None and scheduler is None:
        return [train_members(work, members, tick)], total_steps(work, members)
    size = shard_size(work)
    shards = [members.pick(everyone[first : first + size]) for first in range(0, len(everyone), size)]
    done: dict[int, dict] = {}
    if store is not None:
        common = key_of(work)
        keys = [{**common, "members": _digest_members(shard)} for shard in shards]
        done = {i: arrays for i, key in enumerate(keys) if (arrays := store.get(key)) is not None}
        tick(sum(total_steps(work, shards[i]) for i in done))
    missing = [i for i in range(len(shards)) if i not in done]
    if scheduler is None:
        placed = work.placed()  # once, so that what a GPU has captured serves all shards
        results = ((i, train_members(placed, shards[i], tick)) for i in missing)
    else:
        results = _through_dask(work, {i: shards[i] for i in missing}, tick)
    for i, arrays in results:
        done[i] = arrays
        if store is not None:
            store.keep(keys[i], arrays)
    return [done[i] for i in range(len(shards))], sum(total_steps(work, shards[i]) for i in missing)


def _through_dask(work: Work, shards: dict[int, Members], tick) -> Iterator[tuple[int, dict]]:
    """Shards and their arrays as the workers of a Dask scheduler finish them.

    What all shards share is itself a task, so that a worker that has lost it gets it again. A shard whose worker dies
    is given to another; each is yielded once. ValueError where no scheduler answers, or no worker in time.
    """
    from distributed import Client, as_completed

    scheduler, alone = work.run.scheduler, replace(work, run=replace(work.run, store=None, scheduler=None))
    try:
        connected = contextlib.nullcontext(scheduler) if isinstance(scheduler, Client) else Client(scheduler)
    except (OSError, ValueError) as error:
        wanted = "the address of a running Dask scheduler"
        raise ValueError(f"scheduler: expected {wanted}, got {scheduler!r} ({str(error).splitlines()[0]})") from None
    with connected as client:
        if not client.scheduler_info()["workers"]:
            where = f"the scheduler {client.scheduler.address}"
            warnings.warn(f"{where} has no worker yet: waiting for one", stacklevel=2)
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise ValueError(f"scheduler: expected one with workers, {where} got none in {PATIENCE} s") from None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            shared = client.submit(lambda same: same, alone, pure=False)
        train = lambda work, shard: train_members(replace(work, steppers={}), shard, lambda steps: None)
        number = {client.submit(train, shared, shard, pure=False): i for i, shard in shards.items()}
        for future, arrays in as_completed(list(number), with_results=True):
            i = number.pop(future)
            future.release()
            tick(total_steps(work, shards[i]))
            yield i, arrays
