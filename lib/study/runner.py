"""Run the study: ``run_all.sh`` finds a Python and calls ``python -m lib.study``.

Options are checked first, with the standard library alone; then there is an environment; then the rest of the options,
which needs it; then the notebooks run, each alone, whether or not the one before it failed.
"""

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.study import notebooks
from lib.study.notebooks import PROFILES, REPO, Notebook, Run

EXAMPLES = """
examples:
  ./run_all.sh                                      all notebooks, with the profile laptop
  ./run_all.sh --profile smoke                      every code path on few examples, in minutes
  ./run_all.sh --only 04 -p noise_levels '[0.1]'    one notebook, with a parameter of its own
  ./run_all.sh --profile paper -p device cuda       the papers' sizes, on a GPU
  ./run_all.sh --test -- -k pruning                 some of the tests

exit status: 0 all went well; 1 a notebook, a test or the installation failed; 2 refused, nothing was run; 130 stopped
"""


class Refused(ValueError):
    """What was asked for cannot be run; the message says what can."""


def options(argv: Sequence[str], folder: Path) -> argparse.Namespace:
    """The command line, read; ``only`` becomes a list of notebooks, ``parameters`` a dict of texts.

    Raises:
        Refused: if a notebook or a parameter is not there, or options do not go together.
        SystemExit: after ``--help`` (0), or where an option or profile is not there (2).
    """
    found = notebooks.find(folder)
    listing = "\n".join(f"  {notebook.name}" for notebook in found)
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Run the study: make the environment where need be, execute the notebooks, show the verdicts.",
        epilog=f"notebooks:\n{listing}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--profile", choices=PROFILES, default=None, help="the size of the runs (default: laptop)")
    add("--only", action="append", default=[], metavar="NN", help="this notebook alone; repeat, or 03,04")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter; VALUE is YAML")
    add("--save", action="store_true", help="write outputs back to notebooks/, figures/ and the README (laptop only)")
    add("--html", action="store_true", help="also render what is executed as web pages, results/<profile>/html/")
    add("--test", action="store_true", help="run the tests instead; what follows -- goes to pytest")
    add("pytest", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    asked.parameters = dict(asked.p)
    if asked.test:
        if asked.profile or asked.only or asked.p or asked.save or asked.html:
            raise Refused("--test goes alone (pytest's own options after --)")
        return asked
    if asked.pytest:
        raise Refused(f"not an option: {' '.join(asked.pytest)}; see --help")
    asked.profile = asked.profile or "laptop"
    if asked.save and (asked.profile != "laptop" or asked.p):
        raise Refused("--save commits what the profile laptop gives, so it goes with neither another profile nor -p")
    asked.only = select(found, asked.only)
    check_names(asked.only, asked.parameters)
    return asked


def select(found: Sequence[Notebook], only: Sequence[str]) -> list[Notebook]:
    """The notebooks that ``only`` names (``4``, ``04``, ``04_name``, several with commas), in order; all for none."""
    wanted = [word.strip() for words in only for word in words.split(",") if word.strip()]
    for word in wanted:
        if not any(word.zfill(2) in (notebook.number, notebook.name) for notebook in found):
            raise Refused(f"--only {word}: there is no such notebook; there are {', '.join(n.name for n in found)}")
    wanted = [word.zfill(2) for word in wanted]
    return [n for n in found if not wanted or n.number in wanted or n.name in wanted]


def check_names(chosen: Sequence[Notebook], given: Mapping[str, str]) -> None:
    """Refuse a parameter that one of the chosen notebooks does not declare, and say which do."""
    declared = {notebook: notebooks.parameters(notebook) for notebook in chosen}
    for name in given:
        if name == "profile":
            raise Refused("-p profile: the profile is an option of its own, --profile")
        lack = [notebook.name for notebook in chosen if name not in declared[notebook]]
        have = [notebook.number for notebook in chosen if name in declared[notebook]]
        if lack and have:
            raise Refused(f"-p {name}: {', '.join(lack)} has no such parameter; --only {','.join(have)} has")
        if lack:
            known = "\n".join(f"  {n.number}: {', '.join(declared[n])}" for n in chosen)
            raise Refused(f"-p {name}: there is no such parameter; there are\n{known}")


def plan(chosen: Sequence[Notebook], profile: str, given: Mapping[str, str]) -> dict[Notebook, dict]:
    """What each notebook is to be run with, once everything about it has been checked.

    Raises:
        Refused: if a value does not fit, a profile's file is not as it should be, or the halves of a pair differ.
    """
    todo = {}
    for notebook in chosen:
        try:
            todo[notebook] = notebooks.overrides(notebook, profile, given)
        except ValueError as error:
            raise Refused(str(error)) from None
        where = notebooks.difference(notebook)
        if where:
            raise Refused(
                f"{notebook.name}.py and .ipynb differ ({where}); keep the one that you edited:\n"
                f"  jupytext --to ipynb --update notebooks/{notebook.name}.py      # the .py\n"
                f"  jupytext --to py:percent notebooks/{notebook.name}.ipynb       # the .ipynb"
            )
    return todo


def run_all(todo: Mapping[Notebook, dict], profile: str, results: Path) -> list[Run]:
    """Run the notebooks one after the other and say how each went; one that fails does not stop the others.

    They are numbered from 2 to the last but one step, as the environment comes before and the verdicts after.
    """
    runs, steps = [], len(todo) + 2
    for i, (notebook, values) in enumerate(todo.items(), 2):
        print(f"[{i}/{steps}] {notebook.name}, profile {profile} …", flush=True)
        run = notebooks.run(notebook, profile, values, results, progress=sys.stderr.isatty())
        runs.append(run)
        went = f"FAILED at {run.failure}" if run.failure else "done"
        print(f"      {duration(run.seconds)}: {went}", flush=True)
    return runs


def duration(seconds: float) -> str:
    """Time as people say it.

    Example:
        >>> duration(4.2), duration(75), duration(3700)
        ('4.2 s', '1 min 15 s', '1 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def report(runs: Sequence[Run], profile: str, results: Path) -> None:
    """Print the verdicts of the notebooks that were run, where everything lies, and what failed."""
    from lib.ledger import ledger

    table = ledger.summary(results, profile, runs[0].notebook.folder / "claims.yaml")
    table = table[table.notebook.isin([run.notebook.number for run in runs])]
    print(verdicts(table, shutil.get_terminal_size((120, 24)).columns) + "\n")
    for what, where in (("executed notebooks", "notebooks"), ("figures", "figures"), ("claims", "claims")):
        print(f"{what}: {shown(results / profile / where)}")
    for run in runs:
        if run.failure:
            print(f"\nFAILED {run.notebook.name} at {run.failure}\n  its notebook so far: {shown(run.executed)}")


def render(profile: str, results: Path, folder: Path) -> Path:
    """Web pages of all notebooks that were executed under a profile, now or before; returns the index."""
    from lib.ledger import ledger
    from lib.study import pages

    executed = [results / profile / "notebooks" / f"{notebook.name}.ipynb" for notebook in notebooks.find(folder)]
    table = ledger.summary(results, profile, folder / "claims.yaml")
    found = [path for path in executed if path.exists()]
    return pages.write(found, results / profile / "html", table, home=folder, profile=profile)


def verdicts(table, width: int) -> str:
    """The frame of ``claims.summary`` for a terminal: a line a claim, cut at ``width``; how many of each verdict."""
    from lib.ledger.tables import LOOKS

    longest = max(map(len, table.id), default=0)
    lines = [
        f"  {LOOKS[row.verdict][0]} {row.verdict:<16}  {row.id:<{longest}}  {' '.join(row.ours.split())}"
        for row in table.itertuples()
    ]
    counts = [f"{count} {verdict}" for verdict in LOOKS if (count := (table.verdict == verdict).sum())]
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines) + (
        f"\n  {', '.join(counts)}" if counts else ""
    )


def shown(path: Path) -> str:
    """The path, from here where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def main(argv: Sequence[str] | None = None, folder: Path = REPO / "notebooks") -> int:
    """The command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the kernel goes too
    try:
        return _main(argv, folder)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, and the next run goes on from it", file=sys.stderr)
        return 130


def _main(argv: list[str], folder: Path) -> int:
    start = time.perf_counter()
    try:
        asked = options(argv, folder)
        enter_environment(argv, 0 if asked.test else len(asked.only) + 2)
        todo = {} if asked.test else plan(asked.only, asked.profile, asked.parameters)
    except (ValueError, RuntimeError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    if asked.test:
        return subprocess.run([sys.executable, "-m", "pytest", *asked.pytest], cwd=REPO).returncode

    from lib.store import results_folder

    results, steps = results_folder().resolve(), len(todo) + 2
    runs = run_all(todo, asked.profile, results)
    good = [run for run in runs if not run.failure]
    print(f"[{steps}/{steps}] verdicts")
    report(runs, asked.profile, results)
    if asked.save:
        from lib.study import publish

        for run in good:
            print(f"saved: {', '.join(shown(path) for path in publish.write_back(run, results, folder.parent))}")
    if asked.html and good:
        print(f"pages: {shown(render(asked.profile, results, folder))}")
    print(f"\n{len(good)} of {len(runs)} notebooks went well, in {duration(time.perf_counter() - start)}")
    return 0 if len(good) == len(runs) else 1


def enter_environment(argv: Sequence[str], steps: int) -> None:
    """Go on in a Python whose packages meet the pins; returns at once where this is one."""
    if os.environ.pop("STUDY_ENVIRONMENT", "") == "entered":
        return
    start = time.perf_counter()
    print(f"[1/{steps}] environment …" if steps else "environment …", flush=True)
    say = lambda text: print(f"      {text}", flush=True)
    python = interpreter(say=say)
    say(duration(time.perf_counter() - start))
    if python != Path(sys.executable):
        sys.stdout.flush()
        os.execve(python, [str(python), "-m", "lib.study", *argv], os.environ | {"STUDY_ENVIRONMENT": "entered"})


# --- environment ----------------------------------------------------------------------------------------------------
#
# The environment that the study runs in: which pins are not met, and a ``.venv`` where nothing else serves.
#
# Standard library alone (and ``packaging``, itself a pin, once it is there): this runs before anything is installed.


REPO = Path(__file__).resolve().parents[2]
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


if __name__ == "__main__":
    sys.exit(main())
