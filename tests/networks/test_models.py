import pytest
import torch
from torch import nn

from lib.networks import models
from lib.training import Recipe, Run, train


def parameters(model):
    return sum(p.numel() for p in model.parameters())


# Counts from the papers, from the architectures' own papers, or summed layer by layer.
COUNTS = {
    "Koh and Liang 2017: 2,616": (lambda: models.small_cnn(1, 10), 2_616),
    "Basu et al. 2021: 44k": (lambda: models.lenet(1, 28, 10), 156 + 2_416 + 30_840 + 10_164 + 850),
    "Huang et al. 2017, k = 12: 0.8M": (lambda: models.densenet100(3, 10), 769_162),
    "Page 2018: 6,573,120": (lambda: models.resnet9(), 6_573_120),
    "table A.3, one output": (
        lambda: models.cnn_unique_information(1, 28, 1),
        (16 + 1) * 32 + (512 + 1) * 32 + (288 + 1) * 64 + (576 + 1) * 256 + (2_304 + 1) * 256 + 257,
    ),
    "ResNet-18: ImageNet's 11,689,512": (lambda: models.resnet18(3, 1000), 11_689_512 - 64 * 3 * (49 - 9)),
    "ResNet-50: ImageNet's 25,557,032": (lambda: models.resnet50(3, 1000), 25_557_032 - 64 * 3 * (49 - 9)),
    "DenseNet-121: ImageNet's 7,978,856": (lambda: models.densenet121(3, 1000), 7_978_856 - 64 * 3 * (49 - 9)),
    "VGG-13: ImageNet's convolutions": (lambda: models.vgg13(3, 10), 9_404_992 + 5_130),
    "ResNet-50 of half the width has about a quarter of the parameters": (
        lambda: models.by_name("resnet50-32", shape=(3, 32, 32), classes=10),
        sum(
            (p.numel() if p.ndim < 2 or n == "body.conv1.weight" or n == "head.weight" else p.numel() // 2) // 2
            for n, p in models.resnet50(3, 10).named_parameters()
            if n != "head.bias"
        )
        + 10,
    ),
    "VGG-14": (lambda: models.vgg14(3, 10), 9_404_992 + 5_130 + (512 * 9 + 1) * 512),
    "mlp": (lambda: models.mlp(784, (256, 32), 10), 785 * 256 + 257 * 32 + 33 * 10),
    "Zhang et al. 2017, MLP 1 × 512": (lambda: models.mlp(2_352, (512,), 10), 1_209_866),
    "linear": (lambda: models.mlp(784, (), 10), 7_850),
}


@pytest.mark.parametrize("source", COUNTS)
def test_parameter_counts(source):
    build, expected = COUNTS[source]
    assert parameters(build()) == expected


def test_resnet50_head_on_100_classes_has_more_than_200k_parameters():
    """Feldman and Zhang (2020), section 3.6."""
    assert parameters(models.resnet50(3, 100).head) == 204_900


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("name", ["linear", "mlp", "mlp-32-16", *models.NAMES])
def test_forward_is_the_head_of_the_features(name, size):
    model = models.by_name(name, shape=(3, size, size), classes=7).eval()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        h = model.features(x)
        assert h.shape == (2, model.head.in_features)
        assert model(x).shape == (2, 7)
        torch.testing.assert_close(model(x), model.head(h))
    assert isinstance(model.head, nn.Linear)
    assert list(model.modules())[-1] is model.head


def test_features_decide_alone():
    """An image's logits do not depend on its neighbours in the batch (batch statistics off)."""
    model = models.by_name("resnet18", shape=(1, 28, 28), classes=10).eval()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "selu"])
def test_mlp_is_the_formula(activation):
    model = models.mlp(6, (5, 4), 3, activation).double()
    x = torch.randn(8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    function = {"relu": torch.relu, "tanh": torch.tanh, "selu": torch.selu}[activation]
    (w1, b1, w2, b2, v, c) = model.parameters()
    expected = function(function(x.flatten(1) @ w1.T + b1) @ w2.T + b2) @ v.T + c
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "resnet18", "densenet100"])
def test_initialize_follows_the_seed_and_leaves_the_global_stream(name):
    model = models.by_name(name, shape=(1, 28, 28), classes=10)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    draw = lambda seed: torch.cat([p.detach().flatten().clone() for p in models.initialize(model, seed).parameters()])
    a, b, again = draw(1), draw(2), draw(1)
    assert torch.equal(a, again)
    assert (a != b).float().mean() > 0.9
    assert torch.equal(before, torch.random.get_rng_state())


def test_initialize_draws_what_has_another_name_for_it():
    attention = models.nn.MultiheadAttention(4, 2)
    draw = lambda seed: models.initialize(attention, seed).in_proj_weight.detach().clone()
    first, other = draw(0), draw(1)
    assert torch.equal(first, draw(0)) and not torch.equal(first, other)


def test_small_images_keep_their_resolution_in_the_stem():
    body = models.resnet18(1, 10).body
    assert body.relu(body.bn1(body.conv1(torch.zeros(1, 1, 28, 28)))).shape[-2:] == (28, 28)
    assert isinstance(body.maxpool, nn.Identity)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ValueError, match=r"mlp-WIDTH.*lenet.*resnet50.*got 'resnet19'"):
        models.by_name("resnet19", shape=(1, 28, 28), classes=10)


@pytest.mark.parametrize("name", ["mlp-0", "mlp-", "mlp-12x"])
def test_a_bad_width_is_no_name(name):
    with pytest.raises(ValueError, match="name must be one of"):
        models.by_name(name, shape=(784,), classes=10)


def test_image_models_refuse_features():
    with pytest.raises(ValueError, match=r"lenet takes square images.*got shape \(4,\)"):
        models.by_name("lenet", shape=(4,), classes=3)
    assert models.by_name("mlp-5", shape=(4,), classes=3)(torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize("build", [models.lenet, models.cnn_unique_information])
def test_tiny_images_are_refused(build):
    with pytest.raises(ValueError, match="needs larger images: size 8 leaves"):
        build(1, 8, 10)


def test_activations_and_widths_are_checked():
    with pytest.raises(ValueError, match="activation must be one of relu, tanh, selu, got 'gelu'"):
        models.mlp(4, activation="gelu")
    with pytest.raises(ValueError, match=r"widths must be at least 1, got inputs 4, hidden \(0,\)"):
        models.mlp(4, (0,))


def test_resnet9_learns_by_its_recipe_at_a_small_size():
    """Which of four bands is bright, in 16 epochs of few rows by a narrow one; any square fits."""
    assert models.resnet9().features(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    y, side = torch.arange(256) % 4, 16
    x = 0.3 * torch.randn(256, 1, side, side, generator=torch.Generator().manual_seed(0))
    x += torch.nn.functional.one_hot(y, 4).repeat_interleave(side // 4, 1)[:, None, :, None]
    recipe = Recipe(
        lr=0.4, epochs=16, batch_size=64, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup=0.2,
        schedule="warmup_linear", augment="flip",
    )  # fmt: skip
    narrow = models.by_name("resnet9-4", shape=(1, side, side), classes=4)
    trained = train(narrow, (x[:192], y[:192], x[192:], y[192:]), recipe, [0], run=Run(progress=False))
    assert trained.accuracy_test[0] > 0.9
