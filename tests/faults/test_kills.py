"""SIGKILL at random moments: the next run ends as if nothing had been. Three moments each, ten with ``--full``."""

import contextlib
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import small_notebooks
import workloads
from workloads import PATIENCE

from lib.data import provenance, read_scores
from lib.store import Store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module", autouse=True)
def imported():
    """The imports of the server of processes are not part of the first one's time."""
    workloads.finish(time.sleep, 0)


def kill(work, folder: Path, seconds: float, moments: int, seed: int, *more) -> int:
    """Start the work so many times and kill each at a moment of its usual ``seconds``; how many were still at it.

    None of the processes that it had started outlives it. Where all had ended, others no longer being in the way, it
    is killed once more, and sooner.
    """
    hit, ends = 0, list(seconds * np.random.default_rng(seed).uniform(size=moments))
    while ends or not hit:
        seconds = ends.pop(0) if ends else seconds / 2
        process = workloads.start(work, folder, *more)
        process.join(seconds)
        alive, children = process.exitcode is None, []
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end here
            children = psutil.Process(process.pid).children(recursive=True) if alive else []
        process.kill()
        process.join()
        assert all(gone(child.pid) for child in children)
        hit += alive
    return hit


def gone(pid: int, patience: float = PATIENCE) -> bool:
    """Whether a process ends within the patience; one that only waits to be reaped has ended."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_a_writer_of_shards_loses_the_one_that_it_was_writing(tmp_path, moments):
    """Each time it goes on where the shards end."""
    store, rng, done = Store(tmp_path / "cache"), np.random.default_rng(1), 0
    for _ in range(moments):
        (tmp_path / "put").unlink(missing_ok=True)
        writer = workloads.start(workloads.writer, tmp_path, done)
        while not ((tmp_path / "put").exists() and (tmp_path / "put").read_text()):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        writer.kill()
        writer.join()
        reported = (tmp_path / "put").read_text().split()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a half-written shard would warn
            while store.path(key := {"function": "f", "shard": done}).exists():
                back = store.get(key)
                np.testing.assert_array_equal(back["a"], np.full(200_000, done))
                np.testing.assert_array_equal(back["b"], np.arange(done % 7))
                done += 1
        assert not reported or done > int(reported[-1])  # whatever put returned for is kept
        assert len(list(store.folder.glob("*.npz"))) == done  # and nothing else has a shard's name
    assert done >= moments
    assert len(list(store.folder.glob("*.tmp"))) <= moments


@pytest.fixture(params=["threads", "dask"])
def where(request, tmp_path):
    """Where an ensemble is trained: here, or on a cluster that outlives the one who asked."""
    if request.param == "threads":
        yield None
        return
    with workloads.cluster(tmp_path) as (address, servants):
        (warm := tmp_path / "warm").mkdir()
        workloads.finish(workloads.ensemble, warm, "result", address)  # the workers' imports are not part of the time
        yield address
        assert not any(process.poll() for process in servants)


def test_an_ensemble_with_a_store(tmp_path, moments, where):
    (calm := tmp_path / "calm").mkdir(), (torn := tmp_path / "torn").mkdir()
    seconds = workloads.finish(workloads.ensemble, calm, "result", where)
    assert kill(workloads.ensemble, torn, seconds, moments, 0, "result", where)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no shard is damaged
        names = {path.name for path in (calm / "cache").glob("*.npz")}
        there = {path.name for path in (torn / "cache").glob("*.npz")}
        assert there <= names and len(names) == 10
        stamps = {path: path.stat().st_mtime_ns for path in (torn / "cache").glob("*.npz")}
    workloads.finish(workloads.ensemble, torn, "result", where)
    np.testing.assert_array_equal(np.load(torn / "result.npy"), np.load(calm / "result.npy"))
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}  # what was there was not computed again
    left = [path.suffix for path in (torn / "cache").iterdir()]
    assert set(left) <= {".npz", ".tmp"} and left.count(".npz") == 10
    assert left.count(".tmp") <= moments  # one a kill at most, which a later writer removes when it is a day old
    for path in (torn / "cache").glob("*.tmp"):
        os.utime(path, (0, 0))
    Store(torn / "cache").put({"k": 1}, {})
    assert {path.suffix for path in (torn / "cache").iterdir()} == {".npz"}


def test_making_a_file_of_scores(tmp_path, moments):
    rng, folders = np.random.default_rng(0), [tmp_path / "calm", tmp_path / "torn"]
    x, y = rng.normal(size=(60, 5)), np.arange(60) % 3
    for folder in folders:
        folder.mkdir()
        np.savez(folder / "own.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    calm, torn = (folder / "scores" / "own.parquet" for folder in folders)
    seconds = workloads.finish(workloads.scores, folders[0])
    for i in range(moments):
        kill(workloads.scores, folders[1], seconds, 1, seed=i)
        if torn.exists():  # half of the columns perhaps, but each of them whole, and vouched for
            pd.testing.assert_frame_equal(
                part := read_scores("own", folder=torn.parent), pd.read_parquet(calm).set_index("row")[list(part)]
            )
    workloads.finish(workloads.scores, folders[1])
    found, wanted = (read_scores("own", folder=path.parent) for path in (torn, calm))
    pd.testing.assert_frame_equal(found[list(wanted)], wanted)
    assert {name: part["columns"] for name, part in provenance(torn).items()} == {
        name: part["columns"] for name, part in provenance(calm).items()
    }
    assert sorted(path.name for path in torn.parent.iterdir()) == [".lock", "SHA256SUMS", "own.parquet"]
    assert len((torn.parent / "SHA256SUMS").read_text().splitlines()) == 1


BODY = """
Path(os.environ["STUDY_RESULTS"], "pids").open("a").write(f"{os.getpid()}\\n")
ledger.record("a.one", 1e-9)

# %%
import time
time.sleep(0.3)
ledger.record("a.two", 2e-9)
"""


def test_a_run_of_a_notebook(tmp_path, moments):
    small_notebooks.write(tmp_path / "notebooks", "01_first", BODY, ("a.one", "a.two"))
    results = tmp_path / "results"
    results.mkdir()
    seconds = workloads.finish(workloads.notebook, tmp_path)
    assert (tmp_path / "went").read_text() == "well"
    claims, executed = results / "smoke/claims/01.json", results / "smoke/notebooks/01_first.ipynb"
    before = claims.read_bytes(), executed.read_bytes()
    assert kill(workloads.notebook, tmp_path, seconds, moments, seed=1)
    if before != (claims.read_bytes(), executed.read_bytes()):  # one was so late that it had finished: as good
        assert json.loads(claims.read_text()).keys() == {"a.one", "a.two"} and json.loads(executed.read_text())
    assert all(gone(int(pid)) for pid in (results / "pids").read_text().split())  # no kernel is left
    workloads.finish(workloads.notebook, tmp_path)
    assert (tmp_path / "went").read_text() == "well" and claims.read_bytes() == before[0]
    assert sorted(path.name for path in (results / "smoke").rglob("*") if path.is_file()) == [
        "01.json",
        "01_first.ipynb",
    ]


def test_a_run_of_notebook_08(tmp_path, moments):
    x, folders = np.random.default_rng(0).normal(size=(60, 4)), [tmp_path / "calm", tmp_path / "torn"]
    for folder in folders:
        folder.mkdir()
        np.savez(folder / "own.npz", x_train=x, y_train=np.arange(60) % 3)
    seconds = workloads.finish(workloads.own_data, folders[0])
    assert kill(workloads.own_data, folders[1], seconds, moments, seed=2)
    workloads.finish(workloads.own_data, folders[1])
    whole = lambda folder: [path for path in (folder / "results").rglob("*") if path.suffix != ".tmp"]
    files = lambda folder: {str(path.relative_to(folder)) for path in whole(folder)}
    assert [(folder / "went").read_text() for folder in folders] == ["well", "well"]
    assert files(folders[0]) == files(folders[1])  # nothing half-done beside it
    (one,), (other,) = (list((folder / "results/smoke/scores").glob("*.parquet")) for folder in folders)
    pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(other))


# Jupyter's interrupt is this signal. From outside it may strike the kernel just before or after the cell, which then
# never answers: within the cell it strikes our code.
INTERRUPTED = """
import os, signal
timer = threading.Timer({}, os.kill, [os.getpid(), signal.SIGINT])
timer.start()
try:
    {}
finally:
    timer.cancel()
    timer.join()
"""


def test_ctrl_c_in_a_notebook(tmp_path, moments, monkeypatch):
    """The cell stops with KeyboardInterrupt and nothing of it goes on; run again, it ends as if nothing had been."""
    from jupyter_client.manager import start_new_kernel

    (calm := tmp_path / "calm").mkdir(), (torn := tmp_path / "torn").mkdir()
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workloads.REPO), str(workloads.REPO / "tests")]))
    cell, told = "workloads.ensemble(Path({!r}))", []
    manager, client = start_new_kernel(startup_timeout=PATIENCE, kernel_name="python3", cwd=str(tmp_path))
    try:

        def run(code):  # "aborted": asked while an error was still clearing what had been asked
            while (reply := client.execute(code, reply=True, timeout=PATIENCE)["content"])["status"] == "aborted":
                time.sleep(0.1)
            return reply

        assert run("import threading, workloads, lib.training; from pathlib import Path")["status"] == "ok"
        seconds = -time.monotonic()
        assert run(f"{cell.format(str(calm))}; began = threading.active_count()")["status"] == "ok"
        seconds += time.monotonic()
        ends = list(seconds * np.random.default_rng(3).uniform(0.1, 0.9, size=moments))
        while ends or "error" not in [reply["status"] for reply in told]:
            seconds = ends.pop(0) if ends else seconds / 2
            told.append(run(INTERRUPTED.format(seconds, cell.format(str(torn)))))
            assert run("assert threading.active_count() == began")["status"] == "ok"
        assert {reply.get("ename", "") for reply in told} <= {"KeyboardInterrupt", ""}
        assert run(cell.format(str(torn)))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    np.testing.assert_array_equal(np.load(torn / "result.npy"), np.load(calm / "result.npy"))
    assert {path.suffix for path in (torn / "cache").iterdir()} == {".npz"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_do_not_outlive_who_started_them(tmp_path):
    process, names = workloads.start(workloads.workers, tmp_path), ("one", "two")
    end = time.monotonic() + PATIENCE
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names):
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.join()
    assert all(gone(int((tmp_path / name).read_text())) for name in names)


def test_a_killed_merge_leaves_a_file_that_is_vouched_for(tmp_path, monkeypatch):
    """Death at each of the three moments at which a name is given: SHA256SUMS, the file, SHA256SUMS."""
    from lib import store
    from lib.data import merge_scores

    path, replace = tmp_path / "a.parquet", os.replace
    merge = lambda name: merge_scores(path, {name: np.arange(3.0)}, rows=[3, 5, 7], group=name, made={})
    merge("first")
    for moment in range(3):
        for before in (True, False):
            calls = []

            def dying(old, new, moment=moment, before=before, calls=calls):
                calls.append(new)
                if len(calls) == moment + 1 and before:
                    raise KeyboardInterrupt
                replace(old, new)
                if len(calls) == moment + 1:
                    raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(store.os, "replace", dying)
                with pytest.raises(KeyboardInterrupt):
                    merge(f"at{moment}{before}")
            columns = set(read_scores("a", folder=tmp_path))
            assert (f"at{moment}{before}" in columns) == ((moment, before) not in [(0, True), (0, False), (1, True)])
    (tmp_path / f"a.parquet.{'0' * 32}.tmp").touch()  # what SIGKILL would have left
    merge("last")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "SHA256SUMS", "a.parquet"]
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == 1


def test_two_runs_on_one_store(tmp_path):
    (calm := tmp_path / "calm").mkdir(), (shared := tmp_path / "shared").mkdir()
    workloads.finish(workloads.ensemble, calm)
    both = [workloads.start(workloads.ensemble, shared, name) for name in ("one", "two")]
    for process in both:
        process.join(PATIENCE)
        assert process.exitcode == 0
    for name in ("one", "two"):
        np.testing.assert_array_equal(np.load(shared / f"{name}.npy"), np.load(calm / "result.npy"))
    kept = lambda folder: sorted(path.name for path in (folder / "cache").iterdir())
    assert kept(shared) == kept(calm)
