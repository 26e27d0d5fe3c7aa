"""What people bring: labels of any kind, tables with holes and words, folders of pictures, and what cannot be used."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_wine

from lib.data import load, own

N = 60
RNG = np.random.default_rng(0)
X, CODE = RNG.normal(size=(N, 4)), np.arange(N) % 3


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.array(list("cab"))[CODE], "abc"),
        (np.array(list("cab"), object)[CODE], "abc"),
        (pd.Series(np.array(list("cab"))[CODE]).astype("category"), "abc"),
        (CODE.astype(float), "012"),
        (CODE > 0, ("False", "True")),
        (np.eye(3, dtype=int)[CODE], "012"),
        (CODE[:, None], "012"),
        (CODE + 1, "123"),
        (10 * CODE - 10, ("-10", "0", "10")),
        (CODE.astype("u1"), "012"),
        (CODE.astype(">i2"), "012"),
        (torch.tensor(CODE, dtype=torch.int16), "012"),
        (CODE.tolist(), "012"),
    ],
)
def test_labels_of_any_kind_are_counted_from_0_and_keep_their_names(y, names):
    codes, found = own.labels("y", y)
    assert codes.dtype == np.int64 and found == tuple(names)
    flat = np.argmax(np.asarray(y), 1) if np.ndim(y) == 2 and np.shape(y)[1] > 1 else np.ravel(np.asarray(y))
    assert [found[c] for c in codes] == [str(int(v) if isinstance(v, float) else v) for v in flat.tolist()]


def test_a_table_keeps_its_index_its_columns_and_its_names():
    wine = load_wine(as_frame=True)
    table = wine.data.assign(kind=wine.target_names[wine.target])
    table.index = [f"bottle {i}" for i in range(len(table))]
    data = load(table, "kind", n_train=50)
    assert data.classes == ("class_0", "class_1", "class_2") and data.columns == tuple(wine.data)
    for i in (0, 17, 49):
        row = table.loc[data.index_train[i]]
        assert row["kind"] == data.classes[data.y_train[i]]
        np.testing.assert_array_equal(row.drop("kind").to_numpy(float), data.x_train[i])
    assert data.unsplit and load(table, "kind", split=False).y_train.shape == (178,)


def test_files_and_arrays_hold_the_same(tmp_path):
    table = pd.DataFrame(X, columns=list("abcd")).assign(y=np.array(list("pqr"))[CODE])
    table.to_csv(tmp_path / "own.csv", index_label="id")
    table.to_parquet(tmp_path / "own.parquet")
    np.savez(tmp_path / "own.npz", x_train=X, y_train=table.y.to_numpy("U1"))
    brought = [
        load(tmp_path / "own.csv", label="y", index="id"), load(str(tmp_path / "own.parquet"), "y"),
        load(tmp_path / "own.npz"), load((X, table.y)), load(X, table.y), load((torch.tensor(X), table.y.tolist())),
        load((table.drop(columns="y"), table.y)), load({"x_train": X, "y_train": table.y}),
    ]  # fmt: skip
    for data in brought:
        np.testing.assert_array_equal(data.x_train, brought[0].x_train)
        assert data.y_train.equal(brought[0].y_train) and data.classes == ("p", "q", "r")
    assert brought[0].index_train.name == "id"


def test_holes_and_words_are_named_with_a_cure():
    table = pd.DataFrame(X, columns=list("abcd"), index=range(100, 100 + N)).assign(
        isle=np.array(["x", "y"])[CODE % 2], y=CODE
    )
    with pytest.raises(ValueError, match=r"not numbers: 'isle' \(2 values, 'x', …\); say categorical='one-hot'"):
        load(table, "y")
    assert load(table, "y", categorical="leave out").columns == tuple("abcd")
    assert load(table, "y", categorical="one-hot").columns == (*"abcd", "isle_x", "isle_y")
    table.loc[103, "b"], table.loc[107, "c"] = np.nan, np.inf
    wish = {"categorical": "leave out", "split": False}
    with pytest.raises(ValueError, match=r"2 in 2 rows, the first in row 103, column 'b'; say missing='drop'"):
        load(table, "y", **wish)
    kept = load(table, "y", missing="drop", **wish)
    assert set(table.index) - set(kept.index_train) == {103, 107}
    filled = load(table, "y", missing="median", **wish)
    assert filled.x_train[3, 1] == table.b.median()
    for kind, whole in (("Int64", CODE), ("boolean", CODE > 0), ("int64[pyarrow]", CODE)):
        table["n"] = pd.Series(whole, table.index).astype(kind)
        table.loc[[104, 109], "n"] = pd.NA
        middle = pd.Series(whole, table.index).drop([104, 109]).astype(float).median()
        assert load(table, "y", missing="median", **wish).x_train[4, 4] == middle
    table = table.drop(columns="n")
    with pytest.raises(ValueError, match="label: expected one of the columns a, b, c, d, isle, y, got 'species'"):
        load(table, "species")
    with pytest.raises(ValueError, match="missing: expected one of refuse, drop, median, got 'guess'"):
        load(table, "y", missing="guess")


def test_large_numbers_stay_apart():
    for first in (2**24, 2**53, 10**18):
        ids = pd.DataFrame({"id": first + np.arange(N), "y": CODE})
        assert len(load(ids, "y", split=False).x_train.unique()) == N
    ids = 10**18 + np.arange(N)[:, None]
    assert len(load((ids, CODE), split=False).x_train.unique()) == N
    both = load((ids, CODE, ids[3:], CODE[3:]))  # counted from one number
    torch.testing.assert_close(both.x_test, both.x_train[3:], rtol=0, atol=0)
    for wide in (np.where(CODE == 0, -1, 1)[:, None] * ids, pd.DataFrame({0: np.append(ids[1:], -(2**62))})):
        with pytest.raises(ValueError, match="column '0': expected numbers within 2⁵³, got -.*, some too close"):
            load(wide, CODE)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("1", 1)])
def test_a_folder_of_pictures(tmp_path, mode, channels):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(tmp_path / name / f"{i}.png")
    data = load(tmp_path, split=False)
    assert data.x_train.shape == (8, channels, 20, 20) and data.classes == ("ant", "bee")
    assert data.index_train[5] == "bee/1.png" and 0 <= data.x_train.min() and data.x_train.max() <= 1


def test_what_a_folder_of_pictures_also_holds(tmp_path):
    deep = RNG.integers(0, 2**16, (2, 9, 9), dtype=np.uint16)
    for name, pixels in zip(("a", "b"), deep, strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    for hidden in (".ipynb_checkpoints/0.png", "a/._0.png", "a/.DS_Store", "a/Thumbs.db"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"none")
    data = load(tmp_path, split=False)
    np.testing.assert_array_equal(255 * data.x_train[:, 0], deep >> 8)  # not all of it white
    assert data.index_train.tolist() == ["a/0.png", "b/0.png"]
    whole = (tmp_path / "a/0.png").read_bytes()
    for bytes_ in (whole[:90], b"text"):
        (tmp_path / "a/1.png").write_bytes(bytes_)
        with pytest.raises(ValueError, match=r"a/1.png: expected a picture, got \w+Error"):
            load(tmp_path)
    Image.fromarray(deep[0].astype(np.float32)).save(tmp_path / "a/1.tiff")
    (tmp_path / "a/1.png").unlink()
    with pytest.raises(ValueError, match=r"a/1.tiff: expected a picture, got .* mode F has no largest value"):
        load(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"expected folders of pictures, class/name.png .* got none in c"):
        load(tmp_path)
    for part in ("train", "test"):
        (tmp_path / "c" / part).mkdir()
        (tmp_path / "c" / part / "0.png").write_bytes(whole)
    with pytest.raises(ValueError, match="expected folders of classes, got the parts test, train; hand over one"):
        load(tmp_path / "c")


def test_pictures_of_several_sizes_are_resized_by_the_stated_rule(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    for i, size in enumerate([(30, 90), (40, 40), (50, 41), (200, 300)]):
        Image.new("L", size, 51).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    x = load(tmp_path, split=False).x_train
    assert x.shape == (4, 1, 40, 40)  # the median of 30, 40, 41, 200
    torch.testing.assert_close(x, torch.full_like(x, 0.2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X.astype(object), CODE), "x_train: expected uint8 or floating values, got object .*; hand over a table"),
        ((X, np.array([None] * N)), r"y_train: expected a label in every row, got none in rows \[0, 1"),
        ((np.where(np.eye(N, 4, -2), np.nan, X), CODE), r"NaN or infinity in rows \[2, 3, 4, 5\], first in column 0"),
        ((X, CODE[:5]), r"as many rows in x_train as in y_train, got \(60, 4\) and \(5,\)"),
        ((X,), r"data: expected a path, table, mapping, \(x, y\)"),
    ],
)
def test_what_cannot_be_used_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        load(data)


# --- files and tables as people have them ----------------------------------------------------------------------------

FRAME = pd.DataFrame(X.round(3), columns=["bill length", "b", "c", "d"]).assign(
    **{"kind $ {x}": np.array(list("pqr"))[CODE]}
)


def written(path, text, encoding="utf8"):
    path.write_bytes(text.encode(encoding))
    return load(path, "kind $ {x}", split=False)


@pytest.mark.parametrize(
    ("how", "encoding"),
    [
        ({"sep": ";"}, "utf8"), ({"sep": ";", "decimal": ","}, "utf8"), ({"sep": "\t"}, "utf8"), ({"sep": "|"}, "utf8"),
        ({"lineterminator": "\r\n"}, "utf-8-sig"), ({"lineterminator": "\r"}, "utf8"), ({"index": True}, "utf8"),
    ],
)  # fmt: skip
def test_a_csv_is_read_whatever_separates_its_columns(tmp_path, how, encoding):
    data = written(tmp_path / "{a} ü.CSV", FRAME.to_csv(**{"index": False} | how), encoding)
    np.testing.assert_array_equal(data.x_train, X.round(3))
    assert data.columns == ("bill length", "b", "c", "d") and data.classes == ("p", "q", "r")


def test_spaces_around_commas_and_a_compressed_file(tmp_path):
    spaced = written(tmp_path / "a.csv", FRAME.to_csv(index=False).replace(",", " , ").replace(" , ", ", "))
    assert spaced.classes == ("p", "q", "r") and spaced.columns[1] == "b"
    FRAME.to_csv(tmp_path / "a.csv.gz", index=False)
    assert load(tmp_path / "a.csv.gz", "kind $ {x}", split=False).x_train.equal(spaced.x_train)


def test_what_only_counts_the_rows_is_no_feature():
    for first in (0, 1):
        counted = FRAME.assign(Id=first + np.arange(N))
        with pytest.raises(ValueError, match="column 'Id' counts the rows and says nothing else: say index='Id'"):
            load(counted, "kind $ {x}")
        data = load(counted, "kind $ {x}", index="Id", split=False)
        assert data.x_train.shape == (N, 4) and data.index_train[0] == first


def test_values_that_are_no_numbers_are_shown():
    odd = FRAME.assign(b=["?" if i == 3 else str(i / 7) for i in range(N)], c=FRAME.c.astype(object))
    with pytest.raises(
        ValueError, match=r"^columns that are not numbers: 'b' \(60 values, '\?' in 1 of 60 rows, …\); say"
    ):
        load(odd, "kind $ {x}")  # c holds numbers, as objects


def test_words_that_are_missing_are_missing():
    """A table of penguins: islands and sexes as text, the sex of three unknown, two without any measure."""
    table = FRAME.assign(isle=np.array(["x", "y"])[CODE % 2], sex=np.array(["f", "m"])[np.arange(N) % 2])
    table.loc[[3, 5, 7], "sex"], table.loc[[9, 11], ["b", "c", "sex"]] = None, None
    wish = {"categorical": "one-hot", "split": False}
    with pytest.raises(ValueError, match="9 in 5 rows, the first in row 3, column 'sex'; say missing='drop'"):
        load(table, "kind $ {x}", **wish)
    kept = load(table, "kind $ {x}", missing="drop", **wish)
    assert set(range(N)) - set(kept.index_train) == {3, 5, 7, 9, 11} and kept.columns[-2:] == ("sex_f", "sex_m")
    filled = load(table, "kind $ {x}", missing="median", **wish)
    assert filled.x_train[[3, 9], -2:].sum() == 0 and filled.x_train[9, 1] == table.b.median()
    leaving = load(table, "kind $ {x}", missing="drop", categorical="leave out", split=False)
    assert len(leaving.x_train) == N - 2  # what is left out need not be there


def test_a_test_part_is_matched_by_its_columns():
    x, y = FRAME.drop(columns="kind $ {x}").assign(isle=np.array(["x", "y"])[CODE % 2]), FRAME["kind $ {x}"]
    data = load((x, y, x.iloc[:9, ::-1], y[:9]), categorical="one-hot", index=None)
    assert data.x_test.equal(data.x_train[:9]) and data.columns[-1] == "isle_y" and len(data.x_train) == N
    with pytest.raises(ValueError, match="x_test: expected the columns of x_train, got 'isle' in one of them alone"):
        load((x, y, x.iloc[:9, :4], y[:9]))


ODD = np.where(np.eye(N, 1, -2)[:, 0] > 0, np.inf, CODE)


@pytest.mark.parametrize(
    ("data", "label", "message"),
    [
        ((X, ODD), None, "y_train: expected classes, got fractions such as inf"),
        ((X, np.array(["a", " a", "b "])[CODE]), None, "labels that differ by more than spaces, got ' a' and 'a'"),
        ((FRAME[["b"]], FRAME.c[:5]), None, "y_train: expected a label for each of the 60 rows of x_train, got 5"),
        ((FRAME[["b"]], FRAME.iloc[::-1, 4]), None, "y_train: expected the rows of x_train in their order"),
        ((np.ma.masked_greater(X, 2), CODE), None, "x_train: expected finite values, got NaN or infinity in rows"),
        (FRAME.assign(c=FRAME.c * 1j), "kind $ {x}", "not numbers: 'c'"),
        (FRAME.assign(c=np.nan), "kind $ {x}", "; take out 'c', which has no value at all"),
        (FRAME[["kind $ {x}"]], "kind $ {x}", "table: expected rows, and columns of features beside the labels"),
        (FRAME.head(0), "kind $ {x}", "table: expected rows"),
    ],
)
def test_what_would_be_wrong_without_an_error_is_refused(data, label, message):
    with pytest.raises(ValueError, match=message):
        load(data, label, split=False)


def test_files_that_are_none_are_named(tmp_path):
    for name, content in (("a.csv", "ü,y\n1,é\n".encode("latin-1")), ("b.csv", b""), ("c.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: expected a table"):
            load(tmp_path / name, "y")
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ValueError, match="index: expected one of the columns bill length, b, c, d, got 'kind"):
        load(tmp_path / "d.csv", "kind $ {x}", index="kind $ {x}")


def test_tensors_of_sixteen_bits_and_bytes_as_labels():
    data = load((torch.tensor(X).bfloat16(), np.array([b"a", b"b", b"c"])[CODE]), split=False)
    assert data.classes == ("a", "b", "c") and data.x_train.shape == (N, 4)


def test_rows_and_columns_in_any_container_are_a_table(tmp_path):
    import pyarrow

    table = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.array(list("pqr"))[CODE])
    text = "\n".join(f"{line}," for line in table.to_csv(index=False).split())  # a comma at each line's end
    (tmp_path / "commas.csv").write_text(text)
    brought = (
        table.to_dict("records"),
        table.to_dict("list"),
        pyarrow.Table.from_pandas(table),
        tmp_path / "commas.csv",
    )
    for data in brought:
        found = load(data, "kind", split=False)
        np.testing.assert_allclose(found.x_train, X)
        assert found.classes == ("p", "q", "r") and found.columns == tuple("abcd")


def test_labels_beside_a_table_are_a_column_or_one_hot():
    for y in (pd.DataFrame({"kind": CODE}), CODE[:, None], np.eye(3)[CODE], [(int(c),) for c in CODE]):
        assert load(pd.DataFrame(X), y, split=False).y_train.tolist() == CODE.tolist()


def test_what_a_label_cannot_be_is_said():
    table = pd.DataFrame(X).assign(words=[["a", "b"]] * N)
    for data, label, options, message in [
        (X, "kind", {}, "label: expected an array of labels, .* got the name 'kind'"),
        ((X, CODE), "kind", {}, "label: expected an array of labels, .* got the name 'kind'"),
        (load_wine(), "kind", {}, "label: expected an array of labels, .* got the name 'kind'"),
        (pd.DataFrame(X), np.ones((N, 2)), {}, r"label: expected labels \(n,\), .* got float64 \(60, 2\)"),
        (table, CODE, {}, r"columns that are not numbers: 'words' \(1 values, \['a', 'b'\]"),
        (
            pd.DataFrame(X).assign(e=np.nan),
            CODE,
            {"missing": "drop"},
            "rows without missing values, got none: 60 of 60 ",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            load(data, label, split=False, **options)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 30)])
def test_tiny_pictures_of_a_folder_are_enlarged(tmp_path, size):
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new("RGB", size, (200, 10 * i, 0)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    found = load(tmp_path, split=False)
    assert found.x_train.shape == (4, 3, 8, 8)
    torch.testing.assert_close(
        found.x_train[:, :, 3, 3] * 255, torch.tensor([[200, 10 * i, 0] for i in (0, 2, 1, 3)]).float()
    )


TABLE = {"a": X[:, 0], "y": CODE}


@pytest.mark.parametrize("options", [{"index": "id"}, {"missing": "drop"}, {"categorical": "one-hot"}])
@pytest.mark.parametrize("data", [(X, CODE), {"x_train": X, "y_train": CODE}, load_wine(), "digits"], ids=type)
def test_options_of_tables_are_refused_where_none_has_come(data, options):
    with pytest.raises(ValueError, match="label, index, categorical, missing: expected none"):
        load(data, **options)
    if options.keys() == {"missing"}:
        load(TABLE, "y", **options), load((pd.DataFrame(X), CODE), **options)


@pytest.mark.parametrize("data", [{"x_train": X, "y_train": CODE}, load_wine(), "digits"], ids=type)
def test_labels_that_would_count_for_nothing_are_refused(data):
    with pytest.raises(ValueError, match="label, index, categorical, missing: expected none"):
        load(data, CODE)
