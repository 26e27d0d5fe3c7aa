"""Networks that start from another task: a body trained elsewhere, a new head, batch statistics that stay.

A pretrained residual network is fine-tuned whole, with batch normalization in evaluation mode all along (Harutyunyan et
al. 2021, appendix A.3): scale and shift are trained, the running statistics are constants, so that the output on one
example depends on no other and leaving one out changes nothing but its term.
"""

import copy

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from lib.data import Dataset, load
from lib.ensemble import Recipe, train
from lib.models import Classifier, initialize

LAYERS = {18: (BasicBlock, (2, 2, 2, 2)), 34: (BasicBlock, (3, 4, 6, 3)), 50: (Bottleneck, (3, 4, 6, 3))}

MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that stays in evaluation mode; names and shapes of its state are those of the usual one."""

    def train(self, mode: bool = True):
        return super().train(False)


def fixed_statistics(model: nn.Module) -> nn.Module:
    """A copy whose batch normalization uses its running statistics also while it is trained.

    Example:
        >>> model = fixed_statistics(nn.Sequential(nn.BatchNorm2d(1))).train()
        >>> model[0].training
        False
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = FixedBatchNorm2d
            module.train()
    return model


def transferred(body: Classifier, outputs: int, *, seed: int) -> Classifier:
    """A copy of a trained network with a new last layer, drawn from ``seed``, and fixed statistics.

    Example:
        >>> transferred(Classifier(nn.Flatten(), nn.Linear(9, 8)), 1, seed=0).head
        Linear(in_features=9, out_features=1, bias=True)
    """
    model = fixed_statistics(body)
    model.head = initialize(nn.Linear(body.head.in_features, outputs), seed)
    return model


def other_classes(name: str, taken, *, n: int, n_test: int = 1000, seed: int = 0) -> Dataset:
    """What to pretrain on where a task's classes ``taken`` come from the same data: all of its other classes.

    Args:
        n, n_test: rows, at most.

    Example:
        >>> other_classes("mnist-5k", [4, 9], n=400, n_test=80)
        Dataset(mnist-5k: 400 training and 80 test examples of 1×28×28, 8 classes)
    """
    whole = load(name)
    left = [c for c in range(len(whole.classes)) if c not in set(taken)]
    if not left:
        raise ValueError(f"taken leaves no class of {name}, which has {len(whole.classes)}; got {list(taken)}")
    rows = [int(sum((y == c).sum() for c in left)) for y in (whole.y_train, whole.y_test)]
    return load(name, classes=left, n_train=min(n, rows[0]), n_test=min(n_test, rows[1]), seed=seed)


def pretrain(model: Classifier, images: Dataset, *, epochs: int, seed: int = 0, device="cpu", store=None):
    """``model`` trained to tell the classes apart, and its test accuracy; SGD with momentum and a cosine schedule.

    For 0 epochs the initial weights, drawn from ``seed``.
    """
    recipe = Recipe(lr=0.1, momentum=0.9, weight_decay=5e-4, epochs=epochs, batch_size=50, schedule="cosine")
    run = train(
        model, images.x_train, images.y_train, images.x_test, images.y_test, recipe=recipe, seeds=[seed],
        device=device, store=store, progress=False,
    )  # fmt: skip
    trained = copy.deepcopy(model)
    trained.load_state_dict({name: value[0] for name, value in run.parameters.items()})
    return trained, float(run.accuracy_test[0])


def narrow_resnet(depth: int, *, width: int = 16, channels: int = 1, classes: int = 10) -> Classifier:
    """ResNet-18, -34 or -50 with ImageNet's stem (stride 4 in all), its four stages ``width``, 2, 4 and 8 ``width``.

    A width of 64 is He et al.'s (2016); at 16 a network of the same depth and layout costs a sixteenth.

    Raises:
        ValueError: for another depth, or a width below 1.

    Example:
        >>> sum(p.numel() for p in narrow_resnet(18).parameters())
        701818
    """
    if depth not in LAYERS or width < 1:
        raise ValueError(f"depth must be one of {', '.join(map(str, LAYERS))} and width ≥ 1, got {depth} and {width}")
    block, counts = LAYERS[depth]
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
    """Images in [0, 1] as a network trained on ImageNet expects them: three channels, its mean and scale.

    Args:
        x: ``(n, 1, h, w)`` or ``(n, 3, h, w)``.

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

    Images must have three channels (``x.expand(-1, 3, -1, -1)`` for grey ones) and a side of at least 32 or so.

    Args:
        weights: the name of a set of torchvision's weights, the path of a state dict (``.pth``), or None for random.

    Raises:
        ValueError: for another depth, or a state dict that does not fit. RuntimeError: if a download fails.
    """
    if depth not in LAYERS:
        raise ValueError(f"depth must be one of {', '.join(map(str, LAYERS))}, got {depth}")
    build = getattr(torchvision.models, f"resnet{depth}")
    if weights is not None and str(weights).endswith((".pt", ".pth")):
        net = build()
        try:
            net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except RuntimeError as error:
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
