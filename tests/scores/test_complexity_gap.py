import math
import re

import numpy as np
import pytest
import torch

from lib.data.datasets import load
from lib.numerics import cholesky
from lib.scores import complexity_gap, definitions
from lib.scores.complexity_gap import cg_prime, cg_scores, relu_gram


def problem(n=40, d=9, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=torch.float64, generator=g), torch.arange(n) % k


@pytest.fixture(scope="module")
def fashion():
    data = load("fashion-mnist", n_train=3000)
    return data.x_train, data.y_train


class TestGram:
    def test_is_the_expectation_it_stands_for(self):
        x = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [-0.3, 1.0], [-1.0, 0.1]]).double(), dim=1)
        angle = torch.arange(200_000).double() * (2 * math.pi / 200_000)  # only the direction of w matters
        active = (x @ torch.stack([angle.cos(), angle.sin()]) >= 0).double()
        torch.testing.assert_close(relu_gram(x), (x @ x.T) * (active @ active.T) / 200_000, atol=1e-5, rtol=0)

    def test_opposite_rows_share_no_neuron(self):
        assert abs(relu_gram(torch.tensor([[1.0, 2.0], [-2.0, -4.0]]))[0, 1]) < 1e-8

    def test_two_identical_rows_are_one_half_everywhere(self):
        torch.testing.assert_close(relu_gram(torch.full((2, 7), 0.3)), torch.full((2, 2), 0.5), atol=1e-7, rtol=0)

    def test_images_bytes_and_halves_give_what_their_floats_give(self):
        x = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(relu_gram(x), relu_gram(x.float() / 255), atol=1e-7, rtol=0)
        torch.testing.assert_close(relu_gram(x.bfloat16()), relu_gram(x.float()), atol=1e-7, rtol=0)
        assert relu_gram(x).dtype == torch.float32 and relu_gram(x.double()).dtype == torch.float64


class TestExact:
    def test_terms_are_those_of_equation_6(self):
        x, y = problem()
        result, inverse = cg_scores(x, y), torch.linalg.inv(relu_gram(x))
        for i in range(len(y)):
            signs = torch.where(y == y[i], 1.0, -1.0).double()
            rest = torch.arange(len(y)) != i
            inner, d = signs[rest] @ inverse[rest, i], inverse[i, i]
            terms = torch.stack([inner**2 / d, 2 * signs[i] * inner, signs[i] ** 2 * d])
            ours = torch.stack([result.quadratic[i], result.partial[i], result.diagonal[i]])
            torch.testing.assert_close(ours, terms, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(result.quadratic + result.partial + result.diagonal, result.score)

    @pytest.mark.parametrize("block", [1, 16, 48, 64, 100])
    def test_does_not_depend_on_the_block(self, block):
        x, y = problem(n=150, d=30)
        whole, tiled = cg_scores(x, y, block=150), cg_scores(x, y, block=block)
        torch.testing.assert_close(tiled.score, whole.score, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(tiled.diagonal, whole.diagonal, rtol=1e-10, atol=1e-10)

    def test_follows_the_rows_and_not_their_order_or_scale(self):
        x, y = problem()
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
        scale = torch.linspace(0.1, 30, len(y), dtype=torch.float64)[:, None]
        torch.testing.assert_close(cg_scores((scale * x)[order], y[order]).score, cg_scores(x, y).score[order])

    def test_orthogonal_examples_are_worth_two_each(self):
        result = cg_scores(torch.eye(6), torch.tensor([4, 4, 4, 9, 9, 9]))  # H = ½I
        terms = {"score": 2, "quadratic": 0, "partial": 0, "diagonal": 2, "spread": 0}
        for name, expected in terms.items():
            torch.testing.assert_close(getattr(result, name), torch.full((6,), float(expected)))

    def test_a_flipped_label_scores_higher_and_its_partial_is_positive(self, fashion):
        x, y = fashion[0][:1000], fashion[1][:1000]
        flipped = torch.arange(0, 1000, 10)
        noisy = y.clone()
        noisy[flipped] = (y[flipped] + 5) % 10
        clean, after = cg_scores(x, y), cg_scores(x, noisy)
        assert (after.score > clean.score)[flipped].float().mean() > 0.95
        assert (after.partial[flipped] > 0).float().mean() > 0.9 > 0.4 > (clean.partial > 0).float().mean()

    def test_several_labellings_equal_one_by_one(self):
        x, y = problem()
        many = torch.stack([y, y.flip(0), torch.arange(len(y)) % 5])
        together = cg_scores(x, many)
        assert together.score.shape == (3, 40) and together.by_run.shape == (3, 1, 40)
        for labels, score, partial in zip(many, together.score, together.partial, strict=True):
            alone = cg_scores(x, labels)
            torch.testing.assert_close(score, alone.score, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(partial, alone.partial, rtol=1e-9, atol=1e-10)

    def test_names_of_classes_do_not_matter(self):
        x, y = problem(k=2)
        torch.testing.assert_close(cg_scores(x, 2 * y - 1).score, cg_scores(x, 7 * y).score)

    def test_float32_agrees_with_float64(self, fashion):
        x, y = fashion
        half, full = cg_scores(x, y, block=640), cg_scores(x, y, dtype=torch.float64)
        error = ((half.score.double() - full.score) / full.score).abs()
        assert half.score.dtype == torch.float32 and error.median() < 2e-5 and error.quantile(0.99) < 2e-4
        torch.testing.assert_close(half.diagonal.double(), full.diagonal, rtol=2e-4, atol=0)
        assert ((half.partial.double() - full.partial).abs() < 1e-4 * full.diagonal).all()
        assert half.residual < 1e-4 and full.residual < 1e-10
        assert 1e-8 < half.diagonal_error < 1e-4 and full.diagonal_error < 1e-10

    def test_nearly_equal_rows_keep_their_digits_in_float32(self):
        x, y = problem()
        x[1] = x[0] + 1e-4 * x[2]  # their cosine is 1 to within float32
        torch.testing.assert_close(
            cg_scores(x, y, dtype=torch.float32).diagonal[:2].double(), cg_scores(x, y).diagonal[:2], rtol=1e-2, atol=0
        )

    def test_jitter_is_added_to_the_diagonal_and_admits_duplicates(self):
        x, y = problem()
        x[5] = 3 * x[11]
        jittered = cg_scores(x, y, jitter=0.01)
        torch.testing.assert_close(jittered.score, definitions.cg_scores(x, y, jitter=0.01), rtol=1e-9, atol=1e-10)
        half = cg_scores(x, y, jitter=0.01, dtype=torch.float32)  # refined
        torch.testing.assert_close(half.score.double(), jittered.score, rtol=1e-4, atol=1e-4)
        assert jittered.residual < 1e-10 and half.residual < 1e-4

    def test_more_jitter_makes_examples_alike(self):
        x, y = problem()
        torch.testing.assert_close(1e6 * cg_scores(x, y, jitter=1e6).score, torch.ones(40).double(), rtol=1e-3, atol=0)

    def test_accounts_for_its_time_and_memory(self, fashion):
        result = cg_scores(*fashion)
        assert set(result.seconds) == {"gram", "factor", "solve", "invert"} == set(result.gflops)
        assert result.operations["factor"] == result.operations["invert"] == 3000**3 / 3
        assert result.planned_bytes > 3000**2 * 4 / 2
        columns = 10 + complexity_gap.PROBES  # solved for in float32, then twice over in the refinement, on a new H
        assert result.operations["solve"] == 3000**2 * (2 * columns + 784 + 4 * columns)

    @pytest.mark.parametrize("most", [0, 2048])
    def test_a_draw_needs_room_for_its_rows(self, most, monkeypatch):
        monkeypatch.setattr(complexity_gap, "DENSE", most)
        wide, labels = 1_000_000, torch.arange(40)[None] % 2
        planned = complexity_gap._draw_bytes(labels, 1.0, wide, runs=1, itemsize=4, block=8)
        assert planned >= 40 * wide * 8

    def test_a_draw_in_panels_needs_room_for_them_for_another_and_for_three_tiles(self, monkeypatch):
        monkeypatch.setattr(complexity_gap, "DENSE", 0)
        planned = complexity_gap._draw_bytes(torch.arange(40)[None] % 2, 1.0, 9, runs=1, itemsize=4, block=8)
        assert planned >= 4 * (40 * (40 + 8) / 2 + 40 * 8) + 8 * (3 * 40 * 8 + 40 * 9)

    def test_as_many_draws_go_together_as_fit(self):
        together, numbers = complexity_gap._at_once(40, 20), 40 * (40 + 2 * 20)
        assert together * numbers <= 2 * complexity_gap.DENSE**2 < (together + 1) * numbers


class TestSubsampled:
    def one_draw(self, x, y, label, *, negatives, jitter, seed, run):
        """The definition on the rows of one draw, for its positives, dense in float64: scores and terms (eq. 6)."""
        members = int((y == label).sum())
        rows = complexity_gap.draw(y, label, round(negatives * members), seed=seed, run=run)
        inverse = torch.linalg.inv(definitions.relu_gram(x[rows]) + jitter * torch.eye(len(rows)).double())
        signs, d = torch.where(y[rows] == label, 1.0, -1.0).double(), inverse.diagonal()
        inner = signs * (inverse @ signs) - d
        scores = definitions.cg_scores(x[rows], y[rows] == label, jitter=jitter)
        return rows[-members:], torch.stack([scores, inner**2 / d, 2 * inner, d])[:, -members:]

    @pytest.mark.parametrize("dense", [0, 2048])  # in panels, several at a time
    @pytest.mark.parametrize("keep", [False, True])
    @pytest.mark.parametrize("jitter", [0.0, 0.01])
    def test_is_the_exact_score_of_the_draw(self, monkeypatch, dense, keep, jitter):
        monkeypatch.setattr(complexity_gap, "DENSE", dense)
        monkeypatch.setattr(complexity_gap, "_plan", lambda *problem, **options: (0, keep))
        x, y = problem(n=90, d=20)
        close = {"rtol": 1e-9, "atol": 1e-9}
        if jitter:  # with twins, whose angle is not 0 to the last digit
            x[30:60], close = 2 * x[:30], {"rtol": 1e-6, "atol": 1e-6}
        settings = {"negatives": 1.5, "seed": 4, "jitter": jitter}
        result = cg_scores(x, y, runs=3, block=16 if dense == 0 else None, **settings)
        mean = torch.zeros(4, 90, dtype=torch.float64)
        assert result.operations == {"solve": 3 * 3 * (75**3 + 30**3) / 3}  # to factor, and to invert the class alone
        for run in range(3):
            for label in range(3):
                rows, expected = self.one_draw(x, y, label, run=run, **settings)
                torch.testing.assert_close(result.by_run[run, rows], expected[0], **close)
                mean[:, rows] += expected / 3
        terms = torch.stack([result.score, result.quadratic, result.partial, result.diagonal])
        torch.testing.assert_close(terms, mean, **close)

    def test_averages_scores_and_each_term_over_runs(self):
        x, y = problem()
        result = cg_scores(x, y, negatives=1, runs=5)
        torch.testing.assert_close(result.score, result.by_run.mean(0))
        torch.testing.assert_close(result.spread, result.by_run.std(0))
        torch.testing.assert_close(result.quadratic + result.partial + result.diagonal, result.score)
        assert cg_scores(x, y, negatives=1).spread.isnan().all()

    def test_a_class_that_takes_all_negatives_gets_its_exact_scores(self):
        x, _ = problem()
        y = torch.tensor([0] * 20 + [1] * 10 + [2] * 10)
        result, exact = cg_scores(x, y, negatives=1, runs=2), cg_scores(x, y)
        torch.testing.assert_close(result.score[:20], exact.score[:20], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(result.spread[:20], torch.zeros(20).double(), atol=1e-10, rtol=0)
        assert (result.spread[20:] > 0).all() and not torch.allclose(result.score[20:], exact.score[20:])

    def test_all_negatives_for_every_class_is_exact_and_one_factorization(self):
        x, y = problem(n=42)
        result, exact = cg_scores(x, y, negatives=2, runs=3), cg_scores(x, y)
        torch.testing.assert_close(result.score, exact.score, rtol=1e-12, atol=0)
        assert result.by_run.shape == (3, 42) and (result.spread == 0).all() and "factor" in result.seconds

    def test_draws_follow_seed_class_and_run_alone(self):
        x, y = problem(n=60)
        more, fewer = cg_scores(x, y, negatives=1, runs=4), cg_scores(x, y, negatives=1, runs=2)
        torch.testing.assert_close(more.by_run[:2], fewer.by_run, rtol=1e-12, atol=0)
        both = cg_scores(x, torch.stack([y.flip(0), y]), negatives=1, runs=2)
        torch.testing.assert_close(both.by_run[1], fewer.by_run, rtol=1e-12, atol=0)
        other = cg_scores(x, y, negatives=1, runs=2, seed=1)
        assert not torch.allclose(other.by_run, fewer.by_run)

    def test_draws_come_without_replacement_from_the_others(self):
        y = torch.arange(60) % 3
        rows = complexity_gap.draw(y, 1, 25, seed=0, run=0)
        assert (y[rows[:25]] != 1).all() and (y[rows[25:]] == 1).all() and len(rows.unique()) == 45

    def test_converges_to_the_exact_score_as_runs_and_negatives_grow(self, fashion):
        x, y = fashion[0][:1500], fashion[1][:1500]
        ranks = lambda score: score.argsort().argsort().double()
        exact = ranks(cg_scores(x, y).score)
        to_exact = lambda score: np.corrcoef(ranks(score), exact)[0, 1]
        one, three = (cg_scores(x, y, negatives=a, runs=6) for a in (1, 3))
        assert to_exact(one.by_run[0]) < to_exact(one.score) < to_exact(three.score) < 1
        assert to_exact(three.by_run[0]) < to_exact(three.score)


class TestPrime:
    def test_does_not_depend_on_the_block(self):
        x, y = problem()
        torch.testing.assert_close(cg_prime(x, y, block=7), cg_prime(x, y))

    def test_takes_several_labellings(self):
        x, y = problem()
        torch.testing.assert_close(cg_prime(x, torch.stack([y, y.flip(0)]))[1], cg_prime(x, y.flip(0)))


class TestBlockedCholesky:
    @pytest.mark.parametrize(
        ("n", "block", "cut"), [(33, 8, 0), (100, 32, 0), (100, 32, 41), (64, 64, 0), (90, 16, 89)]
    )
    def test_factor_solution_and_diagonal_equal_the_dense_ones(self, n, block, cut):
        g = torch.Generator().manual_seed(0)
        a, b = (torch.randn(n, m, dtype=torch.float64, generator=g) for m in (n + 5, 3))
        h, done = a @ a.T, []
        starts = cholesky.edges(n, block, cut)
        fill = lambda lo, hi, out: out.copy_(h[lo:hi, :hi])
        panels = cholesky.factorize(fill, starts, dtype=h.dtype, device="cpu", tick=done.append)
        lower = torch.linalg.cholesky(h)
        for panel in panels:
            lo, hi = cholesky.bounds(panel)
            torch.testing.assert_close(panel.tril(lo), lower[lo:hi, :hi], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(cholesky.solve(panels, b), torch.linalg.solve(h, b), rtol=1e-7, atol=1e-9)
        tail = torch.linalg.inv(lower[cut:, cut:]).square().sum(0)
        torch.testing.assert_close(cholesky.inverse_diagonal(panels, cut, done.append), tail)
        assert sum(done) == pytest.approx((n**3 + (n - cut) ** 3) / 3)

    def test_holds_half_of_the_matrix(self):
        fill = lambda lo, hi, out: out.copy_(torch.eye(hi)[lo:])
        panels = cholesky.factorize(fill, cholesky.edges(640, 32), dtype=torch.float32, device="cpu")
        assert sum(panel.numel() for panel in panels) == 640 * (640 + 32) / 2


class TestBadInput:
    def test_zero_rows_are_named(self):
        x, y = problem()
        x[[3, 8]] = 0
        with pytest.raises(ValueError, match="x: rows 3, 8 are all zero"):
            cg_scores(x, y)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_rows_that_are_not_finite_are_named(self, value):
        x, y = problem()
        x[6, 2] = value
        with pytest.raises(ValueError, match="x: rows 6 hold NaN or infinity"):
            cg_scores(x, y)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_duplicates_up_to_scale_are_named(self, dtype):
        x, y = problem(n=400)
        x, y = x.to(dtype), y
        x[17], x[391] = 4 * x[2], x[200]
        with pytest.raises(ValueError, match=r"rows 2 and 17, 200 and 391 are equal up to scale.*jitter"):
            cg_scores(x, y)

    def test_duplicates_with_another_row_between_them_are_named(self):
        across = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[:, 0]  # sorted by
        across, along = across / across.norm(), across.flip(0) * torch.tensor([1, -1]) / across.norm()
        with pytest.raises(ValueError, match="rows 0 and 2 are equal"):
            complexity_gap.refuse_twins(torch.stack([along, 0.03 * across - along, 0.06 * across + along]), 0.1)

    def test_many_duplicates_are_counted(self):
        x, y = problem()
        with pytest.raises(ValueError, match=r"… \(\d+ in all\) are equal up to scale"):
            cg_scores(x[:1].expand(40, -1), y)

    @pytest.mark.parametrize("negatives", [None, 1])
    def test_dependent_rows_are_refused(self, negatives):
        # 24 antipodal pairs in 2-d: 22 pivots that are 0 up to rounding, of which one at least comes out below
        x = torch.tensor([[math.cos(a), math.sin(a)] for a in np.arange(48) * math.pi / 24])
        with pytest.raises(ValueError, match=r"not positive definite in torch.float64: the rows before row \d+"):
            cg_scores(x.double() + 0, torch.arange(48) // 24, negatives=negatives)

    @pytest.mark.parametrize("negatives", [None, 1])
    def test_what_float32_cannot_factorize_is_computed_in_float64(self, negatives):
        x = torch.randn(4, 20, generator=torch.Generator().manual_seed(0)).repeat(5, 1)  # few directions, many rows
        given = {"y": torch.arange(20) // 10, "jitter": 1e-6, "negatives": negatives}
        found = cg_scores(x, **given).score
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, cg_scores(x.double(), **given).score)
        with pytest.raises(ValueError, match="not positive definite in torch.float32"):
            cg_scores(x, **given, dtype=torch.float32)

    def test_classes(self):
        x, y = problem()
        with pytest.raises(ValueError, match=r"at least two classes, got only \[4\]"):
            cg_scores(x, torch.full((40,), 4))
        with pytest.raises(ValueError, match=r"class 9 has one member \(row 12\)"):
            cg_scores(x, torch.where(torch.arange(40) == 12, 9, y))

    @pytest.mark.parametrize("score", [cg_scores, cg_prime])
    def test_shapes_and_types(self, score):
        x, y = problem()
        with pytest.raises(ValueError, match=r"got x \(40, 9\) and y \(39,\)"):
            score(x, y[1:])
        with pytest.raises(ValueError, match=r"got x \(40,\) and y \(40,\)"):
            score(x[:, 0], y)
        with pytest.raises(ValueError, match="y must hold integer labels, got torch.float64"):
            score(x, y.double())
        with pytest.raises(ValueError, match="x must be floating or uint8, got torch.int64"):
            score(x.long(), y)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"negatives": 0}, "negatives must give each class at least one row .* got 0"),
            ({"negatives": -2.0}, "negatives must .* got -2.0"),
            ({"negatives": math.nan}, "negatives must .* got nan"),
            ({"runs": 3}, "runs must be .* without negatives .* got 3"),
            ({"negatives": 1, "runs": 0}, "runs must be at least 1.* got 0"),
            ({"dtype": torch.float16}, "dtype must be torch.float32 or torch.float64, got torch.float16"),
            ({"block": 0}, "block must be at least 1 row, got 0"),
            ({"jitter": -1.0}, "jitter must be at least 0, got -1.0"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            cg_scores(*problem(), **options)

    def test_too_little_memory_is_told_before_anything_is_computed(self, monkeypatch):
        x, y = torch.rand(1, 784).expand(30_000, -1), torch.arange(30_000) % 10  # duplicates: computing would say so
        monkeypatch.setattr(complexity_gap, "free_bytes", lambda device: 1_600_000_000)
        with pytest.raises(
            MemoryError, match=r"need 2\.\d GB on cpu, where 1\.6 GB are free; .*negatives=\d, runs=10"
        ) as e:
            cg_scores(x, y)
        assert re.search(r"fits in (\d\.\d) GB", str(e.value))[1] < "1.7"
        monkeypatch.setattr(complexity_gap, "free_bytes", lambda device: 100_000_000)
        with pytest.raises(MemoryError, match="no subsampled call fits either"):
            cg_scores(x, y, negatives=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_scores_of_the_cpu():
    x, y = problem(n=300, d=50)
    for options in ({}, {"negatives": 1, "runs": 2}, {"block": 64}):
        gpu, cpu = (cg_scores(x, y, device=device, **options) for device in ("cuda", "cpu"))
        torch.testing.assert_close(gpu.score, cpu.score, rtol=1e-8, atol=1e-8)
        assert gpu.score.device.type == "cpu"
