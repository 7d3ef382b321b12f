r"""Which rules tell bonds from a geometry, or take them from elsewhere: each with its name, its use and its source.

A generator's features of open valences (:mod:`torch_geometric_inertial.nn`) use bond tests of their own, which are no
rules of chemistry: their values belong to the weights that learned from them.
"""
from __future__ import annotations

from typing import NamedTuple


class BondRule(NamedTuple):
    r"""A rule: what it is called in arguments, where the package uses it, where it comes from, and the name of the
    function that follows it."""
    name: str
    use: str
    source: str
    function: str


BOND_RULES: tuple[BondRule, ...] = (
    BondRule('data', 'wherever a molecule has bonds and their orders: to_mol, files, pictures, groups',
             'the molecule, or its file', 'torch_geometric_inertial.chem.fields.bonds_of'),
    BondRule('edm', 'where it has none, and in the EDM protocol of the metrics: bonds and orders from length tables',
             'Hoogeboom et al. 2022, arXiv:2203.17003', 'torch_geometric_inertial.chem.bond_tables.table_bonds'),
    BondRule('covalent', 'the graph of CanonicalOrder where a molecule has no edges: bonds without orders, from '
             'covalent radii + 0.25 Å', 'radii of Cordero et al. 2008, doi:10.1039/b801115j; the slack fitted to QM9',
             'torch_geometric_inertial.chem.bonds.distance_bonds'),
    BondRule('rdkit-vdw', 'functional groups, and metrics as xyz2mol of before 2023: a neutral molecule, '
             'bonds from van der Waals radii', 'RDKit, rdDetermineBonds(useVdw=True); Kim and Kim 2015, '
             'doi:10.1002/bkcs.10334', 'torch_geometric_inertial.chem.mol.to_mol'),
    BondRule('rdkit-ctd', "by choice, and RDKit's default: a neutral molecule, bonds by connect-the-dots",
             'RDKit, rdDetermineBonds(useVdw=False)', 'torch_geometric_inertial.chem.mol.to_mol'),
)
