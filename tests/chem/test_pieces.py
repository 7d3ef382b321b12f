r"""A file that is read in pieces has each of its records once."""
import pytest

from torch_geometric_inertial.chem import write_jsonl, write_sdf, write_xyz
from torch_geometric_inertial.chem.pieces import pieces_of
from torch_geometric_inertial.datasets import QM9Sample


@pytest.mark.parametrize('name, write', [('a.sdf', write_sdf), ('a.jsonl', write_jsonl), ('a.xyz', write_xyz)])
@pytest.mark.parametrize('size', [700, 1500, 5000, 10**9])
@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_each_record_is_in_one_piece(name, write, size, newline, tmp_path):
    molecules = [QM9Sample()[i].clone() for i in range(12)]
    for i, data in enumerate(molecules):
        data.title = f'molecule {i}'
    write(molecules, tmp_path / name)
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text, newline=newline)
    pieces = pieces_of(tmp_path / name, size)
    assert len(pieces) > 1 or size > 5000 or name == 'a.xyz'
    assert sum(piece.size for piece in pieces) == (tmp_path / name).stat().st_size
    records = [record for piece in pieces for record in piece.records()]
    assert [record.molecule.z.tolist() for record in records] == [data.z.tolist() for data in molecules]
    assert [record.title for record in records] == [data.title for data in molecules]


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        pieces_of(tmp_path / 'none.sdf', 100)
    (tmp_path / 'empty.sdf').touch()
    with pytest.raises(ValueError, match=r"empty.sdf' is empty"):
        pieces_of(tmp_path / 'empty.sdf', 100)
