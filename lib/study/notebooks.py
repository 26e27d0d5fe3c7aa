"""Notebooks as files: finding them, their parameters, running one.

A notebook ``NN_name`` is a pair, ``NN_name.py`` (percent format) and ``NN_name.ipynb`` (with outputs); the text of both
is the same. The main line, 00 to 09, lies in one folder; its appendices lie in ``appendix`` there: 14 goes on from 04.
"""

import ast
import itertools
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jupytext
import nbformat
import papermill
import tqdm.auto  # noqa: F401  reads the environment now: the bars of the notebook are silenced below, not ours
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.translators import PythonTranslator

from lib.ledger.claims import load_claims
from lib.store import expanded

REPO = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "laptop", "paper")
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
#: glibc gives freed arrays back, and their pages are zeroed when it asks again; kept, 01 took 144 s in place of 189.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**12), "MALLOC_TOP_PAD_": str(2**28)}
BAR = "      {bar:40} cell {n_fmt} of {total_fmt}, {elapsed}"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-3 for text; here it is a number."""


_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


@dataclass(frozen=True)
class Notebook:
    """A pair of files; ``number`` is ``"04"``, ``name`` is ``"04_cg_score_pruning"``."""

    folder: Path
    name: str

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def appendix(self) -> bool:
        return self.folder.name == "appendix"

    @property
    def home(self) -> Path:
        """The folder of the main line, with claims, profiles and verdicts."""
        return self.folder.parent if self.appendix else self.folder

    @property
    def py(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def ipynb(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def title(self) -> str:
        """Its first heading, ``"04 · The complexity-gap score: valuing data without training"``."""
        return next(iter(re.findall(r"^# # (.+)$", self.py.read_text("utf8"), re.M)), self.name)


@dataclass(frozen=True)
class Parameter:
    """A line of the parameters cell: ``name: annotation = default  # help``; an annotation is one of ``TYPES``."""

    name: str
    annotation: str
    default: object
    help: str

    def fit(self, value: object) -> object:
        """The value, if it is of the annotated type (an int is taken for a float).

        Raises: TypeError if it is not.
        """
        if self.annotation == "float" and type(value) is int:
            return float(value)
        if type(value) is not TYPES[self.annotation]:  # `is`, as True is an int to isinstance
            raise TypeError(f"{value!r} ({type(value).__name__})")
        return value


@dataclass(frozen=True)
class Run:
    """What came of a run: ``failure`` is empty where it can be trusted; ``executed`` is the notebook with outputs."""

    notebook: Notebook
    profile: str
    seconds: float
    executed: Path
    failure: str = ""


def find(folder: Path) -> list[Notebook]:
    """All notebooks of a folder in the order of their numbers, and then those of its ``appendix``.

    Raises: ValueError if there is none, two share a number, or an ``.ipynb`` has no ``.py``.
    """
    found = []
    for place in (folder, folder / "appendix"):
        names = {path.stem for path in place.glob("[0-9][0-9]_*") if path.suffix in (".py", ".ipynb")}
        found += [Notebook(place, name) for name in sorted(names)]
    if not found:
        raise ValueError(f"expected notebooks such as 04_name.py in {folder}, found none")
    for one, other in itertools.pairwise(found):
        if one.number == other.number:
            raise ValueError(f"expected one notebook a number, got {one.name} and {other.name}")
    for notebook in found:
        if not notebook.py.exists():
            raise ValueError(f"{notebook.ipynb.name} has no {notebook.py.name}: jupytext --to py:percent it")
    return found


def parameters(notebook: Notebook) -> dict[str, Parameter]:
    """What the notebook declares in its parameters cell, by name, as papermill reads it.

    Raises: ValueError if there is not one such cell, or a line of it is not ``name: type = literal``.
    """
    cells = [c for c in jupytext.read(notebook.py).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f'{notebook.py.name}: expected one cell `# %% tags=["parameters"]`, found {len(cells)}')
    read, found = {parameter.name: parameter for parameter in PythonTranslator.inspect(cells[0])}, {}
    for node in ast.parse(cells[0].source).body:
        try:
            name, default = node.target.id, ast.literal_eval(node.value)
            found[name] = Parameter(name, read[name].inferred_type_name, default, read[name].help)
            found[name].fit(default)
        except (AttributeError, KeyError, TypeError, ValueError):
            line = cells[0].source.splitlines()[node.lineno - 1]
            raise ValueError(f"{notebook.py.name}: expected `name: type = literal  # help`, got `{line}`") from None
    return found


def overrides(notebook: Notebook, profile: str, given: Mapping[str, str] | None = None) -> dict[str, object]:
    """What papermill is to inject: the profile's file, then ``given``, texts read as YAML and held to the annotations.

    The text of a ``str`` parameter is taken as it stands; where it names a file or folder, the path is made absolute,
    because a notebook runs in its own folder.

    Raises: ValueError if the profile's file is missing or is not for this profile, or a name or a value does not fit.
    """
    declared = parameters(notebook)
    path = notebook.home / "profiles" / profile / f"{notebook.number}.yaml"
    if not path.exists():
        raise ValueError(f"{notebook.name} has no {path.relative_to(notebook.home)}")
    values = yaml.safe_load(path.read_text("utf8")) or {}
    where = dict.fromkeys(values, str(path.relative_to(notebook.home)))
    if values.get("profile") != profile:
        raise ValueError(f"{where.get('profile', path)}: expected `profile: {profile}`")
    for name, text in (given or {}).items():
        values[name], where[name] = _value(name, text, declared[name].annotation if name in declared else ""), "-p"
    for name in values:
        if name not in declared:
            raise ValueError(f"{where[name]}: {notebook.name} has no parameter {name!r}; it has {', '.join(declared)}")
        try:
            values[name] = declared[name].fit(values[name])
        except TypeError as error:
            wanted = f"{declared[name].annotation} (such as {declared[name].default!r})"
            raise ValueError(f"{where[name]}: {name} of {notebook.name} is {wanted}, got {error}") from None
    return values


def _value(name: str, text: str, annotation: str) -> object:
    if annotation == "str":  # a word is a folder only where data are asked for: "" is none, and a label may be "data"
        path = expanded(text)
        named = path.suffix or "/" in text or (text and name.endswith("dataset"))
        return str(path.resolve()) if named and path.exists() else text
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def pair_difference(notebook: Notebook) -> str:
    """Where the cells of a pair differ (kind, text, tags), in words; empty where they agree, or with no ``.ipynb``."""
    if not notebook.ipynb.exists():
        return ""
    plain = lambda cell: (cell.cell_type, cell.source.strip(), tuple(cell.metadata.get("tags", [])))
    pair = jupytext.read(notebook.py), nbformat.read(notebook.ipynb, as_version=4)
    py, ipynb = ([plain(cell) for cell in half.cells] for half in pair)
    for i, (one, other) in enumerate(zip(py, ipynb, strict=False), 1):
        if one != other:
            return f"cell {i}: .py has {_first_line(one[1])!r}, .ipynb {_first_line(other[1])!r}"
    return "" if len(py) == len(ipynb) else f".py has {len(py)} cells, .ipynb {len(ipynb)}"


def _first_line(source: str) -> str:
    return next((line for line in source.splitlines() if line.strip()), "")


def owned(notebook: Notebook) -> list[str]:
    """The ids of the claims that a notebook must record, from ``claims.yaml`` beside it."""
    claims = load_claims(notebook.home / "claims.yaml").values()
    return [claim.id for claim in claims if claim.notebook == notebook.number]


def run(
    notebook: Notebook, profile: str, values: Mapping, results: Path, *, progress: bool = False,
    more: Sequence[str] = (),
) -> Run:  # fmt: skip
    """Execute a notebook in a new kernel, in its own folder, and check that each claim it owns was recorded.

    Files: ``<results>/<profile>/notebooks/NN_name.ipynb`` and ``claims/NN.json``, written beside (``.partial``, pid)
    and put in place of an earlier run's once all went well. What failed is named ``.failed``, and the earlier run's
    stay. Of two runs at once the last to end stays.

    Args:
        values: the parameters to inject, see :func:`overrides`.
        results: the root of results; the notebook finds it in ``$STUDY_RESULTS``.
        progress: show papermill's bar.
        more: code to run after its cells, a cell each.
    """
    results = Path(results).resolve()
    executed = results / profile / "notebooks" / f"{notebook.name}.ipynb"
    claims = results / profile / "claims" / f"{notebook.number}.json"
    beside = f".partial{os.getpid()}"  # where the ledger writes, too
    partial = {path: path.with_suffix(f"{beside}{path.suffix}") for path in (executed, claims)}
    failed = {path: path.with_suffix(f".failed{path.suffix}") for path in (executed, claims)}
    cells = jupytext.read(notebook.py)
    cells.cells += map(nbformat.v4.new_code_cell, more)
    executed.parent.mkdir(parents=True, exist_ok=True)
    for path in (*failed.values(), *_orphans(executed), *_orphans(claims)):
        path.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        failure = _execute(notebook, cells, partial[executed], values, results, progress, beside)
        failure = failure or _unrecorded(notebook, partial[claims])
    except BaseException:  # stopped from outside: leave nothing half-done
        for path in partial.values():
            path.unlink(missing_ok=True)
        raise
    for path, made in partial.items():
        if made.exists():
            made.replace(failed[path] if failure else path)
    return Run(notebook, profile, time.perf_counter() - start, failed[executed] if failure else executed, failure)


def _orphans(path: Path) -> list[Path]:
    """What runs that were killed have left beside ``path``: its name has the number of their process."""
    left = []
    for old in path.parent.glob(f"{path.stem}.partial*{path.suffix}"):
        try:
            os.kill(int(old.stem.rpartition("partial")[2] or 0), 0)
        except (ProcessLookupError, ValueError):
            left.append(old)
        except OSError:  # another user's
            pass
    return left


def told(executed: Path) -> list[str]:
    """What the cells tagged ``summary`` of an executed notebook print."""
    cells = [cell for cell in nbformat.read(executed, 4).cells if "summary" in cell.metadata.get("tags", [])]
    return [output.text for cell in cells for output in cell.outputs if output.output_type == "stream"]


def _execute(notebook: Notebook, cells, path: Path, values: Mapping, results: Path, progress: bool, beside: str) -> str:
    """Write and run the file, its widgets unanswered (nbclient's issue 312: that may hide a reply); the failure."""
    environment = {
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's,
        "JUPYTER_PATH": "",  # which would come first all the same
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPO), str(REPO / "notebooks"), os.environ.get("PYTHONPATH")])),
        "STUDY_RESULTS": str(results),
        "STUDY_PARTIAL": beside,
        "TQDM_DISABLE": "1",
    } | {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    place = [str(path).replace("{", "{{").replace("}", "}}")] * 2  # papermill fills in what stands in braces
    try:
        nbformat.write(cells, path)
        with mock.patch.dict(os.environ, environment), mock.patch("nbclient.output_widget.OutputWidget.sync_state"):
            papermill.execute_notebook(
                *place, dict(values), cwd=notebook.folder,
                progress_bar=progress and {"leave": False, "bar_format": BAR},
                extra_arguments=["--log-level=50"],  # of the kernel, which talks of its sockets on stderr
            )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        return f"cell [{error.exec_count}] `{_first_line(error.source)}`: {error.ename}: {_first_line(error.evalue)}"
    except DeadKernelError:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        begun = [cell for cell in cells if cell.metadata.papermill.start_time]
        return f"cell [{len(begun)}] `{_first_line(begun[-1].source)}`: the kernel died (was it out of memory?)"
    except Exception as error:  # such as a kernel that does not start: the other notebooks are still to run
        if isinstance(error, OSError):  # a full disk, where half of it stands
            path.unlink(missing_ok=True)
        return f"{type(error).__name__}: {error}"
    return ""


def _unrecorded(notebook: Notebook, claims: Path) -> str:
    recorded = json.loads(claims.read_text("utf8")) if claims.exists() else {}
    missing = [claim for claim in owned(notebook) if claim not in recorded]
    return f"claims not recorded: {', '.join(missing)}" if missing else ""
