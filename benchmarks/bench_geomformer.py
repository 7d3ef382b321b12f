r"""Energies and forces: GeoMFormer against PyG's ViSNet and SchNet, and our PaiNN and TorchMDNet, of equal size.

    python benchmarks/bench_geomformer.py [--molecules ethanol aspirin drug] [--batch-sizes 32 256] [--rounds N]
    python benchmarks/bench_geomformer.py --scaling 1000 5000

All models have as many parameters as the `rmd17` preset of GeoMFormer with 96 channels, by their widths. A training
step is the loss of energies and conservative forces with its gradient in the weights; an optimiser's step costs the
same for all. ViSNet and SchNet need torch_cluster for their neighbors; they get them from our cells of the grid
instead, with a cutoff of 5 Å and without their limit of 32 neighbors, like PaiNN and TorchMDNet. GeoMFormer sees
pairs up to 6 Å. ethanol, aspirin: frames of rMD17 (9 and 21 atoms); drug: the largest molecule of the conformer
benchmark (88 atoms), in disturbed copies.
"""
import argparse
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_georope import milliseconds
from data_folder import DATA
from torch import Tensor, nn
from torch_geometric.nn.models import SchNet, ViSNet, visnet

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig, PaiNN, TorchMDNet
from torch_geometric_inertial.neighbors.neighbor_list import neighbor_list
from torch_geometric_inertial.ops import library

CUTOFF, ELEMENTS, DATA = 5.0, (1, 6, 7, 8, 9, 15, 16, 17, 35, 53), DATA
MODELS = ('GeoMFormer', 'ViSNet', 'SchNet', 'PaiNN', 'TorchMDNet')


def neighbors(pos: Tensor, r: float, batch: Tensor, loop: bool = False, max_num_neighbors: int = 0) -> Tensor:
    """In place of torch_cluster's `radius_graph`: senders and receivers [2, E]."""
    ptr = torch.searchsorted(batch, torch.arange(int(batch[-1]) + 2))
    row, col = neighbor_list(pos.detach(), ptr, r)
    keep = slice(None) if loop else row != col
    return torch.stack([col[keep], row[keep]])


def distances(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    index = neighbors(pos, CUTOFF, batch)
    return index, (pos[index[0]] - pos[index[1]]).norm(dim=-1)


visnet.radius_graph = neighbors


class Rival(nn.Module):
    """Energies and forces of a model of PyG."""
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, **kwargs) -> tuple[Tensor, Tensor]:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            pos = pos.detach().requires_grad_()
            energy = self.model(z, pos, batch)
            energy = energy[0] if isinstance(energy, tuple) else energy
            gradient, = torch.autograd.grad(energy.sum(), pos, create_graph=differentiable)
        return energy.squeeze(-1), -gradient


def new_model(name: str, width: int) -> nn.Module:
    torch.manual_seed(0)
    if name == 'ViSNet':
        return Rival(ViSNet(hidden_channels=width, cutoff=CUTOFF))
    if name == 'SchNet':
        return Rival(SchNet(width, width, cutoff=CUTOFF, interaction_graph=distances))
    if name == 'GeoMFormer':
        return GeoMFormer(GeoMFormerConfig.preset('rmd17', channels=width, elements=ELEMENTS))
    kind = PaiNN if name == 'PaiNN' else TorchMDNet
    return kind(channels=width, elements=ELEMENTS, cutoff=CUTOFF, vector_head='conservative')


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def models_of_equal_size() -> dict[str, nn.Module]:
    """The width of each is the multiple of 8 that comes closest to the parameters of GeoMFormer."""
    found = {'GeoMFormer': new_model('GeoMFormer', 96)}
    target = size(found['GeoMFormer'])
    for name in MODELS[1:]:
        width = 64
        while size(new_model(name, width + 8)) < target:
            width += 8
        found[name] = min((new_model(name, w) for w in (width, width + 8)), key=lambda m: abs(size(m) - target))
    return found


def molecules(name: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Types [N], positions [N, 3] and molecules [N]."""
    if name == 'drug':
        with np.load(DATA / 'conformer_benchmark/conformers.npz') as file:
            ptr = file['ptr']
            largest = int(np.diff(ptr).argmax())
            atoms = slice(ptr[largest], ptr[largest + 1])
            z, pos = torch.from_numpy(file['z'][atoms]).long(), torch.from_numpy(file['pos'][atoms]).float()
        noise = torch.randn(count, *pos.shape, generator=torch.Generator().manual_seed(0))
        frames = pos + 0.02 * noise
    else:
        with np.load(DATA / f'rmd17/rmd17_{name}.npz') as file:
            z, frames = torch.from_numpy(file['z']).long(), torch.from_numpy(file['R'][:count]).float()
    return z.repeat(count), frames.reshape(-1, 3), torch.arange(count).repeat_interleave(len(z))


def step_of(model: nn.Module, inputs: tuple[Tensor, ...], count: int) -> Callable:
    g = torch.Generator().manual_seed(1)
    energy, force = torch.randn(count, generator=g), torch.randn(inputs[1].shape, generator=g)

    def step() -> None:
        e, f = model(*inputs, batch_size=count)
        (0.2 * (e - energy).square().mean() + 0.8 * (f - force).square().mean()).backward()
        model.zero_grad(set_to_none=True)
    return step


def inference_of(model: nn.Module, inputs: tuple[Tensor, ...], count: int) -> Callable:
    @torch.no_grad()
    def infer() -> None:
        model(*inputs, batch_size=count)
    return infer


def peak_megabytes(arguments: list[str]) -> float:
    """Largest resident memory of a process that runs this script so, above that of one that stops before the call."""
    def largest(*more: str) -> float:
        run = subprocess.run([sys.executable, __file__, *arguments, *more], capture_output=True, text=True, check=True)
        return float(run.stdout.split()[-1])
    return largest() - largest('--idle')


def print_memory() -> None:
    line, = (x for x in Path('/proc/self/status').read_text().splitlines() if x.startswith('VmHWM'))
    print(int(line.split()[1]) / 1024)


def compare(name: str, count: int, rounds: int, memory: bool) -> None:
    inputs = molecules(name, count)
    print(f'\n{name}: {count} molecules of {len(inputs[0]) // count} atoms', flush=True)
    print('| model | parameters | training step ms | of ViSNet\'s, a parameter | energies + forces ms | '
          'of ViSNet\'s, a parameter | peak MB of a step |')
    print('|---|---|---|---|---|---|---|')
    models = models_of_equal_size()
    steps = milliseconds({k: step_of(m, inputs, count) for k, m in models.items()}, rounds)
    plain = milliseconds({k: inference_of(m, inputs, count) for k, m in models.items()}, rounds)
    for key, model in models.items():
        cells = []
        for taken in (steps, plain):
            share = taken[key][0] / size(model) / (taken['ViSNet'][0] / size(models['ViSNet']))
            cells.append(f'{taken[key][0]:.0f} ({taken[key][1]:.0f}) | {share:.2f}')
        peak = '–'
        if memory:
            peak = f'{peak_megabytes(["--one", key, "--molecules", name, "--batch-sizes", str(count)]):.0f}'
        print(f'| {key} | {size(model):,} | {" | ".join(cells)} | {peak} |', flush=True)


def local_model() -> GeoMFormer:
    torch.manual_seed(0)
    return GeoMFormer(GeoMFormerConfig.preset('rmd17', elements=ELEMENTS, cutoff=CUTOFF, equivariant_init='neighbors',
                                              vector_head='conservative'))


def crystal(atoms: int) -> tuple[Tensor, Tensor, Tensor]:
    """A disturbed grid of carbon with 60 Å³ an atom, every atom with as many neighbors whatever their number."""
    side = int(np.ceil(atoms ** (1 / 3)))
    grid = torch.cartesian_prod(*[torch.arange(float(side))] * 3)[:atoms] * 60 ** (1 / 3)
    noise = torch.randn(atoms, 3, generator=torch.Generator().manual_seed(0))
    return torch.full((atoms, ), 6), grid + 0.1 * noise, torch.zeros(atoms, dtype=torch.int64)


def scaling(sizes: list[int]) -> None:
    print('\none system on the neighbor-list path, cutoff 5 Å: energies + forces, a training step')
    print('| atoms | pairs an atom | energies + forces ms | peak MB | MB an atom | step ms | peak MB | MB an atom |')
    print('|---|---|---|---|---|---|---|---|')
    for atoms in sizes:
        model, inputs = local_model(), crystal(atoms)
        pairs = neighbor_list(inputs[1], torch.tensor([0, atoms]), CUTOFF)[0].numel() / atoms
        cells = []
        for name, call in (('infer', inference_of(model, inputs, 1)), ('step', step_of(model, inputs, 1))):
            taken = milliseconds({'': call}, 2)[''][0]
            peak = peak_megabytes(['--one', name, '--scaling', str(atoms)])
            cells.append(f'{taken:.0f} | {peak:.0f} | {peak / atoms:.3f}')
        print(f'| {atoms:,} | {pairs:.0f} | {" | ".join(cells)} |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--molecules', nargs='*', default=['ethanol', 'aspirin', 'drug'],
                        choices=['ethanol', 'aspirin', 'drug'])
    parser.add_argument('--batch-sizes', nargs='*', type=int, default=[32, 256])
    parser.add_argument('--rounds', type=int, default=5, help='at least 2')
    parser.add_argument('--scaling', nargs='*', type=int, help='atoms of one system, instead of molecules')
    parser.add_argument('--no-memory', action='store_true')
    parser.add_argument('--one', help=argparse.SUPPRESS)  # what `peak_megabytes` runs
    parser.add_argument('--idle', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one is not None:
        if args.scaling:
            inputs, count = crystal(args.scaling[0]), 1
            call = (inference_of if args.one == 'infer' else step_of)(local_model(), inputs, 1)
        else:
            count = args.batch_sizes[0]
            call = step_of(models_of_equal_size()[args.one], molecules(args.molecules[0], count), count)
        if not args.idle:
            call()
        print_memory()
        return
    print(f'{platform.machine()}, torch {torch.__version__}, {args.threads} thread(s), float32, '
          f'{"compiled operators" if library.COMPILED else "no compiled operators"};\n'
          f'processor time, median of {args.rounds} (interquartile range)')
    if args.scaling:
        return scaling(args.scaling)
    for name in args.molecules:
        for count in args.batch_sizes:
            compare(name, count, args.rounds, not args.no_memory)


if __name__ == '__main__':
    main()
