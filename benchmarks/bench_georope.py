r"""GeoRoPE attention: the operator against the best that PyTorch's own pieces make of it, on real lengths.

    python benchmarks/bench_georope.py [--threads N] [--work qm9 drugs long] [--no-compile] [--end-to-end PRESET]

Every rival does the same work from the same packed tensors: rotation, kernel products, attention, and in the backward
pass the gradients of q, k, v and the gains. Features are given. `gram` is what a layer of a model pays, which shares
the kernel products with its fellows. One new token against a cache is in bench_decode.py.
"""
import argparse
import ctypes
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from data_folder import DATA
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.rotary import rotary_frequencies, rotary_phases
from torch_geometric_inertial.ops import georope_attention, georope_gram, library, rope_rotate_ref

HEADS, SIZE, SCALES, LANDMARKS = 8, 64, 3, 128
DRUGS = DATA / 'cascade_dft_drugs' / 'dft8k.npz'


class Work:
    """The tensors of one pass over sequences of given lengths; a sequence is a start token and its atoms."""
    def __init__(self, lengths: list[int]):
        g = torch.Generator().manual_seed(0)
        self.ptr = torch.tensor([0, *lengths]).cumsum(0)
        self.packing = Packing(self.ptr)
        total = int(self.ptr[-1])
        self.q, self.k, self.v = (torch.randn(total, HEADS, SIZE, generator=g).requires_grad_() for _ in range(3))
        self.gain = torch.randn(HEADS, SCALES, generator=g).requires_grad_()
        self.pos = torch.randn(total, 3, generator=g) * 2
        self.phi = torch.randn(total, SCALES * LANDMARKS, generator=g) / LANDMARKS**0.5
        self.scale_ptr, self.freqs = torch.arange(SCALES + 1) * LANDMARKS, rotary_frequencies(SIZE)
        self.grad = torch.randn(total, HEADS, SIZE, generator=g)
        longest = self.packing.size[1]
        self.gram = georope_gram(self.phi, self.scale_ptr, self.ptr, longest)
        self.hidden = torch.ones(longest, longest, dtype=torch.bool).triu(1)
        self.blocks = create_block_mask(lambda b, h, i, j: j <= i, None, None, longest, longest, device='cpu')
        self.flex = flex_attention

    def operator(self) -> Tensor:
        return georope_attention(self.q, self.k, self.v, self.pos, self.phi, self.gain, self.scale_ptr, self.freqs,
                                 self.ptr)[0]

    def operator_gram(self) -> Tensor:
        return georope_attention(self.q, self.k, self.v, self.pos, None, self.gain, self.scale_ptr, self.freqs,
                                 self.ptr, gram=self.gram)[0]

    def _turned(self) -> tuple[Tensor, Tensor]:
        phase = rotary_phases(self.pos, self.freqs, SIZE)
        return rope_rotate_ref(self.q, phase), rope_rotate_ref(self.k, phase)

    def _products(self) -> Tensor:
        phi = self.packing.pad(self.phi).unflatten(-1, (SCALES, -1)).transpose(1, 2)
        return phi @ phi.mT

    def biased(self) -> Tensor:
        query, key, value = (self.packing.pad(x).transpose(1, 2) for x in (*self._turned(), self.v))
        bias = torch.einsum('hs,bsij->bhij', self.gain, self._products()).masked_fill(self.hidden, -torch.inf)
        return self.packing.unpad(scaled_dot_product_attention(query, key, value, bias).transpose(1, 2))

    def concatenated(self) -> Tensor:
        q, k = self._turned()
        phi = self.phi.view(-1, 1, SCALES, LANDMARKS)
        q = torch.cat([q / SIZE**0.5, (self.gain.unsqueeze(-1) * phi).flatten(-2)], -1)
        k = torch.cat([k, self.phi.unsqueeze(1).expand(-1, HEADS, -1)], -1)
        query, key, value = (self.packing.pad(x).transpose(1, 2) for x in (q, k, self.v))
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
        return self.packing.unpad(out.transpose(1, 2))

    def flexible(self) -> Tensor:
        query, key, value = (self.packing.pad(x.detach()).transpose(1, 2) for x in (*self._turned(), self.v))
        products, gain = self._products(), self.gain.detach()  # there is no backward on the CPU

        def score(x, b, h, i, j):
            for s in range(SCALES):
                x = x + gain[h, s] * products[b, s, i, j]
            return x

        return self.packing.unpad(self.flex(query, key, value, score, self.blocks).transpose(1, 2))

    def forward(self, rival: Callable) -> Tensor:
        with torch.no_grad():
            return rival()

    def both(self, rival: Callable) -> tuple[Tensor, ...]:
        return torch.autograd.grad(rival(), (self.q, self.k, self.v, self.gain), self.grad)


def lengths_of(name: str) -> list[int]:
    g = torch.Generator().manual_seed(1)
    if name == 'long':
        return [1024] * 4
    if name == 'drugs':
        atoms, count = torch.from_numpy(numpy.diff(numpy.load(DRUGS)['ptr'])), 64
    else:
        atoms, count = torch.tensor([data.num_nodes for data in QM9Sample()]), 256
    return (atoms[torch.randint(len(atoms), (count, ), generator=g)] + 1).tolist()


def milliseconds(calls: dict[str, Callable], rounds: int) -> dict[str, tuple[float, float]]:
    """Median and interquartile range of the processor time of each call. Rounds go through all calls in turn: each
    meets the same state of the allocator, which decides how much fresh memory a call pays for."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    quarters = {name: statistics.quantiles(taken, n=4) for name, taken in times.items()}
    return {name: (middle, high - low) for name, (low, middle, high) in quarters.items()}


def peak_megabytes(call: Callable) -> float:
    """How far the resident memory rises above what stood before the call (Linux)."""
    def status(key: str) -> int:
        line, = (x for x in Path('/proc/self/status').read_text().splitlines() if x.startswith(key))
        return int(line.split()[1])

    ctypes.CDLL(None).malloc_trim(0)
    Path('/proc/self/clear_refs').write_text('5')
    before = status('VmRSS')
    call()
    return (status('VmHWM') - before) / 1024


def compare(name: str, rounds: int, compiled: bool) -> None:
    work = Work(lengths_of(name))
    count, longest = work.packing.size
    print(f'\n{name}: {count} sequences, {len(work.q)} tokens, longest {longest}', flush=True)
    print('| path | forward ms | ours is faster by | forward + backward ms | ours is faster by | peak MB |')
    print('|---|---|---|---|---|---|')
    rivals = {'operator': work.operator, 'operator, gram': work.operator_gram,
              '(a) SDPA with a float bias': work.biased, '(b) SDPA, features beside q and k': work.concatenated}
    if compiled:
        rivals |= {'(c) (a) under torch.compile': torch.compile(work.biased),
                   '(d) compiled flex_attention': torch.compile(work.flexible)}
    exact, forward, both = work.forward(work.operator), {}, {}
    for path, rival in rivals.items():
        try:
            out = work.forward(rival)
        except Exception as error:  # a rival that this version of PyTorch cannot compile
            print(f'| {path} | {type(error).__name__}: {str(error).splitlines()[0][:90]} | – | – | – | – |', flush=True)
            continue
        torch.testing.assert_close(out, exact, atol=1e-4, rtol=0, msg=path)
        forward[path] = lambda rival=rival: work.forward(rival)
        if not path.startswith('(d)'):
            both[path] = lambda rival=rival: work.both(rival)
    taken = [milliseconds(forward, rounds), milliseconds(both, rounds)]
    for path in forward:
        cells = [f'{times[path][0]:.1f} ({times[path][1]:.1f}) | {times[path][0] / times["operator"][0]:.1f} x'
                 if path in times else '– | –' for times in taken]
        peak = peak_megabytes(both.get(path, forward[path]))
        print(f'| {path} | {" | ".join(cells)} | {peak:.0f} |', flush=True)


def end_to_end(preset: str, rounds: int) -> None:
    """A training step of 64 molecules, and writing of 64, of an untrained InertialAR."""
    from torch_geometric.loader import DataLoader
    from torch_geometric.transforms import Compose

    from torch_geometric_inertial import CanonicalOrder, InertialAR, InertialARConfig, InertialFrame

    model = InertialAR(InertialARConfig.preset(preset))
    canonical = Compose([InertialFrame(), CanonicalOrder()])
    batch = next(iter(DataLoader([canonical(data) for data in QM9Sample()[:64]], batch_size=64)))

    def step() -> None:
        model.train()
        model.zero_grad()
        model(batch).total.backward()

    def write() -> None:
        model.eval()
        model.generate(64, seed=0, num_steps=4, max_atoms=19)

    print(f'\nInertialAR {preset}, 64 molecules of QM9 a batch')
    print('| | operators ms | PyTorch ms | ratio |\n|---|---|---|---|')
    def composed(call: Callable) -> None:
        kernels, library.KERNELS = library.KERNELS, {}
        call()
        library.KERNELS = kernels

    for name, call in (('training step', step), ('generate, 4 steps an atom', write)):
        times = milliseconds({'own': call, 'other': lambda call=call: composed(call)}, rounds)
        own, other = times['own'][0], times['other'][0]
        print(f'| {name} | {own:.0f} | {other:.0f} | {other / own:.2f} x |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--work', nargs='*', default=['qm9', 'drugs', 'long'], choices=['qm9', 'drugs', 'long'])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--no-compile', action='store_true')
    parser.add_argument('--end-to-end', metavar='PRESET')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    level = ('portable', 'AVX2', 'AVX-512')[torch.ops.inertial.cpu_capability()]
    print(f'{platform.machine()}, {level}, torch {torch.__version__}, {args.threads} thread(s), float32, {HEADS} heads '
          f'of {SIZE}, {SCALES} x {LANDMARKS} features;\nprocessor time, median of {args.rounds} (interquartile range)')
    for name in args.work:
        if name == 'drugs' and not DRUGS.exists():
            print(f'\ndrugs: no {DRUGS}')
            continue
        compare(name, args.rounds, not args.no_compile)
    if args.end_to_end:
        end_to_end(args.end_to_end, max(args.rounds // 2, 3))


if __name__ == '__main__':
    main()
