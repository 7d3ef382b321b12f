"""Molecules whose bonds are known, one by one, from the arrays beside the repository."""
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from data_folder import DATA
from torch import Tensor

from torch_geometric_inertial.chem.bond_statistics import VALENCES, State
from torch_geometric_inertial.chem.skeleton import Skeleton
from torch_geometric_inertial.datasets import qm9_split

HELD_OUT = 2000  #: Drug molecules that the statistics have not seen.


class Known(NamedTuple):
    """`z` [N], `pos` [N, 3], `charge` [N], `bonds` (u, v, order)."""
    z: Tensor
    pos: Tensor
    charge: list[int]
    bonds: list[tuple[int, int, int]]


def read(path: Path, which: Iterable[int] | None = None) -> Iterator[Known]:
    """The molecules of one file, those of these numbers if there are any."""
    with np.load(path) as file:
        array = {name: file[name] for name in file.files if file[name].dtype.kind in 'iuf'}
    pos = array['pos'] if 'pos' in array else array['pos_1e5'] * 1e-5
    order = array['bond_order'] if 'bond_order' in array else array['bond_order_x2'] // 2
    ptr, bond_ptr = array['ptr'], array['bond_ptr']
    for i in range(len(ptr) - 1) if which is None else which:
        atoms, bonds = slice(ptr[i], ptr[i + 1]), slice(bond_ptr[i], bond_ptr[i + 1])
        columns = (array['bond_u'][bonds], array['bond_v'][bonds], order[bonds])
        yield Known(torch.from_numpy(array['z'][atoms].astype(np.int64)), torch.from_numpy(pos[atoms].astype(float)),
                    array['formal_charge'][atoms].tolist(), list(zip(*(x.tolist() for x in columns), strict=True)))


def qm9(part: str, folder: Path = DATA) -> Iterator[Known]:
    """QM9's `train`, `valid` or `test`."""
    path = folder / 'qm9' / 'qm9_geom.npz'
    with np.load(path) as file:
        name = torch.from_numpy(file['gdb_id'].astype(np.int64))
    return read(path, qm9_split(name, part).nonzero().flatten().tolist())


def drugs(held_out: bool, folder: Path = DATA) -> Iterator[Known]:
    """The drug molecules: 2,000, drawn with seed 0, or the rest."""
    path = folder / 'cascade_dft_drugs' / 'dft8k.npz'
    with np.load(path) as file:
        drawn = np.random.default_rng(0).permutation(len(file['ptr']) - 1).tolist()
    return read(path, drawn[:HELD_OUT] if held_out else drawn[HELD_OUT:])


def conformers(folder: Path = DATA) -> Iterator[Known]:
    """The conformer benchmark, for bromine, iodine and nitro groups."""
    return read(folder / 'conformer_benchmark' / 'conformers.npz')


def rare() -> Iterator[Known]:
    """What the other molecules lack: methyl azide and methyl isocyanide, with bond lengths and the angle of their
    microwave structures (1.468, 1.216, 1.113 Å and 116.8°; 1.424 and 1.166 Å), water and single halide ions."""
    hydrogens = [[-0.37, 1.03, 0.0], [-0.37, -0.51, 0.89], [-0.37, -0.51, -0.89]]
    along = torch.tensor([0.4509, 0.8926, 0.0])  # of the azide
    first = torch.tensor([1.468, 0.0, 0.0])
    methyl = [(0, 2, 1), (0, 3, 1), (0, 4, 1)]
    yield Known(torch.tensor([6, 7, 1, 1, 1, 7, 7]),
                torch.cat([torch.tensor([[0.0, 0.0, 0.0], first.tolist(), *hydrogens]),
                           torch.stack([first + 1.216 * along, first + 2.329 * along])]).double(),
                [0, 0, 0, 0, 0, 1, -1], [(0, 1, 1), *methyl, (1, 5, 2), (5, 6, 2)])
    yield Known(torch.tensor([6, 7, 1, 1, 1, 6]),
                torch.tensor([[0.0, 0.0, 0.0], [1.424, 0.0, 0.0], *hydrogens, [2.59, 0.0, 0.0]]).double(),
                [0, 1, 0, 0, 0, -1], [(0, 1, 1), *methyl, (1, 5, 3)])
    yield Known(torch.tensor([8, 1, 1]), torch.tensor([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]).double(), [0, 0, 0],
                [(0, 1, 1), (0, 2, 1)])
    for halogen in (9, 17, 35, 53):
        yield Known(torch.tensor([halogen]), torch.zeros(1, 3).double(), [-1], [])


def known_states(skeleton: Skeleton, known: Known) -> tuple[list[State], list[int]] | None:
    """The true states of a skeleton's atoms and orders of its bonds; none where its bonds are others, or an atom has no
    valence of its element (a radical)."""
    index = {atom: i for i, atom in enumerate(skeleton.atom)}
    pi, hydrogens = [0] * len(index), [0] * len(index)
    orders: dict[tuple[int, int], int] = {}
    for u, v, order in known.bonds:
        heavy = sorted(index[i] for i in (u, v) if i in index)
        if len(heavy) == 2:
            orders[heavy[0], heavy[1]] = order
            for i in heavy:
                pi[i] += order - 1
        elif heavy:
            hydrogens[heavy[0]] += 1
    states = [State(z, degree, known.charge[atom], pi[i], hydrogens[i])
              for i, (z, degree, atom) in enumerate(zip(skeleton.z, skeleton.degree, skeleton.atom, strict=True))]
    fits = all(s.degree + s.pi + s.hydrogens in VALENCES[s.z].get(s.charge, ()) for s in states)
    if not fits or set(orders) != {(u, v) for u, v, _, _ in skeleton.bonds}:
        return None
    return states, [orders[u, v] for u, v, _, _ in skeleton.bonds]
