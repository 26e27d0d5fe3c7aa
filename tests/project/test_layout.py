"""The library stays small, in its rooms, with imports that go one way."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LIB, EXPERIMENTS = REPO / "lib", REPO / "notebooks" / "experiments"

#: Lines of all files of a room, at most; to fall, but for the mend of an error. (Aimed at: ledger 750, study 600.)
ROOMS = {
    "scores": 2069,  # with neighbours, datamodels, edges refused by name, arrays wherever tensors go
    "numerics": 1493,
    "networks": 660,  # with one check of targets, networks in streams, the fast one for CIFAR-10, EfficientNet-Lite0
    "training": 1257,  # with steps that a GPU captures and replays, or takes one by one; schedulers without workers
    "data": 899,  # with what people bring (own.py), what was left out of it, and options that it does not take
    "ledger": 806,  # with failures whose interval leaves something out, and successes that a moved setting loses
    "study": 886,  # with pairs that open unchanged, runs that stop, what paper would cost, every folder tried first
}
#: What a room may import: those below it. The modules that lie in ``lib`` itself count as rooms of their own.
BELOW = {
    "store": set(),
    "costs": set(),
    "statistics": set(),
    "networks": {"costs"},
    "data": {"store"},
    "numerics": {"networks", "costs"},
    "scores": {"numerics", "networks", "statistics", "costs"},
    "training": {"networks", "store", "costs"},
    "catalogue": {"scores", "training", "networks", "statistics", "costs"},
    "audit": {"catalogue", "data", "networks", "statistics", "store", "training"},
    "ledger": {"store"},
    "study": {"ledger", "store"},
}


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def lines(paths) -> int:
    return sum(len(path.read_text("utf8").splitlines()) for path in paths)


def name(path: Path) -> str:
    """``lib.scores.influence`` of the file; a package is named by its folder."""
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of ``lib`` that a file imports, at any depth; a name that is a module counts as this module."""
    known, found = {name(p) for p in modules(LIB)}, set()
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lib":
            for alias in node.names:
                both = f"{node.module}.{alias.name}"
                found.add(both if both in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "lib"}
    return found - {name(path)}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_library_is_small():
    written = [path for path in modules(LIB) if path.name != "__init__.py"]
    assert len(written) <= 37
    assert lines(modules(LIB)) <= 9_658  # with audit, data/own, neighbours, steps on a GPU, arrays for tensors
    assert not {str(path): size for path in modules(LIB) + modules(EXPERIMENTS) if (size := lines([path])) > 650}
    assert lines([LIB / "scores" / "definitions.py"]) <= 200
    assert lines(modules(EXPERIMENTS)) <= 5_006  # with Table 1, exact SGD, reviews, and the runs that ask "is it us?"


@pytest.mark.parametrize("name, most", ROOMS.items())
def test_a_room_is_small(name, most):
    assert lines(modules(LIB / name)) <= most


def test_the_loose_modules_are_five_and_small():
    loose = [path for path in LIB.glob("*.py") if path.name != "__init__.py"]
    assert {path.stem for path in loose} == {"audit", "catalogue", "statistics", "costs", "store"}
    assert lines(loose) <= 1_587  # with audit.py, a bar, devices by name, one check of arrays, ~ by one rule


def test_the_readme_is_short():
    assert len((REPO / "README.md").read_bytes()) <= 9000


@pytest.mark.parametrize("path", modules(LIB), ids=name)
def test_imports_go_one_way(path):
    own = room(name(path))
    if not own:
        return
    above = {module for module in imports(path) if room(module) not in BELOW[own] | {own}}
    assert not above, f"{name(path)} reaches out of its room: {sorted(above)}"


def test_there_are_no_circles():
    TopologicalSorter({name(path): imports(path) for path in modules(LIB) if path.name != "__init__.py"}).prepare()


def test_nothing_in_the_library_imports_an_experiment():
    for path in modules(LIB):
        words = [line.split()[:2] for line in path.read_text("utf8").splitlines()]
        assert not [pair for pair in words if pair in (["from", "experiments"], ["import", "experiments"])], name(path)


def test_one_score_does_not_import_the_engine():
    code = "import sys, lib.scores.data_diet; print(*[m for m in sys.modules if m.split('.')[0] == 'lib'])"
    went = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert len(went.stdout.split()) <= 6, went.stdout
