import pytest
import torch

from torch_geometric_inertial.chem import read_pdb

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
