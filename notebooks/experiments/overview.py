"""The study on one page: what all scores say of one picture, and what came of all claims (notebook 00)."""

import html
import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from lib.data.datasets import Dataset
from lib.ledger.ledger import VERDICTS, read_records, summary
from lib.ledger.tables import LOOKS
from lib.store import results_folder
from lib.study import notebooks
from lib.study.notebooks import REPO

HATCHES = ("", "//", "..", "xx", "")  # beside the colours, for grey


def verdict_counts(records: str | Path = VERDICTS / "laptop") -> pd.DataFrame:
    """How many claims of each notebook came to which verdict in the committed runs.

    Args:
        records: a folder of ``NN.json``.

    Returns:
        a row a notebook that owns claims (``"04 · The complexity-gap score"``), a column a verdict.
    """
    table = summary(read_records(records))
    title = {n.number: re.split("[:,]", n.title)[0] for n in notebooks.find(REPO / "notebooks")}
    notebook = table.notebook.map(lambda number: title.get(number, number))
    shown = [verdict for verdict in LOOKS if verdict != "not run" or (table.verdict == verdict).any()]
    return pd.crosstab(notebook, table.verdict).reindex(columns=shown, fill_value=0)


def verdict_list(profile: str, records: str | Path = VERDICTS / "laptop") -> Styler:
    """Every claim with its notebook, the verdict of the committed run, and that of a run of one's own, if there is one.

    Args:
        profile: whose claims files under the results folder are looked up for the last column.
        records: a folder of ``NN.json``, for the committed verdicts.
    """
    table = summary(read_records(records))
    table["own"] = summary(read_records(results_folder(profile) / "claims")).verdict
    names = {notebook.number: notebook.name for notebook in notebooks.find(REPO / "notebooks")}
    rows = []
    for claim in table.itertuples():
        file = names.get(claim.notebook)
        link = f'<a href="{file}.ipynb">{claim.notebook}</a>' if file else claim.notebook
        rows.append({
            "claim": f"<code>{claim.id}</code> {_text(claim.claim)}", "paper": _text(claim.paper), "evidence": link,
            "verdict": _marked(claim.verdict), "your run": _marked(claim.own),
        })  # fmt: skip
    colour = lambda text: f"background-color: {LOOKS[text[2:]][1]}; color: #000000"
    look = [{"selector": "td, th", "props": "text-align: left; vertical-align: top; font-size: 85%"}]
    styled = pd.DataFrame(rows).style.hide(axis="index").set_uuid("overview").set_table_styles(look)
    return styled.map(colour, subset=["verdict", "your run"])


def chart(counts: pd.DataFrame) -> Figure:
    """The counts as bars, a notebook a bar, in the colours and order of the verdicts."""
    fig, ax = plt.subplots(figsize=(8, 0.45 * len(counts) + 1))
    left = np.zeros(len(counts))
    for verdict, hatch in zip(counts.columns, HATCHES, strict=False):
        width = counts[verdict].to_numpy()
        ax.barh(counts.index, width, left=left, color=LOOKS[verdict][1], edgecolor="0.3", hatch=hatch, label=verdict)
        for y, (start, one) in enumerate(zip(left, width, strict=True)):
            if one:
                ax.text(start + one / 2, y, one, ha="center", va="center", fontsize=8, backgroundcolor="white")
        left += width
    ax.invert_yaxis()
    ax.set(xlabel="claims")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, 1.2), ncols=len(counts.columns))
    return fig


def score_card(images: Dataset, chosen: Mapping[str, int], percentile: pd.DataFrame) -> Figure:
    """A picture a row, and beside it where each score places it.

    Args:
        images: whose ``x_train`` has a picture at each position named in ``chosen``.
        chosen: why a picture was chosen → its position.
        percentile: positions × scores, from 0 to 100.
    """
    fig, axes = plt.subplots(len(chosen), 2, figsize=(9, 0.95 * len(chosen) + 0.6), width_ratios=(1, 6), squeeze=False)
    names = list(percentile.columns)
    for (why, row), (left, right) in zip(chosen.items(), axes, strict=True):
        left.imshow(np.moveaxis(np.asarray(images.x_train[row]), 0, -1)[..., 0], vmin=0, vmax=1)
        left.set(xticks=[], yticks=[])
        left.set_ylabel(
            f"{why}\n{images.classes[int(images.y_train[row])]}", rotation=0, ha="right", va="center", fontsize=8
        )
        left.spines[:].set_visible(False)
        right.bar(names, percentile.loc[row], color="#56b4e9", width=0.6)
        for height in (50, 100):
            right.axhline(height, lw=0.6, color="0.6", zorder=0)
        for x, value in enumerate(percentile.loc[row]):
            right.text(x, value + 3, "–" if np.isnan(value) else f"{value:.0f}", ha="center", fontsize=7)
        right.set(ylim=(0, 125), yticks=[0, 50, 100])
        right.tick_params(axis="x", labelbottom=row == list(chosen.values())[-1], labelsize=8, rotation=20)
    axes[0, 1].set_title("percentile among all rows", loc="right", fontsize=9)
    return fig


def _marked(verdict: str) -> str:
    return f"{LOOKS[verdict][0]} {verdict}"


def _text(text: str) -> str:
    return html.escape(text).replace("$", "&#36;")  # a notebook would read $…$ as mathematics
