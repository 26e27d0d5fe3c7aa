"""Networks that start from another task: their statistics stay, their shapes are those of the originals."""

import pytest
import torch
import torchvision
from torch import nn

from experiments.linearization import other_classes, pretrain
from experiments.transfer import (
    FixedBatchNorm2d,
    _Same,
    as_imagenet,
    efficientnet_lite0,
    fixed_statistics,
    narrow_resnet,
    torchvision_resnet,
    transferred,
)
from lib.data.datasets import DATA
from lib.networks.models import Classifier, initialize, mlp
from lib.numerics.gradients import NORMALIZATIONS
from lib.training.ensemble import train
from lib.training.recipe import Recipe, Run, Start


def small():
    body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = initialize(Classifier(body, nn.Linear(3, 4)), 0)
    model.body[1].running_mean.fill_(0.3)
    return model


def test_statistics_stay_while_the_engine_trains():
    """And scale and shift do not."""
    model, x = transferred(small(), 1, seed=0), torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    state = {name: value[None] for name, value in model.state_dict().items()}
    run = train(
        model, (x, torch.arange(6) % 2), Recipe(lr=0.1, epochs=3, batch_size=None, loss="mse"), [0], start=Start(state),
        run=Run(progress=False),
    )  # fmt: skip
    moved = {name for name, value in run.parameters.items() if not torch.equal(value[0], model.state_dict()[name])}
    assert moved == {name for name, _ in model.named_parameters()}
    assert float(run.parameters["body.1.running_mean"][0, 0]) == pytest.approx(0.3)


def test_an_output_depends_on_its_own_example():
    model, x = transferred(small(), 1, seed=0).train(), torch.rand(6, 1, 5, 5)
    torch.testing.assert_close(model(x)[:2], model(x[:2]))
    usual = small().train()
    assert (usual(x)[:2] - usual(x[:2])).abs().max() > 1e-4


def test_pretraining_on_the_other_classes():
    images = other_classes("mnist-5k", [4, 9], n=300, n_test=100)
    assert set(images.classes) == set("01235678")
    start, chance = pretrain(mlp(784, (16,), 8), images, epochs=0, seed=3)
    trained, accuracy = pretrain(mlp(784, (16,), 8), images, epochs=4, seed=3)
    assert torch.equal(start.head.weight, initialize(mlp(784, (16,), 8), 3).head.weight)
    assert accuracy > 0.5 > chance and not torch.equal(trained.head.weight, start.head.weight)
    with pytest.raises(ValueError, match="taken leaves no class of iris, which has 3"):
        other_classes("iris", [0, 1, 2], n=10)


def test_the_copy_is_a_copy():
    model = small()
    fixed = fixed_statistics(model)
    assert type(model.body[1]) is nn.BatchNorm2d and type(fixed.body[1]) is FixedBatchNorm2d
    assert isinstance(fixed.body[1], NORMALIZATIONS)  # so that its gradients have factors
    torch.testing.assert_close(fixed.state_dict(), model.state_dict())
    one, other = (transferred(model, 2, seed=seed).head.weight for seed in (0, 1))
    assert one.shape == (2, 3) and not torch.equal(one, other)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_at_full_width_it_is_the_published_network(depth, parameters):
    model = narrow_resnet(depth, width=64, channels=3, classes=1000)
    assert sum(p.numel() for p in model.parameters()) == parameters
    theirs = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    ours = model.state_dict()
    assert sorted(tuple(v.shape) for v in ours.values()) == sorted(tuple(v.shape) for v in theirs.values())
    if depth == 18:  # the same function of the same weights
        pairs = zip(ours, theirs.values(), strict=True)
        model.load_state_dict(dict(pairs))
        net = torchvision.models.resnet18().eval()
        net.load_state_dict(theirs)
        x = torch.rand(2, 3, 40, 40)
        torch.testing.assert_close(model.eval()(x), net(x))


def test_pretrained_weights_from_a_file(tmp_path):
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    model = torchvision_resnet(18, weights=str(tmp_path / "weights.pth"))
    x = as_imagenet(torch.rand(2, 1, 28, 28), side=40)
    torch.testing.assert_close(model.eval()(x), net.eval()(x))
    assert transferred(model, 1, seed=0)(x).shape == (2, 1)
    with pytest.raises(ValueError, match="weights .*weights.pth do not fit ResNet-34"):
        torchvision_resnet(34, weights=str(tmp_path / "weights.pth"))


def test_a_download_that_fails_says_what_to_do(monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="could not download IMAGENET1K_V1 for ResNet-18: no network. Give the path"):
        torchvision_resnet(18)


def test_images_as_imagenet_has_them():
    x = as_imagenet(torch.full((1, 1, 28, 28), 0.485), side=32)
    assert x.shape == (1, 3, 32, 32)
    torch.testing.assert_close(x[0, :, 5, 5], torch.tensor([0.0, (0.485 - 0.456) / 0.224, (0.485 - 0.406) / 0.225]))
    with pytest.raises(ValueError, match=r"x must be images \(n, 1, h, w\) or \(n, 3, h, w\), got \(2, 4\)"):
        as_imagenet(torch.zeros(2, 4))


def test_bad_depths():
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50 and width ≥ 1, got 19 and 16"):
        narrow_resnet(19)
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, got 20"):
        torchvision_resnet(20)


# --- a body trained on ImageNet --------------------------------------------------------------------------------------


def test_lite0_has_the_published_size(tmp_path):
    net = efficientnet_lite0()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008
    assert net.features(torch.zeros(2, 3, 33, 64)).shape == (2, 1280) and not net.training
    torch.save(dict(net.state_dict()), tmp_path / "right.pth")
    torch.save(dict([*net.state_dict().items()][:-1]), tmp_path / "short.pth")
    again = efficientnet_lite0(str(tmp_path / "right.pth"))
    assert all(map(torch.equal, again.state_dict().values(), net.state_dict().values()))
    with pytest.raises(ValueError, match=r"short.pth do not fit Lite0: zip"):
        efficientnet_lite0(str(tmp_path / "short.pth"))


@pytest.mark.parametrize(("size", "kernel", "stride"), [(5, 3, 2), (6, 3, 2), (8, 5, 2), (7, 5, 1), (4, 1, 1)])
def test_padding_is_tensorflows(size, kernel, stride):
    """Of output o, the window starts at o·stride − floor(missing / 2)."""
    layer, x = _Same(1, 1, kernel, stride, bias=False).requires_grad_(False), torch.rand(1, 1, size, size)
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    big = torch.zeros(size + 2 * kernel, size + 2 * kernel)
    big[kernel : kernel + size, kernel : kernel + size] = x[0, 0]
    starts = [kernel - before + o * stride for o in range(out)]
    slow = [[(big[i : i + kernel, j : j + kernel] * layer.weight[0, 0]).sum() for j in starts] for i in starts]
    torch.testing.assert_close(layer(x)[0, 0], torch.tensor(slow))


def test_lite0_is_the_reference_implementation():
    """Where efficientnet-lite-pytorch and the weights are."""
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    weights = DATA / "downloads" / "lite0" / "efficientnet-lite0.pth"
    if not weights.exists():
        pytest.skip("python data/make_data.py --extra lite0")
    theirs = reference.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(efficientnet_lite0(str(weights))(x), theirs(x), rtol=1e-4, atol=1e-4)
