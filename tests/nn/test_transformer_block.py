import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn import CausalStack
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.nystrom import NystromKernel


def stack(seed=0, **kwargs):
    geometry = GeoRoPEGeometry(12, NystromKernel((1.0, 2.0), 16))
    out = CausalStack(3, channels=24, heads=2, geometry=geometry, **kwargs).double().eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in out.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=g))
    return out, geometry


def tokens(length, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, pos = (torch.randn(sum(length), n, generator=g, dtype=torch.float64) for n in (24, 3))
    return x, pos, torch.tensor([0, *length]).cumsum(0)


def test_a_new_stack_is_the_identity():
    geometry = GeoRoPEGeometry(12, None)
    x, pos, ptr = tokens([3, 1])
    layers = CausalStack(2, channels=24, heads=2, geometry=geometry).double()
    assert torch.equal(layers(x, pos, ptr, geometry(pos, ptr)), x)


KINDS = [dict(), dict(norm='layer', feed_forward='gelu', qk_norm=True)]


@pytest.mark.parametrize('kind', KINDS, ids=str)
@given(batch_size=st.integers(1, 3), size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_cached_is_full(kind, batch_size, size, seed):
    layers, geometry = stack(seed, **kind)
    x, pos, ptr = tokens([size] * batch_size, seed)
    full = layers(x, pos, ptr, geometry(pos, ptr)).view(batch_size, size, -1)
    shared = geometry.new_cache(batch_size, size, x)
    cache, one = layers.new_cache(batch_size, size, x, shared), torch.arange(batch_size + 1)
    for t in range(size):
        place = pos.view(batch_size, size, 3)[:, t]
        out = layers(x.view(batch_size, size, -1)[:, t], place, one, geometry(place, one, shared), cache)
        torch.testing.assert_close(out, full[:, t], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_reset_parameters_returns_to_the_identity(kind):
    layers, geometry = stack(**kind)
    x, pos, ptr = tokens([4])
    layers.reset_parameters()
    assert torch.equal(layers(x, pos, ptr, geometry(pos, ptr)), x)


def test_dropout_acts_in_training_alone():
    layers, geometry = stack(dropout=0.3)
    x, pos, ptr = tokens([4])
    seen = geometry(pos, ptr)
    assert torch.equal(layers(x, pos, ptr, seen), stack()[0](x, pos, ptr, seen))
    with torch.random.fork_rng():
        assert not torch.equal(layers.train()(x, pos, ptr, seen), layers(x, pos, ptr, seen))


def test_the_kind_of_norm_reaches_every_norm():
    layers, _ = stack(norm='layer', qk_norm=True)
    norms = [m for m in layers.modules() if isinstance(m, torch.nn.LayerNorm | torch.nn.RMSNorm)]
    assert len(norms) == 3 * 4 and all(isinstance(m, torch.nn.LayerNorm) and m.bias is None for m in norms)


def test_a_gelu_mlp_is_its_formula():
    block = stack(feed_forward='gelu')[0].blocks[0].feed_forward
    x = tokens([4])[0]
    hidden = x @ block.up.weight.T
    gelu = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    assert hidden.size(1) == 4 * 24
    torch.testing.assert_close(block(x), gelu @ block.down.weight.T)


@pytest.mark.parametrize('kind, message', [
    (dict(norm='batch'), r"'norm' must be 'rms' or 'layer' \(got 'batch'\)"),
    (dict(feed_forward='relu'), r"'feed_forward' must be 'swiglu' or 'gelu' \(got 'relu'\)"),
], ids=str)
def test_errors(kind, message):
    with pytest.raises(ValueError, match=message):
        stack(**kind)
