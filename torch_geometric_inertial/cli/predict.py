from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import Properties, Record
from torch_geometric_inertial.chem.fields import atom_field
from torch_geometric_inertial.chem.formats import WRITERS, ending
from torch_geometric_inertial.cli.arguments import arguments, usable
from torch_geometric_inertial.cli.files import name_of, read_records, refuse, write_molecules
from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, locate


class Predictor(NamedTuple):
    r"""A network, the names of its scalars, their unit, what they are multiplied by, and whether it gives forces."""
    network: AtomPredictor
    names: tuple[str, ...]
    unit: str
    factor: float
    forces: bool


def predict(
    file: Path,
    model: str = 'qm9-homo',
    out: Path = Path('predicted.xyz'),
    energy_unit: str | None = None,
    batch_size: int = 100,
    strict: bool = False,
    device: str = 'cpu',
) -> None:
    r"""Predicts energies (eV), forces (eV/Å) or a property of the molecules of a file, and writes the molecules with
    them: energies and forces of an .xyz file where ASE finds them, other numbers as a property, such as predicted_homo.
    A molecule that the model cannot read is named on stderr, and the others are written.

    Example: inertial predict molecules.sdf --model qm9-homo --out predicted.sdf

    Args:
        file: SDF, XYZ, JSONL or PDB.
        model: The weights of a predictor: a bundled name (qm9-homo, ethanol), a folder, or a hub id.
        out: SDF, XYZ or JSONL file; XYZ for forces.
        energy_unit: That of the weights' energies, where they do not state it: eV, kcal/mol, kJ/mol or Hartree.
        batch_size: Molecules at a time.
        strict: Leave out molecules unlike all of the training set, rather than warn.
        device: Such as 'cuda'.
    """
    with arguments():
        if batch_size < 1:
            raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
        predictor = load_predictor(model, energy_unit, device)
        if predictor.forces and ending(out, WRITERS) != '.xyz':
            raise ValueError(f"'out' must end in .xyz, since '{model}' predicts forces, and other files have no place "
                             f"for them (got '{out}')")
    records = read_records(file)
    read = [record for record in records if readable(record, predictor.network, strict)]
    if not read:
        raise ValueError(f"none of the {len(records)} molecules of '{file}' can be read by the model")

    def predicted() -> Iterator[Data]:
        for start in range(0, len(read), batch_size):
            part = [record.molecule for record in read[start:start + batch_size] if record.molecule is not None]
            for record, data in zip(read[start:start + batch_size], with_values(part, predictor), strict=True):
                data.title = name_of(record)
                yield data

    count = write_molecules(predicted(), out)
    what = ', '.join(predictor.names) + (f' ({predictor.unit})' if predictor.unit else '')
    print(f'wrote {count} molecules with {what}{" and forces (eV/Å)" if predictor.forces else ""} to {out}')


def load_predictor(model: str, energy_unit: str | None, device: str) -> Predictor:
    r"""The predictor of these weights, and what their configuration file says that it predicts.

    Raises:
        ValueError: If there is none, it reads more than elements and positions, or it does not say what it predicts.
    """
    network = AtomPredictor.from_pretrained(model, device=usable(device))
    facts, config = json.loads((locate(model) / CONFIG_FILE).read_text()), network.config
    reads = [name for name, so in (('velocities', config.velocity != 'none'), ('tags', config.num_tags > 0)) if so]
    if reads or config.vector_head == 'position' or config.scalar_head == 'none':
        raise ValueError(f"'model' must predict energies, forces or properties from elements and positions alone (got "
                         f"'{model}', which {'reads ' + ' and '.join(reads) if reads else 'predicts positions'})")
    forces = config.vector_head != 'none'
    energy_unit = facts.get('energy_unit', energy_unit)
    if forces or energy_unit is not None:
        from torch_geometric_inertial.calculators.ase import ENERGY_UNITS

        if energy_unit not in ENERGY_UNITS:
            raise ValueError(f"'energy_unit' of '{model}' must be one of {', '.join(ENERGY_UNITS)} (got {energy_unit})")
        return Predictor(network, ('energy', ), 'eV', ENERGY_UNITS[energy_unit], forces)
    if 'target' not in facts:
        raise ValueError(f"'{CONFIG_FILE}' of '{model}' must state the 'target' and the 'unit' of what the model "
                         "predicts, or give 'energy_unit' if that is an energy")
    target, count = str(facts['target']), config.num_scalars
    names = (target, ) if count == 1 else tuple(f'{target}_{k}' for k in range(count))
    return Predictor(network, names, str(facts.get('unit', '')), 1.0, False)


def readable(record: Record, network: AtomPredictor, strict: bool) -> bool:
    r"""Whether a model can read a molecule; if not, or if it is unlike those of the training set, that is said."""
    data, config, domain = record.molecule, network.config, network.training_domain
    assert data is not None
    try:
        unknown = ~torch.isin(data.z, torch.tensor(config.elements))
        if bool(unknown.any()):
            raise ValueError(f'it has element {int(data.z[unknown][0])}, and the model knows {list(config.elements)}')
        for name, total in totals(data).items():
            known = config.known_totals[name] or (dict(charge=0, spin=1)[name], )
            if total not in known:
                raise ValueError(f'it has the {name} {total}, and the model knows {", ".join(map(str, known))}')
        asked = Data(z=data.z, pos=data.pos.to(network.scale.dtype), **lattice(data)).to(network.scale.device)
        network.prepare(**asked.to_dict())  # says what is wrong with positions
        strange = domain.strangeness(data.z) if domain is not None else None
        if strange and strict:
            raise ValueError(strange)
    except ValueError as error:
        refuse(record, error)
        return False
    if strange:
        print(f'{record.number:6} {name_of(record)}: {strange}: values may be anything', file=sys.stderr)
    return True


def with_values(molecules: Sequence[Data], predictor: Predictor) -> list[Data]:
    r"""The same molecules with what is predicted of them."""
    asked = [Data(z=data.z, pos=data.pos, **lattice(data), **totals(data)) for data in molecules]
    found = predictor.network.predict(asked, len(asked), vectors=predictor.forces)
    assert found.scalars is not None
    rows = (predictor.factor * found.scalars).reshape(len(asked), -1).tolist()
    sizes = [data.z.numel() for data in molecules]
    forces = [None] * len(asked) if found.vectors is None else (predictor.factor * found.vectors).split(sizes)
    written = []
    for data, row, force in zip(molecules, rows, forces, strict=True):
        data = data.clone()
        if predictor.names == ('energy', ):
            data.energy, data.force = torch.tensor(row, dtype=torch.float64), force
        if not predictor.forces:
            values = {f'predicted_{name}': value for name, value in zip(predictor.names, row, strict=True)}
            data.properties = Properties({**dict((data.get('properties') or {}).items()), **values})
        written.append(data)
    return written


def totals(data: Data) -> dict[str, int]:
    r"""Charge and multiplicity of a molecule."""
    charges, radicals = (atom_field(data, name) for name in ('formal_charge', 'num_radical_electrons'))
    charge = int(data.charge) if charges is None and data.get('charge') is not None else sum(charges or ())
    return dict(charge=charge, spin=1 + sum(radicals or ()))


def lattice(data: Data) -> dict[str, torch.Tensor]:
    return {name: data[name] for name in ('cell', 'pbc') if data.get(name) is not None}
