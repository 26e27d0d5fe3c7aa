"""Writing a run back to where it is committed: the notebook's outputs, its figures, its part of the README's table.

What differs from machine to machine and from day to day (times, paths, counters, random ids) is taken out, so that a
change in the repository is a change in the results.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lib.ledger.claims import Claim, load_claims
from lib.ledger.tables import LOOKS
from lib.study import notebooks
from lib.study.notebooks import REPO, Run

BEGIN, END = "<!-- verdicts {} -->", "<!-- end of verdicts {} -->"
ALL = "of all papers"  # the name between such markers of the table of counts


def tidy(notebook: NotebookNode, places: Mapping[str, str] | None = None) -> NotebookNode:
    """The executed notebook as it is committed; the argument is left as it was.

    Without the cells that papermill injects and its metadata; cells counted from 1 and named by their text; in text
    outputs, paths of this machine by what they are (``<python>``, ``~``) and memory addresses gone.

    Args:
        places: what a path becomes, longest first; default the repository, the environment, home and temporary folders.
    """
    places = _places() if places is None else places
    cells, count, seen = [], 0, {}
    for old in notebook.cells:
        tags = [tag for tag in old.metadata.get("tags", []) if tag != "papermill-error-cell-tag"]
        if "injected-parameters" in tags:
            continue
        nth = seen[old.source] = seen.get(old.source, 0) + 1
        cell = nbformat.from_dict({"cell_type": old.cell_type, "source": old.source, "metadata": {}})
        cell.id = hashlib.sha256(f"{nth} {old.source}".encode()).hexdigest()[:8]
        if tags:
            cell.metadata["tags"] = tags
        if old.cell_type == "code":
            count += 1
            cell.execution_count, cell.outputs = count, [_tidy_output(output, count, places) for output in old.outputs]
        cells.append(cell)
    metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def _tidy_output(output: NotebookNode, count: int, places: Mapping[str, str]) -> dict:
    new = {key: value for key, value in output.items() if key != "transient"}
    if "metadata" in new:
        new["metadata"] = {}
    if "execution_count" in new:
        new["execution_count"] = count
    if "text" in new:
        new["text"] = scrub(new["text"], places)
    if "data" in new:
        texts = {kind: scrub(text, places) for kind, text in new["data"].items() if kind.startswith("text/")}
        if "text/html" in texts:
            texts["text/html"] = _plain_styler(texts["text/html"])
        new["data"] = {kind: texts.get(kind, value) for kind, value in new["data"].items()}
    return new


def scrub(text: str, places: Mapping[str, str]) -> str:
    """The text without this machine's paths, process numbers and memory addresses.

    Example:
        >>> scrub("wrote /data/me/study/results/a.png", {"/data/me/study/": ""})
        'wrote results/a.png'
    """
    text = re.sub(r"[^\s\"']*ipykernel_\d+[/\\]\d+\.py", "<cell>", text)
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return re.sub(r"\bat 0x[0-9a-f]+", "at 0x…", text)


def _places() -> dict[str, str]:
    known = {sys.prefix: "<python>", tempfile.gettempdir(): "<temporary>", Path.home(): "~"}
    return {f"{REPO}{os.sep}": "", str(REPO): "."} | {f"{place}{os.sep}": f"{name}/" for place, name in known.items()}


def _plain_styler(html: str) -> str:
    """pandas gives each styled table a random id; name them by their content."""
    for uuid in dict.fromkeys(re.findall(r'id="T_([0-9a-f]+)"', html)):
        html = html.replace(f"T_{uuid}", f"T_{hashlib.sha256(html.replace(uuid, '').encode()).hexdigest()[:5]}")
    return html


def save(run: Run, results: Path, repo: Path) -> list[Path]:
    """Write a run back to the repository and return what was written.

    That is its notebook and figures, and where it owns claims its table in the README and what REPRODUCIBILITY.md, if
    there is one, quotes of it.

    Raises:
        ValueError: if the run failed, or is not of the profile laptop.
    """
    from lib.ledger import ledger

    if run.failure or run.profile != "laptop":
        raise ValueError(f"only what went well with the profile laptop is saved, got {run}")
    notebook, figures, texts = run.notebook, repo / "figures", {}
    if notebooks.owned(notebook):
        table = ledger.summary(results, run.profile, notebook.folder / "claims.yaml")
        block = verdict_block(notebook, table[table.notebook == notebook.number])
        readme = repo / "README.md"
        every = load_claims(notebook.folder / "claims.yaml").values()
        text = put_between(readme.read_text("utf8"), notebook.number, block)
        texts[readme] = put_between(text, ALL, tally(text, every))
        if (report := repo / "REPRODUCIBILITY.md").exists():
            texts[report] = quote(report.read_text("utf8"), texts[readme], every)
    nbformat.write(tidy(nbformat.read(run.executed, as_version=4)), notebook.ipynb)
    for path, text in texts.items():
        path.write_text(text, "utf8")
    figures.mkdir(exist_ok=True)
    for old in figures.glob(f"{notebook.number}_*.png"):
        old.unlink()
    drawn = sorted((results / run.profile / "figures").glob(f"{notebook.number}_*.png"))
    return [notebook.ipynb, *texts, *(Path(shutil.copy(new, figures)) for new in drawn)]


def verdict_block(notebook: notebooks.Notebook, table) -> str:
    """The README's table of a notebook: its rows of ``claims.summary``, and the section that has the evidence."""
    import jupytext

    from lib.ledger import tables
    from lib.study.pages import evidence

    cells, section, sections = jupytext.read(notebook.py).cells, "", {}
    for i, cell in enumerate(cells):
        cell.id = str(i)
        if cell.cell_type == "markdown":
            section = (re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE) or [section])[-1]
        sections[cell.id] = section.strip()
    cell_of = evidence(nbformat.v4.new_notebook(cells=cells), list(table.id))
    place = {name: f"[{sections[cell]}](notebooks/{notebook.name}.ipynb)" for name, cell in cell_of.items()}
    columns = ("id", "claim", "published", "ours", "verdict", "evidence in section")
    return tables.markdown(table.assign(**{columns[-1]: table.id.map(place)}), columns)


def verdicts_in(readme: str) -> dict[str, tuple[str, str]]:
    r"""What the README's tables say of each claim: claim → (ours, verdict).

    Example:
        >>> verdicts_in(r"| cg.noise | it finds \| them | curves | 0.9 [0.8, 1.0] | ● reproduced |")
        {'cg.noise': ('0.9 [0.8, 1.0]', 'reproduced')}
    """
    rows = (
        re.split(r" (?<!\\)\| ", line[2:-2]) for line in readme.splitlines() if re.match(r"\| \w+\.[\w.]+ \|", line)
    )
    return {row[0]: (row[3], row[4].split(maxsplit=1)[1]) for row in rows}


def tally(readme: str, claims: Iterable[Claim]) -> str:
    """How many claims of each paper came to which verdict, by the README's tables: a table."""
    found, papers, everything = verdicts_in(readme), {}, list(claims)
    for claim in everything:
        papers.setdefault(claim.paper, []).append(claim)
    shown = [name for name in LOOKS if name != "not run" or any(claim.id not in found for claim in everything)]
    lines = [["paper", "notebooks", "claims", *shown], ["---"] * (3 + len(shown))]
    for paper, own in (papers | {"all": everything}).items():
        verdicts = [found[claim.id][1] if claim.id in found else "not run" for claim in own]
        where = ", ".join(sorted({claim.notebook for claim in own})) if paper in papers else ""
        lines.append([paper, where, str(len(own)), *(str(verdicts.count(name)) for name in shown)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quote(text: str, readme: str, claims: Iterable[Claim]) -> str:
    """The text with its table of counts and what it quotes of single claims as the README's tables have them.

    A quotation stands between ``<!-- ours ID -->`` or ``<!-- ours ID: SETTING -->`` and ``<!-- -->``; it becomes a dash
    where the README has none.
    """
    found = verdicts_in(readme)

    def value(match):
        claim, setting = match[2], match[3] or ""
        ours = re.sub(r" \(n = [\d,]+\)$", "", found.get(claim, ("", ""))[0])
        parts = (part[2:].rpartition(": ") for part in re.split(r"; (?=\S )", ours))
        by_setting = {name: shown for name, _, shown in parts} if setting else {"": ours}
        return f"{match[1]}{by_setting.get(setting) or '–'}<!-- -->"

    text = re.sub(r"(<!-- ours ([\w.]+)(?:: (.+?))? -->).*?<!-- -->", value, text)
    return put_between(text, ALL, tally(readme, claims))


def put_between(text: str, name: str, block: str) -> str:
    """The text with ``block`` between its two markers ``<!-- verdicts NAME -->`` and ``<!-- end of verdicts NAME -->``.

    Raises:
        ValueError: if the markers are not there, once each and in this order.
    """
    begin, end = BEGIN.format(name), END.format(name)
    head, found, rest = text.partition(begin)
    _old, closed, tail = rest.partition(end)
    if not found or not closed or begin in rest or end in tail:
        raise ValueError(f"expected {begin} and {end} once each in the README")
    return f"{head}{begin}\n\n{block.strip()}\n\n{end}{tail}"


if __name__ == "__main__":  # counts and quotations after the README or the report was edited by hand
    report, readme = (REPO / name for name in ("REPRODUCIBILITY.md", "README.md"))
    every, text = load_claims(REPO / "notebooks" / "claims.yaml").values(), readme.read_text("utf8")
    readme.write_text(put_between(text, ALL, tally(text, every)), "utf8")
    report.write_text(quote(report.read_text("utf8"), text, every), "utf8")
