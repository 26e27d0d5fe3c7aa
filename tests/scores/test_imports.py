"""``lib.scores`` by name: functions, whichever module was imported first, and no module that was not asked for."""

import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import lib.scores

BOTH = ["memorization", "influence", "tracin"]  # the name of a function and of its module


def fresh(code: str) -> str:
    """What code prints in an interpreter of its own."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not run.returncode, run.stderr
    return run.stdout.strip()


def test_every_name_of_the_table_is_there_and_documented():
    for name in lib.scores.TABLE:
        assert getattr(lib.scores, name).__doc__
        assert name in dir(lib.scores)
    assert isinstance(lib.scores.definitions, ModuleType)
    assert all(inspect.isfunction(getattr(lib.scores, name)) for name in lib.scores.TABLE if name != "definitions")
    with pytest.raises(AttributeError, match="lib.scores has definitions, el2n, .*; got 'el3n'"):
        _ = lib.scores.el3n


@pytest.mark.parametrize("first", range(3))
def test_a_name_that_is_both_is_the_function_whatever_comes_first(first):
    lines = ["import lib.scores, sys"]
    for name in BOTH:
        ways = [
            f"from lib.scores import {name}; assert callable({name})",
            f"import lib.scores.{name}; assert callable(lib.scores.{name})",
            f"from lib.scores.{name} import {name} as there; assert there is lib.scores.{name}",
        ]
        lines += ways[first:] + ways[:first]
    fresh("\n".join(lines))


def test_one_module_loads_no_more_than_it_needs():
    count = "import lib.scores.{}, sys; print(*sorted(m for m in sys.modules if m.split('.')[0] == 'lib'))"
    loaded = fresh(count.format("data_diet")).split()
    assert "lib.scores.data_diet" in loaded and len(loaded) <= 6, loaded
    every = fresh(count.format(", lib.scores.".join({*lib.scores.TABLE.values()}))).split()
    rooms = {module.split(".")[1] for module in every if "." in module}
    assert rooms <= {"scores", "numerics", "networks", "statistics", "costs"}, rooms


def test_the_line_of_the_readme():
    line = "definitions, cg_scores, el2n, grand, forgetting, memorization, c_scores, f_si, influence, tracin"
    names = line.replace("definitions, ", "").split(", ")
    assert fresh(f"from lib.scores import {line}; print(all(map(callable, ({', '.join(names)}))))") == "True"
