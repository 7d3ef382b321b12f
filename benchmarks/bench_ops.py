r"""Nyström features and rotations: our kernels against their definitions in PyTorch, eager and compiled.

    python benchmarks/bench_ops.py [--threads N] [--no-compile]
"""
import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops import nystrom_features, nystrom_features_ref, rope_rotate, rope_rotate_ref

ROUNDS = 15
TOKENS = (256, 4608)  # a decoding step of 256 rows, and a batch of 256 molecules of 18 atoms


def features(dtype: torch.dtype, tokens: int) -> tuple[tuple[Tensor, ...], dict]:
    shapes = (tokens, 3), (128, 3), (3, 128, 128)
    return tuple(torch.randn(s, dtype=dtype) for s in shapes), {'width': (1.0, 2.0, 4.0)}


def turns(dtype: torch.dtype, tokens: int) -> tuple[tuple[Tensor, ...], dict]:
    return (torch.randn(tokens, 8, 64, dtype=dtype), 30 * torch.randn(tokens, 32)), {}


def forward(call: Callable, inputs: tuple[Tensor, ...], rest: dict) -> None:
    with torch.no_grad():
        call(*inputs, **rest)


def forward_backward(call: Callable, inputs: tuple[Tensor, ...], rest: dict) -> None:
    first, *others = inputs
    first = first.detach().requires_grad_()
    out = call(first, *others, **rest)
    out.backward(out.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--no-compile', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f'{platform.machine()}, torch {torch.__version__}, {args.threads} thread(s); processor ms, '
          f'median of {ROUNDS} interleaved rounds (interquartile range)\n')
    print('| op | type | tokens | pass | rival | ms | ours is faster by |\n|---|---|---|---|---|---|---|')
    for name, ours, reference, make, dtypes in (
            ('nystrom_features', nystrom_features, nystrom_features_ref, features, (torch.float32, torch.float64)),
            ('rope_rotate', rope_rotate, rope_rotate_ref, turns, (torch.float32, torch.bfloat16))):
        rivals = {'ours': ours, 'eager': reference}
        if not args.no_compile:
            rivals['compiled'] = torch.compile(reference)
        for dtype in dtypes:
            for tokens in TOKENS:
                inputs, rest = make(dtype, tokens)
                for work in (forward, forward_backward):
                    times: dict[str, list[float]] = {rival: [] for rival in rivals}
                    for call in rivals.values():
                        work(call, inputs, rest)
                    for _ in range(ROUNDS):
                        for rival, call in rivals.items():
                            start = time.process_time()
                            work(call, inputs, rest)
                            times[rival].append(1e3 * (time.process_time() - start))
                    best = statistics.median(times['ours'])
                    for rival, taken in times.items():
                        low, middle, high = statistics.quantiles(taken, n=4)
                        print(f'| {name} | {str(dtype)[6:]} | {tokens} | {work.__name__} | {rival} '
                              f'| {middle:.2f} ({high - low:.2f}) | {middle / best:.1f} x |', flush=True)


if __name__ == '__main__':
    main()
