r"""A sample of QM9 that comes with the package."""
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

#: Positions are stored in steps of this length (Å).
STEP = 1e-4
#: Orbital energies are, in Hartree, as QM9 has them; zero stands for one that is not known.
STEP_HARTREE, UNKNOWN = 1e-4, 0
EV_PER_HARTREE = 27.211386246  # as in PyG's QM9


class QM9Sample(InMemoryDataset):
    r"""10,000 molecules drawn at random from the training part of the EDM split of QM9 (fluorine-free), with DFT
    geometries, embedded in the package: nothing is downloaded and no folder is written.

    Each item is a :class:`~torch_geometric.data.Data` with ``z`` [N], ``pos`` [N, 3] (Å, to 1e-4 Å, centered),
    ``edge_index`` [2, E] (both directions), ``edge_attr`` [E] (Kekulé bond orders 1, 2, 3), ``formal_charge`` [N],
    ``homo`` [1] and ``gap`` [1] (eV; the gap of two thirds is not in the sample, NaN) and ``idx`` [1] (the molecule's
    index in QM9, as in :class:`torch_geometric.datasets.QM9`: its GDB number less one).

    Data: Ramakrishnan et al., Scientific Data 1, 140022 (2014), `doi:10.1038/sdata.2014.22
    <https://doi.org/10.1038/sdata.2014.22>`_; CC0.

    Args:
        transform: Applied to a molecule whenever it is read.
        pre_transform: Applied to every molecule once, now.
        pre_filter: Which molecules to keep.
    """
    def __init__(
        self,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
    ):
        super().__init__(None, transform, pre_transform, pre_filter)
        self.data, self.slices = _load()
        if pre_filter is not None or pre_transform is not None:
            items = [self.get(i) for i in range(self.len())]
            if pre_filter is not None:
                items = [item for item in items if pre_filter(item)]
                if not items:
                    raise ValueError("'pre_filter' must keep at least one molecule (kept none)")
            if pre_transform is not None:
                items = [pre_transform(item) for item in items]
            self._data_list = None
            self.data, self.slices = self.collate(items)


def _load() -> tuple[Data, dict[str, Tensor]]:
    path = files('torch_geometric_inertial.datasets').joinpath('qm9_sample.npz')
    with path.open('rb') as stream, np.load(stream) as file:
        stored = {name: torch.from_numpy(file[name]).long() for name in file.files}
    bonds = torch.stack([stored['bond_u'], stored['bond_v']])
    edges = torch.cat([bonds, bonds.flip(0)], dim=1)
    molecule = torch.repeat_interleave(stored['num_bonds']).repeat(2)
    order = ((molecule * 256 + edges[0]) * 256 + edges[1]).argsort()
    data = Data(
        z=stored['z'],
        pos=((stored['pos_high'] * 256 + stored['pos_low']).double() * STEP).float().t().contiguous(),
        edge_index=edges[:, order],
        edge_attr=stored['bond_order'].repeat(2)[order],
        formal_charge=stored['formal_charge'],
        idx=stored['gdb_id'] - 1,
        **{name: (stored[name] * STEP_HARTREE * EV_PER_HARTREE).where(stored[name] != UNKNOWN, torch.nan).float()
           for name in ('homo', 'gap')},
    )
    per_atom, per_edge = _offsets(stored['num_atoms']), _offsets(2 * stored['num_bonds'])
    each = torch.arange(data.idx.numel() + 1)
    return data, {'z': per_atom, 'pos': per_atom, 'edge_index': per_edge, 'edge_attr': per_edge,
                  'formal_charge': per_atom, 'idx': each, 'homo': each, 'gap': each}


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
