r"""Images as atoms with features of their own."""
import pytest
import torch
from helpers.periodic import ALL, CUTOFF, SLAB, crystal, geomformer, ghostly, predict
from helpers.predictors import close, cloud, run
from torch_geometric.data import Data

from torch_geometric_inertial.testing import random_rotation


def roomy(size=8, pbc=SLAB):
    """A cell of at least twice the cutoff."""
    return crystal(size, 0, pbc, ((7.0, 0, 0.3), (1.5, 7.1, 0), (0, 0, 9)))


@pytest.mark.parametrize('fields', [dict(), dict(equivariant_init='neighbors', directional=True), dict(dense_size=0)])
def test_ghosts_keep_pose_numbering_and_batch(fields):
    model, data = ghostly(**fields), roomy()
    energy, forces = predict(model, data)
    assert (energy - run(model, data)[0]).abs() > 1e-4  # the images are seen
    assert forces.shape == data.pos.shape and forces.sum(0).abs().max() < 1e-9
    order, turn = torch.randperm(8, generator=torch.Generator().manual_seed(0)), random_rotation(2)
    other = Data(z=data.z[order], pos=data.pos[order] @ turn.T + 5, cell=data.cell @ turn.T, pbc=data.pbc)
    other_energy, other_forces = predict(model, other)
    close(other_energy, energy)
    close(other_forces, forces[order] @ turn.T, 1e-9)
    single = cloud(3, 1)
    both = model(torch.cat([single.z, data.z]), torch.cat([single.pos, data.pos]),
                 torch.repeat_interleave(torch.tensor([3, 8])), cell=torch.stack([0 * data.cell, data.cell]),
                 pbc=torch.stack([~ALL, SLAB]))
    close(both[0][1:], energy)
    close(both[1][3:], forces)
    close(both[0][:1], run(model, single)[0])


def test_ghosts_are_atoms():
    """What the model sees is the cluster of atoms and ghosts; what it gives is the part of the atoms."""
    model, data = ghostly(vector_head='direct'), roomy()
    shifts = torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3)).double()
    shifts = shifts[shifts.any(1)] @ data.cell[:2]
    images = (data.pos + shifts[:, None]).flatten(0, 1)
    near = torch.cdist(images, data.pos).amin(1) <= CUTOFF
    assert 0 < near.sum() < len(images)
    cluster = model.prepare(torch.cat([data.z, data.z.repeat(len(shifts))[near]]), torch.cat([data.pos, images[near]]))
    ghosts = model.prepare(data.z, data.pos, cell=data.cell, pbc=SLAB)
    assert len(ghosts.types) == len(cluster.types) and ghosts.own.tolist() == list(range(8))
    cluster.pos = cluster.pos + cluster.center - data.pos.mean(0)  # directions from the centroid of the atoms alone
    (s, v), (other_s, other_v) = model.encode(cluster), model.encode(ghosts)
    close(s[:8], other_s[:8])
    close(v[0][:8], other_v[0][:8])


def test_ghosts_see_less_than_the_crystal_does():
    """An image has fewer neighbors than its atom: two cells have not twice the energy, unlike in the exact mode."""
    data = roomy(40, ALL)
    changes = []
    for periodic in ('ghost', 'exact'):
        model = geomformer(periodic=periodic)
        energy, _ = predict(model, data)
        double = data.cell * torch.tensor([[2.0], [1], [1]], dtype=torch.float64)
        other, _ = model(data.z.repeat(2), torch.cat([data.pos, data.pos + data.cell[0]]), cell=double, pbc=ALL)
        changes.append(float((other - 2 * energy).detach().abs()))
    assert changes[0] > 1e-4 and changes[1] < 1e-9


def test_velocities_of_ghosts_are_those_of_their_atoms():
    model, data = ghostly(velocity='merged', vector_head='position', scalar_head='none'), roomy()
    vel = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turn = random_rotation(2)
    _, moved = predict(model, data, vel=vel)
    turned = Data(z=data.z, pos=data.pos @ turn.T, cell=data.cell @ turn.T, pbc=SLAB)
    close(predict(model, turned, vel=vel @ turn.T)[1], moved @ turn.T, 1e-9)
    origin = model.prepare(data.z, data.pos, vel=vel, cell=data.cell, pbc=SLAB)
    assert len(origin.vel) > 8 and set(map(tuple, origin.vel.tolist())) == set(map(tuple, vel.tolist()))
