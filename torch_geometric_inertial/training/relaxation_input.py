r"""What a model that relaxes geometries is shown in training."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.ops.segment import segment_index
from torch_geometric_inertial.superpose import centered, superpose


class RelaxationInput:
    r"""Draws the input geometry of each molecule of a batch, as Uni-Mol+ (arXiv:2303.16982) does: near the relaxed
    geometry :math:`x` most of the time, on the way from a cheap conformer :math:`c` to it, or the conformer itself,

    .. math::
        x + \mathcal{N}(0, \sigma^2), \qquad q\,x + (1 - q)\,c, \quad q \sim U(a, b), \qquad c .

    The conformer is one of the molecule's, drawn evenly, laid on the relaxed geometry by a proper rotation; so is what
    comes out, and both are centered. The order of equivalent atoms must agree before, see
    :func:`~torch_geometric_inertial.chem.match_orders`; the data sets see to it.

    Reads :obj:`conformers` [T, K, 3], :obj:`num_conformers` [B] and :obj:`pos_relaxed` [T, 3] of the batch, writes
    :obj:`pos` and :obj:`pos_relaxed`.

    Args:
        label (float): Share of molecules near the relaxed geometry. (default: :obj:`0.8`)
        between (float): Share on the way to it. (default: :obj:`0.1`)
        noise (float): :math:`\sigma`, Å. (default: :obj:`0.2`)
        mix (tuple): :math:`(a, b)`. (default: :obj:`(0.4, 0.6)`)

    Raises:
        ValueError: If the shares are no shares, or the noise or the range of :math:`q` makes no sense.
    """
    def __init__(self, label: float = 0.8, between: float = 0.1, noise: float = 0.2,
                 mix: tuple[float, float] = (0.4, 0.6)):
        if not (min(label, between) >= 0 and label + between <= 1):
            raise ValueError(f"'label' and 'between' must be shares whose sum is at most 1 (got {label} and {between})")
        if not noise >= 0:
            raise ValueError(f"'noise' must not be negative (got {noise})")
        if not 0 <= mix[0] <= mix[1] <= 1:
            raise ValueError(f"'mix' must be a range within [0, 1] (got {tuple(mix)})")
        self.label, self.between, self.noise, self.mix = label, between, noise, tuple(mix)

    def __call__(self, data: Data, generator: torch.Generator | None = None) -> Data:
        relaxed = centered(data.pos_relaxed, data.ptr)
        kind, place, which = torch.rand(3, data.ptr.numel() - 1, generator=generator, device=relaxed.device,
                                        dtype=torch.float32)
        cheap = superpose(chosen_conformers(data, (which * data.num_conformers).long()), relaxed, data.ptr)
        noise = self.noise * torch.randn(relaxed.shape, generator=generator, device=relaxed.device,
                                         dtype=torch.float32)
        q = self.mix[0] + (self.mix[1] - self.mix[0]) * place
        weight = torch.where(kind < self.label, 1, torch.where(kind < self.label + self.between, q, 0))
        molecule = segment_index(data.ptr, relaxed.size(0))
        weight = weight[molecule].unsqueeze(1)
        pos = weight * relaxed + (1 - weight) * cheap + (kind < self.label)[molecule].unsqueeze(1) * noise
        data.pos, data.pos_relaxed = superpose(pos, relaxed, data.ptr), relaxed
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(label={self.label}, between={self.between}, noise={self.noise}, mix={self.mix})'


def chosen_conformers(data: Data, choice: Tensor) -> Tensor:
    r"""Positions [T, 3] of one of the :obj:`conformers` [T, K, 3] of each molecule, by its number :obj:`choice` [B]."""
    row = torch.arange(data.conformers.size(0), device=data.conformers.device)
    return data.conformers[row, choice[segment_index(data.ptr, row.numel())]]
