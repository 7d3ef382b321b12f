r"""How the atoms around a place should tell each other what they know: three mixings of the placer's messages, each for
the same time from the same start.

    python benchmarks/study_place_messages.py --minutes 10

`sum`: rounds that add the sum over all atoms around (what the package has). `GeoRoPE`: attention among them whose score
has rotary coordinates in the axes of the place and Nyström kernels of distance. `pair bias`: attention whose score and
value have a learned function of the distances. All three begin from the same messages, and only the placer learns.
Prints the diffusion loss of 4,096 validation molecules in canonical order, of the averaged weights. One thread.
"""
import argparse
import json
from pathlib import Path
from typing import Any

import torch
from qm9_arrays import machine
from torch import Tensor, nn
from train_qm9 import Part, packed

from torch_geometric_inertial import GeoRoPEAttention, InertialAR, InertialARConfig
from torch_geometric_inertial.models.bonded_config import QM9_ATOM_TYPES
from torch_geometric_inertial.nn.neighbor_messages import NeighborMessages
from torch_geometric_inertial.nn.pair_biased_attention import PairBiasedBlock
from torch_geometric_inertial.nn.transformer_block import SwiGLU
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit

ELEMENTS = (1, 6, 7, 8)


class AttendingMessages(NeighborMessages):
    """The first messages, then attention blocks among the atoms around a place."""
    def __init__(self, channels: int, out_channels: int, num_blocks: int):
        super().__init__(channels, out_channels, 1)
        self.blocks = nn.ModuleList(self.block(channels) for _ in range(num_blocks))

    def forward(self, offset: Tensor, key: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        _, message = super().forward(offset, key, valid)
        message = self.mix(message, offset, valid) * valid.unsqueeze(-1)
        return self.out(message.sum(dim=1)), message


class GeoRoPEBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(channels) for _ in range(2))
        self.attention = GeoRoPEAttention(channels, 4, causal=False, num_landmarks=64)
        self.mlp = SwiGLU(channels, 352)

    def forward(self, x: Tensor, pos: Tensor, ptr: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x), pos, ptr)
        return x + self.mlp(self.norms[1](x))


class GeoRoPEMessages(AttendingMessages):
    block = GeoRoPEBlock

    def mix(self, message: Tensor, offset: Tensor, valid: Tensor) -> Tensor:
        ptr = nn.functional.pad(valid.sum(dim=1).cumsum(0), (1, 0))
        x, pos = message[valid], offset[valid]
        for block in self.blocks:
            x = block(x, pos, ptr)
        return torch.zeros_like(message).index_put((valid, ), x.to(message.dtype))


class PairBiasMessages(AttendingMessages):
    def __init__(self, channels: int, out_channels: int, num_blocks: int):
        super().__init__(channels, out_channels, num_blocks)
        self.register_buffer('centers', torch.linspace(0, 8, 25))
        self.pair = nn.Sequential(nn.Linear(25, 32), nn.SiLU(), nn.Linear(32, 32))

    def block(self, channels: int) -> nn.Module:
        return PairBiasedBlock(channels, 4, 32)

    def mix(self, message: Tensor, offset: Tensor, valid: Tensor) -> Tensor:
        distance = torch.cdist(offset.detach(), offset.detach())
        pair = self.pair((-(distance.unsqueeze(-1) - self.centers).square() / 0.2).exp())
        for block in self.blocks:
            message = block(message, pair, valid.unsqueeze(1).expand(-1, valid.size(1), -1))
        return message


MIXINGS: dict[str, Any] = {'sum': (NeighborMessages, 3), 'GeoRoPE': (GeoRoPEMessages, 2),
                           'pair bias': (PairBiasMessages, 2)}


def without_conditions(data: PackedMolecules) -> PackedMolecules:
    return PackedMolecules(data.z, data.pos, data.ptr, bonds=data.bonds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--only', choices=MIXINGS)
    parser.add_argument('--out', type=Path, default=Path('runs/study_place_messages'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, valid = (without_conditions(packed(split, ELEMENTS, Path(f'runs/qm9-data/{split}.pt')))
                   for split in ('train', 'valid'))
    config = InertialARConfig.preset('small', atom_types=tuple(t for t in QM9_ATOM_TYPES if t[0] in ELEMENTS))
    print(f'{machine(1)}, {args.minutes:g} minutes each\n\n| mixing | parameters of the messages | steps of 128 | '
          'diffusion loss |\n|---|---|---|---|')
    for name, (kind, depth) in MIXINGS.items():
        if args.only not in (None, name):
            continue
        torch.manual_seed(0)
        model = InertialAR(config)
        model.network.placer.messages = kind(config.message_channels, config.channels, depth)
        part = Part(model, 'places')
        budget = FitConfig(num_steps=1_000_000, max_minutes=args.minutes, batch_size=128, betas=(0.9, 0.98),
                           weight_decay=0.01, precision='bfloat16')
        folder = args.out / name.replace(' ', '_')
        average: Any = fit(part, data, folder, budget, augment=RandomPose(180.0))
        with torch.no_grad():
            loss = [average(valid.batch(torch.arange(i, i + 256)), torch.Generator().manual_seed(0)).total
                    for i in range(0, 4096, 256)]
        size = sum(p.numel() for p in model.network.placer.messages.parameters())
        steps = json.loads((folder / 'training.json').read_text())['done']['steps']
        print(f'| {name} | {size:,} | {steps:,} | {torch.stack(loss).mean():.4f} |', flush=True)


if __name__ == '__main__':
    main()
