import json
import subprocess
import sys

import pytest

from lib.costs import bar, measured

# In a process of its own: in one that ran other tests, what these left to the allocator or free meanwhile is counted.
ALONE = """
import json, psutil, time, torch
from lib.costs import measured

looks, look = [], psutil.Process.memory_info
psutil.Process.memory_info = lambda process: looks.append(1) or look(process)

held = torch.ones(20_000_000)  # 80 MB that were there before

def work():
    ones = torch.ones(10_000_000)
    twos = ones + 1
    time.sleep(0.2)
    before = len(looks)
    while len(looks) < before + 2:  # until it is seen, whatever else runs
        time.sleep(0.01)
    return twos.sum().item()

around = -time.perf_counter()
result, seconds, peak = measured(work)
around += time.perf_counter()
many = [torch.ones(10_000) for _ in range(3_000)]  # 120 MB in small pieces, which the allocator keeps when freed
del many
again = measured(lambda: [torch.ones(10_000) for _ in range(2_000)]).peak_bytes
told = {"result": result, "seconds": seconds, "around": around, "peak": peak, "again": again, "held": len(held)}
print(json.dumps(told))
"""


def test_seconds_and_memory_of_the_work_alone():
    run = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    told = json.loads(run.stdout)
    assert told["result"] == 2e7 and 0.2 <= told["seconds"] < told["around"] and told["held"] == 20_000_000
    assert 60e6 < told["peak"] < 250e6  # 40 MB and their sum with one, 40 MB again
    assert told["again"] > 60e6  # memory that was freed before counts again


def test_what_fails_fails():
    with pytest.raises(ValueError, match="no"):
        measured(lambda: (_ for _ in ()).throw(ValueError("no")))


def test_a_bar_shows_what_is_done_unless_it_is_to_be_silent(monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert list(bar(range(3), mininterval=0)) == [0, 1, 2]
    assert "3/3" in capsys.readouterr().err
    list(bar(range(3), progress=False))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    list(bar(range(3)))
    assert capsys.readouterr().err == ""
