r"""Changes of a training batch that keep the molecules what they are."""
from __future__ import annotations

import copy

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.data import ptr_of
from torch_geometric_inertial.frames import random_rotations


class RandomPose:
    r"""Turns and shifts each molecule, away from its canonical frame.

    A transform of a molecule or a batch. Without a :obj:`generator` it draws from PyTorch's own stream, which a
    :class:`~torch.utils.data.DataLoader` seeds anew for each worker and epoch.

    Args:
        degrees (float): Standard deviation of the angle; 180 or more draws uniformly from SO(3), as Quetzal does.
        shift (float): Standard deviation of the shift, in Å. (default: :obj:`0.0`)
    """
    def __init__(self, degrees: float, shift: float = 0.0):
        if degrees < 0 or shift < 0:
            raise ValueError(f"'degrees' and 'shift' must not be negative (got {degrees} and {shift})")
        self.degrees, self.shift = degrees, shift

    def __call__(self, data: Data, generator: torch.Generator | None = None) -> Data:
        data, ptr, device = copy.copy(data), ptr_of(data), data.pos.device
        num, molecule = ptr.numel() - 1, torch.repeat_interleave(ptr.diff())
        turn = random_rotations(num, self.degrees, generator, device).to(data.pos)
        shift = self.shift * torch.randn(num, 3, generator=generator, device=device, dtype=torch.float32).to(data.pos)
        data.pos = torch.einsum('tij,tj->ti', turn[molecule], data.pos) + shift[molecule]
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(degrees={self.degrees}, shift={self.shift})'
