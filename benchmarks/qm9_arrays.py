"""Packed QM9 molecules for the benchmarks, read from the arrays beside the repository."""
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from data_folder import DATA
from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_inertial.datasets import QM9Sample

FOLDER = DATA / 'qm9'


class Molecules(NamedTuple):
    """Packed molecules: `bonds` [2, E] are packed atom indices, `name` [B] the gdb numbers."""
    z: Tensor
    pos: Tensor
    ptr: Tensor
    bonds: Tensor
    name: Tensor

    @property
    def molecule(self) -> Tensor:
        """The molecule of each atom."""
        return torch.repeat_interleave(torch.arange(len(self.name)), self.ptr.diff())

    def select(self, which: Tensor) -> 'Molecules':
        """The molecules of these numbers, in this order."""
        count = self.ptr.diff()[which]
        ptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        atom = torch.arange(int(ptr[-1])) + torch.repeat_interleave(self.ptr[which] - ptr[:-1], count)
        place = torch.full_like(self.z, -1)
        place[atom] = torch.arange(len(atom))
        bonds = place[self.bonds]
        bonds = bonds[:, bonds[0] >= 0]
        return Molecules(self.z[atom], self.pos[atom], ptr, bonds, self.name[which])


def load(folder: Path = FOLDER) -> Molecules:
    """All of QM9 from `qm9_geom.npz`, or the embedded sample, with a note, where there is no such file."""
    if not (folder / 'qm9_geom.npz').is_file():
        print(f"no 'qm9_geom.npz' in {folder}: the 10,000 molecules of the embedded sample instead of all of QM9")
        return embedded()
    with np.load(folder / 'qm9_geom.npz') as file:
        arrays = {key: torch.from_numpy(file[key].astype(np.int64)) for key in
                  ('z', 'pos_1e5', 'ptr', 'bond_u', 'bond_v', 'bond_ptr', 'gdb_id')}
    first = torch.repeat_interleave(arrays['ptr'][:-1], arrays['bond_ptr'].diff())
    bonds = torch.stack([arrays['bond_u'], arrays['bond_v']]) + first
    return Molecules(arrays['z'], arrays['pos_1e5'].double() * 1e-5, arrays['ptr'], bonds, arrays['gdb_id'])


def embedded() -> Molecules:
    batch = Batch.from_data_list(list(QM9Sample()))
    one_way = batch.edge_index[0] < batch.edge_index[1]
    return Molecules(batch.z, batch.pos.double(), batch.ptr, batch.edge_index[:, one_way], batch.idx + 1)


def machine(threads: int | None = None) -> str:
    """One line: processor, cores, threads, versions."""
    import platform

    import rdkit

    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.exists():
        names = [line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if 'model name' in line]
        cpu = f'{names[0]}, {len(names)} cores' if names else cpu
    return (f'{cpu}; {threads or torch.get_num_threads()} thread(s); torch {torch.__version__}, '
            f'rdkit {rdkit.__version__}')
