r"""Relaxations of adsorbates on surfaces, from trajectories."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

ADSORBATE = (1, 6, 7, 8)  #: Elements that all adsorbates of OC20 are made of.


def read_relaxations(files: str | Path | Iterable[str | Path]) -> list[Data]:
    r"""First and last frame of relaxations, as items such as those of :class:`~torch_geometric_inertial.datasets.OC20`
    with :obj:`name` instead of :obj:`sid`.

    Energies are what the files hold, such as totals of DFT, without a reference.

    Args:
        files: Trajectories that ASE reads (:obj:`.traj`, :obj:`.extxyz`, …), one system each; or :obj:`.npz` archives
            of many systems with arrays :obj:`z`, :obj:`pos_initial`, :obj:`pos_relaxed`, :obj:`tags`, :obj:`fixed` (one
            row an atom), :obj:`cell`, :obj:`E_initial`, :obj:`E_relaxed`, :obj:`names` (one a system) and :obj:`ptr`.

    Raises:
        ImportError: For a trajectory, without ASE.
        ValueError: If there is no file, one lacks an array or an energy, or the atoms of the two frames differ.
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    if not paths:
        raise ValueError("'files' must name at least one file (got none)")
    for path in paths:
        if not path.is_file():
            raise ValueError(f"there is no file '{path}'")
    return [data for path in paths for data in (_from_archive(path) if path.suffix == '.npz' else [_from_ase(path)])]


def guess_tags(z: Tensor, fixed: Tensor) -> Tensor:
    r"""Tags of OC20 where a file holds none: 0 for fixed atoms, 2 for free H, C, N and O, 1 for the others [N].

    A guess: surfaces that hold these elements themselves, such as nitrides, have their free ones taken for an
    adsorbate.
    """
    adsorbate = (z.unsqueeze(1) == z.new_tensor(ADSORBATE)).any(1)
    return torch.where(fixed, 0, torch.where(adsorbate, 2, 1))


def _item(z: Any, pos: Any, pos_relaxed: Any, cell: Any, pbc: Any, tags: Any, fixed: Any, energies: tuple[float, float],
          name: str) -> Data:
    first, last = (torch.tensor([float(energy)], dtype=torch.float64) for energy in energies)
    return Data(z=torch.as_tensor(np.asarray(z, dtype=np.int64)), pos=_floats(pos), pos_relaxed=_floats(pos_relaxed),
                cell=_floats(cell).view(1, 3, 3), pbc=torch.as_tensor(np.asarray(pbc, dtype=bool)).view(1, 3),
                tags=torch.as_tensor(np.asarray(tags, dtype=np.int64)),
                fixed=torch.as_tensor(np.asarray(fixed, dtype=bool)), energy=last, energy_initial=first, name=name)


def _floats(x: Any) -> Tensor:
    return torch.as_tensor(np.asarray(x, dtype=np.float32))


def _from_archive(path: Path) -> list[Data]:
    with np.load(path) as file:
        needed = ('z', 'pos_initial', 'pos_relaxed', 'tags', 'fixed', 'cell', 'E_initial', 'E_relaxed', 'names', 'ptr')
        missing = set(needed) - set(file.files)
        if missing:
            raise ValueError(f"'{path}' must hold {', '.join(needed)} (got {sorted(file.files)})")
        a = {name: file[name] for name in needed}
    return [_item(a['z'][i:j], a['pos_initial'][i:j], a['pos_relaxed'][i:j], a['cell'][k], (True, True, True),
                  a['tags'][i:j], a['fixed'][i:j], (a['E_initial'][k], a['E_relaxed'][k]), str(a['names'][k]))
            for k, (i, j) in enumerate(zip(a['ptr'][:-1], a['ptr'][1:], strict=True))]


def _from_ase(path: Path) -> Data:
    try:
        import ase.io
        from ase.calculators.calculator import PropertyNotImplementedError
        from ase.constraints import FixAtoms
    except ImportError as error:
        raise ImportError("reading trajectories needs ASE: pip install ase") from error
    first: Any = ase.io.read(path, 0)
    last: Any = ase.io.read(path, -1)
    if first.numbers.tolist() != last.numbers.tolist():
        raise ValueError(f"the first and last frame of '{path}' must have the same atoms (got {first.symbols} and "
                         f"{last.symbols})")
    try:
        energies = first.get_potential_energy(), last.get_potential_energy()
    except (RuntimeError, PropertyNotImplementedError) as error:
        raise ValueError(f"the first and last frame of '{path}' must have energies ({error})") from error
    fixed = np.zeros(len(first), dtype=bool)
    for constraint in first.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    return _item(first.numbers, first.positions, last.positions, np.asarray(first.cell), first.pbc, first.get_tags(),
                 fixed, energies, path.stem)
