"""``data/scores``: whole, as its checksum says, documented, and what the library gives."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from experiments.published import published_c_scores
from lib.catalogue import Settings, compute
from lib.data.datasets import load
from lib.data.score_files import provenance, read_scores
from lib.statistics import standardized
from lib.study.notebooks import REPO

FILE = REPO / "data" / "scores" / "fashion-mnist.parquet"
PUBLISHED = REPO.parent / "shared" / "reference"
DRAWN = (
    "grand", "grand_early", "el2n", "margin", "forgetting", "forgetting_epochs", "loss", "tracin", "influence",
    "memorization", "c_score", "f_si",
)  # fmt: skip


@pytest.fixture(scope="module")
def stored():
    return read_scores("fashion-mnist")


def test_every_row_has_every_score_and_its_error(stored):
    assert stored.index.tolist() == list(range(60_000))
    assert torch.equal(torch.tensor(stored.label.to_numpy()).long(), load("fashion-mnist").y_train)
    for name in ("cg", "cg_quadratic", "cg_partial", "cg_diagonal", "cg_prime", "input_norm", *DRAWN):
        assert stored[name].dtype == np.float32
        partly = name == "f_si"
        assert np.isfinite(stored[name]).sum() == (4000 if partly else 60_000), name
        if name in DRAWN:
            error = stored[f"{name}_stderr"]
            assert (error.dropna() >= 0).all() and error.notna().sum() == (4000 if partly else 60_000), name


def test_ranges_and_sums(stored):
    assert np.allclose(stored.cg_quadratic + stored.cg_partial + stored.cg_diagonal, stored.cg, atol=1e-3, rtol=1e-3)
    for name, low, high in (("el2n", 0, 2**0.5), ("memorization", -1, 1), ("c_score", 0, 1), ("margin", -1, 1)):
        assert stored[name].between(low, high).all(), name
    for name in ("cg", "grand", "forgetting", "loss", "tracin", "influence", "input_norm"):
        assert (stored[name] >= 0).all(), name
    assert (stored.f_si.dropna() > 0).all()


def test_it_says_how_it_was_made(stored):
    made = provenance(FILE)
    documented = [name for group in made.values() for name in group["columns"]]
    assert sorted(documented) == sorted(stored.columns)
    digest = load("fashion-mnist").sha256
    for name, group in made.items():
        assert {"what", "settings", "seconds", "versions", "dataset", "dataset_sha256", "processor"} <= set(group)
        if name == "f_si":
            assert group["n"] == 4000 and "larger machine" in group["rows"]
        else:
            assert group["n"] == 60_000 and group["dataset_sha256"] == digest
    text = (FILE.parent / "README.md").read_text("utf8")
    assert not [name for name in stored.columns if "noise" not in name and f"`{name}`" not in text
                and not name.endswith("_stderr")]  # fmt: skip
    assert FILE.stat().st_size < 12e6


def test_cg_prime_is_recomputed_from_its_definition(stored):
    """yᵀHy − y₋ᵢᵀH₋ᵢy₋ᵢ is what row and column i bring to the sum: twice the row, less what is counted twice."""
    images, some = load("fashion-mnist"), [0, 1, 30_000, 59_999]
    unit = torch.nn.functional.normalize(images.x_train.flatten(1), dim=1)
    cosine = (unit[some].double() @ unit.double().T).clamp(-1, 1)
    kernel = cosine * (torch.pi - cosine.arccos()) / (2 * torch.pi)
    signs = torch.where(images.y_train[some, None] == images.y_train, 1.0, -1.0).double()
    own = 0.5 * torch.ones(len(some), dtype=torch.float64)
    np.testing.assert_allclose(stored.cg_prime.iloc[some], 2 * (kernel * signs).sum(1) - own, rtol=1e-4)


def test_cifar10_has_exact_scores_of_all_rows_and_what_they_were_compared_with():
    cifar, made = read_scores("cifar10"), provenance(FILE.with_name("cifar10.parquet"))
    assert cifar.index.tolist() == list(range(50_000)) and cifar.notna().all().all()
    assert np.allclose(cifar.cg_quadratic + cifar.cg_partial + cifar.cg_diagonal, cifar.cg, atol=1e-3, rtol=1e-3)
    assert sorted(cifar.columns) == sorted(name for group in made.values() for name in group["columns"])
    assert all(group["n"] == 50_000 and "JPEG" in group["note"] for group in made.values())
    assert made["cg"]["largest_relative_error_of_diagonal"] < 1e-3


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published C-scores of CIFAR-10")
def test_the_correlations_with_the_published_c_scores_are_recomputed():
    cifar, made = read_scores("cifar10"), provenance(FILE.with_name("cifar10.parquet"))["cg_prime"]
    said = made["published_c_scores"]
    labels, rows = torch.tensor(cifar.label.to_numpy()).long(), torch.arange(50_000)
    c = published_c_scores(said["file"], rows, labels, folder=PUBLISHED).numpy()
    for name, one in said["spearman"].items():
        assert scipy.stats.spearmanr(cifar[name], -c)[0] == pytest.approx(one["value"], abs=1e-6)
        assert one["interval"][0] < one["value"] < one["interval"][1]


def test_the_norm_and_the_labels_are_recomputed(stored):
    norm = standardized(load("fashion-mnist").x_train).flatten(1).norm(dim=1)
    np.testing.assert_allclose(stored.input_norm, norm, rtol=1e-4)


def test_f_si_is_recomputed_in_a_small_part(stored):
    """F-SI depends on the whole company: what can be had in seconds is that of fewer rows, and it ranks alike."""
    images = load("fashion-mnist", n_train=4000)
    assert stored.f_si.loc[images.rows_train.numpy()].notna().all()
    some = torch.arange(0, 4000, 8)
    settings = Settings(tangent_networks=1, tangent_inputs=100)
    found = compute(["F-SI"], images.x_train[some], images.y_train[some], x_val=images.x_test, settings=settings)
    other = stored.f_si.loc[images.rows_train[some].numpy()]
    assert pd.Series(found["F-SI"].hardness.numpy()).corr(other.reset_index(drop=True), method="spearman") > 0.7


def test_networks_with_other_seeds_rank_the_rows_as_the_file_does(stored):
    images = load("fashion-mnist")
    one = {"settings": _settings(networks=1), "seed": 9, "progress": False}
    found = compute(["EL2N", "GraNd"], images.x_train, images.y_train, **one)
    for name, column in (("EL2N", "el2n"), ("GraNd", "grand")):
        assert pd.Series(found[name].hardness.numpy()).corr(stored[column], method="spearman") > 0.9, name


def _settings(**changes) -> Settings:
    made = provenance(FILE)["grand"]["settings"]
    return Settings(**{name: value for name, value in made.items() if name != "seed"} | changes)


def test_the_command_makes_such_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_RESULTS", str(tmp_path / "results"))
    out = tmp_path / "a.parquet"
    command = [sys.executable, REPO / "data" / "make_scores.py", "--rows", "100", "--out", out]
    only = ["--only", "input_norm,el2n,grand,f_si,cg_prime"]
    subprocess.run([*command, *only], check=True, capture_output=True, cwd=tmp_path)
    table = read_scores("a", folder=tmp_path)
    assert len(table) == 100 and {"input_norm", "el2n", "el2n_stderr", "grand", "f_si", "cg_prime"} <= set(table)
    assert set(provenance(out)) == {"input_norm", "grand", "f_si", "cg_prime"}
    images = load("fashion-mnist", n_train=100)
    again = compute(["EL2N"], images.x_train, images.y_train, settings=_settings(), progress=False)["EL2N"]
    np.testing.assert_allclose(table.el2n.loc[images.rows_train.numpy()], again.values, rtol=1e-3)
    refused = subprocess.run([*command, "--only", "cg,fame"], capture_output=True, text=True)
    assert refused.returncode == 2 and "got fame" in refused.stderr
    refused = subprocess.run([*command[:-1], FILE], capture_output=True, text=True)
    assert refused.returncode == 2 and "--rows needs --out elsewhere" in refused.stderr


def test_reading_refuses_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"stored scores \(.*fashion-mnist.*\), got 'svhn'"):
        read_scores("svhn")
    with pytest.raises(ValueError, match=r"rows must be among the 60000 .*, got \[60000\]"):
        read_scores("fashion-mnist", [60_000])
    (tmp_path / "fashion-mnist.parquet").write_bytes(FILE.read_bytes()[:-1])
    (tmp_path / "SHA256SUMS").write_text((FILE.parent / "SHA256SUMS").read_text())
    with pytest.raises(ValueError, match="is not what SHA256SUMS says"):
        read_scores("fashion-mnist", folder=tmp_path)
