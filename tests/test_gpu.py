"""What only a GPU can show: the CUDA kernels against float64, and training and writing there, in bfloat16."""
import itertools
import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.georope_cases import (
    CASES,
    DTYPES,
    TOLERANCE,
    attention_definition,
    attention_inputs,
    padded_gram,
    relative_error,
)

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.frames import inertial_frames, to_frame
from torch_geometric_inertial.nn import NystromFeatures
from torch_geometric_inertial.ops import (
    georope_attention,
    georope_attention_ref,
    georope_decode,
    georope_decode_gram,
    georope_decode_gram_ref,
    georope_decode_ref,
    nystrom_features,
    nystrom_features_ref,
    rope_rotate,
    rope_rotate_ref,
    segment_sum_ref,
)
from torch_geometric_inertial.ops.library import KERNELS
from torch_geometric_inertial.training import FitConfig, PackedMolecules, fit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]


@pytest.fixture(scope='module')
def molecules():
    data = PackedMolecules.from_dataset(QM9Sample()[:256])
    pos = to_frame(data.pos, inertial_frames(data.pos, data.z.long(), data.ptr), data.ptr)
    return PackedMolecules(data.z, pos, data.ptr)


@pytest.fixture(scope='module')
def with_bonds():
    """Heavy atoms first, in the order of a walk: what RDKit would give, from weights that need none."""
    written = InertialAR.from_pretrained('qm9').generate(64, seed=0, valence_mask=True)
    return PackedMolecules.from_dataset([data for data in written if data.finished])


def test_a_model_with_bonds_trains_and_writes_on_the_gpu(with_bonds, tmp_path):
    model = InertialAR(InertialARConfig.preset('tiny'))
    model = fit(model, with_bonds, tmp_path, FitConfig(num_steps=3, batch_size=32, precision='bfloat16'))
    assert next(model.parameters()).is_cuda
    written = model.generate(4, num_steps=8)
    assert all(data.pos.isfinite().all() and not data.edge_index.is_cuda for data in written)


def test_the_bundled_model_writes_on_the_gpu_what_it_writes_on_the_cpu():
    cpu, gpu = (InertialAR.from_pretrained('qm9', device=device).generate(32, seed=0) for device in ('cpu', 'cuda'))
    same = [torch.equal(a.z, b.z) and torch.equal(a.edge_index, b.edge_index) for a, b in zip(cpu, gpu, strict=True)]
    assert sum(same) >= 30  # a draw on the edge may fall to the other side


def test_a_model_trains_and_writes_on_the_gpu(molecules, tmp_path):
    model = InertialAR(bonds=False, channels=96, heads=4, elements=(1, 6, 7, 8)).fit_landmarks(molecules.pos)
    model = fit(model, molecules, tmp_path, FitConfig(num_steps=3, batch_size=64, precision='bfloat16'))
    assert next(model.parameters()).is_cuda
    written = model.generate(4, num_steps=8)
    assert all(data.pos.isfinite().all() and not data.pos.is_cuda for data in written)


def test_loss_on_the_gpu_is_the_loss_on_the_cpu(molecules):
    model = InertialAR(bonds=False, channels=96, heads=4, elements=(1, 6, 7, 8)).fit_landmarks(molecules.pos).eval()
    batch = molecules.batch(torch.arange(32))
    with torch.no_grad():
        cpu = model(batch)
        gpu = model.cuda()(batch.clone().to('cuda'))
    assert abs(float(cpu.type) - float(gpu.type)) < 1e-3


# The operators, one by one.

OPS = {'segment_sum', 'georope_attention', 'georope_attention_backward', 'georope_gram', 'georope_gram_backward',
       'rope_rotate', 'rope_rotate_phase', 'nystrom_features', 'nystrom_features_pos', 'georope_decode_gram',
       'georope_decode'}
LARGE = {
    'long': dict(lengths=[1024, 700, 1], heads=8, channels=64, features=[128, 128, 128]),
    'drugs': dict(lengths=[183, 40, 61, 12, 90], heads=8, channels=64, features=[64, 64]),
    'wide heads': dict(lengths=[70, 33], heads=6, channels=128, features=[40]),
    'many heads': dict(lengths=[45, 18], heads=20, channels=32, features=[16, 16], causal=False),
}
seeds = itertools.count(int.from_bytes(os.urandom(3), 'little'))  # fresh inputs every run; a failure prints its seed


def gpu(inputs):
    return {name: x.cuda() if torch.is_tensor(x) else x for name, x in inputs.items()}


def poison():
    """Fills the memory that the next outputs will get with NaN."""
    pieces = [torch.full((2**size, ), torch.nan, device='cuda') for size in range(4, 25) for _ in range(4)]
    del pieces


def attention(x, gram=None):
    phi = x['phi'] if gram is None else None
    return torch.ops.inertial.georope_attention(x['q'], x['k'], x['v'], x['pos'], phi, x['gain'], x['scale_ptr'],
                                                x['freqs'], x['ptr'], x['causal'], gram)


def attention_backward(x, out, lse, gram=None, needs_phi=True, needs_pos=True):
    phi = x['phi'] if gram is None else None
    return torch.ops.inertial.georope_attention_backward(
        x['grad_out'], x['grad_lse'], x['q'], x['k'], x['v'], x['pos'], phi, x['gain'], x['scale_ptr'], x['freqs'],
        x['ptr'], out, lse, x['causal'], gram, needs_phi, needs_pos)


def holds(got, expected, tolerance, name):
    if expected.numel():
        assert relative_error(got, expected) < tolerance, name


def test_every_operator_has_a_cuda_kernel():
    assert KERNELS['cuda'] >= OPS, 'build the CUDA kernels: FORCE_CUDA=1 pip install --no-build-isolation -e .'


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('gram', [False, True], ids=['phi', 'gram'])
@pytest.mark.parametrize('name', [*CASES, *LARGE])
def test_attention_and_its_gradients(name, gram, dtype):
    seed = next(seeds)
    inputs = attention_inputs(dtype=dtype, seed=seed, **{**CASES, **LARGE}[name])
    double = {key: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
              for key, value in inputs.items()}
    leaf = padded_gram(double['phi'], inputs['scale_ptr'], inputs['ptr'], extra=2) if gram else double['phi']
    leaves = [double[key].requires_grad_() for key in ('q', 'k', 'v', 'pos', 'gain')] + [leaf.requires_grad_()]
    table = leaf if gram else padded_gram(leaf, inputs['scale_ptr'], inputs['ptr'])
    expected = attention_definition(*leaves[:4], table, leaves[4], double['freqs'], inputs['ptr'], inputs['causal'])
    grads = torch.autograd.grad(expected, leaves, [double['grad_out'], double['grad_lse']], allow_unused=True,
                                materialize_grads=True)
    x, given = gpu(inputs), leaf.detach().float().cuda() if gram else None
    poison()
    out, lse = attention(x, given)
    tolerance = max(TOLERANCE[dtype], 1e-5)
    holds(out, expected[0], tolerance, f'out, seed {seed}')
    holds(lse, expected[1], tolerance, f'lse, seed {seed}')
    poison()
    got = attention_backward(x, out, lse, given)
    for key, one, other in zip(['dq', 'dk', 'dv', 'dpos', 'dgain', 'dphi'],
                               [*got[:3], got[5], got[4], got[3]], grads, strict=True):
        holds(one, other, 5 * tolerance, f'{key}, seed {seed}')
    # the same bits again, and whoever asks for less gets the same of it
    again = attention_backward(x, *attention(x, given), given)
    assert all(torch.equal(one, other) for one, other in zip(got, again, strict=True))
    less = attention_backward(x, out, lse, given, needs_phi=False, needs_pos=False)
    assert all(torch.equal(got[i], less[i]) for i in (0, 1, 2, 4)) and less[3].numel() == less[5].numel() == 0


@pytest.mark.parametrize('channels, dtype', [(160, torch.float32), (130, torch.bfloat16), (64, torch.float64)], ids=str)
def test_what_the_kernel_refuses_takes_the_definition(channels, dtype):
    x = attention_inputs(dtype=dtype, seed=next(seeds), **{**CASES['molecules'], 'channels': channels})
    names = ('q', 'k', 'v', 'pos', 'phi', 'gain', 'scale_ptr', 'freqs', 'ptr', 'causal')
    out, lse = georope_attention(*(gpu(x)[name] for name in names))
    expected = georope_attention_ref(*(
        x[name].double() if name in names[:6] or name == 'freqs' else x[name] for name in names))
    assert relative_error(out, expected[0]) < TOLERANCE[torch.bfloat16 if dtype == torch.bfloat16 else torch.float32]
    assert relative_error(lse, expected[1]) < TOLERANCE[torch.bfloat16 if dtype == torch.bfloat16 else torch.float32]


@pytest.mark.parametrize('view', ['fused projection', 'slice off its alignment', 'expanded'])
def test_strides_do_not_matter(view):
    x = gpu(attention_inputs(dtype=torch.bfloat16, seed=next(seeds), **CASES['molecules']))
    if view == 'fused projection':
        heads = torch.stack([x['q'], x['k'], x['v']], dim=1).unbind(1)
    elif view == 'slice off its alignment':
        heads = [torch.cat([one.new_zeros(1), one.flatten()])[1:].view(one.shape) for one in (x['q'], x['k'], x['v'])]
    else:
        x['q'], x['k'], x['v'] = (one[:1].expand_as(one).contiguous() for one in (x['q'], x['k'], x['v']))
        heads = [one[:1].expand_as(one) for one in (x['q'], x['k'], x['v'])]
    strided = {**x, 'q': heads[0], 'k': heads[1], 'v': heads[2]}
    out, lse = attention(x)
    assert all(torch.equal(*pair) for pair in zip((out, lse), attention(strided), strict=True))
    assert all(torch.equal(*pair) for pair in zip(attention_backward(x, out, lse),
                                                  attention_backward(strided, out, lse), strict=True))


def test_no_tokens_and_no_sequences():
    for lengths in ([], [0, 0]):
        x = gpu(attention_inputs(lengths, 2, 32, [8], torch.bfloat16))
        out, lse = attention(x)
        got = attention_backward(x, out, lse)
        assert out.shape == (0, 2, 32) and lse.shape == (0, 2) and not got[4].any() and got[3].shape == (0, 8)


@pytest.mark.parametrize('name', CASES)
def test_products_of_features(name):
    inputs = attention_inputs(dtype=torch.float32, seed=next(seeds), **CASES[name])
    phi = inputs['phi'].double().requires_grad_()
    expected = padded_gram(phi, inputs['scale_ptr'], inputs['ptr'], extra=3)
    grad = torch.randn(expected.shape)
    x = gpu(inputs)
    poison()
    got = torch.ops.inertial.georope_gram(x['phi'], x['scale_ptr'], x['ptr'], expected.size(-1))
    holds(got, expected, 1e-5, 'gram')
    if phi.numel():
        poison()
        got = torch.ops.inertial.georope_gram_backward(grad.cuda(), x['phi'], x['scale_ptr'], x['ptr'])
        holds(got, torch.autograd.grad(expected, phi, grad.double())[0], 1e-5, 'dphi')


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_rope_rotate(dtype):
    x, phase = torch.randn(333, 8, 62).to(dtype), 40 * torch.randn(333, 31)
    grad = torch.randn_like(x)
    leaves = [x.double().requires_grad_(), phase.double().requires_grad_()]
    expected = rope_rotate_ref(*leaves)
    expected_grads = torch.autograd.grad(expected, leaves, grad.double())
    on_gpu = [x.cuda().requires_grad_(), phase.cuda().requires_grad_()]
    poison()
    out = rope_rotate(*on_gpu)
    grads = torch.autograd.grad(out, on_gpu, grad.cuda())
    for got, other in zip([out, *grads], [expected, *expected_grads], strict=True):
        holds(got, other, TOLERANCE[dtype], 'rope_rotate')


def test_nystrom_features():
    model = NystromFeatures(widths=(1.0, 2.5), num_landmarks=96)
    pos, grad = 2 * torch.randn(500, 3), torch.randn(500, 192)
    whitening, landmarks = model.whitening.double(), model.landmarks.double()
    leaf = pos.double().requires_grad_()
    expected = nystrom_features_ref(leaf, landmarks, whitening, model.widths)
    on_gpu = pos.cuda().requires_grad_()
    poison()
    phi = nystrom_features(on_gpu, model.landmarks.cuda(), model.whitening.cuda(), model.widths)
    got, = torch.autograd.grad(phi, on_gpu, grad.cuda())
    # The entries of W^(-1/2) reach hundreds and cancel: that much of float32 is lost on any device.
    holds(phi, expected, 1e-3, 'phi')
    holds(got, torch.autograd.grad(expected, leaf, grad.double())[0], 1e-3, 'pos_grad')


@pytest.mark.parametrize('stored', DTYPES, ids=str)
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_georope_decode(dtype, stored):
    rows, heads, channels, capacity, num_scales, m, num_keys = 65, 8, 72, 190, 3, 32, 183
    slot = torch.randint(0, num_keys, (rows, ))
    behind = torch.arange(capacity) >= slot.unsqueeze(1)
    key, value = (torch.randn(rows, capacity, heads, channels).to(stored) for _ in range(2))
    key[behind] = value[behind] = torch.nan  # nothing there may be read
    features = torch.randn(rows, capacity, num_scales * m).masked_fill(behind.unsqueeze(-1), torch.nan)
    phi, gain = torch.randn(rows, num_scales * m) / m**0.5, torch.randn(heads, num_scales)
    q, k, v = (torch.randn(rows, heads, channels).to(dtype) for _ in range(3))

    wide = [x.double().nan_to_num(0.0) for x in (key, value, features)]
    expected_gram = georope_decode_gram_ref(phi.double(), slot, num_scales, num_keys, wide[2])
    new = [x.to(stored).double() for x in (k, v)]
    expected = georope_decode_ref(q.double(), *new, expected_gram, gain.double(), slot, wide[0], wide[1])
    key, value, features, slot = (x.cuda() for x in (key, value, features, slot))
    poison()
    gram = georope_decode_gram(phi.cuda(), slot, num_scales, num_keys, features)
    out = georope_decode(q.cuda(), k.cuda(), v.cuda(), gram, gain.cuda(), slot, key, value)
    holds(gram, expected_gram, 1e-5, 'gram')
    holds(out, expected, max(TOLERANCE[dtype], 1e-5), 'out')
    for cache, written in ((key, k.to(stored)), (value, v.to(stored)), (features, phi)):
        assert torch.equal(cache[torch.arange(rows), slot].cpu(), written)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.int64], ids=str)
def test_segment_sum(dtype):
    lengths = torch.randint(0, 40, (300, ))
    src = (100 * torch.randn(int(lengths.sum()), 3, 5)).to(dtype)
    ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    poison()
    torch.testing.assert_close(torch.ops.inertial.segment_sum(src.cuda(), ptr.cuda()).cpu(), segment_sum_ref(src, ptr))


def test_a_captured_graph_sees_new_inputs_and_new_lengths():
    lengths = [[9, 31, 20], [30, 1, 29]]
    x, other = (gpu(attention_inputs(one, 4, 64, [16, 16], torch.bfloat16, seed=next(seeds))) for one in lengths)
    static = {name: one.clone() if torch.is_tensor(one) else one for name, one in x.items()}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # before the capture, as the manual has it
        attention_backward(static, *attention(static))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attention(static)
        captured = [*captured, *attention_backward(static, *captured)]
    for one in (x, other):
        for name in static:
            if torch.is_tensor(static[name]):
                static[name].copy_(one[name])
        graph.replay()
        expected = attention(one)
        expected = [*expected, *attention_backward(one, *expected)]
        assert all(torch.equal(*pair) for pair in zip(captured, expected, strict=True))


def test_kernels_run_on_the_current_stream():
    x = gpu(attention_inputs(dtype=torch.float32, seed=next(seeds), **CASES['molecules']))
    expected, q = attention(x)[0], x['q'].clone()
    x['q'].zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # on another stream the kernel would not wait, and would see zeros
        x['q'].copy_(q)
        out = attention(x)[0]
    stream.synchronize()
    assert torch.equal(out, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two CUDA devices')
def test_kernels_run_on_the_device_of_their_inputs():
    x = gpu(attention_inputs(dtype=torch.float32, seed=next(seeds), **CASES['molecules']))
    second = {name: one.to('cuda:1') if torch.is_tensor(one) else one for name, one in x.items()}
    out = attention(second)[0]
    assert out.device.index == 1 and torch.equal(out.cpu(), attention(x)[0].cpu())
    with pytest.raises(RuntimeError, match='expected all tensors on device cuda:0'):
        attention({**x, 'ptr': second['ptr']})


@pytest.mark.parametrize('change, message', [
    (lambda x: x.update({name: x[name].double() for name in ('q', 'k', 'v', 'pos', 'phi', 'gain', 'freqs')}),
     'expected float32, bfloat16 or float16 on CUDA'),
    (lambda x: x.update({name: x[name].repeat(1, 1, 5) for name in ('q', 'k', 'v')}), 'expected D <= 128 on CUDA'),
    (lambda x: x.update(ptr=x['ptr'].cpu()), 'expected all tensors on device cuda:0'),
])
def test_refusals(change, message):
    x = gpu(attention_inputs(dtype=torch.float32, **CASES['molecules']))
    change(x)
    with pytest.raises(RuntimeError, match=message):
        attention(x)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('compute-sanitizer') is None, reason='needs compute-sanitizer')
@pytest.mark.parametrize('tool', ['memcheck', 'racecheck'])
def test_compute_sanitizer_finds_nothing(tool):
    done = subprocess.run(
        ['compute-sanitizer', '--tool', tool, '--error-exitcode', '9', '--launch-timeout', '0', sys.executable, '-m',
         'pytest', '-q', '-m', 'gpu', __file__, '-k', '(molecules and float) or odd or decode or nystrom or rotate'],
        capture_output=True, text=True, env={**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
