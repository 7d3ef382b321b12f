r"""Bookkeeping of valence while a molecule is written: which atoms can still take a bond."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.local_frame import BOND_SCALE


def pauling_bond_orders(pos: Tensor, radius: Tensor) -> Tensor:
    r"""Bond orders from lengths, :math:`n_{ij} = \exp((r_i + r_j - d_{ij}) / 0.3\,\text{Å})` (Pauling 1947), zero for
    pairs farther than 1.2 times the sum of their covalent radii.

    With single-bond radii this gives 0.94 for the C–C bond of ethane, 1.9 for ethene, 2.9 for ethyne.

    Args:
        pos (Tensor): Positions [B, N, 3] in Å.
        radius (Tensor): Covalent radii [B, N] in Å.

    Returns:
        Tensor: Bond orders [B, N, N], at most 4.
    """
    distance = (pos.unsqueeze(2) - pos.unsqueeze(1)).norm(dim=-1)
    single = radius.unsqueeze(2) + radius.unsqueeze(1)
    order = torch.exp((single - distance) / 0.3).clamp(max=4.0)
    itself = torch.eye(pos.size(1), dtype=torch.bool, device=pos.device)
    return order.masked_fill((distance > BOND_SCALE * single) | itself, 0)


class ValenceFeatures(nn.Module):
    r"""Describes each placed atom by its element, its number of bonds and their total order, as of now.

    In a causal transformer a token never hears of the bonds that its atom is given later; this readout keeps the
    account for it.

    Args:
        channels (int): Size of a token.
        num_types (int): Size of the type vocabulary.
        hidden_channels (int): Size :math:`W` of a description.
        has_parent (bool): Whether the coordinate target has parents, which are then described to the head.
    """
    bins: Tensor

    def __init__(self, channels: int, num_types: int, hidden_channels: int, has_parent: bool):
        super().__init__()
        self.register_buffer('bins', torch.arange(0.0, 5.0, 0.5), persistent=False)
        self.type_embedding = nn.Embedding(num_types, hidden_channels)
        self.account = nn.Linear(2 * self.bins.numel(), hidden_channels)
        self.mix = nn.Linear(hidden_channels, hidden_channels)
        self.to_token = nn.Linear(hidden_channels, channels, bias=False)
        nn.init.zeros_(self.to_token.weight)
        if has_parent:
            self.to_parent = nn.Linear(channels, hidden_channels, bias=False)
            self.to_place = nn.Linear(hidden_channels, channels, bias=False)
            nn.init.zeros_(self.to_parent.weight)
            nn.init.zeros_(self.to_place.weight)

    def forward(self, pos: Tensor, radius: Tensor, types: Tensor, count: Tensor) -> Tensor:
        r"""
        Args:
            pos (Tensor): Positions of placed atoms [B, N, 3].
            radius (Tensor): Their covalent radii [B, N].
            types (Tensor): Their types [B, N].
            count (Tensor): Number of atoms placed at each query [B, Q].

        Returns:
            Tensor: Descriptions [B, Q, N, W]; zero for atoms that are not there yet.
        """
        order = pauling_bond_orders(pos, radius)
        placed = torch.arange(pos.size(1), device=pos.device) < count.unsqueeze(-1)  # [B, Q, N]
        seen = placed.to(order.dtype)
        with torch.autocast(pos.device.type, enabled=False):
            account = torch.stack([seen @ order, seen @ (order > 0).to(order.dtype)], dim=-1)  # valence, bonds
        account = torch.exp(-(account.unsqueeze(-1) - self.bins).square() * 4).flatten(-2)
        kind = self.type_embedding(types).unsqueeze(1)
        described = self.account(account)
        described = nn.functional.silu(self.mix(nn.functional.silu(described + kind.to(described.dtype))))
        return described * placed.unsqueeze(-1)
