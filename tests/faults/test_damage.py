"""Something else in the place of a file, a full disk, too little memory: the right result, or one clear error."""

import gzip
import io
import json
import os
import re
import subprocess
import warnings
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import small_notebooks
import workloads

from lib import costs
from lib.data import datasets, load, merge_scores, read_scores
from lib.ledger import Ledger
from lib.store import Store
from lib.study import notebooks, runner

ROWS = np.arange(60)
X, Y = np.random.default_rng(0).normal(size=(60, 4)), ROWS % 3


# --- another thing in the place of a file ----------------------------------------------------------------------------
# Each place: how the file is made in a folder, how it is read, and what is said of anything else (errors, words).


def shard(folder: Path):
    store, key = Store(folder), {"k": 1}
    path = store.put(key, {"x": X})
    return path, lambda: store.cached(key, lambda: {"x": X})["x"], "must be a file|damaged shard .* does not match"


def score_file(folder: Path):
    path = folder / "a.parquet"
    merge_scores(path, {"x": X[:, 0]}, rows=ROWS, group="x", made={})
    return path, lambda: read_scores("a", folder=folder).x.to_numpy(), "a.parquet is not what SHA256SUMS|name must be"


def npz(folder: Path):
    path = folder / "own.npz"
    np.savez_compressed(path, x_train=X, y_train=Y)
    return path, lambda: load(path, split=False).x_train.numpy(), "own.npz"


def idx(folder: Path):
    def packed(array):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        return gzip.compress(head + array.tobytes(), mtime=0)

    (folder / "fashion-mnist").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    for name in datasets.FASHION_FILES:
        array = pixels if "images" in name else (ROWS % 10).astype(np.uint8)
        (folder / "fashion-mnist" / f"{name}-ubyte.gz").write_bytes(packed(array))
    path = folder / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    return path, lambda: load("fashion-mnist").x_train.numpy(), "train-images-idx3-ubyte.gz"


def foreign() -> bytes:
    """A whole file of another kind that zip, numpy and text readers open: an archive with one small text."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("note.txt", "not an array")
    return raw.getvalue()


def put_instead(path: Path, kind: str, whole: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    if kind == "truncated":
        path.write_bytes(whole[: rng.integers(1, len(whole))])
    elif kind == "bit flipped":
        changed, bit = bytearray(whole), int(rng.integers(8 * len(whole)))
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
    elif kind in ("empty", "foreign"):
        path.write_bytes(foreign() if kind == "foreign" else b"")
    else:
        path.unlink()
        path.mkdir() if kind == "directory" else os.mkfifo(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("kind", ["truncated", "bit flipped", "empty", "foreign", "pipe", "directory"])
@pytest.mark.parametrize("make", [shard, score_file, npz, idx])
def test_no_wrong_data_is_read(tmp_path, monkeypatch, make, kind):
    """The same data, or an error that names the file; a shard is computed again. Nothing hangs, nothing is left."""
    monkeypatch.setattr(datasets, "DATA", tmp_path)
    path, read, words = make(tmp_path)
    whole, right = path.read_bytes(), read()
    files = {found.name for found in tmp_path.rglob("*")}
    for seed in range(12 if kind in ("truncated", "bit flipped") else 1):
        put_instead(path, kind, whole, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            if make is shard and kind not in ("pipe", "directory"):
                warnings.simplefilter("always")
                with pytest.warns(RuntimeWarning, match=words):
                    found = read()
                assert path.read_bytes() == whole
            else:
                try:
                    found = read()
                except (ValueError, OSError) as error:
                    (message,) = str(error).splitlines()
                    assert re.search(words, message), message
                    continue
                assert kind in ("bit flipped", "truncated") and make in (npz, idx)  # where the bits do not matter
        np.testing.assert_array_equal(found, right)
    assert {found.name for found in tmp_path.rglob("*")} - files <= {f"{path.name}.damaged"}


@pytest.mark.parametrize("kind", ["truncated", "empty", "foreign", "directory"])
def test_the_records_of_a_run_that_cannot_be_read_count_as_not_run(tmp_path, kind, monkeypatch, capsys):
    from lib.ledger.ledger import read_records

    ledger = Ledger("04", "smoke", results=tmp_path)
    ledger.record("cg.closed_form", 3e-12, n=80)
    assert list(read_records(ledger.path.parent)) == ["cg.closed_form"]
    put_instead(ledger.path, kind, ledger.path.read_bytes(), seed=0)
    with pytest.warns(UserWarning, match="04.json is damaged"):
        assert read_records(ledger.path.parent) == {}


def test_a_store_that_may_only_be_read_gives_results_all_the_same(tmp_path, monkeypatch):
    store = Store(tmp_path)
    path = store.put({"k": 1}, {"a": np.arange(3)})
    path.write_bytes(b"damaged")

    def forbidden(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", forbidden)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert store.cached({"k": 1}, lambda: {"a": [1, 2]})["a"].tolist() == [1, 2]
    assert [str(one.message)[:13] for one in told] == ["damaged shard", "a result is n"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place]
    try:
        mounted = subprocess.run(call, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk cannot be mounted here (it takes root)")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_what_was_computed_outlives_a_full_disk(small_disk):
    store, array = Store(small_disk / "cache"), np.arange(100_000)
    with pytest.warns(RuntimeWarning, match=r"a result is not kept \(.*No space left on device\)"):
        np.testing.assert_array_equal(store.cached({"k": 1}, lambda: {"a": array})["a"], array)
    assert not list(store.folder.iterdir())
    store.cached({"k": 2}, lambda: {"a": array[:10]})
    assert len(list(store.folder.iterdir())) == 1


def test_scores_and_records_stay_as_they_were_on_a_full_disk(small_disk):
    path = small_disk / "scores" / "a.parquet"
    rows, rng = np.arange(20_000), np.random.default_rng(0)
    merge_scores(path, {"a": rng.normal(size=len(rows))}, rows=rows, group="a", made={})
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        merge_scores(path, {"b": rng.normal(size=len(rows))}, rows=rows, group="b", made={})
    assert path.read_bytes() == before and list(read_scores("a", folder=path.parent)) == ["a"]
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "SHA256SUMS", "a.parquet"]
    ledger = Ledger("04", "smoke", results=small_disk)
    ledger.record("cg.closed_form", 3e-12, n=80)
    before = ledger.path.read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        ledger.record("cg.closed_form", 4e-12, n=80, note="long " * 100_000)
    assert ledger.path.read_bytes() == before and [file.name for file in ledger.path.parent.iterdir()] == ["04.json"]


def test_a_notebook_that_fills_the_disk_leaves_no_half(small_disk, tmp_path, capsys, monkeypatch):
    body = 'ledger.record("a.one", 1e-9)\n\n# %%\nprint("many words " * 50_000)\n'
    small_notebooks.write(tmp_path / "notebooks", "01_first", body, ("a.one",))
    monkeypatch.setenv("STUDY_RESULTS", str(small_disk))
    assert runner.main(["--profile", "smoke"], tmp_path / "notebooks") == 1
    said = capsys.readouterr().out
    assert "FAILED 01_first at OSError: [Errno 28] No space left on device" in said and "so far" not in said
    left = [path for path in small_disk.rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"01.failed.json"}
    assert all(json.loads(path.read_text()) for path in left)


def test_results_that_may_only_be_read_are_refused_before_anything_runs(small_disk, tmp_path, capsys, monkeypatch):
    small_notebooks.write(tmp_path / "notebooks", "01_first", 'ledger.record("a.one", 1e-9)\n', ("a.one",))
    (small_disk / "results").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for place in (small_disk / "results", small_disk / "new"):
        monkeypatch.setenv("STUDY_RESULTS", str(place))
        assert runner.main(["--profile", "smoke"], tmp_path / "notebooks") == 2
        said = capsys.readouterr()
        assert f"results cannot be written to {place}" in said.err and "Read-only" in said.err and "[1/" not in said.out
    with pytest.warns(RuntimeWarning, match=r"a result is not kept \(.*Read-only"):
        assert Store(small_disk / "results").cached({"k": 1}, lambda: {"a": [1]})["a"].tolist() == [1]


# --- two at once, too little memory ----------------------------------------------------------------------------------


def test_two_runs_of_one_notebook(tmp_path):
    """Each writes beside, under a name of its own, and harms nothing of the other."""
    first = small_notebooks.write(tmp_path / "notebooks", "01_first", 'ledger.record("a.one", 1e-9)\n', ("a.one",))
    folder = tmp_path / "results" / "smoke" / "notebooks"
    folder.mkdir(parents=True)
    (folder / "01_first.partial1.ipynb").write_text("the cells so far of another run")
    assert not notebooks.run(first, "smoke", {"profile": "smoke"}, tmp_path / "results").failure
    assert (folder / "01_first.partial1.ipynb").read_text() == "the cells so far of another run"
    assert sorted(path.name for path in folder.iterdir()) == ["01_first.ipynb", "01_first.partial1.ipynb"]
    assert nbformat.read(folder / "01_first.ipynb", 4).cells


def vast(path: Path) -> None:
    """An .npz of 300 bytes whose header declares 50 GB."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (50 * 10**9 // 80, 10)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", head.getvalue())
        archive.writestr("y_train.npy", head.getvalue())


def test_too_little_memory_is_told_before_the_work(tmp_path):
    vast(tmp_path / "vast.npz")
    workloads.finish(workloads.short_of_memory, tmp_path)
    told = json.loads((tmp_path / "told").read_text())
    kind, words = told["cg_scores"]
    assert kind == "MemoryError" and "GB are free" in words
    kind, words = told["load"]
    assert kind == "ValueError" and "vast.npz: x_train: expected an .npz file of plain arrays" in words


def test_a_header_that_declares_50_gb_is_not_believed(tmp_path):
    vast(tmp_path / "vast.npz")

    def call():
        with pytest.raises(ValueError, match="x_train: expected an .npz file of plain arrays"):
            load(tmp_path / "vast.npz")

    assert costs.measured(call).peak_bytes < 100e6


@pytest.mark.parametrize(
    ("own", "limits", "left"),
    [
        ("0::/", {"memory.max": 900, "memory.current": 300}, [600]),
        ("0::/a/b\n", {"a/memory.max": 500, "a/memory.current": 100, "a/b/memory.max": "max"}, [400]),
        ("1:cpu:/x\n4:memory:/a/b\n0::/\n", {
            "memory/a/memory.limit_in_bytes": 800, "memory/a/memory.usage_in_bytes": 100,
            "memory/a/b/memory.limit_in_bytes": 700, "memory/a/b/memory.usage_in_bytes": 50,
        }, [650, 700]),
        ("4:memory:/not/here", {"memory/memory.limit_in_bytes": 9, "memory/memory.usage_in_bytes": 1}, [8]),
        ("", {"memory.max": 900, "memory.current": 300}, []),
    ],
)  # fmt: skip
def test_limits_of_control_groups_and_of_those_around_them(tmp_path, monkeypatch, own, limits, left):
    (tmp_path / "own").write_text(own)
    for name, value in limits.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(f"{value}\n")
    assert costs._left_in_groups(tmp_path / "own", tmp_path / "fs") == left
    assert costs._left_in_groups(tmp_path / "nothing", tmp_path) == []
    if left:
        monkeypatch.setattr(costs, "_left_in_groups", lambda: left)
        assert costs.free_bytes() == min(left)
