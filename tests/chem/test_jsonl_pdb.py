"""JSON lines and PDB files, and files that are written as their molecules come."""
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_jsonl, read_pdb, write_jsonl, write_sdf

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), title='water',
             finished=True)
PDB = '''HEADER    A MOLECULE
MODEL        1
HETATM    1  C1  LIG A   1       1.250  -0.500   0.125  1.00  0.00           C
HETATM    2 CL1  LIG A   1       2.500  -1.500   0.250  1.00  0.00          CL
ENDMDL
MODEL        2
ATOM      1  N   GLY A   1       0.000   0.000   1.000  1.00  0.00           N
ENDMDL
END
'''


def test_json_lines_there_and_back(tmp_path):
    path = tmp_path / 'a.jsonl'
    assert write_jsonl([WATER, Data(z=WATER.z[:1], pos=WATER.pos[:1])], path) == 2
    first, second = read_jsonl(path)
    assert first.z.tolist() == [8, 1, 1] and first.title == 'water' and first.finished is True
    torch.testing.assert_close(first.pos, WATER.pos, atol=1e-6, rtol=0)
    assert second.num_nodes == 1 and second.title == ''


@pytest.mark.parametrize('line, message', [
    ('{"z": [1]', r'record 1, line 3: expected a JSON object'),
    ('[1, 2]', r"record 1, line 3: expected 'z' \[N\] and 'pos' \[N, 3\]"),
    ('{"z": [1, 1], "pos": [[0, 0, 0]]}', r"expected 'z' \[N\] and 'pos' \[N, 3\]"),
    ('{"z": [1], "pos": [[0, 0]]}', r"expected 'z' \[N\] and 'pos' \[N, 3\]"),
    ('{"z": [190], "pos": [[0, 0, 0]]}', r"no such element, '190'"),
    ('{"z": [1], "pos": [[0, 0, NaN]]}', 'a coordinate must be finite in single precision'),
    ('{"z": [], "pos": []}', r'the molecule has no atoms'),
])
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, line, message):
    path = tmp_path / 'a.jsonl'
    write_jsonl([WATER], path)
    path.write_text(path.read_text() + '\n' + line + '\n' + path.read_text())
    with pytest.raises(ValueError, match=message):
        read_jsonl(path)
    with pytest.warns(UserWarning, match=message):
        assert len(read_jsonl(path, on_error='skip')) == 2


def test_pdb(tmp_path):
    pytest.importorskip('rdkit')
    path = tmp_path / 'a.pdb'
    path.write_text(PDB)
    first, second = read_pdb(path)
    assert first.z.tolist() == [6, 17] and second.z.tolist() == [7]
    torch.testing.assert_close(first.pos, torch.tensor([[1.25, -0.5, 0.125], [2.5, -1.5, 0.25]]))
    path.write_text(PDB.replace('  0.000   0.000   1.000', '  0.000     what   1.000'))
    with pytest.raises(ValueError, match=r'a.pdb: record 1, line 7: '):
        read_pdb(path)
    with pytest.warns(UserWarning, match='record 1'):
        assert len(read_pdb(path, on_error='skip')) == 1
    path.write_text('HEADER    NOTHING\nEND\n')
    with pytest.raises(ValueError, match='the file is empty, or holds no molecule'):
        read_pdb(path)


def test_a_stream_is_written_as_it_comes(tmp_path):
    """One molecule is in memory at a time, and a stream that breaks leaves the last good file."""
    alive = []

    class Counted(Data):
        def __init__(self, **fields):
            super().__init__(**fields)
            alive.append(1)

        def __del__(self):
            alive.pop()

    def stream(num):
        for _ in range(num):
            assert len(alive) <= 1
            yield Counted(z=WATER.z, pos=WATER.pos)

    for write in (write_sdf, write_jsonl):
        assert write(stream(50), tmp_path / 'a') == 50
        before = (tmp_path / 'a').read_text()

        def broken():
            yield WATER
            raise KeyError('the source broke')
        with pytest.raises(KeyError):
            write(broken(), tmp_path / 'a')
        assert (tmp_path / 'a').read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ['a']
