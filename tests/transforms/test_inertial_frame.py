import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.elements import ATOMIC_MASSES
from torch_geometric_inertial.testing import degenerate_molecules, random_motion
from torch_geometric_inertial.transforms import InertialFrame

MOLECULES = degenerate_molecules()


@pytest.mark.parametrize('name', MOLECULES)
def test_writes_pose_and_invert_gives_it_back(name):
    molecule = random_motion(MOLECULES[name], 3)
    out = InertialFrame()(molecule)
    assert out.center.shape == (1, 3) and out.frame.shape == (1, 3, 3) and out.frame_margin.shape == (1,)
    torch.testing.assert_close(torch.linalg.det(out.frame), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(out.pos.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    back = InertialFrame.invert(out)
    torch.testing.assert_close(back.pos, molecule.pos, atol=1e-9, rtol=0)
    assert set(back.keys()) == {'z', 'pos'} and 'frame' in out


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_input_is_left_alone_and_the_type_kept(dtype):
    molecule = MOLECULES['furan'].clone()
    molecule.pos = molecule.pos.to(dtype)
    before = molecule.pos.clone()
    out = InertialFrame()(molecule)
    assert torch.equal(molecule.pos, before) and 'frame' not in molecule
    assert {out.pos.dtype, out.center.dtype, out.frame.dtype, out.frame_margin.dtype} == {dtype}


def test_a_batch_is_its_molecules_and_comes_apart():
    molecules = list(MOLECULES.values())
    singles = [InertialFrame()(m) for m in molecules]
    batch = InertialFrame()(Batch.from_data_list(molecules))
    assert batch.center.shape == (len(molecules), 3) and batch.frame.shape == (len(molecules), 3, 3)
    for single, part in zip(singles, batch.to_data_list(), strict=True):
        for key in ('z', 'pos', 'center', 'frame', 'frame_margin'):
            torch.testing.assert_close(part[key], single[key], atol=1e-9, rtol=0)
    collated = Batch.from_data_list(singles)
    torch.testing.assert_close(InertialFrame.invert(collated).pos, torch.cat([m.pos for m in molecules]),
                               atol=1e-9, rtol=0)


def test_center_of_mass():
    molecule = MOLECULES['HCN']
    mass = ATOMIC_MASSES[molecule.z]
    out = InertialFrame(weight='mass')(molecule)
    torch.testing.assert_close((mass[:, None] * out.pos).sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert not torch.allclose(out.center, InertialFrame()(molecule).center)


def test_vectors_follow_by_the_frame():
    molecule = random_motion(MOLECULES['CHFClBr R'], 1)
    force = molecule.pos - molecule.pos[0]
    out = InertialFrame()(molecule)
    torch.testing.assert_close(force @ out.frame[0], out.pos - out.pos[0], atol=1e-9, rtol=0)


def test_draws_come_from_the_generator_alone():
    molecule = MOLECULES['trimethylamine']
    before = torch.random.get_rng_state()

    def draws(transform):
        return torch.stack([transform(molecule).frame for _ in range(12)])

    first = draws(InertialFrame(ambiguity='sample', generator=7))
    assert torch.equal(first, draws(InertialFrame(ambiguity='sample', generator=torch.Generator().manual_seed(7))))
    assert len({tuple(f.flatten().tolist()) for f in first}) > 1
    assert torch.equal(before, torch.random.get_rng_state())


def test_functional_name_copy_and_repr():
    transform = InertialFrame(weight='mass')
    assert repr(transform) == "InertialFrame(weight='mass', ambiguity='first')"
    molecule = MOLECULES['H2O']
    for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        assert torch.equal(other(molecule).pos, transform(molecule).pos)


@pytest.mark.parametrize('arguments, message', [
    ({'weight': 'charge'}, r"'weight' must be one of 'unit', 'mass' \(got 'charge'\)"),
    ({'ambiguity': 'last'}, r"'ambiguity' must be one of 'first', 'sample' \(got 'last'\)"),
    ({'spread': -0.1}, r"'spread' must lie between 0 and 1 \(got -0.1\)"),
])
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        InertialFrame(**arguments)


Z, POS = torch.tensor([1, 8]), torch.tensor([[0., 0, 0], [1, 0, 0]])


@pytest.mark.parametrize('data, message', [
    (Data(z=Z), r"'InertialFrame' needs atom positions in 'data.pos' \(got Data\(z=\[2\]\)\)"),
    (Data(pos=POS), r"'InertialFrame' needs atomic numbers in 'data.z'"),
    (Data(pos=POS[:0], z=Z[:0]), "'InertialFrame' needs at least one atom"),
    (Data(pos=POS[:, :2], z=Z), r"'pos' must be a floating point tensor of shape \[T, 3\]"),
    (Data(pos=POS, z=Z[:1]), r"'z' must hold one atomic number for each of the 2 positions \(got shape \[1\]\)"),
    (Data(pos=POS * float('inf'), z=Z), "'pos' must be finite"),
    (Data(pos=POS.double() * 1e300, z=Z), r"'pos' must lie within 1e\+06 Å of the origin"),
    (Data(pos=POS * 0.3, z=Z), r'must be at least 0.4 Å apart \(got 0.3 Å between atom 0, H, and atom 1, O\)'),
    (Data(pos=POS, z=torch.tensor([0, 8])), r"'z' must lie between 1 and 118 \(got 0 at atom 0\)"),
    (Data(pos=POS, z=Z, ptr=torch.tensor([0, 1, 3])), r"'ptr' must ascend from 0 to the number of atoms, 2"),
    (Data(pos=POS, z=Z, batch=torch.tensor([1, 0])), "'batch' must ascend from 0"),
    (Data(pos=POS, z=Z, edge_index=torch.tensor([[0], [2]])), "'edge_index' must connect atoms of the same molecule"),
])
def test_bad_data_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        InertialFrame()(data)


def test_an_element_without_mass_is_named():
    with pytest.raises(ValueError, match=r"'z' must lie between 1 and 118 \(got 200 at atom 1\)"):
        InertialFrame(weight='mass')(Data(pos=POS, z=torch.tensor([1, 200])))


@pytest.mark.parametrize('missing', ['pos', 'center', 'frame'])
def test_invert_names_what_is_missing(missing):
    data = InertialFrame()(MOLECULES['H2O'])
    del data[missing]
    if missing == 'pos':
        data.num_nodes = 3
    with pytest.raises(ValueError, match=f"'InertialFrame.invert' needs 'data.{missing}'"):
        InertialFrame.invert(data)


def test_invert_needs_one_center_a_molecule():
    data = InertialFrame()(MOLECULES['H2O'])
    data.center = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"'data.center' must hold one center for each of the 1 molecules \(got 2\)"):
        InertialFrame.invert(data)


def test_packed_molecules_are_told_apart():
    batch = Batch.from_data_list(list(MOLECULES.values()))
    expected = InertialFrame()(batch)
    for keep in ('ptr', 'batch'):
        packed = InertialFrame()(Data(z=batch.z, pos=batch.pos, **{keep: batch[keep]}))
        assert torch.equal(packed.pos, expected.pos) and torch.equal(packed.center, expected.center)
        torch.testing.assert_close(InertialFrame.invert(packed).pos, batch.pos, atol=1e-9, rtol=0)
