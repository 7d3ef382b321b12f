r"""PDB files of small molecules, by hand: RDKit's reader leaves atoms out without a word (alternate places other than
A, shifted names), and none names the line that is wrong."""
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.properties import Properties
from torch_geometric_inertial.chem.records import (
    BadLine,
    Format,
    Raw,
    checked_positions,
    parse_element,
    parse_float,
    read_list,
)
from torch_geometric_inertial.elements import ATOMIC_NUMBERS


def read_pdb(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""Reads the models of a PDB file: ``z`` [N], ``pos`` [N, 3] (float32, Å), ``formal_charge`` [N], ``isotope`` [N].

    All atoms of a model are one molecule; a model ends with ENDMDL, or else with END. Of the alternate places of an
    atom the first is taken; letters that are none (places whose occupancies sum to more than one) are an error. The
    element stands in columns 77 and 78, or else in the name. Bonds are not read: CONECT records are rarely complete.
    See :func:`read_sdf`.
    """
    return read_list(path, PDB, on_error, fields)


def _split_pdb(lines: Iterator[str]) -> Iterator[Raw]:
    model: list[str] = []
    first, opened = 1, False
    for n, line in enumerate(lines, start=1):
        word = line[:6].rstrip()
        if word in ('ATOM', 'HETATM'):
            first = first if model else n
            model.append(line)
        elif model:
            model.append('')  # so that lines keep their numbers
        if word == 'MODEL':
            opened, first = True, n
        elif word in ('ENDMDL', 'END') and (opened or any(model) or word == 'ENDMDL'):
            yield Raw(first, model, None if any(model) else 'expected atoms (got an empty model)')
            model, opened = [], False
    if opened or any(model):
        yield Raw(first, model, None if any(model) else 'expected atoms (got an empty model)')


def _parse_pdb(model: list[str], first: int) -> Data:
    places: dict[tuple[str, str], tuple[str, float]] = {}
    atoms, xyz, lines = [], [], []
    for n, line in enumerate(model, start=first):
        if not line:
            continue
        line = line.rstrip()
        if len(line) < 54 or not (line[30:38].strip() and line[38:46].strip() and line[46:54].strip()):
            raise BadLine(n, f'expected three coordinates in columns 31 to 54 (got {line!r})')
        if line[16] != ' ' and _is_alternate(line, n, places):
            continue
        z, isotope = _element(line, n)
        atoms.append((z, isotope, _charge(line[78:80]) if len(line) > 78 else 0))
        xyz.append([parse_float(line[30:38], n), parse_float(line[38:46], n), parse_float(line[46:54], n)])
        lines.append(n)
    pos = checked_positions(xyz, lines[0])
    columns = torch.from_numpy(np.array(atoms).T.copy())
    return Data(z=columns[0], pos=pos, isotope=columns[1], formal_charge=columns[2], title='', properties=Properties())


def _is_alternate(line: str, n: int, places: dict[tuple[str, str], tuple[str, float]]) -> bool:
    """Whether the atom has been read at its first place."""
    letter, site = line[16], (line[17:27], line[12:16].strip())
    occupancy = parse_float(line[54:60], n) if line[54:60].strip() else 1.0
    if site not in places:
        places[site] = letter, occupancy
        return False
    taken, total = places[site]
    if letter == taken or total + occupancy > 1.01:
        raise BadLine(n, f"atom '{site[1]}' has places '{taken}' and '{letter}' whose occupancies sum to "
                      f'{total + occupancy:.2f}: no alternate places; is the name shifted?')
    places[site] = taken, total + occupancy
    return True


def _element(line: str, n: int) -> tuple[int, int]:
    symbol = line[76:78].strip()
    if symbol in ATOMIC_NUMBERS:
        return ATOMIC_NUMBERS[symbol], 0
    if symbol.isalpha():
        return parse_element(symbol, n)
    name = line[12:16]
    letters = ''.join(c for c in name if c.isalpha())
    if name[:1] == ' ' or name[:1].isdecimal() or letters[:2].capitalize() not in ATOMIC_NUMBERS:
        letters = letters[:1]  # an element of one letter stands in column 14
    return parse_element(letters[:2] or name.strip() or '?', n)


def _charge(text: str) -> int:
    text = text.strip()
    if len(text) == 2 and text[0].isdecimal() and text[1] in '+-' and text.isascii():
        return int(text[1] + text[0])
    return 0


PDB = Format(_split_pdb, _parse_pdb)
