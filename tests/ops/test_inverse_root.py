import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_geometric_inertial.ops import inverse_root, inverse_root_newton_schulz, inverse_root_ref, sylvester
from torch_geometric_inertial.ops.inverse_root import sylvester_ref, symmetric
from torch_geometric_inertial.ops.library import KERNELS
from torch_geometric_inertial.testing import random_rotation

ROOTS = {'public': inverse_root, 'reference': inverse_root_ref, 'newton_schulz': inverse_root_newton_schulz}
SPECTRA = [(0.3, 1.0, 2.0), (1.0, 1.0, 2.0), (1.0, 1.0, 1.0), (1e-3, 1e-3, 1.0)]
spectra = st.lists(st.floats(1 / 3e3, 1), min_size=3, max_size=3)


def with_eigenvalues(values, seed=0, scale=1.0):
    turn = random_rotation(seed)
    return symmetric(scale * turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T)[None]


@settings(deadline=None, max_examples=60)
@given(values=spectra, seed=st.integers(0, 10**6), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_every_method_gives_the_inverse_root(values, seed, scale):
    c = with_eigenvalues([*values[:2], 1.0], seed, scale)
    turn = random_rotation(seed).to(c)
    d = torch.tensor([*values[:2], 1.0], dtype=torch.float64) * scale
    expected = (turn @ torch.diag(d.rsqrt()) @ turn.T)[None]
    for name, root in ROOTS.items():
        error = (root(c) - expected).abs().max() / expected.abs().max()
        assert error < 1e-10, (name, float(error))
        torch.testing.assert_close(root(c), root(c).mT, rtol=1e-12, atol=1e-12 / scale ** 0.5)


@pytest.mark.parametrize('values', SPECTRA, ids=str)
@pytest.mark.parametrize('name', ROOTS)
def test_first_and_second_derivative_where_eigenvalues_meet(name, values):
    unit = min(values)  # finite differences take steps that suit the smallest eigenvalue
    c = (with_eigenvalues(values) / unit).requires_grad_()

    def root(x):
        return ROOTS[name](symmetric(x) * unit) * unit ** 0.5
    assert gradcheck(root, c)
    assert gradgradcheck(root, c, fast_mode=name == 'newton_schulz', atol=1e-4)


@pytest.mark.parametrize('name', ['public', 'reference'])
def test_third_derivative_agrees_with_newton_schulz(name):
    def third(root):
        c = with_eigenvalues((1.0, 1.0, 2.0)).requires_grad_()
        weight = torch.arange(9.0, dtype=torch.float64).view(1, 3, 3)
        out = (root(c) * weight).sum()
        for _ in range(3):
            out = (torch.autograd.grad(out, c, create_graph=True)[0] * weight.sin()).sum()
        return out
    torch.testing.assert_close(third(ROOTS[name]), third(inverse_root_newton_schulz))


@pytest.mark.parametrize('solve', [sylvester, sylvester_ref])
@pytest.mark.parametrize('values', SPECTRA[:3], ids=str)
def test_sylvester_solves_its_equation_and_has_derivatives(solve, values):
    a, q = with_eigenvalues(values, 1), with_eigenvalues((-1.0, 0.5, 2.0), 2)
    x = solve(a, q)
    torch.testing.assert_close(a @ x + x @ a, q)
    a.requires_grad_()
    q.requires_grad_()
    assert gradcheck(lambda a, q: solve(symmetric(a), symmetric(q)), (a, q))
    assert gradgradcheck(lambda a, q: solve(symmetric(a), symmetric(q)), (a, q))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_float32_is_as_good_as_its_input(seed):
    c = with_eigenvalues((1e-3, 0.2, 1.0), seed)
    torch.testing.assert_close(inverse_root(c.float()).double(), inverse_root(c), rtol=2e-4, atol=2e-4)


@pytest.mark.skipif('inverse_root' not in KERNELS['cpu'], reason='the extension was not built')
def test_opcheck():
    a, q = with_eigenvalues((0.3, 1.0, 2.0)), with_eigenvalues((-1.0, 0.5, 2.0))
    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(torch.ops.inertial.inverse_root.default, (a.clone().requires_grad_(), ), test_utils=tests)
    torch.library.opcheck(torch.ops.inertial.sylvester.default, (a.requires_grad_(), q.requires_grad_()),
                          test_utils=tests)


@pytest.mark.parametrize('call, message', [
    (lambda: inverse_root(torch.ones(3, 3)), r"'c' must be \[N, 3, 3\], float32 or float64 \(got \[3, 3\]"),
    (lambda: inverse_root(torch.ones(1, 3, 3, dtype=torch.half)), r"'c' must be .* \(got \[1, 3, 3\], torch.float16\)"),
    (lambda: inverse_root_newton_schulz(torch.ones(1, 3, 2)), r"'c' must be .* \(got \[1, 3, 2\]"),
    (lambda: sylvester(torch.ones(1, 3, 3), torch.ones(1, 2, 3)), r"'q' must be \[N, 3, 3\]"),
    (lambda: sylvester(torch.ones(1, 3, 3), torch.ones(2, 3, 3)),
     r"'q' must be \[1, 3, 3\], torch.float32, like 'a' \(got \[2, 3, 3\], torch.float32\)"),
], ids=range(5))
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif('inverse_root' not in KERNELS['cpu'], reason='the extension was not built')
@pytest.mark.parametrize('op, args, message', [
    ('inverse_root', [torch.ones(3, 3)], r'inverse_root: expected c \[N, 3, 3\] \(got \[3, 3\]\)'),
    ('inverse_root', [torch.ones(1, 3, 3).half()], 'inverse_root: expected c to be float32 or float64'),
    ('sylvester', [torch.ones(1, 3, 3), torch.ones(2, 3, 3)], 'sylvester: expected a and q of one type and as many'),
], ids=range(3))
def test_the_kernels_check_their_arguments_too(op, args, message):
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.inertial, op)(*args)
