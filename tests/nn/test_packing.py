import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn.packing import Packing

lengths = st.lists(st.integers(0, 6), min_size=1, max_size=6)


def ptr_of(length):
    return torch.tensor([0, *length]).cumsum(0)


@given(length=lengths, trailing=st.lists(st.integers(1, 3), max_size=2))
def test_unpad_inverts_pad(length, trailing):
    packing = Packing(ptr_of(length))
    x = torch.arange(1.0, 1 + sum(length) * torch.Size(trailing).numel()).view(sum(length), *trailing)
    padded = packing.pad(x, fill=-7)
    assert padded.shape == (len(length), max(length), *trailing)
    assert torch.equal(packing.unpad(padded), x)
    assert (padded[~packing.mask()] == -7).all()


@given(length=lengths)
def test_each_token_stands_in_its_sequence(length):
    packing = Packing(ptr_of(length))
    assert packing.length.tolist() == length
    assert packing.batch.tolist() == [b for b, n in enumerate(length) for _ in range(n)]
    assert packing.slot.tolist() == [i for n in length for i in range(n)]
    assert packing.size == (len(length), max(length))
    assert packing.mask().sum(1).tolist() == length


def test_no_sequences():
    packing = Packing(torch.tensor([0]))
    assert packing.size == (0, 0) and packing.pad(torch.zeros(0, 2)).shape == (0, 0, 2)


@pytest.mark.parametrize('ptr', [torch.zeros(2, 2, dtype=torch.long), torch.tensor([], dtype=torch.long),
                                 torch.tensor([0.0, 2.0])], ids=str)
def test_offsets_of_the_wrong_kind(ptr):
    with pytest.raises(ValueError, match=r"'ptr' must be integer offsets of shape \[B \+ 1\]"):
        Packing(ptr)


@pytest.mark.parametrize('ptr', [[0, 3, 2], [1, 3]], ids=str)
def test_offsets_of_the_wrong_values(ptr):
    with pytest.raises(ValueError, match=r"'ptr' must start at 0 and not descend \(got \["):
        Packing(torch.tensor(ptr))
