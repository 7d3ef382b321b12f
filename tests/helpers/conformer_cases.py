"""Molecules with cheap conformers and relaxed geometries, made by a rule that can be learned."""
import torch

from torch_geometric_inertial import GeoMFormer
from torch_geometric_inertial.frames import random_rotations
from torch_geometric_inertial.training import PackedTargets


def conformer_set(num=24, conformers=3, seed=0):
    """Bent three-atom molecules that differ in the length of their first bond, of which the gap is made. Conformers are
    the relaxed geometry, stretched by a tenth and turned."""
    g = torch.Generator().manual_seed(seed)
    length = 1 + torch.rand(num, generator=g)
    relaxed = torch.tensor([[0.0, 0, 0], [0, 0, 0], [-0.4, 1.1, 0]]).repeat(num, 1, 1)
    relaxed[:, 1, 0] = length
    turn = random_rotations(num * conformers, 180, g).view(num, conformers, 3, 3)
    cheap = torch.einsum('mkij,mnj->mnki', turn, 1.1 * relaxed)
    z = torch.tensor([8, 6, 1]).repeat(num)
    return PackedTargets(3 * torch.arange(num + 1),
                         dict(z=z, pos=cheap[:, :, 0].flatten(0, 1), conformers=cheap.flatten(0, 1),
                              pos_relaxed=relaxed.flatten(0, 1)),
                         dict(gap=length.double() + 5, num_conformers=torch.full((num, ), conformers)))


def small_model(**changes):
    fields = dict(elements=(1, 6, 8), channels=16, heads=2, num_layers=1, num_kernels=8, scalar_head='mean',
                  vector_head='position') | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GeoMFormer(**fields)
