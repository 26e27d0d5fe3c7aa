"""Web pages of executed notebooks: whole without a network, linked, readable; seen in a browser where there is one."""

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import bs4
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.ledger import ledger
from lib.study import pages

REPO = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPO / "notebooks").glob("[0-9]*.ipynb"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def small():
    figure = new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"})
    table = new_output("execute_result", data={"text/html": "<table><tr><td>1</td></tr></table>"}, execution_count=1)
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# 04 · A title\n\n**Question.** Is $x < 1$?\n\n$$\\frac{1}{2}$$\n\n[the other](05_b.ipynb#end)"
            ),
            new_code_cell("plot()", outputs=[figure]),
            new_markdown_cell("The curve *falls* & rises. `$HOME` is code, [a file](../README.md)."),
            new_code_cell('ledger.record("a.b", 1)', outputs=[table]),
        ]
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages of the committed notebooks, as if they had just been executed."""
    folder = tmp_path_factory.mktemp("html")
    table = ledger.summary(ledger.read_records(folder / "laptop" / "claims"))
    pages.write(NOTEBOOKS, folder, table, home=REPO / "notebooks", profile="laptop")
    return folder


def soup(path):
    return bs4.BeautifulSoup(path.read_text("utf8"), "html.parser")


def test_a_small_notebook_by_hand(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    paths = [folder / "04_a.ipynb", folder / "05_b.ipynb"]
    for path in paths:
        nbformat.write(small(), path)
    (folder / "WORDS.md").write_text(
        "# Words & signs\n\n$\\eta$: see [here](04_a.ipynb), [there](../README.md)\n", "utf8"
    )
    table = pd.DataFrame([{"id": "a.b", "notebook": "04", "claim": "1 < 2", "ours": "3", "verdict": "reproduced"}])
    index = soup(pages.write(paths, tmp_path / "html", table, home=folder, profile="smoke"))
    page = soup(tmp_path / "html" / "04_a.html")
    assert len(page.find_all("math")) == 2 and page.find("math", display="block").find("mfrac")
    assert page.find("code", string="$HOME") is not None
    assert page.img["alt"] == "The curve falls & rises. $HOME is code, a file ."
    links = [link["href"] for link in page.find_all("a", class_=False)]
    assert links == ["index.html", "05_b.html", "05_b.html#end", "../README.md"]
    assert page.title.string == "04 · A title"
    words = soup(tmp_path / "html" / "WORDS.html")
    assert [link["href"] for link in words.find_all("a", class_=False)] == ["index.html", "04_a.html", "../README.md"]
    assert words.find("math") is not None and index.find("a", string="Words & signs")["href"] == "WORDS.html"
    cell = nbformat.read(paths[0], as_version=4).cells[3].id
    assert index.find("a", string="a.b")["href"] == f"04_a.html#cell-id={cell}"
    assert page.find(id=f"cell-id={cell}") is not None
    assert "1 < 2" in index.get_text() and "● reproduced" in index.get_text() and "Is x<1?" in index.get_text()


def test_nothing_is_loaded_and_no_formula_is_left(site):
    for path in site.glob("*.html"):
        page = soup(path)
        assert not page.find_all(["script", "link", "iframe"])
        assert all(image["src"].startswith("data:") and len(image["alt"]) > 10 for image in page.find_all("img"))
        for code in page.find_all(["pre", "code", "style", "math", "table"]):
            code.decompose()
        assert "$" not in page.get_text(), path.name
        assert "\\" not in page.get_text(), path.name


def test_every_link_leads_somewhere(site):
    ids = {path.name: {tag["id"] for tag in soup(path).find_all(id=True)} for path in site.glob("*.html")}
    for path in site.glob("*.html"):
        for link in soup(path).find_all("a", href=True):
            target, _, place = link["href"].partition("#")
            if target.startswith(("http:", "https:", "mailto:")):
                continue
            file = (site / unquote(target)).resolve() if target else path
            assert file.exists(), f"{path.name}: {link['href']}"
            if place and file.suffix == ".html":
                assert {place, unquote(place)} & ids[file.name], f"{path.name}: {link['href']}"


def test_claims_lead_to_the_cells_that_record_them(site):
    index, table = soup(site / "index.html"), ledger.summary(ledger.read_records(site / "laptop" / "claims"))
    owned = table[table.notebook.isin([path.name[:2] for path in NOTEBOOKS])]
    for name in owned.id:
        assert index.find("a", string=name)["href"].partition("#")[2], f"{name} is recorded in no cell that names it"


def test_no_notebook_no_pages(tmp_path):
    with pytest.raises(ValueError, match="executed must hold a notebook"):
        pages.write([], tmp_path, pd.DataFrame(), home=tmp_path, profile="smoke")


LOOK = """<script>addEventListener("load", () => { document.body.innerHTML = JSON.stringify({
  broken: [...document.images].filter(i => !i.naturalWidth).length, width: document.documentElement.scrollWidth,
  window: innerWidth, math: [...document.querySelectorAll("math")].filter(m => !m.getBoundingClientRect().width).length,
  errors: document.querySelectorAll(".output_error, merror").length }) })</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser(site, tmp_path):
    for path in site.glob("*.html"):
        copy = site / f"look-{path.name}"
        copy.write_text(path.read_text("utf8").replace("</body>", f"{LOOK}</body>"), "utf8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        options += ["--window-size=500,900", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", copy.as_uri()]
        out = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=60).stdout
        copy.unlink()
        found = json.loads(bs4.BeautifulSoup(out, "html.parser").body.get_text())
        assert found["broken"] == 0 and found["math"] == 0 and found["errors"] == 0, path.name
        assert found["width"] <= found["window"], f"{path.name} is wider than a phone"
