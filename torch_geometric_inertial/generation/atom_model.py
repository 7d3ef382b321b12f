r"""What sampling needs of a model that writes molecules atom by atom."""
from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.local_frame import LocalFrame
from torch_geometric_inertial.nn.pair_field import NeighborContext
from torch_geometric_inertial.nn.transformer_block import StackCache


class Caches(NamedTuple):
    r"""What both stacks of a network have seen of the sequences: the one up to the type of the next atom, and the one
    from there to its place."""
    type: StackCache
    coord: StackCache


class Prefix(NamedTuple):
    r"""What follows from the first atoms of B molecules.

    Attributes:
        token (Tensor): The token of the last atom, which no stack has seen yet [B, C].
        memory (Tensor): Vectors of the atoms from the second stack [B, N, C]; zero for the last one.
    """
    token: Tensor
    memory: Tensor


class AtomModel(Protocol):
    r"""A network that predicts the next atom, given those before it; see
    :class:`~torch_geometric_inertial.models.atom_transformer.AtomTransformer` for what each method does."""
    elements: tuple[int, ...]
    channels: int
    max_atoms: int
    training: bool
    radii: Tensor
    config: Any
    condition: Condition
    embedding: Any
    type_head: nn.Module
    head: DiffusionHead

    @property
    def stop(self) -> int: ...

    def train(self, mode: bool = True) -> Any: ...

    # one step: the type of the next atom, its parent, its place
    def valence_features(self, types: Tensor, pos: Tensor, count: Tensor) -> Tensor | None: ...

    def type_states(self, x: Tensor, pos: Tensor, ptr: Tensor, valence: Tensor | None,
                    cache: StackCache | None = None) -> Tensor: ...

    def place_states(self, h: Tensor, x: Tensor, next_type: Tensor, pos: Tensor, ptr: Tensor,
                     cache: StackCache | None = None) -> Tensor: ...

    def parent_logits(self, query: Tensor, memory: Tensor, count: Tensor, valence: Tensor | None) -> Tensor | None: ...

    def local_frame(self, types: Tensor, pos: Tensor, parent: Tensor, count: Tensor) -> LocalFrame: ...

    def place_condition(self, query: Tensor, memory: Tensor, types: Tensor, row: Tensor, parent: Tensor, count: Tensor,
                        frame: LocalFrame, valence: Tensor | None) -> tuple[Tensor, NeighborContext | None]: ...

    # caches, and the beginnings of molecules
    def new_caches(self, num_rows: int, capacity: int) -> Caches: ...

    def prefill(self, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor, caches: Caches) -> Prefix: ...

    def tokenize(self, data: Data) -> tuple[Tensor, Tensor, Tensor]: ...

    def prefix_log_prob(self, data: Data, noise: Tensor) -> Tensor: ...
