"""The study on one page: what all scores say of one picture, and what came of all claims (notebook 00)."""

import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lib.data.datasets import Dataset
from lib.ledger.ledger import VERDICTS, read_records, summary
from lib.ledger.tables import LOOKS
from lib.study import notebooks
from lib.study.notebooks import REPO

HATCHES = ("", "//", "..", "xx", "||", "--", "\\\\", "")  # beside the colours, for grey


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


def chart(counts: pd.DataFrame) -> Figure:
    """The counts as bars, a notebook a bar, in the colours and order of the verdicts."""
    fig, ax = plt.subplots(figsize=(6.4, 0.45 * len(counts) + 1))
    left, clear = np.zeros(len(counts)), withStroke(linewidth=4, foreground="white")  # of the hatching
    for verdict, hatch in zip(counts.columns, HATCHES, strict=False):
        width = counts[verdict].to_numpy()
        ax.barh(counts.index, width, left=left, color=LOOKS[verdict][1], edgecolor="0.3", hatch=hatch, label=verdict)
        for y, (start, one) in enumerate(zip(left, width, strict=True)):
            if one:
                ax.text(start + one / 2, y, one, ha="center", va="center", fontsize=9, path_effects=[clear])
        left += width
    ax.invert_yaxis()
    ax.tick_params(axis="y", labelsize=10)
    ax.set(xlabel="claims")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def score_card(images: Dataset, chosen: Mapping[str, int], percentile: pd.DataFrame) -> Figure:
    """A picture a row, and beside it where each score places it.

    Args:
        images: whose ``x_train`` has a picture at each position named in ``chosen``.
        chosen: why a picture was chosen → its position.
        percentile: positions × scores, from 0 to 100.
    """
    rows = len(chosen)
    fig, axes = plt.subplots(rows, 2, figsize=(6.4, 0.95 * rows + 0.8), width_ratios=(1, 6), squeeze=False)
    names = list(percentile.columns)
    for (why, row), (left, right) in zip(chosen.items(), axes, strict=True):
        left.imshow(np.moveaxis(np.asarray(images.x_train[row]), 0, -1)[..., 0], vmin=0, vmax=1)
        left.set(xticks=[], yticks=[])
        title = "\n".join([*why.split(" ", 1), images.classes[int(images.y_train[row])]])
        left.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9.5)
        left.spines[:].set_visible(False)
        right.bar(names, percentile.loc[row], color="#56b4e9", width=0.6)
        for height in (50, 100):
            right.axhline(height, lw=0.6, color="0.85", zorder=0)
        for x, value in enumerate(percentile.loc[row]):
            right.text(x, value + 3, "–" if np.isnan(value) else f"{value:.0f}", ha="center", fontsize=9.5)
        right.set(ylim=(0, 135), yticks=[0, 100])
        right.tick_params(axis="x", labelbottom=row == list(chosen.values())[-1], labelsize=9.5)
        plt.setp(right.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    axes[0, 1].set_title("percentile among all rows", loc="right", fontsize=10)
    return fig
