r"""Lengths and directions whose derivatives stay finite at zero."""
from __future__ import annotations

import torch
from torch import Tensor


def safe_length(x: Tensor, softening: float = 0.0) -> Tensor:
    r""":math:`\sqrt{\|x\|^2 + \delta^2}` of vectors [..., 3]; without softening, a zero vector has zero derivative."""
    square = x.square().sum(-1)
    if softening > 0:
        return (square + softening ** 2).sqrt()
    zero = square == 0  # the square root never sees it: NaN times 0 is NaN
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def directions(x: Tensor, softening: float = 0.0) -> Tensor:
    r""":math:`x / \sqrt{\|x\|^2 + \delta^2}` of vectors [..., 3]; zero for a zero one. Smooth if :math:`\delta > 0`."""
    length = safe_length(x, softening)
    return x / torch.where(length == 0, 1.0, length).unsqueeze(-1)
