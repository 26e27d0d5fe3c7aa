"""The runner on small notebooks of its own: what is refused, what runs, what is trusted, what is said."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import exercises
import nbformat
import pytest
import yaml
from small_notebooks import HEAD, script, write
from workloads import PATIENCE

from lib.networks.models import by_name
from lib.study import notebooks, runner
from lib.study.notebooks import REPO, Parameter, find, overrides, parameters


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two notebooks, the second without ``rate``; results beside them."""
    folder = tmp_path / "notebooks"
    write(folder, "01_first", 'ledger.record("a.one", 1e-9)\n', ("a.one",))
    second = write(folder, "02_second", 'ledger.record("a.two", 1e-3)\n', ("a.two",))
    second.py.write_text(second.py.read_text().replace("rate: float = 0.1  # step size, in units of # marks\n", ""))
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "results"))
    return folder


# --- what is declared, and what is asked for -------------------------------------------------------------------------


def test_parameters_are_what_papermill_finds(folder):
    from papermill import inspect_notebook

    first, second = find(folder)
    assert list(parameters(first)) == ["profile", "seed", "rate", "flip", "sizes", "dataset"]
    assert parameters(first)["rate"] == notebooks.Parameter("rate", "float", 0.1, "step size, in units of # marks")
    assert "rate" not in parameters(second)
    import jupytext

    nbformat.write(jupytext.read(first.py), first.ipynb)
    theirs = inspect_notebook(first.ipynb)
    for mine in parameters(first).values():
        assert theirs[mine.name]["inferred_type_name"] == mine.annotation
        assert theirs[mine.name]["default"] == repr(mine.default).replace("'", '"')
        assert theirs[mine.name]["help"] == mine.help


@pytest.mark.parametrize("line", ["n = 3", "n: int = 3 + x", "import os", "n: int", "n: int = 3.5", "n: set = {1}"])
def test_a_parameter_is_a_literal(tmp_path, line):
    notebook = write(tmp_path, "01_odd", "", ())
    notebook.py.write_text(notebook.py.read_text().replace("flip: bool = False  # whether to flip", line))
    with pytest.raises(ValueError, match=r"01_odd.py: expected `name: type = literal  # help`, got `" + line[:5]):
        parameters(notebook)


def test_two_notebooks_of_a_number(tmp_path):
    write(tmp_path, "01_first", "", ())
    write(tmp_path, "01_again", "", ())
    with pytest.raises(ValueError, match="one notebook a number, got 01_again and 01_first"):
        find(tmp_path)
    with pytest.raises(ValueError, match="found none"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        (True, "bool", True),
        (3, "int", 3),
        (3, "float", 3.0),
        ("3", "str", "3"),
        ([1, 2], "list", [1, 2]),
        ({"a": 1}, "dict", {"a": 1}),
    ],
)
def test_values_that_fit(value, annotation, result):
    fitted = Parameter("p", annotation, None, "").fit(value)
    assert fitted == result and type(fitted) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, "bool"), ("true", "bool"), (True, "int"), (3.5, "int"), (True, "float"), ("0.1", "float"), (3, "str"),
        (3, "list"), (None, "int"), ([1], "dict"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(value, annotation):
    with pytest.raises(TypeError):
        Parameter("p", annotation, None, "").fit(value)


def test_values_are_read_as_yaml_and_by_annotation(folder, tmp_path, monkeypatch):
    first, _ = find(folder)
    given = {"flip": "true", "rate": "1e-3", "sizes": "[3, 4]", "dataset": "on", "seed": "12"}
    wanted = {"flip": True, "rate": 0.001, "sizes": [3, 4], "dataset": "on", "seed": 12}
    assert overrides(first, "smoke", given) == {"profile": "smoke"} | wanted
    assert overrides(first, "smoke", {"rate": "1"})["rate"] == 1.0
    (tmp_path / "mine.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert overrides(first, "smoke", {"dataset": "mine.npz"})["dataset"] == str(tmp_path / "mine.npz")
    assert overrides(first, "smoke", {"dataset": "missing.npz"})["dataset"] == "missing.npz"
    (tmp_path / "pictures").mkdir()
    assert overrides(first, "smoke", {"dataset": "pictures"})["dataset"] == str(tmp_path / "pictures")
    for name, text in (("dataset", ""), ("label", ""), ("label", "pictures")):  # none, and a column that is called so
        assert notebooks._value(name, text, "str") == text


def test_a_checkout_has_unix_line_ends_and_bears_others(folder):
    """``bash`` cannot start a script with ``\\r`` after its first line; notebooks may be edited anywhere."""
    command = ["git", "check-attr", "eol", "run_all.sh"]
    if (REPO / ".git").exists():
        assert "eol: lf" in subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    first, _ = find(folder)
    known = parameters(first)
    first.py.write_bytes(first.py.read_bytes().replace(b"\n", b"\r\n"))
    assert parameters(first) == known and not notebooks.pair_difference(first)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flip", "1", r"-p: flip of 01_first is bool \(such as False\), got 1 \(int\)"),
        ("seed", "1.5", r"-p: seed of 01_first is int \(such as 0\), got 1.5 \(float\)"),
        ("sizes", "3", r"-p: sizes of 01_first is list \(such as \[1, 2\]\), got 3 \(int\)"),
        ("sizes", "[3,", r"sizes of 01_first is list"),
        ("speed", "1", "01_first has no parameter 'speed'; it has profile, seed, rate"),
    ],
)
def test_values_that_are_refused(folder, name, text, message):
    with pytest.raises(ValueError, match=message):
        overrides(find(folder)[0], "laptop", {name: text})


def test_profile_files_are_held_to_the_notebook(folder):
    first, second = find(folder)
    file = folder / "profiles/smoke/01.yaml"
    file.write_text("profile: smoke\nsed: 3\n")
    with pytest.raises(ValueError, match=r"smoke.01.yaml: 01_first has no parameter 'sed'"):
        overrides(first, "smoke")
    file.write_text("profile: laptop\n")
    with pytest.raises(ValueError, match="expected `profile: smoke`"):
        overrides(first, "smoke")
    (folder / "profiles/smoke/02.yaml").unlink()
    with pytest.raises(ValueError, match=r"02_second has no profiles.smoke.02.yaml"):
        overrides(second, "smoke")


@pytest.mark.parametrize("only", [["1"], ["01"], ["01_first"], ["01", "01"], [" 01 ,"]])
def test_only(folder, only):
    assert [n.name for n in runner.select(find(folder), only)] == ["01_first"]


def test_only_takes_several_in_their_order(folder):
    assert [n.number for n in runner.select(find(folder), ["02,01"])] == ["01", "02"]
    assert [n.number for n in runner.select(find(folder), ["02", "01"])] == ["01", "02"]
    assert [n.number for n in runner.select(find(folder), [])] == ["01", "02"]


def test_appendices_run_when_asked_for(folder, tmp_path):
    more = write(folder / "appendix", "11_more", 'ledger.record("a.more", 1e-9)\n', ("a.more",))
    found = find(folder)
    assert [(n.number, n.appendix, n.home) for n in found[1:]] == [("02", False, folder), ("11", True, folder)]
    assert [n.number for n in runner.select(found, [])] == ["01", "02"]
    assert [n.number for n in runner.select(found, [], every=True)] == ["01", "02", "11"]
    assert [n.number for n in runner.select(found, ["11"])] == ["11"]
    with pytest.raises(runner.Refused, match="give one of them"):
        runner.select(found, ["11"], every=True)
    assert notebooks.owned(more) == ["a.more"]
    run = notebooks.run(more, "smoke", overrides(more, "smoke"), tmp_path / "results")
    assert not run.failure


@pytest.mark.parametrize(
    ("argv", "valid"),
    [
        (["--only", "05"], "there are 01_first, 02_second"),
        (["--only", "01,05"], "there are 01_first, 02_second"),
        (["--profile", "big"], "choose from"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--prof", "smoke"], "unrecognized arguments"),
        (["smoke"], "not an option: smoke"),
        (["-p", "speed", "3"], "01: profile, seed, rate, flip, sizes, dataset"),
        (["-p", "rate", "3"], "02_second has no such parameter; --only 01 has"),
        (["-p", "profile", "smoke"], "--profile"),
        (["-p", "seed", "x"], "seed of 01_first is int"),
        (["-p", "seed"], "expected 2 arguments"),
        (["--save", "--profile", "smoke"], "--save"),
        (["--save", "-p", "seed", "3"], "--save"),
        (["--test", "--only", "01"], "--test goes alone"),
        (["--test", "--html"], "--test goes alone"),
        (["--pages", "--only", "01"], "so do --pages"),
        (["--pages", "--minutes", "3"], "so do --pages"),
        (["--minutes", "-1"], "--minutes must be above 0"),
        (["--plan", "--profile", "smoke"], "--plan is of the profile paper"),
    ],
)
def test_refused_before_anything_runs(folder, tmp_path, capsys, argv, valid):
    try:
        status = runner.main(argv, folder)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert valid in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_halves_that_differ_are_refused(folder, capsys):
    import jupytext

    first, _ = find(folder)
    nbformat.write(jupytext.read(first.py), first.ipynb)
    assert notebooks.pair_difference(first) == ""
    first.py.write_text(first.py.read_text().replace("# # A small", "# # A smaller"))
    assert runner.main(["--only", "01", "--profile", "smoke"], folder) == 2
    assert "cell 1: .py has '# A smaller notebook', .ipynb '# A small notebook'" in capsys.readouterr().err


def test_help_names_the_notebooks(folder, capsys):
    with pytest.raises(SystemExit, match="0"):
        runner.main(["--help"], folder)
    said = capsys.readouterr().out
    assert all(word in said for word in ("01_first", "02_second", "--profile", "--only", "--save", "--test", "-p"))


# --- running ---------------------------------------------------------------------------------------------------------

LOOK = """
import sys
ledger.record("c.one", 0.0)
facts = [os.getcwd(), os.environ["TQDM_DISABLE"], os.environ["STUDY_RESULTS"], sys.prefix, seed, flip]
Path(os.environ["STUDY_RESULTS"], "facts.json").write_text(json.dumps(facts))
"""


def test_a_run_is_in_its_own_folder_with_what_was_asked(folder, tmp_path, monkeypatch):
    notebook = write(folder, "03_look", LOOK, ("c.one",))
    results = tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    values = overrides(notebook, "smoke", {"flip": "true", "seed": "5"})
    run = notebooks.run(notebook, "smoke", values, Path("elsewhere"))
    assert run.failure == ""
    assert run.executed == results / "smoke/notebooks/03_look.ipynb"
    facts = json.loads((results / "facts.json").read_text())
    assert facts == [str(folder), "1", str(results), sys.prefix, 5, True]
    assert sorted(path.name for path in run.executed.parent.iterdir()) == ["03_look.ipynb"]
    assert "TQDM_DISABLE" not in os.environ and Path.cwd() == tmp_path
    assert not (folder / "03_look.ipynb").exists()


def test_the_others_run_when_one_fails(folder, tmp_path, capsys):
    first, _ = find(folder)
    body = 'ledger.record("a.one", 1e-9)\n\n# %%\n\nvalue = {}["missing"]\n\n# %%\nprint("not reached")\n'
    first.py.write_text(HEAD.replace("NN", "01") + body)
    assert runner.main(["--profile", "smoke"], folder) == 1
    said = capsys.readouterr().out
    assert "[1/3] 01_first" in said and "[2/3] 02_second" in said and "[3/3] verdicts" in said
    assert "FAILED at cell [5] `value = {}[\"missing\"]`: KeyError: 'missing'" in said
    assert "· not run           a.one" in said and "≠ fails             a.two  0.001" in said
    assert "1 fails, 1 not run" in said
    assert "FAILED 01_first at cell" in said and "01_first.failed.ipynb" in said
    assert "1 of 2 notebooks went well" in said
    executed = sorted(path.name for path in (tmp_path / "results/smoke/notebooks").iterdir())
    assert executed == ["01_first.failed.ipynb", "02_second.ipynb"]
    claims = sorted(path.name for path in (tmp_path / "results/smoke/claims").iterdir())
    assert claims == ["01.failed.json", "02.json"]


def test_save_writes_back_what_went_well_and_nothing_else(folder, tmp_path, capsys):
    first, second = find(folder)
    second.py.write_text(second.py.read_text() + "\n# %%\n1 / 0\n")
    readme, results = tmp_path / "README.md", tmp_path / "RESULTS.md"
    readme.write_text("<!-- verdicts of all papers -->\n<!-- end of verdicts of all papers -->\n")
    assert runner.main(["--save"], folder) == 1
    assert first.ipynb.exists() and not second.ipynb.exists()
    assert notebooks.pair_difference(first) == ""
    assert "### a.one\n\n**= holds** · words\n\n- Published: words\n- Ours: 1e-09\n" in results.read_text()
    assert "### a.two\n\n**· not run** · words\n\n- Published: words\n" in results.read_text()
    assert "| words | 01, 02 | 2 | 0 | 0 | 0 | 0 | 1 | 0 | 0 | 1 |" in readme.read_text()
    verdicts = tmp_path / "notebooks/verdicts/laptop"
    assert [path.name for path in verdicts.iterdir()] == ["01.json"]
    assert "saved: " in capsys.readouterr().out
    pages = [first.ipynb, readme, results, verdicts / "01.json"]
    before = [path.read_bytes() for path in pages]
    assert runner.main(["--only", "01", "--save"], folder) == 0
    assert before == [path.read_bytes() for path in pages]


@pytest.mark.skipif(not all(map(find_spec, runner.EXTRA)), reason="the extra `site` is not installed")
def test_pages_of_what_went_well_and_of_what_is_committed(folder, tmp_path, capsys):
    first, _ = find(folder)
    first.py.write_text(first.py.read_text() + "\n# %%\n1 / 0\n")
    (tmp_path / "README.md").write_text(
        "# Study\n\n<!-- verdicts of all papers -->\n<!-- end of verdicts of all papers -->"
    )
    assert runner.main(["--profile", "smoke", "--html"], folder) == 1
    assert "html/index.html" in capsys.readouterr().out
    html = tmp_path / "results/smoke/html"
    assert [path.name for path in (html / "notebooks").iterdir()] == ["02_second.html"]
    assert 'id="a-two"' in (html / "RESULTS.html").read_text("utf8")
    nbformat.write(nbformat.read(tmp_path / "results/smoke/notebooks/02_second.ipynb", 4), find(folder)[1].ipynb)
    assert runner.main(["--pages"], folder) == 0
    assert "pages/index.html" in capsys.readouterr().out
    assert (tmp_path / "results/pages/notebooks/02_second.html").exists()


@pytest.mark.parametrize("asked", ["--html", "--pages"])
def test_pages_without_their_packages_are_refused_before_anything_runs(folder, tmp_path, monkeypatch, capsys, asked):
    monkeypatch.setattr(runner, "find_spec", lambda module: None)
    assert runner.main([asked], folder) == 2
    assert "web pages need sphinx, " in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_notebook_that_leaves_out_a_claim_has_failed(folder, tmp_path):
    notebook = write(folder, "03_silent", 'ledger.record("b.one", 1e-9)\n', ("b.one", "b.two", "b.three"))
    stale = tmp_path / "results/smoke/claims/03.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"b.one": {}, "b.two": {}, "b.three": {}}')  # an earlier run's, which must not count
    run = notebooks.run(notebook, "smoke", {"profile": "smoke"}, tmp_path / "results")
    assert run.failure == "claims not recorded: b.two, b.three"
    assert run.executed.name == "03_silent.failed.ipynb"
    assert list(json.loads(stale.with_name("03.failed.json").read_text())) == ["b.one"]


def test_a_rerun_keeps_the_last_good_result_until_it_has_a_new_one(folder, tmp_path, capsys):
    first, _ = find(folder)
    body, results = first.py.read_text(), tmp_path / "results"
    claims, executed = results / "smoke/claims/01.json", results / "smoke/notebooks/01_first.ipynb"
    look = 'old = Path(os.environ["STUDY_RESULTS"], "smoke/claims/01.json").read_text()\n'
    look += 'assert json.loads(old)["a.one"]["value"] == 1e-9\n'
    assert not notebooks.run(first, "smoke", {"profile": "smoke"}, results).failure
    before = claims.read_bytes(), executed.read_bytes()
    first.py.write_text(body.replace("1e-9", "2e-9") + "\n# %%\n1 / 0\n")
    assert runner.main(["--only", "01", "--profile", "smoke"], folder) == 1
    assert before == (claims.read_bytes(), executed.read_bytes())
    assert "· not run           a.one" in capsys.readouterr().out  # not the verdict of the run before
    assert json.loads(claims.with_name("01.failed.json").read_text())["a.one"]["value"] == 2e-9
    first.py.write_text(body.replace("1e-9", "2e-9") + f"\n# %%\n{look}")
    assert not notebooks.run(first, "smoke", {"profile": "smoke"}, results).failure
    assert json.loads(claims.read_text())["a.one"]["value"] == 2e-9
    assert sorted(path.name for path in results.rglob("01*")) == ["01.json", "01_first.ipynb"]


def test_two_runs_at_once_do_not_touch_each_other(folder, tmp_path):
    """One runs in full between two cells of the other; results lie where papermill would fill in the braces."""
    results = tmp_path / "{results} of {0}"
    code = (
        "from pathlib import Path; from lib.study.notebooks import find, run; "
        f"print(run(find(Path({str(folder)!r}))[0], 'smoke', {{'profile': 'smoke'}}, Path({str(results)!r})).failure)"
    )
    first, _ = find(folder)
    inner = f"import subprocess, sys\nif flip:\n    subprocess.run([sys.executable, '-c', {code!r}], check=True)\n"
    first.py.write_text(first.py.read_text() + f"\n# %%\n{inner}")
    run = notebooks.run(first, "smoke", {"profile": "smoke", "flip": True}, results)
    assert not run.failure and run.executed.parent.parent.parent == results
    assert sorted(path.name for path in results.rglob("01*")) == ["01.json", "01_first.ipynb"]


def test_a_notebook_without_claims_runs_and_is_shown(folder, tmp_path, capsys):
    notebook = write(folder, "03_guide", "", ())
    body = notebook.py.read_text().replace('ledger = Ledger("03", profile, claims="claims.yaml")\n', "")
    notebook.py.write_text(body)
    assert notebooks.owned(notebook) == []
    (tmp_path / "README.md").write_text("no markers")
    assert runner.main(["--only", "03", "--save"], folder) == 0
    assert notebook.ipynb.exists()
    assert "1 of 1 notebooks went well" in capsys.readouterr().out


EXERCISES = """
# %% [markdown]
# <details>A note that is no answer.

# ```python
# 1 / 0
# ```
# </details>
#
# ## Exercises
#
# 1. One.

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# (tmp := Path(os.environ["STUDY_RESULTS"], "answer")).write_text("one")
# ```
#
# ```python
# tmp.write_text(tmp.read_text() + ", two")
# ```
# </details>

# %% [markdown]
# 2. Two.

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# Words.
# </details>

# %% [markdown]
# 3. Three.

# %%
# your answer

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# print(tmp.read_text())
# unknown
# ```
# </details>
"""


def test_the_answers_of_exercises_run_after_the_notebook(folder, tmp_path):
    notebook = write(folder, "03_teaches", EXERCISES, ())
    blocks = exercises.answers(notebook)
    assert {number: len(code) for number, code in blocks.items()} == {1: 2, 2: 0, 3: 1}
    values, results = {"profile": "smoke"}, tmp_path / "results"
    body = notebook.py.read_text().replace('ledger = Ledger("03", profile, claims="claims.yaml")\n', "")
    notebook.py.write_text(body)
    assert not notebooks.run(notebook, "smoke", values, results).failure
    assert not (results / "answer").exists()
    run = notebooks.run(notebook, "smoke", values, results, more=exercises.cells(notebook))
    assert run.failure == "cell [9] `# exercise 3`: NameError: name 'unknown' is not defined"
    assert (results / "answer").read_text() == "one, two"
    notebook.py.write_text(body.replace("unknown", "tmp"))
    assert not notebooks.run(notebook, "smoke", values, results, more=exercises.cells(notebook)).failure
    assert notebook.py.read_text() == body.replace("unknown", "tmp")


@pytest.mark.parametrize(
    ("old", "new"), [("3. Three", "4. Three"), ("2. Two.", ""), ("Words.\n# </details>", "Words."), ("your", "my")]
)
def test_exercises_are_numbered_and_have_an_answer_each(folder, old, new):
    notebook = write(folder, "03_teaches", EXERCISES.replace(old, new), ())
    with pytest.raises(ValueError, match="03_teaches: expected exercise . as a question, a cell '# your answer' and"):
        exercises.answers(notebook)


@pytest.mark.parametrize("way", ["os._exit(3)", "raise SystemExit", "raise SystemExit(1)"])
def test_a_notebook_that_ends_early_has_failed(folder, tmp_path, way):
    notebook = write(
        folder, "03_short", f'print("before")\n\n# %%\n{way}\n\n# %%\nledger.record("b.one", 1e-9)\n', ("b.one",)
    )
    run = notebooks.run(notebook, "smoke", {"profile": "smoke"}, tmp_path / "results")
    assert run.executed.name == "03_short.failed.ipynb"
    wanted = {
        "os._exit(3)": "cell [5] `os._exit(3)`: the kernel died",
        "raise SystemExit": "claims not recorded: b.one",
        "raise SystemExit(1)": "cell [5] `raise SystemExit(1)`: SystemExit: 1",
    }
    assert run.failure.startswith(wanted[way])


def test_results_that_cannot_be_written_are_refused_before_anything_runs(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("STUDY_RESULTS", str(place))
        assert runner.main(["--profile", "smoke"], folder) == 2
        said = capsys.readouterr()
        assert f"results cannot be written to {place}" in said.err and "[1/" not in said.out


@pytest.mark.parametrize("name", runner.FOLDERS)
def test_a_folder_in_there_that_cannot_be_written_is_refused_too(folder, tmp_path, capsys, name):
    place = tmp_path / "results" / "smoke"
    place.mkdir(parents=True)
    (place / name).write_text("")
    assert runner.main(["--profile", "smoke"], folder) == 2
    said = capsys.readouterr()
    assert f"results cannot be written to {place.parent} " in said.err and str(place / name) in said.err
    assert "[1/" not in said.out


def test_a_kernel_of_the_users_does_not_come_first(folder, tmp_path, monkeypatch):
    spec = {"argv": ["no-such-program", "{connection_file}"], "display_name": "mine", "language": "python"}
    (own := tmp_path / "jupyter" / "kernels" / "python3").mkdir(parents=True)
    (own / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert not notebooks.run(find(folder)[0], "smoke", {"profile": "smoke"}, tmp_path / "results").failure


def test_a_widget_is_not_answered_on_the_socket_that_a_reply_comes_by(tmp_path):
    """Such an answer may hide the reply, rarely and for good; here, the cell after it counts what arrived."""
    shown = "import ipywidgets\n\nout = ipywidgets.Output()\nwith out:\n    print('shown')\n"
    first = write(
        tmp_path / "widgets",
        "01_first",
        f"{shown}\n# %%\nledger.record('a.one', float(len(out.outputs)))\n",
        ("a.one",),
    )
    done = notebooks.run(first, "smoke", {"profile": "smoke", "seed": 0}, tmp_path)
    assert not done.failure and "shown" in done.executed.read_text("utf8")
    assert json.loads((tmp_path / "smoke/claims/01.json").read_text("utf8"))["a.one"]["value"] == 0


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_stopped_cleanly(folder, tmp_path, how):
    first, _ = find(folder)
    results = tmp_path / "results"
    assert not notebooks.run(first, "laptop", {"profile": "laptop"}, results).failure
    kept = sorted(path for path in results.rglob("*") if path.is_file())
    body = 'Path(os.environ["STUDY_RESULTS"], "pid").write_text(str(os.getpid()))\nimport time\ntime.sleep(60)\n'
    write(folder, "01_first", 'ledger.record("a.one", 1e-9)\n' + body, ())
    command = "import pathlib, sys; from lib.study.runner import main; sys.exit(main([], pathlib.Path(sys.argv[1])))"
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    process = subprocess.Popen(
        [sys.executable, "-c", command, folder], env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGHUP)],  # of nohup
    )  # fmt: skip
    pid = results / "pid"
    deadline = time.monotonic() + PATIENCE
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(getattr(signal, how))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "stopped" in said and "Traceback" not in said
    with pytest.raises(ProcessLookupError):  # the kernel has gone too
        os.kill(int(pid.read_text()), 0)
    assert sorted(path for path in results.rglob("*") if path.is_file() and path != pid) == kept


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_minutes_stop_a_run_and_the_next_call_goes_on(folder, tmp_path, capsys, monkeypatch):
    """The first is done when the alarm rings, the second is not; the next call has only the second left."""
    left, set_to = tmp_path / "results" / "laptop" / "left.json", []
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: set_to.append((which, seconds)))
    ring = "    os.kill(os.getppid(), signal.SIGALRM)\n    time.sleep(60)\n"
    ring = f"import signal, time\nif not Path('fast').exists():\n{ring}ledger.record('a.two', 1e-9)\n"
    write(folder, "02_second", ring, ())
    assert runner.main(["--minutes", "9"], folder) == 130
    said = capsys.readouterr()
    assert "stopped; left: 02" in said.out and "the next run goes on" in said.err and "[1/3] 01_first" in said.out
    assert json.loads(left.read_text())["left"] == ["02"]
    (folder / "fast").touch()
    assert runner.main(["--minutes", "2"], folder) == 0
    said = capsys.readouterr().out
    assert "01_first, profile" not in said and "[1/2] 02_second" in said and not left.exists()
    assert set_to == [(signal.ITIMER_REAL, seconds) for seconds in (540, 120, 0)]
    assert runner.main(["--minutes", "0"], folder) == 2


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("damage", [b"", b"[1]", b"{}", b'{"asked": ', b"\xff", b"null"])
def test_a_damaged_list_of_what_is_left_counts_as_none(folder, tmp_path, capsys, monkeypatch, damage):
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    monkeypatch.setattr(notebooks, "run", lambda one, *_, **__: notebooks.Run(one, "laptop", 0.0, tmp_path))
    left = tmp_path / "results" / "laptop" / "left.json"
    left.parent.mkdir(parents=True)
    left.write_bytes(damage)
    todo = {one: {} for one in find(folder)}
    assert len(runner.run_all(todo, "laptop", tmp_path / "results", 1.0)) == 2
    assert "left.json cannot be read" in capsys.readouterr().out and not left.exists()


def test_the_plan_of_the_profile_paper():
    """Rates are of networks that there are, each share is finite, and all together last about an hour."""
    chosen = find(REPO / "notebooks")
    todo = {notebook.number: notebooks.overrides(notebook, "paper") for notebook in chosen}
    *_, total = script(REPO / "notebooks/profiles/plan.py").plan(todo).splitlines()
    hours, minutes = re.search(r"(?:(\d+) h )?(\d+) min", total).groups()
    assert 60 * int(hours or 0) + int(minutes) <= 75
    rates = yaml.safe_load((REPO / "notebooks/profiles/rates.yaml").read_text("utf8"))
    for name in rates["pictures_a_second"]:
        assert by_name(name.removesuffix("-224"), shape=(3, 32, 32), classes=10)
