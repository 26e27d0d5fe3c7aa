"""Notebooks 01, 02, 11, 12 and 14: networks that were trained on another task, or start from one that was.

A network that starts from another task is fine-tuned whole, with batch normalization in evaluation mode all along
(Harutyunyan et al. 2021, appendix A.3): scale and shift are trained, the running statistics are constants, so that the
output on one example depends on no other and leaving one out changes nothing but its term.
"""

import copy

import torch
import torchvision
from torch import Tensor, nn

from lib.networks.models import RESNETS, Classifier, _Residual, initialize

MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that stays in evaluation mode; names and shapes of its state are those of the usual one."""

    def __init__(self, usual: nn.BatchNorm2d):
        super().__init__(usual.num_features, usual.eps, usual.momentum, usual.affine)
        self.to(usual.running_mean).load_state_dict(usual.state_dict())
        self.train()

    def train(self, mode: bool = True):
        return super().train(False)


def fixed_statistics(model: nn.Module) -> nn.Module:
    """A copy whose batch normalization uses its running statistics also while it is trained.

    Example:
        >>> model = fixed_statistics(nn.Sequential(nn.BatchNorm2d(1))).train()
        >>> model[0].training
        False
    """
    fixed = copy.deepcopy(model)
    for parent in list(fixed.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.BatchNorm2d and layer.track_running_stats:
                setattr(parent, name, FixedBatchNorm2d(layer))
    return fixed


def transferred(body: Classifier, outputs: int, *, seed: int) -> Classifier:
    """A copy of a trained network with a new last layer, drawn from ``seed``, and fixed statistics.

    Example:
        >>> transferred(Classifier(nn.Flatten(), nn.Linear(9, 8)), 1, seed=0).head
        Linear(in_features=9, out_features=1, bias=True)
    """
    model = fixed_statistics(body)
    model.head = initialize(nn.Linear(body.head.in_features, outputs), seed)
    return model


def narrow_resnet(depth: int, *, width: int = 16, channels: int = 1, classes: int = 10) -> Classifier:
    """ResNet-18, -34 or -50 with ImageNet's stem (stride 4 in all), its four stages ``width``, 2, 4 and 8 ``width``.

    A width of 64 is He et al.'s (2016); at 16 a network of the same depth and layout costs a sixteenth.

    Example:
        >>> sum(p.numel() for p in narrow_resnet(18).parameters())
        701818
    """
    if depth not in RESNETS or width < 1:
        raise ValueError(f"depth must be one of {', '.join(map(str, RESNETS))} and width ≥ 1, got {depth} and {width}")
    block, counts = getattr(torchvision.models.resnet, RESNETS[depth][0]), RESNETS[depth][1]
    stem = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    layers, inputs = [stem, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)], width
    for stage, count in enumerate(counts):
        planes = width * 2**stage
        for place in range(count):
            stride, out = (2 if stage and not place else 1), planes * block.expansion
            shortcut = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            layers.append(block(inputs, planes, stride, shortcut if stride > 1 or inputs != out else None))
            inputs = out
    return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(inputs, classes))


def as_imagenet(x: Tensor, side: int = 224) -> Tensor:
    """Images ``(n, 1 or 3, h, w)`` in [0, 1] as a network trained on ImageNet expects them, ``(n, 3, side, side)``.

    Example:
        >>> as_imagenet(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 3, 224, 224])
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x must be images (n, 1, h, w) or (n, 3, h, w), got {tuple(x.shape)}")
    x = nn.functional.interpolate(x.expand(-1, 3, -1, -1), size=(side, side), mode="bilinear", antialias=True)
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SCALE)[:, None, None]


def torchvision_resnet(depth: int, *, weights: str | None = "IMAGENET1K_V1") -> Classifier:
    """torchvision's ResNet, by default with its ImageNet weights (downloaded once and checked by torchvision).

    ``weights`` are a set of torchvision's by name, the path of a state dict (``.pth``), or None for random ones. Images
    must have three channels (``x.expand(-1, 3, -1, -1)`` for grey ones) and a side of at least 32 or so. Raises
    ValueError for another depth or a state dict that does not fit, RuntimeError if a download fails.
    """
    if depth not in RESNETS:
        raise ValueError(f"depth must be one of {', '.join(map(str, RESNETS))}, got {depth}")
    build = getattr(torchvision.models, f"resnet{depth}")
    if str(weights).endswith((".pt", ".pth")):
        net = build()
        try:
            net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # whatever a file that is something else makes torch say
            raise ValueError(f"weights {weights} do not fit ResNet-{depth}: {str(error).splitlines()[0]}") from None
    else:
        try:
            net = build(weights=weights)
        except OSError as error:
            raise RuntimeError(
                f"could not download {weights} for ResNet-{depth}: {error}. Give the path of a .pth file instead"
            ) from None
    head, net.fc = net.fc, nn.Identity()
    return Classifier(net, head)


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow does: to ceil(size / stride), what is odd on the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        short = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (x.shape[3], x.shape[2])]
        return super().forward(nn.functional.pad(x, [part for pad in short for part in (pad // 2, pad - pad // 2)]))


def efficientnet_lite0(weights: str | None = None) -> Classifier:
    """EfficientNet-Lite0 (Tan and Le 2019, as in TensorFlow's ``efficientnet/lite``): 1,280 features, 4.7 M parameters.

    Takes ``(n, 3, h, w)``, grey levels as (level − 127) / 128. ``weights``: the path of a state dict of
    efficientnet-lite-pytorch, whose entries stand in this order (``python data/make_data.py --extra lite0`` has those
    trained on ImageNet), or None for random ones. Raises ValueError for a file that does not fit.
    """

    def conv(inputs, outputs, kernel, stride=1, groups=1):
        layer = _Same(inputs, outputs, kernel, stride, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU6()]

    layers, width = conv(3, 32, 3, 2), 32
    stages = (16, 3, 1, 1), (24, 3, 2, 2), (40, 5, 2, 2), (80, 3, 2, 3), (112, 5, 1, 3), (192, 5, 2, 4), (320, 3, 1, 1)
    for units, kernel, stride, count in stages:
        for step in (stride, *[1] * (count - 1)):
            wide = width * (6 if units > 16 else 1)
            block = (
                conv(width, wide, 1) * (wide > width) + conv(wide, wide, kernel, step, wide) + conv(wide, units, 1)[:2]
            )
            layers.append((_Residual if step == 1 and width == units else nn.Sequential)(*block))
            width = units
    layers += [*conv(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = Classifier(nn.Sequential(*layers), nn.Linear(1280, 1000))
    if weights:
        try:
            theirs = torch.load(weights, map_location="cpu", weights_only=True).values()
            net.load_state_dict(dict(zip(net.state_dict(), theirs, strict=True)))
        except Exception as error:  # whatever a file that is something else makes torch say
            raise ValueError(f"weights {weights} do not fit Lite0: {str(error).splitlines()[0]}") from None
    return net.eval()
