"""Killed, resumed, spread over processes: the result is that of one undisturbed run."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import workloads
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from lib import costs
from lib.networks.models import mlp, small_cnn
from lib.store import Store
from lib.training import loop, parallel
from lib.training.ensemble import train
from lib.training.recipe import Data, Members, Recipe, Record, Run, Start, Work

#: the digest of 0 … 5, nothing, and six ones, as stores hold it
KNOWN = "86d76f76951425a79f00f544f2165bfbd19764194837a145c242612fd17377d4"
RECIPE = Recipe(lr=0.1, momentum=0.9, batch_size=20, epochs=6)


def problem(n=300):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 8, 8, generator=g)
    return x, torch.randint(0, 4, (n,), generator=g), torch.rand(24, n, generator=g) < 0.7


def go(members=24, model=None, *, recipe=RECIPE, run=Run(), **options):
    x, y, sees = problem()
    data, model, run = (x, y, x[:100], y[:100]), model or mlp(64, (32,), 4), replace(run, progress=False)
    return train(model, data, recipe, range(members), sees=sees[:members], run=run, **options)


def same(one, other):
    assert one.epochs == other.epochs
    for name in ("bits_train", "bits_test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    torch.testing.assert_close(one.parameters, other.parameters, rtol=0, atol=0)
    torch.testing.assert_close(one.accuracy_train, other.accuracy_train, rtol=0, atol=0)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(parallel, "SHARD_MEMBERS", 4)


@pytest.fixture(scope="module")
def undisturbed():
    return go()


def test_a_store_gives_back_what_it_was_given(tmp_path, small_shards, undisturbed, monkeypatch):
    same(go(run=Run(store=Store(tmp_path))), undisturbed)
    assert len(list(tmp_path.glob("*.npz"))) == 6
    forbidden = lambda *_: pytest.fail("trained what the store has")
    monkeypatch.setattr(parallel, "train_members", forbidden)
    again = go(run=Run(store=Store(tmp_path), chunk=3))
    same(again, undisturbed)
    assert again.steps_per_second == 0


def test_more_members_go_on_from_the_shards_there_are(tmp_path, small_shards, undisturbed):
    go(8, run=Run(store=Store(tmp_path)))
    first = {path.name for path in tmp_path.glob("*.npz")}
    same(go(run=Run(store=Store(tmp_path))), undisturbed)
    assert len(first) == 2 and first < {path.name for path in tmp_path.glob("*.npz")}


def test_another_question_is_another_shard(tmp_path, small_shards):
    store, x = Store(tmp_path), problem()[0]
    variants = [
        {},
        {"recipe": Recipe(lr=0.1, momentum=0.9, batch_size=20, epochs=6, gamma=0.5)},
        {"record": Record(loss="final")},
        {"model": mlp(64, (32,), 4, "tanh")},
        {"masked": True},
        {"run": Run(precision="float64")},
        {"labels": (problem()[1] + 1).remainder(4).expand(4, 300)},
        {"weights": torch.full((4, 300), 2.0)},
        {"start": Start(until=3)},
        {"start": Start(after=3)},
        {"record": Record(state=True)},
    ]
    for count, how in enumerate(variants, start=1):
        go(4, **how | {"run": replace(how.get("run", Run()), store=store)})
        assert len(list(tmp_path.glob("*.npz"))) == count
    train(mlp(64, (32,), 4), (x + 1, problem()[1]), RECIPE, range(4), run=Run(store=store, progress=False))
    assert len(list(tmp_path.glob("*.npz"))) == len(variants) + 1


def test_the_key_of_a_question_does_not_know_later_options():
    """Spelled out: a shard from before weights, visits and stretches is found again, and is no answer to these."""
    x, y, sees = problem()
    model, seeds = mlp(64, (32,), 4), [3, 4]
    work, members = Work(model, Data(x, y), RECIPE), Members(seeds, sees[:2])
    key = parallel.key_of(work)
    assert list(key) == ["function", "version", "data", "model", "outputs", "recipe", "record", "masked", "precision",
                         "device"]  # fmt: skip
    assert key["record"] == {
        "correct": "final",
        "loss": None,
        "errors_at": (),
        "checkpoints_at": (),
        "parameters": True,
    }
    assert set(key["recipe"]) == {
        "lr", "epochs", "iterations", "batch_size", "optimizer", "momentum", "nesterov", "betas", "alpha", "eps",
        "weight_decay", "decay_to", "schedule", "milestones", "gamma", "warmup", "loss", "augment",
    }  # fmt: skip
    assert parallel._digest_members(members) == parallel.digest(torch.tensor(seeds), sees[:2], None)
    assert parallel.digest(torch.arange(6), None, torch.ones(2, 3)) == KNOWN
    initial = {"b": torch.ones(2, 3), "a": torch.zeros(2, 3)}
    started = parallel.digest(torch.tensor(seeds), None, None, initial["a"], initial["b"]) + ":a:b"
    assert parallel._digest_members(Members(seeds, parameters=initial)) == started
    others = [replace(work, after=1), replace(work, until=3), replace(work, record=Record(visits=True))]
    assert len({str(parallel.key_of(other)) for other in [work, *others]}) == 4
    own = [{}, {"weights": torch.ones(2, 300)}, {"weights": torch.zeros(2, 300)}, {"state": {"steps": torch.ones(2)}}]
    assert len({parallel._digest_members(replace(members, **more)) for more in own}) == 4


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[2:]
    import test_parallel as t

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def steps_until_death(left):
        def update(bar, n):
            nonlocal left
            left -= n
            if left < 0:
                die()
        return update

    t.parallel.SHARD_MEMBERS = 4
    folder, update = Path(sys.argv[1]), t.costs.tqdm.update
    for last in (400, 700, "while a shard is written", 1300):  # of 1,570 model-steps, shards that are read included
        child = os.fork()
        if not child:
            t.costs.tqdm.update = update if isinstance(last, str) else steps_until_death(last)
            os.fsync = die if isinstance(last, str) else os.fsync
            t.go(run=t.Run(store=t.Store(folder)))
            os._exit(0)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), *(len(list(folder.glob(kind))) for kind in ("*.npz", "*.tmp")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_a_run_killed_again_and_again_ends_in_the_same_result(tmp_path, small_shards, undisturbed):
    code = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), *map(str, Path(__file__).parents[:2])]
    out = subprocess.run(
        code, capture_output=True, text=True, timeout=workloads.PATIENCE, cwd=Path(__file__).parents[2]
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.split("\n")[:4] == ["9 1 0", "9 2 0", "9 2 1", "9 4 1"]
    kept, store = [], Store(tmp_path)
    put, store.put = store.put, lambda key, arrays: kept.append(put(key, arrays))
    same(go(run=Run(store=store)), undisturbed)
    assert len(kept) == 2


@pytest.fixture
def cluster(tmp_path):
    with workloads.cluster(tmp_path) as found:
        yield found


def test_a_worker_dies_and_nothing_is_lost_or_counted_twice(tmp_path, cluster, small_shards, undisturbed, monkeypatch):
    address, workers = cluster
    kept, steps = [], []

    class Watched(Store):
        def put(self, key, arrays):
            kept.append(key["members"])
            if len(kept) == 1:
                workers[0].send_signal(signal.SIGKILL)
            return super().put(key, arrays)

    work = Work(mlp(64, (32,), 4), Data(*problem()[:2]), RECIPE)
    members = Members(list(range(24)), problem()[2])
    monkeypatch.setattr(costs.tqdm, "update", lambda bar, n: steps.append(n))
    same(go(run=Run(store=Watched(tmp_path), scheduler=address)), undisturbed)
    assert workers[0].wait(10) == -signal.SIGKILL and workers[1].poll() is None
    assert len(kept) == len(set(kept)) == 6
    assert sum(steps) == parallel.total_steps(work, members)
    same(go(run=Run(scheduler=address)), undisturbed)


def test_a_scheduler_that_is_none_is_refused_and_one_without_workers_is_spoken_of(undisturbed):
    import dask
    from distributed import LocalCluster

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(ValueError, match="scheduler: expected the address of a running Dask scheduler, got 'tcp:/"):
            go(run=Run(scheduler="tcp://127.0.0.1:9"))
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None) as empty:
        later = threading.Timer(1.0, empty.scale, [1])
        later.start()
        with pytest.warns(UserWarning, match="has no worker yet: waiting for one"):
            same(go(run=Run(scheduler=empty.scheduler_address)), undisturbed)


def test_a_scheduler_that_gets_no_worker_is_not_waited_for_for_ever(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(parallel, "PATIENCE", 0.2)
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None) as empty:
        refused = pytest.raises(
            ValueError, match="scheduler: expected one with workers, the scheduler .* got none in 0.2 s"
        )
        with pytest.warns(UserWarning, match="waiting for one"), refused:
            go(run=Run(scheduler=empty.scheduler_address))


class Peak(TorchDispatchMode):
    """Bytes of the storages that are alive, at most."""

    alive, most = WeakIdKeyDictionary(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.alive[tensor.untyped_storage()] = tensor.untyped_storage().nbytes()
        self.most = max(self.most, sum(self.alive.values()))
        return out


def test_groups_fit_in_memory(monkeypatch):
    """The estimate holds: what a group of the chosen size takes is under, but not far under, the share allowed."""
    x, y = torch.rand(500, 784), torch.randint(0, 10, (500,))
    model, members = mlp(784, (256,)), Members(list(range(64)))
    recipe = Recipe(lr=0.1, momentum=0.9, weight_decay=0.1, decay_to="init", epochs=1, optimizer="rmsprop")
    work = Work(model, Data(x, y), recipe, Record(parameters=False))
    free = 400 * 2**20
    monkeypatch.setattr(parallel, "free_bytes", lambda device: free * torch.get_num_threads())
    monkeypatch.setattr(parallel, "GROUP_WEIGHTS", 2**40)  # so that memory is what binds
    monkeypatch.setattr(parallel, "total_steps", lambda work, members: 10**6)
    size = parallel.choose_chunk(work, members)
    assert 1 < size < 64
    with Peak() as peak:
        loop.train_group(work.placed(), members.pick(list(range(size))), lambda steps: None)
    assert parallel.FREE_SHARE * free / 4 < peak.most < parallel.FREE_SHARE * free


def test_chunks_by_hand_and_by_nature():
    x, y, _ = problem()
    members = Members(list(range(24)))
    recipe = replace(RECIPE, epochs=100)
    size = lambda model, **run: parallel.choose_chunk(Work(model, Data(x, y), recipe, run=Run(**run)), members)
    assert size(small_cnn(classes=4)) == 1 and size(small_cnn(classes=4), wide=True) == parallel.WIDE
    assert size(mlp(64, (32,), 4)) == 24 and size(mlp(64, (1024,), 4)) == 14 and size(mlp(64, (4096,), 4)) == 8
    assert parallel.choose_chunk(Work(mlp(64, (32,), 4), Data(x, y), RECIPE), members) == 8  # few steps
    assert [len(who) for who in parallel._cut(list(range(24)), 7, 2)] == [6, 6, 6, 6]
    assert [e for who in parallel._cut(list(range(9)), 4, 2) for e in who] == list(range(9))


def test_a_failure_stops_the_other_threads():
    ticks = []

    def call(job, tick):
        if job == 0:
            raise RuntimeError("first")
        for _ in range(1000):
            time.sleep(0.01)
            tick(1)

    with pytest.raises(RuntimeError, match="first"):
        parallel.beside(call, [0, 1, 2, 3], 2, one_core=True, tick=ticks.append)
    assert len(ticks) < 1000
