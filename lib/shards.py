"""Shards: what is stored, resumed and sent to another machine.

A shard is a number of consecutive members, about 15 s of work. Its size is decided by the work alone, so that a run
resumes whatever the machine has free, and more members go on from the shards that there are.
"""

import contextlib
import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib.descent import fresh
from lib.spread import choose_chunk, total_steps, train_members
from lib.work import Members, Work, step_range

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
