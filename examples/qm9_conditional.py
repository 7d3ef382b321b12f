r"""Molecules with the functional groups that are asked for: InertialAR on QM9 with a condition, and how hard to insist.

    python examples/qm9_conditional.py              the weights that come with the package are asked for the groups of
                                                    held-out molecules at guidance scales 0, 1, 2, 3
    python examples/qm9_conditional.py --start qm9 --max-minutes 2
                                                    teach unconditional weights the groups of 10,000 real molecules
    python examples/qm9_conditional.py --weights outputs/qm9_conditional/model --scales 0 1 1.5 2 4
                                                    other scales with the weights of an earlier run
    python examples/qm9_conditional.py --root data/qm9 --start none --preset small --lr 2e-3 --max-minutes 90
                                                    learn all from the EDM training split of PyG's QM9 (downloaded)

The embedded sample is of the training split: with --root the wishes are those of its validation split.
"""
import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.datasets import QM9
from torch_geometric.transforms import Compose

from torch_geometric_inertial import CanonicalOrder, FunctionalGroups, InertialAR, InertialARConfig, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample, gdb_ids, qm9_split
from torch_geometric_inertial.metrics import HitRate, hit_rate
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--weights', default='qm9', help='conditional weights: bundled name or folder')
    parser.add_argument('--start', help="train instead, from unconditional weights: 'qm9', folder, or 'none'")
    parser.add_argument('--preset', default='tiny', help="size of the model with --start none: tiny, small, base")
    parser.add_argument('--max-minutes', type=float, default=2.0, help='time to train')
    parser.add_argument('--batch-size', type=int, default=64, help='molecules a training step')
    parser.add_argument('--lr', type=float, default=1e-3, help='peak learning rate')
    parser.add_argument('--scales', type=float, nargs='+', default=[0.0, 1.0, 2.0, 3.0], help='guidance scales')
    parser.add_argument('--num-samples', type=int, default=100, help='molecules a scale')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/qm9_conditional'), help='folder of all results')
    return parser.parse_args()


def load_molecules(root: Path | None, order: str) -> tuple[PackedMolecules, PackedMolecules]:
    """Molecules in canonical frame and order with their groups: for training, and held out."""
    prepare = Compose([FunctionalGroups('qm9'), InertialFrame(), CanonicalOrder(order=order)])
    dataset = QM9Sample() if root is None else QM9(str(root))
    batch = prepare(Batch.from_data_list(list(dataset)))
    data = PackedMolecules(batch.z, batch.pos, batch.ptr, batch.groups)
    if root is None:
        shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))  # the sample is in GDB order
        return data.subset(shuffled[500:]), data.subset(shuffled[:500])
    return tuple(data.subset(qm9_split(gdb_ids(batch.name), part).nonzero().flatten()) for part in ('train', 'valid'))


def new_model(molecules: PackedMolecules, args: argparse.Namespace) -> InertialAR:
    """A model that has groups, with all that the unconditional one knows."""
    torch.manual_seed(args.seed)
    names = FunctionalGroups('qm9').names
    groups = dict(num_groups=len(names), group_names=names)
    if args.start == 'none':
        config = InertialARConfig.preset(args.preset, elements=tuple(molecules.z.unique().tolist()), **groups)
        return InertialAR(config).fit_landmarks(molecules.pos)
    free = InertialAR.from_pretrained(args.start)
    model = InertialAR(dataclasses.replace(free.config, **groups))
    missing, _ = model.load_state_dict(free.state_dict(), strict=False)
    assert missing == ['condition.groups'], missing
    with torch.no_grad():  # a molecule has 3 groups: their sum begins near the null vector, which the model knows
        model.condition.groups.mul_(0.1).add_(model.condition.null / 3)
    return model


def train(molecules: PackedMolecules, args: argparse.Namespace) -> InertialAR:
    model = new_model(molecules, args)
    print(f'{model} learns from {len(molecules):,} molecules for {args.max_minutes:g} minutes')
    bfloat16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    config = FitConfig(num_steps=1_000_000, max_minutes=args.max_minutes, batch_size=args.batch_size, lr=args.lr,
                       warmup_steps=20, precision='bfloat16' if bfloat16 else 'float32', seed=args.seed)
    model = fit(model, molecules, args.out / 'training', config, augment=RandomPose(degrees=30.0, shift=0.5),
                progress=True)
    model.save_pretrained(args.out / 'model', training=dict(molecules=len(molecules), minutes=args.max_minutes))
    return model


def choose_wishes(molecules: PackedMolecules, held_out: PackedMolecules, num: int, seed: int) -> Tensor:
    """The groups of held-out molecules, drawn with replacement; some combinations are new to the model."""
    candidates = held_out.groups[held_out.groups.bool().any(dim=1)]
    generator = torch.Generator().manual_seed(seed)
    wishes = candidates[torch.randint(len(candidates), (num, ), generator=generator)]
    seen = {tuple(row) for row in molecules.groups.unique(dim=0).tolist()}
    new = sum(tuple(row) not in seen for row in wishes.tolist())
    print(f'{num} wishes, {new} of them for combinations that are not in the training set')
    return wishes


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


def plot(results: dict[float, HitRate], path: Path) -> None:
    """Hit rate against molecule stability, one point a scale, with 95 % intervals."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4.5), dpi=150, layout='constrained')
    x = [100 * result.report.molecule_stability for result in results.values()]
    y = [100 * result.hit_rate for result in results.values()]
    for values, ends, is_x in ((x, [r.report.intervals['molecule_stability'] for r in results.values()], True),
                               (y, [r.intervals['hit_rate'] for r in results.values()], False)):
        bars = [[v - 100 * low for v, (low, _) in zip(values, ends, strict=True)],
                [100 * high - v for v, (_, high) in zip(values, ends, strict=True)]]
        axes.errorbar(x, y, **{'xerr' if is_x else 'yerr': bars}, fmt='none', ecolor='0.8', zorder=0)
    axes.plot(x, y, 'o-', color='tab:blue')
    for scale, *point in zip(results, x, y, strict=True):
        axes.annotate(f'{scale:g}', point, xytext=(5, 5), textcoords='offset points')
    axes.set(xlabel='stable molecules (%)', ylabel='molecules with all wanted groups (%)',
             title='What is asked for against what is sound, by guidance scale')
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    args = parse_arguments()
    order = 'smiles' if args.start in (None, 'none') else InertialAR.from_pretrained(args.start).config.order
    molecules, held_out = load_molecules(args.root, order)
    model = InertialAR.from_pretrained(args.weights) if args.start is None else train(molecules, args)
    wishes = choose_wishes(molecules, held_out, args.num_samples, args.seed)

    results = {}
    for scale in args.scales:
        generated = model.generate(args.num_samples, groups=wishes, guidance_scale=scale, seed=args.seed)
        results[scale] = hit_rate(generated, wishes)
    best = max(results.values(), key=lambda result: result.hit_rate)
    print(f'{best}\n\n{table(results)}')
    some = held_out.subset(torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[:1000])
    real = hit_rate(some.to_data_list(), some.groups)
    print(f'held-out molecules, asked for their own groups: {100 * real.hit_rate:.1f} % hit, '
          f'{100 * real.report.molecule_stability:.1f} % stable')

    args.out.mkdir(parents=True, exist_ok=True)
    plot(results, args.out / 'guidance.png')
    (args.out / 'guidance.json').write_text(json.dumps({s: json.loads(r.to_json()) for s, r in results.items()}))
    print(f"wrote {args.out / 'guidance.png'} and {args.out / 'guidance.json'}")


if __name__ == '__main__':
    main()
