r"""Do molecules have the functional groups that were asked for? The hit rate at several guidance scales.

    python examples/qm9_conditional.py               the weights that come with the package
    python examples/qm9_conditional.py --root data/qm9 --scales 0 1 1.5 2 3 4 --num-samples 1000
    inertial train --groups qm9 --out runs/groups; python examples/qm9_conditional.py --weights runs/groups/model

What is asked for are the groups of held-out molecules, so some combinations are new to the model. Scale 0 asks for
nothing. `python benchmarks/plot_conditions.py OUT/guidance.json` draws the trade-off.
"""
import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial import AtomAutoregressor, FunctionalGroups
from torch_geometric_inertial.datasets import load_qm9
from torch_geometric_inertial.metrics import HitRate, hit_rate


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder of a generator that knows groups')
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--scales', type=float, nargs='+', default=[0.0, 1.0, 2.0, 3.0], help='guidance scales')
    parser.add_argument('--num-samples', type=int, default=100, help='molecules per scale')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/qm9_conditional'), help='folder of all results')
    return parser.parse_args()


def choose_groups(held_out: list[Data], num: int, seed: int) -> Tensor:
    """The groups of held-out molecules that have some, drawn with replacement [num, G]."""
    groups = torch.cat([data.groups for data in held_out])
    groups = groups[groups.bool().any(dim=1)]
    return groups[torch.randint(len(groups), (num, ), generator=torch.Generator().manual_seed(seed))]


def table(results: dict[float, HitRate]) -> str:
    lines = [f'{"guidance scale":>14} {"hit %":>7} {"exact %":>8} {"atom stable %":>14} {"mol stable %":>13} '
             f'{"valid %":>8} {"V×U %":>7}']
    for scale, result in results.items():
        report = result.report
        cells = (result.hit_rate, result.exact_rate, report.atom_stability, report.molecule_stability, report.validity,
                 report.valid_and_unique)
        lines.append(f'{scale:14g} ' + ' '.join(f'{100 * x:{n}.1f}' for x, n in zip(cells, (7, 8, 14, 13, 8, 7),
                                                                                   strict=True)))
    return '\n'.join(lines)


def main() -> None:
    args = parse_arguments()
    model = AtomAutoregressor.from_pretrained(args.weights)
    add_groups, dataset = FunctionalGroups('qm9'), load_qm9('valid', args.root)
    some = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:1000]
    held_out = [add_groups(data) for data in dataset[some]]
    requested = choose_groups(held_out, args.num_samples, args.seed)

    results = {}
    for scale in args.scales:
        generated = model.generate(args.num_samples, groups=requested, guidance_scale=scale, seed=args.seed)
        results[scale] = hit_rate(generated, requested)
    best = max(results.values(), key=lambda result: result.hit_rate)
    print(f'{best}\n\n{table(results)}')
    real = [data for data in held_out if bool(data.groups.any())]
    found = hit_rate(real, torch.cat([data.groups for data in real]))
    print(f'held-out molecules, asked for their own groups: {100 * found.hit_rate:.1f} % hit, '
          f'{100 * found.report.molecule_stability:.1f} % stable')

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'guidance.json').write_text(json.dumps({s: json.loads(r.to_json()) for s, r in results.items()}))
    print(f"wrote {args.out / 'guidance.json'}")


if __name__ == '__main__':
    main()
