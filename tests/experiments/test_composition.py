import pytest
import torch

from experiments.unique_information import drawn, one_form


def test_counts_are_kept_and_rows_differ_by_seed():
    y = torch.arange(300) % 3
    rows = drawn(y, {0: 5, 2: 50}, seed=1)
    assert torch.bincount(y[rows], minlength=3).tolist() == [5, 0, 50]
    assert torch.equal(rows, rows.unique()) and torch.equal(rows, drawn(y, {0: 5, 2: 50}, seed=1))
    assert not torch.equal(rows, drawn(y, {0: 5, 2: 50}, seed=2))
    with pytest.raises(ValueError, match="counts: expected 0 to 100 examples of class 1, got 101"):
        drawn(y, {1: 101}, seed=0)


def test_one_form_keeps_what_is_in_form_and_centres_the_rest():
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(one_form(x, box=28), x)
    small = one_form(torch.ones(1, 1, 8, 8), box=20)
    assert small.shape == (1, 1, 28, 28)
    assert small.sum() == 400 and small[0, 0, 4:24, 4:24].min() == 1
    colour = torch.stack([torch.zeros(5, 5), torch.ones(5, 5), torch.full((5, 5), 0.5)])[None]
    torch.testing.assert_close(one_form(colour, box=5, side=7)[0, 0, 1:6, 1:6], torch.full((5, 5), 0.5))
    assert one_form(torch.rand(1, 3, 32, 32), box=28).shape == (1, 1, 28, 28)


def test_one_form_refuses():
    with pytest.raises(ValueError, match=r"x must be \(n, 1, h, w\)"):
        one_form(torch.zeros(2, 28, 28), box=20)
    with pytest.raises(ValueError, match="box must be between 1 and side = 28, got 40"):
        one_form(torch.zeros(2, 1, 8, 8), box=40)
