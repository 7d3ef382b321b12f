"""The raw files of QM9: three lines behind the atoms, and *^ for an exponent."""
import re

import pytest
import torch

from torch_geometric_inertial.chem import read_records, read_xyz

METHANE = ('5\ngdb 1\t157.7118\t157.70997\nC\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689\n'
           'H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921\nH\t 1.0117308\t 1.4637511618\t 2.765*^-4\t 0.13\n'
           'H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923\nH\t-0.5238136345\t 1.43793\t 0.9064\t 0.1\n'
           '1341.307\t1341.3284\t1341.365\nC\tC\t\nInChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n')


@pytest.mark.parametrize('copies', [1, 3])
def test_they_are_read(tmp_path, copies):
    (tmp_path / 'dsgdb9nsd.xyz').write_text(METHANE * copies)
    found = read_xyz(tmp_path / 'dsgdb9nsd.xyz')
    assert len(found) == copies
    for data in found:
        assert data.z.tolist() == [6, 1, 1, 1, 1]
        torch.testing.assert_close(data.pos[2].double(), torch.tensor([1.0117308, 1.4637511618, 2.765e-4]).double())


@pytest.mark.parametrize('text', [METHANE + 'H 0 0 0\n', METHANE.replace('gdb 1', 'methane')], ids=['four', 'other'])
def test_other_lines_behind_the_atoms_are_still_a_fault(tmp_path, text):
    (tmp_path / 'a.xyz').write_text(text)
    with pytest.raises(ValueError, match=r'expected 5 atoms \(got more'):
        read_xyz(tmp_path / 'a.xyz')


@pytest.mark.parametrize('change, why', [
    (lambda lines: lines[:-1], r"line 6: the next frame begins before the 3 atoms of line 6"),
    (lambda lines: [*lines, 'H 0 9 9'], r"line 6: expected 3 atoms \(got more: 'H 0 9 9'\)"),
], ids=['short', 'long'])
def test_a_frame_of_another_length_costs_itself_alone(tmp_path, change, why):
    frames = [['3', f'frame {i}', f'O {i} 0 0', f'H {i} 1 0', f'H {i} 0 1'] for i in range(4)]
    frames[1] = change(frames[1])
    (tmp_path / 'a.xyz').write_text(''.join(f'{line}\n' for frame in frames for line in frame))
    records = list(read_records(tmp_path / 'a.xyz'))
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert re.search(rf"a.xyz: record 1 \('frame 1'\), {why}", str(records[1].error))
    assert [float(records[i].molecule.pos[0, 0]) for i in (0, 2, 3)] == [0, 2, 3]
