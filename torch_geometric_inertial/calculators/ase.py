r"""Trained energies and forces in ASE: relaxation, molecular dynamics, anything that takes a calculator."""
from __future__ import annotations

import copy
import json
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, locate

TOTALS = {'charge': 0, 'spin': 1}  #: Of a molecule whose `info` is silent: neutral, and a singlet.
ENERGY_UNITS = {'eV': 1.0, 'kcal/mol': units.kcal / units.mol, 'kJ/mol': units.kJ / units.mol, 'Hartree': units.Hartree}


class GeoMFormerCalculator(Calculator):
    r"""An ASE calculator of one predictor, or of several that were trained alike: then their mean, and how far they are
    apart.

    Gives :obj:`energy` and :obj:`free_energy` (eV) and :obj:`forces` (eV/Å); for periodic systems whose cell has a
    volume, if forces are conservative, also :obj:`stress` (eV/Å³; xx, yy, zz, yz, xz, xy). With several models,
    :obj:`results['energy_std']`, :obj:`results['forces_std']` [N, 3] and :obj:`results['stress_std']` [6] hold the
    standard deviations, over n - 1.

    Models that read total charges and spins find them in :obj:`atoms.info['charge']` (0 if it is silent) and
    :obj:`atoms.info['spin']`, the multiplicity (1 if it is silent). Others refuse ions and radicals. Models that read
    tags take :obj:`atoms.get_tags()`.

    Args:
        model (AtomPredictor or list): :class:`~torch_geometric_inertial.GeoMFormer`,
            :class:`~torch_geometric_inertial.PaiNN` or :class:`~torch_geometric_inertial.TorchMDNet` with one energy
            and forces. The calculator works on a copy.
        energy_unit (str): That of the model's energies; distances are in Å: :obj:`'eV'`, :obj:`'kcal/mol'`,
            :obj:`'kJ/mol'` or :obj:`'Hartree'`.
        dtype (torch.dtype): Of the computation. Relaxation to less than 1e-4 eV/Å wants :obj:`torch.float64`.
            (default: :obj:`torch.float32`)
        device (str or torch.device): Where to compute. (default: :obj:`'cpu'`)

    Raises:
        ValueError: If a model gives no energy or no forces, the models know different elements, charges or spins, or
            the unit is unknown.

    Example:
        >>> atoms = ase.build.molecule('CH3CH2OH')
        >>> atoms.calc = GeoMFormerCalculator.from_pretrained('outputs/rmd17/model')
        >>> ase.optimize.BFGS(atoms).run(fmax=0.01)
    """
    implemented_properties = ['energy', 'free_energy', 'forces']  # noqa: RUF012 (ASE's own form)

    def __init__(self, model: AtomPredictor | Sequence[AtomPredictor], energy_unit: str, *,
                 dtype: torch.dtype = torch.float32, device: str | torch.device = 'cpu'):
        super().__init__()
        models = [model] if isinstance(model, AtomPredictor) else list(model)
        if not models:
            raise ValueError("'model' must be a predictor or several (got none)")
        for m in models:
            c = m.config
            if c.vector_head not in ('conservative', 'direct') or (c.scalar_head, c.num_scalars) != ('sum', 1):
                raise ValueError("'model' must give one energy, a 'sum', and forces, 'conservative' or 'direct' "
                                 f"(got {c.num_scalars}, '{c.scalar_head}' and '{c.vector_head}')")
            if getattr(c, 'velocity', 'none') != 'none':
                raise ValueError(f"'model' must not read velocities (got velocity='{c.velocity}')")
            if set(c.elements) != set(models[0].config.elements):
                raise ValueError(f"all models must know the same elements (got {sorted(models[0].config.elements)} and "
                                 f"{sorted(c.elements)})")
            if (known := _known(m)) != _known(models[0]):
                raise ValueError(f"all models must know the same charges, spins and tags (got {_known(models[0])} and "
                                 f"{known})")
        if energy_unit not in ENERGY_UNITS:
            raise ValueError(f"'energy_unit' must be one of {', '.join(ENERGY_UNITS)} (got '{energy_unit}')")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"'dtype' must be torch.float32 or torch.float64 (got {dtype})")
        self.models = [copy.deepcopy(m).to(device, dtype).eval().requires_grad_(False) for m in models]
        for ours, theirs in zip(self.models, models, strict=True):
            ours.reference = theirs.reference.to(device, torch.float64)  # total energies have more digits than float32
        self.unit, self.dtype, self.device = ENERGY_UNITS[energy_unit], dtype, torch.device(device)
        self.exact = all(getattr(m.config, 'periodic', 'exact') == 'exact' for m in self.models)
        self.gives_stress = self.exact and all(m.config.vector_head == 'conservative' for m in self.models)
        if self.gives_stress:
            self.implemented_properties = [*self.implemented_properties, 'stress']

    @classmethod
    def from_pretrained(cls, *names_or_folders: str | Path, energy_unit: str | None = None,
                        **kwargs) -> GeoMFormerCalculator:
        r"""A calculator of one or several models on disk, with the energy unit that their configuration files state.

        Raises:
            ValueError: If a folder holds no such model, or the unit is neither stated nor given, or two units differ.
        """
        folders = [locate(name) for name in names_or_folders]
        models = [AtomPredictor.from_pretrained(folder) for folder in folders]
        if energy_unit is None:
            stated = {json.loads((folder / CONFIG_FILE).read_text()).get('energy_unit') for folder in folders}
            if len(stated) != 1 or None in stated:
                raise ValueError("'energy_unit' must be given where the configuration files do not state one and the "
                                 f"same (got {sorted(map(str, stated))})")
            energy_unit, = stated
        return cls(models, energy_unit, **kwargs)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        changes = super().check_state(atoms, tol)  # it looks at neither of these
        if not changes and (any(_total(atoms, name) != _total(self.atoms, name) for name in TOTALS)
                            or (atoms.get_tags() != self.atoms.get_tags()).any()):
            return ['info']
        return changes

    def calculate(self, atoms: Atoms | None = None, properties: Sequence[str] = ('energy', ),
                  system_changes: Sequence[str] = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results, = self.predict([self.atoms])

    def predict(self, molecules: Sequence[Atoms]) -> list[dict[str, float | np.ndarray]]:
        r"""The results of several molecules, crystals and slabs, computed together.

        Args:
            molecules: Any number of :class:`ase.Atoms`.

        Raises:
            ValueError: If one has no atoms; an element, a charge or a spin that the models do not know; or periodic
                boundaries that they cannot see.
        """
        if len(molecules) == 0:
            return []
        for i, atoms in enumerate(molecules):
            self._check(i, atoms)
        periodic = np.array([atoms.pbc.any() for atoms in molecules])
        inputs = self._inputs(molecules, bool(periodic.any()))
        with torch.no_grad():
            if self.gives_stress and periodic.any():
                outputs = [model.stress(**inputs) for model in self.models]
            else:
                outputs = [model(**inputs) for model in self.models]
        energies, forces, *stresses = (self.unit * torch.stack(column).double().cpu().numpy()
                                       for column in zip(*outputs, strict=True))
        ends = np.cumsum([len(atoms) for atoms in molecules])[:-1]
        results: list[dict[str, float | np.ndarray]] = []
        for i, atoms in enumerate(molecules):
            values = dict(energy=energies[:, i], forces=np.split(forces, ends, axis=1)[i])  # of each model
            if stresses and atoms.pbc.any() and atoms.cell.rank == 3:
                values['stress'] = full_3x3_to_voigt_6_stress(stresses[0][:, i])
            result = {name: value.mean(axis=0) for name, value in values.items()}
            if len(self.models) > 1:
                result |= {f'{name}_std': value.std(axis=0, ddof=1) for name, value in values.items()}
            result = {name: float(value) if value.ndim == 0 else value for name, value in result.items()}
            results.append(result | dict(free_energy=result['energy']))
        return results

    def _check(self, index: int, atoms: Atoms) -> None:
        known = self.models[0].config.elements
        if len(atoms) == 0:
            raise ValueError(f"molecule {index} has no atoms")
        if atoms.pbc.any():
            if (atoms.pbc & ~atoms.cell.array.any(axis=1)).any():
                raise ValueError(f"molecule {index} is periodic along a lattice vector of zero length "
                                 f"(pbc={atoms.pbc.tolist()}, cell={atoms.cell.array.tolist()})")
            try:
                for model in self.models:
                    model.check_periodic()
            except ValueError as error:
                raise ValueError(f"molecule {index} has pbc={atoms.pbc.tolist()}, which the model does not support "
                                 f"({error}); set 'atoms.pbc = False' if it is a molecule in a box") from error
        unknown = sorted({symbol for symbol, z in zip(atoms.symbols, atoms.numbers, strict=True) if z not in known})
        if unknown:
            raise ValueError(f"molecule {index} has elements that the model was not trained on: {', '.join(unknown)} "
                             f"(it knows the atomic numbers {sorted(known)})")
        for name, values in self.models[0].known_totals.items():
            total = _total(atoms, name)
            if total not in (values or (TOTALS[name], )):
                raise ValueError(f"molecule {index} has info['{name}'] = {total}, and the model knows "
                                 f"{f'only {list(values)}' if values else f'no {name}s'}")
        count, tags = self.models[0].num_tags, atoms.get_tags()
        if count > 0 and not ((tags >= 0) & (tags < count)).all():
            raise ValueError(f"molecule {index} has the tags {sorted(set(tags.tolist()))}, and the model knows 0 to "
                             f"{count - 1}")

    def _inputs(self, molecules: Sequence[Atoms], periodic: bool) -> dict[str, Any]:
        """The arguments of the models' :meth:`forward`."""
        def tensor(x: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
            return torch.from_numpy(x).to(self.device, dtype)

        z = np.concatenate([atoms.numbers for atoms in molecules])
        centred = []
        for atoms in molecules:  # float32 loses digits far away
            pos = atoms.get_positions(wrap=self.exact and atoms.pbc.any())
            centred.append(pos - pos.mean(axis=0))
        length = torch.tensor([len(atoms) for atoms in molecules])
        inputs: dict[str, Any] = dict(
            z=tensor(z, torch.int64), pos=tensor(np.concatenate(centred), self.dtype),
            batch=torch.repeat_interleave(length).to(self.device), batch_size=len(molecules))
        if periodic:
            # Vectors that are no periods may be zero in ASE; completed ones let the volume not vanish.
            inputs.update(cell=tensor(np.stack([atoms.cell.complete().array for atoms in molecules]), self.dtype),
                          pbc=tensor(np.stack([atoms.pbc for atoms in molecules]), torch.bool))
        if self.models[0].num_tags > 0:
            inputs['tags'] = tensor(np.concatenate([atoms.get_tags() for atoms in molecules]), torch.int64)
        for name, known in self.models[0].known_totals.items():
            if known:
                inputs[name] = tensor(np.array([_total(atoms, name) for atoms in molecules]), torch.int64)
        return inputs


def _known(model: AtomPredictor) -> dict[str, Any]:
    return model.known_totals | dict(tags=tuple(range(model.num_tags)))


def _total(atoms: Atoms, name: str) -> int:
    value = atoms.info.get(name, TOTALS[name])
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise ValueError(f"info['{name}'] must be an integer (got {value!r})")
    return int(float(value))
