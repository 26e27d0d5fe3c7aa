import hashlib
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lib.data import merge_scores, provenance, read_scores

WRITER = """
import sys
import numpy as np
from lib.data import merge_scores
for turn in range(8):
    merge_scores(sys.argv[1], {f"{sys.argv[2]}{turn}": np.arange(3.0)}, rows=[3, 5, 7], group=sys.argv[2], made={})
"""


@pytest.fixture
def path(tmp_path):
    columns = {"label": np.array([1, 0, 2], dtype="int8"), "cg": np.array([0.5, 1.5, 2.5], dtype="float32")}
    merge_scores(tmp_path / "a.parquet", columns, rows=[7, 3, 5], group="cg", made={"n": 3})
    return tmp_path / "a.parquet"


def test_a_file_is_sorted_by_row_and_keeps_types(path):
    table = pd.read_parquet(path)
    assert table.row.tolist() == [3, 5, 7] and table.cg.tolist() == [1.5, 2.5, 0.5]
    assert table.dtypes.astype(str).to_dict() == {"row": "int32", "label": "int8", "cg": "float32"}


def test_another_score_joins_by_row_and_leaves_the_rest(path):
    merge_scores(path, {"el2n": np.array([10.0, 20.0])}, rows=[7, 3], group="el2n", made={"seeds": [0]})
    table = pd.read_parquet(path).set_index("row")
    assert table.el2n[7] == 10 and table.el2n[3] == 20 and np.isnan(table.el2n[5])
    assert table.cg.tolist() == [1.5, 2.5, 0.5] and table.label.dtype == "int8"
    assert provenance(path) == {
        "cg": {"n": 3, "columns": ["label", "cg"]},
        "el2n": {"seeds": [0], "columns": ["el2n"]},
    }


def test_a_score_computed_again_replaces_the_old_one_in_its_place(path):
    merge_scores(path, {"label": np.array([4, 4, 4], dtype="int8")}, rows=[3, 5, 7], group="cg", made={"n": 4})
    table = pd.read_parquet(path)
    assert list(table) == ["row", "label", "cg"] and table.label.tolist() == [4, 4, 4]
    assert provenance(path)["cg"]["n"] == 4


def test_columns_of_an_earlier_merge_under_the_same_name_keep_where_they_came_from(path):
    add = lambda n, group, *names: merge_scores(
        path, {name: np.ones(3) for name in names}, rows=[3, 5, 7], group=group, made={"n": n}
    )
    add(4, "cg", "a", "b")
    add(5, "cg", "c")
    wanted = {
        "cg (label, cg)": {"n": 3, "columns": ["label", "cg"]},
        "cg (a, b)": {"n": 4, "columns": ["a", "b"]},
        "cg": {"n": 5, "columns": ["c"]},
    }
    assert provenance(path) == wanted
    add(6, "other", "a", "c")  # which belong to it alone from now on
    wanted |= {"cg (a, b)": {"n": 4, "columns": ["b"]}, "other": {"n": 6, "columns": ["a", "c"]}}
    assert provenance(path) == {name: part for name, part in wanted.items() if name != "cg"}


def test_a_file_starts_afresh_in_place_of_another(path, monkeypatch):
    (path.parent / "a.html.0123456789abcdef0123456789abcdef.tmp").touch()  # a page that is being written beside it
    before = path.read_bytes()
    afresh = lambda: merge_scores(path, {"b": np.arange(2)}, rows=[0, 9], group="b", made={}, fresh=True)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(pd.DataFrame, "reset_index", lambda *_: (_ for _ in ()).throw(OSError("full")))
        afresh()
    assert path.read_bytes() == before and len(read_scores("a", folder=path.parent)) == 3
    path.write_bytes(before[:-1])  # nor need the other one be whole
    afresh()
    assert read_scores("a", folder=path.parent).b.to_dict() == {0: 0, 9: 1}
    assert provenance(path) == {"b": {"columns": ["b"]}}
    assert len((path.parent / "SHA256SUMS").read_text().splitlines()) == 1
    assert len(list(path.parent.glob("*.tmp"))) == 1


def test_the_checksum_line_follows_the_file(path):
    for _ in range(2):
        sums = (path.parent / "SHA256SUMS").read_text()
        assert sums == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.parquet\n"
        merge_scores(path, {"b": np.ones(3)}, rows=[3, 5, 7], group="b", made={})


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ({"a": np.ones(2)}, [3, 9], r"rows must be among the 3 of a.parquet, got \[9\]"),
        ({"a": np.ones(2)}, [3, 3], "rows must not repeat"),
        ({"a": np.ones(2)}, [3.2, 5.7], "rows must be whole numbers from 0, got float64"),
        ({"a": np.ones(2)}, [3, 2**32 + 5], "rows must be whole numbers from 0, got int64"),
        ({"a": np.ones(2)}, [-1, 3], "rows must be whole numbers from 0, got int64"),
        ({"a": np.ones(3)}, [3, 5], r"for rows \(2,\), got {'a': \(3,\)}"),
        ({"a": np.ones(2, dtype=int)}, [3, 5], r"integer columns must have a value in every row .* \['a'\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_file_stays(path, columns, rows, message):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        merge_scores(path, columns, rows=rows, group="a", made={})
    assert path.read_bytes() == before


def test_a_changed_bit_is_not_given_a_checksum(path):
    whole, sums = path.read_bytes(), (path.parent / "SHA256SUMS").read_text()
    for place in (4, len(whole) // 2, len(whole) - 9):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.parquet is not what SHA256SUMS says"):
            merge_scores(path, {"b": np.ones(3)}, rows=[3, 5, 7], group="b", made={})
        assert path.read_bytes() == bytes(damaged) and (path.parent / "SHA256SUMS").read_text() == sums


def test_a_file_that_nobody_vouches_for_is_not_merged_into(path):
    (path.parent / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="a.parquet is not what SHA256SUMS says"):
        merge_scores(path, {"b": np.ones(3)}, rows=[3, 5, 7], group="b", made={})


def test_two_data_sets_do_not_share_a_file(path):
    add = lambda group, **made: merge_scores(path, {group: np.ones(3)}, rows=[3, 5, 7], group=group, made=made)
    add("one", dataset_sha256="1" * 64)
    add("two", dataset_sha256="1" * 64)
    add("own")  # which does not say what it is of
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a.parquet holds scores of other data .SHA-256 111111111111….: name another"):
        add("three", dataset_sha256="2" * 64)
    assert path.read_bytes() == before and set(provenance(path)) == {"cg", "one", "two", "own"}


def test_writers_at_the_same_time_lose_nothing(path):
    (path.parent / "thesis.tmp").write_text("of somebody else")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in ("b", "c")]
    while any(writer.poll() is None for writer in writers):
        assert {"label", "cg"} <= set(read_scores("a", folder=path.parent))  # a reader meets whole files only
    assert [writer.wait() for writer in writers] == [0, 0]
    names = {f"{name}{turn}" for name in ("b", "c") for turn in range(8)}
    assert set(read_scores("a", folder=path.parent)) == {"label", "cg"} | names
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "SHA256SUMS", "a.parquet", "thesis.tmp"]


def test_what_fails_while_it_writes_leaves_the_file_as_it_was(path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match="JSON"):
        merge_scores(path, {"b": np.ones(3)}, rows=[3, 5, 7], group="b", made={"what": object()})
    assert path.read_bytes() == before and not list(path.parent.glob("*.tmp"))


def test_names_with_spaces_have_their_checksums(path):
    for name in ("my own data", "data"):
        merge_scores(path.with_name(f"{name}.parquet"), {"b": np.ones(1)}, rows=[0], group="b", made={})
    assert read_scores("my own data", folder=path.parent).b.tolist() == [1]
    assert len(read_scores("a", folder=path.parent)) == 3
    names = [line.split("  ", 1)[1] for line in (path.parent / "SHA256SUMS").read_text().splitlines()]
    assert names == ["a.parquet", "data.parquet", "my own data.parquet"]


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\u2028"])
def test_a_name_of_two_lines_is_refused_and_breaks_no_reading(path, end):
    with pytest.raises(ValueError, match="path must have a name of one line"):
        merge_scores(path.with_name(f"a{end}b.parquet"), {"b": np.ones(1)}, rows=[0], group="b", made={})
    sums = path.parent / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes() + f"{'0' * 64}  a{end}b.parquet\n".encode())  # by somebody else
    assert len(read_scores("a", folder=path.parent)) == 3
    merge_scores(path, {"b": np.ones(3)}, rows=[3, 5, 7], group="b", made={})
    assert len(read_scores("a", folder=path.parent)) == 3


@pytest.mark.skipif(os.name != "posix", reason="a home by $HOME")
def test_a_tilde_is_a_home(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    merge_scores("~/b.parquet", {"b": np.ones(1)}, rows=[0], group="b", made={})
    assert len(read_scores("b", folder="~")) == 1 and set(provenance("~/b.parquet")) == {"b"}
