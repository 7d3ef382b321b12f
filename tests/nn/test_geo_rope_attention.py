import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial import GeoRoPEAttention
from torch_geometric_inertial.nn import geo_rope_attention, geo_rope_geometry
from torch_geometric_inertial.nn.geo_rope_geometry import SHARED_LENGTH, GeoRoPEGeometry
from torch_geometric_inertial.nn.nystrom import GaussianKernel
from torch_geometric_inertial.nn.rotary import rotary_frequencies
from torch_geometric_inertial.ops.library import COMPILED

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(sum)
CLOSE = dict(atol=1e-10, rtol=1e-8)


def attention(channels=24, heads=2, *, seed=0, dtype=torch.float64, exact=False, **kwargs):
    """A layer whose every weight counts; with the Gaussian itself if exact."""
    if exact:
        kwargs['geometry'] = GeoRoPEGeometry(channels // heads, GaussianKernel((1.0, 2.0, 4.0)))
    layer = GeoRoPEAttention(channels, heads, **(dict(num_landmarks=12) | kwargs)).to(dtype).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=dtype) * (0.5 if p.dim() > 1 else 1.0))
    return layer


def tokens(length, channels=24, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x, pos = (torch.randn(sum(length), n, generator=g, dtype=torch.float64).to(dtype) for n in (channels, 3))
    return x, 2 * pos, torch.tensor([0, *length]).cumsum(0)


def turned(x, pos):
    """R(p) x of one head: pair k of axis a turns by p_a w_k, as 2 x 2 matrices."""
    x, freqs = x.clone(), rotary_frequencies(len(x)).to(x.dtype)
    for axis in range(3):
        for k, w in enumerate(freqs):
            pair = 2 * (axis * len(freqs) + k)
            c, s = math.cos(pos[axis] * w), math.sin(pos[axis] * w)
            x[pair:pair + 2] = torch.tensor([[c, -s], [s, c]], dtype=x.dtype) @ x[pair:pair + 2]
    return x


def reference(layer, x, pos, ptr):
    """The op, sequence by sequence, head by head, token by token."""
    heads, size, rows = layer.heads, layer.channels // layer.heads, []
    kernel = layer.geometry.kernel
    for begin, end in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
        for i in range(begin, end):
            seen = range(begin, i + 1 if layer.geometry.causal else end)
            row = []
            for h in range(heads):
                score, value = [], []
                for j in seen:
                    if layer.fusion == 'heads' and h >= heads // 2:
                        at = slice(h * size, (h + 1) * size)
                        score.append(x[i, at] @ x[j, at] / math.sqrt(size))
                        value.append(x[j, at])
                        continue
                    read = x[:, :layer.channels // 2] if layer.fusion == 'heads' else x
                    wq, wk, wv = (w[h * size:(h + 1) * size] for w in layer.qkv.weight.chunk(3))
                    s = turned(wq @ read[i], pos[i]) @ turned(wk @ read[j], pos[j]) / math.sqrt(size)
                    if layer.gain is not None:
                        for n, width in enumerate(kernel.widths):
                            if isinstance(kernel, GaussianKernel):
                                k = torch.exp(-(pos[i] - pos[j]).square().sum() / (2 * width**2))
                            else:
                                z, w = kernel.landmarks, kernel.whitening[n]
                                phi = [torch.exp((p - z).square().sum(1) / (-2 * width**2)) @ w for p in pos[[i, j]]]
                                k = phi[0] @ phi[1]
                            s = s + layer.gain[h, n] * k
                    score.append(s)
                    value.append(wv @ read[j])
                row.append(torch.stack(score).softmax(0) @ torch.stack(value))
            rows.append(layer.out.weight @ torch.cat(row))
    return torch.stack(rows)


VARIANTS = [dict(), dict(exact=True), dict(fusion='heads'), dict(causal=False), dict(causal=False, fusion='heads'),
            dict(widths=(1.5, ))]


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@settings(max_examples=8, deadline=None)
@given(length=lengths, seed=st.integers(0, 1000))
def test_it_is_the_op_of_the_definition(variant, length, seed):
    layer, (x, pos, ptr) = attention(seed=seed, **variant), tokens(length, seed=seed)
    torch.testing.assert_close(layer(x, pos, ptr), reference(layer, x, pos, ptr), **CLOSE)


def test_float32_is_the_op_as_well():
    layer, (x, pos, ptr) = attention(dtype=torch.float32), tokens([5, 3], dtype=torch.float32)
    torch.testing.assert_close(layer(x, pos, ptr), reference(layer, x, pos, ptr), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('variant', [dict(), dict(exact=True), dict(fusion='heads'), dict(qk_norm=True),
                                     dict(qk_norm=True, norm='layer')], ids=str)
@given(length=lengths, seed=st.integers(0, 1000), data=st.data())
def test_a_token_changes_nothing_before_it_nor_in_other_sequences(variant, length, seed, data):
    layer, (x, pos, ptr) = attention(**variant), tokens(length, seed=seed)
    j = data.draw(st.integers(0, sum(length) - 1))
    before = layer(x, pos, ptr)
    x, pos = x.clone(), pos.clone()
    x[j], pos[j] = 3 - x[j], pos[j] + 1
    after = layer(x, pos, ptr)
    end = int(ptr[torch.searchsorted(ptr, j, right=True)])
    same = [i for i in range(sum(length)) if not j <= i < end]
    torch.testing.assert_close(after[same], before[same], **CLOSE)
    assert not torch.allclose(after[j], before[j])


def test_without_causality_every_token_sees_every_other():
    layer, (x, pos, ptr) = attention(causal=False), tokens([3, 2])
    before = layer(x, pos, ptr)
    x[2] += 1
    changed = (layer(x, pos, ptr) - before).abs().amax(1) > 1e-6
    assert changed.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@given(length=lengths)
def test_batch_is_singles(variant, length):
    layer, (x, pos, ptr) = attention(**variant), tokens(length)
    parts = [layer(x[a:b], pos[a:b], torch.tensor([0, b - a])) for a, b in zip(ptr[:-1], ptr[1:], strict=True) if b > a]
    torch.testing.assert_close(layer(x, pos, ptr), torch.cat(parts), **CLOSE)


@pytest.mark.parametrize('variant', [dict(exact=True), dict(fusion='heads'), dict(exact=True, qk_norm=True)], ids=str)
@given(length=lengths, shift=st.tuples(*[st.integers(-8, 8)] * 3))
def test_a_shift_of_space_changes_nothing(variant, length, shift):
    layer, (x, pos, ptr) = attention(**variant), tokens(length)
    moved = pos + torch.tensor(shift, dtype=pos.dtype)
    torch.testing.assert_close(layer(x, moved, ptr), layer(x, pos, ptr), **CLOSE)


def chunks(length, cuts):
    """Splits sequences at drawn shares: lengths of each chunk, [num_chunks][B]."""
    edges = [sorted({*(min(c, n) for c in cut), n}) for n, cut in zip(length, cuts, strict=True)]
    steps = max(len(e) for e in edges)
    edges = [[0, *e, *[e[-1]] * (steps - len(e))] for e in edges]
    return [[e[s + 1] - e[s] for e in edges] for s in range(steps)]


def decode(layer, x, pos, ptr, parts, capacity=None):
    """The outputs of a pass in chunks against a cache, in the order of the packed tokens."""
    cache = layer.new_cache(ptr.numel() - 1, int(ptr.diff().max()) if capacity is None else capacity, x)
    out, done = torch.empty_like(x), ptr[:-1].clone()
    for part in parts:
        index = torch.cat([torch.arange(a, a + n) for a, n in zip(done.tolist(), part, strict=True)])
        out[index] = layer(x[index], pos[index], torch.tensor([0, *part]).cumsum(0), cache).to(x)
        done += torch.tensor(part)
    return out


@pytest.mark.parametrize('variant', [dict(), dict(exact=True), dict(fusion='heads'), dict(qk_norm=True),
                                     dict(qk_norm=True, norm='layer')], ids=str)
@pytest.mark.parametrize('dtype, atol', [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize('grad', [False, True])
def test_decoding_token_by_token_is_the_full_pass(variant, dtype, atol, grad):
    length = [6, 6, 6]
    layer, (x, pos, ptr) = attention(dtype=dtype, **variant), tokens(length, dtype=dtype)
    with torch.set_grad_enabled(grad):
        full, steps = layer(x, pos, ptr), decode(layer, x, pos, ptr, [[1, 1, 1]] * 6)
    assert steps.requires_grad == grad
    torch.testing.assert_close(steps, full, atol=atol * full.detach().abs().max().item(), rtol=0)


@given(data=st.data(), length=lengths, exact=st.booleans(), slack=st.integers(0, 3), grad=st.booleans())
def test_decoding_in_ragged_chunks_is_the_full_pass(data, length, exact, slack, grad):
    cuts = data.draw(st.tuples(*[st.lists(st.integers(0, 5), max_size=3)] * len(length)))
    layer, (x, pos, ptr) = attention(exact=exact), tokens(length)
    with torch.set_grad_enabled(grad):
        out = decode(layer, x, pos, ptr, chunks(length, cuts), max(length) + slack)
    torch.testing.assert_close(out, layer(x, pos, ptr), **CLOSE)


@pytest.mark.parametrize('variant', [dict(), dict(exact=True), dict(fusion='heads'), dict(qk_norm=True),
                                     dict(qk_norm=True, norm='layer')], ids=str)
def test_gradients(variant):
    layer, (x, pos, ptr) = attention(12, 2, num_landmarks=3, **variant), tokens([2, 1], 12)
    parameters = list(layer.parameters())

    def function(x, pos, *_):
        return layer(x, pos, ptr)

    inputs = (x.requires_grad_(), pos.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize('variant', [dict(), dict(exact=True), dict(fusion='heads'), dict(causal=False)], ids=str)
def test_one_token_a_row_after_prefixes_of_any_length(variant):
    """Single tokens, without derivatives and in the memory of a cache with rows to spare, after several at a time."""
    length = [5, 3, 7]
    layer, (x, pos, ptr) = attention(**variant), tokens(length)
    last = ptr[1:] - 1
    before = torch.ones(sum(length), dtype=torch.bool)
    before[last] = False
    with torch.no_grad():
        cache = layer.new_cache(5, 9, x)
        memory = cache.key.data_ptr(), cache.value.data_ptr(), cache.geometry.features.data_ptr()
        layer(x[before], pos[before], torch.tensor([0, 4, 6, 12]), cache)
        out = layer(x[last], pos[last], torch.arange(4), cache)
        torch.testing.assert_close(out, layer(x, pos, ptr)[last], **CLOSE)
    assert memory == (cache.key.data_ptr(), cache.value.data_ptr(), cache.geometry.features.data_ptr())
    assert cache.geometry.length.tolist() == [5, 3, 7, 0, 0]


def test_half_precision_decodes_with_float32_geometry():
    layer, (x, pos, ptr) = attention(dtype=torch.float32), tokens([5, 5], dtype=torch.float32)
    full = layer(x, pos, ptr)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        steps = decode(layer, x, pos, ptr, [[1, 1]] * 5)
    torch.testing.assert_close(steps, full, atol=0.05 * full.detach().abs().max().item(), rtol=0)


def test_dropout_acts_in_training_alone():
    layer, (x, pos, ptr) = attention(dropout=0.5), tokens([5])
    plain = attention()(x, pos, ptr)
    assert torch.equal(layer(x, pos, ptr), plain)
    layer.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.stack([layer(x, pos, ptr) for _ in range(400)])
    assert not torch.equal(drawn[0], drawn[1])
    off = (drawn.mean(0) - plain).abs() / (drawn.std(0) / 20)  # the mean is that of evaluation
    assert off.mean() < 1.5


def test_the_kernel_is_kept_with_the_model_and_the_layer_starts_at_zero():
    layer, (x, pos, ptr) = GeoRoPEAttention(24, 2), tokens([3], dtype=torch.float32)
    assert {'own_geometry.kernel.landmarks', 'own_geometry.kernel.whitening', 'gain'} <= set(layer.state_dict())
    assert layer(x, pos, ptr).abs().max() == 0
    assert repr(layer) == "GeoRoPEAttention(24, heads=2, fusion='score')"


@pytest.mark.parametrize('arguments, message', [
    (dict(channels=20, heads=8), r"'channels' must be a multiple of 2 \* heads = 16 \(got 20\)"),
    (dict(channels=20, heads=0), r"'channels' must be a multiple of 2 \* heads = 0 \(got 20\)"),
    (dict(fusion='sum'), r"'fusion' must be 'score' or 'heads' \(got 'sum'\)"),
    (dict(channels=24, heads=3, fusion='heads'), r"fusion='heads' needs an even number of 'heads' \(got 3\)"),
    (dict(dropout=1.0), r"'dropout' must be in \[0, 1\) \(got 1.0\)"),
    (dict(dropout=-0.1), r"'dropout' must be in \[0, 1\) \(got -0.1\)"),
    (dict(widths=(-1.0, )), r"'widths' must be one or more positive lengths"),
], ids=str)
def test_errors_of_the_constructor(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeoRoPEAttention(**(dict(channels=16, heads=2) | arguments))


@pytest.mark.parametrize('x, pos, ptr, message', [
    ((4, 20), (4, 3), [0, 4], r"expected 'x' \[T, 24\] and 'pos' \[T, 3\] \(got \(4, 20\) and \(4, 3\)\)"),
    ((1, 4, 24), (4, 3), [0, 4], r"expected 'x' \[T, 24\]"),
    ((4, 24), (4, 2), [0, 4], r"expected 'x' \[T, 24\] and 'pos' \[T, 3\] \(got \(4, 24\) and \(4, 2\)\)"),
    ((4, 24), (3, 3), [0, 4], r"expected 'x' \[T, 24\] and 'pos' \[T, 3\]"),
    ((4, 24), (4, 3), [0, 2], r"'ptr' must end in T = 4 \(got 2\)"),
    ((4, 24), (4, 3), [0, 3, 2, 4], r"'ptr' must start at 0 and not descend"),
    ((4, 24), (4, 3), [[0, 4]], r"'ptr' must be integer offsets"),
], ids=str)
def test_errors_of_the_input(x, pos, ptr, message):
    with pytest.raises(ValueError, match=message):
        GeoRoPEAttention(24, 2)(torch.zeros(x), torch.zeros(pos), torch.tensor(ptr))


def padded_path(monkeypatch):
    monkeypatch.setattr(geo_rope_attention, 'has_kernel', lambda op, x: False)


def calls_of(monkeypatch, module, name):
    """Counts what the layers call."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: (calls.append(args), real(*args))[1])
    return calls


@pytest.mark.parametrize('variant, length', [
    (dict(), [5, 0, 33]), (dict(fusion='heads'), [5, 3]), (dict(causal=False, qk_norm=True), [5, 3]),
    (dict(), [SHARED_LENGTH + 1, 2]), (dict(exact=True), [5, 3]), (dict(dropout=0.5), [5, 3]),
], ids=str)
def test_one_operator_and_padded_tensors_give_the_same_values_and_gradients(variant, length, monkeypatch):
    layer, (x, pos, ptr) = attention(**variant), tokens(length)
    x.requires_grad_(), pos.requires_grad_()
    results = []
    for _ in range(2):
        out = layer(x, pos, ptr)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, pos, *layer.parameters()))))
        padded_path(monkeypatch)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.skipif(not COMPILED, reason='the extension was not built')
@pytest.mark.parametrize('variant, training, fused', [
    (dict(), True, True), (dict(fusion='heads'), True, True), (dict(dropout=0.5), False, True),
    (dict(dropout=0.5), True, False), (dict(exact=True), False, False),
], ids=str)
def test_one_operator_serves_all_but_dropout_and_the_exact_kernel(variant, training, fused, monkeypatch):
    calls = calls_of(monkeypatch, geo_rope_attention, 'georope_attention')
    attention(**variant).train(training)(*tokens([5, 3]))
    assert len(calls) == fused


@pytest.mark.skipif(not COMPILED, reason='the extension was not built')
def test_layers_share_the_kernel_products_of_a_pass(monkeypatch):
    first = attention()
    second = attention(seed=1, geometry=first.geometry)
    calls = calls_of(monkeypatch, geo_rope_geometry, 'georope_gram')
    x, pos, ptr = tokens([5, 3])
    geometry = first.geometry(pos, ptr)
    second(first(x, pos, ptr, geometry=geometry), pos, ptr, geometry=geometry)
    assert len(calls) == 1
    x, pos, ptr = tokens([SHARED_LENGTH + 1])
    first(x, pos, ptr)
    assert len(calls) == 1


def test_the_operator_under_autocast_keeps_positions_wide():
    layer, (x, pos, ptr) = attention(dtype=torch.float32), tokens([5, 3], dtype=torch.float32)
    exact = layer(x, pos, ptr)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x, pos, ptr)
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.skipif(not COMPILED, reason='the extension was not built')
@pytest.mark.parametrize('variant', [dict(), dict(fusion='heads'), dict(causal=False, qk_norm=True)], ids=str)
def test_the_layer_is_one_graph_under_compile(variant):
    layer, (x, pos, ptr) = attention(**variant), tokens([5, 0, 3, 9])
    x.requires_grad_(), pos.requires_grad_()
    results = []
    torch.compiler.reset()
    for call in (layer, torch.compile(layer, backend='aot_eager', fullgraph=True)):
        out = call(x, pos, ptr)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, pos, *layer.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.skipif(not COMPILED, reason='the extension was not built')
def test_a_graph_refuses_offsets_of_other_tokens():
    layer, (x, pos, _) = attention(), tokens([5, 3])
    torch.compiler.reset()
    compiled = torch.compile(layer, backend='aot_eager', fullgraph=True)
    with pytest.raises(RuntimeError, match='expected ptr to end with the 8 rows'):
        compiled(x, pos, torch.tensor([0, 5, 9]))


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@pytest.mark.parametrize('length', [[], [0], [0, 0]], ids=str)
def test_no_token_at_all(variant, length):
    layer, (x, pos, ptr) = attention(**variant), tokens(length)
    out = layer(x.requires_grad_(), pos.requires_grad_(), ptr)
    assert out.shape == (0, 24)
    grads = torch.autograd.grad(out.sum(), (x, pos, *layer.parameters()), materialize_grads=True)
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize('variant', [dict(), dict(exact=True), dict(fusion='heads')], ids=str)
def test_strides_do_not_matter(variant):
    layer, (x, pos, ptr) = attention(**variant), tokens([5, 0, 3])
    columns = x.t().contiguous().t(), pos.t().contiguous().t(), torch.stack([ptr, ptr], dim=1)[:, 0]
    torch.testing.assert_close(layer(*columns), layer(x, pos, ptr), **CLOSE)
    same = x[:1].expand_as(x), pos[:1].expand_as(pos)
    torch.testing.assert_close(layer(*same, ptr), layer(*(a.contiguous() for a in same), ptr), **CLOSE)
