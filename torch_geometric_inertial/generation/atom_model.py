r"""What sampling needs of a model that writes molecules atom by atom."""
from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.transformer_block import StackCache


class Caches(NamedTuple):
    r"""What both stacks of a network have seen of the sequences: the one up to the type of the next atom, and the one
    from there to its place."""
    type: StackCache
    coord: StackCache


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

    # one step: the type of the next atom, its place
    def type_states(self, x: Tensor, pos: Tensor, ptr: Tensor, cache: StackCache | None = None) -> Tensor: ...

    def place_states(self, h: Tensor, x: Tensor, next_type: Tensor, pos: Tensor, ptr: Tensor,
                     cache: StackCache | None = None) -> Tensor: ...

    # caches, and the beginnings of molecules
    def new_caches(self, num_rows: int, capacity: int) -> Caches: ...

    def prefill(self, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor, caches: Caches) -> Tensor: ...

    def tokenize(self, data: Data) -> tuple[Tensor, Tensor, Tensor]: ...

    def prefix_log_prob(self, data: Data, noise: Tensor) -> Tensor: ...
