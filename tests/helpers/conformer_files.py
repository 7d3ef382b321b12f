"""Small files in the official formats of PCQM4Mv2 and Molecule3D, from molecules of QM9."""
import csv
import gzip
import json

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.sdf_block import sdf_block
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.datasets.molecule3d import SDF

PROPERTIES = ['cid', 'dipole x', 'dipole y', 'dipole z', 'homo', 'lumo', 'homolumogap', 'scf energy']


def molecules(num) -> list[Data]:
    sample = QM9Sample()
    return [sample[i] for i in range(num)]


def gap_of(i):
    return 3 + 0.25 * i


def molfile(data, order=None):
    """A V2000 molfile with hydrogens, its atoms in an order of its own, and the SMILES."""
    from rdkit import Chem

    mol = Chem.MolFromMolBlock(sdf_block(data, 0), removeHs=False)
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol))
    if order is not None:
        mol = Chem.RenumberAtoms(mol, order)
    return Chem.MolToMolBlock(mol), smiles


def write_pcqm4mv2(root, data, num_train, **changes):
    """The last two thirds of what is not for training have no gap. `changes` replace SMILES, gaps or the number of
    geometries."""
    raw = root / 'raw' / 'pcqm4m-v2'
    (raw / 'raw').mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    files = [molfile(x, torch.randperm(x.num_nodes, generator=generator).tolist()) for x in data]
    smiles, gap = [text for _, text in files], [gap_of(i) for i in range(len(data))]
    parts = np.array_split(np.arange(num_train, len(data)), 3)
    for i in np.concatenate(parts[1:]):
        gap[i] = ''
    for i, text in changes.get('smiles', {}).items():
        smiles[i] = text
    for i, value in changes.get('gap', {}).items():
        gap[i] = value
    with gzip.open(raw / 'raw' / 'data.csv.gz', 'wt', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(changes.get('header', ['idx', 'smiles', 'homolumogap']))
        rows.writerows(zip(range(len(data)), smiles, gap, strict=True))
    split = dict(zip(('valid', 'test-dev', 'test-challenge'), parts, strict=True), train=np.arange(num_train))
    torch.save(split, raw / 'split_dict.pt')
    with open(root / 'raw' / 'pcqm4m-v2-train.sdf', 'w') as file:
        file.writelines(f'{block}$$$$\n' for block, _ in files[:changes.get('geometries', num_train)])


def write_molecule3d(root, data, **changes):
    """Four files, three of them of one molecule; every fifth molecule is for validation, every fifth for test."""
    raw = root / 'raw'
    raw.mkdir(parents=True)
    blocks = [changes.get('blocks', {}).get(i) or molfile(x)[0] for i, x in enumerate(data)]
    for name, part in zip(SDF, (blocks[:-3], *([block] for block in blocks[-3:])), strict=True):
        (raw / name).write_text(''.join(f'{block}$$$$\n' for block in part))
    with open(raw / 'properties.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(changes.get('header', PROPERTIES))
        for i in range(changes.get('rows', len(data))):
            rows.writerow([f'{i:09d}', 0.1, 0.2, 0.3, -6, -1, changes.get('gap', {}).get(i, gap_of(i)), -9000])
    split = dict(train=[i for i in range(len(data)) if i % 5 < 3][::-1], valid=list(range(3, len(data), 5)),
                 test=changes.get('test', list(range(4, len(data), 5))))
    (raw / 'random_split_inds.json').write_text(json.dumps(split))
    (raw / 'scaffold_split_inds.json').write_text(json.dumps(dict(split, train=split['train'][:2])))
