r"""Judges the molecules that a model writes under every protocol that concerns them, beside real QM9.

    python benchmarks/check_weights.py --weights qm9 --num-samples 10000

One process after the other on one core; with the real data beside the repository the reference is all of QM9 and
copies are looked for in the whole EDM training split, else in the embedded 10,000 molecules. Hydrogens and completion
are judged by check_hydrogens.py and check_completion.py, conditions by examples/qm9_conditional.py and
examples/qm9_property_conditional.py.
"""
import argparse
import time
from collections import Counter

import numpy as np
import torch
from qm9_arrays import FOLDER, machine
from torch_geometric.data import Data

from torch_geometric_inertial import AtomAutoregressor
from torch_geometric_inertial.datasets import QM9Sample, qm9_split
from torch_geometric_inertial.metrics import evaluate, frame_drift, memorization
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS

PUBLISHED = """published, 10,000 samples of models trained on all of QM9, atom / molecule stability (%):
  EDM 98.7 / 82.0   GeoLDM 98.9 / 89.4   Quetzal 98.3 / 87.6   InertialAR (448 M parameters) 99.3 / 94.7
  all of QM9, fluorine included 99.0 / 95.2"""


def real_molecules(elements: tuple[int, ...], split: str = 'train') -> list[Data]:
    """A part of EDM's split of QM9, with bonds and charges, of these elements; the embedded sample where there is none
    beside the repository."""
    if not (FOLDER / 'qm9_geom.npz').is_file():
        return list(QM9Sample())
    with np.load(FOLDER / 'qm9_geom.npz') as file:
        a = {name: torch.from_numpy(file[name].astype(np.int64)) for name in file.files}
    out = []
    for i in qm9_split(a['gdb_id'], split).nonzero().flatten().tolist():
        atoms, bonds = slice(*a['ptr'][i:i + 2].tolist()), slice(*a['bond_ptr'][i:i + 2].tolist())
        u, v, order = a['bond_u'][bonds], a['bond_v'][bonds], a['bond_order'][bonds]
        if set(a['z'][atoms].tolist()) <= set(elements):
            out.append(Data(z=a['z'][atoms], pos=(a['pos_1e5'][atoms] * 1e-5).float(),
                            edge_index=torch.stack([torch.cat([u, v]), torch.cat([v, u])]),
                            edge_attr=torch.cat([order, order]), formal_charge=a['formal_charge'][atoms]))
    return out


def total_variation(a: list[Data], b: list[Data]) -> float:
    """Half the L1 distance of the histograms of numbers of heavy atoms."""
    x, y = (Counter(int((data.z > 1).sum()) for data in molecules) for molecules in (a, b))
    return sum(abs(x[k] / len(a) - y[k] / len(b)) for k in x | y) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--num-samples', type=int, default=10_000)
    parser.add_argument('--num-steps', type=int, default=NUM_STEPS, help='evaluations of the head per atom')
    parser.add_argument('--temperature', type=float, default=1.0)
    parser.add_argument('--valence-mask', action='store_true')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = AtomAutoregressor.from_pretrained(args.weights, device=device)
    settings = dict(num_steps=args.num_steps, temperature=args.temperature, seed=args.seed)
    if args.valence_mask:
        settings['valence_mask'] = True
    start = time.monotonic()
    molecules = model.generate(args.num_samples, progress=True, **settings)
    seconds = time.monotonic() - start
    print(f'{machine()}, {device}\n{args.weights}: {model}, {args.num_samples} molecules, {settings}: '
          f'{seconds:.0f} s, {args.num_samples / seconds:.0f} molecules/s\n', flush=True)

    real = real_molecules(model.elements)
    some = [real[i] for i in torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:10_000]]
    protocols = ['edm-qm9'] + (['bonds', 'geometry'] if model.writes_bonds else [])
    for protocol in protocols:
        print(f'{evaluate(molecules, protocol, reference=some)}\n', flush=True)
    print(f'{evaluate(molecules[:1000], "strain", reference=some[:1000])}\n' if model.writes_bonds else '', flush=True)
    print(PUBLISHED)
    sizes = Counter(int((data.z > 1).sum()) for data in molecules)
    print(f'heavy atoms: {dict(sorted(sizes.items()))}; total variation to the {len(real):,} real molecules '
          f'{total_variation(molecules, real):.3f}')
    close = sum(data.num_nodes > 1 and float(torch.pdist(data.pos).min()) < 0.4 for data in molecules)
    print(f'two atoms within 0.4 Å: {close / len(molecules):.2%}')
    if not model.writes_bonds:  # a model of bonds writes in no frame
        drift = frame_drift(molecules)
        print(f'drift from the inertial frame: median {drift[drift.isfinite()].median():.3f} Å')
    print(memorization(molecules, real))


if __name__ == '__main__':
    main()
