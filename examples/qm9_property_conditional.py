r"""Do molecules have the property that was asked for? EDM's protocol, at several guidance scales.

    python examples/qm9_property_conditional.py         the HOMO, by the weights that come with the package
    python examples/qm9_property_conditional.py --root data/qm9 --num-samples 1000    values and bounds of all of QM9
    python examples/qm9_properties.py --root data/qm9 --target gap --half first --fit max_minutes=60 --out outputs/gap
    python examples/qm9_property_conditional.py --root data/qm9 --regressor outputs/gap/model --scales 1 1.5 2 3

The requested values are those of test molecules; the size is free. The regressor was trained on the first half of the
EDM training split and the generator on the labels of the second. Scale 0 ignores the requests, for comparison. Without
--root the real molecules are those of the embedded sample. `python benchmarks/plot_conditions.py OUT/property.json`
draws predicted against requested values.
"""
import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import load_qm9, qm9_target
from torch_geometric_inertial.metrics import PropertyError, PropertyRegressor, Report, evaluate, halves, property_error
from torch_geometric_inertial.models import AtomAutoregressor

FLUORINE = 9


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--regressor', default='qm9-homo', help='bundled name or folder, see qm9_properties.py')
    parser.add_argument('--weights', default='qm9', help="generator that knows the regressor's property")
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--scales', type=float, nargs='+', default=[0.0, 1.0, 2.0], help='guidance scales')
    parser.add_argument('--num-samples', type=int, default=200, help='molecules per scale')
    parser.add_argument('--num-real', type=int, default=2000, help='test molecules that the bounds are taken from')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/qm9_property'), help='folder of all results')
    return parser.parse_args()


def load(split: str, root: Path | None, target: str) -> tuple[list[Data], Tensor]:
    """Molecules without fluorine, and their labels [M], NaN where there is none."""
    dataset = load_qm9(split, root)
    values = qm9_target(dataset, target)
    keep = [i for i, data in enumerate(dataset) if FLUORINE not in data.z]
    return [dataset[i] for i in keep], values[keep]


def table(error: dict[float, PropertyError], report: dict[float, Report], factor: float) -> str:
    bounds = next(iter(error.values()))
    lines = [f'{"":22} {"MAE":>8} {"failed":>7} {"atom stable %":>14} {"mol stable %":>13} {"valid %":>8}',
             f'{"labels of others":22} {factor * bounds.random:8.1f}',
             f'{"size only":22} {factor * bounds.size_only:8.1f}']
    for scale, result in error.items():
        r = report[scale]
        lines.append(f'{f"asked for, scale {scale:g}":22} {factor * result.mae:8.1f} {result.num_failed:7} '
                     f'{100 * r.atom_stability:14.1f} {100 * r.molecule_stability:13.1f} {100 * r.validity:8.1f}')
    return '\n'.join([*lines, f'{"real test molecules":22} {factor * bounds.regressor:8.1f}'])


def main() -> None:
    args = parse_arguments()
    regressor = PropertyRegressor.from_pretrained(args.regressor)
    model = AtomAutoregressor.from_pretrained(args.weights)
    if regressor.target not in model.condition.property_names:
        raise ValueError(f"'{args.weights}' does not know the property '{regressor.target}' of '{args.regressor}' (it "
                         f"knows {', '.join(model.condition.property_names) or 'none'})")
    known, train_labels = load('train', args.root, regressor.target)
    half = [i for i in halves(len(known))[1].tolist() if train_labels[i].isfinite()]  # the generator's
    train_sizes, train_labels = torch.tensor([known[i].num_nodes for i in half]), train_labels[half]
    real, labels = load('test', args.root, regressor.target)
    drawn = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    drawn = drawn[labels[drawn].isfinite()][:args.num_real]
    real, labels = [real[i] for i in drawn.tolist()], labels[drawn]
    generator = torch.Generator().manual_seed(args.seed)
    requested = labels[torch.randint(len(labels), (args.num_samples, ), generator=generator)]
    unit, factor = ('meV', 1000.0) if regressor.unit == 'eV' else (regressor.unit, 1.0)
    print(f'{regressor} evaluates {args.num_samples} molecules per scale by {type(model).__name__} {args.weights}')

    errors, reports = {}, {}
    for scale in args.scales:
        generated = model.generate(args.num_samples, properties={regressor.target: requested}, guidance_scale=scale,
                                   seed=args.seed)
        errors[scale] = property_error(regressor, generated, requested, real, labels, train_sizes, train_labels)
        reports[scale] = evaluate(generated, 'edm-qm9')
    print(f'mean absolute error of {regressor.target} ({unit})\n{table(errors, reports, factor)}')
    args.out.mkdir(parents=True, exist_ok=True)
    results = {scale: asdict(error) | dict(molecule_stability=reports[scale].molecule_stability)
               for scale, error in errors.items()}
    (args.out / 'property.json').write_text(json.dumps(
        dict(target=regressor.target, unit=regressor.unit, requested=requested.tolist(), scales=results)))
    print(f"wrote {args.out / 'property.json'}")


if __name__ == '__main__':
    main()
