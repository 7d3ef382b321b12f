r"""The metrics on real molecules: the ceiling that a generator can honestly reach.

    python benchmarks/check_metrics.py [--data ../shared/data] [--protocols bonds geom-revisited …] [--limit N]
    python benchmarks/check_metrics.py --out benchmarks/results/metrics_on_real_molecules.md   every exception by name
    python benchmarks/check_metrics.py --write          the figures that stand beside every report

Real molecules are the sample of QM9 that comes with the package and 12,594 drug-like molecules of DFT.
"""
import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from data_folder import DATA
from torch_geometric.data import Data

import torch_geometric_inertial.metrics
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import Report, protocol_names
from torch_geometric_inertial.metrics.bundled import bundled_figures
from torch_geometric_inertial.metrics.evaluate import judge_reference
from torch_geometric_inertial.metrics.protocol import get_protocol

FOLDER = Path(torch_geometric_inertial.metrics.__file__).parent
NAMES = {'qm9': 'QM9', 'drugs': 'drug-like molecules'}
QUICK = ['edm-qm9', 'edm-geom', 'bonds', 'geom-revisited', 'geometry']
#: How many molecules slow protocols are measured on.
LIMITS = {'posebusters': 100, 'strain-xtb': 20, 'strain': 2000, 'xyz2mol-vdw': 2000, 'xyz2mol-ctd': 2000}


def drugs(file: Path) -> tuple[list[Data], list[str]]:
    """Molecules with their bonds and charges, and their SMILES."""
    with np.load(file) as stored:
        f = {name: stored[name] for name in stored.files}
    found = []
    for a, b, c, d in zip(f['ptr'][:-1], f['ptr'][1:], f['bond_ptr'][:-1], f['bond_ptr'][1:], strict=True):
        bonds = torch.from_numpy(np.stack([f['bond_u'][c:d], f['bond_v'][c:d]])).long()
        order = torch.from_numpy(f['bond_order_x2'][c:d] // 2).long()
        found.append(Data(z=torch.from_numpy(f['z'][a:b]).long(), pos=torch.from_numpy(f['pos'][a:b]),
                          edge_index=torch.cat([bonds, bonds.flip(0)], 1), edge_attr=torch.cat([order, order]),
                          formal_charge=torch.from_numpy(f['formal_charge'][a:b]).long()))
    return found, [str(smiles) for smiles in f['smiles']]


def draw(molecules: list, limit: int | None) -> list:
    """A random, seeded draw if there is a limit."""
    if limit is None or limit >= len(molecules):
        return molecules
    return [molecules[i] for i in np.random.default_rng(0).choice(len(molecules), limit, replace=False)]


def write_bundled(name: str, report: Report) -> None:
    """Puts a report's figures and histograms among those of the package."""
    stored = bundled_figures()
    stored['names'] = NAMES
    stored['protocols'].setdefault(f'{report.protocol} v{report.protocol_version}', {})[name] = dict(
        num=report.num_requested,
        versions={key: value for key, value in report.versions.items() if key != 'torch_geometric_inertial'},
        figures={key: one.value for key, one in report.figures.items()},
        distributions={kind: {key: bins for key, bins in types.items() if sum(bins.values()) >= 100}
                       for kind, types in report.distributions.items()})
    current = {get_protocol(protocol).key for protocol in protocol_names()}
    stored['protocols'] = {key: one for key, one in sorted(stored['protocols'].items()) if key in current}
    if report.protocol == 'edm-geom':
        stored['sizes'][name] = report.sizes
    (FOLDER / 'reference_figures.json').write_text(json.dumps(stored, indent=None, separators=(',', ':')) + '\n')


def exceptions(report: Report, smiles: list[str]) -> list[str]:
    """Which molecules are not all right, by status."""
    lines = []
    for status in dict.fromkeys(report.status):
        if status != 'ok':
            named = [s for s, found in zip(smiles, report.status, strict=True) if found == status]
            lines += [f'{len(named)} {status}:', '', *(f'    {s}' for s in named), '']
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--protocols', nargs='+', default=QUICK)
    parser.add_argument('--limit', type=int)
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--out', type=Path, help='where to name the exceptions')
    parser.add_argument('--write', action='store_true', help='into the package, slow protocols on fewer molecules')
    args = parser.parse_args()

    folder = args.data / 'cascade_dft_drugs'
    sets: dict[str, tuple[list[Data], list[str]]] = {'qm9': (list(QM9Sample()), [])}
    sets['drugs'] = drugs(folder / 'dft8k.npz')
    if not args.write:
        more = drugs(folder / 'exp5k_dft.npz')
        sets['drugs'] = (sets['drugs'][0] + more[0], sets['drugs'][1] + more[1])
    page = ['# What the protocols say of real drug-like molecules', '',
            '`python benchmarks/check_metrics.py --out benchmarks/results/metrics_on_real_molecules.md`', '']
    for protocol in args.protocols:
        limit = LIMITS.get(protocol, args.limit) if args.write else args.limit
        for name, (molecules, smiles) in sets.items():
            start = time.process_time(), time.perf_counter()
            report = judge_reference(draw(molecules, limit), get_protocol(protocol), args.workers)
            used = time.process_time() - start[0], time.perf_counter() - start[1]
            print(f'\n{NAMES[name]}: {report}\n{used[0]:.1f} s of this process, {used[1]:.1f} s in all', flush=True)
            if args.write:
                write_bundled(name, dataclasses.replace(report))
            if smiles and limit is None:
                page += [f'## {protocol}', '', '```', str(report), '```', '', *exceptions(report, smiles)]
    if args.out is not None:
        args.out.write_text('\n'.join(page).rstrip() + '\n')


if __name__ == '__main__':
    main()
