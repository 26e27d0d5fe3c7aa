import os
import pickle
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lib.store import Store, canonical, expanded, results_folder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.array(3, np.int8),
        np.zeros((0, 4), np.float32),
        np.array([True, False]),
        np.array(["Ankle boot", "größer"]),
        np.array([np.nan, -0.0, np.inf]),
        np.arange(20)[::3],
    ],
)
def test_what_is_put_comes_back(store, array):
    store.put({"k": 1}, {"weight.0": array, "file": np.ones(2)})
    back = store.get({"k": 1})["weight.0"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_nothing_is_none_and_no_arrays_are_some(store):
    assert store.get({"k": 1}) is None and not store.path({"k": 1}).exists()
    store.put({"k": 1}, {})
    assert store.get({"k": 1}) == {} and store.path({"k": 1}).exists()


def test_a_shard_is_an_npz_that_names_its_key(store):
    path = store.put({"seed": 3}, {"a": np.arange(4)})
    with np.load(path) as file:
        assert str(file["__key__"]) == '{"seed":3}'
        np.testing.assert_array_equal(file["a"], np.arange(4))


def test_cached_computes_once(store):
    calls = []

    def compute():
        calls.append(1)
        return {"a": [1, 2]}

    first, second = store.cached({"k": 1}, compute), store.cached({"k": 1}, compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(first["a"], second["a"])


def test_what_fails_leaves_nothing(store):
    def compute():
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        store.cached({"k": 1}, compute)
    with pytest.raises(ValueError, match=r"arrays\['a'\] must hold numbers, booleans or text, got Python objects"):
        store.put({"k": 1}, {"a": np.array([{}])})
    assert not list(store.folder.glob("*"))


@pytest.mark.parametrize("name", ["__key__", "a/b", "", 3])
def test_names_of_arrays_are_checked(store, name):
    with pytest.raises(ValueError, match="arrays must have plain text as names"):
        store.put({"k": 1}, {name: np.ones(1)})


def test_settings_that_differ_never_share_a_file(store):
    values = [1, 1.0, "1", True, None, [1], [[1]], {"1": 1}, -1, 0, 0.1, "", "None", "true", 0.1 + 1e-16 * 2, 10**20]
    keys = [{"lr": v} for v in values] + [{"seed": v} for v in values] + [{"lr": 1, "seed": 1}, {"a": {"lr": 1}}]
    assert len({store.path(k) for k in keys}) == len(keys)


def test_equal_settings_share_a_file(store):
    assert store.path({"a": 1, "b": (1, 2)}) == store.path({"b": [1, 2], "a": 1})
    assert canonical({"b": {"d": 1, "c": None}, "a": 2}) == '{"a":2,"b":{"c":null,"d":1}}'


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"recipe": {"lr": np.float32(0.1)}}, r"key\['recipe'\]\['lr'\] must be text, a number.*got float32"),
        ({"rows": [1, np.int64(2)]}, r"key\['rows'\]\[1\] must be .*got int64"),
        ({"rows": np.arange(3)}, r"key\['rows'\] must be .*got ndarray .*digest"),
        ({"model": object()}, r"key\['model'\] must be .*got object"),
        ({"milestones": {3: 0.1}}, r"key\['milestones'\] must have text as names, got 3 \(int\)"),
        ({"decay": float("nan")}, r"key\['decay'\] must be finite, got nan"),
        ({"t": float("inf")}, r"key\['t'\] must be finite, got inf"),
        ("digits", "key must be a dict of settings, got str"),
    ],
)
def test_a_key_that_is_not_json_is_refused(store, key, message):
    for call in (store.get, store.path, lambda k: store.put(k, {}), lambda k: store.cached(k, dict)):
        with pytest.raises(ValueError, match=message):
            call(key)
    assert not list(store.folder.glob("*"))


def test_every_flipped_bit_is_found(store):
    """Flip one bit anywhere, header, data, directory or checksum: named, set aside, computed again."""
    key, good = {"k": 1}, {"a": np.arange(50)}
    path = store.put(key, good)
    whole = path.read_bytes()
    places = random.Random(0).sample(range(8 * len(whole)), 60) + [0, 8 * len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match=rf"damaged shard .*{path.name} \(its checksum does not match\)"):
            back = store.cached(key, lambda: good)
        np.testing.assert_array_equal(back["a"], good["a"])
        assert path.read_bytes() == whole
        assert path.with_name(path.name + ".damaged").read_bytes() == bytes(damaged)


@pytest.mark.parametrize("length", [0, 10, 72, 200, -1])
def test_a_cut_shard_is_found(store, length):
    path = store.put({"k": 1}, {"a": np.arange(50)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(RuntimeWarning, match="damaged shard"):
        assert store.get({"k": 1}) is None
    assert not path.exists()


def test_a_shard_under_the_wrong_name_is_found(store):
    store.put({"k": 1}, {"a": np.arange(5)}).rename(store.path({"k": 2}))
    with pytest.warns(RuntimeWarning, match="it holds another key"):
        assert store.get({"k": 2}) is None


def test_a_file_that_cannot_be_opened_is_not_taken_for_none(store):
    store.path({"k": 1}).mkdir(parents=True)
    with pytest.raises(OSError):
        store.get({"k": 1})


def test_what_is_no_file_does_not_hang(store):
    path = store.put({"k": 1}, {"a": np.arange(5)})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="must be a file"):
        store.get({"k": 1})


def test_a_file_that_shrinks_while_it_is_read_is_damaged(store, monkeypatch):
    path = store.put({"k": 1}, {"a": np.arange(500_000)})
    size = path.stat().st_size
    status = os.fstat

    def longer(descriptor):  # what was there when the reader looked
        found = status(descriptor)
        return os.stat_result((*found[:6], size, *found[7:10]))

    os.truncate(path, size // 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", longer)
        with pytest.warns(RuntimeWarning, match="damaged shard"):
            assert store.get({"k": 1}) is None


def test_what_killed_writers_left_is_removed_a_day_later(store):
    store.put({"k": 1}, {})
    old, new, theirs = (store.folder / f"x.{name}.tmp" for name in ("0" * 32, "1" * 32, "thesis"))
    old.touch(), new.touch(), theirs.touch()
    os.utime(old, (0, 0)), os.utime(theirs, (0, 0))
    store.put({"k": 2}, {})
    assert not old.exists() and new.exists() and theirs.exists()  # what somebody else called so stays


SAME_KEY = """
import sys, numpy as np
from lib.store import Store
store = Store(sys.argv[1])
for _ in range(40):
    store.put({"k": 1}, {"a": np.full(100_000, int(sys.argv[2]))})
"""


def test_two_writers_of_one_key_and_a_reader(store):
    writers = [subprocess.Popen([sys.executable, "-c", SAME_KEY, str(store.folder), str(i)]) for i in (1, 2)]
    seen = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while any(w.poll() is None for w in writers):
            arrays = store.get({"k": 1})
            if arrays is not None:
                assert len(set(arrays["a"].tolist())) == 1  # one writer's whole array, never a mixture
                seen.add(int(arrays["a"][0]))
    assert [w.wait() for w in writers] == [0, 0]
    assert seen <= {1, 2} and seen
    assert [p.suffix for p in store.folder.iterdir()] == [".npz"]


def test_a_store_travels_to_another_process(store):
    store.put({"k": 1}, {"a": np.arange(3)})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).get({"k": 1})["a"], np.arange(3))


def test_a_tilde_is_a_home_unless_nobody_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path)), monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("STUDY_RESULTS", "~/r")
    assert Store("~/s").folder == tmp_path / "s" and results_folder() == tmp_path / "r"
    assert expanded("~no-such-user.csv") == Path("~no-such-user.csv")


def test_results_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    assert results_folder() == tmp_path
    assert Store(profile="smoke").folder == results_folder("smoke") / "cache" == tmp_path / "smoke" / "cache"
    monkeypatch.delenv("STUDY_RESULTS")
    assert results_folder().name == "results" and (results_folder().parent / "lib").is_dir()
    for wrong in ("", "../laptop", "a/b", "."):
        with pytest.raises(ValueError, match="profile must be a plain name"):
            results_folder(wrong)
