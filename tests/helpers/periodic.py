"""Crystals, slabs and models for them."""
import torch
from helpers.predictors import small
from torch_geometric.data import Data

CUTOFF = 3.2
ALL = torch.ones(3, dtype=torch.bool)
SLAB = torch.tensor([True, True, False])


def geomformer(**fields):
    return small(**dict(cutoff=CUTOFF, equivariant_init='neighbors', vector_head='conservative') | fields)


def ghostly(**fields):
    return small(**dict(cutoff=CUTOFF, periodic='ghost', vector_head='conservative') | fields)


def crystal(size=4, seed=0, pbc=ALL, cell=((3.1, 0.2, -0.3), (1.2, 3.0, 0.1), (-0.4, 0.9, 3.4))):
    """Random atoms in a skew cell, by default smaller than the cutoff."""
    cell = torch.tensor(cell, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    pos = torch.zeros(0, 3, dtype=torch.float64)
    images = torch.cartesian_prod(*[torch.arange(-1.0, 2)] * 3).double() @ cell
    while len(pos) < size:
        new = torch.rand(1, 3, generator=g, dtype=torch.float64) @ cell
        if len(pos) == 0 or torch.cdist((pos[:, None] + images).flatten(0, 1), new).min() > 0.9:
            pos = torch.cat([pos, new])
    z = torch.tensor([1, 6, 7, 8])[torch.randint(4, (size, ), generator=g)]
    return Data(z=z, pos=pos, cell=cell, pbc=pbc)


def predict(model, data, **changes):
    return model(data.z, changes.pop('pos', data.pos), **dict(cell=data.get('cell'), pbc=data.get('pbc')) | changes)
