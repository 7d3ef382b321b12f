import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.ops import (
    georope_decode,
    georope_decode_gram,
    georope_decode_gram_ref,
    georope_decode_ref,
)
from torch_geometric_inertial.ops.library import COMPILED

needs_compiled = pytest.mark.skipif(not COMPILED, reason='the extension was not built')
NAMES = ('q', 'k', 'v', 'gram', 'gain', 'slot', 'key', 'value')
TYPES = [(torch.float64, torch.float64, 1e-10), (torch.float32, torch.float32, 1e-5),
         (torch.bfloat16, torch.float32, 2**-7), (torch.float32, torch.bfloat16, 1e-5),
         (torch.bfloat16, torch.bfloat16, 2**-7), (torch.float16, torch.float32, 2**-9)]


def step(slot=(0, 3, 5, 1), heads=3, size=8, num_scales=2, num_keys=6, capacity=7, seed=0, dtype=torch.float64,
         stored=None):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    rows, wide, stored = len(slot), torch.promote_types(dtype, torch.float32), stored or dtype
    q, k, v = (normal(rows, heads, size).to(dtype) for _ in range(3))
    gram, gain = normal(rows, num_scales, num_keys).to(wide), normal(heads, num_scales).to(wide)
    key, value = (normal(rows, capacity, heads, size).to(stored) for _ in range(2))
    return dict(zip(NAMES, (q, k, v, gram, gain, torch.tensor(slot, dtype=torch.long), key, value), strict=True))


def exact(inputs):
    """The reference in float64, on copies."""
    wide = {n: x.clone() if n == 'slot' else x.double() for n, x in inputs.items()}
    wide['k'], wide['v'] = (inputs[n].to(inputs['key'].dtype).double() for n in ('k', 'v'))  # as the cache keeps them
    return georope_decode_ref(*wide.values())


slots = st.lists(st.integers(0, 40), max_size=6)


@given(slot=slots, heads=st.integers(1, 4), size=st.sampled_from([1, 2, 8, 12, 17, 32, 65]),
       num_scales=st.integers(0, 3), slack=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype, stored, atol', TYPES)
def test_it_is_the_reference(dtype, stored, atol, slot, heads, size, num_scales, slack, seed):
    num_keys = max(slot, default=0) + 1 + slack[0]
    inputs = step(slot, heads, size, num_scales, num_keys, num_keys + slack[1], seed, dtype, stored)
    expected, before = exact(inputs), {n: x.clone() for n, x in inputs.items()}
    out = georope_decode(**inputs)
    assert out.dtype == dtype and out.shape == inputs['q'].shape
    torch.testing.assert_close(out.double(), expected, atol=atol * (1 + expected.abs().max().item() if slot else 1),
                               rtol=0)
    for cache, new in (('key', 'k'), ('value', 'v')):  # written where it should be, and nowhere else
        before[cache][torch.arange(len(slot)), inputs['slot']] = before[new].to(stored)
    assert all(torch.equal(inputs[n], before[n]) for n in NAMES)


@given(slot=slots, size=st.sampled_from([1, 5, 16, 33, 128]), num_scales=st.integers(1, 3),
       slack=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_products_are_the_reference(dtype, tolerance, slot, size, num_scales, slack, seed):
    g = torch.Generator().manual_seed(seed)
    num_keys = max(slot, default=0) + 1 + slack[0]
    phi = torch.randn(len(slot), num_scales * size, generator=g, dtype=torch.float64).to(dtype)
    capacity = num_keys + slack[1]
    features = torch.randn(len(slot), capacity, num_scales * size, generator=g, dtype=torch.float64).to(dtype)
    slot, copy = torch.tensor(slot, dtype=torch.long), features.clone()
    gram = georope_decode_gram(phi, slot, num_scales, num_keys, features)
    expected = georope_decode_gram_ref(phi.double(), slot, num_scales, num_keys, copy.double())
    assert gram.dtype == dtype
    torch.testing.assert_close(gram.double(), expected, atol=tolerance * size, rtol=0)
    copy[torch.arange(len(slot)), slot] = phi
    assert torch.equal(features, copy)


def test_what_stands_behind_a_row_is_not_read():
    inputs = step(dtype=torch.float32)
    expected = exact(inputs)
    for row, slot in enumerate(inputs['slot'].tolist()):
        for name in ('key', 'value'):
            inputs[name][row, slot:] = torch.nan
        inputs['gram'][row, :, slot + 1:] = torch.nan
    torch.testing.assert_close(georope_decode(**inputs).double(), expected, atol=1e-5, rtol=0)
    phi, features = torch.randn(4, 6), torch.full((4, 7, 6), torch.nan)
    for row, slot in enumerate(inputs['slot'].tolist()):
        features[row, :slot] = 1
    gram = georope_decode_gram(phi, inputs['slot'], 2, 6, features)
    seen = torch.arange(6) <= inputs['slot'].unsqueeze(1)
    assert gram.isfinite().all() and (gram.masked_select(~seen.unsqueeze(1)) == 0).all()


def test_steps_are_the_full_pass():
    g = torch.Generator().manual_seed(3)
    rows, steps, heads, size = 3, 9, 2, 6
    q, k, v = torch.randn(3, steps, rows, heads, size, generator=g, dtype=torch.float64)
    phi = torch.randn(steps, rows, 2 * 5, generator=g, dtype=torch.float64)
    gain = torch.randn(heads, 2, generator=g, dtype=torch.float64)
    key, value = torch.zeros(2, rows, steps, heads, size, dtype=torch.float64)
    features, out = torch.zeros(rows, steps, 10, dtype=torch.float64), []
    for t in range(steps):
        slot = torch.full((rows, ), t)
        gram = georope_decode_gram(phi[t], slot, 2, t + 1, features)
        out.append(georope_decode(q[t], k[t], v[t], gram, gain, slot, key, value))
    kernel = torch.einsum('irsm,jrsm->rsij', *[phi.unflatten(-1, (2, 5))] * 2)
    score = torch.einsum('irhd,jrhd->rhij', q, k) / size**0.5 + torch.einsum('hs,rsij->rhij', gain, kernel)
    score = score.masked_fill(torch.ones(steps, steps).triu(1).bool(), -torch.inf)
    full = torch.einsum('rhij,jrhd->irhd', score.softmax(-1), v)
    torch.testing.assert_close(torch.stack(out), full, atol=1e-10, rtol=0)


@pytest.mark.parametrize('scale', [300.0, 1e-30])
def test_scores_may_be_large_or_small(scale):
    inputs = step(dtype=torch.float32)
    inputs['gain'] *= scale
    torch.testing.assert_close(georope_decode(**inputs).double(), exact(inputs), atol=2e-4, rtol=0)


def test_strides_do_not_matter():
    inputs = step()
    expected = exact(inputs)
    views = dict(inputs, q=inputs['q'].transpose(0, 2).contiguous().transpose(0, 2),
                 gain=inputs['gain'].t().contiguous().t(), gram=inputs['gram'].flip(1).flip(1), 
                 slot=torch.stack([inputs['slot']] * 2, 1)[:, 0])
    room = torch.full((4, 9, 2, 3, 8), torch.nan, dtype=torch.float64)
    for i, name in enumerate(('key', 'value')):
        views[name] = room[:, 1:8, i]
        views[name].copy_(inputs[name])
    torch.testing.assert_close(georope_decode(**views), expected, atol=1e-10, rtol=0)
    assert torch.equal(room[1, 4, 0], inputs['k'][1]) and torch.equal(room[1, 4, 1], inputs['v'][1])
    expanded = dict(inputs, q=inputs['q'][:1].expand(4, -1, -1))
    torch.testing.assert_close(georope_decode(**expanded), exact(expanded), atol=1e-10, rtol=0)


@needs_compiled
def test_bit_equal_for_any_number_of_threads(same_for_any_threads):
    inputs = step(range(60), 8, 64, 3, 60, 60, dtype=torch.float32)
    same_for_any_threads(lambda: georope_decode(**inputs))
    phi, features = torch.randn(60, 3 * 33), torch.randn(60, 60, 3 * 33)
    same_for_any_threads(lambda: georope_decode_gram(phi, inputs['slot'], 3, 60, features))


@needs_compiled
def test_a_row_does_not_depend_on_the_others():
    inputs = step(range(30), 4, 20, 3, 30, 30, dtype=torch.float32)
    whole = georope_decode(**inputs)
    for r in range(30):
        one = {n: x if n == 'gain' else x[r:r + 1] for n, x in inputs.items()}
        assert torch.equal(georope_decode(**one), whole[r:r + 1])


@needs_compiled
@pytest.mark.parametrize('dtype, stored, _', TYPES[:5])
def test_opcheck(dtype, stored, _):
    inputs = step(dtype=dtype, stored=stored)
    torch.library.opcheck(torch.ops.inertial.georope_decode.default, tuple(inputs.values()))
    arguments = (torch.randn(4, 6), inputs['slot'], 2, 6, torch.randn(4, 7, 6))
    torch.library.opcheck(torch.ops.inertial.georope_decode_gram.default, arguments)


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_under_compile(backend):
    both = [dict(step(seed=5), phi=torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).double(),
                 features=torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(2)).double()) for _ in range(2)]

    def call(phi, features, gram, slot, **rest):
        return georope_decode(gram=gram + georope_decode_gram(phi, slot, 2, 6, features), slot=slot, **rest)

    outs = [function(**inputs) for function, inputs in
            zip((call, torch.compile(call, backend=backend, fullgraph=True)), both, strict=True)]
    torch.testing.assert_close(*outs)
    for name in ('key', 'value', 'features'):
        assert torch.equal(both[0][name], both[1][name])
    assert torch.equal(both[1]['features'][1, 3], both[1]['phi'][1])


def test_derivatives_are_refused_where_they_are_asked():
    inputs = step()
    inputs['gain'].requires_grad_()
    with pytest.raises(ValueError, match=r"'georope_decode' writes in place and has no derivative: call it under"):
        georope_decode(**inputs)
    with torch.no_grad():
        assert georope_decode(**inputs).shape == (4, 3, 8)
    with pytest.raises(ValueError, match=r"'georope_decode_gram' writes in place and has no derivative"):
        georope_decode_gram(torch.randn(4, 6).requires_grad_(), inputs['slot'], 2, 6, torch.randn(4, 7, 6))


F32 = torch.float32
BAD = [
    (dict(q=torch.zeros(4, 24)), r"'q', 'k' and 'v' must be \[R, H, D\] of one shape and type \(got \[4, 24\] torch.fl",
     r'expected q \[R, H, D\] \(got \[4, 24\]\)'),
    (dict(k=torch.zeros(4, 3, 6)), r"'q', 'k' and 'v' must be .*\(got \[4, 3, 8\] torch.float32, \[4, 3, 6\] ",
     r'expected k and v of the shape and type of q, \[4, 3, 8\] \(got \[4, 3, 6\]\)'),
    (dict(v=torch.zeros(4, 3, 8).double()), r"'q', 'k' and 'v' must be ",
     r'expected k and v of the shape and type of q'),
    (dict(key=torch.zeros(4, 7, 8, 3)), r"'key' and 'value' must be caches \[4, L, 3, 8\] of one type \(got \[4, 7, 8",
     r'expected key and value of one type, \[4, L, 3, 8\] \(got \[4, 7, 8, 3\]\)'),
    (dict(value=torch.zeros(4, 6, 3, 8)), r"'key' and 'value' must be caches ",
     r'expected key and value of one type, \[4, L, 3, 8\] \(got \[4, 6, 3, 8\]\)'),
    (dict(key=torch.zeros(4, 7, 3, 8).double(), value=torch.zeros(4, 7, 3, 8).double()),
     r"'key' must be in float64 where 'q' is, and nowhere else \(got torch.float64 and torch.float32\)",
     r'expected a cache of float64 for q of float64, and for no other'),
    (dict(gram=torch.zeros(4, 2, 8)), r"'gram' must be \[4, S, N <= 7\] in torch.float32 \(got \[4, 2, 8\], torch.fl",
     r'expected gram \[4, S, N <= 7\] \(got \[4, 2, 8\]\)'),
    (dict(gram=torch.zeros(4, 2, 6).double()), r"'gram' must be .*\(got \[4, 2, 6\], torch.float64\)",
     r'expected gram and gain in float32, or in float64 for q of float64'),
    (dict(gain=torch.zeros(2, 3)), r"'gain' must be \[3, 2\] in torch.float32 \(got \[2, 3\], torch.float32\)",
     r'expected gain \[3, 2\] \(got \[2, 3\]\)'),
    (dict(gain=torch.zeros(3, 2).double()), r"'gain' must be \[3, 2\] in torch.float32 \(got \[3, 2\], torch.float64\)",
     r'expected gram and gain in float32'),
    (dict(slot=torch.zeros(4)), r"'slot' must be int64 \[4\] \(got \[4\], torch.float32\)",
     r'expected slot to be int64 \[4\] \(got \[4\]\)'),
    (dict(slot=torch.zeros(3).long()), r"'slot' must be int64 \[4\] \(got \[3\], torch.int64\)",
     r'expected slot to be int64 \[4\] \(got \[3\]\)'),
    (dict(slot=torch.tensor([0, 1, 6, 1])), r"'slot' must be from 0 to 5 \(got 0 to 6\)",
     r'expected slots from 0 to 5 \(got 6\)'),
    (dict(slot=torch.tensor([0, 1, -1, 1])), r"'slot' must be from 0 to 5 \(got -1 to 1\)",
     r'expected slots from 0 to 5 \(got -1\)'),
]


@pytest.mark.parametrize('change, message, _', BAD)
def test_bad_arguments(change, message, _):
    with pytest.raises(ValueError, match=message):
        georope_decode(**step(dtype=F32) | change)


@needs_compiled
@pytest.mark.parametrize('change, _, message', BAD)
def test_the_kernel_checks_its_arguments_too(change, _, message):
    inputs = step(dtype=F32) | change
    before = inputs['key'].clone()
    with pytest.raises(RuntimeError, match=f'georope_decode: {message}'):
        torch.ops.inertial.georope_decode(*inputs.values())
    assert torch.equal(inputs['key'], before)


@needs_compiled
def test_what_the_kernel_alone_refuses():
    inputs = step(dtype=F32)
    turned = inputs['key'].transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(RuntimeError, match='georope_decode: expected the slots of key to be contiguous'):
        torch.ops.inertial.georope_decode(*(inputs | dict(key=turned)).values())
    with pytest.raises(RuntimeError, match='georope_decode: expected the slots of value to be contiguous'):
        torch.ops.inertial.georope_decode(*(inputs | dict(value=turned)).values())
    half = {n: inputs[n].half() for n in ('key', 'value')}
    with pytest.raises(RuntimeError, match='expected key and value to be float32, float64 or bfloat16'):
        torch.ops.inertial.georope_decode(*(inputs | half).values())
    with pytest.raises(RuntimeError, match='georope_decode_gram: expected the slots of features to be contiguous'):
        torch.ops.inertial.georope_decode_gram(torch.zeros(4, 6), inputs['slot'], 2, 6, torch.zeros(4, 6, 7).mT)


PHI, SLOT, CACHE = torch.zeros(4, 6), torch.tensor([0, 3, 5, 1]), torch.zeros(4, 7, 6)
BAD_GRAM = [
    ((PHI[0], SLOT, 2, 6, CACHE), r"'phi' must be \[R, S \* m\] in float32 or float64 \(got \[6\], torch.float32\)",
     r'expected phi \[R, F\] in'),
    ((PHI.half(), SLOT, 2, 6, CACHE.half()), r"'phi' must be .*\(got \[4, 6\], torch.float16\)",
     r'expected phi \[R, F\] in float32 or float64'),
    ((PHI, SLOT, 4, 6, CACHE), r"'num_scales' must divide the 6 features of 'phi' \(got 4\)",
     r'expected num_scales to divide the 6 features \(got 4\)'),
    ((PHI, SLOT, 0, 6, CACHE), r"'num_scales' must divide the 6 features of 'phi' \(got 0\)",
     r'expected num_scales to divide the 6 '),
    ((PHI, SLOT, 2, 6, CACHE[:3]), r"'features' must be \[4, L, 6\] in torch.float32 \(got \[3, 7, 6\], ",
     r'expected features \[4, L, 6\] of the type of phi \(got \[3, 7, 6\]\)'),
    ((PHI, SLOT, 2, 6, CACHE.double()), r"'features' must be \[4, L, 6\] in torch.float32 \(got .* torch.float64\)",
     r'expected features \[4, L, 6\] of the type of phi'),
    ((PHI, SLOT, 2, 8, CACHE), r"'num_keys' must be from 0 to L = 7 \(got 8\)",
     r'expected num_keys from 0 to 7 \(got 8\)'),
    ((PHI, SLOT[:3], 2, 6, CACHE), r"'slot' must be int64 \[4\] \(got \[3\], torch.int64\)",
     r'expected slot to be int64 \[4\] \(got \[3\]\)'),
    ((PHI, SLOT, 2, 5, CACHE), r"'slot' must be from 0 to 4 \(got 0 to 5\)", r'expected slots from 0 to 4 \(got 5\)'),
]


@pytest.mark.parametrize('inputs, message, _', BAD_GRAM)
def test_bad_arguments_of_the_products(inputs, message, _):
    with pytest.raises(ValueError, match=message):
        georope_decode_gram(*inputs)


@needs_compiled
@pytest.mark.parametrize('inputs, _, message', BAD_GRAM)
def test_the_kernel_of_the_products_checks_too(inputs, _, message):
    with pytest.raises(RuntimeError, match=f'georope_decode_gram: {message}'):
        torch.ops.inertial.georope_decode_gram(*inputs)


@needs_compiled
@pytest.mark.parametrize('size, compiled', [(256, True), (257, False)])
def test_heads_too_large_for_a_device_take_the_definition(size, compiled, monkeypatch):
    module = sys.modules[georope_decode.__module__]
    monkeypatch.setattr(module, 'has_kernel', lambda op, x: True)
    monkeypatch.setattr(module, 'georope_decode_ref', lambda *_: 'the definition')
    given = step(size=size, dtype=torch.float32, stored=torch.float32)
    with torch._subclasses.FakeTensorMode():
        made = {name: torch.empty(x.shape, dtype=x.dtype, device='cuda') for name, x in given.items()}
        out = georope_decode(**made)
    assert torch.is_tensor(out) == compiled


@pytest.mark.parametrize('empty', ['R', 'H'])
def test_nothing_to_attend_with(empty):
    """Zero rows or heads: an empty result and untouched caches."""
    size = dict(R=2, H=2, D=4) | {empty: 0}
    R, H, D = size.values()
    heads, cache = [torch.ones(R, H, D) for _ in range(3)], [torch.zeros(R, 5, H, D) for _ in range(2)]
    out = georope_decode(*heads, torch.ones(R, 1, 3), torch.ones(H, 1), torch.zeros(R, dtype=torch.long), *cache)
    assert out.shape == (R, H, D) and not cache[0].any() and not cache[1].any()


@needs_compiled
@pytest.mark.parametrize('name', ['key', 'value'])
def test_an_expanded_cache_is_refused(name):
    heads = [torch.ones(2, 1, 4) for _ in range(3)]
    caches = {'key': torch.zeros(2, 5, 1, 4), 'value': torch.zeros(2, 5, 1, 4)}
    caches[name] = torch.zeros(1, 5, 1, 4).expand(2, 5, 1, 4)
    rest = torch.ones(2, 1, 3), torch.ones(1, 1), torch.zeros(2, dtype=torch.long)
    message = rf"'{name}' must have memory of its own .* \(got an expanded tensor \[2, 5, 1, 4\]\)"
    with pytest.raises(ValueError, match=message):
        georope_decode(*heads, *rest, **caches)
    with pytest.raises(RuntimeError, match=f'expected {name} with memory of its own for each row and slot'):
        torch.ops.inertial.georope_decode(*heads, *rest, *caches.values())


@needs_compiled
def test_an_expanded_cache_of_features_is_refused():
    cache, slot = torch.zeros(1, 5, 4).expand(2, 5, 4), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="'features' must have memory of its own"):
        georope_decode_gram(torch.ones(2, 4), slot, 2, 3, cache)
    with pytest.raises(RuntimeError, match='expected features with memory of its own'):
        torch.ops.inertial.georope_decode_gram(torch.ones(2, 4), slot, 2, 3, cache)
