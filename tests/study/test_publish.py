import json
import shutil
from dataclasses import replace
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from small_notebooks import script, write

from lib.data.score_files import merge_scores, provenance, read_scores
from lib.ledger.ledger import Ledger
from lib.study import notebooks, publish
from lib.study.notebooks import REPO, Run
from lib.study.publish import pages_of_verdicts, put_counts, quote, scrub, tidy, write_back

gpu_import = script(REPO / "tests/benchmarks/gpu_import.py")
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
                new_output("display_data", {publish.LIVE: {"model_id": "0a1b2"}, "text/plain": "interactive()"}),
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
    assert len(notebook.cells[2].outputs) == 2  # a slider without its kernel is dead
    assert notebook.cells[2].outputs[0]["text"] == "read data/a.npz"
    assert notebook.cells[2].outputs[1]["data"] == {"text/plain": "<f at 0x…>", "image/png": "aa"}
    assert notebook.cells[2].outputs[1]["execution_count"] == 2
    assert notebook.metadata == publish.METADATA
    nbformat.validate(notebook)


def test_a_settled_pair_is_folded_and_stays(tmp_path):
    book = tidy(executed(), PLACES)
    pair = notebooks.Notebook(tmp_path, "04_small")
    shutil.copy(notebooks.REPO / "notebooks/jupytext.toml", tmp_path)
    jupytext.write(book, pair.py, fmt="py:percent")
    nbformat.write(book, pair.ipynb)
    publish.settle(pair)
    folded = [cell.metadata.get("jupyter") for cell in nbformat.read(pair.ipynb, as_version=4).cells]
    assert folded == [None, {"source_hidden": True}, {"source_hidden": True}]  # parameters, a figure
    before = pair.py.read_bytes(), pair.ipynb.read_bytes()
    publish.settle(pair)
    assert before == (pair.py.read_bytes(), pair.ipynb.read_bytes())
    pair.py.write_text(pair.py.read_text("utf8").replace("Title", "Other"), "utf8")
    publish.settle(pair)  # which half counts is for the author to say
    assert "Other" in pair.py.read_text("utf8") and before[1] == pair.ipynb.read_bytes()


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


def test_put_counts():
    begin, end = publish.BEGIN, publish.END
    text = f"a\n{begin}\nold\n{end}\nb"
    new = put_counts(text, "new\n")
    assert new == f"a\n{begin}\n\nnew\n\n{end}\nb" and put_counts(new, "new") == new
    for broken in ("nothing", text + text, f"{end} {begin}"):
        with pytest.raises(ValueError, match="once each"):
            put_counts(broken, "new")


@pytest.fixture
def run(tmp_path):
    """A run with one claim recorded and one figure, and a repository to save it to."""
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
    markers = [f"<!-- {what} of all papers -->" for what in ("verdicts", "end of verdicts")]
    (tmp_path / "README.md").write_text("\n".join([*markers, "so <!-- ours a.one -->old<!-- -->."]))
    return Run(notebook, "laptop", 3.0, path)


def test_a_run_is_written_back_as_notebook_figures_record_and_pages(run, tmp_path):
    written = write_back(run, tmp_path / "results", tmp_path)
    assert [path.name for path in written] == ["04_small.ipynb", "04.json", "RESULTS.md", "README.md", "04_new.png"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["04_new.png"]
    assert len(nbformat.read(run.notebook.ipynb, as_version=4).cells) == 3
    record = json.loads((tmp_path / "notebooks/verdicts/laptop/04.json").read_text())["a.one"]
    assert record["value"] == 1e-9 and record["verdict"] == "holds"
    assert not {"profile", "versions"} & set(record)
    entry = "### a.one\n\n**= holds** · words\n\n- Published: words\n- Ours: 1e-09\n"
    assert entry in (tmp_path / "RESULTS.md").read_text()
    readme = (tmp_path / "README.md").read_text()
    assert (
        "| words | 04 | 1 | 0 | 0 | 0 | 0 | 1 | 0 | 0 |" in readme and "so <!-- ours a.one -->1e-09<!-- -->." in readme
    )
    before = {path: path.read_bytes() for path in written}
    write_back(run, tmp_path / "results", tmp_path)
    assert before == {path: path.read_bytes() for path in written}


def test_the_record_alone_makes_the_pages(run, tmp_path):
    write_back(run, tmp_path / "results", tmp_path)
    record = tmp_path / "notebooks/verdicts/laptop/04.json"
    record.write_text(record.read_text().replace("holds", "partly").replace("1e-09", "0.5"))
    made = pages_of_verdicts(tmp_path)
    assert "**◐ partly: as published** · words\n\n- Published: words\n- Ours: 0.5\n" in made[tmp_path / "RESULTS.md"]
    assert "so <!-- ours a.one -->0.5<!-- -->." in made[tmp_path / "README.md"]


def test_records_keep_what_later_work_adds(run, tmp_path):
    write_back(run, tmp_path / "results", tmp_path)
    path = tmp_path / "notebooks/verdicts/laptop/04.json"
    records = json.loads(path.read_text())
    records["a.one"]["checked"] = "by hand"
    path.write_text(json.dumps(records))
    write_back(run, tmp_path / "results", tmp_path)
    assert json.loads(path.read_text()) == records


def test_quotations_are_the_records():
    records = {
        "a.b": {"value": {"10%, x: y": 0.5, "20%": None}, "interval": {"10%, x: y": [0.4, 0.6]}},
        "a.c": {"value": 1.5, "interval": [1.0, 2.0]},
    }
    said = "so <!-- ours a.b: 10%, x: y -->old<!-- --> and <!-- ours a.c -->9<!-- -->."
    new = quote(said, records)
    assert (
        new == "so <!-- ours a.b: 10%, x: y -->0.50 [0.40, 0.60]<!-- --> and <!-- ours a.c -->1.5 [1.0, 2.0]<!-- -->."
    )
    assert quote(new, records) == new
    for unknown in ("a.b: 20%", "a.b: 30%", "a.b.c"):
        assert quote(f"<!-- ours {unknown} -->9<!-- -->", records) == f"<!-- ours {unknown} -->–<!-- -->"


def test_a_notebook_without_claims_leaves_the_pages(run, tmp_path):
    (tmp_path / "notebooks/claims.yaml").write_text("[]")
    (tmp_path / "README.md").write_text("no markers")
    written = write_back(run, tmp_path / "results", tmp_path)
    assert [path.name for path in written] == ["04_small.ipynb", "04_new.png"]


@pytest.mark.parametrize("change", [{"failure": "cell [3] `x`: KeyError"}, {"profile": "smoke"}])
def test_what_failed_or_is_of_another_profile_is_not_saved(run, tmp_path, change):
    with pytest.raises(ValueError, match="only what went well with the profile laptop"):
        write_back(replace(run, **change), tmp_path / "results", tmp_path)
    assert not run.notebook.ipynb.exists()


def test_nothing_is_written_where_a_page_has_no_place_for_it(run, tmp_path):
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="expected <!-- verdicts of all papers -->"):
        write_back(run, tmp_path / "results", tmp_path)
    assert not run.notebook.ipynb.exists() and (tmp_path / "figures/04_old.png").exists()


def test_another_seed_is_set_beside(run, tmp_path):
    write_back(run, tmp_path / "results", tmp_path)
    assert "With another seed" not in (tmp_path / "RESULTS.md").read_text("utf8")
    (kept := tmp_path / "notebooks/verdicts/seed-1000").mkdir()
    for value, said in ((1e-9, "the same verdict"), (0.5, "≠ fails<br>0.5")):
        ledger = Ledger("04", "laptop", tmp_path / "again", tmp_path / "notebooks/claims.yaml")
        ledger.record("a.one", value)
        shutil.copy(ledger.path, kept)
        text = pages_of_verdicts(tmp_path)[tmp_path / "RESULTS.md"]
        assert f"- Ours: 1e-09\n- With another seed: {said}" in text


# --- what another machine found --------------------------------------------------------------------------------------


MADE = {"device": "a GPU", "versions": {"torch": "2"}, "commit": "0123abc", "date": "2026-01-01"}


@pytest.fixture
def brought(run, tmp_path):
    """The repository after a run at laptop size, with stored scores; a folder with what was found at paper size."""
    write_back(run, tmp_path / "results", tmp_path)
    merge_scores(tmp_path / "data/scores/set.parquet", {"a": np.arange(4.0)}, rows=np.arange(4), group="a", made={})
    folder = tmp_path / "brought"
    ledger = Ledger("04", "paper", tmp_path / "larger", tmp_path / "notebooks/claims.yaml")
    ledger.record("a.one", 0.5, note="made up")
    folder.mkdir()
    shutil.copy(ledger.path, folder)
    np.savez(folder / "scores-set.npz", row=np.array([2, 0]), b=np.array([0.2, 0.0]))
    scores = {"set": MADE | {"group": "b", "dataset_sha256": "ab"}}
    origin = {"profile": "paper", "notebooks": {"04": MADE}, "scores": scores}
    (folder / "provenance.json").write_text(json.dumps(origin))
    return folder


def files(folder: Path) -> dict:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_a_folder_is_brought_in_with_where_it_comes_from(brought, tmp_path, capsys):
    before = (tmp_path / "README.md").read_text()
    assert gpu_import.main([str(brought)], tmp_path) == 0
    assert "written: " in capsys.readouterr().out
    kept = tmp_path / "notebooks/verdicts/paper"
    record = json.loads((kept / "04.json").read_text())["a.one"]
    assert record["value"] == 0.5 and record["verdict"] == "fails" and not {"profile", "versions"} & set(record)
    assert json.loads((kept / "provenance.json").read_text()) == {"04": MADE}
    results = (tmp_path / "RESULTS.md").read_text()
    heading = "### a.one\n\n**= holds** at `laptop`, **≠ fails** at `paper` · words\n\n"
    assert f"{heading}- Published: words\n- Ours: 1e-09\n- At `paper`: 0.5<br>made up\n" in results
    assert "| words | 04 | 1 | 0 | 0 | 0 | 0 | 1 | 0 (1) | 0 |" in results and "In brackets" in results
    assert (tmp_path / "README.md").read_text() == before
    table = read_scores("set", folder=tmp_path / "data/scores")
    assert table.a.tolist() == [0, 1, 2, 3] and table.b.dropna().to_dict() == {0: 0.0, 2: 0.2}
    assert provenance(tmp_path / "data/scores/set.parquet")["b"]["device"] == "a GPU"
    pages = {path: text for path, text in pages_of_verdicts(tmp_path).items()}
    assert pages[tmp_path / "RESULTS.md"] == results
    once = files(tmp_path)
    gpu_import.bring_in(brought, tmp_path)
    assert {path for path, old in files(tmp_path).items() if old != once.get(path)} == set()


def test_without_it_the_page_has_one_column(brought, tmp_path):
    assert "paper`" not in pages_of_verdicts(tmp_path)[tmp_path / "RESULTS.md"]


def change(path: Path, how) -> None:
    entries = json.loads(path.read_text())
    how(entries)
    path.write_text(json.dumps(entries))


WRONG = {
    "has no provenance.json": lambda f: (f / "provenance.json").unlink(),
    "provenance.json is damaged": lambda f: (f / "provenance.json").write_text("{"),
    "expected the profile 'paper', got 'smoke'": lambda f: change(
        f / "provenance.json", lambda origin: origin.update(profile="smoke")
    ),
    "provenance.json does not say of 04.json: device, commit": lambda f: change(
        f / "provenance.json", lambda origin: origin["notebooks"].update({"04": {"versions": "2", "date": "today"}})
    ),
    "provenance.json does not say of scores-set.npz: group": lambda f: change(
        f / "provenance.json", lambda origin: origin["scores"]["set"].pop("group")
    ),
    "04.json is damaged": lambda f: (f / "04.json").write_text((f / "04.json").read_text()[:-9]),
    "04.json: these are unknown there, or lacking: a.two": lambda f: change(
        f / "04.json", lambda records: records.update({"a.two": records["a.one"]})
    ),
    "04.json: a.one: it is stale": lambda f: change(
        f / "04.json", lambda records: records["a.one"].update(criterion="0123456789")
    ),
    "04.json: a.one: it is of the profile laptop": lambda f: change(
        f / "04.json", lambda records: records["a.one"].update(profile="laptop")
    ),
    "04.json: a.one: its verdict is not what": lambda f: change(
        f / "04.json", lambda records: records["a.one"].update(verdict="holds")
    ),
    "04.json: a.one is damaged": lambda f: change(f / "04.json", lambda records: records["a.one"].pop("value")),
    "scores-set.npz is damaged": lambda f: (f / "scores-set.npz").write_bytes(b"PK"),
    "scores-other.npz": lambda f: (f / "scores-set.npz").rename(f / "scores-other.npz"),
    "rows must be among the 4": lambda f: np.savez(f / "scores-set.npz", row=np.array([9]), b=np.array([1.0])),
    "holds neither records": lambda f: [path.unlink() for path in f.iterdir() if path.name != "provenance.json"],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_with_a_folder_is_named_and_nothing_is_written(brought, tmp_path, message, capsys):
    WRONG[message](brought)
    before = files(tmp_path)
    assert gpu_import.main([str(brought)], tmp_path) == 2
    assert message in capsys.readouterr().err
    assert files(tmp_path) == before


def test_a_page_without_its_place_leaves_everything(brought, tmp_path, capsys):
    (tmp_path / "README.md").write_text("no markers")
    before = files(tmp_path)
    assert gpu_import.main([str(brought)], tmp_path) == 2
    assert "expected <!-- verdicts" in capsys.readouterr().err and files(tmp_path) == before


def test_warnings_of_libraries_are_of_the_run():
    one = "<python>/torch/_script.py:14: FutureWarning: it is old\n  warnings.warn(\n"
    cells = [
        new_code_cell("1", outputs=[new_output("stream", name="stderr", text=text)]) for text in (one, one + "kept\n")
    ]
    book = tidy(new_notebook(cells=cells), {})
    assert [[output.text for output in cell.outputs] for cell in book.cells] == [[], ["kept\n"]]
