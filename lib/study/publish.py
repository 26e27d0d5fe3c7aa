"""Writing a run back to where it is committed, and the pages that show verdicts.

The verdicts are kept once, in ``notebooks/verdicts/<profile>/NN.json``; ``RESULTS.md``, the counts in the README and
what ``REPRODUCIBILITY.md`` quotes are rendered from there, by ``./run_all.sh --save`` and ``python -m
lib.study.publish``. What differs from day to day (times, paths, counters, random ids) is taken out, so that a change in
the repository is one in the results. ``tests/benchmarks/gpu_import.py`` brings in what ran at the profile ``paper``.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from platform import python_version
from typing import NamedTuple

import jupytext
import nbformat
import pandas as pd
from jupytext.config import load_jupytext_config
from nbformat import NotebookNode

from lib.ledger.ledger import read_records, summary
from lib.ledger.tables import LEGEND, LOOKS, in_digits, in_sign
from lib.study import notebooks
from lib.study.notebooks import REPO, Notebook, Run

BEGIN, END = "<!-- verdicts of all papers -->", "<!-- end of verdicts of all papers -->"
LIVE = "application/vnd.jupyter.widget-view+json"  # a slider, which is dead without its kernel
WARNED = r"^.*\.py:\d+: \w*Warning: .*\n(?:  .*\n?)?"  # by a library, of itself: with the line where it stands
OF_THE_RUN = ("profile", "versions")  # what a record says of its run and not of its result
METADATA = {  # word for word what JupyterLab writes when a notebook is opened, which then changes nothing
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3}, "file_extension": ".py", "mimetype": "text/x-python",
        "name": "python", "nbconvert_exporter": "python", "pygments_lexer": "ipython3", "version": python_version(),
    },
}  # fmt: skip
RESULTS = """# Results

Every claim, what was published, what the committed notebooks found, and the verdict: {signs}. *Holds* is for \
identities and theorems, *measured* for costs; neither counts as a reproduction. `notebooks/claims.yaml` states each \
claim and its criterion, `lib/ledger/verdicts.py` the rules; intervals are 95%, and cover what is named. By setting: \
{legend}. *Evidence* leads to the experiment. *Another seed*, 1000, draws other rows, networks and noise. Written by \
`./run_all.sh --save` from `notebooks/verdicts/laptop`, and `seed-1000` beside it.

{counts}
"""
BESIDE = """
In brackets: of these, at the sizes of the profile `paper` (`notebooks/verdicts/paper`; `provenance.json` there says \
where and when). Where a claim was run at both, both verdicts stand.
"""
CHANGED = """## Verdicts that changed

What an earlier state of the study said, by laxer rules (`notebooks/verdicts/earlier.json`), and why it is another now.

{table}
"""


def write_back(run: Run, results: Path, repo: Path) -> list[Path]:
    """Write a run back to the repository and return what was written.

    That is its notebook and figures, and where it owns claims its records (keys that the run does not write stay) and
    all :func:`pages_of_verdicts`.

    Raises: ValueError if the run failed, or is not of the profile laptop.
    """
    if run.failure or run.profile != "laptop":
        raise ValueError(f"only what went well with the profile laptop is saved, got {run}")
    notebook, figures, texts = run.notebook, repo / "figures", {}
    if notebooks.owned(notebook):
        found = json.loads((results / run.profile / "claims" / f"{notebook.number}.json").read_text("utf8"))
        kept = repo / "notebooks" / "verdicts" / run.profile / f"{notebook.number}.json"
        before = read_records(kept.parent)
        result = lambda record: {key: value for key, value in record.items() if key not in OF_THE_RUN}
        new = {name: before.get(name, {}) | result(record) for name, record in found.items()}
        texts[kept] = as_kept(new)
        texts |= pages_of_verdicts(repo, before | new)
    nbformat.write(tidy(nbformat.read(run.executed, as_version=4)), notebook.ipynb)
    settle(notebook)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")
    figures.mkdir(exist_ok=True)
    for old in figures.glob(f"{notebook.number}_*.png"):
        old.unlink()
    drawn = sorted((results / run.profile / "figures").glob(f"{notebook.number}_*.png"))
    return [notebook.ipynb, *texts, *(Path(shutil.copy(new, figures)) for new in drawn)]


def settle(notebook: Notebook) -> None:
    """Write both halves of a pair as JupyterLab would, so that to open it changes nothing; not where they differ.

    The code of parameters and figures is folded there.
    """
    if notebooks.pair_difference(notebook):
        return
    book = nbformat.read(notebook.ipynb, as_version=4)
    book.metadata = nbformat.from_dict(METADATA)
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        figure = any("image/png" in output.get("data", {}) for output in cell.outputs)
        if figure or "parameters" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    nbformat.write(book, notebook.ipynb)
    jupytext.write(book, notebook.py, fmt="py:percent", config=load_jupytext_config(str(notebook.py)))


def as_kept(records: Mapping) -> str:
    """Records or their provenance as they are committed."""
    text = json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\s+(\S+),\s+(\S+)\s+\]", r"[\1, \2]", text) + "\n"  # an interval a line


def pages_of_verdicts(repo: Path = REPO, records: Mapping | None = None, larger: Mapping | None = None):
    """Path → text of the pages that show verdicts, by the records of laptop and, ``larger``, of paper, as committed."""
    kept, claims_file = repo / "notebooks" / "verdicts", repo / "notebooks" / "claims.yaml"
    records = read_records(kept / "laptop") if records is None else records
    table = summary(records, claims_file)
    beside = summary(read_records(kept / "paper") if larger is None else larger, claims_file)
    again = summary(read_records(kept / "seed-1000"), claims_file)
    counts, both = count_by_paper(table), (beside.verdict != "not run").any()
    signs = " · ".join(f"{sign} {verdict}" for verdict, (sign, _) in LOOKS.items() if verdict in counts)
    shown = f"{count_by_paper(table, beside)}\n{BESIDE}" if both else counts
    results = [RESULTS.format(signs=signs, counts=shown, legend=LEGEND)]
    for notebook in notebooks.find(repo / "notebooks"):
        own, place = table.notebook == notebook.number, evidence(notebook)
        results += [f"## {notebook.title}\n"] if own.any() else []
        rows = zip(*(runs[own].itertuples() for runs in (table, beside, again)), strict=True)
        results += [claim_entry(row, place.get(row.id, ""), *others) for row, *others in rows]
    if (earlier := repo / "notebooks" / "verdicts" / "earlier.json").exists():
        results.append(CHANGED.format(table=changed(table, json.loads(earlier.read_text("utf8")))))
    texts = {repo / "RESULTS.md": "\n".join(results)}
    texts[repo / "README.md"] = put_counts(quote((repo / "README.md").read_text("utf8"), records), counts)
    if (teaching := repo / "notebooks" / "TEACHING.md").exists():
        texts[teaching] = quote(teaching.read_text("utf8"), records)
    if (report := repo / "REPRODUCIBILITY.md").exists():
        texts[report] = put_counts(quote(report.read_text("utf8"), records), counts)
    return texts


def claim_entry(row: NamedTuple, evidence: str, larger=None, again=None) -> str:
    """A row of ``summary``, of paper's and of another seed's, as a section of RESULTS.md; if it failed: is it us?"""
    us, verdict = row.verdict in ("partly", "not reproduced", "not decided here"), f"**{in_sign(row._asdict())}**"
    facts = {"Published": row.published, "Ours": row.ours.replace("; ", "<br>")}
    if larger and larger.verdict != "not run":
        verdict += f" at `laptop`, **{in_sign(larger._asdict())}** at `paper`"
        facts["At `paper`"] = "<br>".join(filter(None, [*larger.ours.split("; "), larger.note, larger.reasons]))
    if again and again.ours:
        other = "<br>".join([in_sign(again._asdict()), *again.ours.split("; ")])
        facts["With another seed"] = "the same verdict" if again.verdict == row.verdict else other
    facts |= {"Intervals cover": row.covers, "Evidence": evidence}
    facts |= {"Is it us?": "; ".join(filter(None, [row.departs, row.moved, row.note, row.reasons])) if us else ""}
    lines = [f"- {name}: {' '.join(text.split())}".replace("?:", "?") for name, text in facts.items() if text]
    return "\n".join([f"### {row.id}\n\n{verdict} · {row.claim}\n", *lines, ""])


def changed(table: pd.DataFrame, earlier: Mapping[str, str]) -> str:
    """The claims whose verdict is not the earlier one, with both and the reason, as a table."""
    lines = [["claim", "before", "now", "because"], ["---"] * 4]
    for row in table.itertuples():
        if earlier.get(row.id, row.verdict) != row.verdict:
            why = [*({row.word} & {"weaker", "absent", "reversed"}), *row.reasons.split("; ")]
            why = "; ".join(reason for reason in why if reason and not reason.startswith("not judged"))
            said = {"partly": "as published in some settings", "reproduced": "as published in the present run"}
            why = (why or said.get(row.verdict, "the rule is another")).replace("|", "\\|")
            lines.append([f"`{row.id}`", earlier[row.id], in_sign(row._asdict()), why])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def evidence(notebook: Notebook) -> dict[str, str]:
    """Claim → link to the section of the last cell that records it by name, else names it, else shows the table."""
    slug = lambda title: re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")  # as Sphinx and GitHub have it
    link, claims, found = "", notebooks.owned(notebook), {}
    for cell in jupytext.read(notebook.py).cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^##+ (.+?)\s*$", cell.source, re.MULTILINE):
                place = notebook.ipynb.relative_to(notebook.home.parent).as_posix()
                link = f"[{title}]({place}#{slug(title)})"
        for name in claims if cell.cell_type == "code" else ():
            named = re.search(rf"[\"']{re.escape(name)}[\"']", cell.source)
            rank = 2 + (".record(" in cell.source) if named else int("ledger.table(" in cell.source)
            if rank and rank >= found.get(name, (0, ""))[0]:
                found[name] = rank, link
    return {name: link for name, (_, link) in found.items()}


def count_by_paper(table: pd.DataFrame, larger: pd.DataFrame | None = None) -> str:
    """How many claims of each paper came to which verdict: a ``summary`` as a table of counts, a ``larger`` beside."""
    names = [name for name in LOOKS if name != "not run" or (table.verdict == name).any()]
    lines = [["paper", "notebooks", "claims", *names], ["---"] * (3 + len(names))]
    for paper, claims in [*table.groupby("paper", sort=False), ("all", table)]:
        where = "" if paper == "all" else ", ".join(sorted(set(claims.notebook)))
        both = [claims] if larger is None else [claims, larger.loc[claims.index]]
        cells = [[(rows.verdict == name).sum() for rows in both] for name in names]
        lines.append([paper, where, str(len(claims)), *(f"{a}{f' ({b[0]})' if any(b) else ''}" for a, *b in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_counts(text: str, counts: str) -> str:
    """The text with the table of counts between its two markers.

    Raises: ValueError if the markers are not there, once each and in this order.
    """
    head, begin, rest = text.partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in tail:
        raise ValueError(f"expected {BEGIN} and {END} once each in the README and in REPRODUCIBILITY.md")
    return f"{head}{BEGIN}\n\n{counts.strip()}\n\n{END}{tail}"


def quote(text: str, records: Mapping[str, Mapping]) -> str:
    """The text with what it quotes of single claims as the records have it.

    A quotation stands between ``<!-- ours ID -->`` or ``<!-- ours ID: SETTING -->`` and ``<!-- -->``; it becomes a dash
    where there is no such record.
    """
    value = lambda m: f"{m[1]}{in_digits(records.get(m[2], {'value': None}), m[3] or '')}<!-- -->"
    return re.sub(r"(<!-- ours ([\w.]+)(?:: (.+?))? -->).*?<!-- -->", value, text)


def tidy(notebook: NotebookNode, places: Mapping[str, str] | None = None) -> NotebookNode:
    """The executed notebook as it is committed; the argument is left as it was.

    Without the cells that papermill injects, its metadata and live widgets; cells counted from 1 and named by their
    text; in text outputs, paths of this machine by what they are (``<python>``, ``~``) and memory addresses gone.

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
            kept = [output for output in old.outputs if LIVE not in output.get("data", {})]
            cell.execution_count, tidied = count, [_tidy_output(output, count, places) for output in kept]
            cell.outputs = [output for output in tidied if output.get("text") != ""]
        cells.append(cell)
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def _tidy_output(output: NotebookNode, count: int, places: Mapping[str, str]) -> dict:
    new = {k: {"metadata": {}, "execution_count": count}.get(k, v) for k, v in output.items() if k != "transient"}
    if "text" in new:
        new["text"] = re.sub(WARNED, "", scrub(new["text"], places), flags=re.M)
    if "data" in new:
        data = {kind: scrub(one, places) if kind.startswith("text/") else one for kind, one in new["data"].items()}
        if "text/html" in data:
            data["text/html"] = _plain_styler(data["text/html"])
        new["data"] = data
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


if __name__ == "__main__":
    for pair in notebooks.find(REPO / "notebooks"):
        settle(pair)
    for path, text in pages_of_verdicts().items():
        path.write_text(text, "utf8")
