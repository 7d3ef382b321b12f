r"""Sums over the atoms of each molecule: our operator against PyTorch's ways and torch_scatter.

    python benchmarks/bench_segment.py [--threads N]
"""
import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from torch_geometric_inertial.ops import segment, segment_sum_ref
from torch_geometric_inertial.ops.library import COMPILED

SHAPES = ((64, 18, 64), (1024, 18, 64), (1024, 18, 256), (20000, 18, 3), (20000, 18, 1))
ROUNDS = 15


def median_ms(call: Callable, *arguments) -> tuple[float, float]:
    """Median and interquartile range, after one call to warm up."""
    call(*arguments)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call(*arguments)
        times.append(1e3 * (time.perf_counter() - start))
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rivals: dict[str, Callable] = {'index_add (reference)': segment_sum_ref}
    rivals['torch.segment_reduce'] = lambda src, ptr: torch.segment_reduce(src, 'sum', lengths=ptr.diff(), axis=0)
    if segment.torch_scatter is not None:
        rivals['torch_scatter'] = lambda src, ptr: segment.torch_scatter.segment_csr(src, ptr, reduce='sum')
    if COMPILED:
        rivals['inertial::segment_sum'] = torch.ops.inertial.segment_sum

    print(f'{platform.machine()}, torch {torch.__version__}, {args.threads} thread(s), float32, '
          f'median of {ROUNDS} (interquartile range), ms')
    print(f'{"molecules x atoms x channels":30}' + ''.join(f'{name:>24}' for name in rivals))
    for molecules, atoms, channels in SHAPES:
        src = torch.randn(molecules * atoms, channels)
        ptr = torch.arange(molecules + 1) * atoms
        cells = ''.join('{:.3f} ({:.3f})'.format(*median_ms(rival, src, ptr)).rjust(24) for rival in rivals.values())
        print(f'{f"{molecules} x {atoms} x {channels}":30}{cells}')


if __name__ == '__main__':
    main()
