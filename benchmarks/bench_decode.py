r"""One new token a sequence against its cache: the kernel against the best that PyTorch's own pieces make of it.

    python benchmarks/bench_decode.py [--threads N] [--rows 256] [--layers 4]

A step is what a model does once (kernel features of the new token into the cache, products with those seen) and what
each layer does (key and value into the cache, attention). Every rival writes the cache in place and reads no slot that
no row has reached. Rows have lengths drawn from 1 to L; `full` gives all rows the length L.
"""
import argparse
import platform
import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from torch_geometric_inertial.ops import (
    georope_decode,
    georope_decode_gram,
    georope_decode_gram_ref,
    georope_decode_ref,
)

HEADS, SIZE, SCALES, LANDMARKS, ROUNDS = 8, 64, 3, 128, 15


class Work:
    """The tensors of one step of all layers."""
    def __init__(self, rows: int, length: int, full: bool, layers: int):
        g = torch.Generator().manual_seed(0)
        self.length = length
        self.slot = torch.full((rows, ), length - 1) if full else torch.randint(0, length, (rows, ), generator=g)
        self.slot[0] = length - 1
        self.row = torch.arange(rows)
        self.phi = torch.randn(rows, SCALES * LANDMARKS, generator=g) / LANDMARKS**0.5
        self.features = torch.randn(rows, length, SCALES * LANDMARKS, generator=g) / LANDMARKS**0.5
        self.gain = torch.randn(HEADS, SCALES, generator=g)
        self.new = [torch.randn(3, rows, HEADS, SIZE, generator=g).unbind() for _ in range(layers)]
        self.slot_major = [torch.randn(2, rows, length, HEADS, SIZE, generator=g).unbind() for _ in range(layers)]
        self.head_major = [[x.transpose(1, 2).contiguous() for x in pair] for pair in self.slot_major]

    def ours(self) -> Tensor:
        gram = georope_decode_gram(self.phi, self.slot, SCALES, self.length, self.features)
        for (q, k, v), cache in zip(self.new, self.slot_major, strict=True):
            out = georope_decode(q, k, v, gram, self.gain, self.slot, *cache)
        return out

    def reference(self) -> Tensor:
        gram = georope_decode_gram_ref(self.phi, self.slot, SCALES, self.length, self.features)
        for (q, k, v), cache in zip(self.new, self.slot_major, strict=True):
            out = georope_decode_ref(q, k, v, gram, self.gain, self.slot, *cache)
        return out

    def _bias(self) -> tuple[Tensor, Tensor]:
        self.features[self.row, self.slot] = self.phi
        query = self.phi.view(-1, SCALES, 1, LANDMARKS)
        gram = query @ self.features.unflatten(2, (SCALES, -1)).permute(0, 2, 3, 1)
        return gram.squeeze(2), torch.arange(self.length) <= self.slot.unsqueeze(1)

    def sdpa(self, head_major: bool) -> Tensor:
        gram, seen = self._bias()
        for (q, k, v), cache in zip(self.new, self.head_major if head_major else self.slot_major, strict=True):
            for x, one in zip(cache, (k, v), strict=True):
                if head_major:
                    x[self.row, :, self.slot] = one
                else:
                    x[self.row, self.slot] = one
            key, value = cache if head_major else [x.transpose(1, 2) for x in cache]
            bias = (self.gain @ gram).masked_fill(~seen.unsqueeze(1), -torch.inf).unsqueeze(2)
            out = scaled_dot_product_attention(q.unsqueeze(2), key, value, attn_mask=bias)
        return out.squeeze(2)

    def by_hand(self) -> Tensor:
        gram, seen = self._bias()
        for (q, k, v), (key, value) in zip(self.new, self.head_major, strict=True):
            key[self.row, :, self.slot], value[self.row, :, self.slot] = k, v
            score = (key @ q.unsqueeze(3)).squeeze(3) / SIZE**0.5 + self.gain @ gram
            prob = score.masked_fill_(~seen.unsqueeze(1), -torch.inf).softmax(-1)
            out = prob.unsqueeze(2) @ value
        return out.squeeze(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--rows', type=int, default=256)
    parser.add_argument('--layers', type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f'{platform.machine()}, torch {torch.__version__}, {args.threads} thread(s), float32, {args.rows} rows, '
          f'{HEADS} heads of {SIZE}, {SCALES} x {LANDMARKS} features, {args.layers} layers;\n'
          f'one step, processor ms, median of {ROUNDS} interleaved rounds (interquartile range)\n')
    print('| slots | rival | ms | ours is faster by |\n|---|---|---|---|')
    for length, full in ((20, False), (20, True), (30, False), (64, False), (184, False)):
        work = Work(args.rows, length, full, args.layers)
        rivals = {
            'inertial::georope_decode': work.ours,
            'SDPA, float bias, caches [R, L, H, D]': lambda w=work: w.sdpa(False),
            'SDPA, float bias, caches [R, H, L, D]': lambda w=work: w.sdpa(True),
            'softmax(qK + bias) V, caches [R, H, L, D]': work.by_hand,
            'reference': work.reference,
        }
        times: dict[str, list[float]] = {name: [] for name in rivals}
        with torch.inference_mode():
            for name, call in rivals.items():
                torch.testing.assert_close(call(), work.reference(), atol=1e-4, rtol=0, msg=name)
            for _ in range(ROUNDS):
                for name, call in rivals.items():
                    start = time.process_time()
                    call()
                    times[name].append(1e3 * (time.process_time() - start))
        ours = statistics.median(times['inertial::georope_decode'])
        for name, taken in times.items():
            low, middle, high = statistics.quantiles(taken, n=4)
            print(f'| {f"{length}, full" if full else length} | {name} | {middle:.2f} ({high - low:.2f}) '
                  f'| {middle / ours:.1f} x |', flush=True)


if __name__ == '__main__':
    main()
