r"""Trains the bundled generator `qm9` further: its graph part and its placer apart, since the first learns its
molecules by heart long before the second has learned enough.

    python benchmarks/train_qm9.py --part graph --minutes 60 --out runs/qm9-graph
    python benchmarks/train_qm9.py --part places --minutes 240 --out runs/qm9-places
    python benchmarks/train_qm9.py --graph runs/qm9-graph/model --places runs/qm9-places/model --out runs/qm9

Needs the arrays of QM9 beside the repository. A run that is stopped goes on when it is started again; one that is still
going can be judged by the averaged weights of its newest checkpoint (`--export`).
"""
import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from check_weights import real_molecules
from data_folder import DATA
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import FunctionalGroups, InertialAR
from torch_geometric_inertial.datasets import qm9_split
from torch_geometric_inertial.metrics.property_error import halves
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomOrder, RandomPose, fit
from torch_geometric_inertial.training.checkpoint import load_checkpoint
from torch_geometric_inertial.training.packed import PackedBonds
from torch_geometric_inertial.transforms import canonical

WALKS = {'graph': 0.5, 'places': 0.3}  #: Share of molecules in the order of a random walk.
EV = 27.211386246


class PartLoss(NamedTuple):
    total: Tensor


class GraphLoss(NamedTuple):
    total: Tensor
    type: Tensor
    bond: Tensor


class Part(nn.Module):
    """One of the two networks, with the loss of its own."""
    def __init__(self, model: InertialAR, part: str):
        super().__init__()
        self.part = part
        self.graph = part == 'graph'
        network = model.network
        self.learns = nn.ModuleList([network.graph, network.graph_condition] if self.graph else
                                    [network.placer, network.place_condition])
        self.whole = [model]  # in a list: its other part neither learns nor is saved

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> NamedTuple:
        network = self.whole[0].network
        skeleton, pos = network.read(batch)
        if self.graph:
            types, bonds = network.graph_losses(skeleton, batch, generator)
            return GraphLoss(types + bonds, types, bonds)
        return PartLoss(network.place_loss(skeleton, pos, batch, generator))


def packed(split: str, elements: tuple[int, ...], cache: Path) -> PackedMolecules:
    """Molecules of the EDM split in canonical form with groups, HOMO and gap (eV). Of the training set only the half
    that no regressor of the property protocol learns from has labels."""
    if not cache.is_file():
        with np.load(DATA / 'qm9' / 'qm9_geom.npz') as file:
            ids = torch.from_numpy(file['gdb_id'].astype(np.int64))
        with np.load(DATA / 'qm9' / 'qm9_targets.npz') as file:
            columns = list(file['columns'])
            labels = torch.from_numpy(file['T'][:, [columns.index('homo'), columns.index('gap')]] * EV).float()
        labels = labels[ids[qm9_split(ids, split)] - 1]
        if split == 'train':
            labels[halves(len(labels), seed=0)[0]] = torch.nan
        groups = FunctionalGroups('qm9')
        batch = Batch.from_data_list([groups(data) for data in real_molecules(elements, split)])
        batch = canonical('heavy_first')(batch)
        bonds = PackedBonds.from_data(batch.to_data_list())
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(z=batch.z, pos=batch.pos, ptr=batch.ptr, groups=batch.groups, properties=labels,
                        bonds=(bonds.index, bonds.order, bonds.ptr, bonds.charge)), cache)
    held = torch.load(cache, weights_only=True)
    return PackedMolecules(**held | dict(bonds=PackedBonds(*held['bonds'])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--part', choices=WALKS)
    parser.add_argument('--start', default='qm9', help='bundled name or folder')
    parser.add_argument('--minutes', type=float, default=60.0)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--graph', type=Path, help='folder of weights whose graph part is taken')
    parser.add_argument('--places', type=Path, help='folder of weights whose placer is taken')
    parser.add_argument('--export', action='store_true', help='write the averaged weights of the newest checkpoint')
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()
    if args.graph and args.places:
        model = InertialAR.from_pretrained(args.places)
        other = InertialAR.from_pretrained(args.graph).network
        model.network.graph, model.network.graph_condition = other.graph, other.graph_condition
        model.save_pretrained(args.out)
        return

    model = InertialAR.from_pretrained(args.start)
    part = Part(model, args.part)
    if args.export:
        state = load_checkpoint(args.out / 'checkpoints', ('step', 'ema'))
        part.load_state_dict({name[7:]: x for name, x in state['ema'].items() if name.startswith('module.')})
        model.eval().save_pretrained(args.out / 'model')
        return
    data = packed('train', model.elements, Path('runs/qm9-data/train.pt'))
    valid = packed('valid', model.elements, Path('runs/qm9-data/valid.pt'))
    batches = [valid.batch(torch.arange(start, start + 256)) for start in range(0, 4096, 256)]

    @torch.no_grad()
    def held_out(average: Part, step: int) -> dict[str, float]:
        """Losses of 4,096 validation molecules in canonical order, without conditions; nats per molecule."""
        terms = []
        for batch in batches:
            bare = Data(z=batch.z, pos=batch.pos, ptr=batch.ptr, edge_index=batch.edge_index,
                        edge_attr=batch.edge_attr, formal_charge=batch.formal_charge)
            loss = average(bare, torch.Generator().manual_seed(0))
            heavy = float((bare.z > 1).sum()) / 256 if average.graph else 1.0
            terms.append([heavy * float(x) for x in loss])
        names = [f'valid_{name}' for name in loss._fields]
        return dict(zip(names, torch.tensor(terms).mean(dim=0).tolist(), strict=True))

    if not part.graph:  # 1.3 times the speed
        placer = model.network.placer
        for module in (placer.messages, placer.head.network, *placer.blocks):
            module.compile(dynamic=True)
    walk, pose = RandomOrder('walk', WALKS[args.part]), RandomPose(180.0)
    config = FitConfig(num_steps=1_000_000, max_minutes=args.minutes, batch_size=128, lr=args.lr, min_lr=0.005,
                       betas=(0.9, 0.98), weight_decay=0.01, precision='bfloat16', evaluate_every=500, save_every=500)
    average = fit(part, data, args.out / 'checkpoints', config, evaluate=held_out,
                  augment=lambda batch, generator: pose(walk(batch, generator), generator))
    average.whole[0].eval().save_pretrained(args.out / 'model')


if __name__ == '__main__':
    main()
