"""Every notebook: in style, paired, and under ``smoke`` finding what it is expected to find."""

import itertools
import json
import re
import socket
import statistics
from functools import cache
from pathlib import Path

import expectations
import jupytext
import nbformat
import pytest

from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook, find

#: The notebooks that there are; one that is added is added here, one that goes missing fails the suite.
NAMES = (
    "00_start_here",
    "01_linearization_accuracy",
    "02_unique_information",
    "03_long_tail_memorization",
    "04_cg_score_pruning",
    "05_data_diet",
    "06_influence_fragility",
    "07_scores_side_by_side",
    "08_score_your_own_data",
)
FOLDER = REPO / "notebooks"
START = "00_start_here"  # a map; it asks nothing of its reader
each = pytest.mark.parametrize("name", NAMES)

MACHINE = re.compile(r"(?<![\w.~/:-])/(?:[h]ome|[r]oot|[t]mp|[w]ork|[o]pt|[U]sers|[p]rivate|[v]ar)/\w|\b[A-Z]:\\\\?\w")


@cache
def text(name: str) -> nbformat.NotebookNode:
    return jupytext.read(FOLDER / f"{name}.py")


@cache
def committed(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def owned(name: str) -> list[str]:
    return notebooks.owned(Notebook(FOLDER, name))


def code(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in text(name).cells if cell.cell_type == "code"]


def lines(cell: nbformat.NotebookNode) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip())


def output_text(notebook: nbformat.NotebookNode) -> str:
    """All that the outputs say in words."""
    words = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            words.append(output.get("text", ""))
            words += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(words)


def test_these_are_the_notebooks():
    assert [notebook.name for notebook in find(FOLDER)] == list(NAMES)


# --- the text --------------------------------------------------------------------------------------------------------


@each
def test_the_pair_says_the_same(name):
    assert (FOLDER / f"{name}.ipynb").exists()
    assert notebooks.difference(Notebook(FOLDER, name)) == ""


@each
def test_parameters_are_literals_with_types_and_help(name):
    from papermill import inspect_notebook

    declared = notebooks.parameters(Notebook(FOLDER, name))
    assert {"profile", "seed", "device"} <= set(declared)
    assert declared["profile"].default == "laptop"
    assert not [parameter.name for parameter in declared.values() if not parameter.help]
    for parameter in declared.values():
        assert notebooks.fit(parameter.default, parameter.annotation) == parameter.default
    assert set(inspect_notebook(FOLDER / f"{name}.ipynb")) == set(declared)  # so that papermill knows them too


@each
@pytest.mark.parametrize("profile", notebooks.PROFILES)
def test_profiles_fit(name, profile):
    notebook = Notebook(FOLDER, name)
    values = notebooks.overrides(notebook, profile)
    if profile == "laptop":  # what is committed is what the parameters cell says
        declared = notebooks.parameters(notebook)
        assert values == {key: declared[key].default for key in values}


@each
def test_prose_before_code(name):
    cells = text(name).cells
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code" and "parameters" not in before.metadata.get("tags", []):
            assert before.cell_type == "markdown", f"no prose before:\n{cell.source}"


@each
def test_code_cells_are_short(name):
    sizes = [lines(cell) for cell in code(name) if "parameters" not in cell.metadata.get("tags", [])]
    assert statistics.median(sizes) <= 8
    longest = max(code(name), key=lines)
    assert max(sizes) <= 30, longest.source


@each
def test_the_skeleton(name):
    prose = "\n".join(cell.source for cell in text(name).cells if cell.cell_type == "markdown")
    assert prose.startswith(f"# {name[:2]} · ")
    study = ("## What we test", "## Data", "## Method", "## Where we deviate") if owned(name) else ()
    for part in ("**Question.**", *study, *(("## Exercises",) if name != START else ())):
        assert part in prose, part
    assert prose.count("<details>") == prose.count("</details>")
    assert text(name).metadata["kernelspec"]["name"] == "python3"


@each
def test_it_asks_its_reader(name):
    """Guesses before the experiments, and exercises whose answers run (with the notebook, in ``test_smoke``)."""
    prose = "\n".join(cell.source for cell in text(name).cells if cell.cell_type == "markdown")
    assert "(GLOSSARY.md)" in prose
    if name == START:
        return
    assert len(re.findall(r"^\*\*Predict\.\*\* ", prose, re.M)) >= 3
    answers = notebooks.answers(Notebook(FOLDER, name))
    assert 3 <= len(answers) <= 5
    assert sum(map(bool, answers.values())) > len(answers) / 2


# --- what is committed -----------------------------------------------------------------------------------------------


def clean(notebook: nbformat.NotebookNode) -> None:
    kinds = [output.output_type for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in kinds
    said = output_text(notebook)
    found = MACHINE.search(said)
    assert not found, said[max(0, found.start() - 80) : found.end() + 80]
    host = socket.gethostname()
    assert len(host) < 4 or host not in said


@each
def test_committed_outputs(name):
    notebook = committed(name)
    if not any(cell.get("outputs") for cell in notebook.cells):
        pytest.fail(f"{name}.ipynb has no outputs: ./run_all.sh --only {name[:2]} --save")
    clean(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert "profile laptop" in output_text(notebook).lower()


@each
def test_committed_sizes(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 3_000_000
    figures = sorted((REPO / "figures").glob(f"{name[:2]}_*.png"))
    assert figures
    assert not [figure.name for figure in figures if figure.stat().st_size > 300_000]


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.notebooks
@each
def test_smoke(name, tmp_path, monkeypatch):
    """Runs, from another working directory, with the exercises' answers, and finds what it found before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_RESULTS", "nowhere")  # the runner's argument counts
    notebook = Notebook(FOLDER, name)
    run = notebooks.run(notebook, "smoke", notebooks.overrides(notebook, "smoke"), Path("results"), exercises=True)
    assert not run.failure, f"{name}: {run.failure}"
    assert not (tmp_path / "nowhere").exists()
    executed = nbformat.read(run.executed, as_version=4)
    assert "error" not in [output.output_type for cell in executed.cells for output in cell.get("outputs", [])]
    exercises = [cell for cell in executed.cells if cell.source.startswith("# exercise ")]
    assert sum(cell.metadata.papermill.duration for cell in exercises) < 60  # seconds; a few, on a machine at rest
    if not owned(name):
        return
    found = json.loads((tmp_path / "results/smoke/claims" / f"{notebook.number}.json").read_text("utf8"))
    assert set(owned(name)) == set(found)
    wanted = json.loads(expectations.FILE.read_text("utf8")).get(notebook.number)
    assert wanted, f"nothing is expected of {name} yet: python tests/expectations.py --only {notebook.number}"
    changed = expectations.differences(wanted, found)
    assert not changed, "\n".join(["not as expected (python tests/expectations.py, if it is meant):", *changed])


# --- how expectations work -------------------------------------------------------------------------------------------


def record(value, verdict="reproduced", interval=None):
    return {"value": value, "verdict": verdict, "interval": interval}


def test_a_value_of_another_seed_is_expected_and_one_far_off_is_not():
    wanted = {"a.b": expectations.expected("difference", [record({"20%": v}) for v in (1.0, 1.2, 0.9, 1.1, 1.0)])}
    assert expectations.differences(wanted, {"a.b": record({"20%": 1.3})}) == []
    (line,) = expectations.differences(wanted, {"a.b": record({"20%": 3.0})})
    assert line.startswith("a.b at 20%: the value was 1 ±") and line.endswith("now it is 3")
    (line,) = expectations.differences(wanted, {"a.b": record({"20%": float("nan")})})
    assert "now it is nan" in line
    (line,) = expectations.differences(wanted, {"a.b": record(None)})
    assert line == "a.b at 20%: the value was 1, now there is none"


def test_the_tolerance_holds_another_seed():
    """Five normal draws, a sixth: about 5% lie outside."""
    import numpy as np

    rng, outside = np.random.default_rng(0), 0
    for _ in range(4000):
        *five, sixth = rng.normal(5.0, 2.0, 6)
        wanted = {"a": expectations.expected("share", [record(float(v)) for v in five])}
        outside += bool(expectations.differences(wanted, {"a": record(float(sixth))}))
    assert 0.03 < outside / 4000 < 0.07


def test_a_change_of_verdict_names_claim_old_and_new():
    wanted = {"a.b": expectations.expected("difference", [record(1.0), record(1.0, "partly"), record(1.0)])}
    assert expectations.differences(wanted, {"a.b": record(1.0, "partly")}) == []
    (line,) = expectations.differences(wanted, {"a.b": record(1.0, "not reproduced")})
    assert line == "a.b: the verdict was 'reproduced' (or partly), now it is 'not reproduced'"


def test_claims_that_come_or_go_are_named():
    wanted = {"a.b": expectations.expected("share", [record(0.5), record(0.5)])}
    assert expectations.differences(wanted, {"c.d": record(1.0)}) == [
        "a.b: expected, and not recorded",
        "c.d: recorded, and not expected (refresh the expectations)",
    ]


def test_identities_costs_and_what_is_not_decided():
    identity = expectations.expected("identity", [record(1e-12), record(3e-11)])
    assert identity == {"verdict": "reproduced"}
    cost = expectations.expected("cost", [record(20.0), record(24.0)])
    assert expectations.differences({"a": cost}, {"a": record(0.9, "not reproduced")}) == []
    assert len(expectations.differences({"a": cost}, {"a": record(None, "not decided here")})) == 1
    undecided = expectations.expected("share", [record(None, "not decided here")] * 2)
    assert expectations.differences({"a": undecided}, {"a": record(None, "not decided here")}) == []
    assert "now it is 'reproduced'" in expectations.differences({"a": undecided}, {"a": record(0.5)})[0]
