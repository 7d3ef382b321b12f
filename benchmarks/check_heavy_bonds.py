r"""Are the bonds of molecules found without their hydrogens? QM9 test and drug molecules, beside Open Babel.

    python benchmarks/check_heavy_bonds.py [--num N] > benchmarks/results/heavy_bonds.txt

Each method gets elements and places of the heavy atoms. Shares are of all molecules; a failure is a miss.

* SMILES: the canonical SMILES (RDKit, without stereo) is the true one: elements, bonds, charges and numbers of
  hydrogens up to a renaming of the atoms and the choice of the Kekulé form.
* atoms: each atom has its bonds, its number of hydrogens and its formal charge. Resonance forms that differ in the
  place of a charge (the oxygens of a carboxylate) count as wrong.

With all hydrogens, beside RDKit's perception of neutral molecules, on the first molecules of each set.
"""
import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import torch
from data_folder import DATA
from known_bonds import Known, drugs, qm9
from qm9_arrays import machine
from torch_geometric.data import Data

from torch_geometric_inertial.chem import to_mol, with_bonds
from torch_geometric_inertial.chem.graph import build_mol

Graph = tuple[str, list[tuple[int, int, int]], frozenset]  # SMILES, (z, hydrogens, charge), bonds


def graph_of(mol, num_atoms: int) -> Graph:
    """Of a sanitized RDKit molecule, whose first atoms are the heavy ones."""
    from rdkit import Chem

    atoms = [(a.GetAtomicNum(), a.GetTotalNumHs(includeNeighbors=True), a.GetFormalCharge())
             for a in islice(mol.GetAtoms(), num_atoms)]
    bonds = frozenset(frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in mol.GetBonds()
                      if b.GetBeginAtom().GetAtomicNum() > 1 < b.GetEndAtom().GetAtomicNum())
    plain = Chem.RemoveAllHs(mol, sanitize=False)
    for bond in plain.GetBonds():
        bond.SetStereo(Chem.BondStereo.STEREONONE)
    Chem.SanitizeMol(plain)
    return Chem.MolToSmiles(plain, isomericSmiles=False), atoms, bonds


def heavy_first(known: Known) -> Known:
    order = torch.argsort((known.z == 1).long(), stable=True)
    place = torch.argsort(order).tolist()
    return Known(known.z[order], known.pos[order], [known.charge[i] for i in order.tolist()],
                 [(place[u], place[v], order) for u, v, order in known.bonds])


def truth_of(known: Known) -> Graph:
    from rdkit import Chem

    mol = build_mol(known.z.tolist(), [(u, v) for u, v, _ in known.bonds], [order for *_, order in known.bonds],
                    charges=known.charge)
    Chem.SanitizeMol(mol)
    return graph_of(mol, int((known.z > 1).sum()))


def ours(hydrogens: str) -> Callable[[Data], object]:
    return lambda data: to_mol(with_bonds(data, hydrogens=hydrogens))


def rdkit_neutral(data: Data):
    return to_mol(data, 'rdkit-ctd')


def open_babel(data: Data):
    from openbabel import openbabel as ob
    from rdkit import Chem

    ob.obErrorLog.StopLogging()
    mol = ob.OBMol()
    mol.BeginModify()
    for z, (x, y, w) in zip(data.z.tolist(), data.pos.tolist(), strict=True):
        atom = mol.NewAtom()
        atom.SetAtomicNum(z)
        atom.SetVector(x, y, w)
    mol.EndModify()
    mol.ConnectTheDots()
    mol.PerceiveBondOrders()
    for atom in ob.OBMolAtomIter(mol):  # it takes all hydrogens to be there if not told so
        ob.OBAtomAssignTypicalImplicitHydrogens(atom)
    mol.AddHydrogens()
    bonds = list(ob.OBMolBondIter(mol))
    atoms = list(ob.OBMolAtomIter(mol))
    ends = [(bond.GetBeginAtomIdx() - 1, bond.GetEndAtomIdx() - 1) for bond in bonds]
    out = build_mol([atom.GetAtomicNum() for atom in atoms], ends, [bond.GetBondOrder() for bond in bonds],
                    charges=[atom.GetFormalCharge() for atom in atoms])
    Chem.SanitizeMol(out)
    return out


def show(name: str, method: Callable[[Data], object], molecules: list[Known], truth: list[Graph],
         heavy_only: bool) -> None:
    from rdkit import rdBase

    counts: Counter[str] = Counter()
    seconds = 0.0
    with rdBase.BlockLogs():
        for known, true in zip(molecules, truth, strict=True):
            keep = known.z > 1 if heavy_only else known.z > 0
            start = time.process_time()
            try:
                mol = method(Data(z=known.z[keep], pos=known.pos[keep]))
                seconds += time.process_time() - start
                found = graph_of(mol, len(true[1]))
            except (ValueError, RuntimeError) as error:
                counts['failed'] += 1
                counts[f'  {type(error).__name__}'] += 1
                continue
            counts['smiles'] += found[0] == true[0]
            counts['atoms'] += found[1:] == true[1:]
    total = len(molecules)
    print(f'  {name:26}SMILES {counts["smiles"] / total:7.2%}   atoms {counts["atoms"] / total:7.2%}   '
          f'failed {counts["failed"]:5}   {total / seconds:6.0f} molecules/s', flush=True)


def check(title: str, known: Iterable[Known], num_all: int) -> None:
    molecules = [heavy_first(k) for k in known if bool((k.z > 1).any())]
    truth = [truth_of(k) for k in molecules]
    print(f'\n{title}: {len(molecules)} molecules, heavy atoms only')
    show('with_bonds', ours('missing'), molecules, truth, True)
    if importlib.util.find_spec('openbabel') is None:
        print('  Open Babel                not installed')
    else:
        show('Open Babel', open_babel, molecules, truth, True)
    print(f'{title}: the first {num_all}, all hydrogens')
    show('with_bonds', ours('all'), molecules[:num_all], truth[:num_all], False)
    show('RDKit, neutral', rdkit_neutral, molecules[:num_all], truth[:num_all], False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--num', type=int, default=None, help='of each set; all by default')
    parser.add_argument('--num-all', type=int, default=500, help='how many of them with all hydrogens')
    args = parser.parse_args()
    print(machine())
    check('QM9 test', islice(qm9('test', args.data), args.num), args.num_all)
    check('drugs', islice(drugs(True, args.data), args.num), args.num_all)


if __name__ == '__main__':
    main()
