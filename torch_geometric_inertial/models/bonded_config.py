r"""The fields that the configurations of generators with bonds have."""
from __future__ import annotations

import reprlib
from dataclasses import dataclass

from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.models.generator_config import GeneratorConfig

#: The heavy atoms of QM9 as (element, charge, hydrogens, valence).
QM9_ATOM_TYPES = (
    (6, -1, 0, 3), (6, -1, 1, 3), (6, 0, 0, 4), (6, 0, 1, 4), (6, 0, 2, 4), (6, 0, 3, 4), (6, 0, 4, 4),
    (7, -1, 0, 2), (7, 0, 0, 3), (7, 0, 1, 3), (7, 0, 2, 3), (7, 0, 3, 3),
    (7, 1, 0, 4), (7, 1, 1, 4), (7, 1, 2, 4), (7, 1, 3, 4),
    (8, -1, 0, 1), (8, 0, 0, 2), (8, 0, 1, 2), (8, 0, 2, 2), (9, 0, 0, 1),
)


@dataclass(frozen=True)
class BondedConfig(GeneratorConfig):
    r"""What defines the core of a generator that may write bonds, beside the fields of :class:`GeneratorConfig`.

    Args:
        bonds (bool): Whether the model writes the bond graph before the places: a
            :class:`~torch_geometric_inertial.models.bonded_network.BondedNetwork`. Otherwise it writes elements and
            places in turn, as published.
        atom_types (tuple): Heavy atoms that a model with bonds knows, as (atomic number, formal charge, hydrogens,
            sum of bond orders); they settle :obj:`elements`. See
            :func:`~torch_geometric_inertial.nn.atom_vocabulary.atom_types_of`.
        graph_layers (int): With bonds: layers over the atoms of the graph while it is written.
        place_layers (int): With bonds: layers over the whole graph before its atoms are placed.
        pair_channels (int): With bonds: size of what a pair of atoms is described by.
        message_channels (int): With bonds: size of the messages from the atoms around a place.
        message_rounds (int): With bonds: rounds of these messages.
        field_channels (int): With bonds: size of the messages to a coordinate that is being denoised.
        num_neighbors (int): With bonds: atoms around a place, beside the parent.
        max_closures (int): With bonds: rings that one atom may close.

    Raises:
        ValueError: If a field is out of range, or an atom type is none.
    """
    bonds: bool = False
    atom_types: tuple[tuple[int, int, int, int], ...] = QM9_ATOM_TYPES
    graph_layers: int = 5
    place_layers: int = 4
    pair_channels: int = 32
    message_channels: int = 128
    message_rounds: int = 3
    field_channels: int = 48
    num_neighbors: int = 10
    max_closures: int = 4

    def __post_init__(self):
        super().__post_init__()
        if self.bonds and self.atom_types:
            object.__setattr__(self, 'elements', tuple(sorted({1, *(t[0] for t in self.atom_types)})))
        self.check(at_least_one=('graph_layers', 'place_layers', 'pair_channels', 'message_channels', 'message_rounds',
                                 'field_channels', 'num_neighbors', 'max_closures'))
        if self.bonds and self.order != 'heavy_first':
            raise ValueError("'order' must be 'heavy_first' for a model that writes bonds "
                             f'(got {reprlib.repr(self.order)})')
        if self.bonds and not self.atom_types:
            raise ValueError("'atom_types' must name a heavy atom or more (got none)")
        if len(set(self.atom_types)) != len(self.atom_types):
            raise ValueError("'atom_types' must be distinct")
        for z, charge, hydrogens, valence in self.atom_types:
            if not (1 < z < len(SYMBOLS) and abs(charge) <= 8 and 0 <= hydrogens <= valence <= 12):
                raise ValueError(f"'atom_types' must be (atomic number above 1, charge within 8, hydrogens, valence "
                                 f"from there to 12) (got {(z, charge, hydrogens, valence)})")
