r"""What sampling needs of a model that writes a bond graph and then places its atoms."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary
from torch_geometric_inertial.nn.condition import Condition


class BondModel(Protocol):
    r"""See :class:`~torch_geometric_inertial.models.bonded_network.BondedNetwork` for what each part does."""
    vocabulary: Any
    graph: Any
    placer: Any
    graph_condition: Condition
    place_condition: Condition
    max_atoms: int
    training: bool

    def train(self, mode: bool = True) -> Any: ...


@dataclass(frozen=True)
class WrittenGraph:
    r"""A molecule whose places are to be drawn.

    Args:
        index (int): Its number.
        types (Tensor): Types of its heavy atoms [M].
        order (Tensor): Orders of the bonds between them [M, M].
        finished (bool): Whether the model ended it.
        request (GenerationRequest): What it answers.
    """
    index: int
    types: Tensor
    order: Tensor
    finished: bool
    request: Any


def written_molecule(vocabulary: AtomVocabulary, types: Tensor, order: Tensor, pos: Tensor, finished: bool) -> Data:
    r"""A molecule whose atoms all have a place.

    Args:
        vocabulary (AtomVocabulary): What the types mean.
        types (Tensor): Types of the heavy atoms [M], which come first.
        order (Tensor): Orders of all bonds [N, N].
        pos (Tensor): Places [N, 3], Å.
        finished (bool): Whether the model ended it.
    """
    hydrogens = pos.size(0) - types.numel()
    edge_index = order.nonzero().T.contiguous()
    return Data(z=torch.nn.functional.pad(vocabulary.z[types], (0, hydrogens), value=1).cpu(), pos=pos.cpu(),
                edge_index=edge_index.cpu(), edge_attr=order[edge_index[0], edge_index[1]].cpu(),
                formal_charge=torch.nn.functional.pad(vocabulary.charge[types], (0, hydrogens)).cpu(),
                finished=finished)
