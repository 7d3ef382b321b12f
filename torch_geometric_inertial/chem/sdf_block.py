r"""The records of SDF files as text, by hand: RDKit lets a title end a record, and is not needed for writing."""
from __future__ import annotations

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import atom_field, check_molecule, find_bonds
from torch_geometric_inertial.chem.properties import Value, properties_of
from torch_geometric_inertial.chem.records import format_xyz, title
from torch_geometric_inertial.elements import SYMBOLS, closed_valences

LARGEST = 999  #: Atoms and bonds of a V2000 record.


def sdf_block(data: Data, i: int, perception: str | None = None, v3000: bool = False) -> str:
    r"""One record of :func:`write_sdf`, that of molecule number :obj:`i`, as V3000 where it must be or :obj:`v3000`."""
    z, pos = check_molecule(data, f'molecule {i}')
    bonds, orders = find_bonds(data, perception, f'molecule {i}')
    charges = atom_field(data, 'formal_charge') or [0] * len(z)
    radicals = atom_field(data, 'num_radical_electrons')
    isotopes = atom_field(data, 'isotope') or [0] * len(z)
    valences = [0] * len(z)
    for (u, v), order in zip(bonds, orders, strict=True):
        valences[u] += order
        valences[v] += order
    numbers, counts = z.tolist(), radicals or [0] * len(z)
    explicit = [_is_open(*atom, None if radicals is None else radicals[a]) for a, atom in
                enumerate(zip(numbers, charges, valences, strict=True))]
    rows = list(zip(numbers, pos.tolist(), charges, counts, isotopes, valences, explicit, strict=True))
    wide = max(len(z), len(bonds)) > LARGEST or not bool(((pos > -9999) & (pos < 99999)).all())
    body = (_v3000 if wide or v3000 else _v2000)(rows, bonds, orders)
    head = [' ' * title(data, i).startswith('$$$$') + title(data, i), '  inertial' + ' ' * 10 + '3D', '']
    items = properties_of(data, f'molecule {i}')
    if isinstance(data.get('finished'), bool):
        items['finished'] = data.finished
    return '\n'.join([*head, *body, 'M  END', *(line for item in items.items() for line in _item(*item)), '$$$$', ''])


def _is_open(z: int, charge: int, valence: int, radicals: int | None) -> bool:
    """Whether the file must say that an atom has no more bonds than it shows."""
    if radicals is not None:
        return radicals > 0
    return valence not in closed_valences(z, charge)


def _v2000(rows: list, bonds: list, orders: list) -> list[str]:
    lines = [f'{len(rows):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000']
    for z, (x, y, w), _, _, _, valence, explicit in rows:
        shown = (valence or 15) if explicit and valence < 15 else 0
        lines.append(f'{x + 0.0:10.4f}{y + 0.0:10.4f}{w + 0.0:10.4f} {SYMBOLS[z]:<3} 0  0  0  0  0{shown:3d}'
                     '  0  0  0  0  0  0')
    lines += [f'{u + 1:3d}{v + 1:3d}{order:3d}  0' for (u, v), order in zip(bonds, orders, strict=True)]
    for name, column in (('CHG', 2), ('RAD', 3), ('ISO', 4)):
        values = [(a, row[column]) for a, row in enumerate(rows, start=1) if row[column]]
        for k in range(0, len(values), 8):
            part = [(a, _radical(value) if name == 'RAD' else value) for a, value in values[k:k + 8]]
            lines.append(f'M  {name}{len(part):3d}' + ''.join(f' {a:3d} {value:3d}' for a, value in part))
    return lines


def _v3000(rows: list, bonds: list, orders: list) -> list[str]:
    lines = ['  0  0  0     0  0            999 V3000', 'M  V30 BEGIN CTAB',
             f'M  V30 COUNTS {len(rows)} {len(bonds)} 0 0 0', 'M  V30 BEGIN ATOM']
    for a, (z, xyz, charge, radicals, isotope, valence, explicit) in enumerate(rows, start=1):
        marks = [f' CHG={charge}' if charge else '', f' RAD={_radical(radicals)}' if radicals else '',
                 f' MASS={isotope}' if isotope else '', f' VAL={valence or -1}' if explicit else '']
        lines.append(f'M  V30 {a} {SYMBOLS[z]} {format_xyz(xyz)} 0' + ''.join(marks))
    lines.append('M  V30 END ATOM')
    if bonds:
        lines += ['M  V30 BEGIN BOND', *(f'M  V30 {b} {order} {u + 1} {v + 1}' for b, ((u, v), order) in enumerate(
            zip(bonds, orders, strict=True), start=1)), 'M  V30 END BOND']
    return [*lines, 'M  V30 END CTAB']


def _radical(electrons: int) -> int:
    """The multiplicity that a file gives for them: 2 for an odd number, 3 for an even one."""
    return 3 - electrons % 2


def _item(name: str, value: Value) -> list[str]:
    """A data item. No line of it may be empty, begin another item or end the record."""
    text = value if isinstance(value, str) else repr(value)
    lines = [line for line in text.splitlines() if line.strip()]
    return [f'>  <{name}>', *(' ' * line.startswith(('>', '$$$$')) + line for line in lines), '']
