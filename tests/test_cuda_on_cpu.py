"""The CUDA kernels, unmodified, run on the CPU by fibers (``tests/cuda_on_cpu``) and compared with plain PyTorch."""
import math

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


def close(got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, scale: float = 1.0) -> None:
    got = got.view(dtype)[:expected.numel()].view(expected.shape)
    assert relative_error(got, expected) < TOLERANCE[dtype] * scale


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('gram', [False, True], ids=['phi', 'gram'])
@pytest.mark.parametrize('name', CASES)
def test_attention_and_its_gradients(run_cuda_on_cpu, name, gram, dtype):
    case = CASES[name]
    inputs = attention_inputs(dtype=dtype, **case)
    warps = 2 if name == 'two rounds of heads' else min(case['heads'], 8)
    double = {key: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
              for key, value in inputs.items()}
    leaf = padded_gram(double['phi'], inputs['scale_ptr'], inputs['ptr'], extra=2) if gram else double['phi']
    leaves = [double[key].requires_grad_() for key in ('q', 'k', 'v', 'pos', 'gain')] + [leaf.requires_grad_()]
    table = leaf if gram else padded_gram(leaf, inputs['scale_ptr'], inputs['ptr'])
    out, lse = attention_definition(*leaves[:4], table, leaves[4], double['freqs'], inputs['ptr'], inputs['causal'])
    grads = torch.autograd.grad([out, lse], leaves, [double['grad_out'], double['grad_lse']], allow_unused=True,
                                materialize_grads=True)

    inputs |= {
        'T': inputs['q'].size(0), 'B': len(case['lengths']), 'H': case['heads'], 'D': case['channels'],
        'M': sum(case['features']), 'S': len(case['features']), 'K': case['channels'] // 6, 'L': table.size(-1),
        'scale': 1 / math.sqrt(case['channels']), 'warps': warps, 'needs_phi': True,
    }
    if gram:
        del inputs['phi']
        inputs['gram'] = leaf.detach().float()
    got = run_cuda_on_cpu('georope_attention', dtype, inputs)
    close(got['out'], out, dtype)
    close(got['lse'], lse, torch.float32, scale=1 if dtype == torch.float32 else 1000)

    inputs |= {'out': out.detach().to(dtype), 'lse': lse.detach().float()}
    got = run_cuda_on_cpu('georope_attention_backward', dtype, inputs)
    for key, expected in zip(['dq', 'dk', 'dv', 'dpos', 'dgain', 'dphi'], grads, strict=True):
        kept = dtype if key in ('dq', 'dk', 'dv') else torch.float32
        if expected.numel():
            close(got[key], expected, kept, scale=3 if dtype == kept else TOLERANCE[dtype] / TOLERANCE[kept] * 3)


@pytest.mark.parametrize('name', ['molecules', 'odd features', 'many sequences'])
def test_products_of_features_and_their_gradient(run_cuda_on_cpu, name):
    case = CASES[name]
    inputs = attention_inputs(dtype=torch.float32, **case)
    sizes = {'T': inputs['q'].size(0), 'B': len(case['lengths']), 'H': 1, 'D': 4, 'M': sum(case['features']),
             'S': len(case['features']), 'K': 0, 'scale': 1.0}
    inputs = {key: inputs[key] for key in ('phi', 'scale_ptr', 'ptr')} | {'causal': False} | sizes
    phi = inputs['phi'].double().requires_grad_()
    expected = padded_gram(phi, inputs['scale_ptr'], inputs['ptr'], extra=3)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    inputs |= {'L': expected.size(-1), 'grad_gram': grad}
    close(run_cuda_on_cpu('georope_gram', torch.float32, inputs)['gram'], expected, torch.float32)
    dphi, = torch.autograd.grad(expected, phi, grad.double())
    close(run_cuda_on_cpu('georope_gram_backward', torch.float32, inputs)['dphi'], dphi, torch.float32)


@pytest.mark.parametrize('num_tokens, m', [(1, 3), (37, 33), (16, 140)])
def test_nystrom_features_and_their_gradient(run_cuda_on_cpu, num_tokens, m):
    generator = torch.Generator().manual_seed(m)
    width = torch.tensor([0.8, 2.5], dtype=torch.float64)
    pos, landmarks = torch.randn(num_tokens, 3, generator=generator), torch.randn(m, 3, generator=generator)
    whitening, grad = torch.randn(2, m, m, generator=generator), torch.randn(num_tokens, 2 * m, generator=generator)
    p = pos.double().requires_grad_()
    square = (p.unsqueeze(1) - landmarks.double()).square().sum(-1)
    phi = torch.cat([torch.exp(-square / (2 * width[s]**2)) @ whitening[s].double() for s in range(2)], dim=1)
    pos_grad, = torch.autograd.grad(phi, p, grad.double())
    got = run_cuda_on_cpu('nystrom_features', torch.float32, {
        'pos': pos, 'landmarks': landmarks, 'whitening': whitening, 'grad': grad, 'width': width, 'T': num_tokens,
        'm': m, 'S': 2})
    close(got['phi'], phi, torch.float32)
    close(got['pos_grad'], pos_grad, torch.float32)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_rotation_and_the_gradient_of_its_phase(run_cuda_on_cpu, dtype):
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(19, 3, 26, generator=generator).to(dtype) for _ in range(2))
    phase = 50 * torch.randn(19, 13, generator=generator)
    got = run_cuda_on_cpu('rope_rotate', dtype, {'x': x, 'phase': phase, 'grad': grad, 'T': 19, 'H': 3, 'D': 26})
    angle = phase.double().unsqueeze(1)
    pair = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pair * torch.polar(torch.ones_like(angle), angle)
    close(got['turned'], torch.view_as_real(turned).flatten(-2), dtype)
    slope = torch.view_as_complex(grad.double().unflatten(-1, (-1, 2)).contiguous())
    close(got['phase_grad'], (turned.conj() * slope).imag.sum(1), torch.float32,
          scale=TOLERANCE[dtype] / TOLERANCE[torch.float32])


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_decoding_one_token_against_the_cache(run_cuda_on_cpu, dtype):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, generator=generator)

    rows, heads, channels, capacity, num_scales, m, num_keys = 5, 3, 50, 23, 2, 9, 21
    slot = torch.tensor([0, 20, 7, 8, 3])
    behind = torch.arange(capacity) >= slot.unsqueeze(1)  # nothing there may be read
    key, value = (draw(rows, capacity, heads, channels).to(dtype).masked_fill(behind[..., None, None], torch.nan)
                  for _ in range(2))
    features = draw(rows, capacity, num_scales * m).masked_fill(behind.unsqueeze(-1), torch.nan)
    q, k, v = (draw(rows, heads, channels).to(dtype) for _ in range(3))
    inputs = {'q': q, 'k': k, 'v': v, 'key': key, 'value': value, 'features': features, 'slot': slot,
              'phi': draw(rows, num_scales * m), 'gain': draw(heads, num_scales), 'R': rows, 'H': heads,
              'D': channels, 'L': capacity, 'S': num_scales, 'm': m, 'N': num_keys}
    got = run_cuda_on_cpu('georope_decode', dtype, inputs)

    row = torch.arange(rows)
    for name, new in (('key', k), ('value', v), ('features', inputs['phi'])):
        inputs[name] = inputs[name].index_put((row, slot), new)
        cache = inputs[name]
        assert torch.equal(got[name].view(cache.dtype).view(cache.shape).nan_to_num(7.0), cache.nan_to_num(7.0))
    outs, gram = [], torch.zeros(rows, num_scales, num_keys, dtype=torch.float64)
    for r, last in enumerate(slot.tolist()):
        seen = slice(0, last + 1)
        one, old = (x.double().unflatten(-1, (num_scales, m)) for x in (inputs['phi'][r], inputs['features'][r, seen]))
        gram[r, :, seen] = torch.einsum('sm,jsm->sj', one, old)
        score = torch.einsum('hd,jhd->hj', q[r].double(), inputs['key'][r, seen].double()) / math.sqrt(channels)
        score = score + inputs['gain'].double() @ gram[r, :, seen]
        outs.append(torch.einsum('hj,jhd->hd', score.softmax(-1), inputs['value'][r, seen].double()))
    close(got['gram'], gram, torch.float32)
    close(got['out'], torch.stack(outs), dtype)


def test_sums_of_segments(run_cuda_on_cpu):
    src, ptr = torch.randn(40, 7), torch.tensor([0, 0, 3, 3, 39, 40, 40])
    got = run_cuda_on_cpu('segment_sum', torch.float32, {'src': src, 'ptr': ptr, 'T': 40, 'B': 6, 'width': 7})
    expected = torch.stack([part.double().sum(0) for part in src.split(ptr.diff().tolist())])
    close(got['sums'], expected, torch.float32)
