import pytest
import torch

from experiments.noise import nearest_class, paired_noise
from lib.data.noise import uniform_noise


@pytest.mark.parametrize(("fraction", "count"), [(0.2, 1), (0.25, 2)])
def test_the_number_of_wrong_labels_is_rounded(fraction, count):
    assert uniform_noise(torch.zeros(7, dtype=torch.int64), fraction, k=3, seed=0)[1].sum() == count


def test_paired_noise_moves_so_many_labels_to_the_partner():
    y, partner = torch.arange(1000) % 4, torch.tensor([1, 2, 3, 0])
    noisy, flipped = paired_noise(y, 0.2, partner, seed=3)
    assert flipped.sum() == 200
    assert torch.equal(noisy[flipped], partner[y[flipped]]) and torch.equal(noisy[~flipped], y[~flipped])
    assert torch.equal(noisy, paired_noise(y, 0.2, partner, seed=3)[0])
    assert not torch.equal(noisy, paired_noise(y, 0.2, partner, seed=4)[0])


@pytest.mark.parametrize("partner", [[0, 2, 1, 0], [1, 0], [[1, 0]]])
def test_a_partner_must_be_another_class(partner):
    with pytest.raises(ValueError, match="partner: expected another class for each of 4"):
        paired_noise(torch.arange(8) % 4, 0.5, torch.tensor(partner), seed=0)


def test_the_nearest_class_by_the_angle_between_means():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0], [1.0, 1.0], [0.0, 9.0]])
    assert nearest_class(x, torch.tensor([0, 0, 1, 2])).tolist() == [1, 0, 1]
