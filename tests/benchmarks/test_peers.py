"""What ``peers.py`` reads: how long the notebooks of a results folder took, and the score file's own record."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_notebooks import script

BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def peers():
    here = Path(__file__).parent
    sys.path.insert(0, str(here))  # as for a script
    try:
        return script(here / "peers.py")
    finally:
        sys.path.remove(str(here))


def results(folder: Path, *, at=(0, 10), minutes=(9.9, 2.5)) -> Path:
    """A results folder with two notebooks executed, minutes after it began, one failed, and a shard."""
    for name in ("notebooks", "cache"):
        (folder / name).mkdir()
    for name, start, spent in zip(("00_first", "01_second"), at, minutes, strict=True):
        start = BEGAN + timedelta(minutes=start)
        noted = {"start_time": start.isoformat(), "end_time": (start + timedelta(minutes=spent)).isoformat()}
        book = {"cells": [], "metadata": {"papermill": noted | {"duration": 60 * spent}}, "nbformat": 4}
        (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(book | {"nbformat_minor": 5}))
    (folder / "notebooks" / "02_third.failed.ipynb").write_text("{}")
    (shard := folder / "cache" / "a.npz").write_bytes(b"")
    os.utime(shard, (BEGAN.timestamp() + 1,) * 2)
    return folder


def test_minutes_of_notebooks_are_those_that_papermill_noted(peers, tmp_path):
    lines = peers.study(results(tmp_path)).splitlines()
    assert lines[2:] == ["| 00_first | 9.9 |", "| 01_second | 2.5 |", "| 2 notebooks, one after the other | 12 |"]


@pytest.mark.parametrize("at", [(0, 30), (0, 5), (10, 0)], ids=["pause", "beside", "again"])
def test_what_was_not_run_in_one_go_is_told(peers, tmp_path, at):
    assert "**not in one go**" in peers.study(results(tmp_path, at=at))


def test_shards_of_earlier_runs_are_told(peers, tmp_path):
    os.utime(results(tmp_path) / "cache" / "a.npz", (BEGAN.timestamp() - 1,) * 2)
    assert "**some from shards of earlier runs**" in peers.study(tmp_path)


def test_a_folder_without_notebooks_is_refused(peers, tmp_path):
    with pytest.raises(ValueError, match="results/laptop is meant"):
        peers.study(tmp_path)


def test_tables_are_put_between_their_marks(peers, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "README", tmp_path / "README.md")
    peers.README.write_text(f"a\n{peers.PEERS}\nold\n{peers.END}\nb\n{peers.STUDY}\nolder\n{peers.END}\nc\n", "utf8")
    peers.put("new", peers.STUDY, True)
    text = peers.README.read_text("utf8")
    assert text == f"a\n{peers.PEERS}\nold\n{peers.END}\nb\n{peers.STUDY}\n\nnew\n{peers.END}\nc\n"
    marks = (Path(__file__).parent / "README.md").read_text("utf8")
    assert all(marks.count(mark) == 1 for mark in (peers.PEERS, peers.STUDY))


def test_the_recorded_row_is_the_score_files_own(peers):
    row = peers.recorded()
    assert row.what == "exact CG-scores, 60,000 rows" and row.ours > 60 and row.theirs is None
    assert "not timed here" in row.note and "–" in row.cells()
