import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_geometric_inertial.ops import whiten, whiten_ref
from torch_geometric_inertial.ops.library import KERNELS
from torch_geometric_inertial.testing import random_rotation

needs_kernel = pytest.mark.skipif('whiten' not in KERNELS['cpu'], reason='the extension was not built')


def features(count, channels, rank=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    basis = random_rotation(seed)[:, :rank]
    x = basis @ torch.randn(count, rank, channels, generator=g, dtype=torch.float64)
    return x, 0.5 + torch.rand(channels, generator=g, dtype=torch.float64)


def all_derivatives(function, x, weight, *settings):
    """The output, its gradients, and theirs, with other weights each time."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = function(x, weight, *settings)
    grad = out.detach().sin().requires_grad_()
    first = torch.autograd.grad(out, (x, weight), grad, create_graph=True)
    second = torch.autograd.grad(first, (grad, x, weight), [y.detach().cos() for y in first])
    return out, *first, *second


@given(count=st.integers(1, 70), channels=st.sampled_from([1, 2, 5, 8, 16, 33, 80]), rank=st.integers(0, 3),
       seed=st.integers(0, 10**6), center=st.booleans())
def test_output_and_both_derivatives_are_those_of_the_definition(count, channels, rank, seed, center):
    x, weight = features(count, channels, rank, seed)
    settings = (1e-2, 0.1, center)
    for got, expected in zip(all_derivatives(whiten, x, weight, *settings),
                             all_derivatives(whiten_ref, x, weight, *settings), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize('rank', range(4))
@pytest.mark.parametrize('center', [True, False])
def test_first_and_second_derivative_at_every_rank(rank, center):
    x, weight = (y.requires_grad_() for y in features(2, 5, rank))

    def function(x, weight):
        return whiten(x, weight, 0.1, 0.1, center)
    assert gradcheck(function, (x, weight)) and gradgradcheck(function, (x, weight))


def test_third_derivative():
    def third(function):
        x, weight = (y.requires_grad_() for y in features(3, 4))
        out = function(x, weight, 1e-2, 0.1).square().sum()
        for _ in range(3):
            out = sum((y * y.detach().sin()).sum() for y in torch.autograd.grad(out, (x, weight), create_graph=True))
        return out
    torch.testing.assert_close(third(whiten), third(whiten_ref))


@given(seed=st.integers(0, 10**6))
def test_float32_is_as_good_as_its_input(seed):
    x, weight = features(4, 96, seed=seed)
    for got, expected in zip(all_derivatives(whiten, x.float(), weight.float(), 1e-3, 0.1),
                             all_derivatives(whiten, x, weight, 1e-3, 0.1), strict=True):
        assert got.dtype == torch.float32
        largest = float(expected.detach().abs().max())
        torch.testing.assert_close(got.double(), expected, atol=2e-4 * (1 + largest), rtol=2e-4)


@needs_kernel
def test_bit_equal_for_any_number_of_threads(same_for_any_threads):
    x, weight = features(300, 33)
    same_for_any_threads(lambda: torch.cat([y.flatten() for y in all_derivatives(whiten, x, weight, 1e-3, 0.1)]))


@needs_kernel
def test_strides_do_not_matter():
    x, weight = features(6, 24)
    torch.testing.assert_close(whiten(x[::2, :, ::3], weight[::3], 1e-3, 0.1),
                               whiten(x[::2, :, ::3].clone(), weight[::3].clone(), 1e-3, 0.1))


@needs_kernel
def test_opcheck():
    x, weight = (y.requires_grad_() for y in features(3, 4))
    ops, settings = torch.ops.inertial, (1e-3, 0.1, True)
    out, eigen = (y.detach() for y in ops.whiten(x, weight, *settings))
    grad = out.sin().requires_grad_()
    torch.library.opcheck(ops.whiten.default, (x, weight, *settings))
    torch.library.opcheck(ops.whiten_backward.default, (grad, x, weight, eigen, *settings))
    torch.library.opcheck(ops.whiten_backward_backward.default, (x, weight, grad, x, weight, eigen, *settings))


@needs_kernel
def test_operators_called_directly_have_their_gradients():
    x, weight = (y.requires_grad_() for y in features(2, 4))
    op, settings = torch.ops.inertial.whiten, (0.1, 0.1, True)
    out, eigen = op(x, weight, *settings)
    assert not eigen.requires_grad
    expected = torch.autograd.grad(whiten_ref(x, weight, *settings).sin().sum(), (x, weight))
    for got, right in zip(torch.autograd.grad(out.sin().sum(), (x, weight)), expected, strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize('x, weight, message', [
    (torch.ones(2, 4), torch.ones(4), r"'x' must be \[N, 3, d\], float32 or float64 \(got \[2, 4\], torch.float32\)"),
    (torch.ones(2, 3, 4).half(), torch.ones(4), r"'x' must be .* \(got \[2, 3, 4\], torch.float16\)"),
    (torch.ones(2, 3, 0), torch.ones(0), r"'x' must be .* \(got \[2, 3, 0\]"),
    (torch.ones(2, 3, 4), torch.ones(5), r"'weight' must be \[4\], torch.float32 \(got \[5\], torch.float32\)"),
    (torch.ones(2, 3, 4), torch.ones(4).double(), r"'weight' must be .* \(got \[4\], torch.float64\)"),
], ids=range(5))
def test_bad_arguments(x, weight, message):
    with pytest.raises(ValueError, match=message):
        whiten(x, weight, 1e-3, 0.1)


X, WEIGHT, EIGEN = torch.ones(2, 3, 4), torch.ones(4), torch.ones(2, 12, dtype=torch.float64)


@needs_kernel
@pytest.mark.parametrize('op, args, message', [
    ('whiten', (X[0], WEIGHT, 0.1, 0.1, True), r'whiten: expected x \[N, 3, d\] of float32 or float64 \(got \[3, 4\]'),
    ('whiten', (X, WEIGHT.double(), 0.1, 0.1, True), r'expected weight \[d\] of float32 \(got \[4\] of float64'),
    ('whiten', (X, WEIGHT[1:], 0.1, 0.1, True), r'whiten: expected weight \[4\] \(got \[3\]\)'),
    ('whiten_backward', (X[:1], X, WEIGHT, EIGEN, 0.1, 0.1, True), r'whiten_backward: expected grad \[2, 3, 4\]'),
    ('whiten_backward', (X, X, WEIGHT, EIGEN.float(), 0.1, 0.1, True), r'expected eigen \[2, 12\] of float64'),
    ('whiten_backward_backward', (X[:1], WEIGHT, X, X, WEIGHT, EIGEN, 0.1, 0.1, True), r'expected ddx \[2, 3, 4\]'),
    ('whiten_backward_backward', (X, WEIGHT[1:], X, X, WEIGHT, EIGEN, 0.1, 0.1, True), r'expected ddweight \[4\]'),
], ids=range(7))
def test_the_kernels_check_their_arguments_too(op, args, message):
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.inertial, op)(*args)
