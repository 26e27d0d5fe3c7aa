"""Small notebooks for the tests of the runner, with profiles and claims; scripts as modules."""

import importlib.util
from pathlib import Path

import yaml

from lib.study import notebooks
from lib.study.notebooks import Notebook

HEAD = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A small notebook

# %% tags=["parameters"]
profile: str = "laptop"  # names the folder of results
seed: int = 0  # draws everything
rate: float = 0.1  # step size, in units of # marks
flip: bool = False  # whether to flip
sizes: list = [1, 2]  # widths
dataset: str = "digits"  # a name or a file

# %%
import json, os
from pathlib import Path
from lib.ledger import Ledger

ledger = Ledger("NN", profile, claims="claims.yaml")

# %%
"""


def claim(id: str, number: str) -> dict:
    words = dict.fromkeys(("paper", "where", "claim", "published", "measure"), "words")
    return words | {
        "id": id, "notebook": number, "rule": "identity", "side": 0, "effect": None, "settings": [], "waits": "",
        "later": "",
    }  # fmt: skip


def write(folder: Path, name: str, body: str, owns: tuple[str, ...]) -> Notebook:
    """A notebook, its profiles, and the claims that it owns."""
    notebook, number = Notebook(folder, name), name[:2]
    claims = notebook.home / "claims.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    where = '"../claims.yaml"' if notebook.appendix else '"claims.yaml"'
    notebook.py.write_text(HEAD.replace("NN", number).replace('"claims.yaml"', where) + body, "utf8")
    for profile in notebooks.PROFILES:
        (notebook.home / "profiles" / profile).mkdir(parents=True, exist_ok=True)
        (notebook.home / "profiles" / profile / f"{number}.yaml").write_text(f"profile: {profile}\n")
    entries = yaml.safe_load(claims.read_text()) if claims.exists() else []
    claims.write_text(yaml.safe_dump(entries + [claim(id, number) for id in owns]))
    return notebook


def script(path: Path):
    """The module that a script outside of all packages is."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
