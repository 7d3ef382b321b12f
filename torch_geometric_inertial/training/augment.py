r"""Changes of a training batch that keep the molecules what they are."""
from __future__ import annotations

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.frames import random_rotations


class RandomPose:
    r"""Turns and shifts each molecule of a batch, away from its canonical frame.

    Args:
        degrees (float): Standard deviation of the angle; 180 or more draws uniformly from SO(3), as Quetzal does.
        shift (float): Standard deviation of the shift, in Å. (default: :obj:`0.0`)
    """
    def __init__(self, degrees: float, shift: float = 0.0):
        if degrees < 0 or shift < 0:
            raise ValueError(f"'degrees' and 'shift' must not be negative (got {degrees} and {shift})")
        self.degrees, self.shift = degrees, shift

    def __call__(self, data: Data, generator: torch.Generator | None = None) -> Data:
        num, device = data.ptr.numel() - 1, data.pos.device
        molecule = torch.repeat_interleave(data.ptr.diff())
        turn = random_rotations(num, self.degrees, generator, device)
        shift = self.shift * torch.randn(num, 3, generator=generator, device=device)
        data.pos = torch.einsum('tij,tj->ti', turn[molecule], data.pos) + shift[molecule]
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(degrees={self.degrees}, shift={self.shift})'
