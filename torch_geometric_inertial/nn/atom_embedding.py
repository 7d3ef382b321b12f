r"""Atoms to tokens, as in the released InertialAR."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.nystrom import NystromFeatures


class ReleasedAtomEmbedding(nn.Module):
    r"""The token of the released InertialAR: :math:`[\mathrm{type}, p, p / |p|, W \phi(p)]` plus a learned
    embedding of the index.

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

    def forward(self, type: Tensor, index: Tensor, pos: Tensor) -> Tensor:
        r"""All inputs are per atom [T] or [T, 3]; returns tokens [T, C]."""
        direction = nn.functional.normalize(pos, dim=-1, eps=1e-6)
        kernel = self.linear(self.nystrom(pos).flatten(-2))
        return torch.cat([self.type_embedding(type), pos, direction, kernel], dim=-1) + self.index(index)

    def next_type(self, type: Tensor) -> Tensor:
        r"""The embedding of the next type [T], shared with the tokens, mapped to [T, C]."""
        return self.next_linear(self.type_embedding(type))
