import jupytext
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import pyplot as plt

from experiments.long_tail import consistency, consistency_of_ensembles, displayed_examples, mantel, shared_pairs
from experiments.pairs import high_influence_pairs
from lib.data import datasets
from lib.scores.memorization import subsets
from lib.study.notebooks import REPO


def draw(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestConsistency:
    def test_is_the_definition(self):
        a, b = draw(200), draw(200, seed=1)
        table = consistency(a, b, [0.0, 0.3, 0.9])
        for row in table.itertuples():
            first = {i for i in range(200) if a[i] >= row.threshold}
            second = {i for i in range(200) if b[i] >= row.threshold}
            assert row.jaccard == len(first & second) / len(first | second)
            assert row.difference == pytest.approx(np.mean([abs(a[i] - b[i]) for i in first | second]))
            assert (row.first, row.second) == (len(first), len(second))

    def test_an_estimate_agrees_with_itself(self):
        a = draw(50)
        table = consistency(a, a, [0.1, 0.5])
        assert (table.jaccard == 1).all() and (table.difference == 0).all()

    def test_it_is_symmetric(self):
        a, b = draw(50), draw(50, seed=1)
        one, other = consistency(a, b, [0.4]), consistency(b, a, [0.4])
        assert one.jaccard.equals(other.jaccard) and one.difference.equals(other.difference)

    def test_eligible_confines_each_set_to_its_own_mask(self):
        a, b = draw(6, 4), draw(6, 4, seed=1)
        mem_a, mem_b = torch.arange(6) < 4, torch.arange(6) > 1
        row = consistency(a, b, [0.5], eligible=(mem_a[:, None], mem_b[:, None])).iloc[0]
        first, second = (a >= 0.5) & mem_a[:, None], (b >= 0.5) & mem_b[:, None]
        assert row.jaccard == ((first & second).sum() / (first | second).sum()).item()
        assert row.difference == pytest.approx((a - b).abs()[first | second].mean().item())

    def test_nothing_above_the_threshold_is_nan(self):
        assert consistency(draw(5), draw(5), [2.0])[["jaccard", "difference"]].isna().all(axis=None)

    def test_an_example_without_an_estimate_is_in_no_set(self):
        a, b = torch.tensor([0.9, float("nan")]), torch.tensor([0.7, 0.9])
        row = consistency(a, b, [0.5]).iloc[0]
        assert (row["first"], row["second"], row.jaccard) == (1, 2, 0.5)
        assert row.difference == pytest.approx(0.2, abs=1e-6)

    def test_shapes_are_checked(self):
        with pytest.raises(ValueError, match=r"one shape, got \(5,\) and \(6,\)"):
            consistency(draw(5), draw(6), [0.5])


class TestDisplayed:
    def test_is_appendix_c(self):
        """The published lines, with np.int spelled as int."""
        rng = np.random.default_rng(0)
        train = rng.permutation(1000)[rng.integers(0, 40, 90)]
        pairs = pd.DataFrame({"train": train, "influence": rng.random(90)})
        selected = np.unique(train)
        highest = np.array([max(pairs.influence[pairs.train == i]) for i in selected])
        order = np.argsort(-highest)
        base = np.linspace(0, len(selected) - 3, 5).astype(int)
        expected = [[selected[order[x + copy]] for x in base] for copy in range(3)]
        assert displayed_examples(pairs).tolist() == expected

    def test_ends_are_the_strongest_and_the_weakest(self):
        pairs = pd.DataFrame({"train": range(100), "influence": np.linspace(0.9, 0.2, 100)})
        shown = displayed_examples(pairs)
        assert shown[0, 0] == 0 and shown[-1, -1] == 99

    def test_too_few(self):
        with pytest.raises(ValueError, match="at least 3 training examples to show, got 2"):
            displayed_examples(pd.DataFrame({"train": [5, 5, 6], "influence": [0.2, 0.3, 0.4]}))


class TestCompare:
    @pytest.fixture
    def world(self):
        y, y_test = torch.arange(30) % 3, torch.arange(40) % 3
        ensembles = []
        for seed, t in ((0, 300), (1, 200)):
            sees = subsets(30, 21, t, seed)
            right_test = torch.cat([sees, sees[:, :10]], 1) & (draw(t, 40, seed=seed) < 0.4) | (
                draw(t, 40, seed=9) < 0.3
            )
            ensembles.append((sees, sees | (draw(t, 30, seed=seed + 5) < 0.72), right_test))
        return *ensembles, y, y_test

    def test_at_each_threshold_it_is_the_overlap_of_the_pairs(self, world):
        """By the other route: list both sets of pairs, intersect them."""
        first, second, y, y_test = world
        levels = [0.1, 0.15, 0.3]
        table = consistency_of_ensembles(first, second, y, y_test, levels)["influence"]
        for row in table.itertuples():
            pairs = [high_influence_pairs(*e, y, y_test, min_influence=row.threshold) for e in (first, second)]
            sums = shared_pairs(*pairs).sum()
            assert 0 < len(pairs[0]) and (row.first, row.second) == (sums["first"], sums["second"])
            assert row.jaccard == pytest.approx(sums.both / sums.either)

    def test_an_ensemble_agrees_with_itself(self, world):
        for table in consistency_of_ensembles(world[0], world[0], *world[2:], [0.2]).values():
            assert table.jaccard[0] == 1 and table.difference[0] == 0


class TestOverlap:
    def test_counts_by_test_example(self):
        g = np.random.default_rng(0)
        sets = [{tuple(p) for p in g.integers(0, 6, (20, 2)).tolist()} for _ in range(2)]
        frames = [pd.DataFrame(sorted(s), columns=["train", "test"]) for s in sets]
        table = shared_pairs(*frames)
        for test, row in table.iterrows():
            first, second = ({p for p in s if p[1] == test} for s in sets)
            expected = [len(first), len(second), len(first & second), len(first | second)]
            assert row[["first", "second", "both", "either"]].tolist() == expected
        assert table.both.sum() / table.either.sum() == len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    def test_of_itself_and_of_strangers(self):
        one = pd.DataFrame({"train": [1, 2], "test": [5, 6]})
        assert (shared_pairs(one, one).both == shared_pairs(one, one).either).all()
        assert shared_pairs(one, one.assign(train=9)).both.sum() == 0

    def test_nothing_overlaps_nothing(self):
        none = pd.DataFrame({"train": [], "test": []}, dtype=np.int64)
        assert len(shared_pairs(none, none)) == 0 and shared_pairs(none, none).either.sum() == 0


class TestMantel:
    def draw(self, g, k, relation):
        """Distances by a first trait, and by another that goes with it, and a third."""
        one, apart = g.standard_normal(k), lambda x: abs(np.subtract.outer(x, x))
        other = relation * one + np.sqrt(1 - relation**2) * g.standard_normal(k)
        return apart(one), np.hypot(apart(other), apart(g.standard_normal(k)))

    def test_is_spearman_over_pairs_and_the_order_of_objects_does_not_matter(self):
        one, other = self.draw(np.random.default_rng(0), 9, 0.8)
        upper = np.triu_indices(9, 1)
        value, interval, _ = mantel(one, other)
        assert value == pytest.approx(pd.Series(one[upper]).corr(pd.Series(other[upper]), "spearman"))
        order = np.random.default_rng(1).permutation(9)
        again = mantel(one[np.ix_(order, order)], other[np.ix_(order, order)])
        assert again[0] == pytest.approx(value) and again[1] == pytest.approx(interval)

    @pytest.mark.parametrize(("k", "relation"), [(9, 0.0), (9, 0.9), (16, 0.7)])
    def test_the_interval_covers_the_truth_and_the_band_what_chance_gives(self, k, relation):
        g = np.random.default_rng(2)
        truth = np.tanh(np.mean([np.arctanh(mantel(*self.draw(g, 40, relation), n_resamples=1)[0]) for _ in range(30)]))
        found = [mantel(*self.draw(g, k, relation), n_resamples=1)[1] for _ in range(200)]
        assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= 0.995
        if relation == 0:
            bands = [mantel(*self.draw(g, k, 0), n_resamples=99) for _ in range(60)]
            assert np.mean([low <= value <= high for value, _, (low, high) in bands]) > 0.87

    def test_matrices_of_two_sizes_are_refused(self):
        with pytest.raises(ValueError, match="of one k ≥ 4, got \\(5, 5\\) and \\(4, 4\\)"):
            mantel(np.eye(5), np.eye(4))


def test_all_of_mnist_where_it_lies_here(tmp_path, monkeypatch):
    """The cells of 13 that run only there, on a stand-in under the profile smoke."""
    cells = jupytext.read(REPO / "notebooks/appendix/13_long_tail_further.py").cells
    last = next(i for i, cell in enumerate(cells) if "## The published pairs" in cell.source)
    parameters, *code = (cell.source for cell in cells[:last] if cell.cell_type == "code")
    (tmp_path / "downloads" / "mnist").mkdir(parents=True)
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path))
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, **how: load("mnist-5k" if name == "mnist" else name, **how))
    names = {"display": lambda *shown: None}
    exec(parameters, names)
    names |= yaml.safe_load((REPO / "notebooks/profiles/smoke/13.yaml").read_text("utf8"))
    for source in code:
        exec(source, names)
        names["DATA"] = tmp_path  # not in the module, whose own data are read too
    plt.close("all")
    kept = names["ledger"].found
    for claim in ("lt.fraction.mnist.whole", "lt.pairs.mnist.whole", "lt.marginal.mnist"):
        assert kept[claim]["value"] is not None and not kept[claim]["note"].startswith("MNIST is not"), claim
    assert (tmp_path / "smoke" / "figures" / "13_whole_mnist.png").exists()
