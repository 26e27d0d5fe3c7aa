"""Executed notebooks as web pages that read without a network, on a phone too, and an index that leads to each claim.

nbconvert makes the cells; this adds what its templates lack: formulas as MathML (theirs are loaded from the network),
alternative texts, links that hold between the pages, and a style of one screen.
"""

import html
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import bs4
import nbformat
import pandas as pd
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

from lib.ledger.tables import LOOKS
from lib.study.publish import evidence

STYLE = """
:root { color-scheme: light; --line: #d8dce0; --soft: #f6f7f8; --link: #0b5cad }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 56rem; padding: 0 1rem 4rem; color: #1c2024 }
body { font: 1.05rem/1.55 system-ui, sans-serif }
nav { padding: .8rem 0; border-bottom: 1px solid var(--line); display: flex; gap: .3rem 1.2rem; flex-wrap: wrap }
a { color: var(--link) } a.anchor-link { display: none }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
pre { overflow-x: auto; padding: .6rem .8rem; margin: .4rem 0; font-size: .86rem; line-height: 1.4 }
code { font-size: .9em } .input_area pre { background: var(--soft); border-left: 3px solid var(--line) }
img { max-width: 100%; height: auto; display: block; margin: .8rem auto }
.wide { overflow-x: auto; margin: .8rem 0 } table { border-collapse: collapse; font-size: .88rem }
th, td { min-width: 6rem; padding: .25rem .6rem; border-bottom: 1px solid var(--line) }
th, td { text-align: left; vertical-align: top }
details { border: 1px solid var(--line); border-radius: 4px; padding: .3rem .8rem; margin: .6rem 0 }
summary { cursor: pointer } math[display=block] { overflow-x: auto; padding: .4rem 0 } .verdict { white-space: nowrap }
:target { background: #fff6d6 }
"""


class _Renderer(IPythonRenderer):
    """Markdown with formulas as MathML, which browsers draw themselves."""

    def block_math(self, body, display="block"):
        looks = r"\\(?:[bB]ig+[lrm]?|limits|displaystyle|!)(?![a-zA-Z])"  # a matter of TeX alone
        return convert(re.sub(looks, "", body.strip()).replace("\\dfrac", "\\frac"), display=display)

    def inline_math(self, body):
        return self.block_math(body, "inline")


def _markdown(source: str) -> str:
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def _soup(source: str) -> bs4.BeautifulSoup:
    return bs4.BeautifulSoup(_markdown(source), "html.parser")


def _alternative(cells: Sequence, index: int) -> str:
    """What a figure shows, for those who do not see it: the paragraph that reads it, or else the one before it."""
    near = [cells[i] for i in (index + 1, index - 1) if 0 <= i < len(cells)]
    texts = [cell.source for cell in near if cell.cell_type == "markdown"]
    texts = [text for text in texts if not text.lstrip().startswith("#")] or texts or ["figure"]
    words = _soup(texts[0]).get_text(" ", strip=True)
    return words if len(words) <= 400 else words[:399].rsplit(" ", 1)[0] + "…"


def page(notebook: nbformat.NotebookNode, link: Callable[[str], str], navigation: str) -> str:
    """One executed notebook as a page of its own, with ``navigation`` (HTML) above.

    ``link`` says where a relative link of the notebook leads from the page.
    """
    notebook = nbformat.from_dict(notebook)  # a copy
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.metadata["alt"] = _alternative(notebook.cells, i)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", _markdown)
    body = bs4.BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    for table in body.find_all("table"):
        table.wrap(body.new_tag("div", attrs={"class": "wide"}))
    for anchor in body.find_all("a", href=True):
        target, hash, place = anchor["href"].partition("#")
        if target and not re.match(r"[a-z]+:", target):
            anchor["href"] = link(target) + hash + place
    return _whole(_title(notebook), f"<nav>{navigation}</nav><main>{body}</main>")


def _whole(title: str, body: str) -> str:
    """An HTML document."""
    code = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}{code}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def write(executed: Sequence[Path], folder: Path, summary: pd.DataFrame, *, home: Path, profile: str) -> Path:
    """Write a page for every executed notebook and every ``.md`` beside it, and ``index.html``; returns the latter.

    Args:
        executed: notebooks with outputs, ``NN_name.ipynb``, in order.
        folder: for the pages; made if need be.
        summary: :func:`lib.ledger.ledger.summary` of the profile.
        home: the folder that the notebooks' relative links start from, with the ``.md`` files.
        profile: named on the index.

    Raises:
        ValueError: if there is no notebook.
    """
    if not executed:
        raise ValueError("executed must hold a notebook at least, got none")
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        path: new_notebook(cells=[new_markdown_cell(path.read_text("utf8"))]) for path in sorted(home.glob("*.md"))
    }
    contents = documents | {path: nbformat.read(path, as_version=4) for path in executed}
    pages = {path.name: path.with_suffix(".html").name for path in contents}
    link = lambda target: pages.get(target) or Path(os.path.relpath(home / target, folder)).as_posix()
    for path, notebook in contents.items():
        at = executed.index(path) if path in executed else None
        near = [(at - 1, "←"), (at + 1, "→")] if at is not None else []
        ways = [("all notebooks", "index.html")]
        ways += [
            (f"{executed[i].stem[:2]} {arrow}", pages[executed[i].name]) for i, arrow in near if 0 <= i < len(executed)
        ]
        navigation = "".join(f'<a href="{target}">{text}</a>' for text, target in ways)
        (folder / pages[path.name]).write_text(page(notebook, link, navigation), "utf8")
    title = "What is a training example worth?"
    others = [f'<a href="{pages[path.name]}">{html.escape(_title(text))}</a>' for path, text in documents.items()]
    note = f"<p>Executed notebooks of the profile <b>{html.escape(profile)}</b>, and what each claim came to.</p>"
    note += f"<p>{' · '.join(others)}</p>"
    rows = [_entry(contents[p], pages[p.name], summary[summary.notebook == p.name[:2]]) for p in executed]
    (folder / "index.html").write_text(_whole(title, f"<h1>{title}</h1>{note}{''.join(rows)}"), "utf8")
    return folder / "index.html"


def _title(notebook: nbformat.NotebookNode) -> str:
    heading = _soup(notebook.cells[0].source).h1
    return heading.get_text().removesuffix("¶") if heading else "notebook"


def _entry(notebook: nbformat.NotebookNode, target: str, claims: pd.DataFrame) -> str:
    """A notebook on the index: title, question, and its claims, each with a link to the cell that records it."""
    paragraphs = [p.get_text() for p in _soup(notebook.cells[0].source).find_all("p")]
    question = next((text for text in paragraphs if text.startswith("Question")), "")
    cells = evidence(notebook, list(claims.id))
    lines = "".join(
        f'<tr><td><a href="{target}{f"#cell-id={cells[row.id]}" if row.id in cells else ""}">{row.id}</a></td>'
        f"<td>{html.escape(row.claim)}</td><td>{html.escape(row.ours)}</td>"
        f'<td class="verdict">{LOOKS[row.verdict][0]} {row.verdict}</td></tr>'
        for row in claims.itertuples()
    )
    head = "<tr><th>claim</th><th></th><th>ours</th><th>verdict</th></tr>"
    table = f'<div class="wide"><table>{head}{lines}</table></div>' if lines else ""
    return f'<h2><a href="{target}">{html.escape(_title(notebook))}</a></h2><p>{html.escape(question)}</p>{table}'
