"""Notebooks and documents as web pages: laid out here for Sphinx, which ``conf.py`` beside it configures.

python notebooks/site/pages.py EXECUTED RECORDS FOLDER HOME       # what write() takes; run_all.sh calls it so
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat

from lib.ledger.ledger import read_records
from lib.study import publish
from lib.study.notebooks import REPO, find

DOCUMENTS = "*.md *.cff figures/*.png figures/*.svg notebooks/*.md notebooks/slides/*.md data/*.md data/scores/*.md"
DOCUMENTS += " lib/*.md tests/benchmarks/*.md"


def prepare(notebook: nbformat.NotebookNode) -> None:
    """Tag what is to be folded (criteria, parameters, the code of imports and figures), name figures, mend links."""
    section = ""
    for cell in notebook.cells:
        tags = cell.metadata.setdefault("tags", [])
        shown = [output.data for output in cell.get("outputs", []) if "data" in output]
        for data in (data for data in shown if "text/html" in data):
            data["text/html"] = re.sub(r'(href="[\w./]+)\.ipynb', r"\1.html", data["text/html"])
        figure = any("image/png" in data for data in shown)
        if cell.cell_type == "markdown":
            section = (re.findall(r"^#+ (.+)$", cell.source, re.M) or [section])[-1]
        elif figure or "parameters" in tags or re.match(r"import |from |ledger\.criteria", cell.source):
            criteria = ".criteria()" in cell.source
            tags.append("hide-cell" if criteria else "hide-input")
            what = "criteria" if criteria else "parameters" if "parameters" in tags else "code"
            cell.metadata["mystnb"] = {f"code_prompt_{do.lower()}": f"{do} the {what}" for do in ("Show", "Hide")}
        if "ledger.table()" in cell.source:
            tags.append("full-width")
        if figure:  # in a few words: the text beside it says the rest
            labels = re.findall(r'(?:title|[xy]label)[=(]"([^"{]+)"', cell.source)
            cell.metadata["mystnb"]["image"] = {"alt": "; ".join([f"Figure of ‘{section}’", *labels])}


def write(executed: Path, records: Path, folder: Path, home: Path) -> Path:
    """Make pages in ``folder``, which is replaced, and return its ``index.html``.

    ``executed`` has notebooks with outputs, ``records`` their verdicts; ``home`` is the folder of notebooks in the
    repository, whose documents become pages too.
    """
    from sphinx.cmd.build import build_main

    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:  # laid out like the repository, so that links hold
        source, site = Path(place) / "source", REPO / "notebooks" / "site"
        for path in (path for pattern in DOCUMENTS.split() for path in home.parent.glob(pattern)):
            (source / path.relative_to(home.parent)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, source / path.relative_to(home.parent))
        for path, text in publish.pages_of_verdicts(home.parent, read_records(records)).items():
            (source / path.relative_to(home.parent)).write_text(text, "utf8")
        shutil.copy(site / "index.md", source)
        for pair in find(home):
            path = pair.ipynb if executed == home else executed / pair.ipynb.name
            (laid := source / "notebooks" / pair.ipynb.relative_to(home)).parent.mkdir(exist_ok=True)
            if path.exists():
                prepare(notebook := nbformat.read(path, as_version=4))
                nbformat.write(notebook, laid)
        quiet = "-q" if executed == home else "-Q"  # of some of the notebooks, not all links lead somewhere
        if build_main([quiet, "-d", f"{place}/doctrees", "-c", str(site), str(source), str(folder)]):
            raise RuntimeError("Sphinx has failed")
    return folder / "index.html"


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
