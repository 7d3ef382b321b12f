"""GeoRoPE attention on molecules of awkward sizes and its definition, for kernels to be held against."""
import math
from itertools import pairwise

import torch

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}  # ‖out - ref‖ / ‖ref‖

CASES = {
    'molecules': dict(lengths=[5, 0, 18, 1, 33, 16], heads=3, channels=32, features=[8, 16]),
    'all see all': dict(lengths=[19, 2, 40], heads=2, channels=64, features=[32], causal=False),
    'odd features': dict(lengths=[7, 21], heads=2, channels=40, features=[5, 0, 9, 34]),
    'two rounds of heads': dict(lengths=[17, 3], heads=5, channels=32, features=[12], causal=False),
    'no features': dict(lengths=[9, 36], heads=1, channels=12, features=[]),
    'many sequences': dict(lengths=[1, 2] * 35, heads=1, channels=4, features=[4]),
}


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """‖got - expected‖ / ‖expected‖; every element must have been written."""
    got, expected = got.detach().double().cpu(), expected.detach().double().cpu()
    assert got.shape == expected.shape, f'{list(got.shape)} instead of {list(expected.shape)}'
    assert got.isfinite().all(), f'{(~got.isfinite()).sum()} of {got.numel()} elements not written or not finite'
    return float((got - expected).norm() / expected.norm().clamp(min=1e-30))


def attention_inputs(lengths, heads, channels, features, dtype, *, causal=True, gram=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    num_tokens, num_scales = int(ptr[-1]), len(features)

    def draw(*size):
        return torch.randn(*size, generator=generator)

    q, k, v, grad_out = (draw(num_tokens, heads, channels).to(dtype) for _ in range(4))
    phi = draw(num_tokens, sum(features)) / math.sqrt(max(sum(features), 1) / 4)
    return {
        'q': q, 'k': k, 'v': v, 'grad_out': grad_out, 'grad_lse': draw(num_tokens, heads),
        'pos': 3 * draw(num_tokens, 3), 'phi': phi, 'gain': draw(heads, num_scales),
        'scale_ptr': torch.tensor([0, *features]).cumsum(0), 'freqs': torch.linspace(6.0, 0.1, channels // 6),
        'ptr': ptr, 'causal': causal,
    }


def padded_gram(phi, scale_ptr, ptr, extra=0):
    """gram[t, s, j] = phi_s(t) . phi_s(token j of t's sequence), zero beyond its end."""
    longest = int(ptr.diff().max()) + extra if ptr.numel() > 1 else extra
    out = phi.new_zeros(phi.size(0), scale_ptr.numel() - 1, longest)
    for begin, end in pairwise(ptr.tolist()):
        for s, (low, high) in enumerate(pairwise(scale_ptr.tolist())):
            out[begin:end, s, :end - begin] = phi[begin:end, low:high] @ phi[begin:end, low:high].mT
    return out


def attention_definition(q, k, v, pos, gram, gain, freqs, ptr, causal):
    """Scores of :math:`S_{ij}` written down sequence by sequence, in float64."""
    angle = (pos.unsqueeze(-1) * freqs).flatten(-2)
    angle = torch.nn.functional.pad(angle, (0, q.size(-1) // 2 - angle.size(-1))).unsqueeze(1)

    def turn(x):
        pair = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pair * torch.polar(torch.ones_like(angle), angle)).flatten(-2)

    outs, lses, q, k = [], [], turn(q), turn(k)
    for begin, end in pairwise(ptr.tolist()):
        one = slice(begin, end)
        score = torch.einsum('ihd,jhd->hij', q[one], k[one]) / math.sqrt(q.size(-1))
        score = score + torch.einsum('hs,jsi->hij', gain, gram[one, :, :end - begin])
        if causal:
            score = score.masked_fill(torch.ones(end - begin, end - begin).triu(1).bool(), -torch.inf)
        outs.append(torch.einsum('hij,jhd->ihd', score.softmax(-1), v[one]))
        lses.append(score.logsumexp(-1).mT)
    return torch.cat(outs), torch.cat(lses)
