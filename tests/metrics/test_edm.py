r"""Stability by distance tables."""
import pytest
import torch
from helpers.molecules_by_hand import BY_HAND, METHANE, WATER
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.metrics import stability

CASES = [(name, *case) for name, case in BY_HAND.items()]


@pytest.mark.parametrize('name, data, num_stable, stable', [case[:4] for case in CASES])
def test_by_hand(name, data, num_stable, stable):
    found = stability([data])
    assert found.num_stable.tolist() == [num_stable]
    assert found.molecule.tolist() == [stable]
    assert found.num_atoms.tolist() == [0 if data is None else data.num_nodes]


def test_many_at_once_equal_each_alone():
    molecules = [case[0] for case in BY_HAND.values()]
    found = stability(molecules)
    assert found.num_stable.tolist() == [case[1] for case in BY_HAND.values()]
    assert found.molecule.tolist() == [case[2] for case in BY_HAND.values()]
    assert found.atom.sum() == found.num_stable.sum()


def test_shares():
    found = stability([METHANE, WATER, BY_HAND['methyl'][0]], num_requested=4)
    assert found.atom_share == (5 + 3 + 3) / (5 + 3 + 4)
    assert found.molecule_share == 2 / 4
    nothing = stability([])
    assert nothing.atom_share == nothing.molecule_share == 0


def test_a_batch_is_a_list():
    batch = Batch.from_data_list([METHANE, WATER])
    assert stability(batch).num_stable.tolist() == [5, 3]


def test_the_protocol_says_which_elements():
    hcl = Data(z=torch.tensor([17, 1]), pos=torch.tensor([[0.0, 0, 0], [1.27, 0, 0]]))
    assert stability([hcl], 'edm-geom').molecule.tolist() == [True]
    assert stability([hcl], 'edm-qm9').molecule.tolist() == [False]
    with pytest.raises(ValueError, match=r"'protocol' must be one of bonds, edm-geom, .*\(got 'xyz2mol'\)"):
        stability([hcl], 'xyz2mol')


def test_inputs_stay_and_precision_does_not_matter():
    pos = METHANE.pos.clone()
    for dtype in (torch.float64, torch.float32):
        data = Data(z=METHANE.z.to(torch.int32), pos=METHANE.pos.to(dtype).requires_grad_())
        assert stability([data]).num_stable.tolist() == [5]
    assert torch.equal(METHANE.pos, pos)


@pytest.mark.parametrize('data, message', [
    (Data(pos=torch.zeros(1, 3)), "molecule 1 needs atomic numbers 'z' and positions 'pos'"),
    (Data(z=torch.ones(1)), "molecule 1 needs atomic numbers 'z' and positions 'pos'"),
    (Data(z=torch.ones(1), pos=torch.zeros(1, 2)),
     r"molecule 1 needs 'z' \[N\] and 'pos' \[N, 3\] \(got \[1\] and \[1, 2\]\)"),
    (Data(z=torch.ones(2), pos=torch.zeros(1, 3)), r"molecule 1 needs 'z' \[N\] and 'pos' \[N, 3\]"),
    (Data(z=torch.ones(1, 1), pos=torch.zeros(1, 3)), r"molecule 1 needs 'z' \[N\] and 'pos' \[N, 3\]"),
])
def test_malformed_molecules(data, message):
    with pytest.raises(ValueError, match=message):
        stability([WATER, data])


def test_more_than_requested():
    with pytest.raises(ValueError, match=r"'num_requested' must be at least the number of molecules, 2 \(got 1\)"):
        stability([WATER, METHANE], num_requested=1)
