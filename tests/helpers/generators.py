"""Small generators with weights that all matter, real molecules, and what tests of several files compare."""
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import AtomAutoregressor, CanonicalOrder, InertialAR, InertialFrame, Quetzal
from torch_geometric_inertial.datasets import QM9Sample

#: Arrangements of the network whose laws are the same.
VARIANTS = [dict(), dict(kind='quetzal')]
FAST = dict(num_steps=4, max_atoms=12)


def real_molecules() -> list[Data]:
    """In canonical frame and order."""
    batch = InertialFrame()(Batch.from_data_list(list(QM9Sample()[:24])))
    canonical = [CanonicalOrder()(data) for data in batch.to_data_list()]
    return [Data(z=data.z, pos=data.pos) for data in canonical]


def small_model(seed: int = 0, awake: bool = True, kind: str = 'inertial_ar', **fields) -> AtomAutoregressor:
    """A small model; :obj:`awake` ones have weights that all matter, as after training."""
    small = dict(channels=32, heads=2, head_channels=24, head_layers=2, max_atoms=30)
    if kind == 'quetzal':
        small |= dict(num_layers=4, coord_features=8, head_features=8, bandwidth=0.5)
    else:
        small |= dict(bonds=False, order='smiles', type_layers=2, coord_layers=2, num_landmarks=24)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (Quetzal if kind == 'quetzal' else InertialAR)(**(small | fields))
        if awake:
            for name, p in model.named_parameters():
                if p.dim() > 1 and float(p.detach().std()) < 0.1:
                    # The flow of a wild head would blow the last digit of float32 up to ångströms.
                    torch.nn.init.normal_(p, std=0.02 if name.startswith('network.head.network') else 0.1)
    return model.eval()


def same(a, b, atol=5e-2):  # the flow of random weights blows up the last digit of float32
    assert [m.z.tolist() for m in a] == [m.z.tolist() for m in b]
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.pos, y.pos, atol=atol, rtol=0)


def spread_out(generator, num, elements):
    """Random atoms that do not overlap."""
    pos = torch.randn(num, 3, generator=generator) * num**(1 / 3)
    while num > 1 and torch.cdist(pos, pos).fill_diagonal_(9).min() < 0.8:
        pos = torch.randn(num, 3, generator=generator) * num**(1 / 3)
    z = torch.tensor(elements)[torch.randint(len(elements), (num, ), generator=generator)]
    return Data(z=z, pos=pos)


def rows_through(model, function):
    """What :obj:`function` returns, and how many rows went through the type head and the diffusion head."""
    rows = dict(type=0, place=0)

    def count(name):
        def hook(module, args, out):
            rows[name] += args[0].size(0)
        return hook
    hooks = [model.network.type_head.register_forward_hook(count('type')),
             model.network.head.cond_linear.register_forward_hook(count('place'))]
    result = function()
    for hook in hooks:
        hook.remove()
    return result, rows
