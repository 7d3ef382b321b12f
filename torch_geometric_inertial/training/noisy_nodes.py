r"""Noise on the structures that a model of relaxations is shown."""
from __future__ import annotations

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.neighbors.minimum_image import minimum_image
from torch_geometric_inertial.ops.segment import segment_index


class NoisyNodes:
    r"""Moves the free atoms of each system to a place between its initial and its relaxed structure, and noise onto it
    (Godwin et al. 2021, arXiv:2106.07971),

    .. math:: x + q\,(x^\ast - x) + \mathcal{N}(0, \sigma^2), \quad q \sim U(0, 1) ,

    so that a step towards the relaxed structure is learned everywhere around the path.

    Reads :obj:`pos`, :obj:`pos_relaxed`, :obj:`fixed`, :obj:`cell`, :obj:`pbc` and :obj:`ptr` of the batch, writes
    :obj:`pos`. An :obj:`augment` of :func:`~torch_geometric_inertial.training.fit`.

    Args:
        std (float): :math:`\sigma`, Å. (default: :obj:`0.3`)
        probability (float): Of doing it to a system. (default: :obj:`1.0`)

    Raises:
        ValueError: If the noise is negative or the probability is none.
    """
    def __init__(self, std: float = 0.3, probability: float = 1.0):
        if not std >= 0:
            raise ValueError(f"'std' must not be negative (got {std})")
        if not 0 <= probability <= 1:
            raise ValueError(f"'probability' must be in [0, 1] (got {probability})")
        self.std, self.probability = std, probability

    def __call__(self, data: Data, generator: torch.Generator | None = None) -> Data:
        pos = data.pos
        system = segment_index(data.ptr, pos.size(0))
        place, chosen = torch.rand(2, data.ptr.numel() - 1, generator=generator, device=pos.device,
                                   dtype=torch.float32).to(pos.dtype)
        noise = self.std * torch.randn(pos.shape, generator=generator, device=pos.device, dtype=pos.dtype)
        step = place[system].unsqueeze(1) * minimum_image(data.pos_relaxed - pos, data.cell, data.pbc, system) + noise
        moves = (chosen < self.probability)[system] & ~data.fixed
        data.pos = torch.where(moves.unsqueeze(1), pos + step, pos)
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(std={self.std}, probability={self.probability})'
