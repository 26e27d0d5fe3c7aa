"""The examples in the docstrings and in the README say what the code does."""

import doctest
import importlib
import re
import tempfile

import numpy as np
import pandas as pd
import pytest
import torch

from lib.study.notebooks import REPO

MODULES = sorted(
    ".".join(path.relative_to(folder).with_suffix("").parts)
    for folder, room in ((REPO, "lib"), (REPO / "notebooks", "experiments"))
    for path in (folder / room).rglob("*.py")
    if path.stem != "__init__"
)
AT_HAND = {"np": np, "pd": pd, "tempfile": tempfile, "torch": torch}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(
        module, extraglobs={k: v for k, v in AT_HAND.items() if not hasattr(module, k)}, optionflags=flags
    )
    assert not failed


def test_every_module_says_what_it_is():
    assert not [name for name in MODULES if not importlib.import_module(name).__doc__]


def test_the_readme_in_python(monkeypatch, tmp_path):
    """Each python block of the README runs as it stands, in turn and from anywhere."""
    blocks = re.findall(r"^```python\n(.*?)^```", (REPO / "README.md").read_text("utf8"), re.M | re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(names["cg"]) == len(names["images"].y_train)
