"""Notebook 09: the definitions as they are in the library, in few words, with sliders where they can be."""

import ast
import importlib
import re
import sys

import jupytext
import pytest

from lib.study.notebooks import REPO

CELLS = jupytext.read(REPO / "notebooks/09_scores_in_twenty_lines.py").cells
PROSE = "\n\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
CODE = [cell.source for cell in CELLS if cell.cell_type == "code"]
LIBRARY = (REPO / "lib/scores/definitions.py").read_text("utf8")


def functions(source: str) -> dict[str, str]:
    found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) for node in found}


def test_every_definition_is_shown_as_it_is():
    wanted = functions(LIBRARY)
    shown = {name: text for cell in CODE for name, text in functions(cell).items() if name in wanted}
    assert shown == wanted
    assert max(len(text.splitlines()) for text in shown.values()) <= 20


def test_it_imports_nothing_of_ours():
    modules = {
        module.split(".")[0]
        for node in ast.walk(ast.parse("\n".join(CODE)))
        for module in ([alias.name for alias in getattr(node, "names", ())] if isinstance(node, ast.Import) else [])
        + ([node.module] if isinstance(node, ast.ImportFrom) else [])
    }
    assert {"torch", "sklearn"} <= modules and not {"lib", "experiments"} & modules


def test_it_is_short():
    assert len(CELLS) <= 45
    assert len(re.sub(r"```python.*?```", "", PROSE, flags=re.S).split()) <= 1025


def test_the_fast_forms_exist():
    named = re.findall(r"`(lib(?:\.\w+)+)\.(\w+)`", PROSE)
    assert {name for _, name in named} >= {"el2n", "grand", "memorization", "c_scores", "cg_scores", "leave_one_out"}
    for module, name in named:
        parent = importlib.import_module(module)
        assert hasattr(parent, name) or importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("there", [True, False])
def test_sliders_where_there_are_widgets(there, monkeypatch):
    (cell,) = [source for source in CODE if "ipywidgets" in source]
    seen = []
    if not there:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    given = {"n": 60, "view": lambda *settings: seen.append(settings)}
    exec(cell, given)
    if there:
        given["rows"].value = 40
        given["wrong_share"].value = 0.3
        assert seen[-1] == (40, 0.3, 0.5)
    else:
        assert "without ipywidgets" in given["sliders"]
