import pytest
import torch

from experiments.rankings import are_neighbours, cosine, label_agreement


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def angle(a, b):
    return float(a.flatten() @ b.flatten() / a.norm() / b.norm())


def test_cosine_is_the_definition_whatever_the_brightness():
    a, b = draw(5, 1, 3, 3), draw(4, 1, 3, 3, seed=1)
    expected = torch.tensor([[angle(p, q) for q in b] for p in a], dtype=torch.float64)
    torch.testing.assert_close(cosine(a, b), expected)
    torch.testing.assert_close(cosine(7 * a, b), expected)
    assert (cosine(a * 0, b) == 0).all()


@pytest.mark.parametrize("block", [7, 100])
def test_label_agreement_is_the_definition(block):
    x, y = draw(40, 6), torch.arange(40) % 3
    share = label_agreement(x, y, k=5, block=block)
    for i in range(40):
        nearest = sorted((j for j in range(40) if j != i), key=lambda j: -angle(x[i], x[j]))[:5]
        assert share[i].item() == pytest.approx(sum(int(y[j] == y[i]) for j in nearest) / 5)


def test_an_example_is_not_its_own_neighbour():
    x = torch.eye(3, dtype=torch.float64)
    assert label_agreement(x, torch.tensor([0, 1, 2]), k=2).tolist() == [0, 0, 0]


def test_k_is_checked():
    with pytest.raises(ValueError, match="below the number of examples, 3, got 3"):
        label_agreement(torch.eye(3), torch.zeros(3), k=3)


def test_neighbours_are_the_definition_from_either_side():
    a, b = draw(30, 5), draw(20, 5, seed=1)
    i, j = (m.flatten() for m in torch.meshgrid(torch.arange(30), torch.arange(20), indexing="ij"))
    found = are_neighbours(a, b, i, j, k=2).reshape(30, 20)
    alike = torch.tensor(
        [[angle(p, q) for q in b] for p in a], dtype=torch.float64
    )  # each once: no tie that rounding would decide
    for p in range(30):
        for q in range(20):
            forth, back = (alike[p] > alike[p, q]).sum() < 2, (alike[:, q] > alike[p, q]).sum() < 2
            assert found[p, q].item() == (forth or back)
    assert found.double().mean() <= 2 / 30 + 2 / 20


def test_a_copy_is_a_neighbour():
    a, b = draw(30, 5), draw(20, 5, seed=1)
    b[3] = 2 * a[7]
    assert are_neighbours(a, b, torch.tensor([7]), torch.tensor([3]), k=1).all()
