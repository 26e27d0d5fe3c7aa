"""Every notebook: in style, paired, and under ``smoke`` finding what it is expected to find."""

import ast
import itertools
import json
import re
import shutil
import socket
import statistics
from functools import cache, reduce
from pathlib import Path

import exercises
import expectations
import jupytext
import nbformat
import numpy as np
import pytest
import sections
import torch
from expectations import FILE

from lib.ledger.claims import Claim
from lib.ledger.verdicts import judge
from lib.study import notebooks, publish
from lib.study.notebooks import REPO, Notebook, find

#: The notebooks that there are; one that is added is added here, one that goes missing fails the suite. With each of
#: the main line, the most cells and words of text that it may have: what a reader takes in at a sitting.
SIZES = {
    "00_start_here": (18, 930),
    "01_linearization_accuracy": (40, 1_500),
    "02_unique_information": (48, 1_700),
    "03_long_tail_memorization": (48, 1_700),
    "04_cg_score_pruning": (54, 1_850),
    "05_data_diet": (55, 1_950),
    "06_influence_fragility": (44, 1_600),
    "07_scores_side_by_side": (44, 1_710),
    "08_score_your_own_data": (33, 900),
    "09_scores_in_twenty_lines": (46, 1_150),
}
APPENDICES = (
    "11_linearization_further",
    "12_unique_information_further",
    "13_long_tail_further",
    "14_cg_score_further",
    "15_data_diet_further",
    "16_influence_further",
    "17_scores_side_by_side_further",
    "18_own_data_examples",
)
NAMES = (*SIZES, *APPENDICES)
FOLDER = REPO / "notebooks"
START = "00_start_here"  # a map; it asks nothing of its reader
each = pytest.mark.parametrize("name", NAMES)

MACHINE = re.compile(r"(?<![\w.~/:-])/(?:[h]ome|[r]oot|[t]mp|[w]ork|[o]pt|[U]sers|[p]rivate|[v]ar)/\w|\b[A-Z]:\\\\?\w")


@cache
def text(name: str) -> nbformat.NotebookNode:
    return jupytext.read(pair(name).py)


@cache
def committed(name: str) -> nbformat.NotebookNode:
    return nbformat.read(pair(name).ipynb, as_version=4)


def pair(name: str) -> Notebook:
    return next(notebook for notebook in find(FOLDER) if notebook.name == name)


def owned(name: str) -> list[str]:
    return notebooks.owned(pair(name))


def code(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in text(name).cells if cell.cell_type == "code"]


def lines(cell: nbformat.NotebookNode) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip())


@cache
def definitions() -> dict[str, str]:
    """The text of each function of ``definitions.py``."""
    source = (REPO / "lib/scores/definitions.py").read_text("utf8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) for node in functions}


def written_here(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell but for definitions that it shows."""
    shown = (text for text in definitions().values() if text in cell.source)
    return nbformat.v4.new_code_cell(reduce(lambda source, text: source.replace(text, ""), shown, cell.source))


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
    assert pair(name).ipynb.exists()
    assert notebooks.pair_difference(pair(name)) == ""


@each
def test_parameters_are_literals_with_types_and_help(name):
    from papermill import inspect_notebook

    declared = notebooks.parameters(pair(name))
    assert {"profile", "seed", "device"} <= set(declared)
    assert declared["profile"].default == "laptop"
    assert not [parameter.name for parameter in declared.values() if not parameter.help]
    assert set(inspect_notebook(pair(name).ipynb)) == set(declared)  # so that papermill knows them too


@each
@pytest.mark.parametrize("profile", notebooks.PROFILES)
def test_profiles_fit(name, profile):
    notebook = pair(name)
    values = notebooks.overrides(notebook, profile)
    if profile == "laptop":  # what is committed is what the parameters cell says
        declared = notebooks.parameters(notebook)
        assert values == {key: declared[key].default for key in values}


@pytest.mark.parametrize("name", SIZES)
def test_the_main_line_can_be_taken_in(name):
    most_cells, most_words = SIZES[name]
    prose = [cell.source for cell in text(name).cells if cell.cell_type == "markdown"]
    assert len(text(name).cells) <= most_cells
    assert sum(len(source.split()) for source in prose) <= most_words
    assert not [source for source in prose if len(source.split()) < 15]
    assert not [one for source in prose for one in sentences(source) if len(re.findall(r"\S*\w\S*", one)) > 35]


def sentences(source: str) -> list[str]:
    """Of prose; formulas, code and addresses count as a word, a line of a list or a table by itself."""
    plain = re.sub(r"(?s)```.*?```|\$\$.*?\$\$|\$.*?\$|`.*?`", "X", re.sub(r"\]\([^)]*\)", "]", source))
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*] |\||#|\d+\. ))|</?(?:details|summary)>", plain)
    return [one for part in parts if part[:1] != "|" for one in re.split(r"(?<=[.?!])[\")*_]*\s+(?=[^a-z])", part)]


def test_the_main_line_is_short():
    cells, words = map(sum, zip(*SIZES.values(), strict=True))
    assert cells <= 430 and words <= 16_000


@pytest.mark.parametrize("name", SIZES)
def test_half_of_its_sections_run_from_the_set_up_alone(name):
    """Its head says where the set-up ends and which sections then run; what they use, no other section defines."""
    code, (end, alone) = sections.code(pair(name)), sections.parts(pair(name))
    first = list(code).index(end) + 1
    set_up, rest = list(code)[:first], [part for part in list(code)[first:] if part not in sections.REST]
    known = set().union(*(code[part].defines for part in set_up))
    assert {part: code[part].needs - known for part in (*set_up, *alone)} == {part: set() for part in (*set_up, *alone)}
    assert set(alone) <= set(rest) and len(alone) >= len(rest) / 2


@pytest.mark.parametrize(
    ("cells", "needs"),
    [
        (["a = b\nc = a"], {"b"}),
        (["def f(x):\n    return x + later\n\nlater = 1"], set()),
        (["def f(x):\n    return x + later", "later = 1"], {"later"}),
        (["total += 1", "rows = [i for i in items if i > low]"], {"total", "items", "low"}),
        (["for i in range(n):\n    print(i)", "import os\nos.getcwd()"], {"n"}),
        (["x = (y := len(z)) + y"], {"z"}),
    ],
)
def test_what_a_section_needs_is_seen(cells, needs):
    assert reduce(sections.Code.read, cells, sections.Code()).needs == needs


@pytest.mark.parametrize("name", [name for name in SIZES if name != START])
def test_an_exercise_stands_on_the_set_up_and_the_section_that_it_names(name):
    code, (end, _) = sections.code(pair(name)), sections.parts(pair(name))
    (head,) = re.findall(r"## Exercises\n\n(.+)", "\n".join(cell.source for cell in text(name).cells))
    named = re.findall(r"\*(.+?)\*", head)
    known = set().union(*(code[part].defines for part in (*list(code)[: list(code).index(end) + 1], *named)))
    for blocks in exercises.answers(pair(name)).values():
        answer = reduce(sections.Code.read, blocks, sections.Code())
        assert not answer.needs - known
        known |= answer.defines


@pytest.mark.parametrize("name", APPENDICES)
def test_an_appendix_and_its_notebook_name_each_other(name):
    (main,) = (one for one in SIZES if one[:2] == f"0{name[1]}")
    prose = ["\n".join(cell.source for cell in text(one).cells if cell.cell_type == "markdown") for one in (main, name)]
    assert f"(appendix/{name}.ipynb" in prose[0]
    assert f"(../{main}.ipynb" in prose[1]


@each
def test_prose_before_code(name):
    cells = text(name).cells
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code" and "parameters" not in before.metadata.get("tags", []):
            assert before.cell_type == "markdown", f"no prose before:\n{cell.source}"


@each
def test_code_cells_are_short(name):
    cells = [cell for cell in code(name) if "parameters" not in cell.metadata.get("tags", [])]
    assert statistics.median(lines(written_here(cell)) for cell in cells) <= 15
    assert lines(longest := max(cells, key=lines)) <= 30, longest.source


@each
def test_the_skeleton(name):
    prose = "\n".join(cell.source for cell in text(name).cells if cell.cell_type == "markdown")
    assert prose.startswith(f"# {name[:2]} · ")
    study = ("## What we test", "## Data", "## Method", "## Where we deviate") if owned(name) else ()
    study = tuple(part for part in study if name in SIZES or part not in ("## Data", "## Method"))
    for part in ("**Question.**", *study, *(("## Exercises",) if name in SIZES and name != START else ())):
        assert part in prose, part
    assert prose.count("<details>") == prose.count("</details>")
    assert text(name).metadata["kernelspec"]["name"] == "python3"


@each
def test_it_asks_its_reader(name):
    """Guesses before the experiments, and exercises whose answers run (with the notebook, in ``test_smoke``)."""
    prose = "\n".join(cell.source for cell in text(name).cells if cell.cell_type == "markdown")
    assert "GLOSSARY.md)" in prose
    if name == START or name in APPENDICES:
        return
    assert len(re.findall(r"^\*\*Predict\.\*\* ", prose, re.M)) >= 3
    answers = exercises.answers(pair(name))
    assert 2 <= len(answers) <= 3
    assert all(answers.values())  # with code that runs


# --- what is committed -----------------------------------------------------------------------------------------------


def clean(notebook: nbformat.NotebookNode) -> None:
    kinds = [output.output_type for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in kinds
    assert publish.LIVE not in {
        kind for cell in notebook.cells for one in cell.get("outputs", []) for kind in one.get("data", {})
    }
    said = output_text(notebook)
    assert not re.search(r"\d%\|", said)  # a bar that stood still
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
    assert not re.findall(r"^.*\bsite-packages\b.*|^.*\.py:\d+: \w*Warning.*", output_text(notebook), re.M)


@each
def test_opening_it_changes_nothing(name, tmp_path):
    """A pair as JupyterLab writes it, folds included, but for the version of Python."""
    copy = Notebook(tmp_path, name)
    shutil.copy(FOLDER / "jupytext.toml", tmp_path)
    for half, there in ((pair(name).py, copy.py), (pair(name).ipynb, copy.ipynb)):
        shutil.copy(half, there)
    publish.settle(copy)
    plain = lambda path: re.sub(r'"version": "3[.\d]+"', "", path.read_text("utf8"))
    for half, there in ((pair(name).py, copy.py), (pair(name).ipynb, copy.ipynb)):
        assert plain(half) == plain(there), "python -m lib.study.publish brings it up to date"


@each
def test_committed_sizes(name):
    assert pair(name).ipynb.stat().st_size < 3_000_000
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
    notebook = pair(name)
    values, answers = notebooks.overrides(notebook, "smoke"), exercises.cells(notebook)
    run = notebooks.run(notebook, "smoke", values, Path("results"), more=answers)
    assert not run.failure, f"{name}: {run.failure}"
    assert not (tmp_path / "nowhere").exists()
    executed = nbformat.read(run.executed, as_version=4)
    assert "error" not in [output.output_type for cell in executed.cells for output in cell.get("outputs", [])]
    answered = [cell for cell in executed.cells if cell.source.startswith("# exercise ")]
    assert sum(cell.metadata.papermill.duration for cell in answered) < 60  # seconds; a few, on a machine at rest
    if not owned(name):
        return
    found = json.loads((tmp_path / "results/smoke/claims" / f"{notebook.number}.json").read_text("utf8"))
    assert set(owned(name)) == set(found)
    wanted = json.loads(FILE.read_text("utf8")).get(notebook.number)
    assert wanted, f"nothing is expected of {name} yet: python tests/expectations.py --only {notebook.number}"
    changed = expectations.differences(wanted, found)
    assert not changed, "\n".join(["not as expected (python tests/expectations.py, if it is meant):", *changed])


@pytest.mark.notebooks
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@each
def test_smoke_on_a_gpu(name, tmp_path):
    """Runs through; which numbers come out is for the tests of what it calls."""
    notebook = Notebook(FOLDER, name)
    run = notebooks.run(notebook, "smoke", notebooks.overrides(notebook, "smoke", {"device": "cuda"}), tmp_path)
    assert not run.failure, f"{name}: {run.failure}"


# --- how expectations work -------------------------------------------------------------------------------------------


def record(value, verdict="reproduced", interval=None, n=None, null=None):
    return {"value": value, "verdict": verdict, "interval": interval, "n": n, "null": null, "covers": [], "moved": ""}


def claim(rule="difference", settings=("20%",), side=1, effect=None, threshold=0.0):
    by = {s: {"side": side, "effect": effect, "threshold": threshold} for s in settings or ("",)}
    parts = {part: {s: values[part] for s, values in by.items()} for part in ("side", "effect", "threshold")}
    texts = dict.fromkeys(("notebook", "where", "claim", "published", "measure"), "")
    return Claim(id="a.b", paper="this study", rule=rule, settings=tuple(settings), covers=(), **texts, **parts)


def seeds(*values, half=0.3, **more):
    return [record({"20%": v}, interval={"20%": [v - half, v + half]}, **more) for v in values]


FIVE = (1.0, 1.2, 0.9, 1.1, 1.0)


def test_a_value_of_another_seed_is_expected_and_one_far_off_is_not():
    wanted = {"a.b": expectations.expected(claim(), seeds(*FIVE))}
    assert wanted["a.b"]["values"] == {"20%": [1.0, 1.04, 0.114, 0.1531]}
    moved = lambda value: expectations.differences(wanted, {"a.b": record(value)})
    assert moved({"20%": 1.0}) == moved({"20%": 1.5}) == []
    (line,) = moved({"20%": 4.0})
    assert line.startswith("a.b at 20%: the value was 1.04 ±") and line.endswith("now it is 4")
    assert "now it is nan" in moved({"20%": float("nan")})[0]
    assert moved(None) == ["a.b at 20%: the value was 1.04, now there is none"]


def test_values_that_no_processor_moves_may_not_move_most_of_them():
    one = expectations.expected(claim(), seeds(*FIVE))
    other = expectations.expected(claim(), seeds(*FIVE), seeds(1.3)[0])  # on the second processor it was not the same
    assert other["values"]["20%"][0] is None
    wanted = {"a": one, "b": one, "c": one, "d": other}
    found = lambda *values: dict(zip("abcd", (record({"20%": v}) for v in values), strict=True))
    assert expectations.differences(wanted, found(1.0, 1.5, 1.5, 1.5)) == []
    lines = expectations.differences(wanted, found(1.5, 1.4, 1.003, 1.5))
    assert lines[0] == "a: no longer what two processors gave: 20% 1 → 1.5"
    assert [line[0] for line in lines] == ["a", "b", "c"]


def numbers(*, ends: bool) -> np.ndarray:
    """Spread, standard error and whether it is steady, of each value in the file, and of the ends of its interval."""
    every = [one.get("values", {}) for claims in json.loads(FILE.read_text("utf8")).values() for one in claims.values()]
    values = [(spread, error, own is not None) for one in every for own, _, spread, error in one.values()]
    return np.array(values + 2 * [(spread, error, False) for spread, error, _ in values] * ends).T


def test_as_many_numbers_as_reckoned_with_and_they_scatter_as_reckoned_with():
    bands = 50  # of chance, which a few claims record
    assert numbers(ends=True).shape[1] + bands <= expectations.NUMBERS
    df, ratio = expectations.fit(json.loads(FILE.read_text("utf8")))
    assert df == pytest.approx(expectations.PRIOR_DF, rel=0.25) and ratio < 1.25 * expectations.RATIO


@pytest.mark.parametrize("scatter", ["as in the file", "as fitted"])
@pytest.mark.parametrize(("tails", "ends"), [(np.inf, True), (10, True), (5, False)])
def test_false_alarms_of_the_whole_file_are_below_one_percent(tails, ends, scatter):
    """1,500 files of five seeds, and for each another processor: of a steady value the same, but for a share MOVES of
    them; else one more draw. Draws are normal or Student's t. What is counted is a number anywhere out of its box."""
    rng, files, alarms = np.random.default_rng(0), 1500, 0
    spread, error, steady = numbers(ends=ends)
    for _ in range(files):
        if scatter == "as fitted":
            prior = expectations.RATIO * error
            spread = np.sqrt(prior**2 * expectations.PRIOR_DF / rng.chisquare(expectations.PRIOR_DF, len(error)))
        shape = (expectations.SEEDS + 1, len(spread))
        draws = rng.standard_normal(shape) if tails == np.inf else rng.standard_t(tails, shape) * (1 - 2 / tails) ** 0.5
        *seen, new = draws * spread
        new = np.where((steady > 0) & (rng.random(len(new)) > expectations.MOVES), seen[0], new)
        far = expectations.reach(np.std(seen, axis=0, ddof=1), error, steady > 0)
        alarms += bool((abs(new - np.mean(seen, axis=0)) > far).any())
    assert alarms / files < 0.009


def test_that_half_of_the_steady_values_move_is_improbable():
    """Those of a claim all move, or none, with probability MOVES, the claims apart from one another."""
    rng, alarms = np.random.default_rng(0), 0.0
    for claims in json.loads(FILE.read_text("utf8")).values():
        sizes = np.array([sum(v[0] is not None for v in one.get("values", {}).values()) for one in claims.values()])
        sizes = sizes[sizes > 0]
        moved = rng.random((20_000, len(sizes))) < expectations.MOVES
        half = expectations.HALF
        many = moved.sum(1) > max(expectations.FEWEST, half * len(sizes))
        alarms += (many & (moved @ sizes > half * sizes.sum())).mean()
    assert alarms < 0.001


def test_a_verdict_is_held_where_nothing_in_reach_changes_it():
    far = expectations.expected(claim(), seeds(*(40 + v for v in FIVE)))
    assert far["verdict"] == "reproduced" and "or" not in far
    (line,) = expectations.differences({"a.b": far}, {"a.b": record({"20%": 41.0}, "not reproduced")})
    assert line == "a.b: the verdict was 'reproduced', now it is 'not reproduced'"
    near = expectations.expected(claim(effect=0.5), seeds(*FIVE))
    assert near["or"] == ["not decided here", "not reproduced", "partly"]
    assert expectations.differences({"a.b": near}, {"a.b": record({"20%": 1.0}, "not reproduced")}) == []


def test_what_is_in_reach_is_all_that_random_moves_find():
    """Numbers drawn in their boxes, judged by the rule: no verdict that was not allowed; and each side of each cut."""
    rng = np.random.default_rng(0)
    settings = ("a", "b", "c")
    for side, effect, rule in (
        (1, 0.5, "difference"),
        (0, 0.4, "correlation"),
        (-1, -0.4, "share"),
        (1, None, "share"),
    ):
        one = claim(rule, settings, side, effect)
        centres = rng.normal(0, 1, 3)
        runs = []
        for _ in range(5):
            value = centres + rng.normal(0, 0.02, 3)
            interval = {s: [v - 0.05, v + 0.06] for s, v in zip(settings, value, strict=True)}
            runs.append(record(dict(zip(settings, value, strict=True)), "partly", interval))
        allowed, seen = expectations.reachable(one, runs), set()
        by = {"settings": settings} | expectations._rule(one)
        boxes = {s: expectations._boxes(runs, s, "interval") for s in settings}
        for _ in range(500):
            ends = {s: tuple(sorted(rng.uniform(*box) for box in boxes[s])) for s in settings}
            middle = {s: rng.uniform(*ends[s]) for s in settings}
            seen.add(judge(rule, middle, ends, dict.fromkeys(settings, (-0.1, 0.1)), **by).verdict)
        assert seen <= expectations.reachable(one, [run | {"null": {s: [-0.1, 0.1] for s in settings}} for run in runs])
        assert "partly" in allowed  # what a seed gave is


def test_claims_that_come_or_go_and_counts_are_named():
    wanted = {"a.b": expectations.expected(claim(), seeds(*FIVE, n=600))}
    assert expectations.differences(wanted, {"c.d": record(1.0)}) == [
        "a.b: expected, and not recorded",
        "c.d: recorded, and not expected (refresh the expectations)",
    ]
    assert expectations.differences(wanted, {"a.b": seeds(1.0, n=599)[0]}) == ["a.b: n was 600, now it is 599"]


def test_identities_costs_and_what_is_not_decided():
    single = {"settings": (), "effect": None}
    identity = expectations.expected(claim("identity", **single), [record(1e-12, "holds"), record(3e-11, "holds")])
    assert identity == {"verdict": "holds"}
    cost = expectations.expected(claim("cost", **single), [record(20.0, "measured"), record(24.0, "measured")])
    assert expectations.differences({"a": cost}, {"a": record(0.9, "measured")}) == []
    assert len(expectations.differences({"a": cost}, {"a": record(None, "not decided here")})) == 1
    undecided = expectations.expected(claim("share", **single), [record(None, "not decided here")] * 2)
    assert expectations.differences({"a": undecided}, {"a": record(None, "not decided here")}) == []
    assert "now it is 'reproduced'" in expectations.differences({"a": undecided}, {"a": record(0.5)})[0]
