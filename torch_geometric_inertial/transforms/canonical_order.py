r"""The canonical order of the atoms of a molecule, as a transform."""
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.chem.pairs import check_apart
from torch_geometric_inertial.data import ptr_of, set_node_level
from torch_geometric_inertial.frames import inertial_frames, to_frame
from torch_geometric_inertial.transforms.inertial_frame import positions_of


@functional_transform('canonical_order')
class CanonicalOrder(BaseTransform):
    r"""Puts the atoms of a molecule into a canonical order (functional name: :obj:`canonical_order`).

    Elements and connectivity decide; atoms that the graph does not tell apart (the hydrogens of a methyl group, the
    mirror atoms of a ring) are told apart by their coordinates in the canonical frame. Bonds come from
    :obj:`data.edge_index` where there is one, else from the distances
    (:func:`~torch_geometric_inertial.chem.bonds.distance_bonds`).

    Reads :obj:`pos` :math:`[N, 3]`, :obj:`z` :math:`[N]` and, if there, :obj:`edge_index` :math:`[2, E]`. After
    :class:`InertialFrame` (that is, with :obj:`data.frame`) :obj:`pos` is taken to be canonical; otherwise the frame
    is found here, and :obj:`pos` is only permuted. Every node-level field follows the atoms, fields whose name
    contains :obj:`index` are renumbered, and edges are sorted with their edge-level fields. Writes :obj:`perm`
    :math:`[N]`: the atom at place :math:`i` stood at :obj:`perm[i]` of its molecule. Works on a
    :class:`~torch_geometric.data.Batch`.

    Args:
        order (str): :obj:`"smiles"`: the order in which RDKit's canonical SMILES with explicit hydrogens visits the
            atoms (the paper). :obj:`"heavy_first"`: heavy atoms as the canonical SMILES of the heavy atoms alone visits
            them, then the hydrogens, grouped by the atom that they are bonded to. :obj:`"rank"`: the canonical rank.

    Raises:
        ValueError: If :obj:`order` is unknown, :obj:`pos` or :obj:`z` is missing or has a wrong shape, a position is
            not finite, two atoms coincide, or a bond leaves its molecule.
    """

    def __init__(self, order: str = 'smiles') -> None:
        if order not in ORDERS:
            raise ValueError(f"'order' must be one of {', '.join(map(repr, ORDERS))} (got {order!r})")
        self.order = order

    def forward(self, data: Data) -> Data:
        pos, z, ptr = positions_of(data, self), data.z, ptr_of(data)
        if data.get('frame') is None:
            pos = to_frame(pos.double(), inertial_frames(pos, z, ptr), ptr)
        bonds = data.get('edge_index')
        if bonds is None:
            bonds = distance_bonds(pos, z, ptr)
        else:
            check_apart(pos, z, ptr.to(pos.device))
        return _permute(data, canonical_order(z, pos, ptr, bonds, self.order), ptr)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(order={self.order!r})'


def _permute(data: Data, perm: Tensor, ptr: Tensor) -> Data:
    place = torch.empty_like(perm)
    place[perm] = torch.arange(len(perm), device=perm.device)
    edges = None
    if data.get('edge_index') is not None:
        row, col = place[data.edge_index]
        edges = (row * len(perm) + col).argsort(stable=True)
    for name, value in list(data.to_dict().items()):
        if name in ('ptr', 'batch'):
            continue
        if 'index' in name and torch.is_tensor(value):
            value = place[value]
            data[name] = value[..., edges] if name == 'edge_index' else value
        elif data.is_node_attr(name):
            data[name] = _take(value, perm, data.__cat_dim__(name, value))
        elif edges is not None and data.is_edge_attr(name):
            data[name] = _take(value, edges, data.__cat_dim__(name, value))
    first = torch.repeat_interleave(ptr[:-1], ptr.diff())
    set_node_level(data, 'perm', perm - first)
    return data


def _take(value, rows: Tensor, dim: int):
    if torch.is_tensor(value):
        return value.index_select(dim, rows.to(value.device))
    return type(value)(value[i] for i in rows.tolist())
