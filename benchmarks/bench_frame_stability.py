"""How often noise makes the canonical sequence jump, and how well `frame_margin` foretells it.

    python benchmarks/bench_frame_stability.py [--order smiles] [--molecules 2000] [--tie-weight 0.1]

A molecule jumps if some token moves by more than 0.5 Å when Gaussian noise is added to its coordinates. `frame alone`
keeps the order of the clean molecule, `bare rule` is the paper's frame with no help at ties. AUC: the probability
that a molecule that jumps has a smaller margin than one that does not.
"""
import argparse
from pathlib import Path

import torch
from qm9_arrays import FOLDER, Molecules, load, machine
from torch import Tensor

from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.frames import (
    MOMENT_TOLERANCE,
    PLANE_WIDTH,
    TIE_WEIGHT,
    Frames,
    inertial_frames,
    to_frame,
)

JUMP = 0.5  # Å
SIGMAS = (0.001, 0.01, 0.05)
BARE = {'tie_weight': 0.0, 'plane_width': 1e-6, 'moment_tolerance': 1e-12}


def form(molecules: Molecules, pos: Tensor, order: str, perm: Tensor | None = None, **rule) -> tuple:
    z, _, ptr, bonds, _ = molecules
    frames = inertial_frames(pos, z, ptr, **rule)
    pos = to_frame(pos, frames, ptr)
    perm = canonical_order(z, pos, ptr, bonds, order) if perm is None else perm
    return pos[perm], perm, frames


def jumps(molecules: Molecules, a: Tensor, b: Tensor) -> Tensor:
    moved = torch.zeros(len(molecules.name), dtype=a.dtype)
    return moved.scatter_reduce_(0, molecules.molecule, (a - b).norm(dim=1), 'amax') > JUMP


def auc(score: Tensor, label: Tensor) -> float:
    """Of a score that is high where the label is true."""
    rank = torch.empty_like(score).index_copy_(0, score.argsort(), torch.arange(len(score)).to(score))
    ones = int(label.sum())
    return float((rank[label].sum() - ones * (ones - 1) / 2) / max(1, ones * (len(score) - ones)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=FOLDER)
    parser.add_argument('--molecules', type=int, default=2000)
    parser.add_argument('--order', choices=ORDERS, default='smiles')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--moment-tolerance', type=float, default=MOMENT_TOLERANCE)
    parser.add_argument('--tie-weight', type=float, default=TIE_WEIGHT)
    parser.add_argument('--plane-width', type=float, default=PLANE_WIDTH)
    args = parser.parse_args()
    rule = {'moment_tolerance': args.moment_tolerance, 'tie_weight': args.tie_weight, 'plane_width': args.plane_width}
    torch.set_num_threads(1)

    molecules = load(args.folder)
    choice = torch.randperm(len(molecules.name), generator=torch.Generator().manual_seed(0))[:args.molecules]
    molecules = molecules.select(choice.sort().values)
    clean, perm, frames = form(molecules, molecules.pos, args.order, **rule)
    bare, bare_perm, _ = form(molecules, molecules.pos, args.order, **BARE)
    print(f'{machine()}\n{len(molecules.name)} QM9 molecules, order {args.order}, seeds {args.seeds}; '
          f'jump: > {JUMP} Å; '
          f'{rule}\n')
    print('| noise (Å) | sequence jumps | frame alone | bare rule | AUC of margin '
          '| jumps below margin 0.01 / 0.03 / 0.1 |')
    print('|---|---|---|---|---|---|')
    for sigma in SIGMAS:
        rows: list[list[float]] = []
        for seed in args.seeds:
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            pos = molecules.pos + sigma * noise
            jump = jumps(molecules, clean, form(molecules, pos, args.order, **rule)[0])
            atomwise = jumps(molecules, clean, form(molecules, pos, args.order, perm, **rule)[0])
            released = jumps(molecules, bare, form(molecules, pos, args.order, bare_perm, **BARE)[0])
            rows.append([100 * float(jump.double().mean()), 100 * float(atomwise.double().mean()),
                         100 * float(released.double().mean()), auc(-frames.margin, jump),
                         *(100 * float((frames.margin[jump] < t).double().mean()) for t in (0.01, 0.03, 0.1))])
        mean = torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
        print(f'| {sigma} | {mean[0]:.2f} % | {mean[1]:.2f} % | {mean[2]:.2f} % | {mean[3]:.3f} '
              f'| {mean[4]:.0f} / {mean[5]:.0f} / {mean[6]:.0f} % |')
    below = [100 * float((frames.margin < t).double().mean()) for t in (0.01, 0.03, 0.1)]
    print(f'\nMolecules below margin 0.01 / 0.03 / 0.1: {below[0]:.1f} / {below[1]:.1f} / {below[2]:.1f} %')
    drawn(molecules, frames)


def drawn(molecules: Molecules, frames: Frames) -> None:
    """How many frames the augmentation draws from, at two widths."""
    generator = torch.Generator().manual_seed(0)
    for spread in (0.02, 0.05):
        other = torch.zeros(len(molecules.name), dtype=torch.bool)
        for _ in range(8):
            draw = inertial_frames(molecules.pos, molecules.z, molecules.ptr, spread=spread, generator=generator)
            other |= (draw.axes - frames.axes).abs().amax((1, 2)) > 0.1
        print(f"ambiguity='sample', spread {spread}: {100 * float(other.double().mean()):.1f} % of the molecules get "
              'another frame in 8 draws')


if __name__ == '__main__':
    main()
