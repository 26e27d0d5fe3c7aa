"""The environment that the study runs in: which pins are not met, and a ``.venv`` where nothing else serves.

Standard library alone (and ``packaging``, itself a pin, once it is there): this runs before anything is installed.
"""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
MARK = "made-by-run-all"  # a file in .venv: the SHA-256 of the requirements that it holds, or "incomplete"


def unmet_pins(requirements: str, version: Callable[[str], str] = importlib.metadata.version) -> list[str]:
    """The pins that the installed packages do not meet, each as ``name 1.2 (found 1.1)``; ``[]`` where all are met.

    Markers are heeded: a pin for another platform or Python asks nothing here.

    Args:
        requirements: the text of a requirements file, as ``uv pip compile`` writes it.
        version: the installed version of a package, raising ``PackageNotFoundError``.

    Example:
        >>> unmet_pins("packaging==1.0 ; sys_platform == 'amiga'")
        []
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return ["packaging (not there)"]
    unmet = []
    for line in requirements.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith(("#", "-")):
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate():
            continue
        wanted = str(pin.specifier).removeprefix("==")
        try:
            found = version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            unmet.append(f"{pin.name} {wanted} (not there)")
        else:
            if not pin.specifier.contains(found, prereleases=True):
                unmet.append(f"{pin.name} {wanted} (found {found})")
    return unmet


def interpreter(repo: Path = REPO, say: Callable[[str], None] = print) -> Path:
    """A Python whose packages meet the pins: this one, or that of ``.venv``, which is made where needed.

    Raises:
        RuntimeError: if ``.venv`` is somebody else's, or an installation fails (the log's end is in the message).

    Cost: a second where the environment is there; minutes and, on Linux, 6 GB of disk where it is made.
    """
    requirements = (repo / "requirements.txt").read_text()
    venv = repo / ".venv"
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256(requirements.encode()).hexdigest()
    there = (venv / MARK).read_text().strip() if (venv / MARK).exists() else ""
    if Path(sys.prefix).resolve() != venv or there != wanted:
        unmet = unmet_pins(requirements)
        if not unmet:
            say(f"using {_home(sys.prefix)}, which meets the pins")
            return Path(sys.executable)
        if sys.prefix != sys.base_prefix or os.environ.get("CONDA_PREFIX") == sys.prefix:
            more = f" and {len(unmet) - 5} more" if len(unmet) > 5 else ""
            say(f"the active environment differs from requirements.txt: {', '.join(unmet[:5])}{more}; using .venv")
    if there != wanted or not python.exists():
        _make(venv, python, repo, wanted, say)
    else:
        say("using .venv")
    return python


def _make(venv: Path, python: Path, repo: Path, wanted: str, say: Callable[[str], None]) -> None:
    if venv.exists() and not (venv / MARK).exists():
        raise RuntimeError(f"{venv} does not meet requirements.txt and run_all.sh did not make it: move it away")
    if Path(sys.prefix).resolve() == venv:
        raise RuntimeError("requirements.txt has changed and .venv is active: deactivate it and start again")
    say("making .venv and installing what requirements.txt pins: some minutes, once")
    start = time.perf_counter()
    shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir()
    (venv / MARK).write_text("incomplete\n")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    with open(venv / "install.log", "w+") as log:
        for step in (
            [sys.executable, "-m", "venv", venv],
            [*pip, "-r", repo / "requirements.txt"],
            [*pip, "--no-deps", "-e", repo],
        ):
            if subprocess.run(step, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode:
                log.seek(0)
                end = "".join(log.readlines()[-15:])
                raise RuntimeError(f"installing failed at `{' '.join(map(str, step))}`:\n{end}")
    (venv / MARK).write_text(wanted + "\n")
    say(f"made .venv in {time.perf_counter() - start:.0f} s")


def _home(path: str) -> str:
    """The path with ~ for the home folder, as people write it."""
    return str(path).replace(str(Path.home()) + os.sep, "~" + os.sep)
