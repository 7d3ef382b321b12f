"""Molecules with bonds and charges, from SMILES, by RDKit alone."""
from functools import cache

import numpy as np
import torch
from torch_geometric.data import Data


def data_of(z, pos, bonds, orders, charges=None, **fields):
    """A molecule in the package's form from plain lists."""
    directed = [(u, v, k) for (u, v), k in zip(bonds, orders, strict=True)]
    directed += [(v, u, k) for u, v, k in directed]
    edges = torch.tensor(directed, dtype=torch.long).reshape(-1, 3).t()
    charges = torch.zeros(len(z), dtype=torch.long) if charges is None else torch.as_tensor(charges).long()
    return Data(z=torch.as_tensor(z).long(), pos=torch.as_tensor(np.asarray(pos)).double(), edge_index=edges[:2],
                edge_attr=edges[2], formal_charge=charges, **fields)


@cache
def _embedded(smiles):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def embedded(smiles):
    """The molecule of a SMILES in a conformer, in its Kekulé form."""
    mol = _embedded(smiles)
    atoms, bonds = list(mol.GetAtoms()), list(mol.GetBonds())
    return data_of([a.GetAtomicNum() for a in atoms], mol.GetConformer().GetPositions(),
                   [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in bonds],
                   [int(b.GetBondTypeAsDouble()) for b in bonds], [a.GetFormalCharge() for a in atoms])


def without(data, atom):
    """The molecule without one of its atoms."""
    kept = torch.tensor([i for i in range(data.z.numel()) if i != atom])
    place = torch.full((data.z.numel(), ), -1)
    place[kept] = torch.arange(len(kept))
    stays = (data.edge_index != atom).all(0)
    return Data(z=data.z[kept], pos=data.pos[kept], formal_charge=data.formal_charge[kept],
                edge_index=place[data.edge_index[:, stays]], edge_attr=data.edge_attr[stays])


def relabeled(data, order):
    """The molecule with its atoms in another order."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    out = data.clone()
    for name in ('z', 'pos', 'formal_charge'):
        out[name] = data[name][order]
    out.edge_index = place[data.edge_index]
    return out


def moved(data, generator):
    """The molecule in another place and pose."""
    from torch_geometric_inertial.testing import random_rotation

    out = data.clone()
    turn = random_rotation(generator).to(data.pos)
    out.pos = data.pos @ turn.T + 10 * torch.randn(3, generator=generator).to(data.pos)
    return out


def drugs(folder, name='dft8k', chosen=None):
    """Real drugs with their bonds and charges, and their SMILES."""
    with np.load(folder / 'cascade_dft_drugs' / f'{name}.npz') as file:
        f = {key: file[key] for key in file.files}
    found = []
    for i in range(len(f['ptr']) - 1) if chosen is None else chosen:
        a, b, c, d = f['ptr'][i], f['ptr'][i + 1], f['bond_ptr'][i], f['bond_ptr'][i + 1]
        bonds = list(zip(f['bond_u'][c:d].tolist(), f['bond_v'][c:d].tolist(), strict=True))
        found.append((data_of(f['z'][a:b], f['pos'][a:b], bonds, (f['bond_order_x2'][c:d] // 2).tolist(),
                              f['formal_charge'][a:b].astype(int)), str(f['smiles'][i])))
    return found
