"""Molecules and small models for the tests of the predictors."""
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.models import GeoMFormer
from torch_geometric_inertial.testing import degenerate_molecules, random_rotation

MOLECULES = degenerate_molecules()
SIZES = (1, 2, 3, 7, 21)
#: Every option of GeoMFormer that changes what is computed.
VARIANTS = {
    'paper': dict(),
    'literal': dict(softening=0.0),
    'more': dict(equivariant_init='neighbors', node_rbf_sum=True, directional=True, radial='log', head_norm='none'),
    'local': dict(equivariant_init='neighbors', cutoff=3.0, directional=True, equ_norm='rms', head_norm='rms'),
    'mean': dict(equ_norm='none', scalar_head='mean', num_scalars=2),
    'exchange': dict(type_exchange_invariant=True),
    'conservative': dict(vector_head='conservative'),
}


def turn_of(seed):
    """A rotation, every other one with a reflection."""
    return random_rotation(seed) * (-1 if seed % 2 else 1)


def awake(model, seed=0):
    """Weights that all matter, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
    return model


def small(seed=0, dtype=torch.float64, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = dict(channels=12, heads=2, num_layers=2, num_kernels=8, radius=(0.1, 6.0), vector_head='direct',
                    elements=(1, 6, 7, 8, 9, 17, 35))
        return awake(GeoMFormer(**(base | fields)).to(dtype).eval(), seed)


def cloud(size, seed=0, dtype=torch.float64):
    """Random atoms at distances as in molecules."""
    g = torch.Generator().manual_seed(seed)
    pos = torch.zeros(0, 3, dtype=torch.float64)
    while len(pos) < size:
        new = 0.9 * size ** (1 / 3) * torch.randn(1, 3, generator=g, dtype=torch.float64)
        if len(pos) == 0 or torch.cdist(pos, new).min() > 0.8:
            pos = torch.cat([pos, new])
    z = torch.tensor([1, 6, 7, 8])[torch.randint(4, (size, ), generator=g)]
    return Data(z=z, pos=pos.to(dtype))


def batch_of(*molecules):
    return Batch.from_data_list([Data(z=m.z, pos=m.pos) for m in molecules])


def run(model, data, **kwargs):
    return model(data.z, data.pos, data.get('batch'), **kwargs)


def close(a, b, tolerance=1e-10):
    scale = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
    worst = float((a - b).detach().abs().max()) if b.numel() else 0.0
    assert worst <= tolerance * scale, f'{worst:.3g} > {tolerance:g} * {scale:.3g}'
