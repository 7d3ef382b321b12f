r"""Trained energies and forces in ASE: relaxation, molecular dynamics, anything that takes a calculator."""
from __future__ import annotations

import copy
import json
import numbers
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, locate
from torch_geometric_inertial.models.training_domain import TrainingDomain

TOTALS = {'charge': 0, 'spin': 1}  #: Of a molecule whose `info` is silent: neutral, and a singlet.
ENERGY_UNITS = {'eV': 1.0, 'kcal/mol': units.kcal / units.mol, 'kJ/mol': units.kJ / units.mol, 'Hartree': units.Hartree}


class InertialCalculator(Calculator):
    r"""An ASE calculator of one predictor, or of several that were trained alike: then their mean, and how far they are
    apart.

    Gives :obj:`energy` and :obj:`free_energy` (eV) and :obj:`forces` (eV/Å); for periodic systems whose cell has a
    volume, if forces are conservative, also :obj:`stress` (eV/Å³; xx, yy, zz, yz, xz, xy). With several models,
    :obj:`standard_deviations['energy']`, :obj:`['forces']` [N, 3] and :obj:`['stress']` [6] hold the standard
    deviations over the models, over n - 1, in the same units; :obj:`results` holds what ASE knows, so that it can be
    frozen and written to files.

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
        domains (list): What the models have learned from. Molecules that differ from all of that give a warning, since
            forces may be anything there. :meth:`from_pretrained` reads them. (default: none)
        strict (bool): Refuses such molecules instead. (default: :obj:`False`)

    Raises:
        ValueError: If a model gives no energy or no forces, the models know different elements, charges or spins, or
            the unit is unknown.

    Example:
        >>> atoms = ase.build.molecule('CH3CH2OH')
        >>> atoms.calc = InertialCalculator.from_pretrained('outputs/rmd17/model')
        >>> ase.optimize.BFGS(atoms).run(fmax=0.01)
    """
    implemented_properties = ['energy', 'free_energy', 'forces']  # noqa: RUF012 (ASE's own form)

    def __init__(self, model: AtomPredictor | Sequence[AtomPredictor], energy_unit: str, *,
                 dtype: torch.dtype = torch.float32, device: str | torch.device = 'cpu',
                 domains: Sequence[TrainingDomain] = (), strict: bool = False):
        super().__init__()
        models = [model] if isinstance(model, AtomPredictor) else list(model)
        if not models:
            raise ValueError("'model' must be a predictor or several (got none)")
        for m in models:
            c = m.config
            if c.vector_head not in ('conservative', 'direct') or (c.scalar_head, c.num_scalars) != ('sum', 1):
                raise ValueError("'model' must give one energy, a 'sum', and forces, 'conservative' or 'direct' "
                                 f"(got {c.num_scalars}, '{c.scalar_head}' and '{c.vector_head}')")
            if c.velocity != 'none':
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
        with torch.inference_mode(False):  # where forces would have no derivatives
            self.models = [copy.deepcopy(m).to(device, dtype).eval().requires_grad_(False) for m in models]
        for ours, theirs in zip(self.models, models, strict=True):
            ours.reference = theirs.reference.to(device, torch.float64)  # total energies have more digits than float32
        self.unit, self.dtype, self.device = ENERGY_UNITS[energy_unit], dtype, torch.device(device)
        self.domains, self.strict = tuple(domains), strict
        self.standard_deviations: dict[str, Any] = {}
        self.exact = all(m.config.periodic == 'exact' for m in self.models)
        self.gives_stress = self.exact and all(m.config.vector_head == 'conservative' for m in self.models)
        if self.gives_stress:
            self.implemented_properties = [*self.implemented_properties, 'stress']

    @classmethod
    def from_pretrained(cls, *names_or_folders: str | Path, energy_unit: str | None = None,
                        **kwargs) -> InertialCalculator:
        r"""A calculator of one or several models on disk, with the energy unit and the training domain that their
        configuration files state.

        Raises:
            ValueError: If a folder holds no such model, or the unit is neither stated nor given, or two units differ.
        """
        folders = [locate(name) for name in names_or_folders]
        with torch.inference_mode(False):
            models = [AtomPredictor.from_pretrained(folder) for folder in folders]
        facts = [json.loads((folder / CONFIG_FILE).read_text()) for folder in folders]
        kwargs.setdefault('domains', [m.training_domain for m in models if m.training_domain is not None])
        if energy_unit is None:
            stated = {each.get('energy_unit') for each in facts}
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
        found, = self.predict([self.atoms])
        self.results = {name: value for name, value in found.items() if not name.endswith('_std')}
        self.standard_deviations = {name.removesuffix('_std'): value for name, value in found.items()
                                    if name.endswith('_std')}

    def predict(self, molecules: Sequence[Atoms], batch_size: int = 100) -> list[dict[str, float | np.ndarray]]:
        r"""The results of several molecules, crystals and slabs, computed together; those of several models with
        their standard deviations :obj:`energy_std`, :obj:`forces_std` and :obj:`stress_std`.

        Args:
            molecules: Any number of :class:`ase.Atoms`.
            batch_size (int): Molecules at a time. (default: :obj:`100`)

        Raises:
            ValueError: If one has no atoms; an element, a charge or a spin that the models do not know; or periodic
                boundaries that they cannot see; if strict, if it is unlike the molecules that a model has learned from.
        """
        if len(molecules) == 0:
            return []
        for i, atoms in enumerate(molecules):
            self._check(i, atoms)
        stress = self.gives_stress and any(atoms.pbc.any() for atoms in molecules)
        data = [self._data(atoms) for atoms in molecules]
        outputs = [model.predict(data, batch_size, stress=stress) for model in self.models]
        energies, forces, *stresses = (self.unit * torch.stack(column).double().numpy()
                                       for column in zip(*outputs, strict=True) if column[0] is not None)
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
                    model.config.check_periodic()
            except ValueError as error:
                raise ValueError(f"molecule {index} has pbc={atoms.pbc.tolist()}, which the model does not support "
                                 f"({error}); set 'atoms.pbc = False' if it is a molecule in a box") from error
        unknown = sorted({symbol for symbol, z in zip(atoms.symbols, atoms.numbers, strict=True) if z not in known})
        if unknown:
            raise ValueError(f"molecule {index} has elements that the model was not trained on: {', '.join(unknown)} "
                             f"(it knows the atomic numbers {sorted(known)})")
        for name, values in self.models[0].config.known_totals.items():
            total = _total(atoms, name)
            if total not in (values or (TOTALS[name], )):
                raise ValueError(f"molecule {index} has info['{name}'] = {total}, and the model knows "
                                 f"{f'only {list(values)}' if values else f'no {name}s'}")
        count, tags = self.models[0].config.num_tags, atoms.get_tags()
        if count > 0 and not ((tags >= 0) & (tags < count)).all():
            raise ValueError(f"molecule {index} has the tags {sorted(set(tags.tolist()))}, and the model knows 0 to "
                             f"{count - 1}")

        for domain in self.domains:
            strange = domain.strangeness(torch.from_numpy(atoms.numbers))
            if strange and self.strict:
                raise ValueError(f'molecule {index} {strange}')
            if strange:
                warnings.warn(f'molecule {index} {strange}: energies and forces may be anything', stacklevel=2)

    def _data(self, atoms: Atoms) -> Data:
        """What the models read of a molecule."""
        pos = atoms.get_positions(wrap=self.exact and atoms.pbc.any())
        pos = pos - pos.mean(axis=0)  # float32 loses digits far away
        data = Data(z=torch.from_numpy(atoms.numbers), pos=torch.from_numpy(pos).to(self.dtype),
                    tags=torch.from_numpy(atoms.get_tags()), **{name: _total(atoms, name) for name in TOTALS})
        if atoms.pbc.any():
            # Vectors that are no periods may be zero in ASE; completed ones let the volume not vanish.
            data.cell, data.pbc = torch.from_numpy(atoms.cell.complete().array), torch.from_numpy(atoms.pbc)
        return data


def _known(model: AtomPredictor) -> dict[str, Any]:
    return model.config.known_totals | dict(tags=tuple(range(model.config.num_tags)))


def _total(atoms: Atoms, name: str) -> int:
    value = atoms.info.get(name, TOTALS[name])
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value).is_integer():
        raise ValueError(f"info['{name}'] must be an integer (got {value!r})")
    return int(float(value))
