import pytest
import torch

from torch_geometric_inertial import GeoRoPEAttention
from torch_geometric_inertial.nn.kv_cache import GeometryCache, KeyValueCache, extended, own_memory


def attention(**kwargs):
    """A layer whose every weight counts."""
    layer = GeoRoPEAttention(24, 2, num_landmarks=12, **kwargs).double().eval()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return layer


def sequences(count, size):
    """Tokens [B, N, C] and positions [B, N, 3]."""
    g = torch.Generator().manual_seed(0)
    x, pos = (torch.randn(count, size, n, generator=g, dtype=torch.float64) for n in (24, 3))
    return x, 2 * pos


def full_pass(layer, x, pos):
    count, size = x.shape[:2]
    return layer(x.flatten(0, 1), pos.flatten(0, 1), torch.arange(count + 1) * size).view(count, size, -1)


def test_rows_of_a_cache_can_be_replaced():
    """A batch takes the first rows of its cache; a row can move, begin again, and come from a smaller cache."""
    layer, (x, pos) = attention(), sequences(3, 4)
    full = full_pass(layer, x, pos)
    cache, other = layer.new_cache(5, 4, x), layer.new_cache(1, 2, x)

    def step(cache, sequences, start, stop):
        with torch.no_grad():
            size = torch.tensor(stop) - torch.tensor(start)
            a, b = (torch.cat([t[i, s:e] for i, s, e in zip(sequences, start, stop, strict=True)]) for t in (x, pos))
            cache.geometry.used = max(start)
            out = layer(a, b, torch.tensor([0, *size.cumsum(0)]), cache)
        expected = torch.cat([full[i, s:e] for i, s, e in zip(sequences, start, stop, strict=True)])
        torch.testing.assert_close(out, expected)

    memory = cache.key.data_ptr()
    step(cache, [0, 1], [0, 0], [3, 2])
    step(cache, [0, 1], [3, 2], [4, 3])
    step(other, [2], [0], [2])
    assert cache.key.data_ptr() == memory  # in place
    cache.key[0], cache.value[0], cache.geometry.features[0] = torch.nan, torch.nan, torch.nan
    rows, source = torch.tensor([2]), torch.tensor([1])
    for part, own, theirs in ((cache.geometry.put, cache.geometry, other.geometry), (cache.put, cache, other)):
        part(rows, own, source)  # sequence 1 moves to row 2
        part(torch.tensor([1]), theirs, torch.tensor([0]))  # sequence 2 takes row 1
    for part in (cache.geometry, cache):
        part.clear(torch.tensor([0]))  # sequence 0 begins again
    step(cache, [0, 2, 1], [0, 2, 3], [2, 3, 4])
    step(cache, [0, 2], [2, 3], [4, 4])


@pytest.mark.parametrize('grad', [False, True])
@pytest.mark.parametrize('chunk', [1, 2])
@pytest.mark.parametrize('variant', [dict(), dict(fusion='heads'), dict(qk_norm=True)], ids=str)
def test_rows_of_an_expanded_cache_do_not_overwrite_each_other(variant, chunk, grad):
    """One prefix, read once and expanded to three rows, each of which goes on with a sequence of its own."""
    layer, (x, pos) = attention(**variant), sequences(3, 6)
    x[:, :2], pos[:, :2] = x[:1, :2], pos[:1, :2]
    full = full_pass(layer, x, pos)
    with torch.set_grad_enabled(grad):
        cache = layer.new_cache(1, 6, x)
        layer(x[0, :2], pos[0, :2], torch.tensor([0, 2]), cache)
        key, value, features, length = (t.expand(3, *[-1] * (t.dim() - 1)) for t in (
            cache.key, cache.value, cache.geometry.features, cache.geometry.length))
        wide = KeyValueCache(key, value, GeometryCache(features, length, used=2))
        for t in range(2, 6, chunk):
            new = slice(t, t + chunk)
            out = layer(x[:, new].flatten(0, 1), pos[:, new].flatten(0, 1), torch.arange(4) * chunk, wide)
            torch.testing.assert_close(out.view(3, chunk, -1), full[:, new])
    assert cache.geometry.length.tolist() == [2]  # what was expanded is as it was
    assert not cache.key[:, 2:].any() and not cache.geometry.features[:, 2:].any()


@pytest.mark.parametrize('change', ['put', 'clear'])
def test_one_row_of_an_expanded_cache_can_be_changed(change):
    one = torch.arange(6.0).view(1, 3, 2)
    geometry = GeometryCache(one.expand(2, 3, 2), torch.tensor([3]).expand(2))
    cache = KeyValueCache(*(one.unsqueeze(-1).expand(2, 3, 2, 4) for _ in range(2)), geometry)
    row = torch.tensor([0])
    for part, other in ((geometry, GeometryCache(2 * one[:, :2], torch.tensor([2]))),
                        (cache, KeyValueCache(*(2 * one[:, :2, :, None].expand(1, 2, 2, 4) for _ in range(2)), None))):
        part.clear(row) if change == 'clear' else part.put(row, other, row)
    after = 2 * one[0] if change == 'put' else torch.zeros(3, 2)
    after[2] = 0
    assert torch.equal(geometry.features, torch.stack([after, one[0]]))
    assert geometry.length.tolist() == [2 if change == 'put' else 0, 3]
    for part in (cache.key, cache.value):
        assert torch.equal(part, geometry.features.unsqueeze(-1).expand(2, 3, 2, 4))


def test_memory_is_copied_only_where_it_is_shared():
    x = torch.randn(2, 3, 4)
    assert own_memory(x) is x
    for view in (x.transpose(0, 2), x[:, ::2], x[:1].expand(1, 3, 4), x[:0]):
        assert own_memory(view) is view
    for view in (x[:1].expand(2, 3, 4), x[:, :1].expand(2, 3, 4)):
        copy = own_memory(view)
        assert torch.equal(copy, view) and copy.stride() == (12, 4, 1)


def test_extension_keeps_what_is_there():
    x = torch.randn(2, 3, 4)
    longer = extended(x, 5)
    assert longer.shape == (2, 5, 4)
    assert torch.equal(longer[:, :3], x) and not longer[:, 3:].any()
