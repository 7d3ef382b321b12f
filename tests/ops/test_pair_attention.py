import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_geometric_inertial.ops import pair_attention, pair_attention_ref
from torch_geometric_inertial.ops.library import KERNELS

needs_kernel = pytest.mark.skipif('pair_attention' not in KERNELS['cpu'], reason='the extension was not built')


def problem(lengths, parts=3, heads=2, size=3, more=0, seed=0):
    """q, k, v, bias and ptr; rows and columns of bias beyond a molecule's atoms hold garbage."""
    g = torch.Generator().manual_seed(seed)
    ptr, longest = torch.tensor([0, *lengths]).cumsum(0), max([0, *lengths]) + more
    features = [torch.randn(int(ptr[-1]), parts, heads * size, generator=g, dtype=torch.float64) for _ in range(3)]
    bias = torch.randn(len(lengths) * heads, longest, longest, generator=g, dtype=torch.float64)
    return [*features, bias], (ptr, 0.7, heads)


def all_derivatives(function, inputs, settings):
    """The output, its gradients, and theirs, with other weights each time."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = function(*inputs, *settings)
    grad = out.detach().sin().requires_grad_()
    first = torch.autograd.grad(out, inputs, grad, create_graph=True)
    second = torch.autograd.grad(first, (grad, *inputs), [x.detach().cos() for x in first])
    return out, *first, *second


def test_it_is_a_softmax_of_scores():
    (q, k, v, bias), (ptr, scale, heads) = problem([4], parts=3, heads=1)
    weight = (scale * torch.einsum('iac,jac->ij', q, k) + bias[0]).softmax(-1)
    expected = torch.einsum('ij,jac->iac', weight, v)
    for function in (pair_attention, pair_attention_ref):
        torch.testing.assert_close(function(q, k, v, bias, ptr, scale, heads), expected)


@given(lengths=st.lists(st.sampled_from([0, 1, 2, 5, 8, 9, 17, 30]), min_size=1, max_size=4),
       parts=st.sampled_from([1, 3]), heads=st.sampled_from([1, 3]), size=st.sampled_from([1, 3, 8]),
       more=st.sampled_from([0, 2]), seed=st.integers(0, 10**6))
def test_output_and_both_derivatives_are_those_of_the_definition(lengths, parts, heads, size, more, seed):
    inputs, settings = problem(lengths, parts, heads, size, more, seed)
    for got, expected in zip(all_derivatives(pair_attention, inputs, settings),
                             all_derivatives(pair_attention_ref, inputs, settings), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize('function', [pair_attention, pair_attention_ref])
def test_first_and_second_derivative(function):
    inputs, settings = problem([2, 3], heads=2, size=1)
    for x in inputs:
        x.requires_grad_()
    assert gradcheck(lambda *x: function(*x, *settings), inputs)
    assert gradgradcheck(lambda *x: function(*x, *settings), inputs)


def test_third_derivative():
    def third(function):
        inputs, settings = problem([3, 2])
        for x in inputs:
            x.requires_grad_()
        out = function(*inputs, *settings).square().sum()
        for _ in range(3):
            out = sum((x * x.detach().sin()).sum() for x in torch.autograd.grad(out, inputs, create_graph=True))
        return out
    torch.testing.assert_close(third(pair_attention), third(pair_attention_ref))


@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3))
def test_float32_is_as_good_as_its_input(seed, lengths):
    inputs, settings = problem(lengths, heads=4, size=12, seed=seed)
    for got, expected in zip(all_derivatives(pair_attention, [x.float() for x in inputs], settings),
                             all_derivatives(pair_attention, inputs, settings), strict=True):
        assert got.dtype == torch.float32
        largest = float(expected.detach().abs().max())
        torch.testing.assert_close(got.double(), expected, atol=2e-5 * (1 + largest), rtol=1e-4)


def test_pairs_that_a_bias_puts_out_have_no_weight():
    (q, k, v, bias), settings = problem([3])
    bias[:, :, 2] = -1e30
    out, *grads = all_derivatives(pair_attention, [q, k, v, bias], settings)
    assert all(x.isfinite().all() for x in (out, *grads))
    v[2] = 7.0
    torch.testing.assert_close(pair_attention(q, k, v, bias, *settings), out)


@needs_kernel
def test_bit_equal_for_any_number_of_threads(same_for_any_threads):
    inputs, settings = problem([9] * 40)
    same_for_any_threads(lambda: torch.cat([x.flatten() for x in all_derivatives(pair_attention, inputs, settings)]))


@needs_kernel
def test_strides_do_not_matter():
    (q, k, v, bias), settings = problem([3, 4])
    packed = torch.cat([q, k, v], dim=-1)
    expected = pair_attention(q, k, v, bias, *settings)
    assert torch.equal(pair_attention(*packed.chunk(3, dim=-1), bias, *settings), expected)
    turned = [x.transpose(0, 2).contiguous().transpose(0, 2) for x in (q, k, v, bias)]
    assert torch.equal(pair_attention(*turned, *settings), expected)


@needs_kernel
def test_opcheck():
    inputs, settings = problem([3, 2])
    inputs, ops = [x.requires_grad_() for x in inputs], torch.ops.inertial
    torch.library.opcheck(ops.pair_attention.default, (*inputs, *settings))
    torch.library.opcheck(ops.pair_attention_backward.default, (inputs[0], *inputs, *settings))
    torch.library.opcheck(ops.pair_attention_backward_backward.default, (*inputs, inputs[0], *inputs, *settings))


X, BIAS, PTR = torch.ones(5, 3, 4), torch.ones(4, 3, 3), torch.tensor([0, 2, 5])


@pytest.mark.parametrize('args, message', [
    ((X[0], X, X, BIAS, PTR, 1.0, 2), r"'q' must be \[N, A, C\], float32 or float64 \(got \[3, 4\], torch.float32\)"),
    ((X.half(), X, X, BIAS, PTR, 1.0, 2), r"'q' must be \[N, A, C\], .* \(got \[5, 3, 4\], torch.float16\)"),
    ((X, X[1:], X, BIAS, PTR, 1.0, 2), r"'k' must be \[5, 3, 4\], torch.float32, like 'q' \(got \[4, 3, 4\]"),
    ((X, X, X.double(), BIAS, PTR, 1.0, 2), r"'v' must be .* \(got \[5, 3, 4\], torch.float64\)"),
    ((X, X, X, BIAS, PTR, 1.0, 3), r"'heads' must divide the 4 channels \(got 3\)"),
    ((X, X, X, BIAS, PTR.int(), 1.0, 2), r"'ptr' must be int64 offsets \[B \+ 1\] \(got \[3\], torch.int32\)"),
    ((X, X, X, BIAS[1:], PTR, 1.0, 2), r"'bias' must be \[4, n, n\], torch.float32 \(got \[3, 3, 3\]"),
    ((X, X, X, BIAS[:, 1:], PTR, 1.0, 2), r"'bias' must be \[4, n, n\], torch.float32 \(got \[4, 2, 3\]"),
], ids=range(8))
def test_bad_arguments(args, message):
    with pytest.raises(ValueError, match=message):
        pair_attention(*args)


@needs_kernel
@pytest.mark.parametrize('args, message', [
    ((X[0], X, X, BIAS, PTR, 1.0, 2), r'expected q \[N, A, C\] of float32 or float64 \(got \[3, 4\] of float32\)'),
    ((X, X[1:], X, BIAS, PTR, 1.0, 2), r'expected k \[5, 3, 4\] of float32 \(got \[4, 3, 4\]'),
    ((X, X, X[1:], BIAS, PTR, 1.0, 2), r'expected v \[5, 3, 4\] of float32 \(got \[4, 3, 4\]'),
    ((X, X, X, BIAS, PTR, 1.0, 3), r'expected heads to divide the 4 channels \(got 3\)'),
    ((X, X, X, BIAS, PTR.int(), 1.0, 2), r'expected ptr to be int64 offsets'),
    ((X, X, X, BIAS[1:], PTR, 1.0, 2), r'expected bias \[4, n, n\] of the type of q \(got \[3, 3, 3\] of float32\)'),
    ((X, X, X, BIAS, PTR + 1, 1.0, 2), r'expected ptr to begin with 0 \(got 1\)'),
    ((X, X, X, BIAS, torch.tensor([0, 1, 5]), 1.0, 2), r'expected molecules of at most 3 atoms, .* \(got 4\)'),
], ids=range(8))
def test_the_kernel_checks_its_arguments_too(args, message):
    with pytest.raises(RuntimeError, match=f'pair_attention: {message}'):
        torch.ops.inertial.pair_attention(*args)


@needs_kernel
@pytest.mark.parametrize('name, place', [('grad', 0), ('ddq', 0), ('ddk', 1), ('ddv', 2), ('ddbias', 3)])
def test_the_kernels_of_the_derivatives_check_theirs(name, place):
    op = 'pair_attention_backward' + ('' if name == 'grad' else '_backward')
    given = [X, X, X, BIAS, X][:1 if name == 'grad' else 5]
    given[place] = given[place][1:]
    with pytest.raises(RuntimeError, match=rf'{op}: expected {name} \['):
        getattr(torch.ops.inertial, op)(*given, X, X, X, BIAS, PTR, 1.0, 2)
