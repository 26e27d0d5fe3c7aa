import itertools

import pytest
import torch

from lib.data_diet import el2n, forgetting


def test_el2n_is_the_norm_of_each_run():
    errors = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(el2n(errors), (errors**2).sum(2).sqrt())


def test_el2n_ends_at_root_two_for_a_confident_mistake_and_zero_for_a_confident_hit():
    logits = torch.tensor([[[50.0, 0.0, 0.0], [0.0, 50.0, 0.0]]])
    onehot = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    torch.testing.assert_close(el2n(logits.softmax(2) - onehot), torch.tensor([[0.0, 2.0**0.5]]))


def test_forgetting_counts_like_a_plain_loop():
    correct = torch.rand(2, 9, 30, generator=torch.Generator().manual_seed(0)) < 0.6
    for e in range(2):
        for i in range(30):
            seen = correct[e, :, i].tolist()
            slow = sum(a and not b for a, b in itertools.pairwise(seen)) if any(seen) else 9
            assert forgetting(correct)[e, i] == slow


def test_never_learned_ranks_above_every_count_or_is_left_at_zero():
    correct = torch.zeros(1, 6, 2, dtype=torch.bool)
    correct[0, ::2, 0] = True  # forgotten as often as can be
    most, none = forgetting(correct), forgetting(correct, never_learned="none")
    assert most[0, 1] > most[0, 0] == 3
    assert none[0].tolist() == [3, 0]


def test_shapes_and_options_are_checked():
    with pytest.raises(ValueError, match=r"errors must be .* got \(5, 4\)"):
        el2n(torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"got torch.float32 \(1, 2, 3\)"):
        forgetting(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="'most' or 'none', got 'last'"):
        forgetting(torch.zeros(1, 2, 3, dtype=torch.bool), never_learned="last")
