import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.ops import (
    georope_attention,
    georope_attention_ref,
    georope_gram,
    georope_gram_ref,
)
from torch_geometric_inertial.ops.library import COMPILED

georope_attention_module = sys.modules[georope_attention.__module__]

needs_compiled = pytest.mark.skipif(not COMPILED, reason='the extension was not built')
NAMES = ('q', 'k', 'v', 'pos', 'phi', 'gain', 'scale_ptr', 'freqs', 'ptr')


def problem(lengths, heads=2, size=16, scales=(5, 3), num_freqs=2, dtype=torch.float64, seed=0):
    """The arguments of the op, by name; what it differentiates requires a gradient."""
    g = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    total, wide = int(ptr[-1]), torch.promote_types(dtype, torch.float32)

    def normal(*shape, kind=wide, factor=1.0):
        x = torch.randn(shape, generator=g, dtype=torch.float64) * factor
        return x.to(kind).requires_grad_()

    q, k, v = (normal(total, heads, size, kind=dtype) for _ in range(3))
    phi = normal(total, sum(scales), factor=max(1, sum(scales))**-0.5) if scales else None
    freqs = torch.rand(num_freqs, generator=g, dtype=torch.float64).to(wide) * 4
    return dict(q=q, k=k, v=v, pos=normal(total, 3), phi=phi, gain=normal(heads, len(scales)),
                scale_ptr=torch.tensor([0, *scales]).cumsum(0), freqs=freqs, ptr=ptr)


def as_double(arguments):
    return {name: x.detach().double().requires_grad_(x.requires_grad) if x is not None and x.is_floating_point() else x
            for name, x in arguments.items()}


def with_gram(arguments, gram=georope_gram, spare=3):
    longest = int(arguments['ptr'].diff().max()) + spare
    made = gram(arguments['phi'], arguments['scale_ptr'], arguments['ptr'], longest)
    return arguments | dict(phi=None, gram=made)


def outputs_and_gradients(op, arguments, causal=True, gram=None):
    """Both outputs, and the gradients of a fixed combination of them."""
    given = arguments if gram is None else with_gram(arguments, gram)
    out, lse = op(**given, causal=causal)
    g = torch.Generator().manual_seed(7)
    weight = [torch.randn(x.shape, generator=g, dtype=torch.float64).bfloat16().to(x.dtype) for x in (out, lse)]
    needed = {name: x for name, x in arguments.items() if x is not None and x.requires_grad}
    grads = torch.autograd.grad((out, lse), list(needed.values()), weight, materialize_grads=True)
    return dict(out=out, lse=lse) | dict(zip(needed, grads, strict=True))


def assert_near(got, exact, tolerance):
    """Relative to the scale of each tensor, and of its terms where they cancel (a gain sums over tokens)."""
    num_tokens = got['out'].size(0)
    for name, x in got.items():
        y = exact[name]
        assert x.shape == y.shape
        if y.numel():
            error = (x.double() - y).abs().max() / (y.abs().max() + 0.1 * (max(num_tokens, 1) if name == 'gain' else 1))
            assert error < tolerance, f'{name}: {error:.1e}'


shapes = dict(
    lengths=st.lists(st.integers(0, 40), min_size=0, max_size=4),
    heads=st.integers(1, 3),
    size=st.sampled_from([2, 6, 10, 16, 20, 32, 34, 64, 80]),
    scales=st.sampled_from([(), (1, ), (5, 3), (16, 0, 7), (33, ), (64, 32)]),
    share=st.floats(0, 1),
    causal=st.booleans(),
    shared=st.booleans(),
)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@settings(max_examples=40, deadline=None)
@given(**shapes, seed=st.integers(0, 99))
def test_it_is_its_definition(dtype, tolerance, lengths, heads, size, scales, share, causal, shared, seed):
    made = problem(lengths, heads, size, scales, int(share * (size // 6)), dtype, seed)
    shared = shared and bool(scales) and bool(lengths)
    got = outputs_and_gradients(georope_attention, made, causal, georope_gram if shared else None)
    exact = outputs_and_gradients(georope_attention_ref, as_double(made), causal, georope_gram_ref if shared else None)
    assert_near(got, exact, tolerance)


@pytest.mark.parametrize('lengths', [[128, 129, 257], [1024]], ids=str)
@pytest.mark.parametrize('causal', [True, False])
def test_long_sequences(lengths, causal):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        made = problem(lengths, 2, 16, (20, ), 2, dtype)
        got = outputs_and_gradients(georope_attention, made, causal)
        assert_near(got, outputs_and_gradients(georope_attention_ref, as_double(made), causal), tolerance)


def test_the_longest_sequence():
    made = {name: x if x is None or x.dtype == torch.int64 else x.detach()
            for name, x in problem([4096], 1, 8, (3, ), 1, torch.float32).items()}
    exact = georope_attention_ref(**made)
    for x, y in zip(georope_attention(**made), exact, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def check_every_type():
    """At the level that this process runs at."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for size, scales, freqs in ((64, (32, 17), 10), (10, (), 1), (36, (5, ), 0)):
            made = problem([19, 0, 37, 1, 70], 2, size, scales, freqs, dtype)
            for causal in (True, False):
                got = outputs_and_gradients(georope_attention, made, causal)
                assert_near(got, outputs_and_gradients(georope_attention_ref, as_double(made), causal), tolerance)
        made = problem([19, 0, 37, 1, 70], 2, 20, (5, 3), 2, dtype)
        got = outputs_and_gradients(georope_attention, made, gram=georope_gram)
        assert_near(got, outputs_and_gradients(georope_attention_ref, as_double(made)), tolerance)


@needs_compiled
@pytest.mark.parametrize('level', ['portable', 'avx2', 'avx512'])
def test_every_instruction_set(level):
    code = ('import sys; sys.path.insert(0, sys.argv[1]); import test_georope_attention as t; t.check_every_type(); '
            'import torch; print(torch.ops.inertial.cpu_capability())')
    done = subprocess.run([sys.executable, '-c', code, os.path.dirname(__file__)], capture_output=True, text=True,
                          env=os.environ | {'INERTIAL_CPU_CAPABILITY': level})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= ['portable', 'avx2', 'avx512'].index(level)


@needs_compiled
@pytest.mark.parametrize('lengths', [[19] * 40 + [3, 100], [200]], ids=['many', 'one'])
def test_bit_equal_for_any_number_of_threads(lengths):
    made = problem(lengths, 5, 32, (40, 8), 5, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for needs_features in (True, False):
                made['phi'].requires_grad_(needs_features)
                results.append(outputs_and_gradients(georope_attention, made))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(results[0][name], x) for name, x in other.items())


def test_strides_do_not_matter():
    made = problem([5, 0, 19], 3, 24, (6, 2), 4)
    total = 24
    qkv = torch.stack([made[n].detach() for n in 'qkv'], dim=1)
    views = dict(q=qkv[:, 0], k=qkv[:, 1], v=made['v'].detach().mT.contiguous().mT,
                 pos=made['pos'].detach().t().contiguous().t(), phi=made['phi'].detach()[:1].expand(total, -1),
                 gain=made['gain'].detach().t().contiguous().t(), freqs=made['freqs'].flip(0),
                 ptr=torch.stack([made['ptr']] * 2, 1)[:, 0], scale_ptr=torch.stack([made['scale_ptr']] * 2, 1)[:, 0])
    views = {name: x.requires_grad_(made[name].requires_grad) for name, x in views.items()}
    exact = {name: x.detach().clone(memory_format=torch.contiguous_format).requires_grad_(x.requires_grad)
             for name, x in views.items()}
    got = outputs_and_gradients(georope_attention, views)
    assert_near(got, outputs_and_gradients(georope_attention_ref, exact), 1e-10)
    out, _ = georope_attention(**made)
    expanded = torch.ones((), dtype=torch.float64).expand(out.shape)
    torch.testing.assert_close(torch.autograd.grad(out, made['q'], expanded)[0],
                               torch.autograd.grad(georope_attention_ref(**made)[0], made['q'], expanded)[0])


@given(shift=st.tuples(*[st.integers(-20, 20)] * 3))
def test_the_rotary_score_depends_on_differences_of_position(shift):
    made = problem([7, 3], scales=(), size=24, num_freqs=4)
    moved = made | dict(pos=made['pos'] + torch.tensor(shift))
    for x, y in zip(georope_attention(**moved), georope_attention(**made), strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-10)


@given(data=st.data(), causal=st.booleans())
def test_a_token_changes_nothing_before_it_nor_in_other_sequences(data, causal):
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum))
    made = {name: x.detach() for name, x in problem(lengths, 1, 6, (2, ), 1).items()}
    j = data.draw(st.integers(0, sum(lengths) - 1))
    changed = made | {name: made[name].index_fill(0, torch.tensor([j]), 9.0) for name in ('q', 'k', 'v', 'pos', 'phi')}
    before, after = georope_attention(**made, causal=causal)[0], georope_attention(**changed, causal=causal)[0]
    sequence = int(torch.searchsorted(made['ptr'], j, right=True)) - 1
    begin, end = made['ptr'][sequence], made['ptr'][sequence + 1]
    same = torch.ones(sum(lengths), dtype=torch.bool)
    same[(j if causal else begin):end] = False
    assert torch.equal(before[same], after[same])
    assert not torch.allclose(before[j], after[j])


@needs_compiled
def test_a_nan_stays_in_its_sequence():
    made = {name: x.detach() for name, x in problem([4, 3], scales=(2, )).items()}
    made['q'][1] = torch.nan
    out, _ = georope_attention(**made)
    assert out[1].isnan().all() and not out[[0, 2, 3, 4, 5, 6]].isnan().any()


@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('causal', [True, False])
def test_first_and_second_derivative(causal, shared):
    made = problem([3, 0, 2], 1, 6, (2, 1), 1)
    names = ('q', 'k', 'v', 'pos', 'phi', 'gain')

    def op(*tensors):
        arguments = made | dict(zip(names, tensors, strict=True))
        return georope_attention(**(with_gram(arguments) if shared else arguments), causal=causal)

    assert torch.autograd.gradcheck(op, [made[n] for n in names])
    assert torch.autograd.gradgradcheck(op, [made[n] for n in names])


def test_derivatives_without_kernel_and_rotation():
    made = problem([3, 2], 1, 4, (), 0)
    names = ('q', 'k', 'v', 'pos')

    def op(*tensors):
        return georope_attention(**(made | dict(zip(names, tensors, strict=True))))[0]

    assert torch.autograd.gradcheck(op, [made[n] for n in names])
    assert torch.autograd.gradgradcheck(op, [made[n] for n in names])


def test_derivatives_of_the_products():
    made = problem([3, 0, 2], scales=(2, 1))
    rest = (made['scale_ptr'], made['ptr'], 4)
    assert torch.autograd.gradcheck(lambda phi: georope_gram(phi, *rest), made['phi'])
    assert torch.autograd.gradgradcheck(lambda phi: georope_gram(phi, *rest), made['phi'])


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), scales=shapes['scales'], spare=st.integers(0, 5))
def test_products_are_their_definition(lengths, scales, spare):
    made = problem(lengths, scales=scales or (0, ))
    arguments = (made['phi'], made['scale_ptr'], made['ptr'], max(lengths) + spare)
    torch.testing.assert_close(georope_gram(*arguments), georope_gram_ref(*arguments))


@needs_compiled
@pytest.mark.parametrize('shared', [False, True])
def test_opcheck(shared):
    made = problem([3, 0, 2], 2, 6, (2, 1), 1)
    arguments = with_gram(made) if shared else made
    values = [arguments[name] for name in NAMES]
    gram = arguments['gram'].detach().requires_grad_() if shared else None
    torch.library.opcheck(torch.ops.inertial.georope_attention.default, (*values, True, gram))
    torch.library.opcheck(torch.ops.inertial.georope_gram.default, (made['phi'], made['scale_ptr'], made['ptr'], 5))
    with torch.no_grad():
        out, lse = georope_attention(**arguments)
        backward = (torch.randn_like(out), torch.randn_like(lse), *values, out, lse, True, gram, True, True)
    backward = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in backward)
    torch.library.opcheck(torch.ops.inertial.georope_attention_backward.default, backward)
    grad = torch.randn(5, 2, 5, dtype=torch.float64)
    torch.library.opcheck(torch.ops.inertial.georope_gram_backward.default,
                          (grad, made['phi'], made['scale_ptr'], made['ptr']))


def test_under_compile():
    made = problem([3, 0, 2], 2, 6, (2, 1), 1)
    compiled = torch.compile(georope_attention, backend='aot_eager', fullgraph=True)
    if not COMPILED:
        pytest.skip('the definition asks for the lengths')
    assert_near(outputs_and_gradients(compiled, made), outputs_and_gradients(georope_attention_ref, made), 1e-10)


@pytest.mark.parametrize('change, message', [
    (dict(q=torch.ones(5, 2, 7)), r"'q' must be \[T, H, D\] with an even D > 0 \(got \[5, 2, 7\]\)"),
    (dict(q=torch.ones(5, 2)), r"'q' must be \[T, H, D\]"),
    (dict(k=torch.ones(4, 2, 6)), r"'k' must be like 'q', \[5, 2, 6\] of torch.float64 \(got \[4, 2, 6\]"),
    (dict(v=torch.ones(5, 2, 6)), r"'v' must be like 'q', .* \(got \[5, 2, 6\] of torch.float32\)"),
    (dict(pos=torch.ones(5, 2)), r"'pos' must be \[5, 3\] of float32 or float64 \(got \[5, 2\]"),
    (dict(pos=torch.ones(5, 3).bfloat16()), r"'pos' must be \[5, 3\] of float32 or float64 .*bfloat16"),
    (dict(gain=torch.ones(3, 2)), r"'gain' must be \[H = 2, S\] \(got \[3, 2\]\)"),
    (dict(scale_ptr=torch.tensor([0, 3])), r"'scale_ptr' must be int64 offsets \[S \+ 1 = 3\] \(got \[2\]"),
    (dict(freqs=torch.ones(2)), r"'freqs' must be \[K\] with K of at most D / 6 = 1 \(got \[2\]\)"),
    (dict(ptr=torch.tensor([0., 5.])), r"'ptr' must be int64 offsets \[B \+ 1\] \(got \[2\], torch.float32\)"),
    (dict(phi=None), r"one of 'phi' and 'gram' must be given \(got neither\)"),
    (dict(gram=torch.ones(5, 2, 3)), r"one of 'phi' and 'gram' must be given \(got both\)"),
    (dict(phi=torch.ones(4, 3)), r"'phi' must be \[T = 5, M\] \(got \[4, 3\]\)"),
    (dict(phi=None, gram=torch.ones(5, 1, 3)), r"'gram' must be \[T = 5, S = 2, L\] \(got \[5, 1, 3\]\)"),
])
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        georope_attention(**(problem([3, 0, 2], 2, 6, (2, 1), 1) | change))


WIDE = dict(dtype=torch.float64)


@needs_compiled
@pytest.mark.parametrize('change, message', [
    (dict(q=torch.ones(5, 2, 7)), r'expected q \[T, H, D\] with an even D > 0 \(got \[5, 2, 7\]\)'),
    (dict(q=torch.ones(5, 2, 6).half()), r'expected q to be float32, float64, bfloat16 or, .* \(got float16\)'),
    (dict(k=torch.ones(5, 2, 4, **WIDE)), r'expected k \[5, 2, 6\] of float64 \(got \[5, 2, 4\] of float64\)'),
    (dict(v=torch.ones(5, 2, 6)), r'expected v \[5, 2, 6\] of float64 \(got \[5, 2, 6\] of float32\)'),
    (dict(pos=torch.ones(5, 3)), r'expected pos \[5, 3\] of float64 \(got \[5, 3\] of float32\)'),
    (dict(gain=torch.ones(3, 2, **WIDE)), r'expected gain \[2, \*\] of float64 \(got \[3, 2\]'),
    (dict(scale_ptr=torch.tensor([0., 2., 3.])), r'expected scale_ptr \[S \+ 1\] of int64 \(got \[3\] of float32\)'),
    (dict(scale_ptr=torch.tensor([0, 3])), r'expected scale_ptr \[S \+ 1\] for gain \[H, S\] \(got \[2\] and'),
    (dict(scale_ptr=torch.tensor([0, 2, 4])), r'expected scale_ptr from 0 to M = 3 \(got 0 to 4\)'),
    (dict(scale_ptr=torch.tensor([0, 4, 3])), r'expected scale_ptr not to decrease \(got 4 before 3\)'),
    (dict(freqs=torch.ones(1)), r'expected freqs \[K\] of float64 \(got \[1\] of float32\)'),
    (dict(freqs=torch.ones(2, **WIDE)), r'expected at most D / 6 = 1 freqs \(got 2\)'),
    (dict(ptr=torch.tensor([0, 3, 2, 5])), r'expected ptr not to decrease \(got 3 before 2\)'),
    (dict(ptr=torch.tensor([0, 3, 4])), r'expected ptr to end with the 5 rows of src \(got 4\)'),
    (dict(phi=None), r'expected phi or gram for gain \[2, 2\] \(got neither\)'),
    (dict(gram=torch.ones(5, 2, 3, **WIDE)), r'expected phi or gram \(got both\)'),
    (dict(phi=torch.ones(4, 3, **WIDE)), r'expected phi \[5, \*\] of float64 \(got \[4, 3\]'),
    (dict(phi=None, gram=torch.ones(5, 1, 3, **WIDE)), r'expected gram \[5, 2, \*\] of float64 \(got \[5, 1, 3\]'),
    (dict(phi=None, gram=torch.ones(5, 2, 2, **WIDE)), r'with L of at least 3 tokens, those of sequence 0 \(got 2\)'),
])
def test_the_kernel_checks_its_arguments_too(change, message):
    made = problem([3, 0, 2], 2, 6, (2, 1), 1) | dict(gram=None) | change
    with pytest.raises(RuntimeError, match='georope_attention: .*' + message):
        torch.ops.inertial.georope_attention(*(made[n] for n in NAMES), True, made['gram'])


@needs_compiled
@pytest.mark.parametrize('change, message', [
    (dict(phi=torch.ones(5)), r'expected phi \[T, M\] of float32 or float64 \(got \[5\] of float32\)'),
    (dict(phi=torch.ones(5, 3).half()), r'expected phi \[T, M\] of float32 or float64 \(got \[5, 3\] of float16\)'),
    (dict(scale_ptr=torch.tensor([], dtype=torch.int64)), r'expected scale_ptr \[S \+ 1\] \(got \[0\]\)'),
    (dict(max_length=2), r'expected max_length of at least 3 tokens, those of sequence 0 \(got 2\)'),
    (dict(phi=torch.ones(0, 3), ptr=torch.tensor([0]), max_length=-1), r'expected max_length of at least 0 \(got -1\)'),
])
def test_the_products_check_their_arguments_too(change, message):
    made = dict(phi=torch.ones(5, 3), scale_ptr=torch.tensor([0, 2, 3]), ptr=torch.tensor([0, 3, 5]), max_length=3)
    with pytest.raises(RuntimeError, match='georope_gram: ' + message):
        torch.ops.inertial.georope_gram(*(made | change).values())


@needs_compiled
@pytest.mark.parametrize('grad, message', [
    (torch.ones(5, 1, 3), r'expected grad_gram \[5, 2, \*\] of float32 \(got \[5, 1, 3\] of float32\)'),
    (torch.ones(5, 2, 2), r'expected grad_gram \[T, S, L\] with L of at least 3 tokens, .* \(got 2\)'),
])
def test_the_gradient_of_the_products_checks_its_arguments_too(grad, message):
    with pytest.raises(RuntimeError, match='georope_gram_backward: ' + message):
        torch.ops.inertial.georope_gram_backward(grad, torch.ones(5, 3), torch.tensor([0, 2, 3]),
                                                 torch.tensor([0, 3, 5]))


@needs_compiled
@pytest.mark.parametrize('change, message', [
    (dict(grad_out=torch.ones(5, 2, 4)), r'expected grad_out \[5, 2, 6\] of float64 \(got \[5, 2, 4\]'),
    (dict(out=torch.ones(5, 2, 6)), r'expected out \[5, 2, 6\] of float64 \(got \[5, 2, 6\] of float32\)'),
    (dict(lse=torch.ones(5, 3, **WIDE)), r'expected lse \[5, 2\] of float64 \(got \[5, 3\]'),
    (dict(grad_lse=torch.ones(4, 2, **WIDE)), r'expected grad_lse \[5, 2\] of float64 \(got \[4, 2\]'),
])
def test_the_gradient_checks_its_arguments_too(change, message):
    made = {n: x.detach() for n, x in problem([3, 0, 2], 2, 6, (2, 1), 1).items()}
    out, lse = georope_attention(**made)
    made = made | dict(grad_out=out, grad_lse=lse, out=out, lse=lse) | change
    with pytest.raises(RuntimeError, match='georope_attention_backward: ' + message):
        torch.ops.inertial.georope_attention_backward(
            made['grad_out'], made['grad_lse'], *(made[n] for n in NAMES), made['out'], made['lse'], True, None, True,
            True)


def test_other_types_take_the_definition():
    made = {name: x if x is None or x.dtype == torch.int64 else x.detach()
            for name, x in problem([3, 2], dtype=torch.float16).items()}
    out, lse = georope_attention(**made)
    assert out.dtype == torch.float16 and lse.dtype == torch.float32
    torch.testing.assert_close(out.double(), georope_attention_ref(**as_double(made))[0], atol=1e-3, rtol=1e-3)


@needs_compiled
@pytest.mark.parametrize('size, compiled', [(128, True), (130, False)])
def test_heads_too_large_for_a_device_take_the_definition(size, compiled, monkeypatch):
    """The tensors have a device and no memory; the definition would wait for their lengths."""
    monkeypatch.setattr(georope_attention_module, 'has_kernel', lambda op, x: True)
    monkeypatch.setattr(georope_attention_module, 'georope_attention_ref', lambda *_: 'the definition')
    given = problem([3, 2], size=size, dtype=torch.float32)
    with torch._subclasses.FakeTensorMode():
        made = {name: torch.empty(x.shape, dtype=x.dtype, device='cuda') for name, x in given.items()}
        out = georope_attention(**made)
    assert isinstance(out, tuple) == compiled
