"""A device that does not exist is refused by every function that takes one, by name and before any work."""

import pytest
import torch
from sklearn.datasets import load_iris
from test_pretended_gpu import ASKED, MLP

from lib import audit, costs
from lib.networks import stacked
from lib.training import Run


@pytest.mark.parametrize("device", ["gpu", "cuda:-1", 3.5, "meta", "GPU 0"])
def test_what_is_no_device(device):
    with pytest.raises(ValueError, match=r"device: expected 'cpu' or 'cuda' \(GPUs that are visible here: \d+\), got "):
        costs.device_of(device)


def test_the_devices_that_there_are(monkeypatch):
    assert costs.device_of("cpu") == costs.device_of(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [costs.device_of(name).index for name in ("cuda", "cuda:0", "cuda:1", 1)] == [None, 0, 1, 1]
    with pytest.raises(ValueError, match="visible here: 2.*got 'cuda:2'"):
        costs.device_of("cuda:2")


def test_workers_may_have_the_gpu_that_the_client_lacks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Run(device="cuda", scheduler="tcp://127.0.0.1:1").device == "cuda"
    with pytest.raises(ValueError, match="visible here: 0.*got 'cuda'"):
        Run(device="cuda")


@pytest.mark.parametrize("name", ASKED)
def test_what_takes_a_device_names_it(name):
    with pytest.raises(ValueError, match="^device: expected .* got 'gpu'"):
        ASKED[name]("gpu")


@pytest.mark.parametrize(
    "call",
    [
        lambda d: Run(device=d),
        lambda d: audit(load_iris(), device=d),
        lambda d: audit(load_iris(), probabilities=torch.eye(3)[load_iris().target], device=d),
        lambda d: costs.free_bytes(d),
        lambda d: costs.best_seconds(lambda: 1, device=d),
        lambda d: costs.matrix_product_rate(3, device=d),
        lambda d: costs.measured(lambda: 1, device=d),
        lambda d: costs.Phases(d, {"work": 1.0}),
        lambda d: stacked.Group(MLP, 2, dtype=torch.float32, device=d),
    ],
)
def test_so_do_the_others(call):
    with pytest.raises(ValueError, match="^device: expected .* got 'gpu'"):
        call("gpu")
