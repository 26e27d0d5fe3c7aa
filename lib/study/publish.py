"""Writing a run back to where it is committed: the notebook's outputs, its figures, its verdicts, and the pages.

``notebooks/verdicts/<profile>/NN.json`` is the one record of what a notebook found. RESULTS.md, the counts and the
quoted figures in README.md and REPRODUCIBILITY.md are rendered from these files (``python -m lib.study.publish``), and
nothing reads a page back. What differs from machine to machine and from day to day (times, paths, counters, random ids)
is taken out, so that a change in the repository is a change in the results.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
import pandas as pd
from nbformat import NotebookNode

from lib.ledger import ledger
from lib.ledger.claims import Claim, load_claims
from lib.ledger.tables import LOOKS, in_words, markdown, number
from lib.study import notebooks
from lib.study.notebooks import REPO, Run

BEGIN, END = "<!-- verdicts {} -->", "<!-- end of verdicts {} -->"
ALL = "of all papers"  # the name between such markers of the table of counts
RESULTS = """# Results

Every claim with the published figure, ours, and the verdict, as the committed notebooks show it. ● reproduced · ◐ partly · ○ not reproduced · – not decided here. By setting: ● as claimed · ◐ weaker than published · ○ absent · ✕ opposite · ? too uncertain, or not measured. Intervals are 95%; *n* counts what they are over. `notebooks/claims.yaml` states what counts as what; this page is made from `notebooks/verdicts` by `./run_all.sh --save`."""  # noqa: E501


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


def write_back(run: Run, results: Path, repo: Path) -> list[Path]:
    """Write a run back to the repository: its notebook, figures and verdicts, and the pages made from these.

    Returns:
        What was written.

    Raises:
        ValueError: if the run failed, or is not of the profile laptop.
    """
    if run.failure or run.profile != "laptop":
        raise ValueError(f"only what went well with the profile laptop is saved, got {run}")
    notebook, figures, written = run.notebook, repo / "figures", [run.notebook.ipynb]
    if notebooks.owned(notebook):
        recorded = json.loads((results / run.profile / "claims" / f"{notebook.number}.json").read_text("utf8"))
        pages(repo, recorded)  # complains of a missing marker before anything is written
        verdicts = notebook.folder / "verdicts" / run.profile / f"{notebook.number}.json"
        verdicts.parent.mkdir(parents=True, exist_ok=True)
        verdicts.write_text(as_json(recorded), "utf8")
        written += [verdicts, *render(repo)]
    nbformat.write(tidy(nbformat.read(run.executed, as_version=4)), notebook.ipynb)
    figures.mkdir(exist_ok=True)
    for old in figures.glob(f"{notebook.number}_*.png"):
        old.unlink()
    drawn = sorted((results / run.profile / "figures").glob(f"{notebook.number}_*.png"))
    return [*written, *(Path(shutil.copy(new, figures)) for new in drawn)]


def as_json(recorded: Mapping[str, Mapping]) -> str:
    """A notebook's records without what belongs to the run alone, a claim an object, short lists in a line."""
    kept = {
        claim: {key: value for key, value in one.items() if key not in ("id", "profile", "versions", "criterion")}
        for claim, one in sorted(recorded.items())
    }
    lists = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
    text = lists.sub(
        lambda found: "[" + re.sub(r",\s+", ", ", found[1]) + "]", json.dumps(kept, indent=1, ensure_ascii=False)
    )
    return text + "\n"


def render(repo: Path = REPO) -> list[Path]:
    """Write the pages that are made from the verdicts, and return them."""
    made = pages(repo)
    for path, text in made.items():
        path.write_text(text, "utf8")
    return list(made)


def pages(repo: Path = REPO, newer: Mapping[str, Mapping] | None = None) -> dict[Path, str]:
    """Page → its text by the committed verdicts, or by these and ``newer`` records."""
    folder = repo / "notebooks"
    claims = load_claims(folder / "claims.yaml")
    records = ledger.committed(folder / "verdicts") | dict(newer or {})
    counts = verdict_counts(claims.values(), records)
    made = {repo / "RESULTS.md": results_page(folder, claims, records, counts)}
    for page in (repo / "README.md", repo / "REPRODUCIBILITY.md"):
        if page.exists():
            made[page] = put_between(quote(page.read_text("utf8"), claims, records), ALL, counts)
    return made


def results_page(folder: Path, claims: Mapping[str, Claim], records: Mapping[str, Mapping], counts: str) -> str:
    """RESULTS.md: every claim, by notebook, with the section that has the evidence."""
    parts = [RESULTS, counts]
    for notebook in notebooks.find(folder):
        own = {name: claim for name, claim in claims.items() if claim.notebook == notebook.number}
        if not own:
            continue
        section = sections(notebook, list(own))
        rows = [
            {
                "id": name, "claim": claim.claim, "published": claim.published, "ours": ours(claim, records.get(name)),
                "verdict": records.get(name, {}).get("verdict", "not run"),
                "evidence in section": f"[{section[name]}](notebooks/{notebook.name}.ipynb)" if name in section else "",
            }
            for name, claim in own.items()
        ]  # fmt: skip
        title = re.search(r"^# (?:# )?(\d\d · .+)$", notebook.py.read_text("utf8"), re.M)
        parts += [f"## {title[1] if title else notebook.name}", markdown(pd.DataFrame(rows), tuple(rows[0]))]
    return "\n\n".join(parts) + "\n"


def ours(claim: Claim, record: Mapping | None) -> str:
    """What was found, in a line."""
    return "; ".join(in_words(claim, record, judged_only=True)) if record else ""


def sections(notebook: notebooks.Notebook, claims: list[str]) -> dict[str, str]:
    """Claim → heading of the section that records it."""
    import jupytext

    from lib.study.pages import evidence

    cells, heading, headings = jupytext.read(notebook.py).cells, "", {}
    for i, cell in enumerate(cells):
        cell.id = str(i)
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE) or [heading])[-1]
        headings[cell.id] = heading.strip()
    return {name: headings[cell] for name, cell in evidence(nbformat.v4.new_notebook(cells=cells), claims).items()}


def verdict_counts(claims: Iterable[Claim], records: Mapping[str, Mapping]) -> str:
    """How many claims of each paper came to which verdict: a table."""
    everything, papers = list(claims), {}
    for claim in everything:
        papers.setdefault(claim.paper, []).append(claim)
    shown = [name for name in LOOKS if name != "not run" or any(claim.id not in records for claim in everything)]
    lines = [["paper", "notebooks", "claims", *shown], ["---"] * (3 + len(shown))]
    for paper, own in (papers | {"all": everything}).items():
        verdicts = [records.get(claim.id, {}).get("verdict", "not run") for claim in own]
        where = ", ".join(sorted({claim.notebook for claim in own})) if paper in papers else ""
        lines.append([paper, where, str(len(own)), *(str(verdicts.count(name)) for name in shown)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quote(text: str, claims: Mapping[str, Claim], records: Mapping[str, Mapping]) -> str:
    """The text with what it quotes of single claims as the records have it.

    A quotation stands between ``<!-- ours ID -->`` or ``<!-- ours ID: SETTING -->`` and ``<!-- -->``; it becomes a dash
    where there is no such record.
    """

    def value(match):
        name, setting = match[2], match[3] or ""
        record = records.get(name) or {"value": None}
        values, intervals = record["value"], record.get("interval")
        if setting:
            values, intervals = (values or {}).get(setting), (intervals or {}).get(setting)
        shown = "–" if values is None or isinstance(values, Mapping) else number(values, intervals)
        return f"{match[1]}{shown}<!-- -->"

    return re.sub(r"(<!-- ours ([\w.]+)(?:: (.+?))? -->).*?<!-- -->", value, text)


def put_between(text: str, name: str, block: str) -> str:
    """The text with ``block`` between its two markers ``<!-- verdicts NAME -->`` and ``<!-- end of verdicts NAME -->``.

    Raises:
        ValueError: if the markers are not there, once each and in this order.
    """
    begin, end = BEGIN.format(name), END.format(name)
    head, found, rest = text.partition(begin)
    _old, closed, tail = rest.partition(end)
    if not found or not closed or begin in rest or end in tail:
        raise ValueError(f"expected {begin} and {end} once each in the page")
    return f"{head}{begin}\n\n{block.strip()}\n\n{end}{tail}"


if __name__ == "__main__":  # after claims or a page's words were edited by hand
    render()
