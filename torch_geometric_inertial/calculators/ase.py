r"""Trained energies and forces in ASE: relaxation, molecular dynamics, anything that takes a calculator."""
from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, locate

ENERGY_UNITS = {'eV': 1.0, 'kcal/mol': units.kcal / units.mol, 'kJ/mol': units.kJ / units.mol, 'Hartree': units.Hartree}


class GeoMFormerCalculator(Calculator):
    r"""An ASE calculator of one predictor, or of several that were trained alike: then their mean, and how far they are
    apart.

    Gives :obj:`energy` and :obj:`free_energy` (eV) and :obj:`forces` (eV/Å). With several models,
    :obj:`results['energy_std']` and :obj:`results['forces_std']` [N, 3] hold the standard deviations, over n - 1.

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
        ValueError: If a model gives no energy or no forces, the models know different elements, or the unit is unknown.

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
        if energy_unit not in ENERGY_UNITS:
            raise ValueError(f"'energy_unit' must be one of {', '.join(ENERGY_UNITS)} (got '{energy_unit}')")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"'dtype' must be torch.float32 or torch.float64 (got {dtype})")
        self.models = [copy.deepcopy(m).to(device, dtype).eval().requires_grad_(False) for m in models]
        for ours, theirs in zip(self.models, models, strict=True):
            ours.reference = theirs.reference.to(device, torch.float64)  # total energies have more digits than float32
        self.unit, self.dtype, self.device = ENERGY_UNITS[energy_unit], dtype, torch.device(device)

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

    def calculate(self, atoms: Atoms | None = None, properties: Sequence[str] = ('energy', ),
                  system_changes: Sequence[str] = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results, = self.predict([self.atoms])

    def predict(self, molecules: Sequence[Atoms]) -> list[dict[str, float | np.ndarray]]:
        r"""The results of several molecules, computed together.

        Args:
            molecules: Any number of :class:`ase.Atoms`.

        Raises:
            ValueError: If one has no atoms, an element that the models do not know, or periodic boundaries.
        """
        if len(molecules) == 0:
            return []
        known = self.models[0].config.elements
        for i, atoms in enumerate(molecules):
            if len(atoms) == 0:
                raise ValueError(f"molecule {i} has no atoms")
            if atoms.pbc.any():
                raise ValueError(f"periodic systems are not supported (molecule {i} has pbc={atoms.pbc.tolist()}); "
                                 "set 'atoms.pbc = False' if it is a molecule in a box")
            unknown = sorted({symbol for symbol, z in zip(atoms.symbols, atoms.numbers, strict=True) if z not in known})
            if unknown:
                raise ValueError(f"molecule {i} has elements that the model was not trained on: {', '.join(unknown)} "
                                 f"(it knows the atomic numbers {sorted(known)})")
        length = [len(atoms) for atoms in molecules]
        z = torch.from_numpy(np.concatenate([atoms.numbers for atoms in molecules])).long().to(self.device)
        centred = np.concatenate([atoms.positions - atoms.positions.mean(axis=0) for atoms in molecules])
        pos = torch.from_numpy(centred).to(self.device, self.dtype)
        batch = torch.repeat_interleave(torch.tensor(length)).to(self.device)
        with torch.no_grad():
            outputs = [model(z, pos, batch, batch_size=len(length)) for model in self.models]
        energies, forces = (self.unit * torch.stack(column).double().cpu().numpy() for column in zip(*outputs,
                                                                                                  strict=True))
        ends = np.cumsum(length)[:-1]
        results: list[dict[str, float | np.ndarray]] = [
            dict(energy=float(energy), free_energy=float(energy), forces=force)
            for energy, force in zip(energies.mean(axis=0), np.split(forces.mean(axis=0), ends), strict=True)]
        if len(self.models) > 1:
            spread = zip(energies.std(axis=0, ddof=1), np.split(forces.std(axis=0, ddof=1), ends), strict=True)
            for result, (energy, force) in zip(results, spread, strict=True):
                result.update(energy_std=float(energy), forces_std=force)
        return results
