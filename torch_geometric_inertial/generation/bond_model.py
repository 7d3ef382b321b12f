r"""What sampling needs of a model that writes a bond graph and then places its atoms."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

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
