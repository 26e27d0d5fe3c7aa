from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import published
from experiments.published import published_c_scores
from lib.networks.models import mlp
from lib.scores.complexity_gap import cg_prime, cg_scores
from lib.scores.memorization import c_scores, subsets
from lib.statistics import spearman_r
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Run

SHARED = Path(__file__).parents[3] / "shared"


def test_always_seen_has_no_score():
    sees = torch.tensor([[True, False], [True, True]])
    assert torch.isnan(c_scores(sees, sees)[0]) and c_scores(sees, sees)[1] == 0


def test_isolated_and_mislabelled_examples_score_low():
    """Two far blobs; one point of each carries the other's label: nobody who has not seen it gets it right."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(100) % 2
    x = torch.randn(100, 2, generator=g) / 2 + 4.0 * (2 * y[:, None] - 1)
    y[:2] = 1 - y[:2]
    sees = torch.cat([subsets(100, m, trials=10, seed=m) for m in (40, 80)])
    recipe = Recipe(lr=0.1, epochs=10, batch_size=20)
    run = train(mlp(2, (8,), 2), (x, y), recipe, range(20), sees=sees, run=Run(progress=False))
    scores = c_scores(sees, run.correct_train[:, 0])
    assert scores[:2].max() < 0.1 and scores[2:].min() > 0.9


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"must have the shape of member_sees, \(2, 3\), got \(2, 4\)"):
        c_scores(torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Five scores, as if published."""
    path = tmp_path / "five.npz"
    np.savez(path, labels=np.array([0, 1, 0, 1, 1]), scores=np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    monkeypatch.setitem(published.FILES, path.name, ("file:", published.pooch.file_hash(path)))
    return {"file": path.name, "folder": tmp_path}


def test_published_scores_go_by_row_and_label(file):
    rows = torch.tensor([4, 0, 2])
    assert published_c_scores(rows=rows, y=torch.tensor([1, 0, 0]), **file).tolist() == [0.5, 0.1, 0.3]
    for others, labels in ((rows, torch.tensor([1, 1, 0])), (torch.tensor([5]), torch.tensor([1]))):
        with pytest.raises(ValueError, match="rows must be those of the data that five.npz scores"):
            published_c_scores(rows=others, y=labels, **file)


@pytest.mark.skipif(not (SHARED / "reference").exists(), reason="needs CIFAR-10 and its published C-scores")
def test_cg_scores_of_cifar10_rank_as_the_published_c_scores():
    """Table 1 of Ki et al. 2023 on a few rows: CG against C-score is negative and clear, CG′ weaker."""
    import io

    from PIL import Image

    with np.load(SHARED / "data" / "cifar10_jpeg.npz") as z:
        blob, at, y = z["train_jpeg"], z["train_offsets"], torch.from_numpy(z["train_labels"][:2000]).long()
    pictures = [np.asarray(Image.open(io.BytesIO(blob[at[i] : at[i + 1]].tobytes()))) for i in range(2000)]
    x = torch.from_numpy(np.stack(pictures)).float() / 255
    c = published_c_scores("cifar10-cscores-orig-order.npz", torch.arange(2000), y, folder=SHARED / "reference")
    inverse, plain = (float(spearman_r(score.numpy(), c.numpy())) for score in (cg_scores(x, y).score, cg_prime(x, y)))
    assert inverse < -0.3 and abs(plain) < abs(inverse)
