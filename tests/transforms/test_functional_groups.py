import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import FunctionalGroups
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.testing import random_motion

pytest.importorskip('rdkit')


@pytest.fixture(scope='module')
def sample():
    return [Data(z=d.z, pos=d.pos, edge_index=d.edge_index, edge_attr=d.edge_attr) for d in QM9Sample()[:300]]


def test_groups_of_a_batch_are_those_of_its_molecules(sample):
    transform = FunctionalGroups()
    singles = [transform(data) for data in sample[:20]]
    batch = transform(Batch.from_data_list(sample[:20]))
    assert batch.groups.shape == (20, 20) and batch.groups.dtype == torch.uint8
    assert torch.equal(batch.groups, torch.cat([data.groups for data in singles]))
    for a, b in zip(batch.to_data_list(), singles, strict=True):
        assert torch.equal(a.groups, b.groups) and torch.equal(a.edge_index, b.edge_index)
    assert 'groups' not in sample[0]  # a transform does not change its input


def test_pose_and_numbering_do_not_matter(sample):
    transform = FunctionalGroups()
    for seed, data in enumerate(sample[:40]):
        plain = Data(z=data.z, pos=data.pos)
        try:
            expected = transform(plain).groups
        except ValueError:
            continue
        assert torch.equal(transform(random_motion(plain, seed)).groups, expected)


def test_bonds_by_distance_find_the_groups_of_stored_bonds(sample):
    """Where RDKit finds a neutral molecule, which it does for 94.5 % of QM9 and more of its small molecules."""
    transform, equal, refused = FunctionalGroups(), 0, 0
    for data in sample:
        try:
            equal += torch.equal(transform(Data(z=data.z, pos=data.pos)).groups, transform(data).groups)
        except ValueError as error:
            assert 'RDKit finds no neutral molecule' in str(error)
            refused += 1
    assert equal + refused == len(sample) and refused < 20


def test_a_vocabulary_of_ones_own():
    transform = FunctionalGroups({'oxygen': '[#8]', 'water': '[OX2;H2]'})
    assert transform.names == ('oxygen', 'water') and repr(transform) == 'FunctionalGroups(2 groups)'
    water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    assert transform(water).groups.tolist() == [[1, 1]]
    assert len(FunctionalGroups.names) == 20 and FunctionalGroups('drugs').names != FunctionalGroups.names


def test_errors():
    with pytest.raises(ValueError, match=r"'vocabulary' must be one of qm9, drugs"):
        FunctionalGroups('qm8')
    with pytest.raises(ValueError, match=r"the SMARTS of group 'odd' does not parse \(got '\[OX2'\)"):
        FunctionalGroups({'fine': 'C', 'odd': '[OX2'})
    with pytest.raises(ValueError, match=r"data needs atomic numbers 'z' and positions 'pos'"):
        FunctionalGroups()(Data(z=torch.tensor([6])))
    with pytest.raises(ValueError, match=r"'perception' must be one of"):
        FunctionalGroups(perception='guess')(Data(z=torch.tensor([6]), pos=torch.zeros(1, 3)))


def test_packed_molecules_are_told_apart(sample):
    batch = Batch.from_data_list(sample[:8])
    fields = {name: batch[name] for name in ('z', 'pos', 'edge_index', 'edge_attr')}
    expected = FunctionalGroups()(batch).groups
    for keep in ('ptr', 'batch'):
        assert torch.equal(FunctionalGroups()(Data(**fields, **{keep: batch[keep]})).groups, expected)
