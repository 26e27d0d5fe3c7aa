"""Binder, Colab and GitHub Pages: what their files do, as far as it can be seen without them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import pytest
import yaml

from lib.study.notebooks import REPO

PINS = (REPO / "requirements.txt").read_text("utf8")


def test_binder_has_all_pins_and_a_torch_for_the_processor(tmp_path):
    """Its pip is one that writes down what it is asked for."""
    (tmp_path / "python").write_text('#!/usr/bin/env bash\nshift 2; echo "$@"; [[ "$*" != *stdin* ]] || cat\n')
    (tmp_path / "python").chmod(0o755)
    names = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    said = subprocess.run([REPO / ".binder/postBuild"], env=names, capture_output=True, text=True, check=True).stdout
    brought = yaml.safe_load((REPO / ".binder/environment.yml").read_text("utf8"))["dependencies"]
    asked = {*re.findall(r"^[\w-]+==.*", said, re.M), *(f"torch{p[11:]}" for p in brought if p[:11] == "pytorch-cpu")}
    asked |= {p for p in brought if p.startswith("torchvision")}
    asked = {re.sub(r"^(torch\w*)=(?=\d)", r"\1==", pin) for pin in asked}
    wanted = set(re.findall(r"^[\w-]+==.*", PINS, re.M))
    assert asked <= wanted and len(wanted - asked) > 10
    assert all(re.match("cuda-|nvidia-|triton", pin) for pin in wanted - asked)
    assert said.startswith("install --no-deps") and said.endswith("install --no-deps -e .\n")


def test_binder_has_the_python_of_the_environment():
    of = lambda file: next(p for p in yaml.safe_load((REPO / file).read_text("utf8"))["dependencies"] if "=" in str(p))
    assert of(".binder/environment.yml") == of("environment.yml")


def test_an_environment_without_a_gpu_meets_the_pins(tmp_path):
    code = (REPO / "run_all.sh").read_text("utf8").split("unmet='")[1].split("'")[0]
    (tmp_path / "pins.txt").write_text("torch==2.0\nnvidia-none==1\ntriton==0.1\ncuda-none==2\n")
    ask = [sys.executable, "-c", code, tmp_path / "pins.txt"]
    for build, status in (("2.0+cpu", 0), ("2.0+cu130", 1)):
        (folder := tmp_path / build / "torch-2.0.dist-info").mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {build}\n")
        assert subprocess.run(ask, env={"PYTHONPATH": str(tmp_path / build)}, capture_output=True).returncode == status


def test_the_workflow_builds_the_pages_and_publishes_them():
    text = (REPO / ".github/workflows/pages.yml").read_text("utf8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [
        ".binder/postBuild", "python -m lib.study.runner --pages",
    ]  # fmt: skip
    assert [step["with"]["path"] for step in job["steps"] if "upload-pages" in step.get("uses", "")] == [
        "results/pages"
    ]


@pytest.mark.parametrize("repository", ["", "someone/study"])
def test_the_pages_have_buttons_where_the_address_is_known(repository, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    if repository:
        monkeypatch.setenv("GITHUB_REPOSITORY", repository)
    path = REPO / "notebooks/site/conf.py"
    exec(compile(path.read_text("utf8"), path, "exec"), conf := {})
    assert ("launch_buttons" in conf["html_theme_options"]) == bool(repository)
    assert repository in conf["html_theme_options"].get("repository_url", "")


@pytest.mark.parametrize("name, place", [("00_start_here", ""), ("appendix/18_own_data_examples", "/appendix")])
def test_a_notebook_for_colab_clones_the_study_first(tmp_path, name, place):
    """From a copy with an origin; without one it says what to do. The cell's paths are those of a real clone."""
    path = Path(shutil.copy(REPO / "notebooks/colab.py", tmp_path))
    exec(compile(path.read_text("utf8"), path, "exec"), given := {"get_config": MagicMock, "__file__": str(path)})
    git = lambda *words: subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)
    git("init", "-q")
    with pytest.raises(SystemExit, match="git remote add origin"):
        given["address"]()
    git("remote", "add", "origin", "git@example.org:someone/study.git")
    made, _ = given["WithTheStudy"]().preprocess(nbformat.read(REPO / f"notebooks/{name}.ipynb", as_version=4), {})
    first = made.cells[0].source
    assert "git clone --depth 1 https://example.org/someone/study.git study\n" in first
    assert f"%cd study/notebooks{place}\n" in first
    folders = [(REPO / f"notebooks{place}" / up).resolve() for up in re.findall(r'"([./]+)"', first)]
    assert folders == [REPO, REPO / "notebooks"]
