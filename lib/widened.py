"""E convolutional networks as one of E times the channels, each convolution in groups, for narrow ones on a CPU.

A convolution of 8 channels over 25 small images takes 0.2 ms forward and backward, most of it before the first
multiplication; eight of them as one with eight groups take 0.04 ms each. Channels lie member by member, ``(B, E·c, h,
w)``: activations, pooling, sums and normalization by channel take them as they are.
"""

import copy

import torch
from torch import Tensor, nn

WHOLE = (nn.ReLU, nn.Tanh, nn.SELU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)


class Linears(nn.Module):
    """E dense layers beside each other: ``(B, E·d)`` to ``(B, E·o)``."""

    def __init__(self, like: nn.Linear, members: int):
        super().__init__()
        self.weight = nn.Parameter(like.weight.detach().expand(members, -1, -1).clone())
        self.bias = None if like.bias is None else nn.Parameter(like.bias.detach().expand(members, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)  # (E, B, d)
        out = x @ self.weight.mT if self.bias is None else torch.baddbmm(self.bias[:, None], x, self.weight.mT)
        return out.transpose(0, 1).flatten(1)


def widen(model: nn.Module, members: int) -> nn.Module:
    """A copy of ``model`` that takes ``(B, E·c, h, w)`` to ``(B, E·k)``; its parameters are to be set.

    Raises:
        ValueError: for layers other than Linear, Conv2d, BatchNorm, and those that treat every channel alike.

    Example:
        >>> body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> widen(nn.Sequential(body, nn.Linear(2, 3)), 4)(torch.zeros(5, 4, 6, 6)).shape
        torch.Size([5, 12])
    """
    wide = nn.Sequential(copy.deepcopy(model))  # so that a model that is one layer has a parent
    for parent in list(wide.modules()):
        for name, layer in list(parent.named_children()):
            if any(True for _ in layer.children()):
                continue
            setattr(parent, name, _wide(layer, members))
    return wide[0]


def _wide(layer: nn.Module, members: int) -> nn.Module:
    if type(layer) is nn.Linear:
        return Linears(layer, members)
    if type(layer) is nn.Conv2d:
        return nn.Conv2d(
            layer.in_channels * members, layer.out_channels * members, layer.kernel_size, layer.stride, layer.padding,
            layer.dilation, layer.groups * members, layer.bias is not None, layer.padding_mode,
        )  # fmt: skip
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        options = layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        return type(layer)(layer.num_features * members, *options)
    if isinstance(layer, WHOLE):
        return layer
    raise ValueError(f"networks side by side may have no {type(layer).__name__}; there is {layer}")
