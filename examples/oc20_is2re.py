r"""Relaxed energies (IS2RE) and structures (IS2RS) of adsorbates on surfaces, from their initial structures.

    python examples/oc20_is2re.py --files relaxations/*.traj                a small model on trajectories, in minutes
    python examples/oc20_is2re.py --files relaxations/*.traj --task is2rs
    python examples/oc20_is2re.py --root data/oc20                          the published model on OC20 (see below)

With --files a fifth of the systems is held out. Trajectories hold total energies without a reference, so the target is
the energy that the relaxation sets free; where no atom has a tag, tags are guessed from elements and constraints. That
shows that everything runs; it is no benchmark.

With --root the official LMDB files are read and errors are those of the four validation splits. The published schedule
is long: the script measures a step of the published model here and says how long it would take. Run it again to go on
where it was stopped; with torchrun it uses several GPUs.
"""
import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import OC20, guess_tags, read_relaxations
from torch_geometric_inertial.metrics import average_distance_within_threshold, energy_within_threshold
from torch_geometric_inertial.training import (
    FitConfig,
    IS2RELoss,
    IS2RSLoss,
    NoisyNodes,
    PackedTargets,
    fit,
    predict_is2re,
)

VALIDATION = ('val_id', 'val_ood_ads', 'val_ood_cat', 'val_ood_both')
PUBLISHED = {'is2re': dict(batch_size=128, num_steps=1_000_000), 'is2rs': dict(batch_size=64, num_steps=1_000_000)}
SMALL = dict(channels=32, heads=4, num_layers=2, num_kernels=32, cutoff=5.0, radius=(0.0, 5.0))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--root', type=Path, help='folder of the official LMDB files')
    source.add_argument('--files', type=Path, nargs='+', help='trajectories, or archives of relaxations')
    parser.add_argument('--task', default='is2re', choices=list(PUBLISHED))
    parser.add_argument('--model', choices=['small', 'published'],
                        help='size of the model and its schedule; by default published with --root, small with --files')
    parser.add_argument('--size', default='all', choices=['all', '100k', '10k'],
                        help='systems to train on, with --root')
    parser.add_argument('--num-validation', type=int, default=2000,
                        help='systems of each validation split to report errors on, with --root')
    parser.add_argument('--num-steps', type=int, help='training steps; 300 or the published number if left out')
    parser.add_argument('--batch-size', type=int, help='systems a step; 4 or the published number if left out')
    parser.add_argument('--lr', type=float, help='peak learning rate; 3e-3 or the published one if left out')
    parser.add_argument('--precision', default='float32', choices=['float32', 'bfloat16'])
    parser.add_argument('--noise', type=float, default=0.3, help='of noisy nodes in IS2RE (Å); negative for none')
    parser.add_argument('--evaluate-every', type=int, default=100, help='training steps between validations')
    parser.add_argument('--estimate-systems', type=int, default=1,
                        help='systems to measure a step of the published model on; 0 for no estimate')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/oc20'), help='folder of all results')
    args = parser.parse_args()
    args.model = args.model or ('small' if args.root is None else 'published')
    return args


def pack(systems: list[Data]) -> PackedTargets:
    return PackedTargets.from_dataset(systems, ['z', 'pos', 'pos_relaxed', 'tags', 'fixed'], ['energy', 'cell', 'pbc'])


def load_files(args: argparse.Namespace) -> tuple[PackedTargets, dict[str, PackedTargets]]:
    """Systems to train on, and a fifth of them to judge by."""
    systems = read_relaxations(args.files)
    if len(systems) < 5:
        raise SystemExit(f'at least 5 relaxations are needed, of which one is held out (got {len(systems)})')
    for data in systems:
        data.energy = data.energy - data.energy_initial
        if not bool(data.tags.any()):
            data.tags = guess_tags(data.z, data.fixed)
    order = torch.randperm(len(systems), generator=torch.Generator().manual_seed(0)).tolist()
    held = len(systems) // 5
    return pack([systems[i] for i in order[held:]]), {'held out': pack([systems[i] for i in order[:held]])}


def load(args: argparse.Namespace) -> tuple[PackedTargets | OC20, dict[str, PackedTargets]]:
    if args.files is not None:
        return load_files(args)
    splits = {name: pack(list(OC20(str(args.root), name)[:args.num_validation])) for name in VALIDATION}
    return OC20(str(args.root), 'train', args.size), splits


def new_model(size: str, args: argparse.Namespace) -> GeoMFormer:
    torch.manual_seed(args.seed)
    scalar_head = 'sum' if args.task == 'is2re' else 'none'
    return GeoMFormer(GeoMFormerConfig.preset('oc20', scalar_head=scalar_head, **(SMALL if size == 'small' else {})))


def new_loss(model: GeoMFormer, sample: Data, args: argparse.Namespace) -> nn.Module:
    if args.task == 'is2rs':
        return IS2RSLoss(model, sample)
    if args.root is not None:
        return IS2RELoss(model, sample)  # mean and deviation are published
    return IS2RELoss(model, sample, float(sample.energy.mean()), float(sample.energy.std()))


def reports(energy: torch.Tensor | None, pos: torch.Tensor, data: PackedTargets) -> list:
    """Energies, if there are any, and structures."""
    batch = data.batch()
    distance = average_distance_within_threshold(pos, batch.pos_relaxed, batch.batch, batch.cell, batch.pbc,
                                                 fixed=batch.fixed)
    return [*([] if energy is None else [energy_within_threshold(energy, batch.energy)]), distance]


def figures(loss: nn.Module, data: PackedTargets) -> dict[str, float]:
    *energy, distance = reports(*predict_is2re(loss.model, data), data)
    found = dict(val_distance=distance.mean, val_adwt=distance.within)
    return found | (dict(val_energy_mae=energy[0].mae, val_ewt=energy[0].within) if energy else {})


def train_model(train: PackedTargets | OC20, splits: dict[str, PackedTargets], sample: Data,
                args: argparse.Namespace) -> GeoMFormer:
    """Trained to the end; the log has the errors on the first of the splits on the way."""
    model = new_model(args.model, args)
    if args.model == 'small':
        schedule = dict(num_steps=300, batch_size=4, lr=3e-3, warmup_steps=20, ema_decay=0.98)
    else:
        schedule = dict(lr=2e-4, warmup_steps=60_000, ema_decay=0.9999, **PUBLISHED[args.task])
    schedule |= {name: getattr(args, name) for name in ('num_steps', 'batch_size', 'lr') if getattr(args, name)}
    config = FitConfig(min_lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, max_norm=5.0, precision=args.precision,
                       evaluate_every=args.evaluate_every, seed=args.seed, log_every=20, **schedule)
    print(f'{model} learns {args.task} from {len(train):,} systems in {config.num_steps:,} steps of '
          f'{config.batch_size}')
    val = next(iter(splits.values()))
    augment = NoisyNodes(args.noise) if args.task == 'is2re' and args.noise >= 0 else None
    last = fit(new_loss(model, sample, args), train, args.out / 'training', config, augment=augment,
               evaluate=lambda loss, step: figures(loss, val), progress=True)
    last.model.save_pretrained(args.out / 'model', energy_unit='eV', task=args.task, validation=figures(last, val),
                               training=dict(systems=len(train), steps=config.num_steps, seed=args.seed))
    return last.model


def seconds_a_step(loss: nn.Module, batch: Data, repeats: int = 2) -> float:
    """A forward and a backward pass and an update, after one to warm up; of CPU time where there is no GPU."""
    device, clock = ('cuda', time.perf_counter) if torch.cuda.is_available() else ('cpu', time.process_time)
    loss, batch = loss.to(device).train(), batch.to(device)
    optimizer = torch.optim.AdamW(loss.parameters())
    start = 0.0
    for repeat in range(repeats + 1):
        if repeat == 1:
            start = clock()
        loss(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == 'cuda':
            torch.cuda.synchronize()
    return (clock() - start) / repeats


def usual(data: PackedTargets, number: int) -> Data:
    """Systems of nearly the mean size."""
    size = data.ptr.diff().double()
    return data.batch((size - size.mean()).abs().argsort()[:number])


def print_times(data: PackedTargets, sample: Data, args: argparse.Namespace) -> None:
    """A step of this model, and what the published run would cost here."""
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    batch = usual(data, 4)
    seconds = seconds_a_step(new_loss(new_model(args.model, args), sample, args), batch)
    print(f'this model: {seconds:.2f} s a step of {batch.cell.size(0)} systems with {batch.num_nodes} atoms ({place})')
    if args.estimate_systems < 1:
        return
    batch, run = usual(data, args.estimate_systems), PUBLISHED[args.task]
    model = new_model('published', args)
    seconds = seconds_a_step(new_loss(model, sample, args), batch)
    days = seconds / batch.cell.size(0) * run['batch_size'] * run['num_steps'] / 86400
    print(f'published model, {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters: {seconds:.2f} s a '
          f'step of {batch.cell.size(0)} system(s) with {batch.num_nodes} atoms in float32 ({place})')
    print(f"at that speed the published {run['num_steps']:,} steps of {run['batch_size']} systems take "
          f'{days:,.0f} days')


def main() -> None:
    args = parse_arguments()
    train, splits = load(args)
    sample = train.batch(torch.arange(min(len(train), 1000)))
    model = train_model(train, splits, sample, args)
    judged = splits if args.root is not None else {'training': train, **splits}
    for name, data in judged.items():
        batch = data.batch()
        mean = sample.energy.mean().expand(len(data)) if args.task == 'is2re' else None
        print(f'{name}, {len(data):,} systems')
        for who, (energy, pos) in {'mean, atoms stay': (mean, batch.pos),
                                   'GeoMFormer': predict_is2re(model, data)}.items():
            print(f'  {who:18}', '; '.join(map(str, reports(energy, pos, data))))
    print_times(next(iter(splits.values())), sample, args)


if __name__ == '__main__':
    main()
