from dataclasses import replace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_study import write

from lib.study import publish
from lib.study.notebooks import Run
from lib.study.publish import put_between, quote, save, scrub, tidy

PLACES = {"/data/me/study/": "", "/data/me/env/": "<python>/"}


def executed(text="read /data/me/study/data/a.npz", seconds=3.0):
    """A notebook as papermill leaves it."""
    stamp = {"papermill": {"start_time": f"2026-01-01T00:00:{seconds}", "duration": seconds}}
    cells = [
        new_markdown_cell("# Title", metadata=stamp | {"tags": []}),
        new_code_cell("seed: int = 0", metadata=stamp | {"tags": ["parameters"]}, execution_count=1),
        new_code_cell("seed = 3", metadata=stamp | {"tags": ["injected-parameters"]}, execution_count=2),
        new_code_cell(
            "show()",
            metadata=stamp | {"execution": {"iopub.execute_input": f"{seconds}"}},
            execution_count=3,
            outputs=[
                new_output("stream", name="stdout", text=text),
                new_output("execute_result", {"text/plain": "<f at 0x7f31>", "image/png": "aa"}, execution_count=3),
            ],
        ),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, **stamp}
    return new_notebook(cells=cells, metadata=metadata | {"language_info": {"name": "python", "version": "3.11.9"}})


def test_tidy_leaves_the_results_and_nothing_of_the_run():
    notebook = tidy(executed(), PLACES)
    assert [cell.source for cell in notebook.cells] == ["# Title", "seed: int = 0", "show()"]
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2]
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["parameters"]}, {}]
    assert notebook.cells[2].outputs[0]["text"] == "read data/a.npz"
    assert notebook.cells[2].outputs[1]["data"] == {"text/plain": "<f at 0x…>", "image/png": "aa"}
    assert notebook.cells[2].outputs[1]["execution_count"] == 2
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    nbformat.validate(notebook)


def test_two_runs_with_the_same_results_are_the_same_file():
    first, second = executed(seconds=3.0), executed(seconds=9.0)
    second.cells[3].metadata["papermill"]["duration"] = 7
    assert nbformat.writes(tidy(first, PLACES)) == nbformat.writes(tidy(second, PLACES))
    once = tidy(first, PLACES)
    assert nbformat.writes(tidy(once, PLACES)) == nbformat.writes(once)


def test_cells_of_one_text_have_names_of_their_own():
    notebook = new_notebook(cells=[new_code_cell("x"), new_code_cell("x")], metadata=executed().metadata)
    assert len({cell.id for cell in tidy(notebook, {}).cells}) == 2
    nbformat.validate(tidy(notebook, {}))


def test_styled_tables_keep_no_random_name():
    html = '<style>#T_{0}_row0 {{}}</style><table id="T_{0}"><td id="T_{0}_row0">1</td></table>'
    one, other = (publish._plain_styler(html.format(name)) for name in ("0a1b2", "ffe39"))
    assert one == other and "0a1b2" not in one
    assert publish._plain_styler(html.format("0a1b2").replace(">1<", ">2<")) != one


def test_scrub_takes_the_longer_path_first():
    places = {"/a/": "~/", "/a/study/": "", "/a/study": "."}
    assert scrub("in /a/study, /a/study/lib/x.py and /a/other", places) == "in ., lib/x.py and ~/other"
    warning = "/var/x/ipykernel_77/123.py:3: UserWarning: careful"
    assert scrub(warning, places) == "<cell>:3: UserWarning: careful"


def test_put_between():
    text = "a\n<!-- verdicts 04 -->\nold\n<!-- end of verdicts 04 -->\nb"
    new = put_between(text, "04", "new\n")
    assert new == "a\n<!-- verdicts 04 -->\n\nnew\n\n<!-- end of verdicts 04 -->\nb"
    assert put_between(new, "04", "new") == new
    for broken in ("nothing", text + text, "<!-- end of verdicts 04 --> <!-- verdicts 04 -->"):
        with pytest.raises(ValueError, match="once each"):
            put_between(broken, "04", "new")


@pytest.fixture
def run(tmp_path):
    """A run with one claim recorded and one figure, and a repository to save it to."""
    from lib.ledger.ledger import Ledger

    notebook = write(tmp_path / "notebooks", "04_small", "", ("a.one",))
    results = tmp_path / "results"
    path = results / "laptop/notebooks/04_small.ipynb"
    for folder in ("notebooks", "figures"):
        (results / "laptop" / folder).mkdir(parents=True)
    nbformat.write(executed(), path)
    (results / "laptop/figures/04_new.png").write_bytes(b"new")
    (results / "laptop/figures/03_other.png").write_bytes(b"other")
    Ledger("04", "laptop", results, tmp_path / "notebooks/claims.yaml").record("a.one", 1e-9)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/04_old.png").write_bytes(b"old")
    markers = [
        f"<!-- {what} {name} -->" for name in ("of all papers", "04") for what in ("verdicts", "end of verdicts")
    ]
    (tmp_path / "README.md").write_text("\n".join(markers))
    return Run(notebook, "laptop", 3.0, path)


def test_save_writes_notebook_figures_and_table(run, tmp_path):
    written = save(run, tmp_path / "results", tmp_path)
    assert [path.name for path in written] == ["04_small.ipynb", "README.md", "04_new.png"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["04_new.png"]
    assert len(nbformat.read(run.notebook.ipynb, as_version=4).cells) == 3
    assert "| a.one | words | words | 1e-09 | ● reproduced |" in (tmp_path / "README.md").read_text()
    before = {path: path.read_bytes() for path in written}
    save(run, tmp_path / "results", tmp_path)
    assert before == {path: path.read_bytes() for path in written}


def test_save_counts_the_verdicts(run, tmp_path):
    report = tmp_path / "REPRODUCIBILITY.md"
    report.write_text("so:\n<!-- verdicts of all papers -->\nold\n<!-- end of verdicts of all papers -->\n")
    assert report in save(run, tmp_path / "results", tmp_path)
    lines = report.read_text().splitlines()
    assert lines[3] == "| paper | notebooks | claims | reproduced | partly | not reproduced | not decided here |"
    assert lines[5:7] == ["| words | 04 | 1 | 1 | 0 | 0 | 0 |", "| all |  | 1 | 1 | 0 | 0 | 0 |"] and "old" not in lines


def test_quotations_are_the_readmes():
    row = "| a.b | c | d | ● 10%, x: y: 0.5 [0.4, 0.6]; ○ 20%: − | ● partly |\n"
    row += "| a.c | c | d | 1.5 [1, 2] (n = 1,000) | – open |"
    text = "<!-- verdicts of all papers --><!-- end of verdicts of all papers -->"
    said = text + "so <!-- ours a.b: 10%, x: y -->old<!-- --> and <!-- ours a.c -->9<!-- -->."
    new = quote(said, row, [])
    assert new.endswith(
        "so <!-- ours a.b: 10%, x: y -->0.5 [0.4, 0.6]<!-- --> and <!-- ours a.c -->1.5 [1, 2]<!-- -->."
    )
    assert quote(new, row, []) == new
    for unknown in ("a.b: 30%", "a.b.c"):
        assert quote(text + f"<!-- ours {unknown} -->9<!-- -->", row, []).endswith(f"<!-- ours {unknown} -->–<!-- -->")


def test_save_leaves_the_readme_for_a_notebook_without_claims(run, tmp_path):
    (tmp_path / "notebooks/claims.yaml").write_text("[]")
    (tmp_path / "README.md").write_text("no markers")
    assert [path.name for path in save(run, tmp_path / "results", tmp_path)] == ["04_small.ipynb", "04_new.png"]
    assert (tmp_path / "README.md").read_text() == "no markers"


@pytest.mark.parametrize("change", [{"failure": "cell [3] `x`: KeyError"}, {"profile": "smoke"}])
def test_what_failed_or_is_of_another_profile_is_not_saved(run, tmp_path, change):
    with pytest.raises(ValueError, match="only what went well with the profile laptop"):
        save(replace(run, **change), tmp_path / "results", tmp_path)
    assert not run.notebook.ipynb.exists()


def test_nothing_is_written_where_the_readme_has_no_place_for_it(run, tmp_path):
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="expected <!-- verdicts 04 -->"):
        save(run, tmp_path / "results", tmp_path)
    assert not run.notebook.ipynb.exists() and (tmp_path / "figures/04_old.png").exists()
