import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rdkit')

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.frames import inertial_frames, to_frame
from torch_geometric_inertial.testing import degenerate_molecules, random_motion

MOLECULES = degenerate_molecules()
quick = settings(max_examples=30, deadline=None)


def ordered(z, pos, bonds, order):
    ptr = torch.tensor([0, len(z)])
    pos = to_frame(pos, inertial_frames(pos, z, ptr), ptr)
    perm = canonical_order(z, pos, ptr, bonds, order)
    place = torch.empty_like(perm).index_copy_(0, perm, torch.arange(len(perm)))
    return z[perm], pos[perm], place[bonds]


def tree(seed, size):
    """A random tree of carbons and hydrogens with random coordinates: most graph ties are hydrogens."""
    generator = torch.Generator().manual_seed(seed)
    parent = [int(torch.randint(0, k, (), generator=generator)) for k in range(1, size)]
    z = torch.tensor([6 if k in parent else 1 for k in range(size)])
    pos = 2 * torch.randn(size, 3, generator=generator, dtype=torch.float64)
    return z, pos, torch.tensor([parent, list(range(1, size))], dtype=torch.long)


def connected(edges, size):
    """Whether each atom after the first has an earlier neighbor."""
    late = edges.max(0).values
    return set(range(1, size)) <= set(late.tolist())


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(1, 14), order=st.sampled_from(ORDERS))
def test_the_sequence_does_not_depend_on_labels_and_bond_order(seed, size, order):
    z, pos, bonds = tree(seed, size)
    generator = torch.Generator().manual_seed(seed + 1)
    label = torch.randperm(size, generator=generator)
    place = torch.empty_like(label).index_copy_(0, label, torch.arange(size))
    shuffled = place[bonds].flip(0)[:, torch.randperm(bonds.size(1), generator=generator)]
    a = ordered(z, pos, bonds, order)
    b = ordered(z[label], pos[label], torch.cat([shuffled, shuffled.flip(0)], 1), order)
    assert torch.equal(a[0], b[0])
    torch.testing.assert_close(a[1], b[1], atol=1e-9, rtol=0)


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(2, 14), order=st.sampled_from(('smiles', 'heavy_first')))
def test_each_atom_is_bonded_to_an_earlier_one(seed, size, order):
    z, pos, bonds = tree(seed, size)
    z_out, _, edges = ordered(z, pos, bonds, order)
    if order == 'heavy_first':
        assert (z_out.diff() <= 0).all()
        parents = [int(edges[:, (edges == i).any(0)].amin()) for i in (z_out == 1).nonzero().view(-1).tolist()]
        if (z_out > 1).any():
            assert parents == sorted(parents)
    assert connected(edges, size)


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('name', MOLECULES)
def test_degenerate_molecules(name, order):
    molecule = MOLECULES[name]
    bonds = distance_bonds(molecule.pos, molecule.z, torch.tensor([0, len(molecule.z)]))
    a = ordered(molecule.z, molecule.pos, bonds, order)
    if order != 'rank':
        assert connected(a[2], len(molecule.z))
    for seed in range(3):
        other = random_motion(molecule, seed)
        b = ordered(other.z, other.pos, distance_bonds(other.pos, other.z, torch.tensor([0, len(other.z)])), order)
        assert torch.equal(a[0], b[0])
        torch.testing.assert_close(a[1], b[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', ['furan', 'dimethyl ether', 'trimethylamine', 'CHFClBr R', 'allene'])
def test_smiles_order_is_a_visit_order_of_rdkit(name):
    """Writing the molecule in canonical order, without canonical ranks, spells RDKit's canonical SMILES."""
    from rdkit import Chem

    from torch_geometric_inertial.chem.order import _skeleton

    molecule = MOLECULES[name]
    bonds = distance_bonds(molecule.pos, molecule.z, torch.tensor([0, len(molecule.z)]))
    z, _, edges = ordered(molecule.z, molecule.pos, bonds, 'smiles')
    mol = _skeleton(z.tolist(), edges.T.tolist())
    text = Chem.MolToSmiles(mol)
    parser = Chem.SmilesParserParams()
    parser.sanitize, parser.removeHs = False, False
    written = [atom.GetAtomicNum() for atom in Chem.MolFromSmiles(text, parser).GetAtoms()]
    assert z.tolist() == written


def test_heavy_first_groups_hydrogens_by_parent():
    molecule = MOLECULES['dimethyl ether']
    bonds = distance_bonds(molecule.pos, molecule.z, torch.tensor([0, len(molecule.z)]))
    z, _, edges = ordered(molecule.z, molecule.pos, bonds, 'heavy_first')
    assert z.tolist() == [6, 8, 6, 1, 1, 1, 1, 1, 1]
    assert sorted(map(sorted, edges.T.tolist())) == [[0, 1], [0, 3], [0, 4], [0, 5], [1, 2], [2, 6], [2, 7], [2, 8]]


def test_heavy_first_does_not_look_at_the_hydrogens():
    """Taking all hydrogens away leaves the order of the heavy atoms: it tells nothing of their number."""
    for data in QM9Sample()[::50]:
        heavy, (n, m) = data.z > 1, (data.num_nodes, int((data.z > 1).sum()))
        place = heavy.long().cumsum(0) - 1
        bonds = place[data.edge_index[:, heavy[data.edge_index].all(0)]]
        whole = canonical_order(data.z, data.pos, torch.tensor([0, n]), data.edge_index, 'heavy_first')
        alone = canonical_order(data.z[heavy], data.pos[heavy], torch.tensor([0, m]), bonds, 'heavy_first')
        assert torch.equal(place[whole[:m]], alone)


def test_methyl_hydrogens_follow_their_turn_about_the_bond():
    """In methanol the turns about C–O, counted from O–H, ascend, and noise keeps the order."""
    angles = [math.pi / 3, math.pi, 5 * math.pi / 3]
    hydrogens = [(-0.36, 1.03 * math.cos(t), 1.03 * math.sin(t)) for t in angles]
    pos = torch.tensor([(0., 0, 0), (1.42, 0, 0), (1.74, 0.9, 0), *hydrogens], dtype=torch.float64)
    z, bonds = torch.tensor([6, 8, 1, 1, 1, 1]), torch.tensor([[0, 1, 0, 0, 0], [1, 2, 3, 4, 5]])
    perm = canonical_order(z, pos, torch.tensor([0, 6]), bonds)
    hydrogens = [i for i in perm.tolist() if i >= 3]
    # Seen along O -> C the same three come in one sense of rotation, whatever the pose.
    assert hydrogens == [5, 4, 3]
    for seed in range(20):
        noise = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert torch.equal(canonical_order(z, pos + 0.05 * noise, torch.tensor([0, 6]), bonds), perm)


def test_a_batch_is_its_molecules():
    molecules = [tree(seed, size) for seed, size in enumerate((1, 5, 9, 2, 12))]
    ptr = torch.tensor([0, *(len(z) for z, _, _ in molecules)]).cumsum(0)
    z, pos = torch.cat([m[0] for m in molecules]), torch.cat([m[1] for m in molecules])
    bonds = torch.cat([m[2] + first for m, first in zip(molecules, ptr[:-1].tolist(), strict=True)], 1)
    for order in ORDERS:
        single = [canonical_order(*m[:2], torch.tensor([0, len(m[0])]), m[2], order) + first
                  for m, first in zip(molecules, ptr[:-1].tolist(), strict=True)]
        assert torch.equal(canonical_order(z, pos, ptr, bonds, order), torch.cat(single))


def test_fragments_and_lone_atoms_have_an_order():
    z, pos = torch.tensor([1, 8, 1, 1, 8, 1, 2]), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    bonds = torch.tensor([[0, 1, 3, 4], [1, 2, 4, 5]])
    for order in ORDERS:
        perm = canonical_order(z, pos, torch.tensor([0, 7]), bonds, order)
        assert sorted(perm.tolist()) == list(range(7))


def arguments(**changed):
    return {'z': torch.tensor([1, 8, 1]), 'pos': torch.eye(3), 'ptr': torch.tensor([0, 3]),
            'bonds': torch.tensor([[0, 1], [1, 2]]), **changed}


@pytest.mark.parametrize('changed, message', [
    ({'order': 'random'}, r"'order' must be one of 'smiles', 'heavy_first', 'rank' \(got 'random'\)"),
    ({'z': torch.tensor([1, 0, 1])}, r"'z' must lie between 1 and 118 \(got 0 at atom 1\)"),
    ({'bonds': torch.tensor([[0], [3]])}, r"'edge_index' must connect atoms of the same molecule, .*\(got 0 to 3\)"),
    ({'bonds': torch.tensor([[-1], [1]])}, "'edge_index' must connect atoms of the same molecule"),
    ({'ptr': torch.tensor([0, 1, 3])}, "'edge_index' must connect atoms of the same molecule"),
])
def test_bad_input_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        canonical_order(**arguments(**changed))
