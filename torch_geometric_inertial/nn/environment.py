r"""What the coordinate head is told of the atoms around the place of the next one."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.local_frame import LocalFrame


class EnvironmentReadout(nn.Module):
    r"""Sums a message from each neighbor of the parent, its offset seen in the coordinate system of the next atom.

    .. math::
        e_t = W_o \sum_j \mathrm{SiLU}(W_1\, \mathrm{SiLU}(W_f\, F(R^\top (x_j - o)) + W_z z_j + W_q z_t + E[a_j]))

    With a local coordinate system this is invariant to rotation: the tetrahedral corner that is still free looks the
    same wherever the molecule points.

    Args:
        channels (int): Size of token vectors and of the result.
        num_types (int): Size of the type vocabulary.
        hidden_channels (int): Width of the messages.
    """
    def __init__(self, channels: int, num_types: int, hidden_channels: int):
        super().__init__()
        self.fourier = FourierFeatures(24, 0.4, 16.0)
        self.offset = nn.Linear(3 + 3 * 24, hidden_channels)
        self.origin = nn.Linear(3 + 3 * 24, channels)
        self.type_embedding = nn.Embedding(num_types, hidden_channels)
        self.neighbour = nn.Linear(channels, hidden_channels, bias=False)
        self.query = nn.Linear(channels, hidden_channels, bias=False)
        self.message = nn.Linear(hidden_channels, hidden_channels)
        self.out = nn.Linear(hidden_channels, channels)

    def _encode(self, offset: Tensor) -> Tensor:
        return torch.cat([offset, self.fourier(offset)], dim=-1)

    def forward(self, query: Tensor, memory: Tensor, types: Tensor, row: Tensor,
                around: LocalFrame) -> Tensor:
        r"""
        Args:
            query (Tensor): Vectors [T, C] of the tokens that place an atom.
            memory (Tensor): Vectors [B, N, C] of the placed atoms.
            types (Tensor): Their types [B, N].
            row (Tensor): The molecule of each query [T].
            around (LocalFrame): The neighbors of the parents, of [T] queries.
        """
        offset = around.offset.float()
        atom = self.neighbour(memory)
        atom = atom + self.type_embedding(types).to(atom.dtype)
        with torch.autocast(offset.device.type, enabled=False):  # a coordinate needs more than 8 bits
            center = -(around.origin.unsqueeze(-2) @ around.axes).squeeze(-2).float()  # the frame's origin, from here
            message, center = self.offset(self._encode(offset)), self.origin(self._encode(center))
        message = message.to(atom.dtype) + atom[row.unsqueeze(-1), around.slots]  # [T, K, W]
        message = nn.functional.silu(message + self.query(query).unsqueeze(-2))
        message = nn.functional.silu(self.message(message))
        total = (message * around.valid.unsqueeze(-1)).sum(dim=-2)
        return self.out(total) + center
