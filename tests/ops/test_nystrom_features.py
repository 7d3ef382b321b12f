import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.ops import nystrom_features, nystrom_features_ref
from torch_geometric_inertial.ops.library import COMPILED
from torch_geometric_inertial.ops.nystrom_features import nystrom_features_pos_ref

needs_compiled = pytest.mark.skipif(not COMPILED, reason='the extension was not built')
WIDTHS = (1.0, 2.3, 0.7)


def arguments(tokens, num_landmarks=5, num_scales=2, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    shapes = (tokens, 3), (num_landmarks, 3), (num_scales, num_landmarks, num_landmarks)
    pos, landmarks, whitening = (torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)
    return (2 * pos).to(dtype), landmarks.to(dtype), whitening.to(dtype), WIDTHS[:num_scales]


@given(tokens=st.integers(0, 70), num_landmarks=st.sampled_from([1, 2, 7, 16, 31, 48, 65, 130]),
       num_scales=st.integers(1, 3), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_it_is_the_reference(dtype, tolerance, tokens, num_landmarks, num_scales, seed):
    pos, landmarks, whitening, width = arguments(tokens, num_landmarks, num_scales, seed, dtype)
    out = nystrom_features(pos, landmarks, whitening, width)
    expected = nystrom_features_ref(pos.double(), landmarks.double(), whitening.double(), width)
    assert out.dtype == dtype and out.shape == (tokens, num_scales * num_landmarks)
    size = nystrom_features_ref(pos.double(), landmarks.double(), whitening.double().abs(), width)  # of the terms
    assert ((out - expected).abs() <= tolerance * (1 + size)).all()


@needs_compiled
@given(tokens=st.integers(0, 70), num_landmarks=st.sampled_from([1, 2, 7, 16, 31, 48, 65, 130]),
       num_scales=st.integers(1, 3), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_gradient_is_the_reference(dtype, tolerance, tokens, num_landmarks, num_scales, seed):
    pos, landmarks, whitening, width = arguments(tokens, num_landmarks, num_scales, seed, dtype)
    g = torch.Generator().manual_seed(seed + 1)
    grad = torch.randn(tokens, num_scales * num_landmarks, generator=g, dtype=torch.float64).to(dtype)
    out = torch.ops.inertial.nystrom_features_pos(grad, pos, landmarks, whitening, width)
    exact = [x.double() for x in (grad, pos, landmarks, whitening)]
    size = exact[0].unflatten(1, (num_scales, -1)).abs().amax((1, 2)) * num_landmarks * exact[3].abs().sum()
    assert out.dtype == dtype and out.shape == (tokens, 3)
    assert ((out - nystrom_features_pos_ref(*exact, width)).abs().amax(1) <= tolerance * (1 + size)).all()


def test_far_positions_have_no_features_and_no_slope():
    pos, *rest = arguments(4, dtype=torch.float32)
    pos = (pos + 1e4).requires_grad_()
    out = nystrom_features(pos, *rest)
    out.sum().backward()
    assert (out == 0).all() and (pos.grad == 0).all()


def test_a_position_that_is_not_finite_spoils_its_own_row_alone():
    pos, *rest = arguments(6, 20)
    pos[2, 1] = torch.nan
    assert nystrom_features(pos, *rest).isnan().all(1).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize('wanted', [(1, 0, 0), (1, 1, 1), (0, 1, 0), (0, 0, 1)])
def test_first_and_second_derivative(wanted):
    *tensors, width = arguments(3, 4)
    tensors = [x.requires_grad_(bool(w)) for x, w in zip(tensors, wanted, strict=True)]
    assert torch.autograd.gradcheck(lambda *x: nystrom_features(*x, width), tensors)
    assert torch.autograd.gradgradcheck(lambda *x: nystrom_features(*x, width), tensors)


def test_inputs_that_depend_on_each_other():
    *tensors, width = arguments(4, 4)
    pos = tensors[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: nystrom_features(x, x.sin(), tensors[2], width), pos)
    assert torch.autograd.gradgradcheck(lambda x: nystrom_features(x, x.sin(), tensors[2], width), pos)


@pytest.mark.parametrize('view', [
    lambda p, z, w: (p.t().contiguous().t(), z.flip(0), w.mT),
    lambda p, z, w: (p[:1].expand(4, -1), z, w[:1].expand(2, -1, -1)),
    lambda p, z, w: (p[::2], z[:1].expand(5, -1), w),
])
def test_strides_do_not_matter(view):
    *tensors, width = arguments(6)
    tensors = view(*tensors)
    pos = tensors[0].detach().requires_grad_()
    out = nystrom_features(pos, *tensors[1:], width)
    torch.testing.assert_close(out, nystrom_features_ref(*tensors, width))
    grad = torch.randn(1, out.size(1), dtype=out.dtype).expand_as(out)
    out.backward(grad)
    torch.testing.assert_close(pos.grad, nystrom_features_pos_ref(grad, *tensors, width))


@needs_compiled
def test_bit_equal_for_any_number_of_threads(same_for_any_threads):
    tensors = arguments(301, 70, dtype=torch.float32)
    same_for_any_threads(lambda: nystrom_features(*tensors))
    grad = nystrom_features(*tensors)
    same_for_any_threads(lambda: torch.ops.inertial.nystrom_features_pos(grad, *tensors))


@needs_compiled
def test_a_row_does_not_depend_on_the_others():
    pos, *rest = arguments(101, 70, dtype=torch.float32)
    whole = nystrom_features(pos, *rest)
    for a, n in [(0, 1), (7, 5), (64, 37)]:
        assert torch.equal(nystrom_features(pos[a:a + n], *rest), whole[a:a + n])


@needs_compiled
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_opcheck(dtype):
    *tensors, width = arguments(3, 4, dtype=dtype)
    grad = nystrom_features(*tensors, width)
    for wanted in ((0, 0, 0), (1, 0, 0), (1, 1, 1)):
        tensors = [x.detach().requires_grad_(bool(w)) for x, w in zip(tensors, wanted, strict=True)]
        torch.library.opcheck(torch.ops.inertial.nystrom_features.default, (*tensors, width))
        torch.library.opcheck(torch.ops.inertial.nystrom_features_pos.default, (grad, *tensors, width))


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
@pytest.mark.parametrize('all_of_them', [False, True])
def test_under_compile(backend, all_of_them):
    *tensors, width = arguments(4)
    both = [[x.clone().requires_grad_(all_of_them or i == 0) for i, x in enumerate(tensors)] for _ in range(2)]
    compiled = torch.compile(nystrom_features, backend=backend, fullgraph=True)
    for call, inputs in zip((compiled, nystrom_features_ref), both, strict=True):
        call(*inputs, width).sin().sum().backward()
    for a, b in zip(*both, strict=True):
        assert (a.grad is None) == (b.grad is None)
        torch.testing.assert_close(a.grad, b.grad)


P, Z, W = torch.zeros(4, 3), torch.zeros(5, 3), torch.zeros(2, 5, 5)
BAD = [
    ((P[:, :2], Z, W, (1.0, 2.0)), r"'pos' must be \[T, 3\] in float32 or float64 \(got \[4, 2\], torch.float32\)",
     r'expected pos \[T, 3\] in float32 or float64 \(got \[4, 2\]\)'),
    ((P.half(), Z.half(), W.half(), (1.0, 2.0)), r"'pos' must be .*\(got \[4, 3\], torch.float16\)",
     r'expected pos \[T, 3\] in float32 or float64'),
    ((P, Z[:, :2], W, (1.0, 2.0)), r"'landmarks' must be \[m, 3\] in torch.float32 \(got \[5, 2\], torch.float32\)",
     r'expected landmarks \[m, 3\] \(got \[5, 2\]\)'),
    ((P, Z.double(), W, (1.0, 2.0)), r"'landmarks' must be \[m, 3\] in torch.float32 \(got \[5, 3\], torch.float64\)",
     r'expected landmarks and whitening of the type of pos'),
    ((P, Z, W, (1.0, )), r"'whitening' must be \[1, 5, 5\] in torch.float32 \(got \[2, 5, 5\], torch.float32\)",
     r'expected whitening \[1, 5, 5\] \(got \[2, 5, 5\]\)'),
    ((P, Z, W.double(), (1.0, 2.0)), r"'whitening' must be \[2, 5, 5\] in torch.float32 \(got .* torch.float64\)",
     r'expected landmarks and whitening of the type of pos'),
    ((P, Z, W, (1.0, 0.0)), r"'width' must be one or more positive lengths in Å \(got \(1.0, 0.0\)\)",
     r'expected positive widths \(got 0\)'),
]


@pytest.mark.parametrize('inputs, message, _', BAD)
def test_bad_arguments(inputs, message, _):
    with pytest.raises(ValueError, match=message):
        nystrom_features(*inputs)


def test_no_width_at_all():
    with pytest.raises(ValueError, match=r"'width' must be one or more positive lengths in Å \(got \(\)\)"):
        nystrom_features(P, Z, W[:0], ())


@needs_compiled
@pytest.mark.parametrize('inputs, _, message', BAD)
def test_the_kernels_check_their_arguments_too(inputs, _, message):
    with pytest.raises(RuntimeError, match=f'nystrom_features: {message}'):
        torch.ops.inertial.nystrom_features(*inputs)
    with pytest.raises(RuntimeError, match=f'nystrom_features_pos: {message}'):
        torch.ops.inertial.nystrom_features_pos(P, *inputs)


@needs_compiled
@pytest.mark.parametrize('grad', [torch.zeros(4, 5), torch.zeros(4, 10).double()])
def test_the_kernel_checks_the_gradient(grad):
    with pytest.raises(RuntimeError, match=r'expected grad \[4, 10\] of the type of pos \(got \[4, '):
        torch.ops.inertial.nystrom_features_pos(grad, P, Z, W, (1.0, 2.0))
