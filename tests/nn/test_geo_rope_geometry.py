import torch

from torch_geometric_inertial import GeoRoPEAttention
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.nystrom import GaussianKernel, NystromKernel, gaussian_kernel
from torch_geometric_inertial.nn.rotary import rotary_frequencies


def positions(length):
    g = torch.Generator().manual_seed(0)
    return 2 * torch.randn(sum(length), 3, generator=g, dtype=torch.float64), torch.tensor([0, *length]).cumsum(0)


def test_products_phases_and_masks_are_those_of_the_definition():
    (pos, ptr), widths = positions([3, 1]), (1.0, 2.0)
    made = GeoRoPEGeometry(12, GaussianKernel(widths))(pos, ptr)
    assert made.gram.shape == (2, 2, 3, 3)
    for s, width in enumerate(widths):
        torch.testing.assert_close(made.gram[0, s], gaussian_kernel(pos[:3], pos[:3], width))
        torch.testing.assert_close(made.gram[1, s, 0, 0], torch.ones((), dtype=pos.dtype))
    angle = torch.outer(pos[1], rotary_frequencies(12).double()).flatten()
    torch.testing.assert_close(made.phase[1], angle)
    assert torch.equal(made.mask.expand(2, 1, 3, 3)[0, 0], torch.ones(3, 3, dtype=torch.bool).tril())
    everything = GeoRoPEGeometry(12, None, causal=False, rotary=False)(pos, ptr)
    assert everything.gram is None and not everything.phase.any()
    assert everything.mask.expand(2, 1, 3, 3)[:, 0, 0].tolist() == [[True, True, True], [True, False, False]]


def test_layers_share_a_geometry():
    geometry = GeoRoPEGeometry(12, NystromKernel((2.0, ), 8))
    layer = GeoRoPEAttention(24, 2, geometry=geometry).double()
    pos, ptr = positions([4, 2])
    x = torch.randn(6, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.nn.init.eye_(layer.out.weight)
    out = layer(x, pos, ptr)
    assert out.abs().min() > 0 and torch.equal(layer(x, pos, ptr, geometry=geometry(pos, ptr)), out)


def test_the_kernel_keeps_its_digits_under_autocast(qm9):
    fitted = NystromKernel(num_landmarks=128).fit(qm9[0].pos)
    pos, ptr = qm9[1][0].pos, torch.tensor([0, qm9[1][0].num_nodes])
    geometry = GeoRoPEGeometry(12, fitted)
    plain = geometry(pos, ptr).gram
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(geometry(pos, ptr).gram, plain)
        assert fitted(pos).dtype == torch.float32
