"""The web pages: whole without a network, linked, readable; seen in a browser where there is one."""

import contextlib
import io
import itertools
import os
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import CHROMIUM, Browser
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from small_notebooks import script

from lib.ledger.claims import load_claims
from lib.study import notebooks, runner
from lib.study.notebooks import REPO

HOME = REPO / "notebooks"
pages = script(HOME / "site" / "pages.py")
AXE = find_spec("axe_core_python")
built = pytest.mark.skipif(not all(map(find_spec, runner.EXTRA)), reason="the extra `site` is not installed")
seen = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Page(HTMLParser):
    """The tags of a page with their attributes, its ids, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(path.read_text("utf8"))
        self.ids = {tag["id"] for _, tag in self.tags if "id" in tag}

    def handle_starttag(self, name, attributes):
        self.tags.append((name, {key: value or "" for key, value in attributes}))

    def handle_data(self, data):
        self.text += data

    def links(self, begin: str = "") -> list[str]:
        return [tag["href"] for name, tag in self.tags if name == "a" and tag.get("href", "").startswith(begin)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages of the committed notebooks; Sphinx must have nothing to say about them."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        index = pages.write(HOME, HOME / "verdicts" / "laptop", tmp_path_factory.mktemp("site") / "html", HOME)
    assert said.getvalue() == ""
    return index.parent


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


def test_what_is_folded_and_what_a_figure_is_called():
    figure = [new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})]
    cells = [
        new_markdown_cell("# 04 · A title\n\nThe question."),
        new_code_cell("n: int = 3", metadata={"tags": ["parameters"]}),
        new_code_cell("import torch\nledger = 1\nledger.criteria()"),
        new_code_cell("# import\nx = score()"),
        new_markdown_cell("## Wrong labels\n\nThe curve falls."),
        new_code_cell('ax.set(xlabel="share kept", ylabel=f"{name}")\nax.set_title("digits")', outputs=figure),
        new_code_cell("ledger.table()"),
    ]
    pages.prepare(notebook := new_notebook(cells=cells))
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert tags == [[], ["parameters", "hide-input"], ["hide-cell"], [], [], ["hide-input"], ["full-width"]]
    prompts = [cell.metadata.mystnb.code_prompt_show for cell in notebook.cells if "mystnb" in cell.metadata]
    assert prompts == ["Show the parameters", "Show the criteria", "Show the code"]
    named = [cell.metadata.mystnb.image.alt for cell in notebook.cells if "image" in cell.metadata.get("mystnb", {})]
    assert named == ["Figure of ‘Wrong labels’; share kept; digits"]


def test_the_extra_that_lacks_is_named(monkeypatch, capsys):
    monkeypatch.setattr(runner, "find_spec", lambda module: None if module == "myst_nb" else module)
    assert runner.main(["--pages"]) == 2
    assert "web pages need myst_nb: pip install -r requirements.txt, or -e '.[site]'" in capsys.readouterr().err


@built
def test_every_link_leads_somewhere(parsed):
    for path, page in parsed.items():
        for link in page.links():
            target, _, place = link.partition("#")
            if not re.match(r"(https?|mailto):", target):
                file = (path.parent / unquote(target)).resolve() if target else path
                assert file.exists(), f"{path.name}: {link}"
                assert not place or file not in parsed or unquote(place) in parsed[file].ids, f"{path.name}: {link}"


@built
def test_every_picture_is_there_and_named_in_its_own_words(parsed):
    count = 0
    for path, page in parsed.items():
        for name, tag in page.tags:
            if name == "img":
                count += 1
                assert (path.parent / unquote(tag["src"])).exists() and len(tag["alt"]) > 10, f"{path.name}: {tag}"
                assert page.text.count(tag["alt"]) == 0, f"{path.name}: {tag['alt']} is read out twice"
    assert count > 50


@built
def test_nothing_is_loaded_and_nothing_went_wrong(site, parsed):
    for path, page in parsed.items():
        loads = [tag.get("src") or tag.get("href", "") for name, tag in page.tags if name not in ("a", "svg", "use")]
        assert not [address for address in loads if re.match(r"(https?:)?//", address)], path.name
        classes = {one for _, tag in page.tags for one in tag.get("class", "").split()}
        assert not classes & {"system-message", "problematic"}, path.name
        assert "Traceback (most recent call last)" not in page.text, path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", path.read_text("utf8")), path.name


@built
def test_a_claim_is_two_clicks_from_the_start_and_its_evidence_a_third(site, parsed):
    results = parsed[site / "RESULTS.html"]
    assert "RESULTS.html" in parsed[site / "index.html"].links()
    recorded = set(load_claims())
    headed = {name for name in recorded if re.sub(r"[._]", "-", name) in results.ids}
    assert headed == recorded
    evidence = [link for link in results.links("notebooks/") if "#" in link]
    assert len(evidence) == len(recorded)


@built
def test_one_notebook_leads_to_the_next_and_its_claims_are_in_the_index(site, parsed):
    names = [notebook.ipynb.relative_to(HOME).with_suffix(".html").as_posix() for notebook in notebooks.find(HOME)]
    for before, after in itertools.pairwise(names):
        link = os.path.relpath(after, Path(before).parent)
        assert link in parsed[site / "notebooks" / before].links()
    assert {f"notebooks/{name}" for name in names} <= set(parsed[site / "index.html"].links())
    assert '"notebooks/GLOSSARY"' in (site / "searchindex.js").read_text("utf8")


LOOK = """(window.MathJax ? MathJax.startup.promise : Promise.resolve()).then(() => ({
    broken: [...document.images].filter(image => image.complete && !image.naturalWidth).length,
    wide: document.documentElement.scrollWidth - innerWidth,
    plain: [...document.querySelectorAll(".math")].filter(one => !one.querySelector("mjx-container svg")).length,
    errors: document.querySelectorAll("mjx-merror, [data-mml-node=merror]").length }))"""


@built
@seen
def test_in_a_browser_and_on_a_phone(browser, parsed):
    for path in parsed:
        browser.open(path.as_uri())
        for width in (1200, 390):
            browser.resize(width)
            found = browser.run(LOOK)
            assert set(found.values()) == {0}, f"{path} at {width} pixels: {found}"
    assert not [address for address in browser.asked_for if not re.match("file:|data:|about:", address)]


CUT = """[...document.querySelectorAll(".cell_output *, .cell_output, .pst-scrollable-table-container")].filter(
    one => one.scrollWidth > one.clientWidth && !one.querySelector("img")).map(one => one.textContent)"""


@built
@seen
def test_on_a_phone_figures_fill_the_width_and_tables_fit(browser, site):
    browser.resize(390)
    for name in ("index", "notebooks/00_start_here", "notebooks/GLOSSARY"):
        browser.open((site / f"{name}.html").as_uri())
        widths = browser.run("[...document.querySelectorAll('.cell_output > img')].map(one => one.clientWidth)")
        assert set(widths) == ({390} if "00" in name else set())
        assert browser.run(CUT) == []


SEARCH = """new Promise(done => { const look = () => {
    const found = [...document.querySelectorAll("#search-results li a")].map(a => a.getAttribute("href"));
    found.length ? done(found) : setTimeout(look, 50) }; look(); setTimeout(() => done([]), 5000) })"""


@built
@seen
def test_search_answers(browser, site):
    browser.open(f"{(site / 'search.html').as_uri()}?q=memorization")
    assert any("03_long_tail_memorization" in link for link in browser.run(SEARCH))


@built
@seen
@pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed")
@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", "notebooks/00_start_here"])
def test_nothing_serious_for_those_who_see_badly(browser, site, name, look):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": look}])
    browser.open((site / f"{name}.html").as_uri())
    browser.resize(1200)
    assert browser.run("document.documentElement.dataset.theme") == look
    browser.run((Path(AXE.origin).parent / "axe.min.js").read_text("utf8"))
    found = browser.run("axe.run({resultTypes: ['violations']}).then(found => found.violations)")
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], node["html"][:200]) for one in serious for node in one["nodes"][:3]]
