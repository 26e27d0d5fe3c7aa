"""Run the study: ``run_all.sh`` finds or makes an environment and calls ``python -m lib.study.runner``.

What was asked for is checked first; then the notebooks run, each alone, whether or not the one before it failed.
"""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from lib.ledger.ledger import read_records, summary
from lib.ledger.tables import LOOKS
from lib.store import new_file, results_folder
from lib.study import notebooks, publish
from lib.study.notebooks import PROFILES, REPO, Notebook, Run

EXTRA = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx-mathjax-offline")  # modules that web pages need
FOLDERS = ("notebooks", "claims", "figures", "scores", "cache")  # of a profile's results, which notebooks write to
EXAMPLES = """
examples:
  ./run_all.sh                                      the notebooks 00 to 09, with the profile laptop
  ./run_all.sh --all                                and their appendices
  ./run_all.sh --profile smoke                      every code path on few examples, in minutes
  ./run_all.sh --only 04 -p noise_levels '[0.1]'    one notebook, with a parameter of its own
  ./run_all.sh --plan                               what the papers' sizes would cost on a GPU
  ./run_all.sh --profile paper --minutes 9          them, for nine minutes; the next call goes on
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
    listing = "\n".join(f"  {notebook.name}{' (appendix)' if notebook.appendix else ''}" for notebook in found)
    parser = argparse.ArgumentParser(
        prog="./run_all.sh", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        description="Run the study: make the environment where need be, execute the notebooks, show the verdicts.",
        epilog=f"notebooks:\n{listing}\n{EXAMPLES}",
    )  # fmt: skip
    add = parser.add_argument
    add("--profile", choices=PROFILES, default=None, help="the size of the runs (default: laptop)")
    add("--only", action="append", default=[], metavar="NN", help="this notebook alone; repeat, or 03,04")
    add("--all", action="store_true", help="the appendices too, which are 11 to 18")
    add("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter; VALUE is YAML")
    add("--save", action="store_true",
        help="write back what is committed: outputs, notebooks/verdicts/, figures/, RESULTS.md and the figures of "
             "README.md and REPRODUCIBILITY.md (laptop only)")  # fmt: skip
    add("--minutes", type=float, metavar="M", help="stop after M minutes as if asked to; the next such call goes on")
    add("--plan", action="store_true", help="say what the profile paper would cost on a GPU, and run nothing")
    add("--html", action="store_true", help="also make web pages of what is executed, in results/<profile>/html/")
    add("--pages", action="store_true", help="make web pages of the committed notebooks instead, in results/pages/")
    add("--import", dest="brought", metavar="FOLDER", help="merge what tests/benchmarks/gpu_run.sh left in a folder")
    add("--test", action="store_true", help="run the tests instead; what follows -- goes to pytest")
    add("pytest", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    asked.parameters = dict(asked.p)
    if asked.minutes is not None and not (asked.minutes > 0 and hasattr(signal, "SIGALRM")):
        raise Refused(f"--minutes must be above 0, on a system with alarms; got {asked.minutes:g}")
    asked.alone = asked.test + asked.pages + bool(asked.brought)
    if asked.alone:
        others = asked.minutes, asked.plan, asked.profile, asked.only, asked.all, asked.p, asked.save, asked.html
        if any(others) or asked.alone > 1:
            raise Refused("--test goes alone (pytest's own options after --), and so do --pages and --import")
        return asked
    if asked.pytest:
        raise Refused(f"not an option: {' '.join(asked.pytest)}; see --help")
    asked.profile = asked.profile or ("paper" if asked.plan else "laptop")
    if asked.save and (asked.profile != "laptop" or asked.p):
        raise Refused("--save commits what the profile laptop gives, so it goes with neither another profile nor -p")
    if asked.plan and asked.profile != "paper":
        raise Refused("--plan is of the profile paper: how long the others take stands in notebooks/README.md")
    asked.only = select(found, asked.only, asked.all)
    check_names(asked.only, asked.parameters)
    return asked


def select(found: Sequence[Notebook], only: Sequence[str], every: bool = False) -> list[Notebook]:
    """The notebooks that ``only`` names (``4``, ``04,05``, ``04_name``), in order; else the main line, or ``every``."""
    if every and only:
        raise Refused("--all runs every notebook and --only some: give one of them")
    wanted = [word.strip().zfill(2) for words in only for word in words.split(",") if word.strip()]
    for word in wanted:
        if not any(word in (notebook.number, notebook.name) for notebook in found):
            raise Refused(f"--only {word}: there is no such notebook; there are {', '.join(n.name for n in found)}")
    if not wanted:
        return [notebook for notebook in found if every or not notebook.appendix]
    return [notebook for notebook in found if {notebook.number, notebook.name} & set(wanted)]


def check_names(chosen: Sequence[Notebook], given: Mapping[str, str]) -> None:
    """Refuse a parameter that one of the chosen notebooks does not declare, and say which do."""
    declared = {notebook: notebooks.parameters(notebook) for notebook in chosen if given}
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


def plan_runs(chosen: Sequence[Notebook], profile: str, given: Mapping[str, str]) -> dict[Notebook, dict]:
    """What each notebook is to be run with, once everything about it has been checked.

    Raises: ValueError if a value does not fit, a profile's file is not as it should be, or the halves of a pair differ.
    """
    todo = {}
    for notebook in chosen:
        todo[notebook] = notebooks.overrides(notebook, profile, given)
        if where := notebooks.pair_difference(notebook):
            raise Refused(
                f"{notebook.name}.py and .ipynb differ ({where}); keep the one that you edited:\n"
                f"  jupytext --to ipynb --update {short(notebook.py)}      # the .py\n"
                f"  jupytext --to py:percent {short(notebook.ipynb)}       # the .ipynb"
            )
    return todo


def run_all(todo: Mapping[Notebook, dict], profile: str, results: Path, minutes: float | None = None) -> list[Run]:
    """Run the notebooks one after the other and say how each went; one that fails does not stop the others.

    With ``minutes`` it stops after these as if asked to, and leaves a list of what is left, with which the next call
    begins that asks for the same.
    """
    runs, kept, asked = [], results / profile / "left.json", {other.number: values for other, values in todo.items()}
    if minutes:
        try:
            before = json.loads(kept.read_text("utf8")) if kept.exists() else {"asked": None}
            left = list(before["left"]) if before["asked"] == json.loads(json.dumps(asked)) else asked
        except (OSError, ValueError, LookupError, TypeError) as error:
            print(f"{short(kept)} cannot be read ({error!r}): all that was asked for is run")
            left = asked
        todo = {notebook: values for notebook, values in todo.items() if notebook.number in left}
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    for i, (notebook, values) in enumerate(todo.items(), 1):
        print(f"[{i}/{len(todo) + 1}] {notebook.name}, profile {profile} …", flush=True)
        try:
            runs.append(run := notebooks.run(notebook, profile, values, results, progress=sys.stderr.isatty()))
        except KeyboardInterrupt:
            left = [other.number for other in todo][i - 1 :]
            if minutes:
                with suppress(OSError), new_file(kept) as file:  # where it fails, an earlier list names these too
                    file.write(json.dumps({"asked": asked, "left": left}).encode())
            print(f"      stopped; left: {', '.join(left)}", flush=True)
            raise
        print(f"      {duration(run.seconds)}: {f'FAILED at {run.failure}' if run.failure else 'done'}", flush=True)
    if minutes:
        signal.setitimer(signal.ITIMER_REAL, 0)
        kept.unlink(missing_ok=True)
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


def report(runs: Sequence[Run], table, profile: str, results: Path) -> None:
    """Print the verdicts of these runs (what failed has none), where everything lies, and what failed."""
    failed = [run.notebook.number for run in runs if run.failure]
    table = table[table.notebook.isin([run.notebook.number for run in runs])].copy()
    table.loc[table.notebook.isin(failed), ["ours", "verdict"]] = "", "not run"  # what stands there is an earlier run's
    width, longest = shutil.get_terminal_size((120, 24)).columns, max(map(len, table.id), default=0)
    for row in table.itertuples():
        line = f"  {LOOKS[row.verdict][0]} {row.verdict:<16}  {row.id:<{longest}}  {' '.join(row.ours.split())}"
        print(line if len(line) <= width else line[: width - 1] + "…")
    print("  " + ", ".join(f"{count} {name}" for name in LOOKS if (count := (table.verdict == name).sum())) + "\n")
    for run in runs:
        print(*([] if run.failure else notebooks.told(run.executed)), sep="", end="")
    for what, where in (("executed notebooks", "notebooks"), ("figures", "figures"), ("claims", "claims")):
        print(f"{what}: {short(results / profile / where)}")
    for run in runs:
        if run.failure:
            so_far = f"\n  its notebook so far: {short(run.executed)}" if run.executed.exists() else ""
            print(f"\nFAILED {run.notebook.name} at {run.failure}{so_far}")


def short(path: Path) -> str:
    """The path from here, where it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def make_pages(executed: Path, records: Path, made: Path, folder: Path) -> int:
    """Web pages in the folder ``made``, by ``notebooks/site/pages.py``; the exit status."""
    status = _script("site/pages.py", executed, records, made, folder)
    print(f"pages: {'FAILED' if status else short(made / 'index.html')}")
    return status


def _script(name: str, *arguments) -> int:
    """The exit status of a script that lies beside the notebooks."""
    command = [sys.executable, REPO / "notebooks" / name, *arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(REPO)}).returncode


def main(argv: Sequence[str] | None = None, folder: Path = REPO / "notebooks") -> int:
    """The command; returns the exit status."""
    for name in ("SIGTERM", "SIGHUP"):  # as Ctrl-C: the kernel goes too; under nohup SIGHUP stays ignored
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        return _main(argv, folder)
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # of the kernel's death, which was meant
        print("\nstopped; what is finished is kept, and the next run goes on from it", file=sys.stderr)
        return 130


def _main(argv: Sequence[str] | None, folder: Path) -> int:
    start = time.perf_counter()
    results = results_folder().resolve()
    try:
        asked = options(sys.argv[1:] if argv is None else argv, folder)
        if (asked.html or asked.pages) and (missing := [module for module in EXTRA if find_spec(module) is None]):
            raise Refused(f"web pages need {', '.join(missing)}: pip install -r requirements.txt, or -e '.[site]'")
        todo = {} if asked.alone else plan_runs(asked.only, asked.profile, asked.parameters)
        for name in ("", *FOLDERS, *["html"] * asked.html) if todo and not asked.plan else ():
            (place := results / asked.profile / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()  # can it be written to, before hours of work?
    except (OSError, ValueError) as error:
        unwritten = f"results cannot be written to {results} ({error}); set STUDY_RESULTS"
        print(f"run_all.sh: {unwritten if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    if asked.test:
        workers = "-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal"
        return subprocess.run([sys.executable, "-m", "pytest", *workers, *asked.pytest], cwd=REPO).returncode
    if asked.brought:
        return _script("../tests/benchmarks/gpu_import.py", asked.brought)
    if asked.plan:
        return _script("profiles/plan.py", json.dumps({notebook.number: values for notebook, values in todo.items()}))
    if asked.pages:
        return make_pages(folder, folder / "verdicts" / "laptop", results / "pages", folder)
    runs = run_all(todo, asked.profile, results, asked.minutes)
    good = [run for run in runs if not run.failure]
    print(f"[{len(todo) + 1}/{len(todo) + 1}] verdicts")
    table = summary(read_records(results / asked.profile / "claims"), folder / "claims.yaml")
    report(runs, table, asked.profile, results)
    for run in good if asked.save else ():
        print(f"saved: {', '.join(map(short, publish.write_back(run, results, folder.parent)))}")
    if asked.html and good:  # of all that was executed under this profile, now or before
        made = results / asked.profile
        make_pages(made / "notebooks", made / "claims", made / "html", folder)
    print(f"\n{len(good)} of {len(runs)} notebooks went well, in {duration(time.perf_counter() - start)}")
    return 0 if len(good) == len(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
