r"""PDB files of small molecules, through RDKit."""
from collections.abc import Iterator
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.records import BadLine, Line, read_records


def read_pdb(path: str | Path, on_error: str = 'raise') -> list[Data]:
    r"""Reads the models of a PDB file: ``z`` [N], ``pos`` [N, 3] (float32, Å). All atoms of a model are one molecule;
    of alternate places the first is taken. See :func:`read_sdf`.

    Raises:
        ImportError: Without RDKit.
    """
    return read_records(path, _pdb_models, _parse_pdb, on_error)


def _pdb_models(lines: list[Line]) -> Iterator[list[Line]]:
    model: list[Line] = []
    for line in lines:
        if line[1].startswith(('ATOM', 'HETATM')):
            model.append(line)
        elif line[1].startswith('ENDMDL'):
            yield model or [line]
            model = []
    if model:
        yield model


def _parse_pdb(model: list[Line]) -> Data:
    from rdkit import Chem, rdBase

    number = model[0][0]
    with rdBase.BlockLogs():
        mol = Chem.MolFromPDBBlock('\n'.join(text for _, text in model), sanitize=False, removeHs=False,
                                   proximityBonding=False)
    if mol is None or mol.GetNumAtoms() == 0:
        raise BadLine(number, f'expected atoms (got {model[0][1]!r})')
    pos = torch.from_numpy(mol.GetConformer().GetPositions()).float()
    z = torch.tensor([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    if bool((z == 0).any()) or not bool(pos.isfinite().all()):
        raise BadLine(number, 'an atom has no known element or no finite place')
    return Data(z=z, pos=pos)
