"""Notebooks as files: finding them, their parameters, running one, and writing its outputs back.

A notebook ``NN_name`` is a pair, ``NN_name.py`` (percent format) and ``NN_name.ipynb`` (with outputs); the text of both
is the same. What only reads the ``.py`` needs the standard library alone, so that a wrong option is refused before
anything is installed.
"""

import ast
import contextlib
import itertools
import json
import os
import re
import time
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "laptop", "paper")
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
#: glibc gives large arrays back to the system when they are freed and has their pages zeroed when it asks again. Kept
#: instead, notebook 01 (all in its store) took 2 min 24 s in place of 3 min 9 s, 12 s in place of 146 s in the system.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(10**12), "MALLOC_TOP_PAD_": str(2**28)}
BAR = "      {bar:40} cell {n_fmt} of {total_fmt}, {elapsed}"


@dataclass(frozen=True)
class Notebook:
    """A pair of files; ``number`` is ``"04"``, ``name`` is ``"04_cg_score_pruning"``."""

    folder: Path
    name: str

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def py(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def ipynb(self) -> Path:
        return self.folder / f"{self.name}.ipynb"


@dataclass(frozen=True)
class Parameter:
    """A line of the parameters cell: ``name: annotation = default  # help``; of the annotations papermill knows."""

    name: str
    annotation: str
    default: object
    help: str


@dataclass(frozen=True)
class Run:
    """What came of a run: ``failure`` is empty where it can be trusted; ``executed`` is the notebook with outputs."""

    notebook: Notebook
    profile: str
    seconds: float
    executed: Path
    failure: str = ""


def find(folder: Path) -> list[Notebook]:
    """All notebooks of a folder in the order of their numbers.

    Raises:
        ValueError: if there is none, two share a number, or an ``.ipynb`` has no ``.py``.
    """
    names = sorted({path.stem for path in folder.glob("[0-9][0-9]_*") if path.suffix in (".py", ".ipynb")})
    notebooks = [Notebook(folder, name) for name in names]
    if not notebooks:
        raise ValueError(f"expected notebooks such as 04_name.py in {folder}, found none")
    for one, other in itertools.pairwise(notebooks):
        if one.number == other.number:
            raise ValueError(f"expected one notebook a number, got {one.name} and {other.name}")
    for notebook in notebooks:
        if not notebook.py.exists():
            raise ValueError(f"{notebook.ipynb.name} has no {notebook.py.name}: jupytext --to py:percent it")
    return notebooks


def parameters(notebook: Notebook) -> dict[str, Parameter]:
    """What the notebook declares in its parameters cell, by name.

    Raises:
        ValueError: if there is not one such cell, or a line of it is not ``name: type = literal``.
    """
    cells = re.findall(r'^# %% tags=\["parameters"\]\n(.*?)(?=^# %%|\Z)', notebook.py.read_text("utf8"), re.M | re.S)
    if len(cells) != 1:
        raise ValueError(f'{notebook.py.name}: expected one cell `# %% tags=["parameters"]`, found {len(cells)}')
    lines, found = cells[0].splitlines(), {}
    for node in ast.parse(cells[0]).body:
        try:
            name, annotation, default = node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value)
        except (AttributeError, TypeError, ValueError):
            at = lines[node.lineno - 1]
            raise ValueError(f"{notebook.py.name}: expected `name: type = literal  # help`, got `{at}`") from None
        text = lines[node.end_lineno - 1][len(ast.get_source_segment(cells[0], node).splitlines()[-1]) :]
        found[name] = Parameter(name, annotation, default, text.strip().removeprefix("#").strip())
    return found


def fit(value: object, annotation: str) -> object:
    """The value, if the annotation allows it (an int is taken for a float).

    Raises:
        TypeError: if it does not.

    Example:
        >>> fit(3, "float"), fit([1, 2], "list[float]")
        (3.0, [1.0, 2.0])
    """
    return _fit(value, eval(annotation, {"__builtins__": {}}, TYPES))  # an annotation of our own notebooks


def _fit(value, hint):
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is float and type(value) in (int, float):
        return float(value)
    elif origin is list and isinstance(value, list):
        return [_fit(item, inner[0]) for item in value] if inner else value
    elif origin is dict and isinstance(value, dict):
        return {_fit(k, inner[0]): _fit(v, inner[1]) for k, v in value.items()} if inner else value
    elif type(value) is origin:  # `type … is`, as True is an int to isinstance
        return value
    raise TypeError(f"{value!r} ({type(value).__name__})")


def overrides(notebook: Notebook, profile: str, given: Mapping[str, str] | None = None) -> dict[str, object]:
    """What papermill is to inject: the profile's file, then ``given``, texts read as YAML and held to the annotations.

    The text of a ``str`` parameter is taken as it stands; where it names an ``.npz`` file, the path is made absolute,
    because a notebook runs in its own folder.

    Raises:
        ValueError: if the profile's file is missing or is not for this profile, or a name or a value does not fit.
    """
    import yaml

    declared = parameters(notebook)
    path = notebook.folder / "profiles" / profile / f"{notebook.number}.yaml"
    if not path.exists():
        raise ValueError(f"{notebook.name} has no {path.relative_to(notebook.folder)}")
    values = yaml.safe_load(path.read_text("utf8")) or {}
    where = dict.fromkeys(values, str(path.relative_to(notebook.folder)))
    if values.get("profile") != profile:
        raise ValueError(f"{where.get('profile', path)}: expected `profile: {profile}`")
    for name, text in (given or {}).items():
        values[name], where[name] = _read(text, declared[name].annotation if name in declared else ""), "-p"
    for name in values:
        if name not in declared:
            raise ValueError(f"{where[name]}: {notebook.name} has no parameter {name!r}; it has {', '.join(declared)}")
        try:
            values[name] = fit(values[name], declared[name].annotation)
        except TypeError as error:
            wanted = f"{declared[name].annotation} (such as {declared[name].default!r})"
            raise ValueError(f"{where[name]}: {name} of {notebook.name} is {wanted}, got {error}") from None
    return values


def _read(text: str, annotation: str) -> object:
    import yaml

    class Loader(yaml.SafeLoader):  # YAML 1.1 takes 1e-3 for text
        pass

    exponent = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    if annotation == "str":
        path = Path(text)
        return str(path.resolve()) if path.suffix == ".npz" and path.exists() else text
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text


def difference(notebook: Notebook) -> str:
    """Where the cells of a pair differ (kind, text, tags), in words; empty where they agree, or with no ``.ipynb``."""
    import jupytext
    import nbformat

    if not notebook.ipynb.exists():
        return ""
    halves = [_plain(nb) for nb in (jupytext.read(notebook.py), nbformat.read(notebook.ipynb, as_version=4))]
    for i, (py, ipynb) in enumerate(zip(*halves, strict=False), 1):
        if py != ipynb:
            return f"cell {i}: .py has {_first(py[1])!r}, .ipynb {_first(ipynb[1])!r}"
    return "" if len(halves[0]) == len(halves[1]) else f".py has {len(halves[0])} cells, .ipynb {len(halves[1])}"


def _plain(nb) -> list[tuple]:
    return [(cell.cell_type, cell.source.strip(), tuple(cell.metadata.get("tags", []))) for cell in nb.cells]


def _first(source: str) -> str:
    return next((line for line in source.splitlines() if line.strip()), "")


def owned(notebook: Notebook) -> list[str]:
    """The ids of the claims that a notebook must record, from ``claims.yaml`` beside it."""
    from lib.ledger.claims import load_claims

    claims = load_claims(notebook.folder / "claims.yaml").values()
    return [claim.id for claim in claims if claim.notebook == notebook.number]


def answers(notebook: Notebook) -> dict[int, list[str]]:
    """The code in the folded answer of each exercise, by the exercise's number; empty where an answer is words alone.

    Raises:
        ValueError: if the exercises are not numbered from 1, or one has not one ``<details>``.
    """
    import jupytext

    prose = "\n\n".join(cell.source for cell in jupytext.read(notebook.py).cells if cell.cell_type == "markdown")
    section = re.split(r"^## ", prose.partition("\n## Exercises\n")[2], flags=re.M)[0]
    found = {}
    for exercise in re.split(r"^(?=\d+\. )", section, flags=re.M)[1:]:
        number, folded = int(exercise.split(".")[0]), re.findall(r"<details>.*?</details>", exercise, re.S)
        if number != len(found) + 1 or len(folded) != 1:
            got = f"exercise {number} with {len(folded)} <details>"
            raise ValueError(f"{notebook.name}: expected exercise {len(found) + 1} with one <details>, got {got}")
        found[number] = re.findall(r"^```python\n(.*?)^```", folded[0], re.M | re.S)
    return found


def run(
    notebook: Notebook, profile: str, values: Mapping, results: Path, *, progress: bool = False, exercises: bool = False
) -> Run:
    """Execute a notebook in a new kernel, in its own folder, and check that each claim it owns was recorded.

    Files: ``<results>/<profile>/notebooks/NN_name.ipynb`` where all went well; else ``NN_name.failed.ipynb``, and the
    claims file (if any) ends in ``.failed``. What an earlier run left under these names is removed first.

    Args:
        values: the parameters to inject, see :func:`overrides`.
        results: the root of results; the notebook finds it in ``$STUDY_RESULTS``.
        progress: show papermill's bar.
        exercises: after its cells also run its :func:`answers`, each as a cell that starts with ``# exercise 2``.
    """
    import jupytext
    import nbformat

    results = Path(results).resolve()
    done = results / profile / "notebooks" / f"{notebook.name}.ipynb"
    failed, partial = done.with_suffix(".failed.ipynb"), done.with_suffix(".partial.ipynb")
    claims = results / profile / "claims" / f"{notebook.number}.json"
    for path in (done, failed, partial, claims, claims.with_suffix(".json.failed")):
        path.unlink(missing_ok=True)
    done.parent.mkdir(parents=True, exist_ok=True)
    cells = jupytext.read(notebook.py)
    for number, blocks in answers(notebook).items() if exercises else ():
        cells.cells += [nbformat.v4.new_code_cell(f"# exercise {number}\n{block}") for block in blocks]
    nbformat.write(cells, partial)
    start = time.perf_counter()
    try:
        failure = _execute(notebook, partial, values, results, progress) or _unrecorded(notebook, claims)
    except BaseException:  # stopped from outside: leave nothing half-done
        partial.unlink(missing_ok=True)
        claims.unlink(missing_ok=True)
        raise
    if failure and claims.exists():
        claims.rename(claims.with_suffix(".json.failed"))
    executed = partial.rename(failed if failure else done)
    return Run(notebook, profile, time.perf_counter() - start, executed, failure)


def _execute(notebook: Notebook, path: Path, values: Mapping, results: Path, progress: bool) -> str:
    """Run the file in place; the failure in words, or empty."""
    import nbformat
    import papermill
    import tqdm.auto  # noqa: F401  read the environment now: the bars of the notebook are silenced below, not ours
    from nbclient.exceptions import DeadKernelError

    environment = {
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPO), str(REPO / "notebooks"), os.environ.get("PYTHONPATH")])),
        "STUDY_RESULTS": str(results),
        "TQDM_DISABLE": "1",
    } | {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    try:
        with _environ(environment):
            papermill.execute_notebook(
                path,
                path,
                dict(values),
                cwd=notebook.folder,
                progress_bar=progress and {"leave": False, "bar_format": BAR},
                extra_arguments=["--log-level=50"],  # of the kernel, which talks of its sockets on stderr
            )
    except papermill.PapermillExecutionError as error:
        return f"cell [{error.exec_count}] `{_first(error.source)}`: {error.ename}: {_first(error.evalue)}"
    except DeadKernelError:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        begun = [cell for cell in cells if cell.metadata.papermill.start_time]
        return f"cell [{len(begun)}] `{_first(begun[-1].source)}`: the kernel died (was it out of memory?)"
    except Exception as error:  # such as a kernel that does not start: the other notebooks are still to run
        return f"{type(error).__name__}: {error}"
    return ""


@contextlib.contextmanager
def _environ(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _unrecorded(notebook: Notebook, claims: Path) -> str:
    recorded = json.loads(claims.read_text("utf8")) if claims.exists() else {}
    missing = [claim for claim in owned(notebook) if claim not in recorded]
    return f"claims not recorded: {', '.join(missing)}" if missing else ""
