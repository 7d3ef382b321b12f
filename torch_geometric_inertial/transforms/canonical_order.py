r"""The canonical order of the atoms of a molecule, as a transform."""
from collections.abc import Mapping

import torch
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.chem.edge_bonds import edge_bonds
from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.data import ptr_of, set_node_level
from torch_geometric_inertial.fields import check_levels
from torch_geometric_inertial.frames import check_apart, inertial_frames, to_frame
from torch_geometric_inertial.permute import permute_atoms
from torch_geometric_inertial.transforms.inertial_frame import check_atoms


@functional_transform('canonical_order')
class CanonicalOrder(BaseTransform):
    r"""Puts the atoms of a molecule into a canonical order (functional name: :obj:`canonical_order`).

    Elements and connectivity decide; atoms that the graph does not tell apart (the hydrogens of a methyl group, the
    mirror atoms of a ring) are told apart by their coordinates in the canonical frame. Bonds come from
    :obj:`data.edge_index` where there is one, else from the distances
    (:func:`~torch_geometric_inertial.chem.bonds.distance_bonds`). Edges that are no bonds, such as those of a radius
    graph, give way to the distances with a warning (:func:`~torch_geometric_inertial.chem.edge_bonds.edge_bonds`).

    Reads :obj:`pos` :math:`[N, 3]`, :obj:`z` :math:`[N]` and, if there, :obj:`edge_index` :math:`[2, E]` and
    :obj:`edge_attr`. After :class:`InertialFrame` (that is, with :obj:`data.frame`) :obj:`pos` is taken to be
    canonical; otherwise the frame is found here, and :obj:`pos` is only permuted. Fields with one row per atom follow
    the atoms, edges are renumbered and sorted with their fields, and other numbers of atoms are renumbered, -1 staying
    -1. What a field holds is told by :func:`~torch_geometric_inertial.fields.field_levels`, never by its size alone;
    a field that nothing tells of stays as it is, with a warning if it might have followed. Writes :obj:`perm`
    :math:`[N]`: the atom at place :math:`i` stood at :obj:`perm[i]` of its molecule. Works on a
    :class:`~torch_geometric.data.Batch`.

    Args:
        order (str): :obj:`"smiles"`: the order in which RDKit's canonical SMILES with explicit hydrogens visits the
            atoms (the paper). :obj:`"heavy_first"`: heavy atoms as the canonical SMILES of the heavy atoms alone visits
            them, then the hydrogens, grouped by the atom that they are bonded to. :obj:`"rank"`: the canonical rank.
        fields (dict, optional): What fields of your own hold: name to :obj:`"node"` (one row per atom), :obj:`"edge"`
            (one row per edge), :obj:`"index"` (numbers of atoms) or :obj:`"graph"` (neither).

    Raises:
        ValueError: If :obj:`order` or a level is unknown, :obj:`pos` or :obj:`z` is missing or has a wrong shape, a
            position is not finite, two atoms coincide, a bond leaves its molecule, a declared field does not fit, a
            field numbers an atom that is not there, or connectivity is stored as a sparse matrix.
    """

    def __init__(self, order: str = 'smiles', fields: Mapping[str, str] | None = None) -> None:
        if order not in ORDERS:
            raise ValueError(f"'order' must be one of {', '.join(map(repr, ORDERS))} (got {order!r})")
        self.order, self.fields = order, check_levels(fields)

    def forward(self, data: Data) -> Data:
        pos, z, ptr = *check_atoms(data, self), ptr_of(data)
        if data.get('frame') is None:
            pos = to_frame(pos.double(), inertial_frames(pos, z, ptr), ptr)
        if data.get('edge_index') is None:
            bonds = distance_bonds(pos, z, ptr)
        else:
            check_apart(pos, z, ptr)
            bonds = edge_bonds(data.edge_index, pos, z, ptr, data.get('edge_attr'))
        perm = canonical_order(z, pos, ptr, bonds, self.order)
        data = permute_atoms(data, perm, ptr, self.fields)
        set_node_level(data, 'perm', perm - torch.repeat_interleave(ptr[:-1], ptr.diff()))
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(order={self.order!r})'
