r"""Changes of a training batch that keep the molecules what they are."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data


def random_rotations(num: int, degrees: float, generator: torch.Generator | None = None,
                     device: torch.device | str = 'cpu') -> Tensor:
    r"""Rotations [num, 3, 3] by angles from N(0, degrees²) about random axes; uniform on SO(3) from 180° on."""
    if degrees >= 180:
        q = torch.randn(num, 4, generator=generator, device=device)
    else:
        angle = torch.randn(num, 1, generator=generator, device=device) * torch.pi * degrees / 180
        axis = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator, device=device), dim=1)
        q = torch.cat([(angle / 2).cos(), (angle / 2).sin() * axis], dim=1)
    w, x, y, z = torch.nn.functional.normalize(q, dim=1).unbind(1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ], dim=1).view(num, 3, 3)


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
