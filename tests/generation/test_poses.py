from unittest.mock import patch

import torch
from helpers.generators import FAST, spread_out
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.generation import Scaffold, poses
from torch_geometric_inertial.generation.poses import propose_poses


@given(seed=st.integers(0, 2**30), size=st.integers(1, 9), whole=st.booleans(),
       hydrogens=st.sampled_from(['last', 'between', 'anywhere']))
def test_poses_are_rigid_motions_and_permutations(seed, size, whole, hydrogens):
    generator = torch.Generator().manual_seed(seed)
    data = spread_out(generator, size, [1, 6, 8])
    pos = data.pos.double() + 7
    scaffold = Scaffold(data.z, data.z, pos, hydrogens, 6, whole)
    found = propose_poses(scaffold, generator)
    moved = found.positions(pos)
    assert moved.shape == (6, size, 3)
    for k in range(6):
        perm = found.perm[k]
        assert sorted(perm.tolist()) == list(range(size))
        torch.testing.assert_close(found.rotation[k].det(), torch.tensor(1.0).double())
        torch.testing.assert_close(found.select(k).restore(pos, moved[k]), pos[perm], atol=1e-9, rtol=0)
        if hydrogens == 'last':
            z = data.z[perm]
            assert z[:scaffold.num_prefix].min() > 1 or z.max() == 1
            assert (z[scaffold.num_prefix:] == 1).all()
    assert moved.mean(1).norm(dim=1).max() < (3 if whole else 7)


def test_the_pose_is_drawn_by_the_likelihood(make_model):
    """A model that gives nearly all weight to one candidate takes it."""
    model = make_model(order='heavy_first')
    scaffold = spread_out(torch.Generator().manual_seed(1), 4, [6, 8])
    prefill, expected, begun = model.network.prefill, [], []

    def score(data, noise):
        score = torch.zeros(data.ptr.numel() - 1)
        score[5::8] = 50.0
        return score

    def propose(scaffold, generator):
        found = propose_poses(scaffold, generator)
        expected.append(found.positions(scaffold.pos)[5, 0].float())
        return found

    def begin(types, pos, ptr, *others):
        begun.extend(pos[ptr[:-1]])
        return prefill(types, pos, ptr, *others)

    with (patch.object(model.network, 'prefill', begin), patch.object(poses, 'propose_poses', propose),
          patch.object(model.network, 'prefix_log_prob', score)):
        model.complete(scaffold, 3, **FAST)
    assert len(begun) == 3
    torch.testing.assert_close(torch.stack(begun), torch.stack(expected))
