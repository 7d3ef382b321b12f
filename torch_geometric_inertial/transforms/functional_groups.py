r"""Which functional groups a molecule has, as a transform."""
from collections.abc import Mapping

import torch
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_inertial.chem.functional_groups import QM9_GROUPS, check_vocabulary, find_groups, get_vocabulary
from torch_geometric_inertial.data import check_tensors, molecules_of, set_graph_level


@functional_transform('functional_groups')
class FunctionalGroups(BaseTransform):
    r"""Writes which functional groups a molecule has (functional name: :obj:`functional_groups`): :obj:`groups`
    :math:`[1, G]`, 0 or 1, and of a :class:`~torch_geometric.data.Batch` :math:`[B, G]`.

    Reads :obj:`z` [N], :obj:`pos` [N, 3] in Å and bonds from :obj:`edge_index` with orders in :obj:`edge_attr`, as
    [E] numbers or as [E, 4] one-hot of PyG's own QM9; charges, if any, from :obj:`formal_charge` [N]. Bonds without
    orders get those that RDKit finds for them, and without :obj:`edge_index` the bonds are perceived. Works on
    whatever holds molecules: see :func:`~torch_geometric_inertial.data.molecules_of`.

    Args:
        vocabulary (str or dict): :obj:`'qm9'`, the 20 groups of InertialAR; :obj:`'drugs'`; or name to SMARTS.
            (default: :obj:`'qm9'`)
        perception (str): How bonds are found where there are none: see
            :func:`~torch_geometric_inertial.chem.to_mol`. (default: :obj:`'rdkit-vdw'`)

    Raises:
        ValueError: If the vocabulary is unknown or empty, a SMARTS does not parse, a molecule is malformed, its edges
            are no bonds, or its bonds are not to be perceived.
    """
    names: tuple[str, ...] = tuple(QM9_GROUPS)  #: Of the groups, in the order of the columns.

    def __init__(self, vocabulary: str | Mapping[str, str] = 'qm9', perception: str = 'rdkit-vdw') -> None:
        self.vocabulary, self.perception = get_vocabulary(vocabulary), perception
        check_vocabulary(self.vocabulary)
        self.names = tuple(self.vocabulary)

    def forward(self, data: Data) -> Data:
        check_tensors(data, f"'{type(self).__name__}'")
        found = [find_groups(molecule, self.vocabulary, self.perception) for molecule in molecules_of(data)]
        set_graph_level(data, 'groups', torch.tensor(found, dtype=torch.uint8))
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}({len(self.names)} groups)'
