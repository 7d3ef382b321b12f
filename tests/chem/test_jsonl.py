import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_jsonl, write_jsonl

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), title='water',
             finished=True)


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
