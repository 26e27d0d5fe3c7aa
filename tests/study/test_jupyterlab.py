"""The notebooks in a real JupyterLab, in a headless Chromium where there is one: 00 and 09, in a copy of the study."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest
import yaml
from browser import CHROMIUM, Browser
from workloads import PATIENCE

from lib.study.notebooks import REPO

pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
COPIED = ("lib", "notebooks", "figures", "data", "pyproject.toml")
#: The open notebook; `until` waits for a condition, five minutes at most.
SETUP = """window.panel = () => [...jupyterapp.shell.widgets("main")].find(one => one.context?.model?.cells);
window.until = (true_at_last) => new Promise((done, failed) => {
    const stop = Date.now() + 300000, look = () => {
        let is; try { is = true_at_last() } catch {}
        is ? done(is) : Date.now() < stop ? setTimeout(look, 100) : failed(new Error(`never ${true_at_last}`)) };
    look() }); 0"""
READY = """until(() => panel().context.isReady && panel().context.sessionContext.session.kernel.status == "idle"
    && panel().content.widgets.length).then(() => 0)"""
CELLS = "panel().content.model.sharedModel.cells.filter(cell => cell.cell_type == 'code')"
DRAWN = """window.drawn = () => [...panel().node.querySelectorAll('.widget-output img')].map(one =>
    one.src.length + one.src.slice(-200)).join(); 0"""
RUN = "jupyterapp.commands.execute('notebook:run-all-cells').then(() => until(() => panel().content.model.sharedModel."
RUN += "cells.every(cell => cell.cell_type != 'code' || cell.execution_count))).then(() => 0)"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A server on a copy of the study, which is a git repository of its own, and a browser."""
    place = tmp_path_factory.mktemp("lab")
    study, port = place / "study", free_port()
    ignore = shutil.ignore_patterns("downloads", "__pycache__", ".ipynb_checkpoints")
    for name in COPIED:
        (shutil.copytree if (REPO / name).is_dir() else shutil.copy)(
            REPO / name, study / name, **({"ignore": ignore} if (REPO / name).is_dir() else {})
        )
    for path in study.glob("notebooks/0[09]*.ipynb"):  # the version of Python is that of who saved it
        here = re.sub(r'"version": "3[.\d]+"', f'"version": "{platform.python_version()}"', path.read_text("utf8"))
        path.write_text(here, "utf8")
    git = lambda *words: subprocess.run(
        ["git", "-C", study, "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *words],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    git("init", "-q")
    git("add", "notebooks")
    git("commit", "-qm", "as committed")
    own = {f"JUPYTER_{kind}_DIR": str(place / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{kind}_DIR": str(place / kind) for kind in ("WORKSPACES", "SETTINGS")}
    own |= {
        "IPYTHONDIR": str(place / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "STUDY_RESULTS": str(place / "results"),
    }
    own |= {"PYTHONPATH": os.pathsep.join([str(study), str(study / "notebooks")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=t"]
    command += ["--LabApp.news_url=", f"--ServerApp.root_dir={study}"]
    with (place / "log").open("w") as log, Browser(place / "browser") as browser:
        server = subprocess.Popen(command, cwd=study, env=os.environ | own, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(10 * PATIENCE):
                try:
                    urllib.request.urlopen(f"{address}/api?token=t").close()
                    break
                except OSError:
                    assert server.poll() is None, (place / "log").read_text()[-2000:]
                    time.sleep(0.1)
            browser.resize(1200)
            yield SimpleNamespace(browser=browser, address=address, git=git)
        finally:
            server.terminate()  # the kernels go with it
            server.wait(PATIENCE)


def test_notebooks_open_clean_are_folded_and_run(lab):  # one test: where tests are spread, a server is enough
    for name in ("00_start_here", "09_scores_in_twenty_lines"):
        try_out(lab, name)


def try_out(lab, name):
    """What is run has the sizes of smoke, written into the parameters cell as a reader would."""
    lab.browser.open(f"{lab.address}/lab/tree/notebooks/{name}.ipynb?token=t&reset")
    look = lab.browser.run
    look(SETUP)
    look(DRAWN)
    look(READY)
    time.sleep(2)  # what opening sets off has come by then
    assert not look("panel().context.model.dirty"), "JupyterLab would save it in two minutes"
    assert lab.git("status", "--short", "--untracked-files=no") == ""
    figures = "cell.outputs.some(one => one.data?.['image/png'])"
    folded = f"[cell.metadata.tags?.includes('parameters') || {figures}, !!cell.metadata.jupyter?.source_hidden]"
    pairs = look(f"{CELLS}.map(cell => {folded})")
    assert all(bool(wanted) == there for wanted, there in pairs) and sum(there for _, there in pairs) >= 4
    assert not look("panel().content.widgets.some(one => one.model.trusted && one.model.outputs?.length)")
    for text in look("[...panel().node.querySelectorAll('.jp-OutputArea-output')].map(one => one.innerText)"):
        assert "object at 0x" not in text and "Styler" not in text
    parameters = yaml.safe_load((REPO / f"notebooks/profiles/smoke/{name[:2]}.yaml").read_text("utf8"))
    more = "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    look(f"(() => {{ const cell = {CELLS}[0]; cell.setSource(cell.source + {more!r}) }})()")
    look(RUN)
    said = look(f"{CELLS}.map(cell => cell.outputs.filter(one => one.output_type == 'error').map(one => one.evalue))")
    assert not [error for errors in said for error in errors]
    sliders = look("panel().node.querySelectorAll('.widget-slider, .jupyter-widget-slider').length")
    assert sliders >= 3 and look("[...document.querySelectorAll('.jp-Dialog')].length") == 0
    drawn = look("drawn()")
    assert drawn, "the sliders have drawn nothing"
    enter = "new KeyboardEvent('keydown', {key: 'Enter', keyCode: 13, bubbles: true})"
    box = "panel().node.querySelectorAll('.widget-readout')[1]"  # beside the second slider: a reader types it
    look(f"{box}.textContent = '0.3'; {box}.dispatchEvent({enter}); 0")
    assert look(f"until(() => drawn() && drawn() != {drawn!r})")
    for session in json.load(urllib.request.urlopen(f"{lab.address}/api/sessions?token=t")):
        end = urllib.request.Request(f"{lab.address}/api/sessions/{session['id']}?token=t", method="DELETE")
        urllib.request.urlopen(end).close()
    look("panel().context.model.dirty = false")  # or leaving the page would ask
