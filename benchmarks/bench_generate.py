r"""How fast the generators write molecules of 18 atoms: random weights, float32, the stop type forbidden.

    python benchmarks/bench_generate.py --models InertialAR/paper Quetzal/small-w512 --batch-sizes 1 32 --threads 1

For models whose shapes are those of a released one, `as released` is the same network, parameter for parameter, run as
the released code does: both stacks over the whole prefix for every atom, and Heun's method with 2N - 1 plain
evaluations of the head. Times are CPU seconds divided by the threads (`--clock wall` for the wall's), so that other
work on the machine counts little. Weights are drawn at random: only the time means anything.
"""
import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from unittest.mock import patch

import torch

from torch_geometric_inertial import models
from torch_geometric_inertial.generation import GenerationRequest, SamplingConfig, generate_molecules
from torch_geometric_inertial.nn.flow_solvers import heun, noise_levels

ATOMS = 18
RELEASED = {  # grid points of Heun's method, and what the released code took elsewhere
    'Quetzal/small-w512': (60, '0.667 molecules/s at batch 32 (released code, two cores of another machine)'),
    'Quetzal/big-w1536': (60, '0.168 molecules/s at batch 32 (released code, two cores of another machine)'),
    'InertialAR/paper': (110, '1 molecule in 47 to 61 s (released code, two cores of another machine)'),
}
BUNDLED = ('qm9', )
ALL = ['InertialAR/qm9', 'InertialAR/paper', 'Quetzal/small-w512']


def write(model: models.AtomAutoregressor, num: int, num_steps: int | None) -> None:
    if model.writes_bonds:  # an untrained one ends its molecules where it likes: the bundled weights are what counts
        model.generate(num, num_steps=num_steps, batch_size=num)
        return
    allowed = torch.ones(model.network.stop + 1, dtype=torch.bool)
    allowed[model.network.stop] = False
    sampling = SamplingConfig() if num_steps is None else SamplingConfig(num_steps=num_steps)
    requests = [GenerationRequest(i, ATOMS, allowed=allowed) for i in range(num)]
    written = list(generate_molecules(model.network, requests, sampling, batch_size=num))
    assert [data.num_nodes for data in written] == num * [ATOMS]


@torch.no_grad()
def write_as_released(model: models.AtomAutoregressor, num: int, num_grid: int) -> None:
    head, generator = model.network.head, torch.Generator().manual_seed(0)
    sigmas = noise_levels(num_grid, 80.0, 1e-4, 7.0)
    tokens, places = [model.condition(None, num)], [torch.zeros(num, 3)]
    for t in range(ATOMS):
        x, pos = torch.stack(tokens, dim=1).flatten(0, 1), torch.stack(places, dim=1).flatten(0, 1)
        ptr = torch.arange(num + 1) * (t + 1)
        h = model.network.type_states(x, pos, ptr, None)
        prob = model.network.type_head(h)[t::t + 1, :model.network.stop].float().softmax(dim=-1)
        types = prob.multinomial(1, generator=generator).squeeze(1)
        z = model.network.place_states(h, x, types.repeat_interleave(t + 1), pos, ptr)[t::t + 1]
        cond = head.cond_linear(z)

        def denoise(i: int, y: torch.Tensor, cond: torch.Tensor = cond) -> torch.Tensor:
            return head.denoise(y, torch.full((num, 1), sigmas[i]), cond)

        place = heun(denoise, sigmas[0] * torch.randn(num, 3, generator=generator), sigmas)
        places.append(place)
        tokens.append(model.network.embedding(types, torch.full((num, ), t), place))


def timed(clock: Callable[[], float], call: Callable, *args) -> float:
    start = clock()
    call(*args)
    return clock() - start


def split(model: models.AtomAutoregressor, clock: Callable[[], float], call: Callable, *args) -> dict[str, float]:
    r"""Shares of the time in the two stacks (with their geometry) and the head."""
    spent: dict[str, float] = defaultdict(float)

    def watched(name: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            start = clock()
            out = function(*args, **kwargs)
            spent[name] += clock() - start
            return out
        return call

    with (patch.object(model.network, 'type_states', watched('type', model.network.type_states)),
          patch.object(model.network, 'place_states', watched('coord', model.network.place_states)),
          patch.object(model.network.head, 'sample', watched('head', model.network.head.sample))):
        total = timed(clock, call, *args)
    return {name: spent[name] / total for name in ('type', 'coord', 'head')}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='*', default=[name for name in ALL if hasattr(models, name.split('/')[0])])
    parser.add_argument('--batch-sizes', nargs='*', type=int, default=[1, 32, 256])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=5, help='of which the median counts')
    parser.add_argument('--max-seconds', type=float, default=60, help='fewer rounds when one takes longer than a fifth '
                        'of it, and larger batches are left out when it would be more')
    parser.add_argument('--num-steps', type=int, help="evaluations of the head an atom (default: the package's)")
    parser.add_argument('--clock', choices=['cpu', 'wall'], default='cpu')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.perf_counter if args.clock == 'wall' else lambda: time.process_time() / args.threads
    print(f'{platform.machine()}, {args.threads} threads, torch {torch.__version__}, float32, {ATOMS} atoms, '
          f'{args.clock} time, {args.num_steps or SamplingConfig().num_steps} evaluations of the head an atom')
    print(f'{"model":20} {"parameters":>12} {"batch":>6} {"mol/s":>9} {"low":>8} {"high":>8} {"rounds":>6} '
          f'{"type":>6} {"coord":>6} {"head":>6}')
    for name in args.models:
        family, preset = name.split('/')
        torch.manual_seed(0)
        model_class = getattr(models, family)
        weights = preset in BUNDLED
        model = model_class.from_pretrained(preset) if weights else model_class(
            model_class.config_class.preset(preset)).eval()
        parameters = sum(p.numel() for p in model.parameters())
        speeds: dict[int, float] = {}
        for num in args.batch_sizes:
            write(model, 1, args.num_steps)
            row = measure(clock, args, write, model, num, args.num_steps)
            speeds[num] = num / statistics.median(row)
            shares = {} if model.writes_bonds else split(model, clock, write, model, num, args.num_steps)
            print_row(name, parameters, num, row, ''.join(f' {share:6.0%}' for share in shares.values()))
            if 8 * row[0] > args.max_seconds:
                break
        if name in RELEASED:
            num_grid, known = RELEASED[name]
            num = 1 if family == 'InertialAR' else min(32, max(speeds))
            row = measure(clock, args, write_as_released, model, num, num_grid)
            print_row('  as released', parameters, num, row, f'  Heun, {2 * num_grid - 1} evaluations')
            ratio = statistics.median(row) / num
            print('  ' + ', '.join(f'{speed * ratio:.1f} x at batch {n}' for n, speed in speeds.items())
                  + f' (as released: batch {num}); known: {known}', flush=True)


def measure(clock: Callable[[], float], args: argparse.Namespace, call: Callable, *arguments) -> list[float]:
    times = [timed(clock, call, *arguments)]
    if times[0] < args.max_seconds / 5:
        times = [timed(clock, call, *arguments) for _ in range(args.rounds)]  # the first was to warm up
    return times


def print_row(name: str, parameters: int, num: int, row: list[float], rest: str) -> None:
    print(f'{name:20} {parameters:12,} {num:6} {num / statistics.median(row):9.3f} {num / max(row):8.3f} '
          f'{num / min(row):8.3f} {len(row):6}{rest}', flush=True)


if __name__ == '__main__':
    main()
