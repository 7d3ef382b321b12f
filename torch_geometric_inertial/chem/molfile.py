r"""Molfiles by hand: read where RDKit is not installed, and where it refuses one, to say which line is wrong."""
from __future__ import annotations

import re
from collections.abc import Iterator

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import ATOM_FIELDS, both_directions, graph_data
from torch_geometric_inertial.chem.records import BadLine, checked_positions, parse_element, parse_float, parse_int
from torch_geometric_inertial.elements import closed_valences

_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}  # of the old column; 4 is a doublet radical
_RADICALS = {0: 0, 1: 2, 2: 1, 3: 2}  # multiplicity -> electrons
_AROMATIC, _DATIVE = 4, 9
_CHARGE, _MASS = ATOM_FIELDS['formal_charge'], ATOM_FIELDS['isotope']
_MARK = re.compile(r'(?<= )(CHG|MASS)=(\S*)')
_LIMITS = {'CHG': _CHARGE, 'ISO': _MASS, 'MASS': _MASS}


class _Molecule:
    """What has been read so far; bonds are (u, v, type), atoms counted from 0."""
    def __init__(self) -> None:
        self.z: list[int] = []
        self.xyz: list[list[float]] = []
        self.bonds: list[tuple[int, int, int]] = []
        self.charge: dict[int, int] = {}
        self.radical: dict[int, int] = {}
        self.isotope: dict[int, int] = {}
        self.valence: dict[int, int] = {}
        self._pairs: set[tuple[int, int]] = set()

    def add_atom(self, symbol: str, xyz: list[float], n: int) -> int:
        z, mass = parse_element(symbol, n)
        if mass:
            self.isotope[len(self.z)] = mass
        self.z.append(z)
        self.xyz.append(xyz)
        return len(self.z) - 1

    def add_bond(self, u: int, v: int, kind: int, n: int) -> None:
        size = len(self.z)
        if not (0 <= u < size and 0 <= v < size) or u == v:
            raise BadLine(n, f'a bond between atoms {u + 1} and {v + 1} of {size}')
        if kind not in (1, 2, 3, _AROMATIC, _DATIVE):
            raise BadLine(n, f'the bond type must be 1, 2, 3, 4 or 9 (got {kind})')
        if (pair := (min(u, v), max(u, v))) in self._pairs:
            raise BadLine(n, f'a second bond between atoms {u + 1} and {v + 1}')
        self._pairs.add(pair)
        self.bonds.append((u, v, kind))

    def data(self, first: int) -> Data:
        pos = checked_positions(self.xyz, first)
        if any(kind == _AROMATIC for _, _, kind in self.bonds):
            raise BadLine(first, "aromatic bonds (type 4) need RDKit: pip install rdkit")
        for u, v, kind in self.bonds:
            if kind == _DATIVE:
                self.charge[u] = self.charge.get(u, 0) + 1
                self.charge[v] = self.charge.get(v, 0) - 1
        bonds = [(u, v, 1 if kind == _DATIVE else kind) for u, v, kind in self.bonds]
        sums = [0] * len(self.z)
        for u, v, order in bonds:
            sums[u] += order
            sums[v] += order
        for i, valence in self.valence.items():
            self.radical[i] = self.radical.get(i) or _open_valence(self.z[i], self.charge.get(i, 0),
                                                                   max(valence, sums[i]))
        columns = [(z, *(field.get(i, 0) for field in (self.charge, self.radical, self.isotope)))
                   for i, z in enumerate(self.z)]
        return graph_data(columns, pos, both_directions(bonds))


def parse_molfile(lines: list[str], first: int) -> Data:
    r"""A molecule from the lines of a molfile, up to ``M  END``, of which the first has this number in its file.

    Raises:
        BadLine: On the first line that is wrong.
    """
    lines = [line.rstrip() for line in lines]
    if len(lines) < 4:
        raise BadLine(first + max(len(lines) - 1, 0), 'the record ends before its counts line')
    counts, number = lines[3], first + 3
    if counts.endswith('V3000'):
        molecule = _parse_v3000(lines, first)
    elif counts.endswith('V2000') or len(counts) >= 6:
        molecule = _parse_v2000(lines, counts, first)
    else:
        raise BadLine(number, f'expected a counts line of V2000 or V3000 (got {counts[:60]!r})')
    return molecule.data(number)


def _parse_v2000(lines: list[str], counts: str, first: int) -> _Molecule:
    number = first + 3
    num_atoms, num_bonds = parse_int(counts[:3], number), parse_int(counts[3:6], number)
    if num_atoms < 0 or num_bonds < 0:
        raise BadLine(number, f'a record has no {num_atoms} atoms and {num_bonds} bonds')
    molecule = _Molecule()
    body = lines[4:4 + num_atoms + num_bonds]
    if len(body) < num_atoms + num_bonds or any(line.startswith('M  ') for line in body):
        raise BadLine(first + len(lines) - 1, f'the record ends before its {num_atoms} atoms and {num_bonds} bonds')
    for n, line in enumerate(body[:num_atoms], start=first + 4):
        _read_atom(molecule, line, n)
    for n, line in enumerate(body[num_atoms:], start=first + 4 + num_atoms):
        molecule.add_bond(parse_int(line[:3], n) - 1, parse_int(line[3:6], n) - 1, parse_int(line[6:9], n), n)
    _read_properties(molecule, lines, 4 + num_atoms + num_bonds, first)
    return molecule


def _read_atom(molecule: _Molecule, line: str, n: int) -> None:
    if len(line) < 32:
        raise BadLine(n, f'expected an atom (got {line!r})')
    i = molecule.add_atom(line[31:34].strip(), [parse_float(line[k:k + 10], n) for k in (0, 10, 20)], n)
    shift = parse_int(line[34:36], n) if line[34:36].strip() else 0
    if shift:
        raise BadLine(n, 'a mass difference; only mass numbers (M  ISO) are read')
    code = parse_int(line[36:39], n) if line[36:39].strip() else 0
    if code == 4:
        molecule.radical[i] = 1
    elif code in _CHARGES:
        molecule.charge[i] = _CHARGES[code]
    elif code:
        raise BadLine(n, f'the charge code must be from 0 to 7 (got {code})')
    valence = parse_int(line[48:51], n) if line[48:51].strip() else 0
    if valence:
        molecule.valence[i] = 0 if valence == 15 else valence


def _read_properties(molecule: _Molecule, lines: list[str], start: int, first: int) -> None:
    fields = {'CHG': molecule.charge, 'RAD': molecule.radical, 'ISO': molecule.isotope}
    given: set[str] = set()
    skip = False
    for n, line in enumerate(lines[start:], start=first + start):
        if skip:
            skip = False
        elif line.startswith('M  END'):
            return
        elif line[:3] in ('A  ', 'G  '):  # a text follows
            skip = True
        elif line.startswith('M  ') and line[3:6] in fields:
            if not given & {'CHG', 'RAD'} and line[3:6] in ('CHG', 'RAD'):  # they replace those of the atom block
                molecule.charge.clear()
                molecule.radical.clear()
            given.add(line[3:6])
            for a, value in _pairs(line, n, len(molecule.z)):
                if line[3:6] == 'RAD':
                    if value not in _RADICALS:
                        raise BadLine(n, f'the multiplicity of a radical must be from 0 to 3 (got {value})')
                    value = _RADICALS[value]
                fields[line[3:6]][a] = _limited(line[3:6], value, n)
        elif not line.startswith(('M  ', 'V  ', 'S  ')):
            raise BadLine(n, f'expected what belongs after the bonds (got {line[:60]!r}): are the counts right?')
    raise BadLine(first + len(lines) - 1, "the record ends before 'M  END'")


def _pairs(line: str, n: int, num_atoms: int) -> Iterator[tuple[int, int]]:
    words = line[6:].split()
    count = parse_int(words[0], n) if words else 0
    if len(words) != 1 + 2 * count:
        raise BadLine(n, f'expected {count} atoms and their values (got {line!r})')
    for atom, value in zip(words[1::2], words[2::2], strict=True):
        a = parse_int(atom, n)
        if not 1 <= a <= num_atoms:
            raise BadLine(n, f'a value of atom {a} of {num_atoms}')
        yield a - 1, parse_int(value, n)


def _parse_v3000(lines: list[str], first: int) -> _Molecule:
    molecule, place = _Molecule(), dict[str, int]()
    block, declared = '', None
    for n, line in _joined(lines[4:], first + 4):
        words = line.split()
        if words[:1] == ['BEGIN']:
            block = ' '.join(words[1:2])
        elif words[:1] == ['END']:
            if words[1:2] == ['CTAB']:
                break
            block = ''
        elif words[:1] == ['COUNTS'] and block == 'CTAB':
            declared = [parse_int(word, n) for word in words[1:3]]
        elif block == 'ATOM':
            if len(words) < 6:
                raise BadLine(n, f'expected an atom (got {line!r})')
            if words[0] in place:
                raise BadLine(n, f'a second atom {words[0]!r}')
            i = molecule.add_atom(words[1], [parse_float(word, n) for word in words[2:5]], n)
            place[words[0]] = i
            _read_marks(molecule, i, words[6:], n)
        elif block == 'BOND':
            if len(words) < 4:
                raise BadLine(n, f'expected a bond (got {line!r})')
            for word in words[2:4]:
                if word not in place:
                    raise BadLine(n, f'a bond of an atom that is not there, {word!r}')
            molecule.add_bond(place[words[2]], place[words[3]], parse_int(words[1], n), n)
    else:
        raise BadLine(first + len(lines) - 1, "the record ends before 'M  V30 END CTAB'")
    found = [len(molecule.z), len(molecule.bonds)]
    if declared != found:
        raise BadLine(first + len(lines) - 1, f'expected the declared {declared} atoms and bonds (got {found})')
    if not any(line.startswith('M  END') for line in lines):
        raise BadLine(first + len(lines) - 1, "the record ends before 'M  END'")
    return molecule


def _read_marks(molecule: _Molecule, i: int, words: list[str], n: int) -> None:
    fields = {'CHG': molecule.charge, 'RAD': molecule.radical, 'MASS': molecule.isotope, 'VAL': molecule.valence}
    for word in words:
        name, _, text = word.partition('=')
        if name not in fields:
            continue
        value = parse_int(text, n)
        if name == 'RAD':
            if value not in _RADICALS:
                raise BadLine(n, f'the multiplicity of a radical must be from 0 to 3 (got {value})')
            value = _RADICALS[value]
        if name == 'VAL':
            if value == 0:
                continue
            value = max(value, 0)
        fields[name][i] = _limited(name, value, n)


def check_marks(lines: list[str], first: int) -> None:
    r"""Refuses charges and mass numbers that RDKit stores as others: it has one byte for a charge, two for a mass.

    Raises:
        BadLine: On the first such line.
    """
    if lines[3].rstrip().endswith('V3000'):
        marks = [(n, *mark) for n, line in _joined([line.rstrip() for line in lines[4:]], first + 4)
                 for mark in _MARK.findall(line)]
    else:
        marks = [(n, line[3:6], word) for n, line in enumerate(lines, start=first)
                 if line[:6] in ('M  CHG', 'M  ISO') for word in line.split()[4::2]]
    for n, name, word in marks:
        _limited(name, parse_int(word, n), n)


def _limited(name: str, value: int, n: int) -> int:
    low, high = _LIMITS.get(name, (value, value))
    if not low <= value <= high:
        raise BadLine(n, f'{name} must be from {low} to {high} (got {value})')
    return value


def _joined(lines: list[str], first: int) -> Iterator[tuple[int, str]]:
    """The V30 lines without their prefix; a line that ends in '-' goes on in the next."""
    begun, start = '', first
    for n, line in enumerate(lines, start=first):
        if line.startswith('M  END'):
            break
        if not line.startswith('M  V30 '):
            raise BadLine(n, f"expected 'M  V30 ' (got {line[:60]!r})")
        start = start if begun else n
        begun += line[7:]
        if begun.endswith('-'):
            begun = begun[:-1]
        else:
            yield start, begun
            begun = ''
    if begun:
        raise BadLine(start, 'the last line goes on in one that is not there')


def _open_valence(z: int, charge: int, valence: int) -> int:
    """Electrons without a partner, of an atom with these bonds and no more."""
    allowed = [v for v in closed_valences(z, charge) if v >= valence]
    return min(allowed) - valence if allowed else 0
