"""``gpu_run.sh``: notebooks cell by cell, calls that end in time and go on, and a folder that can be brought in."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import numpy as np
import pytest
import torch
from small_notebooks import script, write

from lib.study import notebooks
from lib.study.notebooks import REPO

BENCHMARKS = REPO / "tests" / "benchmarks"
gpu_run, gpu_import = (script(BENCHMARKS / f"{name}.py") for name in ("gpu_run", "gpu_import"))
ALL = notebooks.find(REPO / "notebooks")
NUMBERS = [number for number in gpu_run.ORDER if number != "bench"]


@pytest.mark.parametrize("notebook", ALL, ids=lambda notebook: notebook.number)
def test_cells_are_those_that_a_kernel_runs(notebook):
    theirs = [cell.source.strip() for cell in jupytext.read(notebook.py).cells if cell.cell_type == "code"]
    mine = gpu_run.code_cells(notebook.py.read_text("utf8"))
    assert [source for _, source in mine] == theirs
    assert not [source for _, source in mine if source.startswith(("%", "!")) or "\n%" in source]


@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("notebook", [n for n in ALL if n.number in NUMBERS], ids=lambda notebook: notebook.number)
def test_parameters_are_those_of_the_profile(notebook, profile):
    given = {"seed": "3", "device": "cuda:1"}
    mine = gpu_run.injected(notebook.py, notebook.home, profile, given)
    assert mine == notebooks.overrides(notebook, profile, given)
    with pytest.raises(ValueError, match="no parameter speed"):
        gpu_run.injected(notebook.py, notebook.home, profile, {"speed": "1"})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two notebooks to run; the alarm rings in the first unless there is a file ``fast``."""
    home = tmp_path / "notebooks"
    work = """from lib.store import Store
import inspect, signal, time
import numpy as np

def many(i):
    with open("../computed", "a") as file:
        file.write("x")
    return np.full(200 + 100 * i, i)

store = Store(profile=profile)
assert "np.full" in inspect.getsource(many) and many.__module__ == "__main__"
shards = [store.cached({"i": i}, lambda i=i: {"a": many(i)}) for i in range(4)]

# %%
if not Path("../fast").exists():
    os.kill(os.getpid(), signal.SIGALRM)
    time.sleep(60)

# %%
ledger.record("a.one", rate * 1e-9)
"""
    write(home, "05_first", work, ("a.one",))
    write(home, "04_second", 'ledger.record("a.two", 1e-9)\n', ("a.two",))
    for number, more in (("05", "rate: 2\n"), ("04", "")):
        for profile in ("paper", "smoke"):
            (home / "profiles" / profile / f"{number}.yaml").write_text(f"profile: {profile}\n{more}")
    for path in home.glob("0*.py"):
        path.write_text(path.read_text().replace("sizes: list", 'device: str = "cpu"  # where\nsizes: list'))
    monkeypatch.setattr(gpu_run, "ORDER", ("bench", "05", "04"))
    monkeypatch.setattr(gpu_run, "LEAST", 0)
    monkeypatch.setattr(gpu_run, "bench", lambda folder, *rest: folder.finish("bench"))
    for name, value in {"DEVICE": "cpu", "COMMIT": "abc", "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    return home


def call(home, folder, monkeypatch, **setting):
    work = home.parent / f"work{len(list(home.parent.iterdir()))}"  # another one each time
    for name, value in {"MINUTES": 9, "WORK": work, **setting}.items():
        monkeypatch.setenv(name, str(value))
    return gpu_run.main([str(folder)], home)


def test_a_run_that_is_stopped_goes_on_elsewhere_and_is_brought_in(place, tmp_path, monkeypatch, capfd):
    """The second call is on another machine: its work begins from what the first has sent home."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(place, first, monkeypatch) == 130
    said = capfd.readouterr().out
    assert "05: stopped; 4 of 4 shards go along" in said and "04: done" in said and "left: 05\n" in said
    assert sorted(path.name for path in first.iterdir()) == ["04.json", "provenance.json", "store-05.tar.gz"]
    (tmp_path / "fast").touch()
    assert call(place, second, monkeypatch, FROM=first) == 0
    said = capfd.readouterr().out
    assert "05: done" in said and "04" not in said and "left: nothing" in said
    assert (tmp_path / "computed").read_text() == "x" * 4  # in the first call
    assert sorted(path.name for path in second.iterdir()) == ["04.json", "05.json", "provenance.json"]
    made = json.loads((second / "provenance.json").read_text())["notebooks"]["05"]
    assert made["commit"] == "abc" and made["parameters"] == {"profile": "paper", "rate": 2.0, "device": "cpu"}
    assert json.loads((second / "05.json").read_text())["a.one"]["value"] == 2e-9
    markers = [f"<!-- {what} of all papers -->" for what in ("verdicts", "end of verdicts")]
    (tmp_path / "README.md").write_text("\n".join(markers))
    written = gpu_import.bring_in(second, tmp_path)
    assert [path.name for path in written] == ["04.json", "05.json", "provenance.json", "RESULTS.md", "README.md"]
    assert call(place, second, monkeypatch) == 0  # nothing is left to do


def test_what_fails_is_named_and_holds_up_no_other(place, tmp_path, monkeypatch, capfd):
    first = place / "05_first.py"
    (tmp_path / "fast").touch()
    first.write_text(first.read_text().replace("rate * 1e-9)", "1 / 0)"))
    folder = tmp_path / "folder"
    assert call(place, folder, monkeypatch) == 1
    said = capfd.readouterr()
    assert "05: ZeroDivisionError: division by zero; 4 of 4 shards go along" in said.out and "04: done" in said.out
    assert "<05_first, cell 5>" in said.err and 'ledger.record("a.one", 1 / 0)' in said.err
    first.write_text(first.read_text().replace('ledger.record("a.one", 1 / 0)', "pass"))
    assert call(place, folder, monkeypatch) == 1
    assert "claims not recorded: a.one" in capfd.readouterr().out


def test_the_shards_that_took_longest_for_a_byte_go_along(tmp_path):
    folder, cache = gpu_run.Folder(tmp_path, "paper"), tmp_path / "cache"
    cache.mkdir()
    for size, finished in ((500, 1001), (30, 1002), (200, 1100), (201, 1101)):  # seconds: 1, 1, 98, 1
        (cache / f"{size}.npz").write_bytes(np.random.default_rng(0).bytes(size))
        os.utime(cache / f"{size}.npz", (finished, finished))
    for _ in range(2):  # what went along keeps its time
        assert folder.pack("05", cache, 300, 1000).startswith("2 of 4 shards")
        folder.unpack("05", there := tmp_path / "there")
        assert {path.name: path.stat().st_mtime for path in there.iterdir()} == {"200.npz": 1100, "30.npz": 1002}


def test_refusals(place, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "folder"
    for arguments, message in (
        ([], "usage"),
        ([str(folder), "05:speed=3"], "no parameter speed"),
        ([str(folder), "rate=3"], "expected NN:name=value"),
    ):
        assert gpu_run.main(arguments, place) == 2 and message in capsys.readouterr().err
    gpu_run.Folder(tmp_path, "smoke").write()
    assert gpu_run.main([str(tmp_path)], place) == 2 and "at the profile smoke, not paper" in capsys.readouterr().err


def test_what_is_not_installed_is_stood_in_for(tmp_path, monkeypatch):
    """The ledger and the data sets load and work with the stand-ins alone."""
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.setattr(gpu_run.importlib.util, "find_spec", lambda name: None)
    assert gpu_run.stand_ins(tmp_path) == ["fastjsonschema", "pooch"]
    code = "import pooch, fastjsonschema; from lib.ledger import Ledger; from lib.data import read_scores; "
    code += "Ledger('04', 'smoke', results='.').record('cg.closed_form', 1e-12, n=80); read_scores('cifar10', [3]); "
    code += "print(pooch.__file__, fastjsonschema.__file__)"
    went = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert [Path(word).parent for word in went.stdout.split()] == [tmp_path] * 2


def test_scores_come_home_with_how_they_were_made(tmp_path):
    data = SimpleNamespace(name="clothes", rows_train=torch.tensor([7, 3]), sha256="abc")
    value, error = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([0.1, 0.2])
    left = {"d": data, "m": SimpleNamespace(value=value, error=error), "t": 400, "architecture": "mlp-128"}
    made = gpu_run.keep_scores(left, "d", "m", "t", tmp_path)
    assert made == {"clothes": {"group": "memorization_400", "dataset_sha256": "abc", "architecture": "mlp-128"}}
    kept = np.load(tmp_path / "scores-clothes.npz")
    assert kept["row"].tolist() == [7, 3] and kept["memorization_400"].tolist() == [0.5, 0.25]
    assert kept["memorization_400_stderr"].dtype == np.float32
    source = next(notebook for notebook in ALL if notebook.number == "03").py.read_text("utf8")
    assert all(f"{name}" in source for name in (*gpu_run.SCORES["03"], "architecture"))


def test_the_script_is_a_script():
    environment = os.environ | {"PYTHON": sys.executable}
    went = subprocess.run([BENCHMARKS / "gpu_run.sh"], capture_output=True, text=True, env=environment)
    assert went.returncode == 2 and "usage: gpu_run.sh FOLDER" in went.stderr
