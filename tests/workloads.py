"""Work that tests kill, starve of memory or run twice at once: functions that a server of processes calls.

One process imports what all of them need and is forked for each (``multiprocessing``'s fork server), so that a start
takes no time. Each writes into the folder that it is given, and nowhere else.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

REPO = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds for what takes few where nothing else runs
NEEDED = ("lib.audit", "lib.study.notebooks", "lib.data.score_files", "small_notebooks")
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(NEEDED))


def ensemble(folder: Path, result: str = "result", scheduler: str | None = None) -> None:
    """Forty small networks, four a shard; their errors go into ``<result>.npy`` once all are trained."""
    import numpy as np
    import torch

    from lib.networks.models import mlp
    from lib.store import Store
    from lib.training import Recipe, Record, parallel, train
    from lib.training.recipe import Run

    torch.set_num_threads(1)
    x, y = torch.rand(80, 10, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 3
    with mock.patch.object(parallel, "SHARD_MEMBERS", 4):
        run = Run(store=Store(folder / "cache"), scheduler=scheduler, progress=False)
        recipe = Recipe(epochs=8, lr=0.1, batch_size=10)
        trained = train(mlp(10, (8,), 3), (x, y), recipe, range(40), record=Record(errors_at=(8,)), run=run)
    np.save(folder / f"{result}.npy", trained.errors[8].numpy())


def writer(folder: Path, first: int) -> None:
    """Shards from number ``first`` on, without end; the numbers that were put go into ``put``."""
    import numpy as np

    from lib.store import Store

    store = Store(folder / "cache")
    with open(folder / "put", "w", buffering=1) as told:
        for i in range(first, 10**6):
            store.put({"function": "f", "shard": i}, {"a": np.full(200_000, i), "b": np.arange(i % 7)})
            print(i, file=told)


def scores(folder: Path) -> None:
    """``data/make_scores.py`` on the file ``own.npz`` of the folder, three groups of columns."""
    import torch

    torch.set_num_threads(1)
    os.environ["STUDY_RESULTS"] = str(folder / "results")
    spec = importlib.util.spec_from_file_location("make_scores", REPO / "data" / "make_scores.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.matrix_product_rate = lambda: 1.0  # a number for the provenance, which takes seconds
    script.SETTINGS = script.Settings(epochs=2, early=1, trial_epochs=2, networks=2)
    call = ["make_scores.py", "--data", folder / "own.npz", "--out", folder / "scores" / "own.parquet"]
    sys.argv = [*map(str, call), "--only", "cg,cg_prime,input_norm,el2n,margin"]
    with open(folder / "said", "a") as said:
        sys.stdout = said
        script.main()


def notebook(folder: Path) -> None:
    """The notebook ``01_first`` of the folder; how it went goes into ``went``."""
    from lib.study import notebooks

    (first,) = notebooks.find(folder / "notebooks")
    run = notebooks.run(first, "smoke", {"profile": "smoke"}, folder / "results")
    (folder / "went").write_text(run.failure or "well")


def own_data(folder: Path) -> None:
    """Notebook 08 on the file ``own.npz`` of the folder, as small as it goes; how it went goes into ``went``."""
    from lib.study import notebooks

    (eighth,) = [found for found in notebooks.find(REPO / "notebooks") if found.number == "08"]
    given = {"dataset": str(folder / "own.npz"), "minutes": "0.001", "scores": "el2n", "kept": "[0.5]", "epochs": "5"}
    values = notebooks.overrides(eighth, "smoke", given)
    (folder / "went").write_text(notebooks.run(eighth, "smoke", values, folder / "results").failure or "well")


@contextlib.contextmanager
def cluster(folder: Path):
    """A Dask scheduler and two worker processes on loopback, as one would start them by hand: address and workers."""
    from distributed import Client

    file, quiet = folder / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    begin = lambda command, *words: subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{command}", "--scheduler-file", file, "--no-dashboard", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=REPO, **quiet,
    )  # fmt: skip
    alone = ("--no-nanny", "--nthreads", "1", "--local-directory")
    processes = [begin("scheduler", "--host", "127.0.0.1", "--port", "0")]
    processes += [begin("worker", *alone, folder / name) for name in "ab"]
    try:
        with Client(scheduler_file=str(file), timeout=PATIENCE) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            yield client.scheduler.address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def workers(folder: Path) -> None:
    """Two processes of ``each_in_a_process`` that write their numbers down and take two minutes."""
    import torch

    from experiments.processes import each_in_a_process

    def job(name):
        (folder / name).write_text(str(os.getpid()))
        time.sleep(120)

    torch.set_num_threads(2)
    each_in_a_process(job, [("one",), ("two",)])


def short_of_memory(folder: Path) -> None:
    """What two calls say that need more than the 300 MB left to them."""
    import psutil
    import torch

    from lib.data import load
    from lib.scores import cg_scores
    from lib.scores.data_diet import el2n  # noqa: F401  imports are not what is measured

    torch.set_num_threads(1)
    y = torch.arange(40_000) % 10
    x = torch.rand(len(y), 4)
    held = psutil.Process().memory_info().vms + 300_000_000
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    told = {}
    calls = {"cg_scores": lambda: cg_scores(x, y), "load": lambda: load(folder / "vast.npz")}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            told[name] = [type(error).__name__, str(error)]
    (folder / "told").write_text(json.dumps(told))


def start(work, *arguments):
    """A process that does the work, under way."""
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def finish(work, *arguments) -> float:
    """Do the work to its end; the seconds that it took."""
    begun, process = time.monotonic(), start(work, *arguments)
    process.join(PATIENCE)
    assert process.exitcode == 0, f"{work.__name__}: exit status {process.exitcode}"
    return time.monotonic() - begun
