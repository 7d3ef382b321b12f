r"""How an atom becomes a token."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.nystrom import NystromFeatures


class AtomEmbedding(nn.Module):
    r"""Type, Fourier features of position and placement, index in the sequence; type and index of the parent.

    The placement (bond length and angles where the coordinate target is local) tells the trunk about bond orders
    directly; differences of absolute positions would have to be learned for every direction.

    Args:
        channels (int): Size of a token.
        num_types (int): Size of the type vocabulary.
        max_atoms (int): Longest sequence.
        has_parent (bool): Whether the coordinate target has parents.
    """
    def __init__(self, channels: int, num_types: int, max_atoms: int, has_parent: bool):
        super().__init__()
        self.type_embedding = nn.Embedding(num_types, channels)
        self.next_embedding = nn.Embedding(num_types, channels)
        self.index = nn.Embedding(max_atoms, channels)
        self.fourier = FourierFeatures(32, 0.4, 30.0)
        self.pos = nn.Linear(3 + 3 * 32, channels)
        if has_parent:
            self.local = nn.Linear(3 + 3 * 32, channels)
            self.parent_type = nn.Embedding(num_types, channels)
            self.parent_index = nn.Embedding(max_atoms, channels)
        self.has_parent = has_parent
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)
            elif isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, type: Tensor, index: Tensor, pos: Tensor, local: Tensor, parent_type: Tensor,
                parent_index: Tensor) -> Tensor:
        r"""All inputs are per atom [T] or [T, 3]; returns tokens [T, C]."""
        x = self.type_embedding(type) + self.index(index)
        with torch.autocast(pos.device.type, enabled=False):  # a coordinate needs more than 8 bits
            x = x + self.pos(torch.cat([pos, self.fourier(pos)], dim=-1))
            if self.has_parent:
                x = x + self.local(torch.cat([local, self.fourier(local)], dim=-1))
        if self.has_parent:
            x = x + self.parent_type(parent_type) + self.parent_index(parent_index)
        return x

    def next_type(self, type: Tensor) -> Tensor:
        r"""What the second stack is told of the type [T] that comes next: vectors [T, C]."""
        return self.next_embedding(type)


class ReleasedAtomEmbedding(nn.Module):
    r"""The token of the released InertialAR: [type | p | p/|p| | W φ(p)] plus a learned index embedding.

    Args:
        channels (int): Size of a token, even; half of it is the Nyström part.
        num_types (int): Size of the type vocabulary.
        max_atoms (int): Longest sequence.
        nystrom (NystromFeatures): The features φ.
    """
    def __init__(self, channels: int, num_types: int, max_atoms: int, nystrom: NystromFeatures):
        super().__init__()
        half = channels // 2
        self.type_embedding = nn.Embedding(num_types, half - 6)
        self.index = nn.Embedding(max_atoms, channels)
        self.nystrom = nystrom
        self.linear = nn.Linear(nystrom.whitening.size(0) * nystrom.landmarks.size(0), half, bias=False)
        self.next_linear = nn.Linear(half - 6, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in (self.type_embedding, self.index, self.linear, self.next_linear):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, type: Tensor, index: Tensor, pos: Tensor, local: Tensor, parent_type: Tensor,
                parent_index: Tensor) -> Tensor:
        direction = nn.functional.normalize(pos, dim=-1, eps=1e-6)
        kernel = self.linear(self.nystrom(pos).flatten(-2))
        return torch.cat([self.type_embedding(type), pos, direction, kernel], dim=-1) + self.index(index)

    def next_type(self, type: Tensor) -> Tensor:
        r"""The embedding of the next type [T], shared with the tokens, mapped to [T, C]."""
        return self.next_linear(self.type_embedding(type))
