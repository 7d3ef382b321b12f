r"""What a training step of GeoMFormer's published models takes here, and so their whole published training.

    python benchmarks/bench_published_training.py                               all four trainings, a system per step
    python benchmarks/bench_published_training.py --trainings pcqm4mv2 --systems 8 --precision bfloat16

Systems are molecules of the embedded sample of QM9 (for `pcqm4mv2` and `molecule3d`) and relaxations of surfaces from
the folder of real data (for `oc20_is2re` and `oc20_is2rs`; see data_folder.py), each near the mean size. Times are of
the processor where there is no GPU, the median of the steps and their range; the first step warms up and is left out.
"""
import argparse
import platform
import statistics
import time

import torch
from data_folder import DATA
from torch import nn
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import QM9Sample, guess_tags, read_relaxations
from torch_geometric_inertial.training import ConformerGapLoss, FitConfig, IS2RELoss, IS2RSLoss, PackedTargets
from torch_geometric_inertial.training.fit_config import PRESETS


def molecules() -> PackedTargets:
    """The geometries are said to be relaxed and conformers alike, which changes no time."""
    items = [data for data in QM9Sample()[:500] if bool(data.gap.isfinite())]
    for data in items:
        data.pos_relaxed = data.pos
    return PackedTargets.from_dataset(items, ['z', 'pos', 'pos_relaxed'], ['gap'])


def surfaces() -> PackedTargets:
    items = read_relaxations(DATA / 'oc20_debug_traj' / 'oc20_30.npz')
    for data in items:
        data.tags = guess_tags(data.z, data.fixed)
    return PackedTargets.from_dataset(items, ['z', 'pos', 'pos_relaxed', 'tags', 'fixed'], ['energy', 'cell', 'pbc'])


def new_loss(training: str, data: PackedTargets) -> nn.Module:
    torch.manual_seed(0)
    if not training.startswith('oc20'):
        return ConformerGapLoss(GeoMFormer(GeoMFormerConfig.preset(training)), data)
    energy = training == 'oc20_is2re'
    model = GeoMFormer(GeoMFormerConfig.preset('oc20', scalar_head='sum' if energy else 'none'))
    return (IS2RELoss if energy else IS2RSLoss)(model, data.batch())


def seconds_per_step(loss: nn.Module, batch: Data, steps: int, precision: str) -> list[float]:
    """Of a forward and a backward pass and an update."""
    device, clock = ('cuda', time.perf_counter) if torch.cuda.is_available() else ('cpu', time.process_time)
    loss, batch = loss.to(device).train(), batch.to(device)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-5, fused=True)
    seconds = []
    for _ in range(steps + 1):
        start = clock()
        with torch.autocast(device, torch.bfloat16, precision == 'bfloat16'):
            terms = loss(batch)
        terms.total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trainings', nargs='+', default=list(PRESETS), choices=list(PRESETS), metavar='NAME')
    parser.add_argument('--systems', type=int, default=1, help='systems per step')
    parser.add_argument('--steps', type=int, default=5, help='steps to time')
    parser.add_argument('--precision', default='float32', choices=['float32', 'bfloat16'])
    args = parser.parse_args()
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    print(f'{platform.machine()}, {place}, {torch.get_num_threads()} threads, torch {torch.__version__}, '
          f'{args.precision}')
    print(f'{"training":12} {"parameters":>10} {"atoms":>6} {"s per step":>11} {"range":>15} '
          f'{"published run, days":>20}')
    for training in args.trainings:
        data = surfaces() if training.startswith('oc20') else molecules()
        size = data.ptr.diff().double()
        batch = data.batch((size - size.mean()).abs().argsort()[:args.systems])
        loss = new_loss(training, data)
        seconds, published = seconds_per_step(loss, batch, args.steps, args.precision), FitConfig.preset(training)
        step, systems = statistics.median(seconds), batch.ptr.numel() - 1
        days = step / systems * published.batch_size * published.num_steps / 86400
        parameters = sum(p.numel() for p in loss.model.parameters())
        print(f'{training:12} {parameters / 1e6:8.0f} M {batch.num_nodes:6} {step:11.2f} '
              f'{min(seconds):7.2f} {max(seconds):7.2f} {days:20,.0f}')


if __name__ == '__main__':
    main()
