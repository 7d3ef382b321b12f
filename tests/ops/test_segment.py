import importlib
import sys
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.ops import segment, segment_mean, segment_sum, segment_sum_ref
from torch_geometric_inertial.ops.library import COMPILED

needs_compiled = pytest.mark.skipif(not COMPILED, reason='the extension was not built')
sizes = st.lists(st.integers(0, 9), min_size=0, max_size=12)


def packed(lengths, width=(3,), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    src = torch.randn(int(ptr[-1]), *width, generator=generator, dtype=torch.float64) * 10
    return src.to(dtype), ptr


def paths():
    """Every way to a sum that this machine has."""
    found = {'reference': segment_sum_ref}
    if COMPILED:
        found['compiled'] = torch.ops.inertial.segment_sum
    if segment.torch_scatter is not None:
        found['torch_scatter'] = segment._ScatterSum.apply
    return found


@settings(deadline=None)
@given(lengths=sizes, width=st.sampled_from([(), (1,), (3,), (2, 5), (0,), (31,), (33,), (95,)]),
       dtype=st.sampled_from([torch.float32, torch.float64, torch.int64]))
def test_all_paths_give_the_sum_of_each_segment(lengths, width, dtype):
    src, ptr = packed(lengths, width, dtype)
    expected = torch.stack([part.sum(0) for part in src.split(lengths)]) if lengths else src.new_zeros(0, *width)
    for name, path in {'public': segment_sum, **paths()}.items():
        torch.testing.assert_close(path(src, ptr), expected.to(dtype), msg=lambda text, name=name: f'{name}: {text}')


def test_torch_scatter_agrees_with_our_sum():
    pytest.importorskip('torch_scatter')
    src, ptr = packed([3, 0, 31, 32, 33, 1, 1023], (16,), torch.float32)
    for path in paths().values():
        torch.testing.assert_close(path(src, ptr), segment._ScatterSum.apply(src, ptr))


@needs_compiled
@pytest.mark.parametrize('view', [
    lambda x: x.t(), lambda x: x[::2], lambda x: x[:, ::3], lambda x: x[:1].expand(7, -1), lambda x: x.flip(0),
])
def test_strides_do_not_matter(view):
    src = view(torch.randn(8, 12))
    ptr = torch.tensor([0, 0, 2, src.size(0)])
    both = torch.stack([ptr, ptr], 1)[:, 0]
    torch.testing.assert_close(torch.ops.inertial.segment_sum(src, both), segment_sum_ref(src.contiguous(), ptr))


@needs_compiled
def test_bit_equal_for_any_number_of_threads():
    src, ptr = packed([17] * 400 + [3000], (33,), torch.float32)
    before = torch.get_num_threads()
    try:
        sums = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            sums.append(torch.ops.inertial.segment_sum(src, ptr))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(sums[0], other) for other in sums[1:])


@pytest.mark.parametrize('name', ['reference', 'compiled', 'torch_scatter'])
def test_first_and_second_derivative(name):
    if name not in paths():
        pytest.skip(f'no {name} here')
    path = paths()[name]
    src, ptr = packed([2, 0, 3], (2,))
    src.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: path(x, ptr), src)
    assert torch.autograd.gradgradcheck(lambda x: path(x * x, ptr), src)


@needs_compiled
def test_opcheck():
    src, ptr = packed([2, 0, 3], (4,))
    torch.library.opcheck(torch.ops.inertial.segment_sum.default, (src, ptr))
    torch.library.opcheck(torch.ops.inertial.segment_sum.default, (src.requires_grad_(), ptr))


def test_mean():
    src, ptr = packed([2, 0, 3], (4,))
    expected = torch.stack([src[:2].mean(0), torch.zeros(4, dtype=src.dtype), src[2:].mean(0)])
    torch.testing.assert_close(segment_mean(src, ptr), expected)


@pytest.mark.parametrize('src, ptr, message', [
    (torch.tensor(1.0), torch.tensor([0]), r"'src' must have rows, \[T, \.\.\.\] \(got a scalar\)"),
    (torch.ones(3), torch.tensor([0.0, 3.0]), r"'ptr' must be int64 offsets \[B \+ 1\] \(got \[2\], torch.float32\)"),
    (torch.ones(3), torch.tensor([], dtype=torch.long), r"'ptr' must be int64 offsets"),
    (torch.ones(3), torch.tensor([[0, 3]]), r"'ptr' must be int64 offsets"),
    (torch.ones(3), torch.tensor([1, 3]), r"'ptr' must not decrease from 0 to 3, .* \(got \[1, 3\]\)"),
    (torch.ones(3), torch.tensor([0, 2]), r"'ptr' must not decrease from 0 to 3"),
    (torch.ones(3), torch.tensor([0, 4, 2, 3]), r"'ptr' must not decrease from 0 to 3"),
    (torch.ones(3), torch.tensor([0, 3], device='meta'), r"'src' and 'ptr' must be on one device \(got cpu and meta\)"),
])
def test_bad_arguments(src, ptr, message):
    with pytest.raises(ValueError, match=message):
        segment_sum(src, ptr)


@needs_compiled
@pytest.mark.parametrize('src, ptr, message', [
    (torch.tensor(1.0), torch.tensor([0]), r'segment_sum: expected src \[T, \.\.\.\] \(got a scalar\)'),
    (torch.ones(3), torch.tensor([0.0, 3.0]), r'segment_sum: expected ptr to be int64 offsets \[B \+ 1\] \(got'),
    (torch.ones(3), torch.tensor([1, 3]), r'segment_sum: expected ptr to begin with 0 \(got 1\)'),
    (torch.ones(3), torch.tensor([0, 4]), r'segment_sum: expected ptr to end with the 3 rows of src \(got 4\)'),
    (torch.ones(3), torch.tensor([0, 4, 3]), r'segment_sum: expected ptr not to decrease \(got 4 before 3\)'),
    (torch.ones(3).half(), torch.tensor([0, 3]), r'segment_sum: expected src to be float32, float64 or int64'),
])
def test_the_kernel_checks_its_arguments_too(src, ptr, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.inertial.segment_sum(src, ptr)


@pytest.mark.parametrize('scatter', [True, False])
def test_other_types_take_the_next_path(scatter, monkeypatch):
    if not scatter:
        monkeypatch.setattr(segment, 'torch_scatter', None)
    src, ptr = packed([2, 3], (4,), torch.bfloat16)
    torch.testing.assert_close(segment_sum(src, ptr), segment_sum_ref(src, ptr), atol=0.2, rtol=0.02)


@pytest.mark.parametrize('compiled, scatter', [(True, True), (False, True), (False, False)])
def test_the_best_path_that_is_there_is_taken(compiled, scatter, monkeypatch):
    if (compiled and not COMPILED) or (scatter and segment.torch_scatter is None):
        pytest.skip('not installed')
    if not compiled:
        monkeypatch.setattr(segment, 'has_kernel', lambda op, x: False)
    monkeypatch.setattr(segment, 'torch_scatter', segment.torch_scatter if scatter else None)
    src, ptr = packed([2, 0, 3], (4,))
    src.requires_grad_()
    out = segment_sum(src, ptr)
    torch.testing.assert_close(out, segment_sum_ref(src, ptr))
    name = type(out.grad_fn).__name__
    assert ('inertial' in name, 'ScatterSum' in name) == (compiled, scatter and not compiled)


def test_under_compile():
    src, ptr = packed([2, 0, 3], (4,))
    compiled = torch.compile(segment_sum, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(src, ptr), segment_sum_ref(src, ptr))


def test_one_warning_where_the_extension_was_not_built(monkeypatch):
    library = importlib.import_module('torch_geometric_inertial.ops.library')
    monkeypatch.setitem(sys.modules, 'torch_geometric_inertial._C', None)
    with pytest.warns(UserWarning, match='without its compiled operators') as caught:
        importlib.reload(library)
    assert len(caught) == 1
    assert not library.COMPILED
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        importlib.reload(library)
