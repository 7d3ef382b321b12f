import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.ops import rope_rotate, rope_rotate_ref
from torch_geometric_inertial.ops.library import COMPILED

needs_compiled = pytest.mark.skipif(not COMPILED, reason='the extension was not built')


def features(tokens, heads, pairs, seed=0, dtype=torch.float64, spread=30.0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, heads, 2 * pairs, generator=g, dtype=torch.float64)
    return x.to(dtype), spread * torch.randn(tokens, pairs, generator=g, dtype=torch.float64)


@given(tokens=st.integers(0, 9), heads=st.integers(0, 4), pairs=st.integers(0, 37), seed=st.integers(0, 10**6),
       spread=st.sampled_from([1.0, 30.0, 1e3, 1e6]))
@pytest.mark.parametrize('dtype, atol', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_it_is_the_reference(dtype, atol, tokens, heads, pairs, seed, spread):
    x, phase = features(tokens, heads, pairs, seed, dtype, spread)
    phase = phase.to(dtype)
    out, expected = rope_rotate(x, phase), rope_rotate_ref(x.double(), phase.double())
    assert out.dtype == dtype and out.shape == x.shape
    torch.testing.assert_close(out.double(), expected, atol=atol, rtol=0)


@given(tokens=st.integers(1, 9), heads=st.integers(1, 4), pairs=st.integers(1, 37), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('wide', [torch.float32, torch.float64])
def test_the_phase_keeps_its_digits(dtype, wide, tokens, heads, pairs, seed):
    x, phase = features(tokens, heads, pairs, seed, dtype)
    phase = phase.to(wide)
    out = rope_rotate(x, phase)
    assert out.dtype == dtype
    exact = rope_rotate_ref(x.double(), phase.double())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), exact, atol=10 * eps, rtol=0.6 * eps)


@given(tokens=st.integers(1, 6), heads=st.integers(1, 3), pairs=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_a_turn_keeps_norms_and_is_undone(tokens, heads, pairs, seed):
    x, phase = features(tokens, heads, pairs, seed)
    turned = rope_rotate(x, phase)
    torch.testing.assert_close(turned.unflatten(-1, (-1, 2)).norm(dim=-1), x.unflatten(-1, (-1, 2)).norm(dim=-1))
    torch.testing.assert_close(rope_rotate(turned, -phase), x)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_phases_that_are_not_finite_spoil_their_own_pairs_alone(dtype):
    x, phase = features(3, 2, 9, dtype=dtype)
    phase = phase.to(torch.promote_types(dtype, torch.float32))
    phase[1, 4], phase[2, 0], phase[2, 1] = torch.nan, torch.inf, -torch.inf
    lost = rope_rotate(x, phase).isnan().unflatten(-1, (-1, 2))
    assert torch.equal(lost, ~phase.isfinite()[:, None, :, None].expand_as(lost))


@pytest.mark.parametrize('view', [
    lambda x, p: (x.transpose(0, 1).contiguous().transpose(0, 1), p.t().contiguous().t()),
    lambda x, p: (x[:, :1].expand(-1, 5, -1), p[:1].expand(len(p), -1)),
    lambda x, p: (x[::2], p[1::2]),
    lambda x, p: (x.flip(2), p),
])
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_strides_do_not_matter(view, dtype):
    x, phase = view(*features(6, 3, 10, dtype=dtype))
    torch.testing.assert_close(rope_rotate(x, phase), rope_rotate_ref(x, phase))


@pytest.mark.parametrize('wanted', [(True, True), (True, False), (False, True)])
def test_first_and_second_derivative(wanted):
    x, phase = (a.requires_grad_(w) for a, w in zip(features(3, 2, 5, spread=1.0), wanted, strict=True))
    assert torch.autograd.gradcheck(rope_rotate, (x, phase))
    assert torch.autograd.gradgradcheck(rope_rotate, (x, phase))


def test_no_token_has_derivatives_too():
    x, phase = (a.requires_grad_() for a in features(0, 2, 5))
    rope_rotate(x, phase).sum().backward()
    assert x.grad.shape == x.shape and phase.grad.shape == phase.shape


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('wide', [torch.float32, torch.float64])
def test_derivatives_in_lower_precision(dtype, wide):
    x, phase = features(7, 3, 21, dtype=dtype)
    phase = phase.to(wide)
    both = [[x.clone().requires_grad_(), phase.clone().requires_grad_()] for _ in range(2)]
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for call, (a, p) in zip((rope_rotate, lambda a, p: rope_rotate_ref(a.double(), p.double())), both, strict=True):
        (call(a, p) * weight).sum().backward()
    (a, p), (exact_a, exact_p) = both
    assert a.grad.dtype == dtype and p.grad.dtype == wide
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(a.grad.double(), exact_a.grad.double(), atol=10 * eps, rtol=2 * eps)
    torch.testing.assert_close(p.grad.double(), exact_p.grad.double(), atol=100 * eps, rtol=2 * eps)


@needs_compiled
def test_bit_equal_for_any_number_of_threads(same_for_any_threads):
    x, phase = features(500, 8, 32, dtype=torch.float32)
    phase = phase.float()
    same_for_any_threads(lambda: rope_rotate(x, phase))
    same_for_any_threads(lambda: torch.ops.inertial.rope_rotate_phase(x, x.flip(0)))


@needs_compiled
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(dtype):
    x, phase = features(3, 2, 5, dtype=dtype)
    for grad in (False, True):
        arguments = (x.requires_grad_(grad), phase.float().requires_grad_(grad))
        torch.library.opcheck(torch.ops.inertial.rope_rotate.default, arguments)
    arguments = (x, x.detach().flip(0).requires_grad_())
    torch.library.opcheck(torch.ops.inertial.rope_rotate_phase.default, arguments)


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_under_compile(backend):
    both = [[a.requires_grad_() for a in features(4, 2, 6)] for _ in range(2)]
    compiled = torch.compile(rope_rotate, backend=backend, fullgraph=True)
    for call, arguments in zip((compiled, rope_rotate_ref), both, strict=True):
        call(*arguments).square().sin().sum().backward()
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('x, phase, message', [
    (torch.ones(4, 6), torch.ones(4, 3), r"'x' must be features \[T, H, D\] with D even \(got \[4, 6\], torch.float"),
    (torch.ones(4, 2, 5), torch.ones(4, 2), r"'x' must be features \[T, H, D\] with D even \(got \[4, 2, 5\]"),
    (torch.ones(4, 2, 6).long(), torch.ones(4, 3), r"'x' must be features .*\(got \[4, 2, 6\], torch.int64\)"),
    (torch.ones(4, 2, 6), torch.ones(4, 6), r"'phase' must be \[4, 3\] in float32 or float64 \(got \[4, 6\]"),
    (torch.ones(4, 2, 6), torch.ones(4, 3).half(), r"'phase' must be .*\(got \[4, 3\], torch.float16\)"),
])
def test_bad_arguments(x, phase, message):
    with pytest.raises(ValueError, match=message):
        rope_rotate(x, phase)


@needs_compiled
@pytest.mark.parametrize('x, phase, message', [
    (torch.ones(4, 6), torch.ones(4, 3), r'rope_rotate: expected x \[T, H, D\] with D even \(got \[4, 6\]\)'),
    (torch.ones(4, 2, 5), torch.ones(4, 2), r'rope_rotate: expected x \[T, H, D\] with D even \(got \[4, 2, 5\]\)'),
    (torch.ones(4, 2, 6), torch.ones(4, 6), r'expected phase \[4, 3\] for x \[4, 2, 6\] \(got \[4, 6\]\)'),
    (torch.ones(4, 2, 6), torch.ones(4, 3).half(), r'rope_rotate: expected phase to be float32 or float64'),
    (torch.ones(4, 2, 6).half(), torch.ones(4, 3), r'expected x to be float32, float64 or bfloat16'),
])
def test_the_kernel_checks_its_arguments_too(x, phase, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.inertial.rope_rotate(x, phase)


@needs_compiled
@pytest.mark.parametrize('grad, out, message', [
    (torch.ones(4, 2, 6), torch.ones(4, 2, 4), r'expected grad and out \[T, H, D\] of one type with D even \(got'),
    (torch.ones(4, 2, 6), torch.ones(4, 2, 6).double(), r'expected grad and out \[T, H, D\] of one type'),
    (torch.ones(4, 2, 6).half(), torch.ones(4, 2, 6).half(), r'expected grad to be float32, float64 or bfloat16'),
])
def test_the_kernel_of_the_phase_checks_its_arguments(grad, out, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.inertial.rope_rotate_phase(grad, out)
