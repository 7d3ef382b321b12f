import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn.environment import EnvironmentReadout
from torch_geometric_inertial.nn.local_frame import LocalFrameBuilder, find_parents
from torch_geometric_inertial.testing import random_rotation


def setting(seed, size=7):
    g = torch.Generator().manual_seed(seed)
    pos = torch.randn(1, size, 3, generator=g, dtype=torch.float64)
    radius = torch.full((1, size), 0.76, dtype=torch.float64)
    query, memory = torch.randn(1, 8, generator=g), torch.randn(1, size, 8, generator=g)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        readout = EnvironmentReadout(8, 4, 12)
    return readout, pos, radius, query, memory, torch.randint(4, (1, size), generator=g)


def around_last(pos, radius, target='local'):
    parent, count = find_parents(pos, radius)[:, -1:], torch.tensor([[pos.size(1) - 1]])
    return LocalFrameBuilder(target, 5)(pos, radius, parent, count).map(lambda x: x.squeeze(1))


@given(seed=st.integers(0, 10**6))
def test_what_is_around_looks_the_same_from_every_side(seed):
    readout, pos, radius, query, memory, types = setting(seed)
    turn = random_rotation(seed)
    a, b = (readout(query, memory, types, torch.tensor([0]), around_last(p, radius)) for p in (pos, pos @ turn.T))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@given(seed=st.integers(0, 10**6))
def test_slots_that_hold_no_atom_say_nothing(seed):
    readout, pos, radius, query, memory, types = setting(seed, 4)
    around = around_last(pos, radius)
    assert not around.valid.all()
    spoilt = around._replace(offset=torch.where(around.valid.unsqueeze(-1), around.offset, 9.0),
                             slots=torch.where(around.valid, around.slots, 1))
    row = torch.tensor([0])
    assert torch.equal(readout(query, memory, types, row, around), readout(query, memory, types, row, spoilt))
