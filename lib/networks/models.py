"""The papers' architectures, in the form for small images.

Every model is a :class:`Classifier`: ``forward(x) = head(features(x))``, where ``features`` are the penultimate
activations ``(n, d)`` and ``head`` is the last linear layer. Layers keep PyTorch's own initialization, so that
:func:`initialize` redraws any of them from a seed. Where there is a ``width``, it is that of the first block, 64 in the
papers; the others scale with it. torchvision, slow to import, is imported where a network needs it.
"""

import math
import re
from functools import partial
from importlib import import_module

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "selu": nn.SELU}
RESNETS = {18: ("BasicBlock", (2, 2, 2, 2)), 34: ("BasicBlock", (3, 4, 6, 3)), 50: ("Bottleneck", (3, 4, 6, 3))}


class Classifier(nn.Module):
    """A body that maps an example to d features, and one linear layer on top of it.

    Example:
        >>> model = Classifier(nn.Flatten(), nn.Linear(784, 10))
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, body: nn.Module, head: nn.Linear):
        super().__init__()
        self.body, self.head = body, head

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations, ``(n, d)``."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(n, classes)``."""
        return self.head(self.features(x))


def initialize(model: nn.Module, seed: int) -> nn.Module:
    """Redraw the weights of ``model`` in place from ``seed`` by each layer's own rule; the global stream stays put.

    What a module without ``reset_parameters`` holds itself, as an embedding of positions may, keeps its value.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if draw := getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None):
                draw()
    return model


def mlp(inputs: int, hidden: tuple[int, ...] = (256,), classes: int = 10, activation: str = "relu") -> Classifier:
    """Fully connected network; examples of any shape ``(n, …)`` are flattened, ``hidden=()`` is linear.

    Example:
        >>> sum(p.numel() for p in mlp(784).parameters())  # 784·256 + 256 + 256·10 + 10
        203530
    """
    act = _activation(activation)
    if min((inputs, classes, *hidden)) < 1:
        raise ValueError(f"widths must be at least 1, got inputs {inputs}, hidden {hidden}, classes {classes}")
    layers, width = [nn.Flatten()], inputs
    for units in hidden:
        layers += [nn.Linear(width, units), act()]
        width = units
    return Classifier(nn.Sequential(*layers), nn.Linear(width, classes))


def _activation(name: str) -> type[nn.Module]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def _pool() -> tuple[nn.Module, nn.Module]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()


def _left_over(name: str, size: int, side: int) -> int:
    if side < 1:
        raise ValueError(f"{name} needs larger images: size {size} leaves {side} pixels after its convolutions")
    return side


def cnn_unique_information(channels: int = 1, size: int = 28, classes: int = 10) -> Classifier:
    """Four convolutions and a layer of 256 (Harutyunyan et al. 2021, table A.3; one output for two classes)."""
    side = _left_over("cnn_unique_information", size, size // 4 - 4)  # two strides of 2, two unpadded 3×3
    body = nn.Sequential(
        *(nn.Conv2d(channels, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 4, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.Conv2d(64, 256, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256 * side * side, 256), nn.ReLU()),
    )
    return Classifier(body, nn.Linear(256, classes))


def small_cnn(channels: int = 1, classes: int = 10, activation: str = "tanh", width: int = 8) -> Classifier:
    """The all-convolutional network with 2,616 parameters of Koh and Liang (2017), used by Basu et al. (2021)."""
    act, layers, inputs = _activation(activation), [], channels
    for stride in (1, 2, 1, 2, 1):
        layers += [nn.Conv2d(inputs, width, 3, stride=stride, padding=1), act()]
        inputs = width
    layers += [nn.Conv2d(width, 10, 1), act(), *_pool()]
    return Classifier(nn.Sequential(*layers), nn.Linear(10, classes))


def lenet(channels: int = 1, size: int = 28, classes: int = 10, activation: str = "relu") -> Classifier:
    """LeNet-5 without padding: 44,426 parameters on 28×28 (Basu et al. 2021 give 44k)."""
    act, side = _activation(activation), _left_over("lenet", size, ((size - 4) // 2 - 4) // 2)
    body = nn.Sequential(
        *(nn.Conv2d(channels, 6, 5), act(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), act(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * side * side, 120), act(), nn.Linear(120, 84), act()),
    )
    return Classifier(body, nn.Linear(84, classes))


def _vgg(depths: tuple, channels: int = 1, classes: int = 10, *, width: int = 64, batch_norm=False) -> Classifier:
    blocks = zip(depths, (width, 2 * width, 4 * width, 8 * width, 8 * width), strict=True)
    units = [count for depth, planes in blocks for count in (*[planes] * depth, "M")]
    layers = import_module("torchvision.models.vgg").make_layers(units, batch_norm)
    layers[0] = nn.Conv2d(channels, width, 3, padding=1)
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # 28×28 has only four halvings
    return Classifier(nn.Sequential(*layers, *_pool()), nn.Linear(8 * width, classes))


def _densenet(
    growth: int, blocks: tuple, units: int, channels: int = 1, classes: int = 10, *, stride: int = 1, bare=False
) -> Classifier:
    net = import_module("torchvision.models.densenet").DenseNet(growth, blocks, units, num_classes=1)
    if bare:
        net.features.norm0 = net.features.relu0 = nn.Identity()
    net.features.conv0 = nn.Conv2d(channels, units, 3, stride=stride, padding=1, bias=False)
    net.features.pool0 = nn.Identity()
    return Classifier(nn.Sequential(net.features, nn.ReLU(), *_pool()), nn.Linear(net.classifier.in_features, classes))


def _resnet(depth: int, channels: int = 1, classes: int = 10, *, width: int = 64) -> Classifier:
    resnet, (kind, counts) = import_module("torchvision.models.resnet"), RESNETS[depth]
    net = resnet.ResNet(block := getattr(resnet, kind), (1, 1, 1, 1), num_classes=1)
    net.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    net.inplanes, net.bn1 = width, nn.BatchNorm2d(width)
    for stage, count in enumerate(counts):
        built = net._make_layer(block, width * 2**stage, count, stride=1 if stage == 0 else 2)
        setattr(net, f"layer{stage + 1}", built)
    net.maxpool = net.fc = nn.Identity()
    return Classifier(net, nn.Linear(8 * width * block.expansion, classes))


#: VGG configuration B (Simonyan and Zisserman 2015), with one dense layer for three, as is usual at 32×32; and
#: with a third convolution in the last block (Basu et al. 2021 name a VGG14 without its layout).
vgg13, vgg14 = partial(_vgg, (2, 2, 2, 2, 2)), partial(_vgg, (2, 2, 2, 2, 3))
#: ResNets with the small-image stem: one 3×3 convolution, no pooling (Feldman and Zhang 2020, app. B).
resnet18, resnet50 = partial(_resnet, 18), partial(_resnet, 50)
#: DenseNet-BC-100, growth 12 (Huang et al. 2017): 769,162 parameters on CIFAR-10. DenseNet-121 with a 3×3 stem of
#: stride 1 and no pooling. Three blocks of four layers and growth 8 behind a stem of stride 2: for two cores.
densenet100 = partial(_densenet, 12, (16, 16, 16), 24, bare=True)
densenet121 = partial(_densenet, 32, (6, 12, 24, 16), 64)
densenet_small = partial(_densenet, 8, (4, 4, 4), 16, stride=2)


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _Eighth(nn.Identity):
    def forward(self, x: Tensor) -> Tensor:
        return x / 8


def resnet9(channels: int = 3, classes: int = 10, width: int = 64) -> Classifier:
    """Nine layers for images of 32×32 (D. Page 2018, "How to train your ResNet"; first in DAWNBench).

    ``Recipe(lr=0.4, epochs=16, batch_size=512, momentum=0.9, nesterov=True, weight_decay=5e-4, warmup=0.2,
    schedule="warmup_linear", augment="crop_flip")`` is meant to reach 93% on CIFAR-10 in 12 s of an H100, in bfloat16.
    **Neither was measured with this code**; another network of the kind did ten epochs there in 6.5 s.

    Example:
        >>> sum(p.numel() for p in resnet9().parameters())
        6573120
    """
    weight = lambda inputs, outputs: nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    conv = lambda i, o, *more: nn.Sequential(weight(i, o), nn.BatchNorm2d(o), nn.ReLU(), *more)
    w, halved, twice = width, nn.MaxPool2d(2), lambda units: _Residual(conv(units, units), conv(units, units))
    blocks = conv(w, 2 * w, halved), twice(2 * w), conv(2 * w, 4 * w, halved), conv(4 * w, 8 * w, halved), twice(8 * w)
    body = nn.Sequential(conv(channels, w), *blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), _Eighth())
    return Classifier(body, nn.Linear(8 * width, classes, bias=False))


SIZED = {"cnn_unique_information": cnn_unique_information, "lenet": lenet}  # of channels, side and classes
SCALED = {
    "vgg13": vgg13, "vgg14": vgg14, "resnet9": resnet9, "resnet18": resnet18, "resnet50": resnet50,
    "vgg13_bn": partial(vgg13, batch_norm=True), "vgg14_bn": partial(vgg14, batch_norm=True),
}  # fmt: skip
NAMES = SIZED | SCALED | {
    "small_cnn": small_cnn, "densenet100": densenet100, "densenet121": densenet121, "densenet_small": densenet_small,
}  # fmt: skip


def by_name(name: str, *, shape: tuple[int, ...], classes: int) -> Classifier:
    """The architecture ``name`` for examples of one ``shape``, ``(c, h, w)`` or ``(d,)``.

    ``linear`` and ``mlp`` take any shape; widths follow the name, as in ``mlp-512`` or ``mlp-256-128``, and may follow
    that of a VGG or ResNet: ``resnet18-8`` has 8 channels in the first block where ``resnet18`` has 64. Raises
    ValueError for an unknown name (the valid ones are listed), or an image model on other than square images.

    Example:
        >>> by_name("mlp-512-64", shape=(1, 28, 28), classes=10).head
        Linear(in_features=64, out_features=10, bias=True)
    """
    if name == "linear":
        return mlp(math.prod(shape), (), classes)
    if re.fullmatch(r"mlp(-[1-9]\d*)*", name):
        return mlp(math.prod(shape), tuple(int(width) for width in name.split("-")[1:]) or (256,), classes)
    plain, _, width = name.partition("-")
    if name not in NAMES and not (plain in SCALED and re.fullmatch(r"[1-9]\d*", width)):
        valid = f"linear, mlp, mlp-WIDTH[-WIDTH…], {', '.join(NAMES)}, or {', '.join(SCALED)} with -WIDTH"
        raise ValueError(f"name must be one of {valid}; got {name!r}")
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"{name} takes square images, shape (c, h, h); got shape {tuple(shape)}")
    if width:
        return SCALED[plain](shape[0], classes, width=int(width))
    return NAMES[name](*(shape[:2] if name in SIZED else shape[:1]), classes)
