r"""Molecules: their bonds, their files, their pictures, and the way to RDKit and ASE and back.

The only place that imports RDKit, and only where a function needs it.
"""
from torch_geometric_inertial.chem.ase import from_ase, to_ase
from torch_geometric_inertial.chem.bond_tables import Bonds, table_bonds
from torch_geometric_inertial.chem.convert import as_data, as_items, as_molecules, is_one_molecule
from torch_geometric_inertial.chem.cut import cut_bond
from torch_geometric_inertial.chem.draw import draw_grid
from torch_geometric_inertial.chem.formats import read_molecules, read_records, write_molecules
from torch_geometric_inertial.chem.heavy_bonds import with_bonds
from torch_geometric_inertial.chem.jsonl import read_jsonl, write_jsonl
from torch_geometric_inertial.chem.mol import from_mol, to_mol
from torch_geometric_inertial.chem.pdb import read_pdb
from torch_geometric_inertial.chem.properties import Properties
from torch_geometric_inertial.chem.records import Record
from torch_geometric_inertial.chem.sdf import read_sdf, write_sdf
from torch_geometric_inertial.chem.smiles import from_smiles
from torch_geometric_inertial.chem.xyz import read_xyz, write_xyz

__all__ = [
    'Bonds',
    'Properties',
    'Record',
    'as_data',
    'as_items',
    'as_molecules',
    'cut_bond',
    'draw_grid',
    'from_ase',
    'from_mol',
    'from_smiles',
    'is_one_molecule',
    'read_jsonl',
    'read_molecules',
    'read_pdb',
    'read_records',
    'read_sdf',
    'read_xyz',
    'table_bonds',
    'to_ase',
    'to_mol',
    'with_bonds',
    'write_jsonl',
    'write_molecules',
    'write_sdf',
    'write_xyz',
]
