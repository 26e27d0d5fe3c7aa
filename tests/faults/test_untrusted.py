"""What comes from elsewhere is data and never code: files, names, texts and parameters that would like to be more."""

import ast
import hashlib
import io
import json
import pickle
import zipfile

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import small_notebooks
import torch
import yaml

from experiments import own_data, plots, published, transfer
from lib import audit
from lib.data import load, merge_scores, provenance, read_scores
from lib.ledger import Ledger, tables
from lib.ledger.claims import load_claims
from lib.store import KEY, MARK, Store, canonical
from lib.study import notebooks, runner
from lib.study.notebooks import REPO, find, overrides

SCRIPT = "<script>alert(1)</script>"


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def trap(tmp_path):
    """A file that only code which should not run would make."""
    path = tmp_path / "trapped"
    yield path
    assert not path.exists()


# --- pickles ---------------------------------------------------------------------------------------------------------


def loading(path) -> list[str]:
    """Calls in a file that would unpickle: of pickle and its kin, numpy with pickles allowed, torch without limits."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        bad = name.split(".")[0] in ("pickle", "cloudpickle", "dill", "shelve") or name.endswith("read_pickle")
        bad |= given.get("allow_pickle", "False") != "False" or name in (
            "joblib.load",
            "yaml.unsafe_load",
            "eval",
            "exec",
        )
        bad |= name.endswith("torch.load") and given.get("weights_only") != "True"
        bad |= name == "yaml.load" and ast.unparse(node.args[1]) not in ("_Loader", "yaml.SafeLoader")
        found += [f"{path.name}:{node.lineno} {name}"] * bad
    return found


def test_nothing_that_is_shipped_unpickles(tmp_path):
    code = [path for folder in ("lib", "notebooks", "data") for path in (REPO / folder).rglob("*.py")]
    assert len(code) > 60 and not [line for path in code for line in loading(path)]
    (tmp_path / "a.py").write_text(
        "pickle.load(f)\nnp.load(f, allow_pickle=True)\ntorch.load(f)\ntorch.load(f, weights_only=True)\neval(t)\n"
    )
    assert len(loading(tmp_path / "a.py")) == 4


def test_planted_pickles_are_not_run(tmp_path, trap):
    code = pickle.dumps(Planted(trap))
    for name, content in {"own.npz": code, "shard": code, "weights.pth": code}.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "objects.npz", x_train=np.array([Planted(trap)] * 30), y_train=np.arange(30) % 2)
    for name in ("own.npz", "objects.npz"):
        with pytest.raises(ValueError, match="expected an .npz file of plain arrays"):
            load(tmp_path / name)
    store = Store(tmp_path)
    whole = io.BytesIO()  # a shard with a right key and checksum, and an object in it
    np.savez(whole, **{KEY: np.array(canonical({"k": 1})), "a": np.array([Planted(trap)])})
    store.path({"k": 1}).write_bytes(whole.getvalue() + MARK + hashlib.sha256(whole.getvalue()).hexdigest().encode())
    with pytest.raises(ValueError, match="allow_pickle"):
        store.get({"k": 1})
    with pytest.raises(ValueError, match="weights .* do not fit ResNet-18: Weights only load failed"):
        transfer.torchvision_resnet(18, weights=str(tmp_path / "weights.pth"))


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_do_not_lead_out_of_their_folder(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    merge_scores(tmp_path / "outside.parquet", {"a": np.ones(2)}, rows=[0, 1], group="a", made={})
    with pytest.raises(ValueError, match="name must be a data set with stored scores"):
        read_scores("../outside", folder=inside)
    with pytest.raises(ValueError, match="file must be one of"):
        published.fetch("../outside.parquet", folder=inside)
    with pytest.raises(ValueError, match="profile must be a plain name"):
        Ledger("04", "../outside", results=inside)
    with pytest.raises(ValueError, match="arrays must have plain text as names"):
        Store(inside).put({"k": 1}, {"../a": np.ones(1)})
    with zipfile.ZipFile(tmp_path / "up.npz", "w") as archive:
        archive.writestr("../up.npy", b"something")
    with pytest.raises(ValueError, match="up.npz"):
        load(tmp_path / "up.npz")
    assert not list(inside.iterdir()) and not (tmp_path.parent / "up.npy").exists()


# --- YAML and parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["!!python/object/apply:builtins.open", "!!python/object/new:open", "!!python/name:os"])
def test_tags_of_yaml_make_nothing(tmp_path, trap, tag):
    text = f"{tag} [{trap}, w]"
    notebook = small_notebooks.write(tmp_path / "notebooks", "01_first", "", ("a.one",))
    (tmp_path / "claims.yaml").write_text(f"- id: {text}\n")
    with pytest.raises(yaml.YAMLError):
        load_claims(tmp_path / "claims.yaml")
    assert isinstance(notebooks._value("-p", text, "list"), str)  # which is no list, and refused
    (tmp_path / "notebooks/profiles/smoke/01.yaml").write_text(f"profile: smoke\nseed: {text}\n")
    with pytest.raises(yaml.YAMLError):
        overrides(notebook, "smoke")


CODE = (
    '"); open(r"{trap}", "w"); ("',
    "'''\nopen(r'{trap}', 'w')\n'''",
    "\\\"; open(r'{trap}', 'w') #",
    "{{open}}",
    "${{x}}",
)


def test_parameters_that_hold_code_are_texts(tmp_path, trap, monkeypatch, capsys):
    body = 'ledger.record("a.one", 1e-9)\ngot = Path(os.environ["STUDY_RESULTS"], "got")\n'
    body += "got.write_text(json.dumps([dataset, sizes]))\n"
    folder, texts = tmp_path / "notebooks", [text.format(trap=trap) for text in CODE]
    notebook = small_notebooks.write(folder, "01_first", body, ("a.one",))
    values = overrides(notebook, "smoke", {"dataset": texts[0], "sizes": json.dumps(texts)})
    assert not notebooks.run(notebook, "smoke", values, tmp_path / "results").failure
    assert (tmp_path / "results" / "got").read_text() == json.dumps([texts[0], texts])
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "results"))
    for name in (f"x = open(r'{trap}', 'w')", "seed=1;", "__class__"):
        assert runner.main(["--profile", "smoke", "-p", name, "1"], folder) == 2
    assert "there is no such parameter" in capsys.readouterr().err and len(find(folder)) == 1


# --- HTML ------------------------------------------------------------------------------------------------------------


def test_a_table_of_the_notebook_shows_text_as_text():
    table = pd.DataFrame(
        {SCRIPT: [SCRIPT, "$^{$"], "number": [0.5, 1]}, index=pd.Index([SCRIPT, "row"], name=f"{SCRIPT}n")
    )
    table.columns.name = SCRIPT
    for shown in (
        own_data.shown(table),
        own_data.shown(table).format("{:.1f}", subset=["number"]),
        own_data.shown(table.reset_index()).hide(),
    ):
        page = shown.to_html()
        assert "<script" not in page and "&lt;script&gt;" in page and "$" not in page


def test_every_table_of_a_readers_data_goes_through_it():
    """What notebook 08 shows of names, labels and rows is escaped; the other styled tables hold names of ours."""
    source = (REPO / "notebooks" / "08_score_your_own_data.py").read_text("utf8")
    ours = ('report.facts["flips"]', "scored.items()", "advised")
    for line in source.splitlines():
        assert ".style." not in line or line.startswith("plots.style") or any(name in line for name in ours), line
        assert "escape=" not in line


def test_the_page_of_an_audit_shows_text_as_text(tmp_path):
    rng = np.random.default_rng(0)
    y = np.array([SCRIPT, "b"])[np.arange(40) % 2]
    table = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc")).assign(
        kind=y, id=[f"{SCRIPT}{i}" for i in range(40)]
    )
    table.loc[7, ["a", "b", "c"]] = table.loc[5, ["a", "b", "c"]]
    report = audit(load(table, "kind", index="id", split=False), probabilities=np.eye(2)[1 - np.arange(40) % 2])
    report.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf8")
    assert len(report.suspects) and len(report.copies)
    assert "<script" not in page and page.count("&lt;script&gt;") > 40


def test_the_ledgers_tables_and_pages_show_text_as_text(tmp_path):
    entry = small_notebooks.claim("a.one", "01") | dict.fromkeys(("claim", "published", "where", "later"), SCRIPT)
    entry |= {"departs": SCRIPT, "measure": SCRIPT, "paper": "this study"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([entry]))
    ledger = Ledger("01", "smoke", results=tmp_path, claims=tmp_path / "claims.yaml")
    ledger.record("a.one", 1e-9, note=SCRIPT, moved=SCRIPT)
    for page in (ledger.table().to_html(), ledger.criteria().to_html()):
        assert "<script" not in page and "&lt;script&gt;" in page
    assert tables._html("a < b & $x$") == "a &lt; b &amp; &#36;x&#36;"
    cell = nbformat.v4.new_markdown_cell(f"## {SCRIPT}")
    figure = nbformat.v4.new_code_cell("plot()", outputs=[nbformat.v4.new_output("display_data", {"image/png": ""})])
    small_notebooks.script(REPO / "notebooks/site/pages.py").prepare(
        book := nbformat.v4.new_notebook(cells=[cell, figure])
    )
    assert isinstance(book.cells[1].metadata["mystnb"]["image"]["alt"], str)


def test_provenance_is_data(tmp_path):
    merge_scores(tmp_path / "a.parquet", {"a": np.ones(2)}, rows=[0, 1], group="a", made={"note": f"{SCRIPT}'; --"})
    assert provenance(tmp_path / "a.parquet")["a"]["note"] == f"{SCRIPT}'; --"


@pytest.mark.parametrize("name", ["$^{$", "$\\frac{$", "<b>", "_hidden", "\\end{", "a\nb"])
def test_names_that_are_no_mathematics_are_drawn(tmp_path, monkeypatch, name):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    with plt.rc_context():
        plots.style()
        fig = plots.pictures(torch.rand(4, 1, 5, 5), columns=2, titles=[name, "b"])
        plots.save(fig, "own", "smoke")
    plt.close(fig)
    assert [path.name for path in (tmp_path / "smoke" / "figures").iterdir()] == ["own.png"]
