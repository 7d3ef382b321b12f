r"""Four generators of about the same size on the same molecules for the same time: with and without bonds, in local and
in Cartesian axes.

    python benchmarks/study_generators.py --minutes 60 [--only 'Quetzal, bonds'] [--out runs/study]

One thread each, one after the other. A run that was stopped goes on when it is started again. Needs the arrays of QM9
beside the repository. Figures: `--num-samples` molecules, seed 0, EDM rules, no mask, failures in the denominator.
"""
import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from qm9_arrays import machine
from train_qm9 import packed

from torch_geometric_inertial import InertialAR, InertialARConfig, Quetzal, QuetzalConfig
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.models.bonded_config import QM9_ATOM_TYPES
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit

ELEMENTS = (1, 6, 7, 8)
TYPES = tuple(t for t in QM9_ATOM_TYPES if t[0] in ELEMENTS)
WITHOUT = dict(elements=ELEMENTS, channels=256, heads=8, head_channels=192, head_layers=3, num_draws=4)
STUDY: dict[str, tuple[Any, Any]] = {
    'InertialAR, bonds': (InertialARConfig.preset('small', atom_types=TYPES), RandomPose(180.0)),
    'Quetzal, bonds': (QuetzalConfig.preset('bonds', atom_types=TYPES), RandomPose(180.0)),
    'InertialAR': (InertialARConfig(bonds=False, type_layers=3, coord_layers=3, **WITHOUT), RandomPose(30.0, 0.5)),
    'Quetzal': (QuetzalConfig.preset('tiny', num_layers=6, coord_features=64, head_features=128, **WITHOUT),
                RandomPose(180.0, 1.0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=60.0)
    parser.add_argument('--only', choices=STUDY)
    parser.add_argument('--num-samples', type=int, default=1000)
    parser.add_argument('--out', type=Path, default=Path('runs/study'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = packed('train', ELEMENTS, Path('runs/qm9-data/train.pt'))
    print(f'{machine(1)}\n{len(whole):,} molecules, {args.minutes:g} minutes each\n\n| | parameters | steps of 128 | '
          'atoms stable | molecules stable | valid | valid × unique | connected |\n|---|---|---|---|---|---|---|---|')
    for name, (config, pose) in STUDY.items():
        if args.only not in (None, name):
            continue
        torch.manual_seed(0)
        model: Any = (Quetzal if isinstance(config, QuetzalConfig) else InertialAR)(config)
        data = PackedMolecules(whole.z, whole.pos, whole.ptr, bonds=whole.bonds if config.bonds else None)
        if isinstance(model, InertialAR):
            model.fit_landmarks(data.pos)
        budget = FitConfig(num_steps=1_000_000, max_minutes=args.minutes, batch_size=128, betas=(0.9, 0.98),
                           weight_decay=0.01, precision='bfloat16')
        trained: Any = fit(model, data, args.out / name.replace(', ', '-'), budget, augment=pose)
        if 'stopped_by' in trained.training_record:
            sys.exit(143)
        found = evaluate(trained.eval().generate(args.num_samples, seed=0), 'edm-qm9')
        figures = (found.atom_stability, found.molecule_stability, found.validity, found.valid_and_unique,
                   found.valid_and_connected)
        print(f"| {name} | {sum(p.numel() for p in model.parameters()):,} | {trained.training_record['steps']:,} | "
              + ' | '.join(f'{100 * x:.1f} %' for x in figures) + ' |', flush=True)


if __name__ == '__main__':
    main()
