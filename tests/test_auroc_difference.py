import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lib.statistics import auroc, auroc_difference


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    positive = rng.random(900) < 0.3
    signal = rng.normal(size=900) + positive
    return signal + rng.normal(size=900) / 2, signal + rng.normal(size=900), positive


def test_agrees_with_resampling_the_examples(sample):
    a, b, positive = sample
    rng, slow = np.random.default_rng(1), []
    for _ in range(600):
        i = rng.integers(len(a), size=len(a))
        slow.append(roc_auc_score(positive[i], a[i]) - roc_auc_score(positive[i], b[i]))
    value, fast = auroc_difference(a, b, positive)
    assert value == pytest.approx(roc_auc_score(positive, a) - roc_auc_score(positive, b))
    np.testing.assert_allclose(fast, np.quantile(slow, [0.025, 0.975]), atol=0.006)


def test_a_score_does_not_beat_itself(sample):
    a, _, positive = sample
    assert auroc_difference(a, 3 * a + 1, positive) == (0.0, (0.0, 0.0))


def test_pairing_narrows_the_interval(sample):
    a, _, positive = sample
    low, high = auroc_difference(a, a + 1e-3 * np.arange(len(a)) / len(a), positive)[1]
    alone = auroc(a, positive)[1]
    assert high - low < 0.1 * (alone[1] - alone[0])


def test_lengths_are_checked(sample):
    a, b, positive = sample
    with pytest.raises(ValueError, match="one length, got 900, 899"):
        auroc_difference(a, b[1:], positive)
