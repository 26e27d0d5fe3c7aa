import hashlib

import numpy as np
import pandas as pd
import pytest

from lib.data.score_files import merge_scores, provenance


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
        ({"a": np.ones(3)}, [3, 5], r"for rows \(2,\), got {'a': \(3,\)}"),
        ({"a": np.ones(2, dtype=int)}, [3, 5], r"integer columns must have a value in every row .* \['a'\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_file_stays(path, columns, rows, message):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        merge_scores(path, columns, rows=rows, group="a", made={})
    assert path.read_bytes() == before
