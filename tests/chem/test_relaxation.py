import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.chem.conformers import METHODS, embed_conformers
from torch_geometric_inertial.chem.equivalent import MAX_ORDERS, atom_graph, best_order, leaf_groups, match_orders
from torch_geometric_inertial.chem.relaxation import read_relaxation
from torch_geometric_inertial.chem.sdf import count_sdf, sdf_blocks
from torch_geometric_inertial.chem.sdf_block import sdf_block
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.frames import random_rotations
from torch_geometric_inertial.superpose import superposed_rmsd

Chem = pytest.importorskip('rdkit.Chem')
SAMPLE = QM9Sample()
SMILES = ['c1ccccc1', 'OC(=O)c1ccccc1', 'C[N+](=O)[O-]', 'CC(F)(F)F', 'CCO', 'C1CC1', 'FS(F)(F)(F)(F)F', 'C#C', 'N']


def molecule(smiles):
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def graph_of(smiles, hydrogens=False):
    mol = molecule(smiles)
    return atom_graph(mol, [a.GetIdx() for a in mol.GetAtoms() if hydrogens or a.GetAtomicNum() > 1])


def as_file(data, order=None, hydrogens=True):
    """A molecule of QM9 as a V2000 molfile with its atoms in another order, and its SMILES."""
    mol = Chem.MolFromMolBlock(sdf_block(data, 0), removeHs=False)
    smiles = Chem.MolToSmiles(Chem.RemoveHs(mol))
    if order is not None:
        mol = Chem.RenumberAtoms(mol, order)
    return Chem.MolToMolBlock(mol if hydrogens else Chem.RemoveHs(mol), forceV3000=False), smiles


def shuffled(data, seed=0):
    order = torch.randperm(data.num_nodes, generator=torch.Generator().manual_seed(seed)).tolist()
    return *as_file(data, order), order


def rmsd(a, b):
    return float(superposed_rmsd(a, b, torch.tensor([0, len(a)])))


# Conformers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('smiles, method', [('CCO', 'mmff'), ('[H][H]', 'etkdg'), ('C1#CC1', 'flat')])
def test_how_conformers_are_made(smiles, method):
    mol = molecule(smiles)
    pos, found = embed_conformers(mol, 4, seed=1)
    assert found == method in METHODS
    assert pos.shape == (1 if method == 'flat' else 4, mol.GetNumAtoms(), 3) and bool(pos.isfinite().all())
    assert bool((pos[..., 2] == 0).all()) or method != 'flat'
    assert mol.GetNumConformers() == 0  # the argument is left as it was


def test_strained_stereo_centers_are_given_up_before_the_third_dimension():
    pos, method = embed_conformers(molecule('C1C[C@@H]2C[C@H]2C1'), 2, seed=1)
    assert method == 'mmff' and float(pos[..., 2].abs().max()) > 0.5


def test_conformers_depend_on_the_seed_alone():
    mol = molecule('CCCCO')
    assert torch.equal(embed_conformers(mol, 3, 5).pos, embed_conformers(mol, 3, 5).pos)
    assert not torch.equal(embed_conformers(mol, 3, 5).pos, embed_conformers(mol, 3, 6).pos)


@pytest.mark.parametrize('num, seed', [(0, 1), (1, -1), (1, 2**31)])
def test_bad_numbers(num, seed):
    with pytest.raises(ValueError, match=r"'num' must be at least 1 and 'seed' in 0 … 2³¹ - 1 \(got"):
        embed_conformers(molecule('C'), num, seed)


# Equivalent atoms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('smiles, hydrogens, count', [
    ('c1ccccc1', False, 12), ('c1ccccc1', True, 12), ('CC(=O)O', False, 1), ('CC(=O)[O-]', False, 2),
    ('C[N+](=O)[O-]', False, 2), ('C', True, 24), ('CC', True, 72), ('CCO', True, 12), ('OCC=O', False, 1),
])
def test_number_of_symmetries(smiles, hydrogens, count):
    graph = graph_of(smiles, hydrogens)
    orders = match_orders(graph, graph)
    assert len(orders) == count == len(orders.unique(dim=0))
    assert list(range(graph.GetNumAtoms())) in orders.tolist()


def test_different_graphs_have_no_order():
    assert match_orders(graph_of('CCO'), graph_of('COC')).shape == (0, 3)  # hydrogens tell them apart
    assert match_orders(graph_of('CCC'), graph_of('C1CC1')).shape == (0, 3)
    assert match_orders(graph_of('CCC'), graph_of('CC')).shape == (0, 3)


@settings(max_examples=25, deadline=None)
@given(smiles=st.sampled_from(SMILES), seed=st.integers(0, 1000))
def test_a_turned_molecule_with_equivalent_atoms_exchanged_is_recognised(smiles, seed):
    g = torch.Generator().manual_seed(seed)
    mol = molecule(smiles)
    graph = atom_graph(mol, list(range(mol.GetNumAtoms())))
    target = embed_conformers(mol, 1, seed).pos[0]
    orders = match_orders(graph, graph)
    pos = target[orders[int(torch.randint(len(orders), (1, ), generator=g))]] @ random_rotations(1, 180, g)[0].T + 3
    leaves = leaf_groups(graph) if len(orders) == MAX_ORDERS else None
    assert rmsd(pos[best_order(pos, target, orders, leaves)], target) < 1e-4


def test_molecules_with_more_symmetries_than_can_be_listed():
    mol = molecule('CCCCCC')
    graph = atom_graph(mol, list(range(mol.GetNumAtoms())))
    orders = match_orders(graph, graph)
    assert len(orders) == MAX_ORDERS
    groups = leaf_groups(graph)
    assert sorted(map(len, groups)) == [2, 2, 2, 2, 3, 3]
    target = embed_conformers(mol, 1, 0).pos[0]
    turned = list(range(mol.GetNumAtoms()))
    for group in groups:  # one step around in each group
        for a, b in zip(group, group[1:] + group[:1], strict=True):
            turned[a] = b
    found = best_order(target[turned], target, orders, groups)
    assert sorted(found.tolist()) == list(range(20))
    assert rmsd(target[turned][found], target) < 1e-4 < 0.5 < rmsd(target[turned], target)


# Records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('hydrogens', [False, True])
@pytest.mark.parametrize('number', [0, 3, 17, 29])
def test_smiles_and_a_molfile_in_another_order_are_one_molecule(number, hydrogens):
    block, smiles, _ = shuffled(SAMPLE[number], number)
    found = read_relaxation(smiles, block, 3, hydrogens, seed=1)
    mol = molecule(smiles)
    z = [a.GetAtomicNum() for a in mol.GetAtoms()]
    assert found.z.tolist() == (z if hydrogens else [k for k in z if k > 1])
    for bond in mol.GetBonds():  # bonds of the SMILES are bonds of the geometry
        u, v = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if max(u, v) < len(found.z):
            assert 0.9 < float((found.relaxed[u] - found.relaxed[v]).norm()) < 1.7
    assert found.conformers.shape == (len(found.z), 3, 3) and 1 <= found.num_conformers <= 3
    ptr = torch.tensor([0, len(found.z)])
    for k in range(3):  # laid on the relaxed geometry
        off = found.conformers[:, k] - found.relaxed
        assert float(off.square().sum(1).mean().sqrt()) == pytest.approx(
            float(superposed_rmsd(found.conformers[:, k], found.relaxed, ptr)), abs=1e-4)


def test_relaxed_positions_are_those_of_the_file():
    data = SAMPLE[3]
    block, smiles, _ = shuffled(data)
    found = read_relaxation(smiles, block, 1, True, seed=1)
    distance = torch.cdist(found.relaxed, data.pos)
    assert float(distance.amin(1).max()) < 2e-4 and distance.argmin(1).sort().values.equal(torch.arange(len(data.z)))
    assert torch.equal(found.z.long(), data.z[distance.argmin(1)])


def test_no_other_choice_of_equivalent_atoms_is_nearer():
    block, smiles, _ = shuffled(SAMPLE[5])
    found = read_relaxation(smiles, block, 4, False, seed=2)
    graph = graph_of(smiles)
    for order in match_orders(graph, graph):
        for k in range(4):
            assert rmsd(found.conformers[order, k], found.relaxed) > rmsd(found.conformers[:, k], found.relaxed) - 1e-4


def test_a_molfile_alone_keeps_its_order():
    data = SAMPLE[8]
    block, _, order = shuffled(data)
    found = read_relaxation(None, block, 2, True, seed=0)
    assert found.z.tolist() == data.z[order].tolist()
    torch.testing.assert_close(found.relaxed, data.pos[order], atol=1e-4, rtol=0)
    bare = read_relaxation(None, block, 0, True, seed=0)
    assert torch.equal(bare.relaxed, found.relaxed) and bare.conformers is None
    heavy = read_relaxation(None, block, 0, False, seed=0)
    assert heavy.z.tolist() == [k for k in data.z[order].tolist() if k > 1]


def test_a_smiles_alone_has_conformers():
    found = read_relaxation('CCO', None, 5, False, seed=0)
    assert found.relaxed is None and found.conformers.shape == (3, 5, 3) and found.z.tolist() == [6, 6, 8]


def test_few_conformers_recur():
    found = read_relaxation('C1#CC1', None, 3, False, seed=0)
    assert found.num_conformers == 1 and METHODS[found.method] == 'flat'
    assert torch.equal(found.conformers[:, 0], found.conformers[:, 2])


def test_a_molfile_without_hydrogens():
    data = SAMPLE[3]
    block, smiles = as_file(data, hydrogens=False)
    found = read_relaxation(smiles, block, 2, False, seed=0)
    assert float(torch.cdist(found.relaxed, data.pos).amin(1).max()) < 2e-4
    with pytest.raises(ValueError, match='SMILES and molfile are different molecules'):
        read_relaxation(smiles, block, 2, True, seed=0)


def test_hydrogen_molecules_keep_their_atoms():
    assert read_relaxation('[H][H]', None, 1, False, seed=0).z.tolist() == [1, 1]


@pytest.mark.parametrize('smiles, block, message', [
    ('C(C', None, 'RDKit refuses the SMILES'),
    ('', None, 'RDKit refuses the SMILES'),
    ('C[C](C)(C)(C)C', None, 'RDKit refuses the SMILES'),
    ('CCO', 'nothing', 'RDKit cannot read the molfile'),
    (None, None, "give 'smiles', 'block' or both"),
    ('COC', 'CCO', r'SMILES and molfile are different molecules \(3 and 3 atoms\)'),
    ('CCC', 'CCO', r'SMILES and molfile are different molecules \(3 and 3 atoms\)'),
    ('CCCO', 'CCO', r'SMILES and molfile are different molecules \(4 and 3 atoms\)'),
    (None, 'pentavalent', 'RDKit refuses the molfile'),
    ('CCO', 'nan', 'a coordinate of the molfile is not finite'),
])
def test_errors(smiles, block, message):
    if block in ('CCO', 'nan', 'pentavalent'):
        mol = molecule('CCO' if block != 'pentavalent' else 'CC')
        pos = embed_conformers(mol, 1, 0).pos[0].double().numpy()
        if block == 'nan':
            pos[1, 1] = math.nan
        editable = Chem.RWMol(mol)
        if block == 'pentavalent':
            editable.GetBondBetweenAtoms(0, 1).SetBondType(Chem.BondType.TRIPLE)
        conformer = Chem.Conformer(len(pos))
        conformer.SetPositions(pos)
        editable.AddConformer(conformer)
        block = Chem.MolToMolBlock(editable, kekulize=False, forceV3000=block == 'nan')
    with pytest.raises(ValueError, match=message):
        read_relaxation(smiles, block, 2, False, seed=0)


# Files --------------------------------------------------------------------------------------------------------------


def test_records_of_a_file_are_streamed(tmp_path):
    path = tmp_path / 'a.sdf'
    blocks = [as_file(SAMPLE[i])[0] for i in range(5)]
    path.write_text(''.join(f'{block}$$$$\n' for block in blocks))
    assert list(sdf_blocks(path)) == blocks and count_sdf(path) == 5
    path.write_text(path.read_text() + blocks[0])
    with pytest.raises(ValueError, match='the file ends within a record'):
        list(sdf_blocks(path))
    path.write_bytes(b'')
    assert list(sdf_blocks(path)) == [] and count_sdf(path) == 0


def test_records_that_lie_across_parts_are_counted_once(tmp_path):
    path = tmp_path / 'a.sdf'
    block = 'x' * 1021 + '\n$$$$\n'  # 1,027 bytes: the ends move through the borders of 16 MiB
    path.write_text(block * 40_000)
    assert count_sdf(path) == 40_000
