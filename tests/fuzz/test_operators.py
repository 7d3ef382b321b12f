"""Every compiled operator with every argument wrong in turn: a result, or a RuntimeError that names the operator.

The calls run in a process of their own, which says what it is about to do: a crash names its case. ``make fuzz`` sets
INERTIAL_FUZZ_SECONDS, for as long as which further cases are drawn.
"""
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import torch_geometric_inertial.ops  # noqa: F401 (registers the operators and their examples)
from torch_geometric_inertial.ops.library import COMPILED, EXAMPLES, KERNELS

SECONDS = float(os.environ.get('INERTIAL_FUZZ_SECONDS', '0'))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.int32, torch.bool,
          torch.complex64)


def arguments(op: str, t: int = 5, h: int = 2, d: int = 8, s: int = 2, m: int = 3) -> list:
    """Valid arguments: t tokens in two sequences, h heads of d features, s scales of m features. Of an operator that is
    not here, those of its example."""
    ptr, scale_ptr, n = torch.tensor([0, t // 2, t]), torch.arange(s + 1) * m, t - t // 2
    r = torch.randn
    heads = [r(t, h, d) for _ in range(3)]
    pos, phi, gain, freqs, gram = r(t, 3), r(t, s * m), r(h, s), r(d // 6), r(t, s, n)
    attention = [*heads, pos, phi, gain, scale_ptr, freqs, ptr]
    vectors, bias, matrices = r(t, 3, h * d), r(2 * h, n, n), torch.eye(3).repeat(t, 1, 1)
    pairs, whiten = [vectors, vectors, vectors, bias, ptr, 0.3, h], [vectors, r(h * d)]
    eigen = torch.ones(t, 12, dtype=torch.float64)
    slot, nystrom = torch.arange(t) % 4, [pos, r(m, 3), r(s, m, m), [1.0] * s]
    known = {
        'segment_sum': [vectors, ptr],
        'simd_exp': [pos], 'simd_log': [pos], 'simd_sincos': [pos.double()],
        'georope_attention': [*attention, True, None],
        'georope_attention_backward': [heads[0], r(t, h), *attention, heads[0], r(t, h), True, None, True, True],
        'georope_gram': [phi, scale_ptr, ptr, n],
        'georope_gram_backward': [gram, phi, scale_ptr, ptr],
        'rope_rotate': [heads[0], r(t, d // 2)],
        'rope_rotate_phase': [heads[0], heads[1]],
        'nystrom_features': nystrom,
        'nystrom_features_pos': [phi, *nystrom],
        'georope_decode_gram': [phi, slot, s, 4, r(t, 6, s * m)],
        'georope_decode': [*heads, r(t, s, 4), gain, slot, r(t, 6, h, d), r(t, 6, h, d)],
        'inverse_root': [matrices],
        'sylvester': [matrices, matrices],
        'pair_attention': pairs,
        'pair_attention_backward': [vectors, *pairs],
        'pair_attention_backward_backward': [vectors, vectors, vectors, bias, vectors, *pairs],
        'whiten': [*whiten, 0.1, 0.1, True],
        'whiten_backward': [vectors, *whiten, eigen, 0.1, 0.1, True],
        'whiten_backward_backward': [*whiten, vectors, *whiten, eigen, 0.1, 0.1, True],
    }
    return known[op] if op in known else list(EXAMPLES[op](r, torch.device('cpu')).inputs)


OPERATORS = sorted(KERNELS['cpu'] - {'cpu_capability'})


def wrong(x) -> dict:
    """Everything that one argument may be instead, by name."""
    if isinstance(x, bool):
        return {'the other': not x}
    if isinstance(x, int | float):
        return {str(value): type(x)(value) for value in (0, -1, 7, 1 << 40)}
    if isinstance(x, list):
        return {'[]': [], 'zero': [0.0] * len(x), 'longer': [*x, 1.0], 'nan': [float('nan')] * len(x)}
    if x is None:
        return {}
    out = {str(dtype): x.to(dtype) for dtype in DTYPES if dtype != x.dtype}
    out |= {'scalar': x.new_zeros(()), 'a dimension more': x.unsqueeze(0), 'flat': x.reshape(-1), 'meta': x.to('meta')}
    for dim in range(x.dim()):
        out[f'dimension {dim} empty'] = x.narrow(dim, 0, 0)
        out[f'dimension {dim} shorter'] = x.narrow(dim, 0, max(x.size(dim) - 1, 0))
        out[f'dimension {dim} longer'] = torch.cat([x, x.narrow(dim, 0, min(1, x.size(dim)))], dim)
        out[f'dimension {dim} expanded'] = x.narrow(dim, 0, 1).expand_as(x) if x.size(dim) else x
        out[f'dimension {dim} strided'] = torch.stack([x, x], -1).flatten(-2)[..., ::2] if dim == x.dim() - 1 else (
            x.transpose(dim, -1).contiguous().transpose(dim, -1))
    if x.dtype == torch.int64:
        out |= {'negative': -x - 1, 'huge': x + (1 << 40), 'falling': x.flip(0)}
    else:
        out |= {'nan': torch.full_like(x, torch.nan), 'inf': torch.full_like(x, torch.inf)}
    return out


def last_case(text: str) -> None:
    """Keeps the last case alone in standard output, which is a file."""
    os.pwrite(1, text.encode().ljust(400), 0)


def call(op: str, case: str, args: list) -> None:
    last_case(f'{op} {case}')
    try:
        getattr(torch.ops.inertial, op)(*args)
    except RuntimeError as error:  # of an argument's value or type, or of the memory it would take
        name = 'simd' if op.startswith('simd') else op
        memory = 'API call failed' in str(error) or 'allocate' in str(error)
        assert name in str(error) or memory, f'{op}, {case}: the error names no operator: {error}'


def each_argument_wrong(op: str) -> None:
    for index in range(len(arguments(op))):
        for case in wrong(arguments(op)[index]):
            args = arguments(op)
            args[index] = wrong(args[index])[case]
            call(op, f'argument {index}: {case}', args)
    for name in ('t', 'h', 'd', 's', 'm'):
        call(op, f'{name} = 0', arguments(op, **{name: 0}))


def several_wrong(seed: int, seconds: float) -> None:
    """Random sizes, and up to three arguments wrong at a time."""
    draw, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        op = draw.choice(OPERATORS)
        args, cases = arguments(op, *(draw.randint(0, 9) for _ in range(5))), []
        for index in draw.sample(range(len(args)), min(draw.randint(0, 3), len(args))):
            choices = wrong(args[index])
            if choices:
                case = draw.choice(list(choices))
                args[index] = choices[case]
                cases.append(f'argument {index}: {case}')
        call(op, f'seed {seed}, call {count}, {cases}', args)
        count += 1
    last_case(str(count))


def in_a_process(code: str, path: Path) -> str:
    r"""Runs it, and returns what it wrote last."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    with open(path, 'w+') as out:
        done = subprocess.run([sys.executable, '-c', f'import sys; sys.path[:0] = {folders}; import torch; '
                               f'torch.set_num_threads(1); import test_operators; test_operators.{code}'],
                              stdout=out, stderr=subprocess.PIPE, text=True, timeout=600 + SECONDS)
    last = path.read_text().strip()
    assert done.returncode == 0, f'exit code {done.returncode} at: {last}\n{done.stderr[-2000:]}'
    return last


pytestmark = pytest.mark.skipif(not COMPILED, reason='the extension was not built')


def test_valid_arguments_are_valid():
    for op in OPERATORS:
        getattr(torch.ops.inertial, op)(*arguments(op))


def test_one_argument_wrong(tmp_path):
    in_a_process('all_operators()', tmp_path / 'last')


def all_operators() -> None:
    for op in OPERATORS:
        each_argument_wrong(op)


def test_several_arguments_wrong(tmp_path, cases):
    cases.number = int(in_a_process(f'several_wrong(seed=0, seconds={max(SECONDS, 3)})', tmp_path / 'last'))
    cases.unit = 'calls'
