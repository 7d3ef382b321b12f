r"""Mutated files: a reader gives molecules with finite places or names what is wrong, and never anything else.

``INERTIAL_FUZZ_SECONDS=600 pytest tests/fuzz`` goes on for so long, per format.
"""
import random
import time
import warnings

import pytest
import torch

from torch_geometric_inertial.chem import read_records, write_jsonl, write_sdf, write_xyz
from torch_geometric_inertial.chem.sdf_block import sdf_block
from torch_geometric_inertial.datasets import QM9Sample

LEAST = 300  # files per format, however short the time
PLACES = (('C1', ' ', 'C'), ('O1', 'A', 'O'), ('O1', 'B', 'O'), ('BR1', ' ', 'BR'))
PDB = ''.join(f'HETATM{i:5d}  {name:<3}{place}LIG A   1    {1.4 * i:8.3f}   0.000   0.000  0.50 10.00          {z:>2}\n'
              for i, (name, place, z) in enumerate(PLACES, start=1)) + 'END\n'
PIECES = ['', '\n', '\r\n', '$$$$\n', 'M  END\n', 'M  V30 ', '-', '9' * 5000, '1e39', '-1', 'nan', '0x1', '1_0', '\0',
          'é', '٣', '[' * 3000, '{"z":', '\t', 'Properties=pos:R:3:species:S:1 ', 'Lattice="1 2"', 'D', 'Xx', '> <a>\n',
          '999999999', 'M  CHG  1   9   1\n', '1.0D-1', 'ENDMDL\n', 'MODEL\n', '"', ' ' * 80]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp('originals')
    molecules = [QM9Sample()[i] for i in range(0, 12)]
    for molecule in molecules[:4]:
        molecule.formal_charge, molecule.finished = torch.zeros_like(molecule.z), True
        molecule.formal_charge[0], molecule.properties = 1, {'gap': 0.5}
    write_sdf(molecules, folder / 'a.sdf')
    write_xyz(molecules, folder / 'a.xyz')
    write_jsonl(molecules, folder / 'a.jsonl')
    texts = {name: (folder / f'a.{name}').read_text() for name in ('sdf', 'xyz', 'jsonl')}
    v3000 = ''.join(sdf_block(molecule, i, v3000=True) for i, molecule in enumerate(molecules))
    return texts | {'mol': v3000, 'pdb': PDB}


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randint(0, len(text)) for _ in range(2))
        b = min(b, a + rng.choice((1, 1, 8, 60, 10**6)))
        lines = text.splitlines(keepends=True)
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:a] + text[b:]
        elif kind == 1:
            text = text[:a] + rng.choice(PIECES) + text[a:]
        elif kind == 2:
            text = text[:a] + text[a:b] * 2 + text[b:]
        elif kind == 3 and lines:
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], lines[i]
            text = ''.join(lines)
        elif kind == 4:
            text = text[:a]
        else:
            text = text[:a] + chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x300)))) + text[a + 1:]
    return text


@pytest.mark.parametrize('kind', ['sdf', 'mol', 'xyz', 'jsonl', 'pdb'])
def test_a_broken_file_is_read_or_named(kind, originals, tmp_path, cases):
    path, records = tmp_path / f'broken.{kind}', 0
    for num, rng in enumerate(cases(LEAST)):
        text = mutated(originals[kind], rng)
        path.write_text(text, encoding='utf-8', errors='replace', newline='')
        began = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                for i, record in enumerate(read_records(path)):
                    assert record.number == i and (record.molecule is None) != (record.error is None), num
                    records += 1
                    if record.molecule is None:
                        assert f'broken.{kind}: record {i}' in record.error, num
                    else:
                        data = record.molecule
                        assert data.z.numel() > 0 and bool(data.pos.isfinite().all()), num
                        assert data.pos.shape == (data.z.numel(), 3)
                        assert 0 < int(data.z.min()) <= int(data.z.max()) < 119
        except ValueError as error:
            assert f'broken.{kind}: the file is empty' in str(error), num
        assert time.process_time() - began < 2, num
        cases.unit = f'files, {records:,} records'
