"""The study on one page: counts and lists of verdicts, cards of scores."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from experiments import overview
from lib.data.datasets import Dataset
from lib.ledger.claims import load_claims
from lib.study.notebooks import REPO

START = REPO / "notebooks" / "00_start_here.ipynb"


@pytest.fixture
def folder(tmp_path):
    """Records in which two claims of notebook 04 have verdicts, and no other."""
    ids = [claim.id for claim in load_claims().values() if claim.notebook == "04"][:2]
    verdicts = tmp_path / "verdicts" / "laptop"
    verdicts.mkdir(parents=True)
    empty = {"value": None, "interval": None, "findings": None, "n": None, "criterion": ""}
    records = {ids[0]: empty | {"verdict": "reproduced"}, ids[1]: empty | {"verdict": "not reproduced"}}
    (verdicts / "04.json").write_text(json.dumps(records), "utf8")
    return verdicts


def test_every_claim_is_counted_once(folder):
    counts = overview.verdict_counts(folder)
    assert int(counts.to_numpy().sum()) == len(load_claims())
    assert counts.loc["04 · The complexity-gap score", ["reproduced", "not reproduced"]].tolist() == [1, 1]
    others = sum(claim.notebook == "04" for claim in load_claims().values()) - 2
    assert counts.loc["04 · The complexity-gap score", "not run"] == others


def test_the_chart_has_a_bar_a_notebook_and_a_colour_a_verdict(folder):
    counts = overview.verdict_counts(folder)
    ax = overview.chart(counts).axes[0]
    assert len(ax.containers) == len(counts.columns)
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers])
    assert (widths.T == counts.to_numpy()).all()


def test_a_card_shows_percentiles_and_says_where_there_is_none():
    x = torch.rand(3, 1, 4, 4)
    y, rows = torch.arange(3), torch.arange(3)
    images = Dataset(x, y, x, y, rows, rows, ("a", "b", "c"), "toy")
    percentile = pd.DataFrame({"one": [0.0, 50.0, 100.0], "two": [np.nan, 1.0, 2.0]})
    fig = overview.score_card(images, {"first": 0, "last": 2}, percentile)
    said = [[text.get_text() for text in ax.texts] for ax in fig.axes[1::2]]
    assert said == [["0", "–"], ["100", "2"]]


def test_the_first_page_counts_as_the_tables_do():
    """Executed again after another notebook was saved: ./run_all.sh --only 00 --save."""
    outputs = [output for cell in nbformat.read(START, as_version=4).cells for output in cell.get("outputs", [])]
    said = "".join(output.get("text", "") for output in outputs)
    assert overview.verdict_counts().sum().rename_axis(None).to_string() in said
