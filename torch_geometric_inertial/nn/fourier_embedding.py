r"""How an atom becomes a token of Quetzal, and a token a type: one table of 128 atomic numbers."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.fourier import RandomFourierFeatures

NUM_TYPES, STOP, BEGIN = 128, 0, 127  #: Rows of the table: atomic numbers, and two that are none.


def type_ids(elements: tuple[int, ...]) -> Tensor:
    r"""The rows of the types of a model: its elements, then the stop type."""
    return torch.tensor([*elements, STOP])


class FourierAtomEmbedding(nn.Module):
    r"""Type, position, random Fourier features of the position, and index in the sequence, summed.

    Args:
        channels (int): Size of a token.
        elements (tuple): Atomic numbers, in vocabulary order.
        max_atoms (int): Longest sequence; the token before the first atom has an index too.
        num_features (int): Fourier features per component. (default: :obj:`256`)
        bandwidth (float): Their bandwidth in cycles per Å. (default: :obj:`20.0`)
    """
    ids: Tensor

    def __init__(self, channels: int, elements: tuple[int, ...], max_atoms: int, num_features: int = 256,
                 bandwidth: float = 20.0):
        super().__init__()
        self.type_embedding = nn.Embedding(NUM_TYPES, channels)
        self.index = nn.Embedding(max_atoms + 1, channels)
        self.pos = nn.Linear(3, channels, bias=False)
        self.fourier = RandomFourierFeatures(num_features, bandwidth)
        self.fourier_linear = nn.Linear(3 * num_features, channels)
        self.register_buffer('ids', type_ids(elements), persistent=False)

    def reset_parameters(self) -> None:
        for module in self.children():
            module.reset_parameters()

    def _embed(self, row: Tensor, index: Tensor, pos: Tensor) -> Tensor:
        with torch.autocast(pos.device.type, enabled=False):  # a coordinate needs more than 8 bits
            place = self.pos(pos) + self.fourier_linear(self.fourier(pos))
        return self.type_embedding(row) + self.index(index) + place

    def forward(self, type: Tensor, index: Tensor, pos: Tensor) -> Tensor:
        r"""All inputs are per atom [T] or [T, 3]; returns tokens [T, C]."""
        return self._embed(self.ids[type], index + 1, pos)

    def begin(self) -> Tensor:
        r"""The token before the first atom [C]: a type of its own at the origin, with index 0."""
        return self._embed(self.ids.new_tensor(BEGIN), self.ids.new_tensor(0), self.pos.weight.new_zeros(3))

    def next_type(self, type: Tensor) -> Tensor:
        r"""What the second stack is told of the type [T] that comes next: the same embedding, [T, C]."""
        return self.type_embedding(self.ids[type])


class BeginToken(Condition):
    r"""The token in slot 0: :meth:`FourierAtomEmbedding.begin`, plus the embeddings of what is asked for; so the null
    vector is zero.

    Args:
        embedding (FourierAtomEmbedding): Of the model, which owns it.
        **kwargs: Of :class:`~torch_geometric_inertial.nn.condition.Condition`.
    """
    def __init__(self, embedding: FourierAtomEmbedding, **kwargs):
        super().__init__(embedding.index.embedding_dim, **kwargs)
        self._embedding = (embedding, )  # in a tuple, so that it is stored once
        zero = self.null.detach()
        del self.null
        self.register_buffer('null', zero, persistent=False)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.null)

    def forward(self, conditions: Mapping[str, Tensor] | None, batch_size: int,
                generator: torch.Generator | None = None) -> Tensor:
        return self._embedding[0].begin() + super().forward(conditions, batch_size, generator)


class TypeTable(nn.Module):
    r"""One linear layer from tokens [T, C] to the 128 rows, of which the model's types are read [T, V].

    Args:
        channels (int): Size of a token.
        elements (tuple): Atomic numbers, in vocabulary order.
    """
    ids: Tensor

    def __init__(self, channels: int, elements: tuple[int, ...]):
        super().__init__()
        self.linear = nn.Linear(channels, NUM_TYPES, bias=False)
        self.register_buffer('ids', type_ids(elements), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).index_select(-1, self.ids)
